"""Segments reduced: sums, averages and maxima of rows that belong together.

Which rows do is told by lengths or by segment ids: see `lengths`. `sparse_segments` has the
operators that gather the rows first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, numbers, promote
from procession.operators.indexing import positions
from procession.operators.lengths import checked_lengths, leading
from procession.operators.registry import Rules, emit, operator
from procession.operators.rows import add_rows, reduce_segments


def count_rows(data: Array) -> int:
    """How many rows the data has.

    Raises:
        ValueError: It has none, as it has no dimensions.
        TypeError: It does not hold numbers.
    """
    numbers("a reduction of segments", data)
    return leading(data)


def sorted_ids(ids: Array, rows: int) -> Array:
    """The lengths of the segments that sorted ids without gaps tell."""
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"segment ids must be integers, not {ids.dtype}")
    if ids.shape != (rows,):
        raise ValueError(f"segment ids {ids.shape} for {rows} rows")
    steps = np.diff(ids)
    if rows and (ids[0] != 0 or ((steps != 0) & (steps != 1)).any()):
        raise ValueError("segment ids must begin with 0, and be sorted without gaps")
    return np.bincount(ids.astype(np.int64)) if rows else np.zeros(0, np.int64)


def reduced(reduce: np.ufunc, data: Array, lengths: Array, weights: Array | None = None) -> Array:
    """One row for each segment of rows, which may each have a weight; zeros for an empty one.

    Raises:
        ValueError: There is not one weight for each row.
    """
    if weights is not None:
        numbers("a reduction of segments", weights)
        if weights.shape != data.shape[:1]:
            raise ValueError(f"weights {weights.shape} for data {data.shape}: one for each row")
    dtype = weighed_type(data, weights)
    made = np.empty((lengths.size, *data.shape[1:]), dtype)
    column = None if weights is None else weights.astype(dtype, copy=False)
    reduce_segments(reduce, data, lengths, made, weights=column)
    return made


def weighed_type(data: Array, weights: Array | None) -> np.dtype[Any]:
    """That of the data; of whole numbers with weights that are none, that of the weights."""
    if weights is None or data.dtype.kind == "f":
        return data.dtype
    return promote(data, weights)[0].dtype


def share(counts: Array, like: Array) -> Array:
    """1 / count, shaped to scale rows; 1 for an empty segment."""
    scale = 1 / np.maximum(counts, 1).astype(like.dtype)
    return scale.astype(like.dtype).reshape((-1,) + (1,) * (like.ndim - 1))


def spread(dy: Array, lengths: Array) -> Array:
    """For each row of the segments that lengths tell, that of its segment."""
    each = checked_lengths(lengths)
    if each.shape != dy.shape[:1]:
        raise ValueError(f"dY is {dy.shape}, but there are {each.size} segments")
    return np.repeat(dy, each, axis=0)


def spread_ids(dy: Array, ids: Array) -> Array:
    """For each row of the segments that ids tell, that of its segment."""
    if not dy.ndim or ids.ndim != 1:
        raise ValueError(
            f"dY is {dy.shape} and the segment ids are {ids.shape}: rows, and a vector"
        )
    return np.take(dy, positions(ids, dy.shape[0]), axis=0)


def mean_share(dy: Array, ids: Array) -> Array:
    """What a row of each segment, told by ids, gets of the gradient of the segment's mean."""
    chosen = positions(ids, dy.shape[0]).astype(np.int64)
    return np.asarray(dy * share(np.bincount(chosen, minlength=dy.shape[0]), dy))


def weighed(data: Array, weights: Array) -> Array:
    """Each row times its weight."""
    if weights.shape != data.shape[:1]:
        raise ValueError(f"weights {weights.shape} for data {data.shape}: one for each row")
    numbers("a reduction of segments", data, weights)
    return data * weights.reshape((-1,) + (1,) * (data.ndim - 1))


@operator("SortedSegmentSum", gradient=[emit("SortedSegmentSumGradient", "GO0 I1", "GI0")])
def sorted_segment_sum(data: Array, segment_ids: Array) -> Array:
    """The sum of each segment's rows; the ids are sorted, without gaps.

    Caffe2: SortedSegmentSum.

    Raises:
        ValueError: The ids are not like that.
    """
    return reduced(np.add, data, sorted_ids(segment_ids, count_rows(data)))


