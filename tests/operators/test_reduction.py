import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

A = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("SumElements", {}, 15),
        ("SumElements", {"average": True}, 2.5),
        ("AveragedLoss", {}, 2.5),
        ("SumSqrElements", {}, 55),
        ("SumSqrElements", {"average": True}, 55 / 6),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_totals(name, arguments, expected, dtype):
    total = run_operator(name, A.astype(dtype), **arguments)
    assert total.dtype == dtype
    assert total.shape == ()
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["AveragedLoss", "SumElements", "SumSqrElements"])
def test_the_average_of_nothing_is_zero(name):
    arguments = {} if name == "AveragedLoss" else {"average": True}
    assert run_operator(name, np.zeros((0, 3), np.float32), **arguments) == 0


@pytest.mark.parametrize("name", ["AveragedLoss", "SumElements", "SumSqrElements"])
def test_totals_are_for_floats(name):
    with pytest.raises(TypeError, match=f"{name} is for floating-point numbers"):
        run_operator(name, np.array([1, 2]))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_gradients_take_a_single_number(shape):
    dy = np.full(shape, 3, np.float32)
    dx = run_operator("AveragedLossGradient", A, dy)
    np.testing.assert_array_equal(dx, np.full((2, 3), 0.5, np.float32))
    dx = run_operator("SumElementsGradient", A, dy)
    np.testing.assert_array_equal(dx, np.full((2, 3), 3, np.float32))


def test_gradients_take_no_more_than_that():
    with pytest.raises(ValueError, match=r"dY must be a single number, not of shape \(2,\)"):
        run_operator("AveragedLossGradient", A, np.ones(2, np.float32))


def test_integers_are_summed_as_integers():
    total = run_operator("SumElementsInt", np.int32([[1, 2], [3, -9]]))
    assert (total.dtype, total.shape, int(total)) == (np.int32, (), -3)
    with pytest.raises(TypeError, match="SumElementsInt is for integers, not for float32"):
        run_operator("SumElementsInt", A)


REDUCTIONS = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceL1": lambda x, **options: np.sum(np.abs(x), **options),
    "ReduceL2": lambda x, **options: np.sqrt(np.sum(x * x, **options)),
}
T = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[0], [1], (0, 2), [-1, 0], [2, 1, 0], [1, 1, -2], np.array([1])])
def test_over_axes(name, axes, keepdims):
    y = run_operator(name, T, axes=axes, keepdims=keepdims)
    over = tuple({int(axis) % 3 for axis in axes})
    expected = REDUCTIONS[name](T, axis=over, keepdims=bool(keepdims))
    assert (y.dtype, y.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_all_axes_and_kept_by_default(name):
    assert run_operator(name, T).shape == (1, 1, 1)
    assert run_operator(name, T, axes=[]).shape == (1, 1, 1)
    np.testing.assert_allclose(
        run_operator(name, T, keepdims=0), REDUCTIONS[name](T), rtol=1e-5, atol=1e-6
    )
    assert run_operator(name, np.float32(3)) == 3


@pytest.mark.parametrize("name", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_over_axes(name, dtype):
    x = np.array([[3, -5], [2, 4]], dtype)
    y = run_operator(name, x, axes=[0], keepdims=0)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, REDUCTIONS[name](x, axis=0))


@pytest.mark.parametrize("name", ["ReduceMean", "ReduceL2"])
def test_means_and_roots_are_for_floats(name):
    with pytest.raises(TypeError, match=f"{name} is for floating-point numbers"):
        run_operator(name, np.array([1, 2]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ReduceSum", 0),
        ("ReduceMean", 0),
        ("ReduceL2", 0),
        ("ReduceMax", np.finfo(np.float32).min),
        ("ReduceMin", np.finfo(np.float32).max),
    ],
)
def test_over_nothing(name, expected):
    y = run_operator(name, np.zeros((0, 3), np.float32), axes=[0])
    np.testing.assert_array_equal(y, np.full((1, 3), expected, np.float32))


@pytest.mark.parametrize("axis", [2, -3])
@pytest.mark.parametrize("name", [*REDUCTIONS, "Moments"])
def test_no_such_axis(name, axis):
    with pytest.raises(ValueError, match=rf"X \(2, 3\) has no axis {axis}"):
        run_operator(name, A, axes=[axis])


def test_the_gradient_of_a_length_of_zero_is_zero():
    zeros = np.zeros((1, 3), np.float32)
    dx = run_operator("ReduceL2Gradient", zeros[:, :1] + 5, zeros, zeros[:, :1])
    np.testing.assert_array_equal(dx, zeros)


@pytest.mark.parametrize(("name", "function"), [("ArgMax", np.argmax), ("ArgMin", np.argmin)])
def test_places(name, function):
    for axis in (0, 1, 2, -1):
        y = run_operator(name, T, axis=axis)
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, function(T, axis=axis, keepdims=True))
        y = run_operator(name, T, axis=axis, keepdims=0)
        np.testing.assert_array_equal(y, function(T, axis=axis))
    np.testing.assert_array_equal(run_operator(name, T), function(T, axis=-1, keepdims=True))
    first = run_operator(name, np.array([2, 1, 2, 1]), keepdims=0)
    assert first == (0 if name == "ArgMax" else 1)


@pytest.mark.parametrize(
    ("x", "axis", "message"),
    [
        (A, 2, r"X \(2, 3\) has no axis 2"),
        (np.float32(1), -1, r"X \(\) has no axis -1"),
        (np.zeros((2, 0)), 1, r"X \(2, 0\) has nothing along axis 1"),
    ],
)
def test_no_place(x, axis, message):
    with pytest.raises(ValueError, match=message):
        run_operator("ArgMax", x, axis=axis)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[], [0], [-1, 0]])
def test_moments(axes, keepdims):
    mean, variance = run_operator("Moments", T, axes=axes, keepdims=keepdims)
    options = {"axis": tuple(axes) or None, "keepdims": bool(keepdims)}
    np.testing.assert_allclose(mean, T.mean(**options), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, T.var(**options), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "arguments", "over"),
    [
        ((3, 4), {}, (0,)),
        ((4,), {}, (0, 1)),
        ((3,), {"axis": 1}, (0, 2)),
        ((3,), {"axis_str": "C", "order": "NCW"}, (0, 2)),
        ((2, 3), {"axis": 0}, (2,)),
        ((2, 1), {"axis": 0}, (1, 2)),
        ((), {}, (0, 1, 2)),
        ((1,), {}, (0, 1, 2)),
        ((2, 3, 4), {}, ()),
    ],
)
def test_sum_to_the_shape_of_another(shape, arguments, over):
    y = run_operator("SumReduceLike", T, np.zeros(shape, np.float32), **arguments)
    np.testing.assert_allclose(y, T.sum(axis=over).reshape(shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((2,), 1), ((5, 3, 4), -1), ((1, 2, 3, 4), -1)])
def test_sum_to_a_shape_that_does_not_fit(shape, axis):
    with pytest.raises(ValueError, match=r"fit into A|broadcast"):
        run_operator("SumReduceLike", T, np.zeros(shape, np.float32), axis=axis)


@pytest.mark.parametrize("name", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ArgMax"])
@pytest.mark.parametrize("x", [np.array([b"a", b"b"], object), np.array([True, False])])
def test_what_is_no_number_is_refused(name, x):
    with pytest.raises(TypeError, match=f"{name} is for numbers, not for {x.dtype}"):
        run_operator(name, x)
