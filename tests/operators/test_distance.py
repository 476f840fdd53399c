"""Distances, products and lengths of rows."""

import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

RNG = np.random.default_rng(4)
X, Y = (RNG.normal(size=(3, 4)).astype(np.float32) for _ in range(2))

PAIRS = {
    "DotProduct": lambda x, y: (x * y).sum(),
    "DotProductWithPadding": lambda x, y: (x * y).sum(),
    "SquaredL2Distance": lambda x, y: ((x - y) ** 2).sum() / 2,
    "L1Distance": lambda x, y: np.abs(x - y).sum(),
    "CosineSimilarity": lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (12,), (), (0, 4)])
def test_rows(name, shape, dtype):
    size = int(np.prod(shape))
    x, y = (each.reshape(-1)[:size].reshape(shape).astype(dtype) for each in (X, Y))
    result = run_operator(name, x, y)
    rows = shape[0] if shape else 1
    assert (result.dtype, result.shape) == (dtype, (rows,))
    lines = [each.reshape(rows, -1) if rows else [] for each in (x, y)]
    pairs = zip(*lines, strict=True)
    np.testing.assert_allclose(result, [PAIRS[name](a, b) for a, b in pairs], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "DotProductWithPadding"])
def test_rows_have_one_shape(name):
    with pytest.raises(ValueError, match=rf"{name}: X is \(3, 4\), Y is \(3, 2\)"):
        run_operator(name, X, Y[:, :2])
    with pytest.raises(TypeError, match="floating-point"):
        run_operator(name, np.array([1]), np.array([2]))


def test_padding():
    y = run_operator("DotProductWithPadding", X, Y[:, :3], pad_value=2.0)
    expected = (X[:, :3] * Y[:, :3]).sum(axis=1) + 2 * X[:, 3]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    y = run_operator("DotProductWithPadding", X[:, :2], Y, replicate=True)
    expected = (np.tile(X[:, :2], 2) * Y).sum(axis=1)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_padding_errors():
    with pytest.raises(ValueError, match="4 columns are no multiple of 3"):
        run_operator("DotProductWithPadding", X, Y[:, :3], replicate=True)
    with pytest.raises(ValueError, match="differ in their number of rows"):
        run_operator("DotProductWithPadding", X, Y[:2])


def test_nothing_has_no_direction():
    zeros = np.zeros_like(X)
    assert run_operator("CosineSimilarity", zeros, X).tolist() == [0, 0, 0]
    for name in ("Normalize", "NormalizeL1"):
        np.testing.assert_array_equal(run_operator(name, zeros), zeros)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_normalize(axis):
    y = run_operator("Normalize", X, axis=axis)
    np.testing.assert_allclose(y, X / np.linalg.norm(X, axis=axis, keepdims=True), rtol=1e-5)
    y = run_operator("NormalizeL1", X, axis=axis)
    np.testing.assert_allclose(y, X / np.abs(X).sum(axis=axis, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("name", ["Normalize", "NormalizeL1"])
def test_no_such_axis(name):
    with pytest.raises(ValueError, match=rf"{name}: X \(3, 4\) has no axis 2"):
        run_operator(name, X, axis=2)


@pytest.mark.parametrize("average", [False, True])
def test_norm(average):
    for p, total in ((1, np.abs(X).sum()), (2, (X * X).sum())):
        y = run_operator("LpNorm", X, p=p, average=average)
        assert y.shape == (1,)
        np.testing.assert_allclose(y, total / (12 if average else 1), rtol=1e-5)
    with pytest.raises(ValueError, match="p=3 is neither 1 nor 2"):
        run_operator("LpNorm", X, p=3)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_square_root_divide(dtype):
    y = run_operator("SquareRootDivide", X, np.array([4, 0, 9], dtype))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, X / np.float32([[2], [1], [3]]), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "message"), [([4, -1, 9], "negative number, -1"), ([4, 9], r"scale is \(2,\)")]
)
def test_square_root_divide_errors(scale, message):
    with pytest.raises(ValueError, match=message):
        run_operator("SquareRootDivide", X, np.array(scale))
