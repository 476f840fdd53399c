"""Ctrl-C between any two steps of whatever a session does: nothing is lost by it.

A trace function raises KeyboardInterrupt before the k-th opcode that the main thread does in the
rooms which talk to workers, for one k after the other until the operation is done before its turn
comes. After each, the same session with the same workers must do everything as if nothing had been.
"""

from __future__ import annotations

import gc
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from tests.session.process_nodes import segments

import procession
from procession import Net, Node, ProcessSession, Task, TaskGroup, WorkspaceType
from procession.testing.session_contract.worlds import barrier, members, no_calls

ROOMS = Path(procession.__file__).parent
TRACED = tuple(str(ROOMS / room) for room in ("cluster", "session/process.py"))
FINALIZERS = {"__del__", "_over", "_over_large", "end", "_forget", "forget"}
"""Python itself loses a Ctrl-C that comes in one of these: nobody hears what they raise."""
NODES = ["a", "b"]
NEVER = 1 << 40
LETTER = "é" * 20_000


class Interrupt:
    """Raises KeyboardInterrupt before the opcode of that number."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(TRACED) or code.co_name in FINALIZERS:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        # Python lets no signal in between a lock and the `with` that gives it back.
        line = linecache.getline(code.co_filename, frame.f_lineno or 0)
        if event == "opcode" and not line.lstrip().startswith("with "):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def interrupted(act: Callable[[], object], at: int) -> bool:
    """Whether the act was interrupted before that opcode, and did not end before."""
    before = sys.gettrace()
    interrupt = Interrupt(at)
    # Python 3.12 tells of opcodes only who wanted that before he set the function.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(interrupt)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def group(size: int, *nodes: str, name: str = "net") -> TaskGroup:
    with TaskGroup(WorkspaceType.GLOBAL) as found:
        for node in nodes:
            with Node(node):
                net = Net(name)
                net.ConstantFill([], ["c"], shape=[size], value=1.0)
                Task(step=net)
    return found


@pytest.fixture
def session() -> Iterator[ProcessSession]:
    with ProcessSession(NODES) as session:
        yield session


class TestBetweenAnyTwoOpcodes:
    # Each at every n-th opcode, beginning with another one: all of them would take too long.
    @pytest.mark.parametrize(
        ("what", "step"),
        [
            ("run", 5),
            ("run_both", 5),
            ("run_new", 7),
            ("fetch_small", 2),
            ("fetch_large", 5),
            ("fetch_letter", 2),
            ("feed_small", 5),
            ("feed_large", 7),
            ("feed_letter", 7),
            ("remove", 5),
            ("outputs", 7),
            ("new_blob", 7),
            ("call", 9),
        ],
    )
    def test_nothing_is_lost(self, session, what, step):
        one = ProcessSession.compile(group(3000, "a"))
        both = ProcessSession.compile(group(3, *NODES))
        with TaskGroup() as private:
            net = Net("private")
            out = net.ConstantFill([], ["o"], shape=[2000], value=2.0)
            task = Task(step=net, outputs=[out], node="a")
        a = session.workspace("a")
        pids = {name: stats.pid for name, stats in session.stats().items()}
        large = np.arange(2000.0)

        def outputs() -> None:
            session.run(private)
            assert task.outputs()[0].fetch().sum() == 4000

        def new_blob() -> None:
            with a.new_blob("n", 3000) as array:
                array[:] = 5

        acts: dict[str, Callable[[], object]] = {
            "run": lambda: session.run(one),
            "run_both": lambda: session.run(both),
            "run_new": lambda: session.run(group(3, "a", name="n" * 6000)),
            "fetch_small": lambda: a.fetch_blob("small"),
            "fetch_large": lambda: a.fetch_blob("large"),
            "fetch_letter": lambda: a.fetch_blob("letter"),
            "feed_small": lambda: a.feed_blob("small", np.ones(3)),
            "feed_large": lambda: a.feed_blob("large", large),
            "feed_letter": lambda: a.feed_blob("letter", [LETTER]),
            "remove": lambda: a.has_blob("r") and a.remove_blob("r"),
            "outputs": outputs,
            "new_blob": new_blob,
            "call": lambda: session.submit(sum, [1, 2], node="a").result(),
        }

        def check() -> None:
            a.feed_blob("small", np.ones(3))
            a.feed_blob("large", large)
            a.feed_blob("letter", [LETTER])
            a.feed_blob("r", 1)
            session.run(both)
            assert a.fetch_blob("small").tolist() == [1, 1, 1]
            assert np.array_equal(a.fetch_blob("large"), large)
            assert a.fetch_blob("letter") == [LETTER]
            assert session.workspace("b").fetch_blob("c").tolist() == [1, 1, 1]
            outputs()

        check()
        # Python 3.13 tells of opcodes from the second call on.
        assert not interrupted(acts[what], NEVER)
        at = 1
        while interrupted(acts[what], at):
            check()
            at += step
        assert at > 1
        assert {name: stats.pid for name, stats in session.stats().items()} == pids


class TestWorlds:
    def test_leave_nothing(self, session):
        """What no run ends any more has its name taken away at once all the same."""
        create = session.compile(members(2, no_calls, create=True, nodes=NODES))
        meet = session.compile(members(2, barrier, nodes=NODES))
        session.run(create)
        before = segments()

        def act() -> object:
            return session.run(create)

        assert not interrupted(act, NEVER)
        at = 1
        while interrupted(act, at):
            assert segments() == before
            at += 13
        assert at > 100
        session.run(create)
        session.run(meet)
        assert len(session._supervisor.nodes["a"].seats) <= 2


class TestOpeningAndClosing:
    @pytest.mark.parametrize("on_node_failure", ["raise", "restart"])
    def test_leave_nothing(self, on_node_failure):
        kept: list[ProcessSession] = []

        def use() -> None:
            with ProcessSession(["a"], on_node_failure=on_node_failure) as session:
                kept.append(session)
                session.workspace("a").feed_blob("x", np.zeros(10_000))
                session.workspace("b").feed_blob("x", 1)

        assert not interrupted(use, NEVER)
        at = 1
        while interrupted(use, at):
            for session in kept:
                session.close()
            kept.clear()
            at += 211
        assert at > 1000
        kept.clear()
        gc.collect()
        assert segments() == set()
