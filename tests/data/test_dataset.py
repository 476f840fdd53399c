"""Datasets in memory: made, read in order and at random, appended to, cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import NameScope, Net, TaskGroup, execution_step, schema
from procession.data import Dataset, execution_step_with_progress, pipe

VISITS = schema.Struct(
    ("user", np.int64),
    ("words", schema.List(np.float32)),
    ("name", str),
)
COLUMNS = {
    "user": [7, 5, 6, 5, 9],
    "words:lengths": [1, 0, 2, 3, 1],
    "words:values": np.arange(7, dtype=np.float32),
    "name": np.array(["a", "b", "c", "d", "e"]),
}
ROWS = [(7, [0], "a"), (5, [], "b"), (6, [1, 2], "c"), (5, [3, 4, 5], "d"), (9, [6], "e")]


@pytest.fixture
def visits(place: Any) -> Dataset:
    made = Dataset(VISITS, "visits")
    init = Net("init_visits")
    with NameScope("visits"):
        made.init_from_arrays(init, COLUMNS)
    place.run(init)
    return made


def rows(place: Any, columns: Any) -> list[Any]:
    """What is in columns of visits, row by row."""
    users, lengths, values, names = (place.fetch(blob) for blob in columns)
    ends = np.cumsum(lengths).astype(int)
    words = [values[end - length : end] for length, end in zip(lengths, ends, strict=True)]
    text = [name.decode() if isinstance(name, bytes) else name for name in names]
    return list(zip(users, words, text, strict=True))


def batches(place: Any, reader: Any, init: Net, limit: int = 10) -> list[Any]:
    """What a reader reads, batch by batch."""
    net = Net("read")
    over, record = reader.read_record(net)
    place.run(init)
    found = []
    for _ in range(limit):
        place.run(net)
        if place.fetch(over):
            break
        found.append(rows(place, record.field_blobs()))
    return found


@pytest.mark.parametrize(
    ("size", "enforce", "sizes"),
    [(1, False, [1] * 5), (2, False, [2, 2, 1]), (2, True, [2, 2]), (9, False, [5]), (9, True, [])],
)
def test_rows_are_read_in_order(
    place: Any, visits: Dataset, size: int, enforce: bool, sizes: list[int]
) -> None:
    init = Net("init")
    reader = visits.reader(init, batch_size=size, enforce_batch_size=enforce)
    found = batches(place, reader, init)
    assert [len(batch) for batch in found] == sizes
    assert [row for batch in found for row in batch] == ROWS[: sum(sizes)]
    assert reader.name == "visits_cursor"


def test_a_reader_begins_anew(place: Any, visits: Dataset) -> None:
    init, again = Net("init"), Net("again")
    reader = visits.reader(init, "mine", batch_size=5)
    assert batches(place, reader, init) == [ROWS]
    reader.reset(again)
    assert batches(place, reader, again) == [ROWS]
    assert str(reader.cursor) == "mine"


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_appended(anyplace: Any, threads: int) -> None:
    for written in (20, 40):
        with TaskGroup() as group:
            pipe(
                anyplace.source.reader(batch_size=3),
                anyplace.target.writer(),
                num_runtime_threads=threads,
            )
        anyplace.run(group)
        assert len(anyplace.written()) == written
    assert sorted(anyplace.written()) == sorted(2 * anyplace.numbers)


def test_lists_are_appended_with_their_lengths(place: Any, visits: Dataset) -> None:
    target = Dataset(VISITS)
    init = Net("init")
    with NameScope("target"):
        target.init_empty(init)
    place.run(init)
    with TaskGroup() as group:
        pipe(visits.reader(batch_size=2), target.writer())
    place.run(group)
    assert rows(place, target.get_blobs()) == ROWS


def test_rows_are_read_in_a_given_order(place: Any, visits: Dataset) -> None:
    init = Net("init")
    order = [4, 0, 3, 3]
    reader = visits.random_reader(init, init.Const(order), batch_size=3)
    reader.computeoffset(init)
    found = batches(place, reader, init)
    assert [len(batch) for batch in found] == [3, 1]
    assert [row for batch in found for row in batch] == [ROWS[row] for row in order]


@pytest.mark.parametrize(("enforce", "sizes"), [(False, [2, 1] * 3), (True, [2] * 6)])
def test_an_order_may_be_read_for_ever(
    place: Any, visits: Dataset, enforce: bool, sizes: list[int]
) -> None:
    init = Net("init")
    order = init.Const([1, 2, 3])
    reader = visits.random_reader(init, order, None, 2, loop_over=True, enforce_batch_size=enforce)
    reader.computeoffset(init)
    found = batches(place, reader, init, limit=6)
    assert [len(batch) for batch in found] == sizes
    assert found[0] == ROWS[1:3]


@pytest.mark.parametrize("field", [None, "user"])
def test_rows_are_shuffled(place: Any, visits: Dataset, field: str | None) -> None:
    init = Net("init")
    reader = visits.random_reader(init, batch_size=2)
    reader.computeoffset(init)
    reader.sort_and_shuffle(init, field, shuffle_size=1, batch_size=2)
    first, second, last = batches(place, reader, init)
    ordered = ROWS if field is None else sorted(ROWS, key=lambda row: row[0])
    # The last batch, which is smaller, stays the last.
    assert last == ordered[4:]
    names = [sorted(row[2] for row in batch) for batch in (first, second)]
    whole = [sorted(row[2] for row in ordered[begin : begin + 2]) for begin in (0, 2)]
    assert sorted(names) == sorted(whole)


def test_the_same_seed_shuffles_in_the_same_way(place: Any, visits: Dataset) -> None:
    def order(seed: int) -> Any:
        init = Net("init")
        init.set_rand_seed(seed)
        reader = visits.random_reader(init)
        reader.sort_and_shuffle(init, shuffle_size=100)
        place.run(init)
        return place.fetch(reader.indices)

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize(("multiple", "left"), [(1, 5), (2, 4), (3, 3), (6, 0)])
def test_the_last_rows_are_left_out(place: Any, visits: Dataset, multiple: int, left: int) -> None:
    net = Net("trim")
    visits.trim(net, multiple)
    place.run(net)
    assert rows(place, visits.get_blobs()) == ROWS[:left]


class Frame:
    """As much of a Pandas dataframe as is needed."""

    class Column:
        def __init__(self, values: Any) -> None:
            self.values = values

        def to_numpy(self) -> Any:
            return np.array(self.values)

    columns = ("x", "y")

    def __getitem__(self, name: str) -> Any:
        return self.Column({"x": [1, 2], "y": [0.5, 1.5]}[name])


def test_a_dataset_of_a_dataframe(place: Any) -> None:
    dataset = Dataset(["x", "y"])
    init = Net("init")
    dataset.init_from_dataframe(init, Frame())
    place.run(init)
    assert [place.fetch(blob) for blob in dataset.get_blobs()] == [[1, 2], [0.5, 1.5]]


def test_a_dataset_of_a_record_of_arrays() -> None:
    dataset = Dataset(schema.Struct(("x", np.int64)))
    record = schema.from_blob_list(dataset.schema, [np.array([1, 2])])
    dataset.init_from_arrays(Net("init"), record)
    assert dataset.field_names() == ["x"]
    assert dataset.field_types() == [np.dtype(np.int64)]
    assert dataset.content().field_names() == ["x"]


def test_steps_report_their_progress(place: Any, capsys: Any) -> None:
    net = Net("net")
    net.Const(3, "rows")
    step = execution_step_with_progress("all", None, [execution_step("one", net)], "rows")
    assert step.Name() == "all"
    assert step.Proto().concurrent_substeps
    place.run(step)
    assert "rows" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Dataset(42), "a Struct or a list of names, not 42"),
        (lambda: Dataset(["a"]).reader(), "dataset 'dataset' has no blobs yet: init_empty"),
        (lambda: Dataset(["a"]).random_reader(), "has no blobs yet"),
        (lambda: Dataset(["a"]).writer(), "has no blobs yet"),
        (lambda: Dataset(["a"]).init_from_arrays(Net("n"), {"b": []}), r"columns \['a'\], not"),
        (lambda: Dataset(["a"]).init_from_arrays(Net("n"), [[], []]), "1 columns, but there are 2"),
    ],
)
def test_what_makes_no_dataset_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_what_is_not_ready_is_refused(place: Any) -> None:
    net, source = Net("net"), place.source
    with pytest.raises(ValueError, match="reader of 'dataset' has no cursor"):
        source.reader().read(net)
    with pytest.raises(ValueError, match="reader of 'dataset' has no cursor"):
        source.random_reader().sort_and_shuffle(net)
    random = source.random_reader(net)
    with pytest.raises(ValueError, match="has no order"):
        random.read(net)
    random.sort_and_shuffle(net)
    with pytest.raises(ValueError, match="does not know where rows begin"):
        random.read(net)
    with pytest.raises(ValueError, match="has no column 'x'; it has"):
        random.sort_and_shuffle(net, "x")
    with pytest.raises(ValueError, match="writer of 'dataset' has no mutex"):
        source.writer().write(net, ["n"])
    with pytest.raises(ValueError, match="2 columns are written to dataset 'dataset', which has 1"):
        source.writer(net).write(net, ["n", "m"])
