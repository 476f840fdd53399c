import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from procession.testing.gradcheck import run_operator

# The same examples at every run, and no stopwatch: the machine may be busy.
STEADY = settings(derandomize=True, deadline=None, database=None)

X = np.linspace(-3, 3, 13, dtype=np.float32)


def below(x):
    return 1.6732632423543772 * (np.exp(x) - 1)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Relu", {}, lambda x: np.where(x > 0, x, 0)),
        ("LeakyRelu", {}, lambda x: np.where(x > 0, x, 0.01 * x)),
        ("LeakyRelu", {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * x)),
        ("Sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("Tanh", {}, np.tanh),
        ("ReluN", {}, lambda x: np.clip(x, 0, 6)),
        ("ReluN", {"n": 1.5}, lambda x: np.clip(x, 0, 1.5)),
        ("ThresholdedRelu", {}, lambda x: np.where(x > 1, x, 0)),
        ("ThresholdedRelu", {"alpha": -1.2}, lambda x: np.where(x > -1.2, x, 0)),
        ("HardSigmoid", {}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.1}, lambda x: np.clip(0.5 * x + 0.1, 0, 1)),
        ("Elu", {}, lambda x: np.where(x > 0, x, np.exp(x) - 1)),
        ("Elu", {"alpha": 0.3}, lambda x: np.where(x > 0, x, 0.3 * (np.exp(x) - 1))),
        ("Selu", {}, lambda x: 1.0507009873554805 * np.where(x > 0, x, below(x))),
        ("Selu", {"alpha": 1.0, "scale": 2.0}, lambda x: 2 * np.where(x > 0, x, np.exp(x) - 1)),
        ("Softplus", {}, lambda x: np.log1p(np.exp(x))),
        ("Softsign", {}, lambda x: x / (1 + np.abs(x))),
        ("Swish", {}, lambda x: x / (1 + np.exp(-x))),
        ("Mish", {}, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("Gelu", {}, lambda x: x * np.array([(1 + math.erf(v / 2**0.5)) / 2 for v in x])),
        ("StumpFunc", {"high_value": 2.0}, lambda x: np.where(x > 0, 2, 0)),
        (
            "StumpFunc",
            {"threshold": 1.2, "low_value": -1.0, "high_value": 2.0},
            lambda x: np.where(x > 1.2, 2, -1),
        ),
    ],
)
def test_values(name, arguments, expected):
    y = run_operator(name, X, **arguments)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected(X.astype(np.float64)), rtol=2e-6, atol=1e-7)


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
    np.testing.assert_array_equal(dx, [1.5, 4, 5])


def test_the_fast_gelu_is_nearly_the_exact_one():
    fast, exact = (run_operator("Gelu", X, fast_gelu=each) for each in (1, 0))
    np.testing.assert_allclose(fast, exact, atol=1e-3)
    assert (fast != exact).any()


@pytest.mark.parametrize("name", ["Elu", "Gelu", "Mish", "Selu", "Softplus", "Softsign", "Swish"])
def test_far_out_there_are_no_surprises(name):
    y = run_operator(name, np.float32([-1e4, 1e4]))
    ends = {"Elu": [-1, 1e4], "Selu": [-1.7580993, 1e4 * 1.050701], "Softsign": [-1, 1]}
    np.testing.assert_allclose(y, ends.get(name, [0, 1e4]), rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "order", "axis"),
    [((2, 3), "NCHW", 1), ((2, 3, 4), "NCHW", 1), ((2, 4, 3), "NHWC", 2), ((2, 3), "NHWC", 1)],
)
def test_prelu_has_a_slope_per_channel(shape, order, axis):
    x = np.linspace(-2, 1, math.prod(shape), dtype=np.float32).reshape(shape)
    slopes = np.float32([0.1, 0.2, 0.3])
    wide = slopes.reshape([-1 if each == axis else 1 for each in range(len(shape))])
    y = run_operator("PRelu", x, slopes, order=order)
    np.testing.assert_allclose(y, np.where(x > 0, x, x * wide), rtol=1e-6)
    y = run_operator("PRelu", x, slopes[:1], order=order)
    np.testing.assert_allclose(y, np.where(x > 0, x, x * slopes[0]), rtol=1e-6)


def test_prelu_slopes_must_fit():
    with pytest.raises(ValueError, match=r"2 slopes for X \(2, 3\) with order='NCHW'"):
        run_operator("PRelu", np.ones((2, 3), np.float32), np.ones(2, np.float32))


def test_glu():
    x = np.arange(16, dtype=np.float32).reshape(4, 4) / 8
    sigmoid = 1 / (1 + np.exp(-x))
    y = run_operator("Glu", x)
    np.testing.assert_allclose(y, x[:, :2] * sigmoid[:, 2:], rtol=1e-6)
    y = run_operator("Glu", x, dim=0)
    np.testing.assert_allclose(y, x[:2] * sigmoid[2:], rtol=1e-6)
    with pytest.raises(ValueError, match=r"dimension -1 of X \(3,\) has no two halves"):
        run_operator("Glu", x[0, :3])
    with pytest.raises(ValueError, match="has no dimension 2"):
        run_operator("Glu", x, dim=2)


def test_stump_index():
    low, high = run_operator("StumpFuncIndex", np.float32([[1, 5], [7, 2]]), threshold=2.0)
    assert (low.dtype, low.tolist()) == (np.int64, [0, 3])
    assert (high.dtype, high.tolist()) == (np.int64, [1, 2])
