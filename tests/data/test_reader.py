"""The interfaces of readers and writers, as users define them and as nets are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import Net, TaskGroup, execution_step, ops, schema
from procession.data import Dataset, Pipe, PipedReaderBuilder, Reader, ReaderBuilder, Writer, pipe


class Below(Reader):
    """Reads 0, 1, ... below a number; what users write."""

    def __init__(self, end: int) -> None:
        super().__init__(schema.Struct(("n", np.int64)))
        self.end = end

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        self.counter = init_net.CreateCounter([], init_count=0)
        self.last = init_net.Const(self.end)

    def read(self, read_net: Net) -> Any:
        value = read_net.CountUp([self.counter])
        return read_net.GE([value, self.last]), [value]

    def reset(self, net: Net) -> None:
        net.ResetCounter([self.counter])


class Total(Writer):
    """Adds up what is written."""

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        init_net.Const(0, "total")
        super().setup_ex(init_net, finish_net)

    def write(self, writer_net: Net, fields: Any) -> None:
        writer_net.Add(["total", fields[0]], ["total"])

    def commit(self, finish_net: Any) -> None:
        finish_net.Const(True, "committed")


def test_readers_and_writers_of_ones_own_are_piped(place: Any) -> None:
    with TaskGroup(workspace_type="global") as group:
        pipe(Below(10), Total())
    place.run(group)
    assert place.fetch("total") == sum(range(10))
    assert place.fetch("committed")


def test_a_reader_makes_a_step_that_stops_at_the_end(place: Any) -> None:
    reader, init, add, again = Below(5), Net("init"), Net("add"), Net("again")
    reader.setup_ex(init, None)
    init.Const(0, "total")
    step, record = reader.execution_step("read")
    assert isinstance(record, schema.Struct)
    add.Add(["total", record.n()], ["total"])
    step.AddNet(add)
    reader.reset(again)
    place.run(execution_step("all", [init, step, again, step]))
    assert step.Name() == "read_step"
    assert place.fetch("total") == 20


def test_something_else_may_end_the_step(place: Any) -> None:
    reader, init, count = Below(50), Net("init"), Net("count")
    reader.setup_ex(init, None)
    init.Const(False, "enough")
    step, record = reader.execution_step(external_should_stop="enough")
    count.GE([record.n(), count.Const(3)], "enough")
    step.AddNet(count)
    place.run(execution_step("all", [init, step]))
    assert place.fetch(str(record.n())) == 4


def test_without_a_schema_columns_are_read() -> None:
    class Raw(Below):
        def __init__(self) -> None:
            super().__init__(1)
            self._set_schema(None)

    reader, net = Raw(), Net("net")
    reader.setup_ex(net, None)
    _, [column] = reader.read_record(net)
    assert str(column) == "net/CountUp"
    assert Writer().schema() is None
    with pytest.raises(ValueError, match="Raw has no schema"):
        reader.schema()


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (Reader, {"read": (None,), "reset": (None,)}),
        (Writer, {"write": (None, None)}),
        (Pipe, {"reader": (), "writer": ()}),
        (ReaderBuilder, {"schema": (), "setup": (), "new_reader": ()}),
    ],
)
def test_what_is_not_defined_says_so(kind: type, calls: dict[str, tuple[Any, ...]]) -> None:
    class Own(kind):
        pass

    for method, arguments in calls.items():
        with pytest.raises(NotImplementedError, match="Own"):
            getattr(Own(), method)(*arguments)


def test_a_schema_is_a_field() -> None:
    with pytest.raises(ValueError, match=r"Field of procession.schema, not \['a'\]"):
        Reader(["a"])


class Builder(ReaderBuilder):
    """Makes readers that share a counter."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.made: list[dict[str, Any]] = []

    def schema(self) -> Any:
        return self.dataset.schema

    def setup(self, **kwargs: Any) -> Any:
        return {"finished": "blob"}

    def new_reader(self, **kwargs: Any) -> Any:
        self.made.append(kwargs)
        return self.dataset.reader(**kwargs)


def test_pipes_are_put_behind_all_readers_of_a_builder(place: Any) -> None:
    def doubled(record: Any) -> Any:
        return schema.Struct(("n", ops.Add([record.n(), record.n()])))

    inner = Builder(place.source)
    readers = PipedReaderBuilder(
        inner, lambda reader, **_: pipe(reader, num_threads=0, processor=doubled)
    )
    queues = PipedReaderBuilder(readers, lambda reader, **_: pipe(reader))
    assert queues.schema() == place.source.schema
    assert queues.setup() == {"finished": "blob"}
    with TaskGroup() as group:
        pipe(queues.new_reader(batch_size=3), place.target.writer())
    place.run(group)
    assert inner.made == [{"batch_size": 3}]
    assert place.written() == [2 * number for number in place.numbers]
