"""Operators that make tensors out of nothing: constants, given values, random numbers.

Each takes its shape from one of three places: the argument `shape` (the default is a single
number, of shape ()), the shape of an input, or with `input_as_shape` the numbers in an input.
`extra_shape` is appended to a shape that comes from an input. Nothing flows back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape, number
from procession.operators.datatype import numpy_dtype
from procession.operators.registry import REQUIRED, STOPS, operator


def _shape(
    x: Array | None, shape: int | Sequence[int], extra: Sequence[int], as_shape: bool
) -> Shape:
    given = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    more = tuple(int(length) for length in extra)
    if x is None:
        if as_shape or more:
            name = "input_as_shape" if as_shape else "extra_shape"
            raise ValueError(f"{name} means nothing without an input")
        return tuple(int(length) for length in given)
    if given:
        raise ValueError(f"shape={list(given)} and an input: the shape comes from one of them")
    if not as_shape:
        return x.shape + more
    if x.ndim != 1 or x.dtype.kind not in "iu":
        raise ValueError(f"input_as_shape: a vector of integers, not {x.dtype} {x.shape}")
    return tuple(int(length) for length in x) + more


def _typed(values: Any, dtype: np.dtype[Any]) -> Array:
    """The values in a data type, if that can hold them."""
    if dtype.kind == "O":
        flat = list(values) if isinstance(values, (list, tuple)) else np.ravel(values).tolist()
        array = np.empty(len(flat), object)
        array[:] = flat
        return array
    source = np.asarray(values)
    array = source.astype(dtype)
    if dtype.kind in "iu" and source.size:
        wrong = (array != source).reshape(-1)
        if wrong.any():
            raise ValueError(f"{source.reshape(-1)[wrong.argmax()]} does not fit into {dtype}")
    return array


@operator("ConstantFill", gradient=STOPS)
def constant_fill(
    x: Array | None = None,
    *,
    value: Any = None,
    dtype: Any = None,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    out: Array | None = None,
) -> Array:
    """A tensor of one number (or bool, or string) everywhere. Caffe2: ConstantFill.

    Args:
        value: That number; 0 if it is not given.
        dtype: Without it float32, or what suits `value`: int64 for an int, bool for a bool.
        shape: The shape, if there is no input.
        extra_shape: Appended to the shape of the input.
        input_as_shape: The input holds the shape.

    Raises:
        ValueError: The data type cannot hold `value`, or the shape is given twice.
    """
    full = _shape(x, shape, extra_shape, input_as_shape)
    if dtype is not None:
        kind = numpy_dtype(dtype)
    elif isinstance(value, (str, bytes)):
        kind = np.dtype(object)
    elif isinstance(value, (bool, np.bool_)):
        kind = np.dtype(np.bool_)
    else:
        integer = isinstance(value, (int, np.integer))
        kind = np.dtype(np.int64 if integer else np.float32)
    if value is None:
        value = "" if kind.kind == "O" else 0
    if kind.kind in "iu":
        _typed([value], kind)
    if out is None or out.shape != full:
        out = np.empty(full, kind)
    out.fill(value)
    return out


def _given(
    x: Array | None,
    values: Any,
    dtype: Any,
    shape: Sequence[int],
    extra_shape: Sequence[int],
    input_as_shape: bool,
) -> Array:
    full = _shape(x, shape, extra_shape, input_as_shape)
    array = _typed(values, numpy_dtype(dtype))
    if array.size != math.prod(full):
        raise ValueError(f"{array.size} values for the shape {full}, which has {math.prod(full)}")
    return array.reshape(full)


@operator("GivenTensorFill", gradient=STOPS)
def given_tensor_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    dtype: Any = "float",
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The given `values`, in row-major order, as float32. Caffe2: GivenTensorFill.

    Args:
        values: A sequence or an array of numbers.
        dtype: Another data type than float32.
        shape: The shape, if there is no input.
        extra_shape: Appended to the shape of the input.
        input_as_shape: The input holds the shape.

    Raises:
        ValueError: More or fewer values than the shape has room for, a value that the data
            type cannot hold, or a shape that is given twice.
    """
    return _given(x, values, dtype, shape, extra_shape, input_as_shape)


@operator("GivenTensorDoubleFill", gradient=STOPS)
def given_tensor_double_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The given `values` as float64; otherwise as GivenTensorFill.

    Caffe2: GivenTensorDoubleFill.
    """
    return _given(x, values, "double", shape, extra_shape, input_as_shape)


@operator("GivenTensorIntFill", gradient=STOPS)
def given_tensor_int_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The given `values` as int32; otherwise as GivenTensorFill.

    Caffe2: GivenTensorIntFill.
    """
    return _given(x, values, "int32", shape, extra_shape, input_as_shape)


@operator("GivenTensorInt64Fill", gradient=STOPS)
def given_tensor_int64_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The given `values` as int64; otherwise as GivenTensorFill.

    Caffe2: GivenTensorInt64Fill.
    """
    return _given(x, values, "int64", shape, extra_shape, input_as_shape)


@operator("GivenTensorBoolFill", gradient=STOPS)
def given_tensor_bool_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The given `values` as bools; otherwise as GivenTensorFill.

    Caffe2: GivenTensorBoolFill.
    """
    return _given(x, values, "bool", shape, extra_shape, input_as_shape)


