"""Steps run in the order and as often as they say, at once where they say so, and stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from procession.errors import OperatorError, RunTimeoutError
from procession.graph.net import Net
from procession.graph.step import ExecutionStep, Plan, execution_step
from procession.graph.task import Node, Task, TaskGroup
from procession.session.base import Session
from procession.testing.session_contract.base import ContractBase, constant

PATIENCE = 20.0
"""Seconds after which a wait has failed; nothing takes that long unless it is broken."""


class Flag:
    """A `threading.Event` that travels: all that is shipped together shares it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __reduce__(self) -> Any:
        return Flag, ()

    def set(self) -> None:
        """Let the waiters go."""
        self._event.set()

    def wait(self) -> None:
        """Wait until it is set, which has to happen in time."""
        if not self._event.wait(PATIENCE):
            raise TimeoutError("nobody raised the flag")


class Meeting:
    """A `threading.Barrier` that travels."""

    def __init__(self, parties: int) -> None:
        self._parties = parties
        self._barrier = threading.Barrier(parties)

    def __reduce__(self) -> Any:
        return Meeting, (self._parties,)

    def wait(self) -> None:
        """Wait until all are here, which has to happen in time."""
        self._barrier.wait(PATIENCE)


def calling(function: Callable[[], Any], name: str = "net") -> Net:
    """A net that calls a function."""

    def call(inputs: Any, outputs: Any) -> None:
        function()

    net = Net(name)
    net.Python(call)([], [])
    return net


def stopping(function: Callable[[], bool]) -> Net:
    """A net that sets the blob "stop" to what a function says."""

    def call(inputs: Any, outputs: Any) -> None:
        outputs[0].feed(np.array(function()))

    net = Net("stopping")
    net.Python(call)([], ["stop"])
    return net


def failing(text: str, *after: Flag | Meeting) -> Net:
    """A net that raises an error after having waited."""

    def fail() -> None:
        for each in after:
            each.wait()
        raise LookupError(text)

    return calling(fail, "failing")


def endless(*started: Flag) -> ExecutionStep:
    """A loop that nothing of its own ends. It raises its flags when it runs."""

    def start() -> None:
        for each in started:
            each.set()

    return execution_step("endless", calling(start), should_stop_blob="never")


def at_once(*parts: ExecutionStep | Net, **options: Any) -> ExecutionStep:
    """A step whose parts run at once."""
    return execution_step("at_once", list(parts), concurrent_substeps=True, **options)


