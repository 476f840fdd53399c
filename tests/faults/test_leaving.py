"""However a session is left: orderly, in silence, and in bounded time.

| how | what is looked at |
| --- | --- |
| the `with` block is left by an exception | it is that exception; nobody is left |
| `close` while something runs, waits, is fed | who waited is told; within `close_timeout` |
| `close` twice, by two threads, by a signal handler | the same as once |
| garbage, with or without a cycle | no worker, no segment |
| the end of the interpreter, in all ways | no word on standard error |
"""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest
from tests.faults.moments import (
    MIB,
    WITHIN,
    Witness,
    adding,
    beside_endless,
    endless,
    gone,
    pid_of,
    run_script,
    until,
)
from tests.session.process_nodes import python_net, run_on, segments

from procession import NodeDiedError, ProcessSession, SessionClosedError


class TestByAnException:
    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_out_of_the_block(self, kind):
        with pytest.raises(kind), ProcessSession(["a", "b"]) as session:  # noqa: PT012
            pids = [pid_of(session, node) for node in "ab"]
            witness = Witness(session, "a", "b")
            raise kind("as it should")
        assert not session.is_open()
        assert gone(pids)
        assert segments() == set()
        witness.check_views()

    def test_of_a_run_s(self):
        def fail(inputs: Any, outputs: Any) -> None:
            raise ValueError("as it should")

        with pytest.raises(Exception, match="as it should"), ProcessSession(["a", "b"]) as session:  # noqa: PT012
            pids = [pid_of(session, node) for node in "ab"]
            session.run(beside_endless("a", python_net(fail), "b"))
        assert gone(pids)
        assert segments() == set()

    def test_of_a_node_s_death(self):
        def die(inputs: Any, outputs: Any) -> None:
            import os

            os._exit(1)

        with pytest.raises(NodeDiedError), ProcessSession(["a", "b"]) as session:  # noqa: PT012
            pids = [pid_of(session, node) for node in "ab"]
            session.run(beside_endless("a", python_net(die), "b"))
        assert gone(pids)
        assert segments() == set()

    def test_in_a_block_that_fills_a_blob(self):
        with pytest.raises(ValueError, match="should"), ProcessSession(["a"]) as session:  # noqa: PT012
            pid = pid_of(session, "a")
            with session.workspace("a").new_blob("x", (MIB,)) as array:
                array[:] = 1
                raise ValueError("as it should")
        assert gone([pid])
        del array
        assert segments() == set()


class TestClose:
    def test_during_a_run(self):
        session = ProcessSession(["a", "b"])
        pids = [pid_of(session, node) for node in "ab"]
        witness = Witness(session, "a", "b")
        running = session.run_async(beside_endless("a", endless(), "b"))
        waiting = session.run_async(beside_endless("a", endless(), "b"))
        until(running.running)
        session.close()
        with pytest.raises(SessionClosedError):
            running.result(WITHIN)
        with pytest.raises(CancelledError):
            waiting.result(WITHIN)
        assert gone(pids)
        witness.check_views()

    def test_at_any_moment_of_work(self, chance):
        for _ in range(15):
            session = ProcessSession(["a", "b"])
            pids = [pid_of(session, node) for node in "ab"]
            ends: list[BaseException] = []

            def work(node: str) -> None:
                workspace = session.workspace(node)  # noqa: B023
                number = 0.0
                try:
                    while True:
                        number += 1
                        value = np.full(100_000, number)
                        workspace.feed_blob("x", value)
                        run_on(session, node, adding("x"))  # noqa: B023
                        np.testing.assert_array_equal(workspace.fetch_blob("x"), value + 1)
                except BaseException as error:
                    ends.append(error)  # noqa: B023

            threads = [threading.Thread(target=work, args=(node,)) for node in "ab"]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0, 0.03))
            session.close()
            for thread in threads:
                thread.join(WITHIN)
                assert not thread.is_alive()
            assert [type(end) for end in ends] == [SessionClosedError] * 2, ends
            assert gone(pids)

    def test_twice(self, session):
        witness = Witness(session, "a", "b")
        for _ in range(3):
            session.close()
        witness.check_views()
        for use in (
            lambda: session.workspace("a"),
            lambda: session.stats(),
            lambda: run_on(session, "a", adding()),
            lambda: session.submit(abs, 1),
            lambda: session.__enter__(),
        ):
            with pytest.raises(SessionClosedError):
                use()

    @pytest.mark.parametrize("busy", [False, True])
    def test_by_several_threads_at_once(self, busy):
        for _ in range(5):
            session = ProcessSession(["a", "b"])
            pids = [pid_of(session, node) for node in "ab"]
            if busy:
                until(session.run_async(beside_endless("a", endless(), "b")).running)
            ready = threading.Barrier(4)
            wrong: list[BaseException] = []

            def close() -> None:
                ready.wait(WITHIN)  # noqa: B023
                try:
                    session.close()  # noqa: B023
                    assert not any(map(_exists, pids))  # noqa: B023
                except BaseException as error:
                    wrong.append(error)  # noqa: B023

            threads = [threading.Thread(target=close) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WITHIN)
                assert not thread.is_alive()
            assert wrong == []
            assert segments() == set()

    def test_who_will_not_end_is_killed(self, tmp_path):
        there = tmp_path / "there"

        def stay(inputs: Any, outputs: Any) -> None:
            import time

            there.touch()
            time.sleep(600)

        session = ProcessSession(["a", "b"], close_timeout=0.2)
        pids = [pid_of(session, node) for node in "ab"]
        future = session.run_async(beside_endless("a", python_net(stay), "b"))
        until(there.exists)
        began = time.monotonic()
        session.close()
        assert 0.2 <= time.monotonic() - began < WITHIN
        assert gone(pids)
        with pytest.raises(SessionClosedError):
            future.result(WITHIN)


