"""Tensors put together and cut into pieces: concatenation, splitting, slices, repetition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, Shape, fits, number, sum_to
from procession.operators.registry import Context, Rules, emit, operator
from procession.operators.shape import integers


def _joined_axis(axis: int | None, order: str, rank: int, shape: Shape) -> int:
    """The dimension that is meant; by default that of the channels.

    Raises:
        ValueError: There is none of that number, or no such order.
    """
    if order not in ("NCHW", "NHWC"):
        raise ValueError(f"order={order!r} is neither 'NCHW' nor 'NHWC'")
    if axis is None:
        axis = 3 if order == "NHWC" else 1
    if not -rank <= axis < rank:
        raise ValueError(f"axis={axis}, but the inputs are {shape}")
    return axis % rank


def _concat_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [emit("Split", "GO0 O1", " ".join(f"GI{index}" for index in range(inputs)))]


def _concatenate(
    xs: tuple[Array, ...],
    axis: int | None,
    order: str,
    add_axis: bool,
    out: Array | None = None,
) -> tuple[Array, Array]:
    first = xs[0]
    axis = _joined_axis(axis, order, first.ndim + bool(add_axis), first.shape)
    for index, x in enumerate(xs[1:], 1):
        if x.dtype != first.dtype:
            raise TypeError(f"input {index} is {x.dtype}, input 0 is {first.dtype}")
        alike = x.ndim == first.ndim and all(
            (where == axis and not add_axis) or one == other
            for where, (one, other) in enumerate(zip(x.shape, first.shape, strict=True))
        )
        if not alike:
            raise ValueError(
                f"input {index} is {x.shape}, input 0 is {first.shape}: they may differ"
                + (" in nothing" if add_axis else f" at axis {axis} only")
            )
    if add_axis:
        lengths = [1] * len(xs)
        xs = tuple(np.expand_dims(x, axis) for x in xs)
    else:
        lengths = [x.shape[axis] for x in xs]
    shape = (*xs[0].shape[:axis], sum(lengths), *xs[0].shape[axis + 1 :])
    kept = out if fits(out, shape, first.dtype) else None
    return np.concatenate(xs, axis, out=kept), np.array(lengths, np.int32)


@operator("Concat", outputs=2, gradient=_concat_rules)
def concat(
    first: Array,
    *others: Array,
    axis: int | None = None,
    add_axis: bool = False,
    order: str = "NCHW",
    outs: Outs = None,
) -> tuple[Array, Array]:
    """All inputs one behind the other, and how long each is there (int32). Caffe2: Concat.

    Args:
        axis: The dimension in which they follow each other, and may differ in length; from
            the end if negative. 1 by default.
        add_axis: Put the inputs, which are alike, next to each other in a new dimension `axis`.
        order: "NHWC" makes 3 the default of `axis`.

    Raises:
        ValueError: The shapes do not fit, or there is no such dimension.
        TypeError: The inputs are not all of one data type.
    """
    return _concatenate((first, *others), axis, order, add_axis, outs[0] if outs else None)


@operator("DepthConcat", outputs=2, gradient=_concat_rules)
def depth_concat(
    first: Array,
    *others: Array,
    axis: int | None = None,
    add_axis: bool = False,
    order: str = "NCHW",
    outs: Outs = None,
) -> tuple[Array, Array]:
    """The older name of Concat. Caffe2: DepthConcat."""
    return _concatenate((first, *others), axis, order, add_axis, outs[0] if outs else None)


def _split_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    gradients = " ".join(f"GO{index}" for index in range(arguments["n_outputs"]))
    return [emit("SplitGradient", gradients, "GI0")]


def _split(
    x: Array,
    lengths: tuple[int, ...],
    axis: int | None,
    order: str,
    add_axis: bool,
    pieces: int,
    outs: Outs = None,
) -> tuple[Array, ...]:
    axis = _joined_axis(axis, order, x.ndim, x.shape)
    total = x.shape[axis]
    if add_axis:
        if total != pieces:
            raise ValueError(f"X {x.shape} has {total} slices at axis {axis}, for {pieces} outputs")
        return tuple(_piece(x, axis, index, outs, index) for index in range(pieces))
    if not lengths:
        if total % pieces:
            raise ValueError(f"X {x.shape} cannot be cut into {pieces} equal parts at axis {axis}")
        lengths = (total // pieces,) * pieces
    if len(lengths) != pieces or min(lengths) < 0 or sum(lengths) != total:
        raise ValueError(
            f"split={list(lengths)} for {pieces} outputs of X {x.shape}, cut at axis {axis}"
        )
    ends = [sum(lengths[: index + 1]) for index in range(pieces)]
    return tuple(
        _piece(x, axis, slice(end - length, end), outs, index)
        for index, (length, end) in enumerate(zip(lengths, ends, strict=True))
    )


def _piece(x: Array, axis: int, where: int | slice, outs: Outs, index: int) -> Array:
    """A copy of a part of X, in the memory of that output if it fits."""
    piece = x[(slice(None),) * axis + (where,)]
    out = outs[index] if outs else None
    if out is None or not fits(out, piece.shape, piece.dtype):
        return np.array(piece, order="C")
    np.copyto(out, piece)
    return out


def _lengths(split: Sequence[int], given: Array | None) -> tuple[int, ...]:
    return integers(split if given is None else given, "split")


@operator("Split", outputs=(1, None), gradient=_split_rules)
def split(
    x: Array,
    lengths: Array | None = None,
    *,
    axis: int | None = None,
    split: Sequence[int] = (),
    add_axis: bool = False,
    order: str = "NCHW",
    context: Context,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """X cut into as many pieces as there are outputs. Caffe2: Split.

    Args:
        axis: The dimension to cut, from the end if negative; 1 by default.
        split: How long each piece is there, unless a second input says so; else all are alike.
        add_axis: The pieces are slices of length 1, and come without that dimension.
        order: "NHWC" makes 3 the default of `axis`.

    Raises:
        ValueError: X cannot be cut like that.
    """
    pieces = len(context.outputs)
    return _split(x, _lengths(split, lengths), axis, order, add_axis, pieces, outs)


@operator("DepthSplit", outputs=(1, None), gradient=_split_rules)
def depth_split(
    x: Array,
    lengths: Array | None = None,
    *,
    axis: int | None = None,
    split: Sequence[int] = (),
    add_axis: bool = False,
    order: str = "NCHW",
    context: Context,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The older name of Split. Caffe2: DepthSplit."""
    pieces = len(context.outputs)
    return _split(x, _lengths(split, lengths), axis, order, add_axis, pieces, outs)


