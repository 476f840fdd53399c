"""Segments, rows that belong together: one way of telling which turned into another.

Lengths are a vector with the number of rows of each segment, one segment behind the other; 0 is
a length, too. Segment ids are a vector with the number of the segment of each row.
"""

from __future__ import annotations

import numpy as np

from procession.operators.arrays import Array
from procession.operators.registry import STOPS, operator


def checked_lengths(lengths: Array, rows: int | None = None) -> Array:
    """Lengths as int64.

    Raises:
        TypeError: They are no integers.
        ValueError: They are no vector, one is negative, or they do not add up to `rows`.
    """
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, not {lengths.dtype}")
    if lengths.ndim != 1 or (lengths.size and lengths.min() < 0):
        raise ValueError(f"lengths must be a vector of numbers from 0 up, not {lengths.tolist()}")
    if rows is not None and int(lengths.sum()) != rows:
        raise ValueError(f"lengths add up to {lengths.sum()}, but there are {rows} rows")
    return lengths.astype(np.int64)


def leading(data: Array) -> int:
    """How many rows the data has, as long as its first dimension is.

    Raises:
        ValueError: It has no dimensions.
    """
    if not data.ndim:
        raise ValueError("the data has no rows, it is of shape ()")
    return int(data.shape[0])


def _pair(starts: Array, lengths: Array) -> Array:
    return np.stack([starts, lengths], axis=1).astype(np.int32)


@operator("LengthsToRanges")
def lengths_to_ranges(lengths: Array) -> Array:
    """A row (where it starts, its length) for each segment, int32. Caffe2: LengthsToRanges."""
    each = checked_lengths(lengths)
    return _pair(np.cumsum(each) - each, each)


@operator("LengthsToOffsets")
def lengths_to_offsets(lengths: Array, *, include_last_offset: bool = False) -> Array:
    """Where each segment starts, int32. Caffe2: LengthsToOffsets.

    Args:
        include_last_offset: And where the last one ends.
    """
    each = checked_lengths(lengths)
    ends = np.concatenate([[0], np.cumsum(each)]).astype(np.int32)
    return ends if include_last_offset else ends[:-1]


@operator("LengthsToSegmentIds")
def lengths_to_segment_ids(lengths: Array) -> Array:
    """The number of its segment for each row, int32. Caffe2: LengthsToSegmentIds."""
    each = checked_lengths(lengths)
    return np.repeat(np.arange(each.size, dtype=np.int32), each)


@operator("LengthsToShape")
def lengths_to_shape(lengths: Array) -> Array:
    """The shape (segments, length) that equal lengths make, int32. Caffe2: LengthsToShape.

    Raises:
        ValueError: The lengths are not all the same, or there is none.
    """
    each = checked_lengths(lengths)
    if not each.size or (each != each[0]).any():
        raise ValueError(f"LengthsToShape: the lengths {each.tolist()} are not all the same")
    return np.array([each.size, each[0]], np.int32)


@operator("LengthsToWeights")
def lengths_to_weights(lengths: Array, *, power: float = 0.5) -> Array:
    """For each row, 1 over the length of its segment to the power of `power`; float32.

    Caffe2: LengthsToWeights.
    """
    each = checked_lengths(lengths)
    weights = np.maximum(each, 1).astype(np.float64) ** -power
    return np.repeat(weights, each).astype(np.float32)


@operator("LengthsRangeFill", gradient=STOPS)
def lengths_range_fill(lengths: Array) -> Array:
    """Every row's number within its segment, from 0 on, int32. Caffe2: LengthsRangeFill."""
    each = checked_lengths(lengths)
    starts = np.repeat(np.cumsum(each) - each, each)
    return np.asarray(np.arange(starts.size) - starts, np.int32)


def _counted(ids: Array, data: Array | None) -> Array:
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"segment ids must be integers, not {ids.dtype}")
    ids = ids.astype(np.int64)
    if ids.ndim != 1 or (np.diff(ids) < 0).any() or (ids.size and ids[0] < 0):
        raise ValueError("segment ids must be a sorted vector of numbers from 0 up")
    least = int(ids[-1]) + 1 if ids.size else 0
    if data is None:
        return np.bincount(ids, minlength=least) if ids.size else np.zeros(0, np.int64)
    if least > leading(data):
        raise ValueError(f"there are {least} segments, more than the {data.shape[0]} rows of X")
    return np.bincount(ids.astype(np.int64), minlength=data.shape[0])


@operator("SegmentIdsToLengths")
def segment_ids_to_lengths(segment_ids: Array, data: Array | None = None) -> Array:
    """The length of each segment, int32, from sorted ids. Caffe2: SegmentIdsToLengths.

    There are as many segments as a second input has rows, else as many as the last id says.

    Raises:
        ValueError: The ids are not sorted, or too large.
    """
    return _counted(segment_ids, data).astype(np.int32)


@operator("SegmentIdsToRanges")
def segment_ids_to_ranges(segment_ids: Array, data: Array | None = None) -> Array:
    """A row (where it starts, its length) for each segment, int32, from sorted ids.

    Caffe2: SegmentIdsToRanges. Inputs and errors as for SegmentIdsToLengths.
    """
    each = _counted(segment_ids, data)
    starts = np.cumsum(each) - each
    # Segments behind the last id are (0, 0), as Caffe2 has them.
    starts[int(segment_ids[-1]) + 1 if segment_ids.size else 0 :] = 0
    return _pair(starts, each)
