"""What never returns is ended: by the run's timeout, `RunFuture.cancel`, or `Session.cancel`.

| what runs | can be stopped |
| --- | --- |
| a loop of operators | between two of them: nothing is lost |
| a Python operator that waits, or goes round for ever | with its process |
| native code that keeps the GIL for ever | with its process |

Who was stopped with its process is named, and what is left can be used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.moments import (
    WITHIN,
    Witness,
    beside_endless,
    endless,
    gone,
    pid_of,
    until,
)
from tests.session.process_nodes import python_net

from procession import (
    NodeDiedError,
    ProcessSession,
    RunCancelledError,
    RunTimeoutError,
    Session,
)


def wait_for_ever() -> None:
    import threading

    threading.Event().wait()


def go_round_for_ever() -> None:
    while True:
        pass


def keep_the_gil_for_ever() -> None:
    import ctypes

    ctypes.PyDLL(None).pause()


def go_round_in_native_code() -> None:
    """A pattern that takes longer than anybody lives; the GIL is kept meanwhile."""
    import re

    re.match("(a*)*b", "a" * 200)


def swallow_whatever_comes() -> None:
    import time

    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


def never(what: Callable[[], None], there: Any) -> Any:
    """A net of an operator that says that it is there, and never returns."""

    def work(inputs: Any, outputs: Any) -> None:
        there.touch()
        print("last words", flush=True)
        what()

    return python_net(work)


def check_lost(session: Session, witness: Witness, pid: int) -> None:
    """Node `a` is gone, and nothing else."""
    assert gone([pid])
    with pytest.raises(NodeDiedError):
        session.workspace("a").fetch_blob("kept small")
    witness.check_views()
    witness.check_node("b")


class TestNever:
    @pytest.mark.parametrize("what", [wait_for_ever, go_round_in_native_code])
    def test_timeout(self, session, tmp_path, what):
        witness, pid = Witness(session, "a", "b"), pid_of(session, "a")
        with pytest.raises(RunTimeoutError) as caught:
            session.run(beside_endless("a", never(what, tmp_path / "there"), "b"), timeout=1.5)
        assert caught.value.killed == ("a",)
        assert "'a'" in str(caught.value)
        check_lost(session, witness, pid)

    @pytest.mark.parametrize("what", [go_round_for_ever, keep_the_gil_for_ever])
    def test_cancel_of_the_session(self, session, tmp_path, what):
        witness, pid = Witness(session, "a", "b"), pid_of(session, "a")
        there = tmp_path / "there"

        def call_off() -> None:
            until(there.exists)
            session.cancel()

        thread = threading.Thread(target=call_off)
        thread.start()
        with pytest.raises(RunCancelledError) as caught:
            session.run(beside_endless("a", never(what, there), "b"))
        thread.join(WITHIN)
        assert caught.value.killed == ("a",)
        assert "'a'" in str(caught.value)
        check_lost(session, witness, pid)

    @pytest.mark.parametrize("what", [wait_for_ever, keep_the_gil_for_ever])
    def test_cancel_of_the_future(self, session, tmp_path, what):
        witness, pid = Witness(session, "a", "b"), pid_of(session, "a")
        there = tmp_path / "there"
        future = session.run_async(beside_endless("a", never(what, there), "b"))
        until(there.exists)
        began = time.monotonic()
        assert future.cancel()
        assert future.cancelled()
        assert time.monotonic() - began < WITHIN
        check_lost(session, witness, pid)

    @pytest.mark.parametrize("what", [swallow_whatever_comes, keep_the_gil_for_ever])
    def test_close(self, tmp_path, what):
        session = ProcessSession(["a", "b"], close_timeout=0.3)
        witness = Witness(session, "a", "b")
        pids = [pid_of(session, node) for node in "ab"]
        there = tmp_path / "there"
        future = session.run_async(beside_endless("a", never(what, there), "b"))
        until(there.exists)
        session.close()
        assert gone(pids, 5)
        with pytest.raises(Exception, match="closed"):
            future.result(WITHIN)
        witness.check_views()


class TestWhatCanBeStopped:
    def test_by_a_timeout(self, session):
        witness = Witness(session, "a", "b")
        with pytest.raises(RunTimeoutError) as caught:
            session.run(beside_endless("a", endless(), "b"), timeout=0.1)
        assert caught.value.killed == ()
        for node in "ab":
            witness.check_node(node)

    def test_by_cancel(self, session):
        witness = Witness(session, "a", "b")
        future = session.run_async(beside_endless("a", endless(), "b"))
        until(future.running)
        session.cancel()
        with pytest.raises(RunCancelledError) as caught:
            future.result(WITHIN)
        assert caught.value.killed == ()
        for node in "ab":
            witness.check_node(node)

    def test_cancel_again_and_again(self, session, chance):
        witness = Witness(session, "a", "b")
        group = beside_endless("a", endless(), "b")
        for _ in range(40):
            future = session.run_async(group)
            time.sleep(chance.uniform(0, 0.004))
            if chance.random() < 0.5:
                future.cancel()
                assert future.cancelled()
            else:
                until(future.running)
                session.cancel()
                with pytest.raises(RunCancelledError) as caught:
                    future.result(WITHIN)
                assert caught.value.killed == ()
        for node in "ab":
            witness.check_node(node)

    def test_what_ends_a_moment_later_is_waited_for(self, session, tmp_path):
        """A second is given to who was called off, to come to its next operator."""
        witness = Witness(session, "a", "b")
        there = tmp_path / "there"

        def take_a_moment(inputs: Any, outputs: Any) -> None:
            import time

            there.touch()
            time.sleep(0.3)

        future = session.run_async(beside_endless("a", python_net(take_a_moment), "b"))
        until(there.exists)
        future.cancel()
        for node in "ab":
            witness.check_node(node)
