"""Functions of one tensor: values against NumPy, and where they have none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procession.operators.elementwise import error_function
from procession.testing.gradcheck import run_operator

# The same examples at every run, and no stopwatch: the machine may be busy.
STEADY = settings(derandomize=True, deadline=None, database=None)

A = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Abs", {}, np.abs),
        ("Atan", {}, np.arctan),
        ("Cbrt", {}, np.cbrt),
        ("Ceil", {}, np.ceil),
        ("Cos", {}, np.cos),
        ("Cosh", {}, np.cosh),
        ("Cube", {}, lambda x: x**3),
        ("Floor", {}, np.floor),
        ("Sin", {}, np.sin),
        ("Sinh", {}, np.sinh),
        ("Tan", {}, np.tan),
        ("Exp", {}, np.exp),
        ("Negative", {}, lambda x: -x),
        ("Scale", {"scale": 2.5}, lambda x: 2.5 * x),
        ("Scale", {}, lambda x: x),
        ("Sign", {}, np.sign),
        ("Sqr", {}, lambda x: x * x),
        ("Pow", {"exponent": 3.0}, lambda x: x**3),
        ("Clip", {"min": -1.0, "max": 1.0}, lambda x: np.clip(x, -1, 1)),
        ("Clip", {"min": 0.5}, lambda x: np.maximum(x, 0.5)),
        ("Clip", {"max": 0.5}, lambda x: np.minimum(x, 0.5)),
        ("Clip", {}, lambda x: x),
    ],
)
def test_unary_values(name, arguments, expected):
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    y = run_operator(name, x, **arguments)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected(x.astype(np.float64)), rtol=1e-6, atol=1e-7)


def test_roots_and_logarithms():
    x = np.float32([1, 4, 9])
    np.testing.assert_array_equal(run_operator("Sqrt", x), np.float32([1, 2, 3]))
    np.testing.assert_allclose(run_operator("Log", x), [0, 2 * np.log(2), 2 * np.log(3)], rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["Exp", "Log", "Sqrt", "Rsqrt", "Scale", "Clip", "Pow", "Sin", "Erf", "Floor"]
)
def test_integers_are_refused_where_the_result_would_be_none(name):
    with pytest.raises(TypeError, match=f"{name} is for floating-point numbers, not for int64"):
        run_operator(name, np.array([1, 2]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Asin", np.arcsin),
        ("Acos", np.arccos),
        ("Rsqrt", lambda x: x**-0.5),
        ("Reciprocal", lambda x: 1 / x),
        ("Logit", lambda x: np.log(x / (1 - x))),
    ],
)
def test_values_of_shares(name, expected):
    x = np.linspace(0.05, 0.95, 19, dtype=np.float32)
    y = run_operator(name, x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected(x.astype(np.float64)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Cube", "Negative", "Sign"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_stay_integers(name, dtype):
    y = run_operator(name, np.array([-2, 0, 3], dtype))
    assert y.dtype == dtype
    assert y.tolist() == {"Cube": [-8, 0, 27], "Negative": [2, 0, -3], "Sign": [-1, 0, 1]}[name]


def test_clip_bounds_must_be_in_order():
    with pytest.raises(ValueError, match="min=2 is greater than max=1"):
        run_operator("Clip", A, min=2, max=1)


def test_clip_gradient_stops_at_the_bounds():
    dx = run_operator("ClipGradient", A, A + 1, min=1.0, max=4.0)
    np.testing.assert_array_equal(dx, [[0, 0, 3], [4, 0, 0]])


def test_abs_gradient_is_zero_at_zero():
    dx = run_operator("AbsGradient", A - 2, A + 1)
    np.testing.assert_array_equal(dx, [[-1, -2, 0], [4, 5, 6]])


@STEADY
@given(x=st.floats(-7, 7))
def test_error_function_is_exact(x):
    assert float(error_function(np.array(x))) == pytest.approx(math.erf(x), rel=1e-14, abs=1e-300)


def test_error_function_far_out():
    y = run_operator("Erf", np.float32([-np.inf, -100, 0, 100, np.inf, np.nan]))
    np.testing.assert_array_equal(y, np.float32([-1, -1, 0, 1, 1, np.nan]))


def test_logit_stays_away_from_the_ends():
    y = run_operator("Logit", np.float32([-1, 0, 0.5, 1, 2]), eps=0.25)
    np.testing.assert_allclose(y, np.log(3) * np.float32([-1, -1, 0, 1, 1]), rtol=1e-6)
    dx = run_operator("LogitGradient", np.float32([0, 0.5, 1]), np.float32([5, 5, 5]), eps=0.25)
    np.testing.assert_array_equal(dx, [0, 20, 0])


@pytest.mark.parametrize("eps", [0, 0.5, -1])
def test_logit_needs_room(eps):
    with pytest.raises(ValueError, match=r"not between 0 and 0\.5"):
        run_operator("Logit", A, eps=eps)


def test_nan_is_replaced():
    x = np.float32([1, np.nan, np.inf])
    np.testing.assert_array_equal(run_operator("ReplaceNaN", x), [1, 0, np.inf])
    np.testing.assert_array_equal(run_operator("ReplaceNaN", x, value=2.5), [1, 2.5, np.inf])


@pytest.mark.parametrize("name", ["NanCheck", "EnforceFinite"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found(name, number):
    run_operator(name, A)
    x = A.copy()
    x[1, 0] = number
    with pytest.raises(ValueError, match=r"1 of 6 numbers not finite: -?(nan|inf) at \(1, 0\)"):
        run_operator(name, x)


def test_nan_check_shows_the_other_inputs():
    x = np.float32([np.nan])
    assert run_operator("NanCheck", A, x).tolist() == A.tolist()
    with pytest.raises(ValueError, match=r"input 1 is array\(\[7.*input 2 is array\(\[8"):
        run_operator("NanCheck", x, np.float32([7]), np.float32([8]))
