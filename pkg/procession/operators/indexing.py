"""Rows by number: gathered from a tensor, or made of zeros and ones.

Numbers of rows are checked: one that a tensor does not have is an IndexError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, number, numbers, store
from procession.operators.lengths import checked_lengths
from procession.operators.registry import REQUIRED, STOPS, Context, Rules, emit, operator, sparse
from procession.operators.rows import add_rows
from procession.operators.shape import integers


def positions(indices: Array, length: int, *, wrap: bool = False) -> Array:
    """Indices that can be used as they are, checked against the length of their dimension.

    Raises:
        TypeError: They are no integers.
        IndexError: One is out of bounds. Negative ones are, too, unless `wrap` lets them
            count from the end.
    """
    if indices.dtype.kind not in "iu":
        if indices.size:
            raise TypeError(f"indices must be integers, not {indices.dtype}")
        return indices.astype(np.int64)
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if high >= length or low < (-length if wrap else 0):
            wrong = high if high >= length else low
            raise IndexError(f"the index {wrong} is out of bounds for a length of {length}")
    return indices


def which_axis(axis: int, shape: Sequence[int]) -> int:
    """The number of a dimension, from the front, of what has that shape."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis={axis}, but the data is {tuple(shape)}")
    return axis % len(shape)


def _outer(data: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    """An index that takes, for each outer position, what `indices` say there."""
    if indices.shape[:axis] != data.shape[:axis]:
        raise ValueError(
            f"match_outer: the first {axis} dimensions of the data {data.shape} and of the "
            f"indices {indices.shape} must be the same"
        )
    rest = indices.ndim - axis
    grids = np.ogrid[tuple(slice(length) for length in data.shape[:axis])] if axis else []
    return (*(grid.reshape(grid.shape + (1,) * rest) for grid in grids), indices)


def _gather(
    data: Array,
    indices: Array,
    axis: int,
    match_outer: bool,
    wrap: bool,
    out: Array | None = None,
) -> Array:
    axis = which_axis(axis, data.shape)
    indices = positions(indices, data.shape[axis], wrap=wrap)
    if match_outer:
        chosen = np.asarray(data[_outer(data, indices, axis)])
        return chosen if out is None else store(chosen, data.dtype, out)
    if out is None or not out.flags.c_contiguous or np.may_share_memory(out, data):
        return np.asarray(np.take(data, indices, axis=axis))
    if np.may_share_memory(out, indices):
        indices = indices.copy()
    # They are checked, so "wrap" takes what is negative from the end, and nothing else.
    return np.take(data, indices, axis=axis, out=out, mode="wrap")


def _gather_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if not arguments["axis"] and not arguments["match_outer"] and not arguments["dense_gradient"]:
        return [sparse("I1", "GO0", "GI0")]
    handed = {"axis": arguments["axis"], "match_outer": arguments["match_outer"]}
    return [emit("BatchGatherGradient", "I0 I1 GO0", "GI0", **handed)]


@operator("Gather", gradient=_gather_rules)
def gather(
    data: Array,
    indices: Array,
    *,
    axis: int = 0,
    match_outer: bool = False,
    wrap_indices: bool = False,
    dense_gradient: bool = False,
    out: Array | None = None,
) -> Array:
    """The rows of the data that the indices name, in any shape. Caffe2: Gather.

    Args:
        axis: The dimension that the indices are about, from the end if negative.
        match_outer: The dimensions before `axis` are those of the indices as well, and each of
            them has its own indices.
        wrap_indices: Let negative indices count from the end of any dimension; at axis 0
            they always do.
        dense_gradient: Make the gradient of the data dense.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit `axis` and `match_outer`.
    """
    wrap = bool(wrap_indices) or which_axis(axis, data.shape) == 0
    return _gather(data, indices, axis, bool(match_outer), wrap, out)


def _batch_gather_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    handed = {"axis": 1, "match_outer": arguments["match_outer"]}
    return [emit("BatchGatherGradient", "I0 I1 GO0", "GI0", **handed)]


@operator("BatchGather", gradient=_batch_gather_rules)
def batch_gather(data: Array, indices: Array, *, match_outer: bool = False) -> Array:
    """The columns of the data that the indices name. Caffe2: BatchGather.

    Args:
        match_outer: Each row has its own indices.

    Raises:
        IndexError: There is no such column.
        ValueError: The data has fewer than two dimensions, or the shapes do not fit.
    """
    return _gather(data, indices, 1, bool(match_outer), False)


@operator("BatchGatherGradient")
def batch_gather_gradient(
    data: Array, indices: Array, dy: Array, *, axis: int = 1, match_outer: bool = False
) -> Array:
    """The gradient of the data: dY, added up where the indices point.

    Caffe2: BatchGatherGradient.
    """
    axis = which_axis(axis, data.shape)
    length, outer = data.shape[axis], data.shape[:axis]
    # Negative ones count from the end. As numbers of rows that are what is behind the axis.
    numbers = np.remainder(positions(indices, length, wrap=True), max(length, 1)).astype(np.int64)
    before = math.prod(outer)
    numbers = numbers.reshape(before if match_outer else 1, -1)
    numbers = numbers + np.arange(before).reshape(-1, 1) * length
    row = (before * length, math.prod(data.shape[axis + 1 :]))
    gradient = np.zeros(data.shape, dy.dtype)
    add_rows(gradient.reshape(row), numbers.reshape(-1), dy.reshape(numbers.size, row[1]))
    return gradient


def _ranges(starts: Array, lengths: Array) -> Array:
    """The numbers of all ranges, one range behind the other."""
    total = int(lengths.sum())
    shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return np.asarray(np.arange(total) + shift)


@operator("GatherRanges", outputs=2)
def gather_ranges(data: Array, ranges: Array) -> tuple[Array, Array]:
    """Parts of a vector, put together; and how long that is for each example.

    Caffe2: GatherRanges.

    The ranges are of shape (examples, ranges, 2): where each one starts, and its length.

    Raises:
        ValueError: The data is no vector, or the ranges have another shape.
        IndexError: A range lies outside of the data.
    """
    if ranges.dtype.kind not in "iu":
        raise TypeError(f"GatherRanges: the ranges must be integers, not {ranges.dtype}")
    if data.ndim != 1 or ranges.ndim != 3 or ranges.shape[2] != 2:
        raise ValueError(
            f"GatherRanges takes a vector and ranges of shape (examples, ranges, 2), not "
            f"{data.shape} and {ranges.shape}"
        )
    starts, lengths = ranges[..., 0].reshape(-1), ranges[..., 1].reshape(-1)
    wrong = (starts < 0) | (lengths < 0) | (starts + lengths > data.size)
    if wrong.any():
        at = int(wrong.argmax())
        raise IndexError(
            f"GatherRanges: {lengths[at]} elements from {starts[at]} on, of {data.size}"
        )
    chosen = np.take(data, _ranges(starts.astype(np.int64), lengths.astype(np.int64)))
    return chosen, np.add.reduce(ranges[..., 1], axis=1, dtype=ranges.dtype)


@operator("LengthsGather")
def lengths_gather(items: Array, lengths: Array, indices: Array) -> Array:
    """The segments of the items that the indices name, put together. Caffe2: LengthsGather.

    Raises:
        IndexError: There is no such segment.
        ValueError: The lengths do not add up to the number of items.
    """
    each = checked_lengths(lengths)
    if int(each.sum()) > math.prod(items.shape[:1]):
        raise ValueError(f"lengths add up to {each.sum()}, but the data is {items.shape}")
    chosen = positions(indices, each.size).reshape(-1)
    starts = np.cumsum(each) - each
    return np.take(items, _ranges(starts[chosen], each[chosen]), axis=0)


@operator("SparseToDense", gradient=[emit("Gather", "GO0 I0", "GI1", axis=0)])
def sparse_to_dense(indices: Array, values: Array, like: Array | None = None) -> Array:
    """Zeros, with the values added at the rows that the indices name. Caffe2: SparseToDense.

    It has as many rows as a third input, else just enough for the largest index.

    Raises:
        IndexError: An index is out of bounds.
        ValueError: There is not one index for each value.
    """
    numbers("SparseToDense", values)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"SparseToDense: the indices must be integers, not {indices.dtype}")
    if (
        indices.ndim != 1
        or values.shape[:1] != indices.shape
        or (like is not None and not like.ndim)
    ):
        raise ValueError(f"SparseToDense: indices {indices.shape} for values {values.shape}")
    rows = int(indices.max()) + 1 if indices.size else 0
    if like is not None:
        rows = like.shape[0]
    dense = np.zeros((rows, *values.shape[1:]), values.dtype)
    add_rows(dense, positions(indices, rows), values)
    return dense


