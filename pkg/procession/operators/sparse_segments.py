"""Segments of rows that are gathered from a table, as embeddings are, and then reduced.

Which rows belong together is told by lengths or by segment ids: see `lengths`. The gradient of the
table is one of some rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, numbers
from procession.operators.indexing import positions
from procession.operators.lengths import checked_lengths
from procession.operators.registry import Rule, Rules, emit, operator, sparse
from procession.operators.rows import reduce_segments
from procession.operators.segments import (
    count_rows,
    share,
    sorted_segment_mean,
    sorted_segment_sum,
    spread,
    unsorted_segment_mean,
    unsorted_segment_sum,
    weighed,
    weighed_type,
)


def _gathered(
    data: Array, indices: Array, lengths: Array, weights: Array | None, out: Array | None
) -> Array:
    """The sum of each segment's rows, gathered from the data, each times its weight."""
    if weights is not None:
        numbers("a reduction of segments", weights)
    each = checked_lengths(lengths, indices.size)
    chosen = positions(indices, count_rows(data)).reshape(-1)
    if weights is not None and weights.shape != chosen.shape:
        raise ValueError(f"weights {weights.shape} for {chosen.size} rows: one for each")
    # Halves are for tables to be small, not for sums.
    dtype = np.dtype(np.float32) if data.dtype == np.float16 else weighed_type(data, weights)
    read = (data,) if weights is None else (data, weights)
    taken = out is not None and any(np.may_share_memory(out, each) for each in read)
    if out is None or taken or not out.flags.c_contiguous:
        out = np.empty((each.size, *data.shape[1:]), dtype)
    column = None if weights is None else weights.astype(dtype, copy=False)
    reduce_segments(np.add, data, each, out, chosen, column)
    return out


def rows_of(data: Array, indices: Array) -> Array:
    """The rows that the indices name, one behind the other."""
    return np.take(data, positions(indices, count_rows(data)).reshape(-1), axis=0)


def _sparse_rules(gradient: str, inputs: str, indices: str) -> list[Rule]:
    """The gradient of the data: one row for each of `indices`, made by the operator `gradient`."""
    return [emit(gradient, inputs, "GI0_values"), sparse(indices, "GI0_values", "GI0")]


@operator(
    "SparseLengthsSum",
    gradient=_sparse_rules("SparseLengthsIndicesInGradientSumGradient", "GO0 I2 I1", "I1"),
)
def sparse_lengths_sum(
    data: Array, indices: Array, lengths: Array, *, out: Array | None = None
) -> Array:
    """Gather, then LengthsSum: the sums of chosen rows. Caffe2: SparseLengthsSum.

    The sums over a table of float16 are float32.

    Raises:
        IndexError: There is no such row.
        ValueError: The lengths do not add up to the number of indices.
    """
    return _gathered(data, indices, lengths, None, out)


@operator("SparseLengthsIndicesInGradientSumGradient")
def sparse_lengths_sum_gradient(dy: Array, lengths: Array, indices: Array) -> Array:
    """The gradients of the chosen rows: those of their segments.

    Caffe2: SparseLengthsIndicesInGradientSumGradient.
    """
    return spread(dy, lengths)


@operator(
    "SparseLengthsMean",
    gradient=_sparse_rules("SparseLengthsIndicesInGradientMeanGradient", "GO0 I2 I1", "I1"),
)
def sparse_lengths_mean(
    data: Array, indices: Array, lengths: Array, *, out: Array | None = None
) -> Array:
    """Gather, then LengthsMean: the averages of chosen rows. Caffe2: SparseLengthsMean.

    Errors as for SparseLengthsSum.

    Raises:
        TypeError: The data does not hold floating-point numbers.
    """
    floats("SparseLengthsMean", data)
    mean = _gathered(data, indices, lengths, None, out)
    mean *= share(lengths, mean)
    return mean


@operator("SparseLengthsIndicesInGradientMeanGradient")
def sparse_lengths_mean_gradient(dy: Array, lengths: Array, indices: Array) -> Array:
    """The gradients of the chosen rows: their shares of those of their segments.

    Caffe2: SparseLengthsIndicesInGradientMeanGradient.
    """
    return spread(dy * share(lengths, dy), lengths)


