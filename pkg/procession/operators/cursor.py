"""Cursors: reading tensors that hold a dataset, some rows at a time.

A dataset is a list of columns. A column called `name:lengths` holds, for each row, how many rows of
the other columns `name:...` belong to it; these may have lengths of their own in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.handles import expect
from procession.operators.registry import REQUIRED, operator

_LENGTHS = "lengths"


def texts(fields: Sequence[str | bytes]) -> list[str]:
    """Names of columns as they are, though scripts for Caffe2 may hand bytes."""
    return [field.decode() if isinstance(field, bytes) else field for field in fields]


def domains_of(fields: Sequence[str]) -> list[str]:
    """For each column the one whose lengths count its rows, "" for those that nobody counts."""
    counted = [field[: -len(_LENGTHS)] for field in fields if field.split(":")[-1] == _LENGTHS]
    counted = [prefix for prefix in counted if prefix]
    found = []
    for field in fields:
        around = [
            prefix for prefix in counted if field.startswith(prefix) and field != prefix + _LENGTHS
        ]
        found.append(max(around, key=len, default=""))
    return found


class TreeCursor:
    """Where in a dataset one is reading. A copy of it begins anew."""

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self.lock = threading.Lock()
        self.offsets: dict[str, int] = {}
        """Domain -> how many of its rows have been read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return TreeCursor, (self.fields,)

    def __repr__(self) -> str:
        return f"<TreeCursor {self.offsets}>"


def spans_of(
    fields: Sequence[str], columns: Sequence[Array], offsets: dict[str, int], rows: int
) -> dict[str, int]:
    """Domain -> how many of its rows belong to the next `rows` rows of all."""
    domains = domains_of(fields)
    spans = {"": rows}
    # A prefix is shorter than what is nested in it.
    for prefix in sorted({domain for domain in domains if domain}, key=len):
        index = list(fields).index(prefix + _LENGTHS)
        begin = offsets.get(domains[index], 0)
        lengths = columns[index][begin : begin + spans[domains[index]]]
        spans[prefix] = int(lengths.sum())
    return spans


def count_rows(fields: Sequence[str], columns: Sequence[Array]) -> int:
    """How many rows a dataset has.

    Raises:
        ValueError: Its columns do not fit together, or one of them is a single value.
    """
    if len(fields) != len(columns):
        raise ValueError(f"{len(columns)} columns for {len(fields)} names: {list(fields)}")
    domains = domains_of(fields)
    if "" not in domains:
        raise ValueError(f"all columns are counted by others: {list(fields)}")
    for field, column in zip(fields, columns, strict=True):
        if np.ndim(column) == 0:
            raise ValueError(f"column {field!r} has no rows: it is a single value")
    rows = len(columns[domains.index("")])
    spans = spans_of(fields, columns, {}, rows)
    for field, column, domain in zip(fields, columns, domains, strict=True):
        if len(column) != spans[domain]:
            raise ValueError(f"column {field!r} has {len(column)} rows, not {spans[domain]}")
    return rows


@operator("CreateTreeCursor")
def create_tree_cursor(*, fields: Sequence[str] = ()) -> TreeCursor:
    """A cursor at the beginning of a dataset. Caffe2: CreateTreeCursor.

    Args:
        fields: The names of the columns.
    """
    return TreeCursor(texts(fields))


@operator("ResetCursor", outputs=0)
def reset_cursor(cursor: Any) -> None:
    """Set a cursor to the beginning. Caffe2: ResetCursor.

    Raises:
        TypeError: The input is not a cursor.
    """
    found = expect(cursor, TreeCursor, "CreateTreeCursor")
    with found.lock:
        found.offsets.clear()


@operator("ReadNextBatch", outputs=(1, None))
def read_next_batch(
    cursor: Any, *columns: Array, batch_size: int = 1, enforce_batch_size: bool = False
) -> Any:
    """The next rows of a dataset; the cursor moves on behind them. Caffe2: ReadNextBatch.

    Args:
        batch_size: How many rows; fewer at the end, and then none.
        enforce_batch_size: Leave the rest out that is fewer.

    Raises:
        TypeError: The first input is not a cursor.
        ValueError: The columns do not fit together.
    """
    found = expect(cursor, TreeCursor, "CreateTreeCursor")
    fields = found.fields or [f"field_{index}" for index in range(len(columns))]
    with found.lock:
        rows = count_rows(fields, columns) - found.offsets.get("", 0)
        count = min(int(batch_size), rows)
        if enforce_batch_size and count < batch_size:
            count = 0
        spans = spans_of(fields, columns, found.offsets, count)
        read = []
        for column, domain in zip(columns, domains_of(fields), strict=True):
            begin = found.offsets.get(domain, 0)
            read.append(column[begin : begin + spans[domain]].copy())
        for domain, span in spans.items():
            found.offsets[domain] = found.offsets.get(domain, 0) + span
    return tuple(read)


@operator("CheckDatasetConsistency", outputs=0)
def check_dataset_consistency(*columns: Array, fields: Sequence[str] = REQUIRED) -> None:
    """Refuse columns that make no dataset. Caffe2: CheckDatasetConsistency.

    Args:
        fields: Their names.

    Raises:
        ValueError: Their numbers of rows do not fit.
    """
    count_rows(texts(fields), columns)
