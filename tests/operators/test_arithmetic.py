"""Elementwise arithmetic: values, types, and how shapes meet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from procession.testing.gradcheck import run_operator

# The same examples at every run, and no stopwatch: the machine may be busy.
STEADY = settings(derandomize=True, deadline=None, database=None)

BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
A = np.arange(6, dtype=np.float32).reshape(2, 3)


@STEADY
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
@pytest.mark.parametrize("name", BINARY)
def test_broadcasts_as_numpy(name, shapes):
    a = np.linspace(-2, 2, int(np.prod(shapes.input_shapes[0])), dtype=np.float32)
    b = np.linspace(1, 3, int(np.prod(shapes.input_shapes[1])), dtype=np.float32)
    a, b = a.reshape(shapes.input_shapes[0]), b.reshape(shapes.input_shapes[1])
    c = run_operator(name, a, b)
    assert c.dtype == np.float32
    assert c.shape == shapes.result_shape
    np.testing.assert_array_equal(c, BINARY[name](a, b))


@STEADY
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=3),
    data=st.data(),
)
def test_broadcast_argument_lays_b_along_a(shape, data):
    start = data.draw(st.integers(0, len(shape) - 1))
    stop = data.draw(st.integers(start, len(shape)))
    a = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    b = np.arange(np.prod(shape[start:stop]), dtype=np.float32).reshape(shape[start:stop])
    expected = a + np.broadcast_to(b.reshape(b.shape + (1,) * (len(shape) - stop)), shape)
    np.testing.assert_array_equal(run_operator("Add", a, b, broadcast=1, axis=start), expected)


def test_broadcast_without_axis_means_the_last_dimensions():
    b = np.float32([1, 2, 3])
    np.testing.assert_array_equal(run_operator("Add", A, b, broadcast=1), A + b)


def test_axis_without_broadcast_means_nothing():
    b = np.float32([1, 2, 3])
    np.testing.assert_array_equal(run_operator("Add", A, b, axis=0), A + b)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_b_must_fit_into_a(axis):
    with pytest.raises(ValueError, match=r"B \(2, 3, 1\) does not fit into A \(2, 3\)"):
        run_operator("Add", A, np.ones((2, 3, 1), np.float32), broadcast=1, axis=axis)


@pytest.mark.parametrize("name", BINARY)
def test_shapes_that_do_not_match(name):
    with pytest.raises(ValueError, match=r"\(2,3\) \(2,\)"):
        run_operator(name, A, np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (np.ones(2, "f4"), np.array(0.1), "f4"),
        (np.array(0.1), np.ones(2, "f4"), "f4"),
        (np.ones(2, "f4"), np.array(1000), "f4"),
        (np.ones(2, "f4"), np.ones(2, "i8"), "f4"),
        (np.ones(2, "f4"), np.ones(2, "f8"), "f8"),
        (np.ones(2, "i4"), np.array(1 << 40), "i4"),
        (np.ones(2, "i4"), np.array(0.5, "f4"), "f4"),
        (np.array(1, "f4"), np.array(1, "f8"), "f8"),
        (np.ones(2, "?"), np.ones(2, "i4"), "i4"),
    ],
)
def test_types_that_differ(one, other, expected):
    assert run_operator("Mul", one, other).dtype == expected
    assert run_operator("Mul", other, one).dtype == expected


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_are_divided_towards_zero(dtype):
    a, b = np.array([7, -7, 7, -7, 6, 0], dtype), np.array([2, 2, -2, -2, 3, 5], dtype)
    quotient = run_operator("Div", a, b)
    assert quotient.dtype == dtype
    np.testing.assert_array_equal(quotient, [3, -3, -3, 3, 2, 0])


@STEADY
@given(
    a=st.lists(st.integers(-(2**62), 2**62), min_size=1),
    b=st.integers(-(2**62), 2**62).filter(bool),
)
def test_integer_division_is_exact(a, b):
    expected = [abs(x) // abs(b) * (1 if (x < 0) == (b < 0) else -1) for x in a]
    assert run_operator("Div", np.array(a), np.array(b)).tolist() == expected


def test_integer_division_by_zero():
    with pytest.raises(ZeroDivisionError, match="int64"):
        run_operator("Div", np.array([1, 2]), np.array([1, 0]))


def test_gradient_of_a_broadcast_operand_is_summed():
    da, db = run_operator("AddGradient", A, A, np.zeros(3, np.float32))
    np.testing.assert_array_equal(da, A)
    np.testing.assert_array_equal(db, [3, 5, 7])
    _, db = run_operator("AddGradient", A, A, np.zeros(2, np.float32), broadcast=1, axis=0)
    np.testing.assert_array_equal(db, [3, 12])


def test_gradient_has_the_type_of_its_operand():
    da, db = run_operator("MulGradient", A, A, np.array(0.5))
    assert (da.dtype, db.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Abs", {}, np.abs),
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
    np.testing.assert_allclose(y, expected(x.astype(np.float64)), rtol=1e-6)


def test_roots_and_logarithms():
    x = np.float32([1, 4, 9])
    np.testing.assert_array_equal(run_operator("Sqrt", x), np.float32([1, 2, 3]))
    np.testing.assert_allclose(run_operator("Log", x), [0, 2 * np.log(2), 2 * np.log(3)], rtol=1e-6)


@pytest.mark.parametrize("name", ["Exp", "Log", "Sqrt", "Scale", "Clip", "Pow"])
def test_integers_are_refused_where_the_result_would_be_none(name):
    with pytest.raises(TypeError, match=f"{name} is for floating-point numbers, not for int64"):
        run_operator(name, np.array([1, 2]))


@pytest.mark.parametrize(
    ("inputs", "arguments"), [((A,), {}), ((A, A), {"exponent": 2.0})], ids=["neither", "both"]
)
def test_pow_takes_one_exponent(inputs, arguments):
    with pytest.raises(ValueError, match="second input or the argument `exponent`"):
        run_operator("Pow", *inputs, **arguments)


def test_clip_bounds_must_be_in_order():
    with pytest.raises(ValueError, match="min=2 is greater than max=1"):
        run_operator("Clip", A, min=2, max=1)


def test_clip_gradient_stops_at_the_bounds():
    dx = run_operator("ClipGradient", A, A + 1, min=1.0, max=4.0)
    np.testing.assert_array_equal(dx, [[0, 0, 3], [4, 0, 0]])


def test_abs_gradient_is_zero_at_zero():
    dx = run_operator("AbsGradient", A - 2, A + 1)
    np.testing.assert_array_equal(dx, [[-1, -2, 0], [4, 5, 6]])


def test_sum_of_many():
    np.testing.assert_array_equal(run_operator("Sum", A, A, A, A), 4 * A)


def test_sum_does_not_broadcast():
    with pytest.raises(ValueError, match=r"input 2 is \(3,\), input 0 is \(2, 3\)"):
        run_operator("Sum", A, A, A[0])


def test_copy_of_objects_is_deep():
    blob = {"key": [1, 2]}
    copy = run_operator("Copy", blob)
    assert copy == blob
    assert copy["key"] is not blob["key"]


@pytest.mark.parametrize(
    ("to", "dtype", "expected"),
    [
        ("float", np.float32, [-1.5, -0.5, 0, 2.5]),
        (1, np.float32, [-1.5, -0.5, 0, 2.5]),
        ("INT32", np.int32, [-1, 0, 0, 2]),
        (10, np.int64, [-1, 0, 0, 2]),
        ("Double", np.float64, [-1.5, -0.5, 0, 2.5]),
        ("float16", np.float16, [-1.5, -0.5, 0, 2.5]),
        ("bool", np.bool_, [True, True, False, True]),
        (np.int8, np.int8, [-1, 0, 0, 2]),
    ],
)
def test_cast(to, dtype, expected):
    y = run_operator("Cast", np.float32([-1.5, -0.5, 0, 2.5]), to=to)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)


def test_cast_wraps_around():
    y = run_operator("Cast", np.int32([300, -1]), to="uint8")
    np.testing.assert_array_equal(y, [44, 255])


def test_cast_to_and_from_strings():
    texts = run_operator("Cast", np.float32([[1.5], [2]]), to="string")
    assert texts.tolist() == [["1.5"], ["2.0"]]
    np.testing.assert_array_equal(run_operator("Cast", texts, to="float"), [[1.5], [2]])