def _sparse_weighted_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if not arguments["grad_on_weights"]:
        name = "SparseLengthsIndicesInGradientWeightedSumGradient"
        return _sparse_rules(name, "I1 GO0 I3 I2", "I2")
    name = "SparseLengthsIndicesInGradientWeightedSumWithMainInputGradient"
    return [
        emit(name, "I1 GO0 I3 I0 I2", "GI0_values GI1"),
        sparse("I2", "GI0_values", "GI0"),
    ]


@operator("SparseLengthsWeightedSum", gradient=_sparse_weighted_rules)
def sparse_lengths_weighted_sum(
    data: Array,
    weights: Array,
    indices: Array,
    lengths: Array,
    *,
    grad_on_weights: bool = False,
    out: Array | None = None,
) -> Array:
    """Gather, then LengthsWeightedSum: the weighted sums of chosen rows.

    Caffe2: SparseLengthsWeightedSum. Errors as for SparseLengthsSum.

    Args:
        grad_on_weights: The weights have a gradient, too.
    """
    return _gathered(data, indices, lengths, weights, out)


@operator("SparseLengthsIndicesInGradientWeightedSumGradient")
def sparse_lengths_weighted_sum_gradient(
    weights: Array, dy: Array, lengths: Array, indices: Array
) -> Array:
    """The gradients of the chosen rows: those of their segments, times their weight.

    Caffe2: SparseLengthsIndicesInGradientWeightedSumGradient.
    """
    return weighed(spread(dy, lengths), weights)


@operator("SparseLengthsIndicesInGradientWeightedSumWithMainInputGradient", outputs=2)
def sparse_lengths_weighted_sum_with_main_input_gradient(
    weights: Array, dy: Array, lengths: Array, data: Array, indices: Array
) -> tuple[Array, Array]:
    """The gradients of the chosen rows and of the weights.

    Caffe2: SparseLengthsIndicesInGradientWeightedSumWithMainInputGradient.
    """
    slopes = spread(dy, lengths)
    count = slopes.shape[0]
    rows = rows_of(data, indices).reshape(count, -1)
    dweights = np.einsum("ij,ij->i", rows, slopes.reshape(rows.shape))
    return weighed(slopes, weights), np.asarray(dweights)


@operator(
    "SparseSortedSegmentSum", gradient=_sparse_rules("SortedSegmentSumGradient", "GO0 I2", "I1")
)
def sparse_sorted_segment_sum(data: Array, indices: Array, segment_ids: Array) -> Array:
    """Gather, then SortedSegmentSum. Caffe2: SparseSortedSegmentSum."""
    return sorted_segment_sum(rows_of(data, indices), segment_ids)


@operator(
    "SparseSortedSegmentMean", gradient=_sparse_rules("SortedSegmentMeanGradient", "GO0 I2", "I1")
)
def sparse_sorted_segment_mean(data: Array, indices: Array, segment_ids: Array) -> Array:
    """Gather, then SortedSegmentMean. Caffe2: SparseSortedSegmentMean."""
    return sorted_segment_mean(rows_of(data, indices), segment_ids)


@operator(
    "SparseUnsortedSegmentSum", gradient=_sparse_rules("UnsortedSegmentSumGradient", "GO0 I2", "I1")
)
def sparse_unsorted_segment_sum(
    data: Array, indices: Array, segment_ids: Array, *, num_segments: int = -1
) -> Array:
    """Gather, then UnsortedSegmentSum. Caffe2: SparseUnsortedSegmentSum."""
    return unsorted_segment_sum(rows_of(data, indices), segment_ids, num_segments=num_segments)


@operator(
    "SparseUnsortedSegmentMean",
    gradient=_sparse_rules("UnsortedSegmentMeanGradient", "GO0 I2", "I1"),
)
def sparse_unsorted_segment_mean(
    data: Array, indices: Array, segment_ids: Array, *, num_segments: int = -1
) -> Array:
    """Gather, then UnsortedSegmentMean. Caffe2: SparseUnsortedSegmentMean."""
    return unsorted_segment_mean(rows_of(data, indices), segment_ids, num_segments=num_segments)
