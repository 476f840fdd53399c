"""Readers that stop earlier than the reader they read."""

from __future__ import annotations

import time
from typing import Any

import pytest

from procession import GraphError, Net, TaskGroup, ops, schema
from procession.data import (
    CounterReader,
    CountUntil,
    Reader,
    ReaderWithDelay,
    ReaderWithLimit,
    ReaderWithLimitBase,
    ReaderWithTimeLimit,
    pipe,
)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    ("limit", "read", "finished"),
    [
        (None, 20, True),
        (0, 0, False),
        (-1, 0, False),
        (3, 12, False),
        (5, 20, False),
        (6, 20, True),
    ],
)
def test_so_many_batches_are_read(
    place: Any, threads: int, limit: int | None, read: int, finished: bool
) -> None:
    reader = ReaderWithLimit(place.source.reader(batch_size=4), limit)
    with TaskGroup("global") as group:
        pipe(reader, place.target.writer(), num_runtime_threads=threads)
    place.run(group)
    assert sorted(place.written()) == place.numbers[:read]
    assert place.fetch(reader.data_finished()) is finished


def test_a_limit_is_for_all_built_threads_together(place: Any) -> None:
    reader = ReaderWithLimit(place.source.reader(), 7)
    assert sorted(place.read(reader, num_threads=3)) == place.numbers[:7]


def test_the_rest_is_read_the_next_time(place: Any) -> None:
    init = Net("cursor")
    reader = place.source.reader(init, batch_size=4)
    place.run(init)
    limited = ReaderWithLimit(reader, 3)
    with TaskGroup() as group:
        pipe(limited, place.target.writer())
    place.run(group)
    assert place.written() == place.numbers[:12]
    place.run(group)
    assert place.written() == place.numbers
    begin_anew = Net("begin_anew")
    limited.reset(begin_anew)
    place.run(begin_anew)
    place.run(group)
    assert place.written() == place.numbers + place.numbers[:12]


@pytest.mark.parametrize(("end", "read"), [(0, []), (5, [0, 1, 2, 3, 4])])
def test_counting(place: Any, end: int, read: list[int]) -> None:
    def as_row(record: Any) -> Any:
        return schema.Struct(("n", ops.ExpandDims(record.iter(), dims=[0])))

    assert place.read(CountUntil(end), processor=as_row) == read


@pytest.mark.parametrize("duration", [None, 0, -1])
def test_without_a_time_limit_all_is_read(place: Any, duration: float | None) -> None:
    reader = ReaderWithTimeLimit(place.source.reader(), duration)
    assert place.read(reader) == place.numbers


def test_reading_ends_after_a_time(place: Any) -> None:
    endless = ReaderWithDelay(CounterReader(), 0.01)
    reader = ReaderWithTimeLimit(endless, 0.05)
    reader._set_schema(None)
    with TaskGroup("global") as group:
        pipe(reader, processor=lambda record: Net("nothing"))
    before = time.monotonic()
    place.run(group)
    assert time.monotonic() - before >= 0.05
    assert place.fetch(reader.data_finished()) is False


def test_the_end_of_the_data_comes_before_that_of_the_time(place: Any) -> None:
    reader = ReaderWithTimeLimit(place.source.reader(batch_size=7), 1000)
    with TaskGroup("global") as group:
        pipe(reader, place.target.writer())
    place.run(group)
    assert place.written() == place.numbers
    assert place.fetch(reader.data_finished()) is True


def test_a_delay_comes_before_each_batch(anyplace: Any) -> None:
    reader = ReaderWithDelay(anyplace.source.reader(batch_size=10), 0.02)
    before = time.monotonic()
    assert anyplace.read(reader) == anyplace.numbers
    # Two batches, and the look behind the last.
    assert time.monotonic() - before >= 0.06


def test_a_limit_of_ones_own(place: Any) -> None:
    class Until(ReaderWithLimitBase):
        def setup_limiter(self, init_net: Any, finish_net: Any) -> None:
            init_net.Const(False, "flag")

        def check_limiter_condition(self, stop_condition_net: Net) -> Any:
            return stop_condition_net.Copy("flag")

    def stop_at_nine(record: Any) -> Any:
        net = Net("look")
        net.GE([record.n(), net.Const(9)], "flag")
        return [net], record

    reader = Until(place.source.reader())
    assert place.read(reader, processor=stop_at_nine) == place.numbers[:10]


def test_a_limit_that_is_not_defined_says_so(place: Any) -> None:
    class Own(ReaderWithLimitBase):
        pass

    reader = Own(Reader(schema.Struct()))
    with pytest.raises(NotImplementedError, match="Own does not say how its limit is set up"):
        reader.setup_limiter(None, None)
    with pytest.raises(NotImplementedError, match="Own does not say what its limit is"):
        reader.check_limiter_condition(Net("net"))


def test_a_counter_is_set_up_before_it_is_read() -> None:
    with pytest.raises(GraphError, match="CounterReader is set up, by setup_ex"):
        CounterReader().read_ex(None, None)
