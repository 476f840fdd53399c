"""Queues between tasks, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import BlobReference, NameScope, Net, TaskGroup, execution_step, ops, schema
from procession.data import Dataset, Queue, QueueWrapper, close_queue, dequeue, enqueue, pipe

PAIR = schema.Struct(("a", np.int64), ("b", np.int64))


@pytest.mark.parametrize("records", [1, 3, 50])
def test_records_go_from_task_to_task(anyplace: Any, records: int) -> None:
    queue = Queue(2, num_dequeue_records=records)
    with TaskGroup() as group:
        pipe(anyplace.source.reader(batch_size=3), queue)
        assert queue.schema().field_names() == ["n"]
        pipe(queue, anyplace.target.writer())
    for _ in range(2):
        anyplace.run(group)
    assert anyplace.written() == 2 * anyplace.numbers
    assert (queue.num_readers(), queue.num_writers()) == (1, 1)


def test_two_tasks_may_write_and_two_read(place: Any) -> None:
    queue = Queue(3, schema.Struct(("n", np.int64)))
    other = Dataset(schema.Struct(("n", np.int64)))
    init = Net("init")
    with NameScope("other"):
        other.init_empty(init)
    place.run(init)
    with TaskGroup() as group:
        for target in (place.target, other):
            pipe(queue, target.writer())
        pipe(place.source.reader(), queue, num_runtime_threads=2)
    place.run(group)
    assert sorted(place.written() + place.written(other)) == place.numbers
    assert (queue.num_readers(), queue.num_writers()) == (2, 1)


def test_who_writes_stops_when_who_reads_has_ended(place: Any) -> None:
    def enough(record: Any) -> Any:
        return record, ops.GE([record.n(), ops.Const(4)])

    with TaskGroup() as group:
        queue = pipe(place.source.reader(), capacity=1)
        pipe(queue, place.target.writer(), processor=enough)
    place.run(group)
    assert place.written() == place.numbers[:4]


def test_a_queue_by_hand(place: Any) -> None:
    init, put, take = Net("init"), Net("put"), Net("take")
    queue = init.CreateBlobsQueue([], "q", capacity=5, num_blobs=2)
    blobs = init.Const(1), init.Const([2, 3])
    closed = enqueue(put, queue, blobs, "closed")
    columns, over = dequeue(take, queue, 2, field_names=["a", "b"])
    assert [str(blob) for blob in (closed, *columns, over)] == [
        "closed",
        "take/a",
        "take/b",
        "take/status",
    ]
    step = close_queue(execution_step("puts", put, num_iter=2), queue)
    place.run(execution_step("all", [init, step, take]))
    assert [place.fetch(blob) for blob in (closed, *columns, over)] == [False, 1, [2, 3], False]
    place.run(take)
    place.run(take)
    assert place.fetch(over) is True
    place.run(put)
    assert place.fetch(closed) is True


def test_a_blob_may_be_in_a_record_twice(place: Any) -> None:
    init, net = Net("init"), Net("net")
    queue = init.CreateBlobsQueue([], "q", capacity=1, num_blobs=2)
    one = init.Const([1, 2])
    status = enqueue(net, queue, [one, one])
    columns, _ = dequeue(net, queue, 2)
    place.run(execution_step("all", [init, net]))
    assert [place.fetch(blob) for blob in (one, *columns)] == [[1, 2]] * 3
    assert str(status) == "net/status"


def test_readers_and_writers_work_in_nets_of_ones_own(place: Any) -> None:
    init, net, end = Net("init"), Net("net"), Net("end")
    queue = QueueWrapper(init.CreateBlobsQueue([], "q", capacity=1, num_blobs=2), PAIR)
    writer, reader = queue.writer(), queue.reader()
    writer.setup_ex(init, end)
    reader.setup_ex(init, None)
    writer.write_record(net, schema.NewRecord(init, PAIR))
    for blob, value in zip(writer.schema().field_blobs(), (1, 2), strict=True):
        init.Const(value, blob)
    over, record = reader.read_record(net)
    place.run(execution_step("all", [init, net, end]))
    assert [place.fetch(blob) for blob in (over, record.a(), record.b())] == [False, 1, 2]
    assert "closed" in repr(place.session.workspace().fetch_blob("q"))


def test_the_blob_that_stops_a_writer_may_be_left_out() -> None:
    writer, first = Queue(1, PAIR).writer(), Net("first")
    nets, stop = writer.write_record_ex(schema.NewRecord(Net("net"), PAIR), first, None)
    assert stop == "first/dequeue_status"
    assert nets[0].Proto().op[0].output[-1] == stop


def test_a_queue_without_a_schema_cannot_be_read_or_made() -> None:
    queue = Queue(1, name="mine")
    reader = queue.reader()
    with pytest.raises(ValueError, match="queue 'mine/handler' has no schema: give it one"):
        reader.read_ex(Net("a"), Net("b"))
    with pytest.raises(ValueError, match="queue 'mine/handler' has no schema, and nothing"):
        queue.setup(Net("init"))
    queue._new_writer(PAIR, Net("net"))
    assert len(reader.read_ex(Net("a"), Net("b"))[2]) == 2


def test_each_blob_has_a_name() -> None:
    with pytest.raises(ValueError, match="1 names for 2 blobs"):
        dequeue(Net("net"), BlobReference("q"), 2, field_names=["a"])
