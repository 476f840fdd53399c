import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from procession.testing.gradcheck import run_operator

# The same examples at every run, and no stopwatch: the machine may be busy.
STEADY = settings(derandomize=True, deadline=None, database=None)

X = np.linspace(-3, 3, 13, dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Relu", {}, lambda x: np.where(x > 0, x, 0)),
        ("LeakyRelu", {}, lambda x: np.where(x > 0, x, 0.01 * x)),
        ("LeakyRelu", {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * x)),
        ("Sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("Tanh", {}, np.tanh),
    ],
)
def test_values(name, arguments, expected):
    y = run_operator(name, X, **arguments)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected(X.astype(np.float64)), rtol=1e-6)


def test_relu_keeps_integers_and_nan():
    np.testing.assert_array_equal(run_operator("Relu", np.array([-1, 2])), [0, 2])
    np.testing.assert_array_equal(run_operator("Relu", np.float32([np.nan, -1])), [np.nan, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_far_out(dtype):
    y = run_operator("Sigmoid", np.array([-1e4, -20, 20, 1e4], dtype))
    np.testing.assert_allclose(y, [0, 2.0611537e-09, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "LeakyRelu", "Softmax"])
def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=f"{name} is for floating-point numbers, not for int64"):
        run_operator(name, np.array([[1, 2]]))


def test_softmax_known_figures():
    y = run_operator("Softmax", np.float32([[0.1, 0.9], [0.8, 0.2], [0, 1]]))
    expected = [[0.3100255, 0.6899745], [0.6456563, 0.3543437], [0.2689414, 0.7310586]]
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@STEADY
@given(
    x=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.floats(-1000, 1000, width=32),
    ),
    shift=st.integers(-1000, 1000),
)
def test_softmax_is_a_distribution_and_ignores_a_shift(x, shift):
    y = run_operator("Softmax", x)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(run_operator("Softmax", x + np.float32(shift)), y, atol=1e-3)


@pytest.mark.parametrize(
    ("axis", "share"), [(1, 1 / 12), (2, 1 / 4), (0, 1 / 24), (-1, 1 / 4)], ids=str
)
def test_softmax_covers_everything_from_axis_on(axis, share):
    y = run_operator("Softmax", np.zeros((2, 3, 4), np.float32), axis=axis)
    np.testing.assert_allclose(y, np.full((2, 3, 4), share), rtol=1e-6)


def test_softmax_of_no_rows():
    assert run_operator("Softmax", np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_softmax_axis_must_be_there():
    with pytest.raises(ValueError, match=r"X \(3,\) has no axis 1"):
        run_operator("Softmax", np.zeros(3, np.float32))


def test_gradients_at_the_kink():
    y, dy = np.float32([-1, 0, 2]), np.float32([3, 4, 5])
    np.testing.assert_array_equal(run_operator("ReluGradient", y, dy), [0, 0, 5])
    dx = run_operator("LeakyReluGradient", y, dy, alpha=0.5)
    np.testing.assert_array_equal(dx, [1.5, 2, 5])
