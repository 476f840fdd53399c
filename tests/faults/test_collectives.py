"""A member of a common world is killed, or stops, at each phase of a call: the others are released.

| phase | what has been seen of it by then |
| --- | --- |
| putting | it has begun the call, and put nothing in |
| arriving | its data are there, and nobody knows |
| waiting | it has arrived, and waits for the others |
| folding | it has arrived, and reduces |
| again | its share is reduced, and nobody knows (three members or more) |
| taking | all are reduced, and it copies them out (three members or more) |

And of calls in which the others' tensors are read where they lie:

| phase | what has been seen of it by then |
| --- | --- |
| telling | all have met, and it was to say where its tensors lie |
| mapping | it has said so, and was to map the others' |
| reducing | all have met, and it reduces its share |
| copying | its share is reduced, and it copies the others' |
| looking | it has the whole result, and others may be copying from it |
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from tests.faults.moments import WITHIN, after, chance_for, pid_of, send, stop
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    CollectiveError,
    Net,
    NodeDiedError,
    OperatorError,
    ProcessionError,
    ProcessSession,
    RunCancelledError,
    RunTimeoutError,
    SessionClosedError,
)
from procession.testing.session_contract.worlds import allreduce, barrier, members, no_calls

SMALL, LARGE = 10, 300_000
"""Elements that go through at once, and in several parts, or else are read where they lie."""
DIRECT = {
    "telling": ("ways", "write_places"),
    "mapping": ("ways", "read_places"),
    "reducing": ("ways", "do_folds"),
    "copying": ("ways", "do_copies"),
    "looking": ("World", "_check_all_there"),
}


def deadly(what: str, turn: int) -> Any:
    """What has a worker die when it comes to a phase for the n-th time."""

    def arm(inputs: Any, outputs: Any) -> None:
        from procession.operators import world

        left = [turn]

        def dies(function: Any) -> Any:
            def step(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return step

        if what == "putting":
            make = world.putter
            world.putter = lambda ins: dies(make(ins))
        elif what in ("arriving", "again"):
            world.World._arrive = dies(world.World._arrive)
        elif what == "waiting":
            world.World._wait = dies(world.World._wait)
        elif what == "taking":
            shares = world.World._in_shares

            def in_shares(self: Any, plan: Any, dtype: Any, put: Any, outs: Any, *rest: Any) -> Any:
                """The results are looked into when they are written, and not before."""

                class Outs(list):  # type: ignore[type-arg]
                    __getitem__ = dies(list.__getitem__)

                return shares(self, plan, dtype, put, Outs(outs), *rest)

            world.World._in_shares = in_shares
        elif what in DIRECT:
            where, name = DIRECT[what]
            place = getattr(world, where)
            setattr(place, name, dies(getattr(place, name)))
        else:
            world.fold = dies(world.fold)

    return python_net(arm)


def begun(session: ProcessSession, size: int, elements: int, value: float = 0.0) -> None:
    session.run(members(size, no_calls, create=True))
    for rank in range(size):
        session.workspace(f"n{rank}").feed_blob(f"x {rank}", np.full(elements, value))


@pytest.mark.parametrize(
    ("size", "elements", "phase", "turn"),
    [
        (2, SMALL, "arriving", 2),
        (2, SMALL, "waiting", 3),
        (2, SMALL, "folding", 2),
        (2, LARGE, "putting", 3),
        (2, LARGE, "arriving", 5),
        (2, LARGE, "waiting", 4),
        (2, LARGE, "folding", 3),
        (3, LARGE, "folding", 2),
        (3, LARGE, "again", 2),
        (3, LARGE, "again", 4),
        (3, SMALL, "waiting", 5),
        (3, LARGE, "taking", 4),
        (2, LARGE, "telling", 1),
        (3, LARGE, "mapping", 1),
        (2, LARGE, "reducing", 3),
        (2, LARGE, "copying", 4),
        (2, LARGE, "looking", 2),
        (3, LARGE, "reducing", 2),
        (3, LARGE, "copying", 1),
        (3, LARGE, "looking", 3),
    ],
)
def test_a_member_is_killed(size: int, elements: int, phase: str, turn: int) -> None:
    nodes = [f"n{rank}" for rank in range(size)]
    with ProcessSession(nodes, on_node_failure="restart") as session:
        begun(session, size, elements)
        run_on(session, "n1", deadly(phase, turn))
        pid, before = pid_of(session, "n1"), time.monotonic()
        with pytest.raises(NodeDiedError) as caught:
            session.run(members(size, allreduce, turns=100))
        assert time.monotonic() - before < WITHIN
        error = caught.value
        assert (error.node, error.pid, error.signal) == ("n1", pid, "SIGKILL")
        assert error.operator == "Allreduce"
        # The others live, and a new world brings all together again.
        begun(session, size, elements, 1.0)
        session.run(members(size, allreduce, turns=3))
        for rank in range(size):
            value = session.workspace(f"n{rank}").fetch_blob(f"x {rank}")
            np.testing.assert_array_equal(value, np.full(elements, float(size**3)))


@pytest.mark.parametrize("turn", range(4))
def test_a_member_is_killed_at_any_moment(turn: int) -> None:
    chance = chance_for(f"collectives {turn}")
    with ProcessSession(["n0", "n1"]) as session:
        begun(session, 2, chance.choice([SMALL, 5000, LARGE]))
        pid = pid_of(session, "n1")
        kill = after(chance.random() * 0.1, lambda: send(pid, signal.SIGKILL))
        with kill, pytest.raises(NodeDiedError) as caught:
            session.run(members(2, allreduce, turns=1 << 40))
        assert caught.value.node == "n1"
        # Whoever waited has given up, and says so at once.
        with pytest.raises((OperatorError, NodeDiedError)):
            session.run(members(2, allreduce))


@pytest.mark.parametrize("turn", range(2))
def test_a_member_stands_still_while_it_is_cancelled(turn: int) -> None:
    """It stopped in the midst of reading, and is killed there: the other does not wait for it."""
    chance = chance_for(f"stopped {turn}")
    with ProcessSession(["n0", "n1"], on_node_failure="restart") as session:
        begun(session, 2, 8 * LARGE)
        future = endless(session)
        running(session)
        pid = pid_of(session, "n1")
        with after(chance.random() * 0.05, lambda: stop(pid)):
            pass
        try:
            session.cancel()
            with pytest.raises((RunCancelledError, NodeDiedError)):
                future.result(WITHIN)
        finally:
            with contextlib.suppress(ProcessLookupError):
                send(pid, signal.SIGCONT)
        begun(session, 2, LARGE, 1.0)
        session.run(members(2, allreduce, turns=3))
        for rank in range(2):
            value = session.workspace(f"n{rank}").fetch_blob(f"x {rank}")
            np.testing.assert_array_equal(value, np.full(LARGE, 8.0))


def messages(net: Net, world: str, x: str, rank: int) -> None:
    if rank == 0:
        net.ReceiveTensor([world], ["got", "from", "tag"])
    else:
        net.SendTensor([world, x], [], dst=0)


def test_a_sender_is_killed_in_the_middle() -> None:
    with ProcessSession(["n0", "n1"]) as session:
        begun(session, 2, LARGE)
        session.run(members(2, messages))
        value = session.workspace("n0").fetch_blob("got")
        pid = pid_of(session, "n1")
        kill = after(chance_for("messages").random() * 0.05, lambda: send(pid, signal.SIGKILL))
        with kill, pytest.raises(NodeDiedError):
            session.run(members(2, messages, turns=1 << 40))
        np.testing.assert_array_equal(session.workspace("n0").fetch_blob("got"), value)


def endless(session: ProcessSession, **options: Any) -> Any:
    return session.run_async(members(2, allreduce, turns=1 << 40), **options)


def running(session: ProcessSession) -> None:
    """Wait until both members have begun to call."""
    words = [handle._words for handle in session._supervisor.nodes.values()]
    end = time.monotonic() + WITHIN
    while not all(each[16] for each in words):
        assert time.monotonic() < end


def test_cancel_and_close_in_the_midst_of_calls() -> None:
    before = segments()
    with ProcessSession(["n0", "n1"]) as session:
        begun(session, 2, LARGE)
        future = endless(session)
        running(session)
        session.cancel()
        with pytest.raises(RunCancelledError):
            future.result(WITHIN)
        begun(session, 2, SMALL)
        future = endless(session)
        running(session)
        moment = time.monotonic()
        session.close()
        assert time.monotonic() - moment < WITHIN
        with pytest.raises(SessionClosedError):
            future.result(WITHIN)
    assert segments() == before


def test_a_timeout_in_the_midst_of_calls() -> None:
    with ProcessSession(["n0", "n1"]) as session:
        begun(session, 2, LARGE)
        with pytest.raises(RunTimeoutError) as caught:
            session.run(members(2, allreduce, turns=1 << 40), timeout=0.2)
        assert caught.value.killed == ()
        # Both may have been between two calls; else they have given up.
        failure = session.run_async(members(2, barrier)).exception(WITHIN)
        assert failure is None or isinstance(failure.__cause__, CollectiveError)
        begun(session, 2, SMALL)
        session.run(members(2, allreduce))


def test_a_member_that_stands_still() -> None:
    """Nobody can say whether it will come: the time of the world runs out."""

    def create(net: Net, world: str, x: str, rank: int) -> None:
        net.CreateCommonWorld([], world, size=2, rank=rank, name="all", timeout_sec=0.5)

    with ProcessSession(["n0", "n1"]) as session:
        session.run(members(2, create))
        pid = pid_of(session, "n1")
        stop(pid)
        try:
            with pytest.raises(ProcessionError) as caught:
                session.run(members(2, barrier))
        finally:
            send(pid, signal.SIGCONT)
        assert "within 0.5 s there came nothing from rank 1 (node 'n1')" in str(caught.value)
        assert isinstance(caught.value.__cause__, TimeoutError)
