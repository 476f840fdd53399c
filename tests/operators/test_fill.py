import numpy as np
import pytest

from procession.operators import REGISTRY
from procession.testing.gradcheck import run_operator

LIKE = np.zeros((3, 2), np.float64)
RANDOM = ["UniformFill", "UniformIntFill", "GaussianFill", "XavierFill", "MSRAFill"]
MANY = [400, 300]


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


def test_a_shape_may_be_one_number():
    assert run_operator("ConstantFill", shape=3).shape == (3,)


@pytest.mark.parametrize(
    ("name", "values", "dtype"),
    [
        ("GivenTensorFill", [1.5, 2], np.float32),
        ("GivenTensorDoubleFill", [1.5, 2], np.float64),
        ("GivenTensorIntFill", [1, 2.0], np.int32),
        ("GivenTensorInt64Fill", [1, 1 << 40], np.int64),
        ("GivenTensorBoolFill", [True, False], np.bool_),
        ("GivenTensorStringFill", ["a", "long one"], object),
    ],
)
def test_given_values(name, values, dtype):
    for given in (values, tuple(values), np.array(values, dtype)):
        x = run_operator(name, values=given, shape=[2, 1])
        assert (x.dtype, x.shape) == (dtype, (2, 1))
        assert x.reshape(-1).tolist() == values
    assert run_operator(name, np.zeros(2), values=values).shape == (2,)


def test_given_values_in_row_major_order():
    x = run_operator("GivenTensorFill", values=[[1, 2], [3, 4]], shape=[4])
    assert x.tolist() == [1, 2, 3, 4]


def test_given_values_are_copied():
    values = np.ones(3, np.float32)
    assert not np.may_share_memory(
        run_operator("GivenTensorFill", values=values, shape=[3]), values
    )


def test_given_errors():
    with pytest.raises(ValueError, match=r"2 values for the shape \(3,\), which has 3"):
        run_operator("GivenTensorFill", values=[1, 2], shape=[3])
    with pytest.raises(ValueError, match=r"1\.5 does not fit into int32"):
        run_operator("GivenTensorIntFill", values=[1, 1.5], shape=[2])


@pytest.mark.parametrize("name", RANDOM)
def test_random_fills_use_their_generator(name):
    first, again = (run_operator(name, shape=[3, 4], rng=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == (np.int32 if name == "UniformIntFill" else np.float32)
    generator = np.random.default_rng(5)
    run_operator(name, shape=[3, 4], rng=generator)
    other = run_operator(name, shape=[3, 4], rng=generator)
    assert (other != first).any()


def test_uniform():
    x = run_operator("UniformFill", shape=MANY, min=2.0, max=3.0)
    assert x.min() >= 2
    assert x.max() <= 3
    assert x.mean() == pytest.approx(2.5, abs=0.01)
    x = run_operator("UniformFill", LIKE, np.float32(5), np.float32(6))
    assert x.shape == (3, 2)
    assert ((x >= 5) & (x <= 6)).all()


def test_uniform_int_includes_both_ends():
    x = run_operator("UniformIntFill", shape=MANY, min=2, max=4)
    assert np.unique(x).tolist() == [2, 3, 4]
    assert np.unique(run_operator("UniformIntFill", shape=MANY)).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["UniformFill", "UniformIntFill"])
@pytest.mark.parametrize("high", [2, 1])
def test_uniform_needs_an_interval(name, high):
    with pytest.raises(ValueError, match=f"min=2 is not below max={high}"):
        run_operator(name, min=2, max=high)


def test_gaussian():
    x = run_operator("GaussianFill", shape=MANY, mean=3.0, std=0.5)
    assert x.mean() == pytest.approx(3, abs=0.01)
    assert x.std() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="std=0 is not positive"):
        run_operator("GaussianFill", std=0)


@pytest.mark.parametrize("shape", [(400, 300), (40, 30, 10)])
def test_xavier(shape):
    x = run_operator("XavierFill", shape=shape)
    bound = np.sqrt(3 / 300)
    assert np.abs(x).max() == pytest.approx(bound, rel=0.01)
    assert x.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize("shape", [(400, 300), (40, 30, 10)])
def test_msra(shape):
    assert run_operator("MSRAFill", shape=shape).std() == pytest.approx(np.sqrt(2 / 400), rel=0.05)


@pytest.mark.parametrize(("name", "shape"), [("XavierFill", []), ("MSRAFill", [3])])
def test_too_few_dimensions(name, shape):
    with pytest.raises(ValueError, match=f"{name} wants"):
        run_operator(name, shape=shape)


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