class Steps(ContractBase):
    """Order, loops, stop blobs, things at once, things that recur, and failures among them."""

    def trace(self, session: Session, step: ExecutionStep, log: Sequence[str]) -> str:
        """Run a step whose nets append to the log; what they appended, wherever they ran."""

        def hand_over(inputs: Any, outputs: Any) -> None:
            outputs[0].feed("".join(log))

        last = Net("last")
        last.Python(hand_over)([], ["trace"])
        plan = Plan("plan")
        plan.AddStep(step)
        plan.AddStep(execution_step("last", last))
        session.run(plan)
        return str(session.workspace().fetch_blob("trace"))

    @pytest.fixture
    def never(self, session: Session) -> None:
        """The blob that the endless loops stop by."""
        session.workspace().feed_blob("never", False)

    def noting(self, log: list[str], *words: str, **options: Any) -> ExecutionStep:
        """A step that appends words, each with a net of its own."""
        nets = [calling(partial(log.append, word), word) for word in words]
        return execution_step(words[0], nets, **options)

    def test_loops_and_order(self, session: Session) -> None:
        log: list[str] = []
        inner = self.noting(log, "a", "b", num_iter=2)
        skipped = self.noting(log, "x", num_iter=0)
        step = execution_step("s", [inner, skipped, self.noting(log, "c")], num_iter=2)
        assert self.trace(session, step, log) == "ababcababc"

    def test_the_stop_blob_is_read_after_each_part(self, session: Session) -> None:
        log: list[str] = []
        stop = execution_step("stop", stopping(lambda: log.count("a") == 3))
        parts = [self.noting(log, "a"), stop, self.noting(log, "b")]
        step = execution_step("s", parts, should_stop_blob="stop")
        assert self.trace(session, step, log) == "ababa"

    def test_only_once(self, session: Session) -> None:
        log: list[str] = []
        session.workspace().feed_blob("stop", False)
        parts = [
            self.noting(log, "a", only_once=True),
            # With a stop blob: one iteration, every time.
            self.noting(log, "b", only_once=True, should_stop_blob="stop"),
        ]
        assert self.trace(session, execution_step("s", parts, num_iter=3), log) == "abbb"

    def test_concurrent_substeps_run_at_once(self, session: Session) -> None:
        meeting = Meeting(3)
        session.run(at_once(*(calling(meeting.wait) for _ in range(3)), num_iter=2))

    def test_instances_run_at_once(self, session: Session) -> None:
        meeting = Meeting(3)
        step = execution_step("one", calling(meeting.wait))
        session.run(execution_step("s", [step], num_iter=2, num_concurrent_instances=3))
        session.run(Task(step=step, num_instances=3))

    def test_workspaces_of_steps(self, session: Session) -> None:
        net = Net("net")
        net.Const(2.0, "own")
        net.Mul(["own", "x"], "x")
        session.workspace().feed_blob("x", 1.0)
        inner = execution_step("inner", net, create_workspace=True, num_iter=2)
        session.run(execution_step("s", [inner], num_iter=2))
        assert session.workspace().fetch_blob("x") == 16
        assert not session.workspace().has_blob("own")

    def test_what_recurs_runs_beside_the_others_and_once_at_the_end(self, session: Session) -> None:
        log: list[str] = []
        ticked = Flag()

        def tick() -> None:
            log.append("t")
            if log.count("t") == 3:
                ticked.set()

        def work() -> None:
            ticked.wait()
            log.append("w")

        ticker = execution_step("ticker", calling(tick), run_every_ms=1)
        step = execution_step("s", [ticker, execution_step("work", calling(work))])
        trace = self.trace(session, step, log)
        assert trace.startswith("ttt")
        assert trace.endswith("t")
        assert trace.count("w") == 1

    def test_a_report_net_runs_at_the_end(self, session: Session) -> None:
        log: list[str] = []
        report = calling(lambda: log.append("r"))
        step = self.noting(log, "a", num_iter=2, report_net=report, report_interval=3600)
        assert self.trace(session, step, log) == "aar"

    @pytest.mark.parametrize("deep", [False, True])
    @pytest.mark.usefixtures("never")
    def test_a_failure_stops_its_siblings(self, session: Session, deep: bool) -> None:
        first, second = Flag(), Flag()
        bad: Net | ExecutionStep = failing("mine", first, second)
        if deep:
            bad = at_once(bad, endless(), num_iter=3)
        timer = execution_step("timer", calling(int), run_every_ms=3_600_000)
        step = at_once(endless(first), at_once(endless(second), endless()), bad, timer)
        with pytest.raises(OperatorError, match="mine") as caught:
            session.run(step, timeout=PATIENCE)
        assert isinstance(caught.value.__cause__, LookupError)
        self.works_on(session)

    def test_the_first_failure_is_the_answer(self, session: Session) -> None:
        meeting, second_fails = Meeting(3), Flag()
        threads: list[threading.Thread] = []

        def first() -> None:
            threads.append(threading.current_thread())
            meeting.wait()
            raise LookupError("first")

        def second() -> None:
            meeting.wait()
            # Its thread ends, but the step that it is part of still waits for its sibling.
            threads[0].join(PATIENCE)
            second_fails.set()
            raise ValueError("second")

        def slow() -> None:
            meeting.wait()
            second_fails.wait()

        inner = at_once(calling(first), calling(slow))
        with pytest.raises(OperatorError, match="first"):
            session.run(at_once(inner, calling(second)), timeout=PATIENCE)
        self.works_on(session)

    def test_failures_of_several_instances(self, session: Session) -> None:
        meeting = Meeting(3)
        step = execution_step("one", failing("each", meeting))
        with pytest.raises(OperatorError, match="each"):
            session.run(execution_step("s", [step], num_concurrent_instances=3), timeout=PATIENCE)
        self.works_on(session)

    @pytest.mark.parametrize("recurs", [False, True])
    @pytest.mark.usefixtures("never")
    def test_what_fails_on_the_side_stops_the_run(self, session: Session, recurs: bool) -> None:
        started = Flag()
        bad = failing("on the side", started)
        if recurs:
            beside = execution_step("beside", bad, run_every_ms=1)
            step = execution_step("s", [beside, endless(started)])
        else:
            step = at_once(endless(started), report_net=bad, report_interval=0.001)
        with pytest.raises(OperatorError, match="on the side"):
            session.run(step, timeout=PATIENCE)
        self.works_on(session)

    def test_a_task_that_fails_stops_tasks_elsewhere(self, session: Session) -> None:
        for node in ("a", "b"):
            with Node(node):
                session.run(constant("never", "never", False))
        started = Flag()
        with TaskGroup() as group:
            with Node("a"):
                Task(step=at_once(endless(), endless(started), failing("over there", started)))
            with Node("b"):
                Task(step=at_once(endless(), endless()))
        with pytest.raises(OperatorError, match="over there"):
            session.run(group, timeout=PATIENCE)
        self.works_on(session)

    @pytest.mark.usefixtures("never")
    def test_a_run_that_takes_too_long_stops_all_that_is_at_once(self, session: Session) -> None:
        timer = execution_step("timer", calling(int), run_every_ms=3_600_000)
        step = at_once(endless(), at_once(endless(), endless()), timer)
        with pytest.raises(RunTimeoutError):
            session.run(step, timeout=0.2)
        self.works_on(session)
