"""Reading a dataset in another order than its own, and cutting it to a length.

Who reads rows here and there has to know where each begins in every column. `ComputeOffset` counts
that once; `SortAndShuffle` makes an order; `ReadRandomBatch` reads rows in it, by a cursor that
counts how much of the order has been read. What a dataset is stands with `cursor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.cursor import TreeCursor, count_rows, domains_of, spans_of, texts
from procession.operators.handles import expect
from procession.operators.registry import REQUIRED, operator


def _opened(cursor: Any, columns: Sequence[Array]) -> tuple[TreeCursor, Sequence[str], int]:
    """The cursor, the names of the columns, and how many rows they have."""
    found: TreeCursor = expect(cursor, TreeCursor, "CreateTreeCursor")
    fields = found.fields or [f"field_{index}" for index in range(len(columns))]
    return found, fields, count_rows(fields, columns)


def _counting(fields: Sequence[str]) -> list[str]:
    """The domains that have a column of the offsets: that of all rows, and those with lengths."""
    ends = [field for field in fields if field.split(":")[-1] == "lengths" and field != "lengths"]
    return ["", *(field[: -len("lengths")] for field in ends)]


@operator("TrimDataset", outputs=(1, None))
def trim_dataset(*columns: Array, fields: Sequence[str] = REQUIRED, multiple_of: int = 1) -> Any:
    """A dataset without its last rows, so that their number fits. Caffe2: TrimDataset.

    Args:
        fields: The names of the columns.
        multiple_of: What the number of rows is to be a multiple of.

    Raises:
        ValueError: `multiple_of` is not above 0, or the columns do not fit together.
    """
    if multiple_of < 1:
        raise ValueError(f"multiple_of is above 0, not {multiple_of}")
    names = texts(fields)
    rows = count_rows(names, columns)
    spans = spans_of(names, columns, {}, rows - rows % int(multiple_of))
    kept = zip(columns, domains_of(names), strict=True)
    return tuple(column[: spans[domain]].copy() for column, domain in kept)


@operator("ComputeOffset")
def compute_offset(cursor: Any, *columns: Array) -> Array:
    """Where each row of a dataset begins in every column. Caffe2: ComputeOffset.

    The output is int64, with a line for each row and one for the end: first the number of the row,
    then for each column of lengths how many values are before the row.

    Raises:
        TypeError: The first input is not a cursor.
        ValueError: The columns do not fit together.
    """
    _, fields, rows = _opened(cursor, columns)
    domains = domains_of(fields)
    begins = {"": np.arange(rows + 1)}
    # A prefix is shorter than what is nested in it.
    for prefix in sorted(_counting(fields)[1:], key=len):
        index = list(fields).index(f"{prefix}lengths")
        before = np.concatenate([[0], np.cumsum(columns[index])])
        begins[prefix] = before[begins[domains[index]]]
    return np.stack([begins[domain] for domain in _counting(fields)], 1).astype(np.int64)


@operator("SortAndShuffle")
def sort_and_shuffle(
    cursor: Any,
    *columns: Array,
    sort_by_field_idx: int = 1,
    batch_size: int = 1,
    shuffle_size: int = 1,
    rng: np.random.Generator,
) -> Array:
    """The numbers of a dataset's rows, in an order to read them in, int64. Caffe2: SortAndShuffle.

    Rows are sorted, then shuffled within each `shuffle_size` batches; then whole batches are
    shuffled. So the rows of a batch are close to each other in what they are sorted by. The last
    batch, if it is smaller, stays the last.

    Args:
        sort_by_field_idx: The number of the column to sort by, smallest first; -1: none.
        batch_size: Rows of a batch.
        shuffle_size: Batches among which rows are shuffled.

    Raises:
        TypeError: The first input is not a cursor.
        ValueError: The columns do not fit together, or that to sort by has not one number a row.
    """
    _, fields, rows = _opened(cursor, columns)
    order = np.arange(rows)
    if sort_by_field_idx != -1:
        if not 0 <= sort_by_field_idx < len(columns):
            raise ValueError(f"there is no column {sort_by_field_idx} among {len(columns)}")
        column = columns[sort_by_field_idx]
        if domains_of(fields)[sort_by_field_idx] or column.ndim != 1:
            raise ValueError(
                f"rows cannot be sorted by column {fields[sort_by_field_idx]!r}, which has not one "
                f"number for each of them"
            )
        order = np.argsort(column, kind="stable")
    chunk = int(batch_size) * int(shuffle_size)
    if chunk < 1:
        raise ValueError(f"{batch_size=} and {shuffle_size=} are both above 0")
    for begin in range(0, rows, chunk):
        rng.shuffle(order[begin : begin + chunk])
    whole = rows - rows % int(batch_size)
    batches = order[:whole].reshape(-1, int(batch_size))
    return np.concatenate([rng.permutation(batches).ravel(), order[whole:]]).astype(np.int64)


@operator("ReadRandomBatch", outputs=(1, None))
def read_random_batch(
    cursor: Any,
    indices: Array,
    offsets: Array,
    *columns: Array,
    batch_size: int = 1,
    enforce_batch_size: bool = False,
    loop_over: bool = False,
) -> Any:
    """The next rows of a dataset in a given order; the cursor moves on. Caffe2: ReadRandomBatch.

    The second input has the numbers of the rows, as whole numbers; the third is what ComputeOffset
    makes.

    Args:
        batch_size: How many rows; fewer at the end, and then none.
        enforce_batch_size: Leave the rest out that is fewer.
        loop_over: Begin anew at the end.

    Raises:
        TypeError: The first input is not a cursor.
        ValueError: The columns do not fit together, there is no row of such a number, or the
            offsets are not those of the dataset.
    """
    found, fields, rows = _opened(cursor, columns)
    counting = _counting(fields)
    if offsets.shape != (rows + 1, len(counting)):
        raise ValueError(
            f"the offsets of {rows} rows are of shape {(rows + 1, len(counting))}, not "
            f"{offsets.shape}: ComputeOffset makes them"
        )
    order, size = indices.ravel(), int(batch_size)
    with found.lock:
        begin = found.offsets.get("", 0)
        if loop_over and (
            begin >= order.size or (enforce_batch_size and begin + size > order.size)
        ):
            begin = 0
        chosen = order[begin : begin + size]
        if enforce_batch_size and chosen.size < size:
            chosen = chosen[:0]
        if chosen.size and (chosen.min() < 0 or chosen.max() >= rows):
            raise ValueError(f"there are {rows} rows, and among those to be read are {chosen}")
        found.offsets[""] = begin + chosen.size
    read = []
    for column, domain in zip(columns, domains_of(fields), strict=True):
        begins = offsets[:, counting.index(domain)]
        spans = [column[begins[row] : begins[row + 1]] for row in chosen]
        read.append(np.concatenate(spans) if spans else column[:0].copy())
    return tuple(read)
