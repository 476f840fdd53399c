import numpy as np
import pytest

from procession.operators import REGISTRY
from procession.testing.gradcheck import run_operator


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(4).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_matmul(trans_a, trans_b):
    a, b = numbers(2, 3), numbers(3, 4)
    y = run_operator(
        "MatMul", a.T if trans_a else a, b.T if trans_b else b, trans_a=trans_a, trans_b=trans_b
    )
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, a @ b, rtol=1e-5, atol=1e-6)


def test_matmul_cuts_tensors():
    a, b = numbers(2, 3, 4), numbers(4, 5)
    y = run_operator("MatMul", a, b, axis_a=2)
    assert y.shape == (6, 5)
    np.testing.assert_allclose(y, a.reshape(6, 4) @ b, rtol=1e-5, atol=1e-6)
    y = run_operator("MatMul", a, numbers(12, 5))
    assert y.shape == (2, 5)


def test_matmul_takes_the_shape_of_a_third_input():
    a, b = numbers(2, 3), numbers(3, 4)
    y = run_operator("MatMul", a, b, np.empty((2, 2, 2)))
    np.testing.assert_allclose(y, (a @ b).reshape(2, 2, 2), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"A x B is \(2, 4\), .* third input's \(3, 3\)"):
        run_operator("MatMul", a, b, np.empty((3, 3)))


def test_matmul_errors():
    with pytest.raises(ValueError, match=r"A \(2, 3\) has K=3, B \(2, 3\) has K=2"):
        run_operator("MatMul", numbers(2, 3), numbers(2, 3))
    with pytest.raises(ValueError, match=r"B \(3,\) has no axis 1"):
        run_operator("MatMul", numbers(2, 3), numbers(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fc(dtype):
    x, w, b = (numbers(*shape, dtype=dtype) for shape in ((2, 3), (4, 3), (4,)))
    y = run_operator("FC", x, w, b)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, x @ w.T + b, rtol=1e-5, atol=1e-6)
    transposed = run_operator("FCTransposed", x, w.T, b)
    np.testing.assert_allclose(transposed, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 8, 33, 64, 65])
def test_large_fc(rows):
    x, w, b = numbers(rows, 300), numbers(200, 300), numbers(200)
    wanted = x.astype(np.float64) @ w.T + b
    np.testing.assert_allclose(run_operator("FC", x, w, b), wanted, rtol=1e-4, atol=1e-4)
    kept = np.full((rows, 200), 7, np.float32)
    made = REGISTRY["FC"].kernel(x, w, b, out=kept)
    assert made is kept
    np.testing.assert_allclose(kept, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "w", "arguments", "result"),
    [
        ((2, 3, 4), (5, 12), {}, (2, 5)),
        ((2, 3, 4), (5, 4), {"axis": 2}, (2, 3, 5)),
        ((2, 3, 4), (5, 4), {"axis": -1}, (2, 3, 5)),
        ((2, 3, 4), (5, 3, 4), {}, (2, 5)),
        ((2, 3), (1, 5, 3), {"axis_w": 2}, (2, 5)),
        ((3,), (5, 3), {"axis": 0}, (5,)),
        ((0, 3), (5, 3), {}, (0, 5)),
    ],
)
def test_fc_shapes(x, w, arguments, result):
    y = run_operator("FC", np.ones(x, np.float32), np.ones(w, np.float32), numbers(5), **arguments)
    k = np.prod(w) // 5
    np.testing.assert_allclose(y, np.broadcast_to(k + numbers(5), result), rtol=1e-5)
    assert y.shape == result


@pytest.mark.parametrize(
    ("name", "x", "w", "b", "message"),
    [
        ("FC", (2, 3), (4, 5), (4,), r"X \(2, 3\) coerces to K=3, W \(4, 5\) has K=5"),
        ("FCTransposed", (2, 3), (5, 4), (4,), r"X \(2, 3\) coerces to K=3, W \(5, 4\) has K=5"),
        ("FC", (2, 3), (4, 3), (5,), r"b is \(5,\), W \(4, 3\) asks for \(4,\)"),
        ("FC", (2, 3), (4, 3), (4, 1), r"b is \(4, 1\)"),
        ("FC", (2, 3), (4, 3), (1,), r"b is \(1,\)"),
        ("FC", (3,), (4, 3), (4,), r"X \(3,\) has no axis 1"),
    ],
)
def test_fc_errors(name, x, w, b, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, numbers(*x), numbers(*w), numbers(*b))


