"""Datasets in another order, and cut to a length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import OperatorError, Workspace, core

FIELDS = ["a:lengths", "a:v:lengths", "a:v:values", "a:k", "b"]
COLUMNS = {
    "al": np.array([2, 0, 1], np.int32),
    "vl": np.array([1, 2, 3], np.int32),
    "vv": np.arange(6, dtype=np.float32),
    "k": np.arange(3),
    "b": np.array([5, 3, 4]),
}
OUTPUTS = [f"{name}_read" for name in COLUMNS]


def run(workspace: Workspace, operator: str, inputs: Any, outputs: Any, **arguments: Any) -> Any:
    net = core.Net("net")
    getattr(net, operator)(inputs, outputs, **arguments)
    workspace.run(net)
    return [workspace.fetch_blob(output).tolist() for output in outputs]


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    for name, column in COLUMNS.items():
        made.feed_blob(name, column)
    net = core.Net("net")
    net.CreateTreeCursor([], "cursor", fields=FIELDS)
    net.ComputeOffset(["cursor", *COLUMNS], "offsets")
    made.run(net)
    return made


def read(workspace: Workspace, order: Any, **arguments: Any) -> Any:
    workspace.feed_blob("order", np.array(order))
    inputs = ["cursor", "order", "offsets", *COLUMNS]
    return run(workspace, "ReadRandomBatch", inputs, OUTPUTS, **arguments)


def test_offsets_are_those_of_all_columns_with_lengths(workspace: Workspace) -> None:
    offsets = workspace.fetch_blob("offsets")
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [[0, 0, 0], [1, 2, 3], [2, 2, 3], [3, 3, 6]]


def test_rows_are_read_with_all_that_is_in_them(workspace: Workspace) -> None:
    assert read(workspace, [2, 0, 1], batch_size=2) == [
        [1, 2],
        [3, 1, 2],
        [3, 4, 5, 0, 1, 2],
        [2, 0, 1],
        [4, 5],
    ]
    assert read(workspace, [2, 0, 1], batch_size=2) == [[0], [], [], [], [3]]
    assert read(workspace, [2, 0, 1], batch_size=2) == [[], [], [], [], []]
    assert workspace.fetch_blob("vv_read").dtype == np.float32


def test_what_is_cut_is_cut_in_all_columns(workspace: Workspace) -> None:
    names = list(COLUMNS)
    cut = run(workspace, "TrimDataset", names, names, fields=FIELDS, multiple_of=2)
    assert cut == [[2, 0], [1, 2], [0, 1, 2], [0, 1], [5, 3]]


@pytest.mark.parametrize(("batch", "shuffle"), [(1, 1), (3, 1), (2, 2), (4, 5)])
def test_an_order_has_each_row_once(batch: int, shuffle: int) -> None:
    workspace, rows = Workspace(), 11
    values = np.arange(rows)[::-1]
    workspace.feed_blob("x", values)
    net = core.Net("net")
    net.CreateTreeCursor([], "cursor", fields=["x"])
    workspace.run(net)
    [order] = run(
        workspace,
        "SortAndShuffle",
        ["cursor", "x"],
        ["order"],
        sort_by_field_idx=0,
        batch_size=batch,
        shuffle_size=shuffle,
    )
    assert sorted(order) == list(range(rows))
    chunk = batch * shuffle
    for begin in range(0, rows, batch):
        found = sorted(values[order[begin : begin + batch]])
        # All rows of a batch are from one chunk of the sorted rows.
        assert found[0] // chunk == found[-1] // chunk
        if len(found) < batch:
            assert found[-1] >= rows - chunk
    assert workspace.fetch_blob("order").dtype == np.int64


@pytest.mark.parametrize(
    ("operator", "inputs", "arguments", "message"),
    [
        ("TrimDataset", ["b"], {"fields": ["b"], "multiple_of": 0}, "above 0, not 0"),
        ("SortAndShuffle", ["cursor", *COLUMNS], {"sort_by_field_idx": 3}, "column 'a:k'"),
        ("SortAndShuffle", ["cursor", *COLUMNS], {"sort_by_field_idx": 9}, "no column 9 among 5"),
        (
            "SortAndShuffle",
            ["cursor", *COLUMNS],
            {"sort_by_field_idx": -1, "shuffle_size": 0},
            "both above 0",
        ),
        ("ComputeOffset", ["b", "b"], {}, "CreateTreeCursor"),
        ("ComputeOffset", ["cursor", "b"], {}, "1 columns for 5 names"),
        ("CheckDatasetConsistency", ["b", "one"], {"fields": ["b", "c"]}, "column 'c' has no rows"),
        ("ReadRandomBatch", ["cursor", "b", "b", *COLUMNS], {}, r"of shape \(4, 3\), not \(3,\)"),
        ("ReadRandomBatch", ["cursor", "b", "offsets", *COLUMNS], {}, "there are 3 rows"),
    ],
)
def test_what_does_not_fit_is_refused(
    workspace: Workspace, operator: str, inputs: Any, arguments: Any, message: str
) -> None:
    workspace.feed_blob("one", np.float32(1))
    outputs = {"ReadRandomBatch": OUTPUTS, "CheckDatasetConsistency": []}.get(operator, ["out"])
    with pytest.raises(OperatorError, match=message):
        run(workspace, operator, inputs, outputs, **arguments)