@operator("GivenTensorStringFill", gradient=STOPS)
def given_tensor_string_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The given `values` as an array of objects; otherwise as GivenTensorFill.

    Caffe2: GivenTensorStringFill.
    """
    return _given(x, values, "string", shape, extra_shape, input_as_shape)


def _interval(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"min={low} is not below max={high}")


@operator("UniformFill", gradient=STOPS)
def uniform_fill(
    x: Array | None = None,
    low: Array | None = None,
    high: Array | None = None,
    *,
    min: float = 0.0,
    max: float = 1.0,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    rng: np.random.Generator,
) -> Array:
    """Random numbers from [`min`, `max`), float32. Caffe2: UniformFill.

    A second and a third input, single numbers, take the place of `min` and `max`. The other
    arguments are those of ConstantFill.

    Raises:
        ValueError: `min` is not below `max`, or the shape is given twice.
    """
    least = min if low is None else number(low, "min")
    most = max if high is None else number(high, "max")
    _interval(least, most)
    full = _shape(x, shape, extra_shape, input_as_shape)
    return np.asarray(
        rng.random(full, dtype=np.float32) * np.float32(most - least) + np.float32(least)
    )


@operator("UniformIntFill", gradient=STOPS)
def uniform_int_fill(
    x: Array | None = None,
    low: Array | None = None,
    high: Array | None = None,
    *,
    min: int = 0,
    max: int = 1,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    rng: np.random.Generator,
) -> Array:
    """Random integers from `min` to `max`, both included, int32. Caffe2: UniformIntFill.

    Inputs, arguments and errors as for UniformFill.
    """
    least = min if low is None else int(number(low, "min"))
    most = max if high is None else int(number(high, "max"))
    _interval(least, most)
    full = _shape(x, shape, extra_shape, input_as_shape)
    return np.asarray(rng.integers(least, most, size=full, dtype=np.int32, endpoint=True))


@operator("GaussianFill", gradient=STOPS)
def gaussian_fill(
    x: Array | None = None,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    rng: np.random.Generator,
) -> Array:
    """Normally distributed random numbers, float32. Caffe2: GaussianFill.

    Args:
        mean: Around which they lie.
        std: How far from it, their standard deviation; must be positive.
        shape: The shape, if there is no input.
        extra_shape: Appended to the shape of the input.
        input_as_shape: The input holds the shape.

    Raises:
        ValueError: `std` is not positive, or the shape is given twice.
    """
    if not std > 0:
        raise ValueError(f"std={std} is not positive")
    full = _shape(x, shape, extra_shape, input_as_shape)
    return np.asarray(
        rng.standard_normal(full, dtype=np.float32) * np.float32(std) + np.float32(mean)
    )


def _fan(shape: Shape, dimension: int, operator: str) -> float:
    if len(shape) <= dimension:
        raise ValueError(f"{operator} wants {dimension + 1} dimensions at least, not {shape}")
    return max(math.prod(shape) / max(shape[dimension], 1), 1.0)


@operator("XavierFill", gradient=STOPS)
def xavier_fill(
    x: Array | None = None,
    *,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    rng: np.random.Generator,
) -> Array:
    """Uniform in +-sqrt(3 / fan_in), for the W (N, K) of a layer. Caffe2: XavierFill.

    fan_in is K, or the product of all dimensions but the first; float32. The arguments are
    those of ConstantFill.

    Raises:
        ValueError: The shape has no dimensions, or is given twice.
    """
    full = _shape(x, shape, extra_shape, input_as_shape)
    bound = np.float32(math.sqrt(3 / _fan(full, 0, "XavierFill")))
    return np.asarray((rng.random(full, dtype=np.float32) * 2 - 1) * bound)


@operator("MSRAFill", gradient=STOPS)
def msra_fill(
    x: Array | None = None,
    *,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    rng: np.random.Generator,
) -> Array:
    """Normal with a deviation of sqrt(2 / fan_out), for layers before a Relu. Caffe2: MSRAFill.

    fan_out is the product of all dimensions but the second; float32. The arguments are those
    of ConstantFill.

    Raises:
        ValueError: The shape has fewer than two dimensions, or is given twice.
    """
    full = _shape(x, shape, extra_shape, input_as_shape)
    std = np.float32(math.sqrt(2 / _fan(full, 1, "MSRAFill")))
    return np.asarray(rng.standard_normal(full, dtype=np.float32) * std)


@operator("RangeFill", gradient=STOPS)
def range_fill(
    x: Array | None = None,
    *,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """0, 1, 2, ... in row-major order, float32. Caffe2: RangeFill.

    The arguments are those of ConstantFill.

    Raises:
        ValueError: The shape is given twice.
    """
    full = _shape(x, shape, extra_shape, input_as_shape)
    return np.arange(math.prod(full), dtype=np.float32).reshape(full)
