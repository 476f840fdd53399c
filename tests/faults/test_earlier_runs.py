"""What an earlier run, or an interruption, has left behind: nobody waits for it for ever.

| what is left | what ends it |
| --- | --- |
| an operator that never returns, of a run that failed elsewhere | `cancel`; `blob_timeout` |
| a worker that is stopped in the middle of a letter that nobody takes | `close`, in time |
| a large feed that was interrupted | both sides agree on what is torn |
| a node that cannot be restarted for want of files | a typed error, and the next try |
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.faults.moments import WITHIN, gone, pid_of, send, until
from tests.faults.test_interrupted import NEVER, interrupted
from tests.session.process_nodes import python_net, run_on

from procession import (
    BlobReference,
    Node,
    NodeDiedError,
    OperatorError,
    OutOfFilesError,
    ProcessSession,
    RunCancelledError,
    RunTimeoutError,
    Task,
    TaskGroup,
    TornBlobError,
)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ProcessSession]:
    """Node b is in an operator that never returns, of a run that has failed on node a."""
    begun = tmp_path / "begun"

    def fail(inputs: Any, outputs: Any) -> None:
        while not begun.exists():
            time.sleep(0.001)
        raise ValueError("on purpose")

    def hang(inputs: Any, outputs: Any) -> None:
        begun.touch()
        while True:
            time.sleep(0.01)

    with ProcessSession(["a", "b"], blob_timeout=0.5) as session:
        session.workspace("b").feed_blob("x", np.ones(1))
        with TaskGroup() as group:
            with Node("a"):
                Task(step=python_net(fail))
            with Node("b"):
                Task(step=python_net(hang))
        with pytest.raises(OperatorError, match="on purpose"):
            session.run(group)
        yield session


class TestThatNeverEnds:
    def test_cancel_of_the_next_run(self, session):
        with Node("b"):
            future = session.run_async(python_net(lambda i, o: None))
        until(future.running)
        session.cancel()
        with pytest.raises(RunCancelledError) as caught:
            future.result(WITHIN)
        assert caught.value.killed == ("b",)

    def test_a_blob_is_asked_for(self, session):
        with pytest.raises(RunTimeoutError) as caught:
            session.workspace("b").fetch_blob("x")
        assert caught.value.killed == ("b",)
        assert caught.value.timeout == 0.5

    def test_a_function_is_called(self, session):
        with pytest.raises(RunTimeoutError) as caught:
            session.submit(abs, -1, node="b").result(WITHIN)
        assert caught.value.killed == ("b",)


def test_close_with_half_a_letter():
    with ProcessSession(["a"]) as other:
        net = python_net(lambda i, o: o[0].feed(["x" * 30_000_000]), [], ["long"])
        with Node("a"):
            task = Task(step=net, outputs=[BlobReference("long")])
        run_on(other, "a", python_net(lambda i, o: None))
        channel, pid = other._supervisor.nodes["a"].channel, pid_of(other, "a")

        def interrupt() -> None:
            until(lambda: channel.arrived() and channel._words[channel._in] & 0xFFFF == 0xFFFF)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.05)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            other.run(task)
        thread.join()
        begin = time.monotonic()
        other.close()
        assert time.monotonic() - begin < WITHIN
        assert gone([pid])


def test_both_sides_agree_on_what_is_torn():
    with ProcessSession(["a"]) as session:
        a = session.workspace("a")
        found = set()
        assert not interrupted(lambda: a.feed_blob("x", np.ones(2000)), NEVER)
        at = 1
        while True:
            a.feed_blob("x", np.zeros(2000))
            if not interrupted(lambda: a.feed_blob("x", np.ones(2000)), at):
                break
            is_there = a.has_blob("x")
            assert ("x" in a.names()) == is_there
            if is_there:
                value = a.fetch_blob("x")
                assert value.min() == value.max()
                found.add(value[0])
            else:
                with pytest.raises(TornBlobError):
                    a.fetch_blob("x")
                found.add("torn")
            at += 11
        assert found == {0, 1, "torn"}


def test_no_files_for_a_restart():
    with ProcessSession(["a"], on_node_failure="restart") as session:
        a = session.workspace("a")
        a.feed_blob("x", np.arange(1000.0))
        pid = pid_of(session, "a")
        send(pid, "SIGKILL")
        assert gone([pid])
        with pytest.raises(NodeDiedError):
            session.submit(abs, 1, node="a").result()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        for more in range(4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, limits[1]))
            try:
                with pytest.raises(OutOfFilesError) as caught:
                    a.fetch_blob("x")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert (caught.value.node, caught.value.limit) == ("a", lowest + more)
        assert a.fetch_blob("x")[-1] == 999
        assert session.stats()["a"].restarts == 1