@operator("SplitByLengths", outputs=(1, None), gradient=_split_rules)
def split_by_lengths(
    x: Array,
    lengths: Array,
    *,
    axis: int | None = None,
    order: str = "NCHW",
    use_scaling_lengths: bool = False,
    context: Context,
) -> tuple[Array, ...]:
    """X cut into pieces that are groups of segments. Caffe2: SplitByLengths.

    The second input has the length of every segment along `axis`; each output gets as many
    segments as the others.

    Args:
        axis: The dimension to cut, from the end if negative; 1 by default.
        order: "NHWC" makes 3 the default of `axis`.
        use_scaling_lengths: The lengths add up to a divisor of the length of X, and are
            multiplied accordingly.

    Raises:
        ValueError: X cannot be cut like that.
    """
    pieces = len(context.outputs)
    each = integers(lengths, "lengths")
    if len(each) % pieces:
        raise ValueError(f"{len(each)} lengths cannot be shared out to {pieces} outputs")
    step, total = len(each) // pieces, sum(each)
    factor = 1
    if use_scaling_lengths and total:
        factor = x.shape[_joined_axis(axis, order, x.ndim, x.shape)] // total
    groups = tuple(sum(each[i * step : (i + 1) * step]) * factor for i in range(pieces))
    return _split(x, groups, axis, order, False, pieces)


