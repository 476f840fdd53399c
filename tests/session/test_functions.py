"""session.submit and session.map: functions, for people who have no nets."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.session.gates import Gate

from procession import LocalSession, Net, Node, ProcessSession, Session
from procession.blobs.shared import KEPT, MINIMUM
from procession.errors import (
    NodeDiedError,
    OutOfSharedMemoryError,
    SerializationError,
    SessionClosedError,
)
from procession.session.future import RunFuture

WITHIN = 60
"""Seconds, for what takes far less."""
LARGE = MINIMUM // 8
"""So many float64 are just large enough for shared memory."""


@pytest.fixture
def session() -> Iterator[ProcessSession]:
    with ProcessSession(["a", "b"]) as session:
        yield session


@pytest.fixture(params=["processes", "threads"])
def any_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    if request.param == "processes":
        with ProcessSession(["a", "b"]) as session:
            yield session
    else:
        with LocalSession() as session:
            yield session


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], Gate]:
    return partial(Gate, tmp_path)


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


# What all sessions do.


def test_a_call(any_session: Session) -> None:
    names = {"self": 1, "function": 2, "fn": 3, "nodes": 4, "timeout": 5}
    call = any_session.submit(echo, 6, **names)
    assert call.result(WITHIN) == ((6,), names)
    assert call.done()
    assert any_session.submit(lambda: 7, node="a").result(WITHIN) == 7
    assert any_session.submit(lambda: 7, node=Node("b")).result(WITHIN) == 7


def test_an_exception(any_session: Session) -> None:
    def complain() -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        any_session.submit(complain).result(WITHIN)
    assert any_session.submit(abs, -1).result(WITHIN) == 1


def test_a_call_that_waits_can_be_cancelled(
    any_session: Session, gate: Callable[[], Gate], tmp_path: Path
) -> None:
    first, mark = gate(), tmp_path / "mark"
    running = any_session.submit(first.wait, node="a")
    waiting = any_session.submit(mark.touch, node="a")
    last = any_session.submit(abs, -1, node="a")
    first.arrival()
    assert running.running()
    assert not running.cancel()
    assert waiting.cancel()
    assert futures.wait([waiting], WITHIN).done == {waiting}
    first.open()
    assert running.result(WITHIN) is None
    assert last.result(WITHIN) == 1
    assert not mark.exists()


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map(any_session: Session, chunksize: int) -> None:
    found = any_session.map(divmod, range(20), range(1, 40), chunksize=chunksize)
    assert list(found) == [divmod(x, x + 1) for x in range(20)]
    assert list(any_session.map(abs, [], chunksize=chunksize)) == []


def test_map_raises_where_the_function_did(any_session: Session) -> None:
    found = any_session.map(divmod, [5, 5, 5], [2, 0, 1])
    assert next(found) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_map_that_takes_too_long(any_session: Session, gate: Callable[[], Gate]) -> None:
    second = gate()
    found = any_session.map(lambda call: call(), [int, second.wait], nodes=["a"], timeout=1)
    seen = [next(found)]
    with pytest.raises(futures.TimeoutError):
        seen.extend(found)
    assert seen == [0]
    second.let_through()


def test_map_cancels_the_rest_when_it_is_closed(
    any_session: Session, gate: Callable[[], Gate], tmp_path: Path
) -> None:
    second = gate()

    def work(number: int) -> int:
        (tmp_path / f"mark-{number}").touch()
        if number == 1:
            second.wait()
        return number

    found = any_session.map(work, range(50), nodes=["a"])
    assert next(found) == 0
    second.arrival()
    found.close()  # type: ignore[attr-defined]
    last = any_session.submit(abs, -1, node="a")
    second.open()
    assert last.result(WITHIN) == 1
    assert sorted(path.name for path in tmp_path.glob("mark-*")) == ["mark-0", "mark-1"]


def test_map_that_makes_no_sense(any_session: Session) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        any_session.map(abs, [1], chunksize=0)
    with pytest.raises(ValueError, match="at least one node"):
        any_session.map(abs, [1], nodes=[])


def test_calls_from_many_threads(any_session: Session) -> None:
    results: dict[int, list[int]] = {}

    def use(number: int) -> None:
        found = any_session.map(divmod, range(number * 100, number * 100 + 30), [1] * 30)
        results[number] = [whole for whole, _ in found]

    threads = [threading.Thread(target=use, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [*range(n * 100, n * 100 + 30)] for n in range(5)}


def test_a_closed_session(any_session: Session) -> None:
    any_session.close()
    with pytest.raises(SessionClosedError):
        any_session.submit(abs, -1)
    with pytest.raises(SessionClosedError):
        any_session.map(abs, [-1])


def test_calls_and_runs_stand_in_one_line(any_session: Session, gate: Callable[[], Gate]) -> None:
    first = gate()
    call = any_session.submit(first.wait, node="a")
    net = Net("net")
    net.Const(3.0, "x")
    with Node("a"):
        run = any_session.run_async(net)
    later = any_session.submit(abs, -1, node="a")
    first.arrival()
    assert not run.running()
    first.open()
    assert (call.result(WITHIN), run.result(WITHIN), later.result(WITHIN)) == (None, None, 1)
    assert any_session.workspace("a").fetch_blob("x") == 3


# Which node.


def test_a_call_is_made_on_its_node(session: ProcessSession) -> None:
    pids = {node: stats.pid for node, stats in session.stats().items()}
    for node in ("a", "b", "a"):
        assert session.submit(os.getpid, node=node).result(WITHIN) == pids[node]
    found = session.map(lambda _: os.getpid(), range(10), nodes=["b"])
    assert set(found) == {pids["b"]}


def test_a_node_is_started_when_it_is_needed(session: ProcessSession) -> None:
    assert session.submit(abs, -1, node="c").result(WITHIN) == 1
    assert session.nodes == ["a", "b", "c"]


def test_a_session_without_nodes_starts_one() -> None:
    with ProcessSession() as session:
        assert session.submit(os.getpid).result(WITHIN) == session.stats()["local"].pid
        assert list(session.map(abs, [-1, -2])) == [1, 2]
        assert session.nodes == ["local"]


def test_a_call_goes_to_whichever_node_is_free(
    session: ProcessSession, gate: Callable[[], Gate]
) -> None:
    pids = {node: stats.pid for node, stats in session.stats().items()}
    first = gate()
    blocked = session.submit(first.wait, node="a")
    calls = [session.submit(os.getpid) for _ in range(5)]
    assert {call.result(WITHIN) for call in calls} == {pids["b"]}
    first.let_through()
    assert blocked.result(WITHIN) is None


def test_map_uses_all_nodes(session: ProcessSession, gate: Callable[[], Gate]) -> None:
    gates = [gate(), gate()]

    def meet(gate: Gate) -> int:
        gate.wait()
        return os.getpid()

    found = session.map(meet, gates)
    for each in gates:
        each.arrival()
    for each in gates:
        each.open()
    assert len(set(found)) == 2


# Arrays.


def test_arrays_are_the_receivers_own(session: ProcessSession) -> None:
    def double(array: np.ndarray) -> np.ndarray:
        array *= 2
        return array

    array = np.arange(10.0 * LARGE)
    array.flags.writeable = False
    one = session.submit(double, array).result(WITHIN)
    two = session.submit(double, array).result(WITHIN)
    assert (one == array * 2).all()
    one[:] = 0
    assert (two == array * 2).all()
    assert array[1] == 1


def test_results_outlive_the_session() -> None:
    with ProcessSession(["a"]) as session:
        one = session.submit(np.arange, 3 * LARGE).result(WITHIN)
    one += 1
    assert one.sum() == sum(range(3 * LARGE + 1))


def test_a_function_may_keep_an_argument(session: ProcessSession) -> None:
    def keep(array: np.ndarray) -> None:
        os.kept = array

    def kept() -> float:
        return os.kept.sum()

    session.submit(keep, np.ones(20 * LARGE), node="a").result(WITHIN)
    for _ in range(5):
        # Had its memory been let go of, these would lie there.
        session.submit(np.sum, np.zeros(20 * LARGE), node="a").result(WITHIN)
    assert session.submit(kept, node="a").result(WITHIN) == 20 * LARGE


def test_memory_is_used_again() -> None:
    def reversed_(array: np.ndarray) -> np.ndarray:
        return array[::-1]

    array = np.arange(256.0 * LARGE)
    with ProcessSession(["a"], memory_limit=4 * array.nbytes) as session:
        for _ in range(20):
            result = session.submit(reversed_, array).result(WITHIN)
            assert (result == array[::-1]).all()
        assert session.stats()["a"].shared_bytes <= 4 * array.nbytes


class Unreadable:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_arguments_that_nobody_looked_at_are_given_back() -> None:
    array = np.zeros(256 * LARGE)
    with ProcessSession(["a"], memory_limit=2 * array.nbytes) as session:
        for _ in range(5):
            with pytest.raises(SerializationError):
                session.submit(len, Unreadable(), array).result(WITHIN)


def test_memory_of_large_calls_goes_back() -> None:
    def reversed_(array: np.ndarray) -> np.ndarray:
        return array[::-1].copy()

    def returned() -> None:
        end = time.monotonic() + WITHIN
        while session.stats()["a"].shared_bytes > KEPT:
            assert time.monotonic() < end
            time.sleep(0.02)

    array = np.zeros(KEPT + MINIMUM, np.uint8)
    with ProcessSession(["a"]) as session:
        session.submit(len, array).result(WITHIN)
        returned()
        result = session.submit(reversed_, array).result(WITHIN)
        del result
        returned()
        with pytest.raises(ZeroDivisionError):
            session.submit(lambda array: 1 // 0, array).result(WITHIN)
        returned()


def test_a_future_that_is_done_does_not_keep_the_session() -> None:
    session = ProcessSession(["a"])
    process = psutil.Process(session.stats()["a"].pid)
    future = session.submit(len, "abc")
    assert future.result(WITHIN) == 3
    del session
    process.wait(WITHIN)
    assert future.result() == 3
    assert not future.cancel()


def test_an_interrupted_submit_leaves_no_two_in_one_turn(
    any_session: Session, gate: Callable[[], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, do, calls = gate(), any_session._crew.do, []

    def interrupted(job: Callable[[], object]) -> None:
        calls.append(job)
        do(job)
        if len(calls) == 1:
            # As Ctrl-C does while the new thread is waited for.
            first.arrival()
            raise KeyboardInterrupt

    monkeypatch.setattr(any_session._crew, "do", interrupted)
    with pytest.raises(KeyboardInterrupt):
        any_session.submit(first.wait, node="a")
    second = any_session.submit(len, "abc", node="a")
    assert len(calls) == 1
    assert not second.running()
    first.open()
    assert second.result(WITHIN) == 3


def test_a_late_callback_may_wait_for_the_call_that_follows(
    any_session: Session, gate: Callable[[], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, end = gate(), RunFuture.end
    before = any_session.submit(first.wait, node="a")
    after = any_session.submit(len, "abc", node="a")

    def ending(future: RunFuture, *how: Any) -> None:
        if future is before:
            before.add_done_callback(lambda _: after.result(WITHIN))
        end(future, *how)

    monkeypatch.setattr(RunFuture, "end", ending)
    first.let_through()
    assert after.result(WITHIN / 2) == 3


def test_a_submit_that_is_interrupted_before_it_begins_is_none(
    any_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, calls = any_session._crew.do, []

    def interrupted(job: Callable[[], object]) -> None:
        calls.append(job)
        if len(calls) == 1:
            raise KeyboardInterrupt
        do(job)

    monkeypatch.setattr(any_session._crew, "do", interrupted)
    with pytest.raises(KeyboardInterrupt):
        any_session.submit(len, "abc", node="a")
    assert any_session.submit(len, "abcd", node="a").result(WITHIN) == 4
    assert calls[0]() is None
    assert not any_session._futures


def test_more_than_there_is_memory_for() -> None:
    with ProcessSession(["a"], memory_limit=1 << 20) as session:
        for function, argument in ((np.sum, np.zeros(1 << 20)), (np.zeros, 1 << 20)):
            with pytest.raises(OutOfSharedMemoryError):
                session.submit(function, argument).result(WITHIN)
        assert session.submit(np.sum, np.ones(LARGE)).result(WITHIN) == LARGE


@pytest.mark.parametrize("size", [10, 1 << 20, 20 << 20])
def test_bytes_of_any_size(session: ProcessSession, size: int) -> None:
    data = os.urandom(size)
    assert session.submit(bytes.__add__, data, b"end").result(WITHIN) == data + b"end"


# Functions.


def test_each_call_begins_with_the_state_that_the_function_left_with(
    session: ProcessSession,
) -> None:
    seen: list[int] = []

    def count() -> int:
        seen.append(1)
        return len(seen)

    assert [session.submit(count, node="a").result(WITHIN) for _ in range(3)] == [1, 1, 1]
    assert seen == []
    # What a module of the worker's has is another matter.
    remember = partial(exec, "import os; os.seen = getattr(os, 'seen', 0) + 1")
    for _ in range(3):
        session.submit(remember, node="a").result(WITHIN)
    assert session.submit(eval, "__import__('os').seen", node="a").result(WITHIN) == 3


def test_what_cannot_travel_is_told_at_once(session: ProcessSession) -> None:
    with pytest.raises(SerializationError, match="argument 2 of echo cannot be pickled"):
        session.submit(echo, 1, threading.Lock())
    with pytest.raises(SerializationError, match="argument 'key' of echo cannot be pickled"):
        session.submit(echo, key=threading.Lock())
    with pytest.raises(SerializationError, match=r"the function .*acquire"):
        session.submit(threading.Lock().acquire)
    with pytest.raises(SerializationError, match="argument 1 of echo cannot be pickled"):
        session.map(echo, [1, threading.Lock()])
    assert session.submit(abs, -1).result(WITHIN) == 1


# Death, and the end.


def test_a_node_that_dies(session: ProcessSession, gate: Callable[[], Gate]) -> None:
    first = gate()
    pid = session.stats()["a"].pid
    running = session.submit(first.wait, node="a")
    waiting = session.submit(abs, -1, node="a")
    first.arrival()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(NodeDiedError, match=r"node 'a'.* was killed by SIGKILL"):
        running.result(WITHIN)
    with pytest.raises(NodeDiedError):
        waiting.result(WITHIN)
    assert session.submit(abs, -1, node="b").result(WITHIN) == 1


def test_closing_cancels_what_waits_and_ends_what_runs(gate: Callable[[], Gate]) -> None:
    first = gate()
    session = ProcessSession(["a"])
    running = session.submit(first.wait)
    waiting = session.submit(abs, -1)
    first.arrival()
    session.close()
    assert waiting.cancelled()
    with pytest.raises((SessionClosedError, NodeDiedError)):
        running.result(WITHIN)
