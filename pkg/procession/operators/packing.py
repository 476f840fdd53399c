"""Segments laid out anew: packed into a batch, padded, or dealt out to several outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, numbers
from procession.operators.lengths import checked_lengths, leading
from procession.operators.registry import REQUIRED, STOPS, Context, Rules, emit, operator
from procession.operators.rows import set_rows


def _inside(lengths: Array, longest: int) -> Array:
    """(segments, longest): whether a segment has a row there."""
    return np.asarray(np.arange(longest) < lengths[:, np.newaxis])


def _kept(lengths: Array, longest: int) -> Array:
    """For every row of all segments: whether it is among the first `longest` of its segment."""
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(np.arange(starts.size) - starts < longest)


@operator("PackSegments", outputs=(1, 2), gradient=[emit("PackSegmentsGradient", "I0 GO0", "GI1")])
def pack_segments(
    lengths: Array,
    data: Array,
    *,
    max_length: int = -1,
    pad_minf: bool = False,
    return_presence_mask: bool = False,
    context: Context,
) -> Any:
    """The segments side by side, all of one length. Caffe2: PackSegments.

    The result is of shape (segments, length, ...), padded with zeros (strings: with empty
    ones). The second output, of shape (segments, length), says what is not padding.

    Args:
        max_length: The length of all; longer segments are cut. By default that of the longest.
        pad_minf: Pad with minus infinity.
        return_presence_mask: There is a second output.

    Raises:
        ValueError: The lengths do not add up to the number of rows, or the number of outputs does
            not fit `return_presence_mask`.
    """
    if len(context.outputs) != 1 + bool(return_presence_mask):
        raise ValueError("PackSegments has two outputs with return_presence_mask, else one")
    each = checked_lengths(lengths, leading(data))
    longest = int(each.max(initial=0)) if max_length < 0 else max_length
    inside = _inside(each, longest)
    padding: Any = -np.inf if pad_minf else "" if data.dtype.kind == "O" else 0
    packed = np.full((each.size, longest, *data.shape[1:]), padding, data.dtype)
    if each.max(initial=0) > longest:
        data = data.take(np.flatnonzero(_kept(each, longest)), axis=0)
    set_rows(packed.reshape(inside.size, *data.shape[1:]), np.flatnonzero(inside), data)
    return (packed, inside) if return_presence_mask else packed


@operator("PackSegmentsGradient")
def pack_segments_gradient(lengths: Array, dy: Array) -> Array:
    """The gradient of the data: that of the packed segments, 0 for what was cut off."""
    each = checked_lengths(lengths)
    rows = _unpacked(dy, each)
    kept = _kept(each, dy.shape[1])
    if len(rows) == kept.size:
        return rows
    gradient = np.zeros((kept.size, *dy.shape[2:]), dy.dtype)
    set_rows(gradient, np.flatnonzero(kept), rows)
    return gradient


def _unpacked(packed: Array, lengths: Array) -> Array:
    """The rows that are no padding."""
    inside = _inside(lengths, packed.shape[1])
    rows = packed.reshape(inside.size, *packed.shape[2:])
    return np.take(rows, np.flatnonzero(inside), axis=0)


@operator("UnpackSegments", gradient=[emit("UnpackSegmentsGradient", "I0 GO0 I1", "GI1")])
def unpack_segments(lengths: Array, packed: Array, *, max_length: int = -1) -> Array:
    """The segments one behind the other, without padding: PackSegments undone.

    Caffe2: UnpackSegments. What was cut off stays so.

    Args:
        max_length: The length that the packed segments have, if it is to be checked.

    Raises:
        ValueError: The lengths do not fit the packed segments.
    """
    each = checked_lengths(lengths)
    if packed.ndim < 2 or packed.shape[0] != each.size:
        raise ValueError(f"UnpackSegments: {each.size} lengths for packed data {packed.shape}")
    longest = packed.shape[1]
    if max_length >= 0 and max_length != longest:
        raise ValueError(f"UnpackSegments: max_length={max_length}, the data is {packed.shape}")
    if max_length < 0 and each.max(initial=0) > longest:
        raise ValueError(f"UnpackSegments: a length of {each.max()}, the data is {packed.shape}")
    return _unpacked(packed, each)


@operator("UnpackSegmentsGradient")
def unpack_segments_gradient(lengths: Array, dy: Array, packed: Array) -> Array:
    """The gradient of the packed segments: that of the data, 0 for the padding."""
    inside = np.flatnonzero(_inside(checked_lengths(lengths), packed.shape[1]))
    if dy.shape[:1] != inside.shape:
        raise ValueError(f"UnpackSegmentsGradient: dY is {dy.shape}, for {inside.size} rows")
    gradient = np.zeros(packed.shape, dy.dtype)
    rows = gradient.reshape(packed.shape[0] * packed.shape[1], *packed.shape[2:])
    set_rows(rows, inside, dy)
    return gradient


@operator("LengthsPad", gradient=STOPS)
def lengths_pad(
    data: Array, lengths: Array, *, padding_value: float = 0, target_length: int = REQUIRED
) -> Array:
    """The segments one behind the other, each padded to one length. Caffe2: LengthsPad.

    Args:
        padding_value: What to pad with.
        target_length: The length of all.

    Raises:
        ValueError: A segment is longer, or the lengths do not add up to the number of rows.
    """
    each = checked_lengths(lengths, leading(data))
    if each.max(initial=0) > target_length:
        raise ValueError(f"LengthsPad: a length of {each.max()}, target_length={target_length}")
    padded = np.full((each.size, target_length, *data.shape[1:]), padding_value, data.dtype)
    padded[_inside(each, target_length)] = data
    return padded.reshape((-1, *data.shape[1:]))


def _segments(data: Array, lengths: Array | None) -> Array:
    rows = leading(data)
    return checked_lengths(np.array([rows]) if lengths is None else lengths, rows)


def _row(padding: Array, data: Array) -> Array:
    if padding.size != math.prod(data.shape[1:]) or not np.can_cast(
        padding.dtype, data.dtype, "same_kind"
    ):
        raise ValueError(
            f"AddPadding: the padding is {padding.dtype} of shape {padding.shape}, a row of the "
            f"data is {data.dtype} of shape {data.shape[1:]}"
        )
    return padding.reshape(data.shape[1:])


def _edges(before: int, after: int) -> tuple[int, int]:
    after = before if after < 0 else after
    if before < 0:
        raise ValueError(f"padding_width={before} is negative")
    return before, after


def _framed(lengths: Array, before: int, after: int) -> tuple[Array, Array]:
    """Of padded segments: their lengths, and which rows are not padding."""
    padded = lengths + before + after
    starts = np.repeat(np.cumsum(padded) - padded, padded)
    place = np.arange(starts.size) - starts
    return padded, (place >= before) & (place < before + np.repeat(lengths, padded))


def _pad_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    lengths = " I1" if inputs > 1 else ""
    rules = [emit("AddPaddingGradient", f"GO0{lengths}", "GI0")]
    if inputs > 2:
        sums = "GI2" if inputs == 3 else "GI2 GI3"
        rules.append(emit("GatherPadding", "GO0 O1", sums))
    return rules


@operator("AddPadding", outputs=(1, 2), gradient=_pad_rules)
def add_padding(
    data: Array,
    lengths: Array | None = None,
    start_padding: Array | None = None,
    end_padding: Array | None = None,
    *,
    padding_width: int = 1,
    end_padding_width: int = -1,
    context: Context,
) -> Any:
    """Every segment with rows of padding before and behind it. Caffe2: AddPadding.

    Without lengths all rows are one segment. The third input is a row to pad with (zeros by
    default), the fourth one for the end. The second output has the new lengths.

    Args:
        padding_width: How many rows before each segment.
        end_padding_width: How many behind it; -1: as many.

    Raises:
        ValueError: The lengths do not add up to the number of rows, a width is negative, or the
            padding is no row.
    """
    before, after = _edges(padding_width, end_padding_width)
    each = _segments(data, lengths)
    padded, inside = _framed(each, before, after)
    result = np.zeros((inside.size, *data.shape[1:]), data.dtype)
    if start_padding is not None:
        result[~inside] = _row(start_padding, data)
    if end_padding is not None and after:
        ends = np.repeat(np.cumsum(padded), padded)
        result[np.arange(inside.size) >= ends - after] = _row(end_padding, data)
    result[inside] = data
    if len(context.outputs) == 1:
        return result
    return result, padded.astype(np.int32 if lengths is None else lengths.dtype)


@operator("AddPaddingGradient")
def add_padding_gradient(
    dy: Array,
    lengths: Array | None = None,
    *,
    padding_width: int = 1,
    end_padding_width: int = -1,
) -> Array:
    """The gradient of the data: that of the rows which are not padding."""
    before, after = _edges(padding_width, end_padding_width)
    if lengths is None:
        return np.array(dy[before : dy.shape[0] - after])
    _, inside = _framed(checked_lengths(lengths), before, after)
    return np.asarray(dy[inside])


def _remove_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [emit("RemovePaddingGradient", "GO0" if inputs == 1 else "GO0 I1", "GI0")]


@operator("RemovePadding", outputs=(1, 2), gradient=_remove_rules)
def remove_padding(
    data: Array,
    lengths: Array | None = None,
    *,
    padding_width: int = 1,
    end_padding_width: int = -1,
    context: Context,
) -> Any:
    """Every segment without its first and last rows: AddPadding undone. Caffe2: RemovePadding.

    Args:
        padding_width: How many rows to remove before each segment.
        end_padding_width: How many behind it; -1: as many.

    Raises:
        ValueError: A segment is shorter than that, or the lengths do not add up to the number of
            rows.
    """
    before, after = _edges(padding_width, end_padding_width)
    each = _segments(data, lengths) - before - after
    if each.size and each.min() < 0:
        raise ValueError(f"RemovePadding: a segment has less than {before + after} rows")
    _, inside = _framed(each, before, after)
    result = np.asarray(data[inside])
    if len(context.outputs) == 1:
        return result
    return result, each.astype(np.int32 if lengths is None else lengths.dtype)


@operator("RemovePaddingGradient")
def remove_padding_gradient(
    dy: Array,
    lengths: Array | None = None,
    *,
    padding_width: int = 1,
    end_padding_width: int = -1,
) -> Array:
    """The gradient of the data: zeros where the padding was."""
    before, after = _edges(padding_width, end_padding_width)
    each = np.array([dy.shape[0]]) if lengths is None else checked_lengths(lengths) - before - after
    _, inside = _framed(each, before, after)
    gradient = np.zeros((inside.size, *dy.shape[1:]), dy.dtype)
    gradient[inside] = dy
    return gradient


@operator("GatherPadding", outputs=(1, 2))
def gather_padding(
    data: Array,
    lengths: Array,
    *,
    padding_width: int = 1,
    end_padding_width: int = -1,
    context: Context,
) -> Any:
    """The sum of all rows of padding; with two outputs, of those before and those behind.

    Caffe2: GatherPadding. Arguments as for RemovePadding.

    Raises:
        ValueError: A segment is shorter than its padding, or the lengths do not add up to the
            number of rows.
    """
    before, after = _edges(padding_width, end_padding_width)
    numbers("GatherPadding", data)
    each = checked_lengths(lengths, leading(data))
    if each.size and each.min() < before + after:
        raise ValueError(f"GatherPadding: a segment has less than {before + after} rows")
    ends = np.repeat(np.cumsum(each), each)
    place = np.arange(data.shape[0]) - (ends - np.repeat(each, each))
    first = data[place < before].sum(axis=0, dtype=data.dtype)
    last = data[np.arange(data.shape[0]) >= ends - after].sum(axis=0, dtype=data.dtype)
    if len(context.outputs) == 1:
        return np.asarray(first + last)
    return np.asarray(first), np.asarray(last)


@operator("PadEmptySamples", outputs=(1, None))
def pad_empty_samples(lengths: Array, *features: Array) -> Any:
    """Segments of length 0 made 1 long, with a row of zeros. Caffe2: PadEmptySamples.

    The outputs are the new lengths and every feature, of which all have the same lengths.

    Raises:
        ValueError: The lengths do not add up to the number of rows of a feature.
    """
    each = checked_lengths(lengths)
    longer = np.maximum(each, 1)
    inside = np.repeat(each > 0, longer)
    results = []
    for feature in features:
        checked_lengths(lengths, leading(feature))
        padded = np.zeros((inside.size, *feature.shape[1:]), feature.dtype)
        padded[inside] = feature
        results.append(padded)
    return (longer.astype(lengths.dtype), *results)


def _shard(main: Array, parts: int) -> tuple[Array, Array]:
    """Which output each number goes to, and what is left of it there."""
    if main.dtype.kind not in "iu":
        raise TypeError(f"Partition: the first input must be integers, not {main.dtype}")
    which = np.mod(main, parts)
    return which, (main - which) // parts


def _parts(outputs: int, inputs: int) -> int:
    if not outputs or outputs % inputs:
        raise ValueError(f"{outputs} outputs for {inputs} inputs: a multiple is needed")
    return outputs // inputs


def _dealt(
    main: Array, others: tuple[Array, ...], parts: int, pack_first_input: bool
) -> list[list[Array]]:
    which, packed = _shard(main, parts)
    for index, each in enumerate(others, 1):
        if each.shape[: main.ndim] != main.shape:
            raise ValueError(f"input {index} is {each.shape}, and must begin with {main.shape}")
    everything = (packed if pack_first_input else main, *others)
    return [[np.asarray(each[which == part]) for each in everything] for part in range(parts)]


@operator("Partition", outputs=(1, None), gradient=STOPS)
def partition(
    first: Array, *others: Array, pack_first_input: bool = False, context: Context
) -> tuple[Array, ...]:
    """Everything dealt out to n parts by the first input modulo n. Caffe2: Partition.

    The outputs are those of the first part, one for each input, then those of the next one.

    Args:
        pack_first_input: Put out the first input divided by n, instead of itself.

    Raises:
        ValueError: The number of outputs is no multiple of that of inputs, or an input does not
            begin with the shape of the first.
    """
    parts = _parts(len(context.outputs), 1 + len(others))
    dealt = _dealt(first, others, parts, bool(pack_first_input))
    return tuple(each for part in dealt for each in part)


@operator("LengthsPartition", outputs=(1, None), gradient=STOPS)
def lengths_partition(
    lengths: Array, first: Array, *others: Array, pack_first_input: bool = False, context: Context
) -> tuple[Array, ...]:
    """Partition of the second input and those behind it, in segments. Caffe2: LengthsPartition.

    The first output of every part has the lengths which the segments have there.

    Args:
        pack_first_input: Put out the second input divided by n, instead of itself.

    Raises:
        ValueError: The numbers of inputs, outputs and rows do not fit.
    """
    if first.ndim != 1:
        raise ValueError(f"LengthsPartition: the second input is {first.shape}, not a vector")
    each = checked_lengths(lengths, first.size)
    parts = _parts(len(context.outputs), 2 + len(others))
    dealt = _dealt(first, others, parts, bool(pack_first_input))
    which, _ = _shard(first, parts)
    segment = np.repeat(np.arange(each.size), each)
    results: list[Array] = []
    for part, pieces in enumerate(dealt):
        own = np.bincount(segment[which == part], minlength=each.size)
        results += [own.astype(lengths.dtype), *pieces]
    return tuple(results)
