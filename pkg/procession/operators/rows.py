"""Rows of a tensor by their number: put in order, reduced by segments, changed.

NumPy is fast where it moves whole rows (`take`, `put`) and where it adds up large tensors, and slow
where it is told of segments. So what belongs to many short segments is done in rounds: the first
rows of all of them, then the second ones, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from procession.operators.arrays import Array

PIECE = 64 * 1024
"""About how many elements are summed up at a time: they stay in the cache."""

ROUND = 3000
"""How many elements `reduceat` gets done with in the time that a round takes at least."""


def in_order(indices: Array, below: int | None = None) -> tuple[Array, Array]:
    """Indices from 0 up in ascending order, and the places where they were, as int64.

    Of equal ones the first comes first.

    Args:
        indices: A vector.
        below: What all of them are less than, if that is known.
    """
    bits = indices.size.bit_length()
    if indices.size and (int(indices.max()) if below is None else below) >> (62 - bits):
        places = np.argsort(indices, kind="stable")
        return indices[places].astype(np.int64), places
    # An index and its place as one number: to sort those takes a tenth of a stable argsort.
    keys = np.left_shift(indices, bits, dtype=np.int64, casting="unsafe")
    keys |= np.arange(indices.size)
    keys.sort()
    return keys >> bits, keys & ((1 << bits) - 1)


def runs(ordered: Array) -> tuple[Array, Array]:
    """Where each run of equal numbers starts, and how long it is."""
    new = np.empty(ordered.size, np.bool_)
    new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    starts = new.nonzero()[0]
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = ordered.size - starts[-1:]
    return starts, lengths


@lru_cache(maxsize=64)
def _item(width: int) -> np.dtype[Any]:
    return np.dtype((np.void, width))


def put_rows(target: Array, indices: Array, rows: Array) -> None:
    """Replace rows of a matrix; both matrices are C-contiguous and have something in each row."""
    if target.shape[1] > 1:
        # A row as one opaque item: that is put in its place at once.
        item = _item(target.shape[1] * target.itemsize)
        target, rows = target.view(item), rows.view(item)
    target.reshape(-1).put(indices, rows.reshape(-1), "clip")


def set_rows(target: Array, indices: Array, rows: Array) -> None:
    """Replace rows of a C-contiguous tensor of any kind; the indices are not checked."""
    width = math.prod(target.shape[1:])
    if width and not target.dtype.hasobject:
        matrix = np.ascontiguousarray(rows, target.dtype).reshape(indices.size, width)
        put_rows(target.reshape(target.shape[0], width), indices, matrix)
    else:
        target[indices] = rows


def rounds(counts: Array, alone: float = 2) -> list[int]:
    """How many take part in each round, given in descending order in how many each of them does.

    There are as many rounds as are worth it: to see to one by itself, for all of the rounds that
    are left, takes the time of `alone` rounds.
    """
    longest = int(counts[0])
    if longest == 1:
        return [counts.size]
    number = np.arange(longest + 1)
    going = counts.size - np.searchsorted(counts[::-1], number, side="right")
    best = longest if alone == math.inf else int(np.argmin(number + alone * going))
    made: list[int] = going[:best].tolist()
    return made


def reduce_segments(
    reduce: np.ufunc,
    data: Array,
    lengths: Array,
    out: Array,
    chosen: Array | None = None,
    weights: Array | None = None,
) -> None:
    """Reduce the rows of each segment to one: zeros for an empty one.

    Args:
        reduce: np.add or np.maximum.
        data: Where the rows are.
        lengths: How many rows each segment has, one segment behind the other; as int64.
        out: C-contiguous, with a row for each segment. No memory of any other argument.
        chosen: Which rows these are; all of them, in order, by default. They are not checked.
        weights: What each row is multiplied with, in the type of `out`.
    """
    if not out.size:
        return
    width = math.prod(data.shape[1:])
    table = np.ascontiguousarray(data).reshape(data.shape[0], width)
    target = out.reshape(out.shape[0], width)
    total = int(lengths.sum()) * width
    if total < 4 * ROUND:
        _reduce_at(reduce, table, lengths, target, chosen, weights)
        return
    most, longest = max(PIECE // width, 1), int(lengths.max())
    order, ordered = None, lengths
    if int(lengths.min()) < longest:
        order = in_order(longest - lengths, longest + 1)[1]
        ordered = lengths[order]
    if total < ROUND * _steps(ordered, most):
        _reduce_at(reduce, table, lengths, target, chosen, weights)
        return
    starts = np.cumsum(lengths) - lengths
    if order is not None:
        starts, lengths = starts[order], ordered
    full = int(np.count_nonzero(lengths))
    target[slice(full, None) if order is None else order[full:]] = 0
    for begin in range(0, full, most):
        part = slice(begin, min(begin + most, full))
        made = (
            np.empty((part.stop - begin, width), out.dtype) if order is not None else target[part]
        )
        _reduce_part(reduce, table, starts[part], lengths[part], made, chosen, weights)
        if order is not None:
            put_rows(target, order[part], made)


def _steps(lengths: Array, most: int) -> int:
    """How many rounds and single segments there are in pieces of so many segments."""
    total = 0
    for begin in range(0, lengths.size, most):
        part = lengths[begin : begin + most]
        going = len(rounds(part)) if part[0] else 0
        total += going + 2 * int(np.searchsorted(-part, -going, side="left"))
    return total


def _reduce_part(
    reduce: np.ufunc,
    table: Array,
    starts: Array,
    lengths: Array,
    made: Array,
    chosen: Array | None,
    weights: Array | None,
) -> None:
    """Reduce segments that are not empty, the longest first."""
    width = made.shape[1]
    longest = min(max(PIECE // width, 1), int(lengths[0]))
    spare = np.empty((max(longest, len(made)), width), made.dtype)
    column = None if weights is None else weights.reshape(-1, 1)

    def fetch(places: Array, into: Array) -> Array:
        rows = places if chosen is None else chosen.take(places)
        if table.dtype == into.dtype:
            table.take(rows, 0, into, "clip")
        else:
            np.copyto(into, table.take(rows, 0, None, "clip"))
        if column is not None:
            np.multiply(into, column.take(places, 0), into)
        return into

    going = rounds(lengths)
    if going:
        fetch(starts, made)
    for number, several in enumerate(going[1:], 1):
        rows = fetch(starts[:several] + number, spare[:several])
        reduce(made[:several], rows, out=made[:several])
    # The few that are left are long.
    lie_there = chosen is None and column is None and table.dtype == made.dtype
    for segment in np.flatnonzero(lengths > len(going)).tolist():
        first, end = int(starts[segment]), int(starts[segment] + lengths[segment])
        step = end if lie_there else len(spare)
        for begin in range(first + len(going), end, step):
            if lie_there:
                rows = table[begin:end]
            else:
                places = np.arange(begin, min(begin + step, end))
                rows = fetch(places, spare[: places.size])
            row = reduce.reduce(rows, axis=0)
            made[segment] = row if begin == first else reduce(made[segment], row)


def _reduce_at(
    reduce: np.ufunc,
    table: Array,
    lengths: Array,
    target: Array,
    chosen: Array | None,
    weights: Array | None,
) -> None:
    rows = table if chosen is None else table.take(chosen, 0, None, "clip")
    rows = rows.astype(target.dtype, copy=False)
    if weights is not None:
        rows = rows * weights.reshape(-1, 1)
    starts = np.cumsum(lengths) - lengths
    full = lengths > 0
    if full.all():
        reduce.reduceat(rows, starts, axis=0, dtype=target.dtype, out=target)
        return
    target.fill(0)
    if full.any():
        target[full] = reduce.reduceat(rows, starts[full], axis=0, dtype=target.dtype)


def by_rows(
    update: Callable[..., Array | None],
    tables: Sequence[Array],
    indices: Array,
    gradients: Array,
    changes: Array | None = None,
    several: Callable[..., None] | None = None,
    source: Array | None = None,
) -> None:
    """Update the rows that indices name, one after the other where an index occurs again.

    Args:
        update: Called with the gradients of some rows, then those rows of each table; it changes
            these, and may write over the gradients. It may return an array with a row for each of
            them, for `changes`.
        tables: Tensors of as many rows, C-contiguous, of any shape.
        indices: For each row of the gradients, the number of its row; from 0 up.
        gradients: The gradients, as a matrix with a row for each index.
        changes: A C-contiguous matrix for what `update` returns.
        several: Called with all the gradients that are left for one row, in order, then that row of
            each table as a vector: does what `update` would one by one. For use without `changes`.
        source: For each index, which row of the gradients is its own, if these are others.
    """
    if not gradients.size or not indices.size:
        return
    matrices = [each.reshape(each.shape[0], math.prod(each.shape[1:])) for each in tables]
    gradients = np.ascontiguousarray(gradients)
    ordered, places = in_order(indices, matrices[0].shape[0])
    starts, counts = runs(ordered)
    once = starts.size == indices.size
    if not once:
        most_first = in_order(indices.size - counts)[1]
        starts, counts = starts[most_first], counts[most_first]
    most = max(1, PIECE // gradients.shape[1])
    # The same memory for all pieces: to be given new one takes longer than to fill it.
    count = min(most, starts.size)
    spare, *homes = [
        np.empty((count, each.shape[1]), each.dtype) for each in (gradients, *matrices)
    ]
    for begin in range(0, starts.size, most):
        first = starts[begin : begin + most]
        which = ordered.take(first)
        pieces = [
            each.take(which, 0, home[: which.size], "clip")
            for each, home in zip(matrices, homes, strict=True)
        ]
        often = counts[begin : begin + most]
        going = [first.size] if once else rounds(often, math.inf if several is None else 1)
        for number, count in enumerate(going):
            at = places.take(first[:count] + number)
            chosen = gradients.take(
                at if source is None else source.take(at), 0, spare[:count], "clip"
            )
            change = update(chosen, *[each[:count] for each in pieces])
            if changes is not None and change is not None:
                put_rows(changes, at, change)
        for row in () if once else np.flatnonzero(often > len(going)).tolist():
            assert several is not None
            at = places[first[row] + len(going) : first[row] + often[row]]
            at = at if source is None else source.take(at)
            for start in range(0, at.size, most):
                some = gradients.take(at[start : start + most], 0, None, "clip")
                several(some, *[each[row] for each in pieces])
        for matrix, piece in zip(matrices, pieces, strict=True):
            put_rows(matrix, which, piece)


def _add(rows: Array, target: Array) -> None:
    np.add(target, rows, target)


def _add_several(rows: Array, target: Array) -> None:
    np.add(target, np.add.reduce(rows, axis=0), target)


def add_rows(target: Array, indices: Array, rows: Array) -> None:
    """Add rows to those of the target that a vector of indices names, as often as it does."""
    if target.flags.c_contiguous:
        wide = rows.astype(target.dtype, copy=False)
        width = math.prod(target.shape[1:])
        by_rows(_add, [target], indices, wide.reshape(indices.size, width), None, _add_several)
    else:
        np.add.at(target, indices, rows)