def _columns(mask: Sequence[int], indices: Array) -> tuple[Array, Array]:
    """For every index: whether `mask` has it, and where."""
    wanted = np.array(integers(mask, "mask"), np.int64)
    order = np.argsort(wanted, kind="stable")
    ordered = wanted[order]
    if not wanted.size or ordered[0] < 0 or (ordered[1:] == ordered[:-1]).any():
        raise ValueError(
            f"mask lists the ids that get a column: at least one, each once, none of them "
            f"negative, not {wanted.tolist()}"
        )
    found = np.searchsorted(ordered, indices)
    column = order[np.minimum(found, wanted.size - 1)]
    return wanted[column] == indices, column


def _examples(lengths: Array | None, count: int) -> Array:
    """The number of the example that each value belongs to."""
    if lengths is None:
        return np.zeros(count, np.int64)
    each = checked_lengths(lengths, count)
    return np.repeat(np.arange(each.size), each)


def _dense_mask_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    symbols = "I0 GO0" if inputs < 4 else "I0 GO0 I3"
    return [emit("SparseToDenseMaskGradient", symbols, "GI1")]


@operator("SparseToDenseMask", outputs=(1, 2), gradient=_dense_mask_rules)
def sparse_to_dense_mask(
    indices: Array,
    values: Array,
    default: Array,
    lengths: Array | None = None,
    *,
    mask: Sequence[int] = REQUIRED,
    return_presence_mask: bool = False,
    max_skipped_indices: int = 50,
    context: Context,
) -> Any:
    """For each example, the values of chosen ids, in columns. Caffe2: SparseToDenseMask.

    An id that an example does not have gets the default value; ids that are not in `mask` are
    left out, and so are invalid ones: those that are negative, or the largest number of their
    type. Without lengths all is one example, and the result has no dimension for it. The second
    output says which values were there.

    Args:
        mask: The ids, in the order of the columns: at least one, none of them twice or negative.
        return_presence_mask: There is a second output.
        max_skipped_indices: There must be fewer examples with invalid ids than that, in all runs
            of the operator together; so with 0 there must be no example at all. A negative number
            is no limit.

    Raises:
        ValueError: The shapes do not fit, or the number of outputs; `mask` is none; or there are
            too many examples with invalid ids.
    """
    if values.shape[:1] != indices.shape or default.shape != values.shape[1:]:
        raise ValueError(
            f"SparseToDenseMask: indices {indices.shape}, values {values.shape} and the default "
            f"{default.shape} do not fit together"
        )
    if indices.dtype.kind not in "iu":
        raise TypeError(f"SparseToDenseMask: the ids must be integers, not {indices.dtype}")
    if len(context.outputs) != 1 + bool(return_presence_mask):
        raise ValueError("SparseToDenseMask has two outputs with return_presence_mask, else one")
    example = _examples(lengths, indices.size)
    found, column = _columns(mask, indices)
    rows = 1 if lengths is None else lengths.size
    invalid = (indices < 0) | (indices == np.iinfo(indices.dtype).max)
    skipped = context.state.get("skipped", 0) + len(set(example[invalid].tolist()))
    context.state["skipped"] = skipped
    if rows and 0 <= max_skipped_indices <= skipped:
        raise ValueError(
            f"SparseToDenseMask: {skipped} examples with invalid ids so far, such as "
            f"{indices[invalid][:3].tolist()} in this run, and with "
            f"max_skipped_indices={max_skipped_indices} there must be fewer than that"
        )
    present = np.zeros((rows, len(mask)), np.bool_)
    dense = np.empty((rows, len(mask), *default.shape), values.dtype)
    dense[...] = default
    dense[example[found], column[found]] = values[found]
    present[example[found], column[found]] = True
    if lengths is None:
        dense, present = dense[0], present[0]
    return (dense, present) if return_presence_mask else dense


