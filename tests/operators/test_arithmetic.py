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
    ("inputs", "arguments"), [((A,), {}), ((A, A), {"exponent": 2.0})], ids=["neither", "both"]
)
def test_pow_takes_one_exponent(inputs, arguments):
    with pytest.raises(ValueError, match="second input or the argument `exponent`"):
        run_operator("Pow", *inputs, **arguments)


def test_sum_of_many():
    np.testing.assert_array_equal(run_operator("Sum", A, A, A, A), 4 * A)


def test_sum_does_not_broadcast():
    with pytest.raises(ValueError, match=r"input 2 is \(3,\), input 0 is \(2, 3\)"):
        run_operator("Sum", A, A, A[0])


@pytest.mark.parametrize(("name", "function"), [("Max", np.maximum), ("Min", np.minimum)])
def test_extremes(name, function):
    b, c = A[::-1], A * -1
    np.testing.assert_array_equal(run_operator(name, A, b, c), function(function(A, b), c))
    np.testing.assert_array_equal(run_operator(name, A), A)
    assert np.isnan(run_operator(name, np.float32([np.nan, 1]), np.float32([1, np.nan]))).all()


def test_mean_of_many():
    np.testing.assert_array_equal(run_operator("Mean", A, 3 * A, 5 * A), 3 * A)
    with pytest.raises(TypeError, match="Mean is for floating-point numbers, not for int64"):
        run_operator("Mean", np.array([1, 2]))


@pytest.mark.parametrize("name", ["Sum", "SumInt", "Max", "Min", "Mean"])
def test_many_may_end_where_one_of_them_is(name):
    x, y, z = A.copy(), A + 1, A - 1
    expected = run_operator(name, x, y, z)
    for index in range(3):
        inputs = [x.copy(), y.copy(), z.copy()]
        assert run_operator(name, *inputs, out=inputs[index]) is inputs[index]
        np.testing.assert_array_equal(inputs[index], expected)


@pytest.mark.parametrize("name", ["Max", "Min", "Mean", "SumInt"])
def test_many_have_one_shape(name):
    with pytest.raises(ValueError, match=r"input 1 is \(3,\), input 0 is \(2, 3\)"):
        run_operator(name, A, A[0])


def test_all_that_are_the_extreme_have_its_gradient():
    x, y = np.float32([1, 2, 3]), np.float32([1, 5, 0])
    dx, dy = run_operator("MaxGradient", np.maximum(x, y), np.float32([10, 20, 30]), x, y)
    assert dx.tolist() == [10, 0, 30]
    assert dy.tolist() == [10, 20, 0]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("divisor", [3, -3])
def test_rests(dtype, divisor):
    x = np.array([-7, -3, -1, 0, 1, 3, 7], dtype)
    rest = run_operator("Mod", x, divisor=divisor)
    assert rest.dtype == dtype
    assert rest.tolist() == [int(np.fmod(each, divisor)) for each in x.tolist()]
    rest = run_operator("Mod", x, divisor=divisor, sign_follow_divisor=True)
    assert rest.tolist() == [each % divisor for each in x.tolist()]


def test_rests_are_of_integers_and_of_a_divisor():
    with pytest.raises(TypeError, match="Mod is for integers, not for float32"):
        run_operator("Mod", A, divisor=2)
    with pytest.raises(ValueError, match="divisor must not be 0"):
        run_operator("Mod", np.array([1]), divisor=0)


@pytest.mark.parametrize(
    ("order", "letter", "axis"), [("NCHW", "N", 0), ("NCHW", "C", 1), ("NHWC", "C", 3)]
)
def test_axis_str_is_a_letter_of_the_order(order, letter, axis):
    a = np.zeros((2, 3, 4, 5), np.float32)
    b = np.arange(a.shape[axis], dtype=np.float32)
    expected = run_operator("Add", a, b, broadcast=1, axis=axis)
    actual = run_operator("Add", a, b, broadcast=1, axis_str=letter, order=order)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("arguments", [{"axis_str": "D"}, {"axis_str": "C", "axis": 1}])
def test_axis_str_must_make_sense(arguments):
    with pytest.raises(ValueError, match="axis_str"):
        run_operator("Add", A, A[0], broadcast=1, **arguments)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_broadcast_argument_takes_one_number_of_any_shape(shape):
    b = np.full(shape, 2, np.float32)
    np.testing.assert_array_equal(run_operator("Add", A, b, broadcast=1), A + 2)


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


def test_cast_of_other_numbers_to_strings():
    assert run_operator("Cast", np.array([True, False]), to=4).tolist() == ["1", "0"]
    assert run_operator("Cast", np.array([7, -1]), to=b"string").tolist() == ["7", "-1"]


def test_cast_to_and_from_strings():
    texts = run_operator("Cast", np.float32([[1.5], [2]]), to="string")
    assert texts.tolist() == [["1.500000"], ["2.000000"]]
    np.testing.assert_array_equal(run_operator("Cast", texts, to="float"), [[1.5], [2]])


@pytest.mark.parametrize("shape", [(2, 3), (3,)])
def test_div_gradient_of_three_inputs(shape):
    a, dc = A + 1, A - 2
    b = np.linspace(1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    expected = run_operator("DivGradient", dc, a, b, a / b)
    for found, good in zip(run_operator("DivGradient", b, a / b, dc), expected, strict=True):
        np.testing.assert_array_equal(found, good)