def _exists(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid)


class TestGarbage:
    @pytest.mark.parametrize("cycle", [False, True])
    def test_without_close(self, cycle):
        session = ProcessSession(["a", "b"])
        pids = [pid_of(session, node) for node in "ab"]
        view = Witness(session, "a", "b").views["a kept large"]
        total = view.sum()
        if cycle:
            session.itself = session  # type: ignore[attr-defined]
        del session
        gc.collect()
        assert gone(pids)
        assert segments() == set()
        assert view.sum() == total

    def test_while_another_is_being_opened(self):
        """Garbage may be collected at any moment: in the midst of opening the next one."""
        before = gc.get_threshold()
        began = time.monotonic()
        try:
            gc.set_threshold(50, 2, 2)
            for _ in range(30):
                session = ProcessSession(["a"])
                session.workspace("a").feed_blob("x", 1)
                session.itself = session  # type: ignore[attr-defined]
                del session
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert segments() == set()
        # Nobody waits in vain for somebody who waits for him.
        assert time.monotonic() - began < 10

    def test_of_what_failed_to_start(self, monkeypatch):
        monkeypatch.setattr(
            "procession.cluster.incarnation.WORKER", "procession.cluster.nowhere:main"
        )
        with pytest.raises(NodeDiedError):
            ProcessSession(["a", "b"])
        assert segments() == set()


OPENED = """
import atexit, contextlib, gc, os, signal, sys, threading, time
import numpy as np
from procession import Net, ProcessSession, SessionClosedError, execution_step
session = ProcessSession(["a", "b"])
session.workspace("a").feed_blob("x", np.zeros(1 << 20))
view = session.workspace("a").fetch_blob("x")
net = Net("turn")
net.Const(False, "stop")
loop = execution_step("loop", net, should_stop_blob="stop")
pids = [stats.pid for stats in session.stats().values()]
print(*pids, flush=True)
"""
ENDS: dict[str, tuple[str, int]] = {
    "its last line": ("", 0),
    "sys.exit": ("sys.exit(7)", 7),
    "in a function": ("def main():\n    inner = ProcessSession(['c'])\n    sys.exit(3)\nmain()", 3),
    "while something runs": ("session.run_async(loop)", 0),
    "while a function runs": ("session.submit(time.sleep, 0.2, node='a')", 0),
    "after a node has died": ("os.kill(pids[0], signal.SIGKILL)", 0),
    "after all have died": ("[os.kill(pid, signal.SIGKILL) for pid in pids]", 0),
    "while one is stopped": ("os.kill(pids[0], signal.SIGSTOP)", 0),
    "closed in an atexit handler": ("atexit.register(session.close)", 0),
    "opened in an atexit handler": ("atexit.register(lambda: ProcessSession(['late']))", 0),
    "used in an atexit handler": (
        "atexit.register(lambda: session.workspace('a').feed_blob('y', view))",
        0,
    ),
    "while a thread feeds": (
        "def feed():\n"
        "    while session.is_open():\n"
        "        with contextlib.suppress(SessionClosedError):\n"
        "            session.workspace('b').feed_blob('y', view)\n"
        "threading.Thread(target=feed, daemon=True).start()\n"
        "time.sleep(0.05)",
        0,
    ),
    "with many": ("many = [ProcessSession(['a', 'b']) for _ in range(5)]", 0),
    "in a cycle": ("session.itself = session; del session", 0),
}


class TestTheInterpreterEnds:
    @pytest.mark.parametrize("how", ENDS)
    def test_without_close(self, tmp_path, how):
        text, code = ENDS[how]
        began = time.monotonic()
        out = run_script(tmp_path, OPENED + text, code)
        assert time.monotonic() - began < WITHIN
        assert gone([int(pid) for pid in out.split()[:2]], 5)