@operator("SparseToDenseMaskGradient")
def sparse_to_dense_mask_gradient(
    indices: Array, dy: Array, lengths: Array | None = None, *, mask: Sequence[int] = REQUIRED
) -> Array:
    """The gradient of the values: dY where they went, 0 for those left out.

    Caffe2: SparseToDenseMaskGradient.
    """
    example = _examples(lengths, indices.size)
    found, column = _columns(mask, indices)
    rows = dy if lengths is not None else dy[np.newaxis]
    gradient = np.zeros((indices.size, *rows.shape[2:]), dy.dtype)
    gradient[found] = rows[example[found], column[found]]
    return gradient


def _columns_of(size: Array) -> int:
    columns = int(number(size, "the size"))
    if columns < 0:
        raise ValueError(f"the size must be from 0 up, not {columns}")
    return columns


@operator("OneHot", gradient=STOPS)
def one_hot(indices: Array, size: Array) -> Array:
    """A row for every index: 1 at its place, 0 elsewhere; float32. Caffe2: OneHot.

    The second input is the length of a row. An index that has no place in it makes a row of zeros.
    """
    columns = _columns_of(size)
    flat = indices.reshape(-1)
    there = np.flatnonzero((flat >= 0) & (flat < columns))
    made = np.zeros((flat.size, columns), np.float32)
    made.reshape(-1).put(there * columns + flat[there].astype(np.int64), 1)
    return made


@operator("SegmentOneHot", gradient=STOPS)
def segment_one_hot(lengths: Array, indices: Array, size: Array) -> Array:
    """A row for every segment: 1 at the indices it has, 0 elsewhere; float32.

    Caffe2: SegmentOneHot.

    Raises:
        IndexError: An index is out of bounds.
        ValueError: The lengths do not add up to the number of indices.
    """
    columns = _columns_of(size)
    result = np.zeros((lengths.size, columns), np.float32)
    result[_examples(lengths, indices.size), positions(indices, columns)] = 1
    return result


@operator("BatchOneHot", gradient=STOPS)
def batch_one_hot(data: Array, lengths: Array, values: Array) -> Array:
    """Every column of X as one column for each value it may have. Caffe2: BatchOneHot.

    The second input says how many values each column has, the third has them all. The result is
    1 where the column has the value, 0 elsewhere, in the data type of X.

    Raises:
        ValueError: X is no matrix, or the lengths do not fit it and the values.
    """
    fits = data.ndim == 2 and lengths.shape == data.shape[1:]
    if not fits or int(checked_lengths(lengths).sum()) != values.size:
        raise ValueError(
            f"BatchOneHot: X {data.shape}, lengths {lengths.tolist()} and {values.size} values "
            "do not fit together"
        )
    return np.asarray(np.repeat(data, lengths, axis=1) == values.reshape(-1), data.dtype)
