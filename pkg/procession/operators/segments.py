"""Segments reduced: sums, averages and maxima of rows that belong together.

Which rows do is told by lengths or by segment ids: see `lengths`. `sparse_segments` has the
operators that gather the rows first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats
from procession.operators.indexing import positions
from procession.operators.lengths import checked_lengths
from procession.operators.registry import Rules, emit, operator
from procession.operators.rows import add_rows


def sorted_ids(ids: Array, rows: int) -> Array:
    """The lengths of the segments that sorted ids without gaps tell."""
    if ids.shape != (rows,):
        raise ValueError(f"segment ids {ids.shape} for {rows} rows")
    if rows and (ids[0] != 0 or not np.isin(np.diff(ids), (0, 1)).all()):
        raise ValueError("segment ids must begin with 0, and be sorted without gaps")
    return np.bincount(ids) if rows else np.zeros(0, np.int64)


def reduced(reduce: np.ufunc, data: Array, lengths: Array, out: Array | None = None) -> Array:
    """One row for each segment; zeros for an empty one."""
    total = np.empty((lengths.size, *data.shape[1:]), data.dtype) if out is None else out
    if not total.size:
        return total
    if reduce is np.add and (even := _even(data, lengths)):
        _sum_even(data, even, np.ones((1, even), data.dtype), total)
        return total
    starts = np.cumsum(lengths) - lengths
    full = lengths > 0
    if full.all():
        return np.asarray(reduce.reduceat(data, starts, axis=0, dtype=data.dtype, out=total))
    total.fill(0)
    if full.any():
        total[full] = reduce.reduceat(data, starts[full], axis=0, dtype=data.dtype)
    return total


def _even(data: Array, lengths: Array) -> int:
    """The length of all segments, if it is one and the same and a product can sum them up."""
    if data.dtype.char not in "fd" or not lengths.size or not data.size:
        return 0
    first = int(lengths[0])
    return first if first and (lengths == first).all() else 0


def _sum_even(data: Array, length: int, weights: Array, out: Array) -> None:
    """The sums of segments of one length, as products with (segments or 1, length) weights."""
    cut = data.reshape(out.shape[0], length, math.prod(data.shape[1:]))
    np.matmul(weights[:, np.newaxis], cut, out=out.reshape(out.shape[0], 1, cut.shape[2]))


def share(counts: Array, like: Array) -> Array:
    """1 / count, shaped to scale rows; 1 for an empty segment."""
    scale = 1 / np.maximum(counts, 1).astype(like.dtype)
    return scale.astype(like.dtype).reshape((-1,) + (1,) * (like.ndim - 1))


def weighed(data: Array, weights: Array) -> Array:
    """Each row times its weight."""
    if weights.shape != data.shape[:1]:
        raise ValueError(f"weights {weights.shape} for data {data.shape}: one for each row")
    return data * weights.reshape((-1,) + (1,) * (data.ndim - 1))


@operator("SortedSegmentSum", gradient=[emit("SortedSegmentSumGradient", "GO0 I1", "GI0")])
def sorted_segment_sum(data: Array, segment_ids: Array) -> Array:
    """The sum of each segment's rows; the ids are sorted, without gaps.

    Caffe2: SortedSegmentSum.

    Raises:
        ValueError: The ids are not like that.
    """
    return reduced(np.add, data, sorted_ids(segment_ids, data.shape[0]))


@operator("SortedSegmentSumGradient")
def sorted_segment_sum_gradient(dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: that of their segment. Caffe2: SortedSegmentSumGradient."""
    return np.take(dy, segment_ids, axis=0)


@operator("SortedSegmentMean", gradient=[emit("SortedSegmentMeanGradient", "GO0 I1", "GI0")])
def sorted_segment_mean(data: Array, segment_ids: Array) -> Array:
    """The average of each segment's rows; the ids are sorted, without gaps.

    Caffe2: SortedSegmentMean.

    Raises:
        TypeError: The data does not hold floating-point numbers.
        ValueError: The ids are not like that.
    """
    floats("SortedSegmentMean", data)
    lengths = sorted_ids(segment_ids, data.shape[0])
    return reduced(np.add, data, lengths) * share(lengths, data)


