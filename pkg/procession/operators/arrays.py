"""What kernels share: promotion, broadcasting and its way back, matrices out of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
Outs = Sequence[Array | None] | None
"""What a kernel is handed as `outs`: see `procession.operators.registry`."""

_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def promote(*arrays: Array) -> tuple[Array, ...]:
    """The arrays in one dtype: floats win over integers, then tensors over scalars.

    NumPy's own answer depends on its version (whether a 0-d array may widen another one, and
    before 2.0 even on the number in it) and makes float64 of float32 and int32. Here float32
    stays float32 unless a float64 *tensor* takes part. What is neither number nor bool is
    left alone.
    """
    first = arrays[0].dtype
    if all(each.dtype == first for each in arrays[1:]):
        return arrays
    ranks = [_RANK.get(each.dtype.kind, -1) for each in arrays]
    if min(ranks) < 0:
        return arrays
    leading = [each for each, rank in zip(arrays, ranks, strict=True) if rank == max(ranks)]
    tensors = [each for each in leading if each.ndim]
    dtype = np.result_type(*(each.dtype for each in tensors or leading))
    return tuple(each.astype(dtype, copy=False) for each in arrays)


def align(
    a: Array,
    b: Array,
    broadcast: int = 0,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
) -> tuple[Array, Array]:
    """Both in one dtype, and `b` ready to be broadcast to `a` by NumPy's rules.

    With `broadcast`, `b` lies along the dimensions of `a` that start at `axis` (-1: the last
    ones), as older Caffe2 scripts have it. Without it `axis` means nothing.

    Raises:
        ValueError: `b` has more dimensions than `a` has from `axis` on; or `axis_str` is none
            of the letters of `order`, or is given beside `axis`.
    """
    if broadcast:
        b = _lay_along(a, b, axis, axis_str, order)
    a, b = promote(a, b)
    return a, b


def _lay_along(a: Array, b: Array, axis: int, axis_str: str, order: str) -> Array:
    """`b` with its dimensions at `axis` of `a` and after it, for NumPy to broadcast."""
    if b.size == 1:
        return b.reshape(())
    if axis_str:
        if axis != -1:
            raise ValueError(f"axis={axis} and axis_str={axis_str!r}: one of them")
        axis = text(order).find(text(axis_str))
        if len(axis_str) != 1 or axis < 0:
            raise ValueError(f"axis_str={axis_str!r} is not a letter of order={order!r}")
    start = a.ndim - b.ndim if axis == -1 else axis
    trailing = a.ndim - start - b.ndim
    if start < 0 or trailing < 0:
        raise ValueError(f"B {b.shape} does not fit into A {a.shape} at axis {axis}")
    return b.reshape(b.shape + (1,) * trailing)


def sum_to(gradient: Array, aligned: Shape, target: Array, *, copy: bool = False) -> Array:
    """The gradient of something broadcast, summed back to the shape and dtype of `target`.

    `aligned` is the shape that `target` was broadcast from. The result may be a view of
    `gradient` unless `copy` is set.
    """
    lead = gradient.ndim - len(aligned)
    axes = tuple(
        axis
        for axis, length in enumerate(gradient.shape)
        if axis < lead or aligned[axis - lead] != length
    )
    if axes:
        gradient = np.add.reduce(gradient, axis=axes, dtype=gradient.dtype)
        copy = False
    make = np.array if copy else np.asarray
    return make(gradient, dtype=target.dtype).reshape(target.shape)


def text(value: str | bytes) -> str:
    """The string that an argument or an element of a tensor holds, as `str`."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def floats(operator: str, *arrays: Array) -> None:
    """Raise unless all arrays hold real floating-point numbers."""
    for each in arrays:
        if each.dtype.kind != "f":
            raise TypeError(f"{operator} is for floating-point numbers, not for {each.dtype}")


def numbers(operator: str, *arrays: Array) -> None:
    """Raise unless all arrays hold real numbers."""
    for each in arrays:
        if each.dtype.kind not in "fiu":
            raise TypeError(f"{operator} is for numbers, not for {each.dtype}")


def matrix(shape: Shape, axis: int, name: str) -> tuple[int, int]:
    """(rows, columns) of a tensor that is cut into a matrix before its dimension `axis`."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{name} {shape} has no axis {axis}")
    axis %= len(shape)
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def number(array: Array, name: str) -> float:
    """The one number in an array of shape () or (1,)."""
    if array.size != 1:
        raise ValueError(f"{name} must be a single number, not of shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be a number, not {array.dtype}")
    return float(array.reshape(())[()])


def result(out: Array | None, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """`out` where rows and columns of it can be written to in place, else a new array."""
    return np.empty(shape, dtype) if out is None or not out.flags.c_contiguous else out


def squares(x: Array) -> Any:
    """The sum of the squares of all elements, in the type of X."""
    if x.dtype.char in "fd":
        flat = np.ascontiguousarray(x).reshape(-1)
        return np.dot(flat, flat)
    return np.add.reduce(np.multiply(x, x), axis=None, dtype=x.dtype)


def fits(out: Array | None, shape: Shape, dtype: np.dtype[Any]) -> bool:
    """Whether that is memory for a result of that shape and dtype."""
    return out is not None and out.shape == shape and out.dtype == dtype


def store(value: Array, dtype: np.dtype[Any], out: Array | None) -> Array:
    """The value in that type, written to `out` if it is given; never `value` itself."""
    if out is None:
        return np.array(value, dtype)
    np.copyto(out, value, casting="same_kind")
    return out