def test_fc_gradient_is_in_the_order_w_b_x():
    x, w, dy = np.arange(6, dtype=np.float32).reshape(2, 3), numbers(4, 3), numbers(2, 4)
    dw, db, dx = run_operator("FCGradient", x, w, dy)
    np.testing.assert_allclose(dw, dy.T @ x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(db, dy.sum(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, dy @ w, rtol=1e-5, atol=1e-6)


def test_fc_gradient_errors():
    with pytest.raises(ValueError, match=r"dY \(2, 5\) is no gradient for X \(2, 3\)"):
        run_operator("FCGradient", numbers(2, 3), numbers(4, 3), numbers(2, 5))


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_batch_matmul(batch, trans_a, trans_b):
    a, b = numbers(*batch, 3, 4), numbers(*batch, 4, 5)
    expected = a @ b
    a = a.swapaxes(-1, -2) if trans_a else a
    b = b.swapaxes(-1, -2) if trans_b else b
    y = run_operator("BatchMatMul", a, b, trans_a=trans_a, trans_b=trans_b)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_batch_matmul_broadcasts_if_told():
    a, b = numbers(2, 1, 3, 4), numbers(5, 4, 2)
    np.testing.assert_allclose(run_operator("BatchMatMul", a, b, broadcast=1), a @ b, rtol=1e-5)
    with pytest.raises(ValueError, match=r"differ before their matrices \(broadcast=1"):
        run_operator("BatchMatMul", a, b)
    assert REGISTRY["BatchMatMul"].rules(2, {"broadcast": 1}) is None


def test_batch_matmul_of_vectors():
    v, w, m = numbers(4), numbers(4), numbers(2, 3, 4)
    y = run_operator("BatchMatMul", v, w)
    assert y.shape == (1,)
    np.testing.assert_allclose(y, [v @ w], rtol=1e-5)
    np.testing.assert_allclose(run_operator("BatchMatMul", m, w), m @ w, rtol=1e-5)
    y = run_operator("BatchMatMul", v, m, trans_b=1)
    np.testing.assert_allclose(y, m @ v, rtol=1e-5)
    with pytest.raises(ValueError, match="one dimension at least"):
        run_operator("BatchMatMul", np.float32(1), v)


def test_elementwise_linear():
    x, w, b = numbers(2, 3, 4), numbers(12), numbers(12)
    expected = x * w.reshape(3, 4) + b.reshape(3, 4)
    np.testing.assert_allclose(run_operator("ElementwiseLinear", x, w, b), expected, rtol=1e-6)
    y = run_operator("ElementwiseLinear", x, w[:4], b[:4], axis=2)
    np.testing.assert_allclose(y, x * w[:4] + b[:4], rtol=1e-6)
    with pytest.raises(ValueError, match=r"asks for \(12,\)"):
        run_operator("ElementwiseLinear", x, w[:4], b[:4])


def test_row_mul():
    x, w = numbers(2, 3, 4), numbers(2)
    np.testing.assert_array_equal(run_operator("RowMul", x, w), x * w[:, None, None])
    with pytest.raises(ValueError, match=r"w is \(3,\)"):
        run_operator("RowMul", x, numbers(3))


@pytest.mark.parametrize("name", ["FCGradient", "FCTransposedGradient"])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("rows", [1, 3])
def test_the_gradient_of_the_data_may_be_left_out(name, axis, rows):
    rng = np.random.default_rng(0)
    lead = (rows, 2)[:axis]
    x = rng.normal(size=(*lead, 5)).astype(np.float32)
    w = rng.normal(size=(5, 4) if "Transposed" in name else (4, 5)).astype(np.float32)
    dy = rng.normal(size=(*lead, 4)).astype(np.float32)
    kernel = REGISTRY[name].kernel
    expected = kernel(x, w, dy, axis=axis)
    for outs in ((None, None), (np.empty_like(w), np.empty(4, np.float32))):
        made = kernel(x, w, dy, axis=axis, outs=outs)
        assert len(made) == 2
        for one, other in zip(made, expected, strict=False):
            np.testing.assert_array_equal(one, other)