@operator("SortedSegmentMeanGradient")
def sorted_segment_mean_gradient(dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: their share of that of their segment.

    Caffe2: SortedSegmentMeanGradient.
    """
    counts = np.bincount(segment_ids, minlength=dy.shape[0])
    return np.take(dy * share(counts, dy), segment_ids, axis=0)


def _unsorted(data: Array, ids: Array, num_segments: int) -> Array:
    if ids.shape != data.shape[:1]:
        raise ValueError(f"segment ids {ids.shape} for data {data.shape}: one for each row")
    count = num_segments
    if count < 0:
        count = int(ids.max()) + 1 if ids.size else 0
    result = np.zeros((count, *data.shape[1:]), data.dtype)
    add_rows(result, positions(ids, count), data)
    return result


@operator("UnsortedSegmentSum", gradient=[emit("UnsortedSegmentSumGradient", "GO0 I1", "GI0")])
def unsorted_segment_sum(data: Array, segment_ids: Array, *, num_segments: int = -1) -> Array:
    """The sum of each segment's rows, with ids in any order. Caffe2: UnsortedSegmentSum.

    Args:
        num_segments: How many rows the result has; -1: just enough for the largest id.

    Raises:
        IndexError: An id is out of bounds.
        ValueError: There is not one id for each row.
    """
    return _unsorted(data, segment_ids, num_segments)


@operator("UnsortedSegmentSumGradient")
def unsorted_segment_sum_gradient(dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: that of their segment. Caffe2: UnsortedSegmentSumGradient."""
    return np.take(dy, segment_ids, axis=0)


@operator("UnsortedSegmentMean", gradient=[emit("UnsortedSegmentMeanGradient", "GO0 I1", "GI0")])
def unsorted_segment_mean(data: Array, segment_ids: Array, *, num_segments: int = -1) -> Array:
    """The average of each segment's rows, with ids in any order; 0 where there is none.

    Caffe2: UnsortedSegmentMean. Argument and errors as for UnsortedSegmentSum.

    Raises:
        TypeError: The data does not hold floating-point numbers.
    """
    floats("UnsortedSegmentMean", data)
    total = _unsorted(data, segment_ids, num_segments)
    return total * share(np.bincount(segment_ids, minlength=total.shape[0]), data)


@operator("UnsortedSegmentMeanGradient")
def unsorted_segment_mean_gradient(dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: their share of that of their segment.

    Caffe2: UnsortedSegmentMeanGradient.
    """
    counts = np.bincount(segment_ids, minlength=dy.shape[0])
    return np.take(dy * share(counts, dy), segment_ids, axis=0)


@operator("LengthsSum", gradient=[emit("LengthsIndicesInGradientSumGradient", "GO0 I1 I0", "GI0")])
def lengths_sum(data: Array, lengths: Array) -> Array:
    """The sum of each segment's rows, told by lengths. Caffe2: LengthsSum.

    Raises:
        ValueError: The lengths do not add up to the number of rows.
    """
    return reduced(np.add, data, checked_lengths(lengths, data.shape[0]))


@operator("LengthsIndicesInGradientSumGradient")
def lengths_sum_gradient(dy: Array, lengths: Array, data: Array) -> Array:
    """The gradient of the rows: that of their segment.

    Caffe2: LengthsIndicesInGradientSumGradient.
    """
    return np.repeat(dy, lengths, axis=0)


@operator(
    "LengthsMean", gradient=[emit("LengthsIndicesInGradientMeanGradient", "GO0 I1 I0", "GI0")]
)
def lengths_mean(data: Array, lengths: Array) -> Array:
    """The average of each segment's rows, told by lengths; 0 for an empty one.

    Caffe2: LengthsMean.

    Raises:
        TypeError: The data does not hold floating-point numbers.
        ValueError: The lengths do not add up to the number of rows.
    """
    floats("LengthsMean", data)
    each = checked_lengths(lengths, data.shape[0])
    return reduced(np.add, data, each) * share(each, data)


@operator("LengthsIndicesInGradientMeanGradient")
def lengths_mean_gradient(dy: Array, lengths: Array, data: Array) -> Array:
    """The gradient of the rows: their share of that of their segment.

    Caffe2: LengthsIndicesInGradientMeanGradient.
    """
    return np.repeat(dy * share(lengths, dy), lengths, axis=0)


@operator(
    "LengthsMax",
    gradient=[emit("LengthsMaxWithMainInputAndForwardOutputGradient", "O0 GO0 I1 I0", "GI0")],
)
def lengths_max(data: Array, lengths: Array) -> Array:
    """The largest of each segment's rows, elementwise; 0 for an empty one. Caffe2: LengthsMax.

    Raises:
        ValueError: The lengths do not add up to the number of rows.
    """
    return reduced(np.maximum, data, checked_lengths(lengths, data.shape[0]))


@operator("LengthsMaxWithMainInputAndForwardOutputGradient")
def lengths_max_gradient(y: Array, dy: Array, lengths: Array, data: Array) -> Array:
    """The gradient of the rows: that of their segment where they are the largest, else 0.

    Caffe2: LengthsMaxWithMainInputAndForwardOutputGradient.
    """
    largest = data == np.repeat(y, lengths, axis=0)
    return np.asarray(np.repeat(dy, lengths, axis=0) * largest)


def _lengths_weighted_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    rules = [emit("LengthsWeightedSumGradient", "I1 GO0 I2", "GI0")]
    if arguments["grad_on_weights"]:
        rules.append(emit("LengthsWeightsGradient", "GO0 I0 I2", "GI1"))
    return rules


@operator("LengthsWeightedSum", gradient=_lengths_weighted_rules)
def lengths_weighted_sum(
    data: Array, weights: Array, lengths: Array, *, grad_on_weights: bool = False
) -> Array:
    """The sum of each segment's rows, each times its weight. Caffe2: LengthsWeightedSum.

    Args:
        grad_on_weights: The weights have a gradient, too.

    Raises:
        ValueError: The lengths do not add up to the number of rows, or there is not one weight
            for each.
    """
    return reduced(np.add, weighed(data, weights), checked_lengths(lengths, data.shape[0]))


@operator("LengthsWeightedSumGradient")
def lengths_weighted_sum_gradient(weights: Array, dy: Array, lengths: Array) -> Array:
    """The gradient of the rows: that of their segment, times their weight.

    Caffe2: LengthsWeightedSumGradient.
    """
    return weighed(np.repeat(dy, lengths, axis=0), weights)


@operator("LengthsWeightsGradient")
def lengths_weights_gradient(dy: Array, data: Array, lengths: Array) -> Array:
    """The gradient of the weights: that of their segment times their row, summed up."""
    product = np.repeat(dy, lengths, axis=0) * data
    return np.asarray(product.reshape(data.shape[0], -1).sum(axis=1, dtype=dy.dtype))


@operator("LengthsTile", gradient=[emit("LengthsSum", "GO0 I1", "GI0")])
def lengths_tile(data: Array, lengths: Array) -> Array:
    """Each row as often as its length says. Caffe2: LengthsTile.

    Raises:
        ValueError: There is not one length for each row.
    """
    each = checked_lengths(lengths)
    if each.shape != data.shape[:1]:
        raise ValueError(f"LengthsTile: {each.size} lengths for data {data.shape}")
    return np.repeat(data, each, axis=0)
