"""Masks: elements and rows chosen by bools."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.lengths import checked_lengths
from procession.operators.registry import REQUIRED, STOPS, Context, Rules, emit, operator


def _mask(mask: Array, rows: int | None = None) -> Array:
    if mask.dtype.kind != "b":
        raise TypeError(f"a mask holds bools, not {mask.dtype}")
    if mask.ndim != 1 or (rows is not None and mask.size != rows):
        wanted = "" if rows is None else f", of length {rows}"
        raise ValueError(f"the mask must be a vector{wanted}, and is {mask.shape}")
    return mask


@operator("BooleanMask", outputs=(1, 2), gradient=[emit("BooleanMaskGradient", "I1 GO0", "GI0")])
def boolean_mask(data: Array, mask: Array, *, context: Context) -> Any:
    """The rows where the mask is true; the second output has their numbers, int64.

    Caffe2: BooleanMask.

    Raises:
        TypeError: The mask does not hold bools.
        ValueError: The mask is no vector with one element for each row.
    """
    chosen = _mask(mask, data.shape[0] if data.ndim else 0)
    numbers = np.flatnonzero(chosen)
    rows = np.take(data, numbers, axis=0)
    return rows if len(context.outputs) == 1 else (rows, numbers.astype(np.int64))


@operator("BooleanMaskGradient")
def boolean_mask_gradient(mask: Array, dy: Array) -> Array:
    """The gradient of the data: dY where the mask is true, 0 elsewhere.

    Caffe2: BooleanMaskGradient.
    """
    gradient = np.zeros((mask.size, *dy.shape[1:]), dy.dtype)
    gradient[mask] = dy
    return gradient


@operator("BooleanMaskLengths", gradient=STOPS)
def boolean_mask_lengths(lengths: Array, mask: Array) -> Array:
    """How many rows each segment has left under the mask. Caffe2: BooleanMaskLengths.

    Raises:
        ValueError: The lengths do not add up to the length of the mask.
    """
    each = checked_lengths(lengths, _mask(mask).size)
    left = np.bincount(np.repeat(np.arange(each.size), each)[mask], minlength=each.size)
    return left.astype(lengths.dtype)


@operator("BooleanUnmask", gradient=STOPS)
def boolean_unmask(mask: Array, data: Array, *others: Array) -> Array:
    """Vectors that masks had taken apart, put together again. Caffe2: BooleanUnmask.

    The inputs are pairs of a mask and its values. Each place of the result belongs to the first
    mask that is true there.

    Raises:
        ValueError: No mask is true at some place, or the number of values of a mask is wrong.
        TypeError: The values are not of one data type.
    """
    if len(others) % 2:
        raise ValueError("BooleanUnmask takes pairs of a mask and its values")
    masks, values = (mask, *others[::2]), (data, *others[1::2])
    result = np.zeros(_mask(mask).size, data.dtype)
    covered = np.zeros(result.shape, np.bool_)
    for index, (each, vector) in enumerate(zip(masks, values, strict=True)):
        own = _mask(each, result.size) & ~covered
        if vector.dtype != data.dtype:
            raise TypeError(f"values {index} are {vector.dtype}, values 0 are {data.dtype}")
        if vector.shape != (int(own.sum()),):
            raise ValueError(
                f"mask {index} decides {int(own.sum())} places, its values are {vector.shape}"
            )
        result[own] = vector
        covered |= own
    if not covered.all():
        raise ValueError(f"no mask is true at position {int(covered.argmin())}")
    return result


_MODES = ("sequence", "window", "upper", "lower", "upperdiag", "lowerdiag")


def _sequence_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    names = ("mode", "axis", "radius", "batch", "repeat_from_axis")
    handed = {name: arguments[name] for name in names if arguments[name] is not None}
    symbols = "GO0" if inputs == 1 else "GO0 I1"
    return [emit("SequenceMask", symbols, "GI0", grad=True, **handed)]


@operator("SequenceMask", gradient=_sequence_rules)
def sequence_mask(
    x: Array,
    numbers: Array | None = None,
    *,
    mode: str = REQUIRED,
    axis: int = 1,
    radius: int = 10,
    grad: bool = False,
    fill_val: float = -math.inf,
    batch: int | None = None,
    repeat_from_axis: int | None = None,
) -> Array:
    """X as rows and columns, with `fill_val` in some columns of every row.

    Caffe2: SequenceMask.

    The second input has a number for each row. Row i keeps its columns j where

    - "sequence": j is less than the number;
    - "window": j is no further than `radius` from the number;
    - "upper", "lower": j is not above i, not below i;
    - "upperdiag", "lowerdiag": j is below i, above i.

    Args:
        mode: One of these.
        axis: The first dimension that counts as columns.
        radius: See "window".
        grad: Fill with 0: this is the gradient.
        fill_val: What to fill with.
        batch: The dimensions up to this one, and it too, are batches, of rows that begin anew: the
            second input is the same for all of them.
        repeat_from_axis: The dimensions from here on are repeated: all that is in them is
            filled alike.

    Raises:
        ValueError: An argument has no meaning, or the second input does not fit or is missing.
    """
    if mode not in _MODES:
        raise ValueError(f"SequenceMask: mode={mode!r} is none of {', '.join(_MODES)}")
    if mode in ("sequence", "window") and numbers is None:
        raise ValueError(f"SequenceMask: mode={mode!r} needs a second input")
    if x.dtype.kind != "f" and not grad and not math.isfinite(fill_val):
        raise ValueError(f"SequenceMask: fill_val={fill_val} is no {x.dtype}")
    last = x.ndim if repeat_from_axis is None else repeat_from_axis
    first, start, end = (
        each + x.ndim if each < 0 else each for each in (-1 if batch is None else batch, axis, last)
    )
    first = 0 if batch is None else first + 1
    if not 0 <= first <= start < end <= x.ndim:
        raise ValueError(
            f"SequenceMask: axis={axis}, batch={batch}, repeat_from_axis={repeat_from_axis} and "
            f"X {x.shape} do not fit"
        )
    rows, columns = math.prod(x.shape[first:start]), math.prod(x.shape[start:end])
    j, i = np.arange(columns), np.arange(rows)[:, np.newaxis]
    if mode in ("sequence", "window"):
        assert numbers is not None
        if numbers.size != rows:
            raise ValueError(f"SequenceMask: {numbers.size} numbers for {rows} rows")
        at = numbers.reshape(rows, 1)
        keep = j < at if mode == "sequence" else np.abs(j - at) <= radius
    elif mode in ("upper", "lower"):
        keep = j <= i if mode == "upper" else j >= i
    else:
        keep = j < i if mode == "upperdiag" else j > i
    parts = x.reshape((math.prod(x.shape[:first]), rows, columns, math.prod(x.shape[end:])))
    filled = np.where(keep[..., np.newaxis], parts, x.dtype.type(0 if grad else fill_val))
    return np.asarray(filled.reshape(x.shape))
