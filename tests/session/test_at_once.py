"""Runs beside the script: run_async, several threads, calling off. For both sessions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, as_completed
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.session.process_nodes import python_net, run_on

from procession import (
    LocalSession,
    Net,
    Node,
    OperatorError,
    Plan,
    ProcessSession,
    RunCancelledError,
    RunTimeoutError,
    Session,
    SessionClosedError,
    Task,
    TaskGroup,
    WorkspaceType,
    execution_step,
)
from procession.testing.session_contract import constant

WITHIN = 30.0


@pytest.fixture(params=[LocalSession, ProcessSession])
def session(request) -> Iterator[Session]:
    with request.param() as session:
        yield session


class Gate:
    """Something that a run waits at, in whatever process it is."""

    def __init__(self, folder: Path, name: str) -> None:
        self.reached = folder / f"{name} reached"
        self.open = folder / f"{name} open"

    def net(self) -> Net:
        """A net that waits at the gate."""
        reached, opened, within = self.reached, self.open, WITHIN

        def stand(inputs: Any, outputs: Any) -> None:
            import time

            reached.touch()
            end = time.monotonic() + within
            while not opened.exists() and time.monotonic() < end:
                time.sleep(0.002)

        return python_net(stand)

    def wait(self) -> None:
        """Until somebody stands at it."""
        until(self.reached.exists)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def gate(tmp_path) -> Iterator[Gate]:
    made = Gate(tmp_path, "gate")
    yield made
    made.open.touch()


def endless() -> Plan:
    """Counts in `n` for ever; each turn is a step."""
    net = Net("count")
    net.Add(["n", "one"], "n")
    plan = Plan("endless")
    plan.AddStep(execution_step("forever", net, num_iter=1 << 40))
    return plan


def begin_endless(session: Session, **options: Any) -> Future[Any]:
    for name in ("n", "one"):
        session.workspace().feed_blob(name, np.float64(name == "one"))
    future = session.run_async(endless(), **options)
    until(future.running)
    return future


class TestRunAsync:
    def test_gives_a_future(self, session):
        future = session.run_async(constant("net", "x", 5))
        assert isinstance(future, Future)
        assert future.result(WITHIN) is None
        assert future.done()
        assert session.workspace().fetch_blob("x") == 5

    def test_outputs_can_be_fetched_when_it_is_done(self, session):
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            task = Task(step=constant("net", "x", 7), outputs=["x"])
        session.run_async(group).result(WITHIN)
        assert task.outputs()[0].fetch() == 7

    def test_goes_on_beside_the_script(self, session, gate):
        future = session.run_async(gate.net())
        gate.wait()
        assert future.running()
        assert not future.done()
        gate.open.touch()
        assert future.result(WITHIN) is None

    def test_an_error_is_the_future_s(self, session):
        def fail(inputs, outputs):
            raise ValueError("as it should")

        future = session.run_async(python_net(fail))
        with pytest.raises(OperatorError, match="as it should"):
            future.result(WITHIN)
        assert isinstance(future.exception(), OperatorError)

    def test_what_makes_no_sense_is_refused_at_once(self, session):
        with pytest.raises(TypeError):
            session.run_async(42)
        with pytest.raises(ValueError, match="timeout"):
            session.run_async(Net("net"), timeout=-1)

    def test_later_changes_do_not_reach_it(self, session, gate):
        first = session.run_async(gate.net())
        net = constant("net", "x", 1)
        second = session.run_async(net)
        net.Const(2.0, blob_out="x")
        gate.open.touch()
        first.result(WITHIN)
        second.result(WITHIN)
        assert session.workspace().fetch_blob("x") == 1

    def test_the_same_node_does_one_after_the_other(self, session, gate):
        first = session.run_async(gate.net())
        rest = [session.run_async(constant(f"net {n}", "x", n)) for n in range(20)]
        gate.wait()
        assert not any(future.done() or future.running() for future in rest)
        gate.open.touch()
        for number, future in enumerate(rest):
            future.result(WITHIN)
            assert first.done()
            assert all(earlier.done() for earlier in rest[:number])
        assert session.workspace().fetch_blob("x") == 19

    def test_callbacks_and_waiting(self, session):
        told = []
        futures = [session.run_async(constant(f"net {n}", f"x{n}", n)) for n in range(5)]
        futures[2].add_done_callback(told.append)
        assert set(as_completed(futures, WITHIN)) == set(futures)
        until(lambda: told == [futures[2]])

    def test_a_timeout(self, session):
        future = begin_endless(session, timeout=0.2)
        with pytest.raises(RunTimeoutError):
            future.result(WITHIN)
        run_on(session, "local", constant("net", "x", 5))


class TestOtherNodes:
    def test_run_at_once(self, tmp_path):
        # Each waits until the other is there.
        def meet(mine, other):
            def stand(inputs, outputs):
                import time

                mine.touch()
                end = time.monotonic() + 30
                while not other.exists():
                    if time.monotonic() > end:
                        raise TimeoutError
                    time.sleep(0.002)

            return python_net(stand)

        one, two = tmp_path / "one", tmp_path / "two"
        with ProcessSession(["a", "b"]) as session:
            futures = []
            for node, net in (("a", meet(one, two)), ("b", meet(two, one))):
                with Node(node):
                    futures.append(session.run_async(net))
            for future in futures:
                future.result(WITHIN)

    def test_are_not_kept_waiting(self, gate):
        with ProcessSession(["a", "b"]) as session:
            session.workspace("b").feed_blob("x", np.arange(5000))
            with Node("a"):
                future = session.run_async(gate.net())
            gate.wait()
            assert session.workspace("b").fetch_blob("x")[-1] == 4999
            run_on(session, "b", constant("net", "y", 1))
            assert set(session.stats()) == {"a", "b"}
            assert not future.done()
            gate.open.touch()
            future.result(WITHIN)


class TestWithin:
    def test_a_run_may_begin_another(self):
        # Which comes after it.
        with LocalSession() as session:
            begun = []
            after = constant("after", "x", 5)

            def begin(inputs, outputs):
                begun.append(session.run_async(after))
                begun.append(session.submit(abs, -3))

            session.run(python_net(begin))
            assert begun[0].result(WITHIN) is None
            assert begun[1].result(WITHIN) == 3
            assert session.workspace().fetch_blob("x") == 5


class TestThreads:
    def test_use_one_session(self, session):
        wrong: list[Any] = []

        def work(number: int) -> None:
            node = f"n{number % 2}"
            net = constant(f"net {number}", f"x{number}", number)
            try:
                for turn in range(20):
                    run_on(session, node, net)
                    workspace = session.workspace(node)
                    if workspace.fetch_blob(f"x{number}") != number:
                        wrong.append(number)
                    workspace.feed_blob(f"y{number}", np.full(3000, turn))
                    if not (workspace.fetch_blob(f"y{number}") == turn).all():
                        wrong.append((number, turn))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WITHIN)
            assert not thread.is_alive()
        assert not wrong

    def test_feeding_during_a_run_waits_for_it(self, session, gate):
        future = session.run_async(gate.net())
        gate.wait()
        fed = threading.Event()

        def feed() -> None:
            session.workspace().feed_blob("x", 1)
            fed.set()

        thread = threading.Thread(target=feed)
        thread.start()
        assert not fed.wait(0.05)
        gate.open.touch()
        assert fed.wait(WITHIN)
        thread.join(WITHIN)
        assert future.result(WITHIN) is None


class TestCallingOff:
    def test_one_that_waits_never_begins(self, session, gate):
        first = session.run_async(gate.net())
        second = session.run_async(constant("net", "x", 1))
        third = session.run_async(constant("other", "y", 1))
        assert second.cancel()
        assert second.cancelled()
        with pytest.raises(CancelledError):
            second.result(0)
        gate.open.touch()
        first.result(WITHIN)
        third.result(WITHIN)
        assert not session.workspace().has_blob("x")
        assert session.workspace().fetch_blob("y") == 1

    def test_one_that_runs_stops_at_its_next_step(self, session):
        future = begin_endless(session)
        assert future.cancel()
        assert future.cancelled()
        assert not future.running()
        # What comes next on the node waits until it has stopped.
        stopped_at = session.workspace().fetch_blob("n")
        run_on(session, "local", constant("net", "x", 5))
        assert session.workspace().fetch_blob("n") == stopped_at

    def test_those_who_wait_for_several_are_told(self, session, gate):
        first = session.run_async(gate.net())
        second = session.run_async(Net("net"))
        second.cancel()
        done, _ = wait_for([second], WITHIN)
        assert done == {second}
        gate.open.touch()
        first.result(WITHIN)
        third = begin_endless(session)
        third.cancel()
        done, _ = wait_for([third], WITHIN)
        assert done == {third}

    def test_what_has_ended_cannot_be(self, session):
        future = session.run_async(Net("net"))
        future.result(WITHIN)
        assert not future.cancel()
        assert not future.cancelled()

    def test_session_cancel(self, session):
        future = begin_endless(session)
        session.cancel()
        with pytest.raises(RunCancelledError):
            future.result(WITHIN)
        run_on(session, "local", constant("net", "x", 5))
        session.cancel()  # nothing runs

    def test_session_cancel_from_another_thread(self, session):
        for name in ("n", "one"):
            session.workspace().feed_blob(name, np.float64(1))
        timer = threading.Timer(0.05, session.cancel)
        timer.start()
        with pytest.raises(RunCancelledError):
            session.run(endless(), timeout=WITHIN)
        timer.join()
        session.run(constant("net", "x", 5))

    def test_on_all_nodes_of_the_run(self):
        with ProcessSession(["a", "b"]) as session:
            with TaskGroup(WorkspaceType.GLOBAL) as group:
                for node in "ab":
                    for name in ("n", "one"):
                        session.workspace(node).feed_blob(name, np.float64(1))
                    with Node(node):
                        Task(step=endless().Steps()[0])
            future = session.run_async(group)
            until(future.running)
            future.cancel()
            for node in "ab":
                run_on(session, node, constant(f"net {node}", "x", 5))


class TestClosing:
    def test_calls_off_what_runs_and_what_waits(self, session):
        running = begin_endless(session)
        waiting = session.run_async(Net("net"))
        session.close()
        with pytest.raises(SessionClosedError):
            running.result(WITHIN)
        assert waiting.cancelled()
        with pytest.raises(SessionClosedError):
            session.run_async(Net("net"))


class TestIdle:
    def test_an_open_session_uses_no_processor(self):
        with ProcessSession(["a", "b"]) as session:
            for node in "ab":
                for _ in range(5):
                    run_on(session, node, constant(f"net {node}", "x", np.zeros(5000)))
            held = session.workspace("a").fetch_blob("x")
            workers = [psutil.Process(stats.pid) for stats in session.stats().values()]
            everybody = [psutil.Process(), *workers]

            def used() -> float:
                return sum(sum(each.cpu_times()[:2]) for each in everybody)

            # What is still to be done after the runs is done soon; from then on, nothing.
            end = time.monotonic() + WITHIN
            while True:
                before = used()
                threading.Event().wait(0.5)
                if used() - before < 0.02:
                    break
                assert time.monotonic() < end
            assert held[0] == 0
            assert {each.status() for each in workers} == {psutil.STATUS_SLEEPING}