@operator("SortedSegmentSumGradient")
def sorted_segment_sum_gradient(dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: that of their segment. Caffe2: SortedSegmentSumGradient."""
    return spread_ids(dy, segment_ids)


@operator("SortedSegmentMean", gradient=[emit("SortedSegmentMeanGradient", "GO0 I1", "GI0")])
def sorted_segment_mean(data: Array, segment_ids: Array) -> Array:
    """The average of each segment's rows; the ids are sorted, without gaps.

    Caffe2: SortedSegmentMean.

    Raises:
        TypeError: The data does not hold floating-point numbers.
        ValueError: The ids are not like that.
    """
    floats("SortedSegmentMean", data)
    lengths = sorted_ids(segment_ids, count_rows(data))
    return reduced(np.add, data, lengths) * share(lengths, data)


@operator("SortedSegmentMeanGradient")
def sorted_segment_mean_gradient(dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: their share of that of their segment.

    Caffe2: SortedSegmentMeanGradient.
    """
    return spread_ids(mean_share(dy, segment_ids), segment_ids)


def _unsorted(data: Array, ids: Array, num_segments: int) -> Array:
    if ids.shape != (count_rows(data),):
        raise ValueError(f"segment ids {ids.shape} for data {data.shape}: one for each row")
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"segment ids must be integers, not {ids.dtype}")
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
    return spread_ids(dy, segment_ids)


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
    return spread_ids(mean_share(dy, segment_ids), segment_ids)


@operator("LengthsSum", gradient=[emit("LengthsIndicesInGradientSumGradient", "GO0 I1 I0", "GI0")])
def lengths_sum(data: Array, lengths: Array) -> Array:
    """The sum of each segment's rows, told by lengths. Caffe2: LengthsSum.

    Raises:
        ValueError: The lengths do not add up to the number of rows.
    """
    return reduced(np.add, data, checked_lengths(lengths, count_rows(data)))


@operator("LengthsIndicesInGradientSumGradient")
def lengths_sum_gradient(dy: Array, lengths: Array, data: Array) -> Array:
    """The gradient of the rows: that of their segment.

    Caffe2: LengthsIndicesInGradientSumGradient.
    """
    return spread(dy, lengths)


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
    each = checked_lengths(lengths, count_rows(data))
    return reduced(np.add, data, each) * share(each, data)


@operator("LengthsIndicesInGradientMeanGradient")
def lengths_mean_gradient(dy: Array, lengths: Array, data: Array) -> Array:
    """The gradient of the rows: their share of that of their segment.

    Caffe2: LengthsIndicesInGradientMeanGradient.
    """
    return spread(dy * share(lengths, dy), lengths)


@operator(
    "LengthsMax",
    gradient=[emit("LengthsMaxWithMainInputAndForwardOutputGradient", "O0 GO0 I1 I0", "GI0")],
)
def lengths_max(data: Array, lengths: Array) -> Array:
    """The largest of each segment's rows, elementwise; 0 for an empty one. Caffe2: LengthsMax.

    Raises:
        ValueError: The lengths do not add up to the number of rows.
    """
    return reduced(np.maximum, data, checked_lengths(lengths, count_rows(data)))


@operator("LengthsMaxWithMainInputAndForwardOutputGradient")
def lengths_max_gradient(y: Array, dy: Array, lengths: Array, data: Array) -> Array:
    """The gradient of the rows: that of their segment where they are the largest, else 0.

    Caffe2: LengthsMaxWithMainInputAndForwardOutputGradient.
    """
    largest = data == spread(y, lengths)
    return np.asarray(spread(dy, lengths) * largest)


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
    return reduced(np.add, data, checked_lengths(lengths, count_rows(data)), weights)


@operator("LengthsWeightedSumGradient")
def lengths_weighted_sum_gradient(weights: Array, dy: Array, lengths: Array) -> Array:
    """The gradient of the rows: that of their segment, times their weight.

    Caffe2: LengthsWeightedSumGradient.
    """
    return weighed(spread(dy, lengths), weights)


@operator("LengthsWeightsGradient")
def lengths_weights_gradient(dy: Array, data: Array, lengths: Array) -> Array:
    """The gradient of the weights: that of their segment times their row, summed up."""
    product = spread(dy, lengths) * data
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
