"""Operators that make tensors out of nothing: constants and ranges.

Each takes its shape from one of three places: the argument `shape` (the default is a single
number, of shape ()), the shape of an input, or with `input_as_shape` the numbers in an input.
`extra_shape` is appended to a shape that comes from an input. Nothing flows back. So do those of
given values (`given_fill`) and of random numbers (`random_fill`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape
from procession.operators.datatype import numpy_dtype
from procession.operators.registry import STOPS, Look, operator


def fill_shape(
    x: Array | None, shape: Sequence[int], extra: Sequence[int], as_shape: bool
) -> Shape:
    """The shape that a fill's input and arguments ask for.

    Raises:
        ValueError: They ask for none, or for two; or `shape` is a number, not a list.
    """
    if isinstance(shape, (int, np.integer)):
        raise ValueError(f"shape={shape} is a number, not a list: is shape=[{shape}] meant?")
    given = tuple(shape)
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


def typed(values: Any, dtype: np.dtype[Any]) -> Array:
    """The values in a data type.

    Raises:
        ValueError: The type cannot hold one of them.
    """
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


def _kind(value: Any, dtype: Any) -> np.dtype[Any]:
    """The data type that is asked for, or else the one that suits the value."""
    if dtype is not None:
        return numpy_dtype(dtype)
    if isinstance(value, (str, bytes)):
        return np.dtype(object)
    if isinstance(value, (bool, np.bool_)):
        return np.dtype(np.bool_)
    return np.dtype(np.int64 if isinstance(value, (int, np.integer)) else np.float32)


def _specialize_constant_fill(
    inputs: Sequence[Look], outputs: Sequence[Look], *, value: Any, **others: Any
) -> Callable[..., object] | None:
    """For a number, in a shape that an input has: most often where gradients begin."""
    ((_, dtype),) = outputs
    if len(inputs) != 1 or others["input_as_shape"] or dtype.kind not in "iufb":
        return None
    kept = np.array(0 if value is None else value, dtype).item()

    def fill(x: Array, made: Array) -> None:
        made.fill(kept)

    return fill


@operator("ConstantFill", constant=True, gradient=STOPS, specialize=_specialize_constant_fill)
def constant_fill(
    x: Array | None = None,
    content: Array | None = None,
    *,
    value: Any = None,
    dtype: Any = None,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
    out: Array | None = None,
) -> Array:
    """A tensor of one number (or bool, or string) everywhere. Caffe2: ConstantFill.

    A second input, a single number, takes the place of `value`.

    Args:
        value: That number; 0 if it is not given.
        dtype: Without it float32, or what suits `value`: int64 for an int, bool for a bool.
        shape: The shape, if there is no input.
        extra_shape: Appended to the shape of the input.
        input_as_shape: The input holds the shape.

    Raises:
        ValueError: The data type cannot hold `value`, the second input is not a single number, or
            the shape is given twice.
    """
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    kind = _kind(value, dtype)
    if content is not None:
        if content.size != 1:
            raise ValueError(f"the second input is the value, one number, not {content.shape}")
        value = content.reshape(())[()]
    if value is None:
        value = "" if kind.kind == "O" else 0
    if kind.kind in "iu":
        typed([value], kind)
    if out is None or out.shape != full:
        out = np.empty(full, kind)
    out.fill(value)
    return out


@operator("RangeFill", constant=True, gradient=STOPS)
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
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    return np.arange(math.prod(full), dtype=np.float32).reshape(full)


@operator("Range", gradient=STOPS)
def range_(first: Array, stop: Array | None = None, step: Array | None = None) -> Array:
    """The numbers from start up to stop, without it, in steps. Caffe2: Range.

    The inputs are (stop), (start, stop) or (start, stop, step), single numbers of one type; start
    is 0 and step is 1 without them. The result is a vector of their type.

    Raises:
        ValueError: An input is not a single number, or the step is 0.
        TypeError: The inputs differ in type.
    """
    given = [each for each in (first, stop, step) if each is not None]
    for index, each in enumerate(given):
        if each.size != 1:
            raise ValueError(f"input {index} must be a single number, not of shape {each.shape}")
        if each.dtype != first.dtype:
            raise TypeError(f"input {index} is {each.dtype}, input 0 is {first.dtype}")
    of = first.dtype.type
    start, end, by = of(0), given[0].reshape(())[()], of(1)
    if len(given) > 1:
        start, end = given[0].reshape(())[()], given[1].reshape(())[()]
    if len(given) > 2:
        by = given[2].reshape(())[()]
    if by == 0:
        raise ValueError("Range: the step is 0")
    # In Python's numbers, which neither overflow nor wrap around.
    length = max(math.ceil((end.item() - start.item()) / by.item()), 0)
    return np.asarray(start + np.arange(length).astype(first.dtype) * by, first.dtype)


@operator("DiagonalFill", constant=True, gradient=STOPS)
def diagonal_fill(
    x: Array | None = None,
    *,
    value: Any = None,
    dtype: Any = None,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """One number on the diagonal, 0 everywhere else. Caffe2: DiagonalFill.

    The diagonal is where all indices are the same. The arguments are those of ConstantFill.

    Raises:
        ValueError: There are fewer than two dimensions, or more than two that differ in length;
            or as for ConstantFill.
    """
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    if len(full) < 2 or (len(full) > 2 and len(set(full)) > 1):
        raise ValueError(f"{full} has no diagonal: two dimensions, or more of one length")
    kind = _kind(value, dtype)
    array = np.full(full, "" if kind.kind == "O" else 0, kind)
    if value is not None:
        index = np.arange(min(full))
        array[(index,) * len(full)] = typed([value], kind)
    return array


@operator("Float16ConstantFill", constant=True, gradient=STOPS)
def float16_constant_fill(*, value: float = 0.0, shape: Sequence[int] = ()) -> Array:
    """A tensor of one number everywhere, float16. Caffe2: Float16ConstantFill."""
    return np.full(fill_shape(None, shape, (), False), value, np.float16)
