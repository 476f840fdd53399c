"""Segments of rows with sorted ids: sums, means and maxima, also on a logarithmic scale."""

from __future__ import annotations

import numpy as np

from procession.operators.arrays import Array, floats
from procession.operators.registry import emit, operator
from procession.operators.segments import (
    count_rows,
    mean_share,
    reduced,
    share,
    sorted_ids,
    spread_ids,
)


@operator(
    "SortedSegmentRangeSum",
    gradient=[emit("SortedSegmentRangeSumGradient", "I0 O0 GO0 I1", "GI0")],
)
def sorted_segment_range_sum(data: Array, segment_ids: Array) -> Array:
    """The sum of each segment's rows; the ids are sorted, without gaps.

    Caffe2: SortedSegmentRangeSum.

    Raises:
        ValueError: The ids are not like that.
    """
    return reduced(np.add, data, sorted_ids(segment_ids, count_rows(data)))


@operator("SortedSegmentRangeSumGradient")
def sorted_segment_range_sum_gradient(
    data: Array, y: Array, dy: Array, segment_ids: Array
) -> Array:
    """The gradient of the rows: that of their segment. Caffe2: SortedSegmentRangeSumGradient."""
    return spread_ids(dy, segment_ids)


@operator(
    "SortedSegmentRangeMean",
    gradient=[emit("SortedSegmentRangeMeanGradient", "I0 O0 GO0 I1", "GI0")],
)
def sorted_segment_range_mean(data: Array, segment_ids: Array) -> Array:
    """The average of each segment's rows; the ids are sorted, without gaps.

    Caffe2: SortedSegmentRangeMean.

    Raises:
        TypeError: The data does not hold floating-point numbers.
        ValueError: The ids are not like that.
    """
    floats("SortedSegmentRangeMean", data)
    lengths = sorted_ids(segment_ids, count_rows(data))
    return reduced(np.add, data, lengths) * share(lengths, data)


@operator("SortedSegmentRangeMeanGradient")
def sorted_segment_range_mean_gradient(
    data: Array, y: Array, dy: Array, segment_ids: Array
) -> Array:
    """The gradient of the rows: their share of that of their segment.

    Caffe2: SortedSegmentRangeMeanGradient.
    """
    return spread_ids(mean_share(dy, segment_ids), segment_ids)


@operator(
    "SortedSegmentRangeMax",
    gradient=[emit("SortedSegmentRangeMaxGradient", "I0 O0 GO0 I1", "GI0")],
)
def sorted_segment_range_max(data: Array, segment_ids: Array) -> Array:
    """The largest of each segment's rows, elementwise; the ids are sorted, without gaps.

    Caffe2: SortedSegmentRangeMax.

    Raises:
        ValueError: The ids are not like that.
    """
    return reduced(np.maximum, data, sorted_ids(segment_ids, count_rows(data)))


@operator("SortedSegmentRangeMaxGradient")
def sorted_segment_range_max_gradient(
    data: Array, y: Array, dy: Array, segment_ids: Array
) -> Array:
    """The gradient of the rows: that of their segment where they are the largest, else 0.

    Caffe2: SortedSegmentRangeMaxGradient.
    """
    largest = data == spread_ids(y, segment_ids)
    return np.asarray(spread_ids(dy, segment_ids) * largest)


def _log_sums(operator: str, data: Array, segment_ids: Array) -> tuple[Array, Array]:
    """The logarithm of the sum of exponentials of each segment, and how long it is."""
    floats(operator, data)
    lengths = sorted_ids(segment_ids, count_rows(data))
    largest = reduced(np.maximum, data, lengths)
    powers = np.exp(data - np.take(largest, segment_ids, axis=0))
    return np.log(reduced(np.add, powers, lengths)) + largest, lengths


@operator(
    "SortedSegmentRangeLogSumExp",
    gradient=[emit("SortedSegmentRangeLogSumExpGradient", "I0 O0 GO0 I1", "GI0")],
)
def sorted_segment_range_log_sum_exp(data: Array, segment_ids: Array) -> Array:
    """log(the sum of exp(row)) of each segment; the ids are sorted, without gaps.

    Caffe2: SortedSegmentRangeLogSumExp.

    Raises:
        TypeError: The data does not hold floating-point numbers.
        ValueError: The ids are not like that.
    """
    return _log_sums("SortedSegmentRangeLogSumExp", data, segment_ids)[0]


@operator("SortedSegmentRangeLogSumExpGradient")
def sorted_segment_range_log_sum_exp_gradient(
    data: Array, y: Array, dy: Array, segment_ids: Array
) -> Array:
    """The gradient of the rows: that of their segment, times exp(row - Y).

    Caffe2: SortedSegmentRangeLogSumExpGradient.
    """
    part = np.exp(data - spread_ids(y, segment_ids))
    return np.asarray(part * spread_ids(dy, segment_ids))


@operator(
    "SortedSegmentRangeLogMeanExp",
    gradient=[emit("SortedSegmentRangeLogMeanExpGradient", "I0 O0 GO0 I1", "GI0")],
)
def sorted_segment_range_log_mean_exp(data: Array, segment_ids: Array) -> Array:
    """log(the average of exp(row)) of each segment; the ids are sorted, without gaps.

    Caffe2: SortedSegmentRangeLogMeanExp.

    Raises:
        TypeError: The data does not hold floating-point numbers.
        ValueError: The ids are not like that.
    """
    sums, lengths = _log_sums("SortedSegmentRangeLogMeanExp", data, segment_ids)
    return np.asarray(sums + np.log(share(lengths, data)))


@operator("SortedSegmentRangeLogMeanExpGradient")
def sorted_segment_range_log_mean_exp_gradient(
    data: Array, y: Array, dy: Array, segment_ids: Array
) -> Array:
    """The gradient of the rows: that of their segment, times exp(row - Y) / its length.

    Caffe2: SortedSegmentRangeLogMeanExpGradient.
    """
    part = np.exp(data - spread_ids(y, segment_ids))
    return np.asarray(part * spread_ids(mean_share(dy, segment_ids), segment_ids))