@operator("SplitGradient")
def split_gradient(
    first: Array,
    *others: Array,
    axis: int | None = None,
    add_axis: bool = False,
    order: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """The gradient of X: those of the pieces, put together again."""
    if out is not None and any(np.may_share_memory(out, each) for each in (first, *others)):
        out = None
    return _concatenate((first, *others), axis, order, add_axis, out)[0]


@operator("Append")
def append(a: Array, b: Array) -> Array:
    """A with the rows of B behind its own; written over A, as a rule. Caffe2: Append.

    Raises:
        ValueError: The rows of A and B are not alike.
        TypeError: A and B are not of one data type.
    """
    return _concatenate((a, b), 0, "NCHW", False)[0]


def _bounds(x: Array, starts: Sequence[int], ends: Sequence[int]) -> tuple[slice, ...]:
    first, last = integers(starts, "starts"), integers(ends, "ends")
    if len(first) != len(last) or len(first) > x.ndim:
        raise ValueError(f"Slice: starts={list(first)} and ends={list(last)} for X {x.shape}")
    cuts = []
    for start, end, length in zip(first, last, x.shape, strict=False):
        low = min(start + length + 1 if start < 0 else start, length)
        high = min(end + length + 1 if end < 0 else end, length)
        if not 0 <= low <= high:
            raise ValueError(f"Slice: from {start} to {end} is no part of a length of {length}")
        cuts.append(slice(low, high))
    return tuple(cuts)


def _slice_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    bounds = " ".join(f"I{index}" for index in range(inputs))
    return [emit("SliceGradient", f"GO0 {bounds}", "GI0")]


def _given(argument: Sequence[int] | None, given: Array | None, name: str) -> Any:
    if given is not None:
        return given
    if argument is None:
        raise ValueError(f"Slice takes further inputs or the argument `{name}`")
    return argument


@operator("Slice", gradient=_slice_rules)
def slice_(
    x: Array,
    starts_: Array | None = None,
    ends_: Array | None = None,
    *,
    starts: Sequence[int] | None = None,
    ends: Sequence[int] | None = None,
) -> Array:
    """A part of X, from `starts` up to but without `ends`. Caffe2: Slice.

    A second and a third input take the place of the arguments.

    Args:
        starts: Where it begins, one number for each of the first dimensions.
        ends: Where it ends. A negative number counts from behind the end: -1 is the end.

    Raises:
        ValueError: No bounds are given, or they are not in order.
    """
    cuts = _bounds(x, _given(starts, starts_, "starts"), _given(ends, ends_, "ends"))
    return np.array(x[cuts], order="C")


@operator("SliceGradient")
def slice_gradient(
    dy: Array,
    x: Array,
    starts_: Array | None = None,
    ends_: Array | None = None,
    *,
    starts: Sequence[int] | None = None,
    ends: Sequence[int] | None = None,
) -> Array:
    """The gradient of X: dY where the slice was, 0 elsewhere."""
    gradient = np.zeros(x.shape, dy.dtype)
    gradient[_bounds(x, _given(starts, starts_, "starts"), _given(ends, ends_, "ends"))] = dy
    return gradient


def _tile_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    more = "".join(f" I{index}" for index in range(1, inputs))
    return [emit("TileGradient", f"GO0{more}", "GI0")]


def _tiling(
    tiles: int | None, axis: int | None, tiles_: Array | None, axis_: Array | None, shape: Shape
) -> tuple[int, int]:
    times = tiles if tiles_ is None else int(number(tiles_, "tiles"))
    where = axis if axis_ is None else int(number(axis_, "axis"))
    if times is None or where is None:
        raise ValueError("Tile needs `tiles` and `axis`, as arguments or as further inputs")
    if times < 0 or not -len(shape) <= where < len(shape):
        raise ValueError(f"Tile: tiles={times}, axis={where}, but X is {shape}")
    return times, where % len(shape)


@operator("Tile", gradient=_tile_rules)
def tile(
    x: Array,
    tiles_: Array | None = None,
    axis_: Array | None = None,
    *,
    tiles: int | None = None,
    axis: int | None = None,
    out: Array | None = None,
) -> Array:
    """X again and again, along one dimension. Caffe2: Tile.

    A second and a third input take the place of the arguments.

    Args:
        tiles: How often.
        axis: The dimension, from the end if negative.

    Raises:
        ValueError: One of both is not given, or X has no such dimension.
    """
    times, where = _tiling(tiles, axis, tiles_, axis_, x.shape)
    shape = (*x.shape[:where], times * x.shape[where], *x.shape[where + 1 :])
    made = out
    if made is None or not fits(made, shape, x.dtype) or np.may_share_memory(made, x):
        made = np.empty(shape, x.dtype)
    before, piece = math.prod(x.shape[:where]), math.prod(x.shape[where:])
    np.copyto(made.reshape(before, times, piece), x.reshape(before, 1, piece))
    return made


@operator("TileGradient")
def tile_gradient(
    dy: Array,
    tiles_: Array | None = None,
    axis_: Array | None = None,
    *,
    tiles: int | None = None,
    axis: int | None = None,
) -> Array:
    """The gradient of X: the sum over all of its copies. Caffe2: TileGradient."""
    times, where = _tiling(tiles, axis, tiles_, axis_, dy.shape)
    length = dy.shape[where] // times if times else 0
    apart = dy.reshape((*dy.shape[:where], times, length, *dy.shape[where + 1 :]))
    return np.asarray(np.add.reduce(apart, axis=where, dtype=dy.dtype))


@operator("NumpyTile")
def numpy_tile(x: Array, repeats: Array) -> Array:
    """X repeated along every dimension, as often as the second input says. Caffe2: NumpyTile.

    Raises:
        ValueError: There is not one number for each dimension.
    """
    times = integers(repeats, "repeats")
    if len(times) != x.ndim or min(times, default=0) < 0:
        raise ValueError(f"NumpyTile: repeats {list(times)}, but X is {x.shape}")
    return np.tile(x, times)


@operator("Expand", gradient=[emit("ExpandGradient", "GO0 I0", "GI0")])
def expand(x: Array, shape: Array) -> Array:
    """X broadcast together with a shape, that of the result by NumPy's rules. Caffe2: Expand.

    Where the shape says 1, X keeps its length.

    Raises:
        ValueError: X cannot be broadcast like that.
    """
    asked = integers(shape, "shape")
    pairs = zip(reversed(x.shape), reversed(asked), strict=False)
    if min(asked, default=0) < 0 or any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ValueError(f"Expand: X {x.shape} cannot be broadcast to {asked}")
    full = np.broadcast_shapes(x.shape, asked)
    return np.array(np.broadcast_to(x, full))


@operator("ExpandGradient")
def expand_gradient(dy: Array, x: Array) -> Array:
    """The gradient of X: dY, summed over what X was repeated along. Caffe2: ExpandGradient."""
    return sum_to(dy, x.shape, x, copy=True)
