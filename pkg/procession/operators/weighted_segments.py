"""Segments of rows summed up, each row times its own weight."""

from __future__ import annotations

import numpy as np

from procession.operators.arrays import Array
from procession.operators.lengths import checked_lengths
from procession.operators.registry import emit, operator, sparse
from procession.operators.segments import (
    sorted_segment_sum,
    spread_ids,
    unsorted_segment_sum,
    weighed,
)
from procession.operators.sparse_segments import rows_of, sparse_lengths_weighted_sum


@operator(
    "SortedSegmentWeightedSum",
    gradient=[emit("SortedSegmentWeightedSumGradient", "I1 GO0 I2", "GI0")],
)
def sorted_segment_weighted_sum(data: Array, weights: Array, segment_ids: Array) -> Array:
    """SortedSegmentSum of the rows, each times its weight. Caffe2: SortedSegmentWeightedSum.

    Raises:
        ValueError: There is not one weight for each row, or the ids are not sorted without gaps.
    """
    return sorted_segment_sum(weighed(data, weights), segment_ids)


@operator("SortedSegmentWeightedSumGradient")
def sorted_segment_weighted_sum_gradient(weights: Array, dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: that of their segment, times their weight.

    Caffe2: SortedSegmentWeightedSumGradient.
    """
    return weighed(spread_ids(dy, segment_ids), weights)


@operator(
    "UnsortedSegmentWeightedSum",
    gradient=[emit("UnsortedSegmentWeightedSumGradient", "I1 GO0 I2", "GI0")],
)
def unsorted_segment_weighted_sum(
    data: Array, weights: Array, segment_ids: Array, *, num_segments: int = -1
) -> Array:
    """UnsortedSegmentSum of the rows, each times its weight. Caffe2: UnsortedSegmentWeightedSum.

    Args:
        num_segments: How many rows the result has; -1: just enough for the largest id.

    Raises:
        IndexError: An id is out of bounds.
        ValueError: There are not one weight and one id for each row.
    """
    return unsorted_segment_sum(weighed(data, weights), segment_ids, num_segments=num_segments)


@operator("UnsortedSegmentWeightedSumGradient")
def unsorted_segment_weighted_sum_gradient(weights: Array, dy: Array, segment_ids: Array) -> Array:
    """The gradient of the rows: that of their segment, times their weight.

    Caffe2: UnsortedSegmentWeightedSumGradient.
    """
    return weighed(spread_ids(dy, segment_ids), weights)


@operator(
    "SparseSortedSegmentWeightedSum",
    gradient=[
        emit("SortedSegmentWeightedSumGradient", "I1 GO0 I3", "GI0_values"),
        sparse("I2", "GI0_values", "GI0"),
    ],
)
def sparse_sorted_segment_weighted_sum(
    data: Array, weights: Array, indices: Array, segment_ids: Array
) -> Array:
    """Gather, then SortedSegmentWeightedSum. Caffe2: SparseSortedSegmentWeightedSum."""
    return sorted_segment_weighted_sum(rows_of(data, indices), weights, segment_ids)


@operator(
    "SparseUnsortedSegmentWeightedSum",
    gradient=[
        emit("UnsortedSegmentWeightedSumGradient", "I1 GO0 I3", "GI0_values"),
        sparse("I2", "GI0_values", "GI0"),
    ],
)
def sparse_unsorted_segment_weighted_sum(
    data: Array, weights: Array, indices: Array, segment_ids: Array, *, num_segments: int = -1
) -> Array:
    """Gather, then UnsortedSegmentWeightedSum. Caffe2: SparseUnsortedSegmentWeightedSum."""
    rows = rows_of(data, indices)
    return unsorted_segment_weighted_sum(rows, weights, segment_ids, num_segments=num_segments)


@operator("SparseLengthsPositionalWeightedSum")
def sparse_lengths_positional_weighted_sum(
    data: Array, weights: Array, indices: Array, lengths: Array
) -> Array:
    """Gather, and sum up segments: the first row of each times the first weight, and so on.

    Caffe2: SparseLengthsPositionalWeightedSum.

    Raises:
        IndexError: There is no such row.
        ValueError: The lengths do not add up to the number of indices, or a segment is longer
            than the weights.
    """
    each = checked_lengths(lengths, indices.size)
    if each.size and int(each.max()) > weights.size:
        raise ValueError(
            f"SparseLengthsPositionalWeightedSum: {weights.size} weights for a segment of "
            f"{each.max()} rows"
        )
    starts = np.cumsum(each) - each
    places = np.arange(indices.size) - np.repeat(starts, each)
    return sparse_lengths_weighted_sum(data, weights.reshape(-1)[places], indices, lengths)
