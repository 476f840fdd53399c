"""Queues and cursors: records between steps, and rows of datasets."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from procession import LocalSession, Net, OperatorError, core, execution_step
from procession.operators.cursor import TreeCursor
from procession.operators.queue import BlobsQueue

SECONDS = 20


def nothing() -> None:
    pass


def test_records_come_out_in_order_until_it_is_closed() -> None:
    queue = BlobsQueue(2, 1)
    assert queue.put((1,), nothing)
    assert queue.put((2,), nothing)
    queue.close()
    assert not queue.put((3,), nothing)
    assert [queue.take(nothing) for _ in range(3)] == [(1,), (2,), None]


def test_who_waits_goes_on() -> None:
    queue, found = BlobsQueue(1, 1), []

    def take() -> None:
        while (record := queue.take(nothing)) is not None:
            found.append(record[0])

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(20):
        queue.put((number,), nothing)
    queue.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert found == list(range(20))


def test_who_waits_is_called_off() -> None:
    def called_off() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        BlobsQueue(1, 1).take(called_off)
    full = BlobsQueue(1, 1, [(0,)])
    with pytest.raises(InterruptedError):
        full.put((1,), called_off)


def test_a_copy_has_the_records() -> None:
    copied = pickle.loads(pickle.dumps(BlobsQueue(3, 1, [(5,)], closed=True)))
    assert copied.take(nothing) == (5,)
    assert copied.take(nothing) is None


def pipe(count: int, fails: bool = False) -> tuple[Net, core.ExecutionStep]:
    """A net that makes a queue, and a step that writes to it and reads from it at once."""
    begin, write, close, read = (Net(name) for name in ("begin", "write", "close", "read"))
    begin.CreateBlobsQueue([], "queue", capacity=2, num_blobs=1)
    begin.ConstantFill([], "sum", shape=[1], value=0.0)
    begin.ConstantFill([], "item", shape=[1], value=1.0)
    begin.ConstantFill([], "out", shape=[1], value=0.0)
    write.SafeEnqueueBlobs(["queue", "item"], ["item", "closed"])
    if fails:
        close.ReduceFrontSum("queue", "wrong")
    else:
        close.CloseBlobsQueue(["queue"], 0)
    read.SafeDequeueBlobs("queue", ["out", "over"])
    add = Net("add")
    add.Add(["sum", "out"], "sum")
    writing = execution_step(
        "writing", [execution_step("w", write, num_iter=count), execution_step("c", close)]
    )
    reading = execution_step("reading", [read, add], should_stop_blob="over")
    return begin, execution_step("both", [writing, reading], concurrent_substeps=True)


def test_steps_pass_records_on() -> None:
    begin, both = pipe(50)
    with LocalSession() as session:
        session.run(begin)
        session.run(both, timeout=SECONDS)
        assert session.workspace().fetch_blob("sum").tolist() == [50]


def test_a_failure_calls_off_who_waits_for_a_record() -> None:
    begin, both = pipe(1, fails=True)
    with LocalSession() as session:
        session.run(begin)
        with pytest.raises(OperatorError, match="ReduceFrontSum"):
            session.run(both, timeout=SECONDS)


def test_rows_are_put_together() -> None:
    net = Net("several")
    net.DequeueBlobs("queue", "out", num_records=3)
    with LocalSession() as session:
        records = [(np.array([number]),) for number in range(2)]
        session.workspace().feed_blob("queue", BlobsQueue(9, 1, records, closed=True))
        session.run(net)
        assert session.workspace().fetch_blob("out").tolist() == [0, 1]
        with pytest.raises(OperatorError, match="closed, and empty"):
            session.run(net)


DATA = {
    "uid": np.array([7, 8, 9]),
    "items:lengths": np.array([2, 0, 1], np.int32),
    "items:values:lengths": np.array([1, 2, 1], np.int32),
    "items:values:values": np.arange(4, dtype=np.float32),
}


def reading(**arguments: object) -> Net:
    net = Net("read")
    net.ReadNextBatch(["cursor", *DATA], [f"out:{name}" for name in DATA], **arguments)
    return net


def batch(session: LocalSession, net: Net) -> list[list[float]]:
    session.run(net)
    return [session.workspace().fetch_blob(f"out:{name}").tolist() for name in DATA]


@pytest.fixture
def session() -> LocalSession:
    made = LocalSession()
    for name, column in DATA.items():
        made.workspace().feed_blob(name, column)
    made.workspace().feed_blob("cursor", TreeCursor(list(DATA)))
    return made


def test_a_cursor_reads_rows_with_what_belongs_to_them(session: LocalSession) -> None:
    net = reading(batch_size=2)
    assert batch(session, net) == [[7, 8], [2, 0], [1, 2], [0, 1, 2]]
    assert batch(session, net) == [[9], [1], [1], [3]]
    assert batch(session, net) == [[], [], [], []]
    reset = Net("reset")
    reset.ResetCursor("cursor", 0)
    session.run(reset)
    assert batch(session, net)[0] == [7, 8]


def test_a_rest_is_left_out(session: LocalSession) -> None:
    net = reading(batch_size=2, enforce_batch_size=True)
    assert batch(session, net)[0] == [7, 8]
    assert batch(session, net)[0] == []


def test_columns_that_do_not_fit_are_found(session: LocalSession) -> None:
    net = Net("check")
    net.CheckDatasetConsistency(list(DATA), [], fields=list(DATA))
    session.run(net)
    session.workspace().feed_blob("items:values:values", np.zeros(3, np.float32))
    with pytest.raises(OperatorError, match=r"'items:values:values' has 3 rows, not 4"):
        session.run(net)
