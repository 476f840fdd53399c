"""Operators that make tensors of random numbers.

Each draws from a generator of its own, which is seeded when its program is first run: by
`Net.set_rand_seed`, or differently each time. Their shape comes from the places that `fill` tells
of. Nothing flows back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape, number
from procession.operators.datatype import numpy_dtype
from procession.operators.fill import fill_shape
from procession.operators.registry import REQUIRED, STOPS, operator


def _interval(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"min={low} is not below max={high}")


def _drawn(full: Shape, low: float, high: float, from_inputs: bool) -> Shape:
    """The shape of what is drawn: no rows if the interval comes from inputs and is empty.

    Raises:
        ValueError: There is nothing in the interval, and no rows to leave out.
    """
    if from_inputs and low <= high:
        return full
    if from_inputs and full:
        return (0, *full[1:])
    _interval(low, high)
    return full


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

    A second and a third input, single numbers, take the place of `min` and `max`. With these, the
    result has no rows if the first is above the second. The other arguments are those of
    ConstantFill.

    Raises:
        ValueError: `min` is not below `max`, or the shape is given twice.
    """
    least = min if low is None else number(low, "min")
    most = max if high is None else number(high, "max")
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    full = _drawn(full, least, most, high is not None)
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
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    full = _drawn(full, least, most, high is not None)
    if least > most:
        return np.zeros(full, np.int32)
    return np.asarray(rng.integers(least, most, size=full, dtype=np.int32, endpoint=True))


@operator("UniqueUniformFill", gradient=STOPS)
def unique_uniform_fill(
    x: Array | None = None,
    avoided: Array | None = None,
    *,
    min: int = REQUIRED,
    max: int = REQUIRED,
    dtype: Any = "int32",
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    rng: np.random.Generator,
) -> Array:
    """Random integers from `min` to `max`, no two of them alike. Caffe2: UniqueUniformFill.

    The numbers in a second input do not come up.

    Args:
        min: The least number that may come up.
        max: The greatest one.
        dtype: int32 or int64.
        shape: The shape, if there is no input.
        extra_shape: Appended to the shape of the input.
        input_as_shape: The input holds the shape.

    Raises:
        ValueError: There are not as many numbers; or another data type, or `min` is not below
            `max`, or the shape is given twice.
    """
    kind = numpy_dtype(dtype)
    if kind not in (np.int32, np.int64):
        raise ValueError(f"UniqueUniformFill makes int32 or int64, not {kind}")
    _interval(min, max)
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    taken = np.unique(np.asarray([] if avoided is None else avoided, np.int64))
    taken = taken[(taken >= min) & (taken <= max)]
    wanted, there = math.prod(full), max - min + 1 - len(taken)
    if wanted > there:
        raise ValueError(f"{wanted} numbers are wanted, and there are {there} from {min} to {max}")
    chosen = rng.choice(there, wanted, replace=False) + min
    # Each number goes up by as many as are taken below the place where it comes to lie.
    chosen += np.searchsorted(taken - np.arange(len(taken)), chosen, side="right")
    return np.asarray(chosen, kind).reshape(full)


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
        std: How far from it, their standard deviation.
        shape: The shape, if there is no input.
        extra_shape: Appended to the shape of the input.
        input_as_shape: The input holds the shape.

    Raises:
        ValueError: `std` is negative, or the shape is given twice.
    """
    if not std >= 0:
        raise ValueError(f"std={std} is negative")
    full = fill_shape(x, shape, extra_shape, input_as_shape)
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
    full = fill_shape(x, shape, extra_shape, input_as_shape)
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
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    std = np.float32(math.sqrt(2 / _fan(full, 1, "MSRAFill")))
    return np.asarray(rng.standard_normal(full, dtype=np.float32) * std)


@operator("Float16UniformFill", gradient=STOPS)
def float16_uniform_fill(
    *,
    min: float = 0.0,
    max: float = 1.0,
    shape: Sequence[int] = (),
    rng: np.random.Generator,
) -> Array:
    """Random numbers from [`min`, `max`), float16. Caffe2: Float16UniformFill.

    Raises:
        ValueError: `min` is not below `max`.
    """
    _interval(min, max)
    full = fill_shape(None, shape, (), False)
    return np.asarray(rng.random(full) * (max - min) + min, np.float16)
