import numpy as np
import pytest

from procession.operators import REGISTRY
from procession.testing.gradcheck import run_operator

LIKE = np.zeros((3, 2), np.float64)
RANDOM = ["UniformFill", "UniformIntFill", "GaussianFill", "XavierFill", "MSRAFill"]


@pytest.mark.parametrize(
    ("arguments", "dtype", "value"),
    [
        ({}, np.float32, 0),
        ({"value": 3}, np.int64, 3),
        ({"value": np.int32(3)}, np.int64, 3),
        ({"value": 3.0}, np.float32, 3),
        ({"value": 1 << 40}, np.int64, 1 << 40),
        ({"value": True}, np.bool_, True),
        ({"value": "text"}, object, "text"),
        ({"value": 3, "dtype": 1}, np.float32, 3),
        ({"value": 3.0, "dtype": 2}, np.int32, 3),
        ({"value": 3, "dtype": "uint8"}, np.uint8, 3),
        ({"dtype": 5}, np.bool_, False),
        ({"dtype": 13}, np.float64, 0),
        ({"dtype": 4}, object, ""),
    ],
)
def test_constant(arguments, dtype, value):
    for shape in ((), (2,), (2, 3)):
        x = run_operator("ConstantFill", shape=shape, **arguments)
        assert (x.dtype, x.shape) == (dtype, shape)
        assert (x == value).all()
    x = run_operator("ConstantFill", **arguments)
    assert (x.dtype, x.shape) == (dtype, ())


@pytest.mark.parametrize(("value", "dtype"), [(2.5, "int64"), (-1, "uint8"), (1 << 40, "int32")])
def test_constant_must_fit_its_type(value, dtype):
    with pytest.raises(ValueError, match=f"does not fit into {dtype}"):
        run_operator("ConstantFill", value=value, dtype=dtype)


FILLS = ["ConstantFill", "RangeFill", *RANDOM]


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize(
    ("inputs", "arguments", "shape"),
    [
        ((), {"shape": [2, 3]}, (2, 3)),
        ((), {"shape": np.array([2, 3])}, (2, 3)),
        ((LIKE,), {}, (3, 2)),
        ((LIKE,), {"extra_shape": [4]}, (3, 2, 4)),
        ((np.array([2, 3]),), {"input_as_shape": True}, (2, 3)),
        ((np.array([2], np.int32),), {"input_as_shape": 1, "extra_shape": [4]}, (2, 4)),
        ((), {"shape": [0, 2]}, (0, 2)),
    ],
)
def test_shapes(name, inputs, arguments, shape):
    assert run_operator(name, *inputs, **arguments).shape == shape


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize(
    ("inputs", "arguments", "message"),
    [
        ((LIKE,), {"shape": [2]}, r"shape=\[2\] and an input"),
        ((), {"extra_shape": [2]}, "extra_shape means nothing without an input"),
        ((), {"shape": [1], "input_as_shape": True}, "input_as_shape means nothing without"),
        ((LIKE,), {"input_as_shape": True}, r"a vector of integers, not float64 \(3, 2\)"),
        ((np.ones((1, 2), int),), {"input_as_shape": True}, "a vector of integers"),
    ],
)
def test_shape_errors(name, inputs, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, *inputs, **arguments)


@pytest.mark.parametrize("name", ["ConstantFill", "GaussianFill", "UniformIntFill", "RangeFill"])
def test_a_shape_is_a_list(name):
    assert run_operator(name, shape=[3]).shape == (3,)
    with pytest.raises(ValueError, match=r"is shape=\[3\] meant"):
        run_operator(name, shape=3)


@pytest.mark.parametrize("name", ["UniformFill", "UniformIntFill"])
def test_intervals_from_inputs(name):
    low, high = (np.array([number], np.int64) for number in (3, 5))
    full = np.array([4, 2])
    drawn = run_operator(name, full, low, high, input_as_shape=True)
    assert drawn.shape == (4, 2)
    assert drawn.min() >= 3
    assert drawn.max() <= 5
    assert (run_operator(name, full, low, low, input_as_shape=True) == 3).all()
    assert run_operator(name, full, high, low, input_as_shape=True).shape == (0, 2)
    with pytest.raises(ValueError, match="not below"):
        run_operator(name, np.array([], np.int64), high, low, input_as_shape=True)


def test_range():
    x = run_operator("RangeFill", shape=[2, 3])
    assert x.dtype == np.float32
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_constant_ignores_an_out_of_another_shape():
    # With input_as_shape the shape is in the values: what fitted the last run may not fit now.
    out = np.zeros(3, np.float32)
    kernel = REGISTRY["ConstantFill"].kernel
    assert kernel(np.array([2]), value=1.0, input_as_shape=True, out=out).shape == (2,)
    assert kernel(np.array([3]), value=1.0, input_as_shape=True, out=out) is out


def test_constant_takes_its_value_from_a_second_input():
    x = run_operator("ConstantFill", LIKE, np.float32([7]), value=3.0)
    assert (x.dtype, x.shape, x.max(), x.min()) == (np.float32, (3, 2), 7, 7)
    x = run_operator("ConstantFill", np.array([2]), np.array(7), input_as_shape=1, dtype=10)
    assert (x.dtype, x.tolist()) == (np.int64, [7, 7])
    with pytest.raises(ValueError, match=r"the second input is the value, one number, not \(2,\)"):
        run_operator("ConstantFill", LIKE, np.float32([7, 8]))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize(
    "limits", [(4,), (2, 7), (7, 2), (1, 9, 3), (9, 1, -3), (0,), (-3,), (5, 5, 2)]
)
def test_ranges_are_those_of_python(dtype, limits):
    x = run_operator("Range", *(np.array([each], dtype) for each in limits))
    assert x.dtype == dtype
    assert x.tolist() == list(range(*limits))


def test_range_of_fractions():
    x = run_operator("Range", np.float32(0.5), np.float32(2.25), np.float32(0.5))
    assert x.tolist() == [0.5, 1, 1.5, 2]


def test_range_near_the_limits_of_integers():
    limits = [np.array(each, np.int8) for each in (-100, 100, 50)]
    assert run_operator("Range", *limits).tolist() == [-100, -50, 0, 50]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([np.array([1, 2])], ValueError, r"input 0 must be a single number, not of shape \(2,\)"),
        ([np.array(1), np.float32(2)], TypeError, "input 1 is float32, input 0 is int64"),
        ([np.array(1), np.array(2), np.array(0)], ValueError, "the step is 0"),
    ],
)
def test_range_errors(inputs, error, message):
    with pytest.raises(error, match=message):
        run_operator("Range", *inputs)


@pytest.mark.parametrize("shape", [(3, 3), (2, 3), (3, 2), (2, 2, 2)])
def test_diagonal(shape):
    x = run_operator("DiagonalFill", shape=shape, value=2)
    assert (x.dtype, x.shape) == (np.int64, shape)
    expected = [2 if len(set(index)) == 1 else 0 for index in np.ndindex(shape)]
    assert x.reshape(-1).tolist() == expected


def test_diagonal_types():
    assert run_operator("DiagonalFill", shape=[2, 2]).dtype == np.float32
    assert run_operator("DiagonalFill", np.zeros((2, 2)), value=1.5).dtype == np.float32
    x = run_operator("DiagonalFill", shape=[2, 2], value=True, dtype=5)
    assert x.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 2)])
def test_no_diagonal(shape):
    with pytest.raises(ValueError, match="has no diagonal"):
        run_operator("DiagonalFill", shape=shape, value=1)


def test_float16_constant():
    x = run_operator("Float16ConstantFill", shape=[2], value=1.5)
    assert (x.dtype, x.tolist()) == (np.float16, [1.5, 1.5])
