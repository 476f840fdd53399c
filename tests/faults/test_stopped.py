"""A worker that is stopped is not dead: it has the time of the run, and is ended then.

| when it is stopped | what happens |
| --- | --- |
| in a run with a timeout | `RunTimeoutError` with `killed`; never a NodeDiedError before |
| in a run, and it goes on before the timeout | nothing |
| idle, and then it is asked | `blob_timeout`, and the same |
| idle, and then the session is closed | it is killed after `close_timeout` |
| idle, and nobody asks | the other nodes, and the janitor, take no notice |
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.faults.moments import (
    MIB,
    WITHIN,
    Witness,
    adding,
    after,
    beside_endless,
    endless,
    gone,
    pid_of,
    send,
    stop,
    until,
)
from tests.session.process_nodes import python_net, run_on

from procession import NodeDiedError, ProcessSession, RunTimeoutError
from procession.session.future import RunFuture


def stop_in_the_midst(session: ProcessSession, node: str, folder: Any, **options: Any) -> RunFuture:
    """Begin a run of two nodes, and stop this one's worker in its operator."""
    there, on = folder / "there", folder / "on"

    def work(inputs: Any, outputs: Any) -> None:
        import time

        there.touch()
        while not on.exists():
            time.sleep(0.001)
        outputs[0].feed(np.arange(5.0))

    future = session.run_async(python_net(work, outputs=["made"]), **options)
    until(there.exists)
    stop(pid_of(session, node))
    on.touch()
    return future


@pytest.fixture
def session(request):
    with ProcessSession(["local", "a", "b"]) as session:
        yield session


class TestInARun:
    @pytest.mark.parametrize("moment", ["before", "in the midst"])
    def test_the_timeout_ends_it(self, session, tmp_path, moment):
        witness = Witness(session, "local", "b")
        pid = pid_of(session, "local")
        began = time.monotonic()
        if moment == "before":
            stop(pid)
            future = session.run_async(
                beside_endless("local", adding("kept small", 10), "b"), timeout=0.4
            )
            witness = Witness(session, "a")
        else:
            future = stop_in_the_midst(session, "local", tmp_path, timeout=0.4)
        with pytest.raises(RunTimeoutError) as caught:
            future.result(WITHIN)
        assert time.monotonic() - began >= 0.4
        assert caught.value.killed == ("local",)
        assert caught.value.timeout == 0.4
        assert "'local'" in str(caught.value)
        assert gone([pid])
        witness.check_views()
        with pytest.raises(NodeDiedError):
            session.workspace("local").fetch_blob("kept small")
        for node in "ab":
            Witness(session, node).check_node(node)

    def test_it_is_not_dead_before(self, session, tmp_path):
        future = stop_in_the_midst(session, "local", tmp_path)
        # Longer than a worker has to stop, or to end.
        threading.Event().wait(1.3)
        assert not future.done()
        Witness(session, "a").check_node("a")
        send(pid_of(session, "local"), signal.SIGCONT)
        assert future.result(WITHIN) is None
        assert session.workspace().fetch_blob("made").sum() == 10

    def test_going_on_in_time_is_as_if_nothing_had_been(self, session, tmp_path):
        witness = Witness(session, "local", "b")
        pid = pid_of(session, "local")
        future = stop_in_the_midst(session, "local", tmp_path, timeout=WITHIN)
        with after(0.1, lambda: send(pid, signal.SIGCONT)):
            assert future.result(WITHIN) is None
        assert pid_of(session, "local") == pid
        for node in ("local", "b"):
            witness.check_node(node)
        assert session.workspace().fetch_blob("made").sum() == 10

    def test_again_and_again(self, session, chance):
        """At any moment of a mixture of work: slower, and otherwise the same."""
        witness = Witness(session, "a", "b")
        workspace, pid = session.workspace("a"), pid_of(session, "a")
        ended = threading.Event()

        def disturb() -> None:
            while not ended.is_set():
                send(pid, signal.SIGSTOP)
                ended.wait(chance.uniform(0, 0.002))
                send(pid, signal.SIGCONT)
                ended.wait(chance.uniform(0, 0.004))

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            for number in range(60):
                value = np.full(chance.choice([3, 5000, MIB // 8]), float(number))
                workspace.feed_blob("x", value)
                run_on(session, "a", adding("x"))
                np.testing.assert_array_equal(workspace.fetch_blob("x"), value + 1)
                workspace.feed_blob("text", "a" * chance.choice([10, 10_000]))
                assert set(workspace.fetch_blob("text")) == {"a"}
        finally:
            ended.set()
            thread.join()
        for node in "ab":
            witness.check_node(node)
        assert pid_of(session, "a") == pid

    def test_it_is_left_when_another_node_fails(self, session, tmp_path):
        """The error is raised at once; who stands still is called off, and goes on later."""
        pid = pid_of(session, "a")
        witness = Witness(session, "a", "b")
        stop(pid)

        def fail(inputs: Any, outputs: Any) -> None:
            raise ValueError("as it should")

        with pytest.raises(Exception, match="as it should"):
            session.run(beside_endless("b", python_net(fail), "a"))
        witness.check_node("b")
        send(pid, signal.SIGCONT)
        witness.check_node("a")


class TestIdle:
    @pytest.mark.parametrize("use", ["fetch", "feed", "large feed", "long feed", "remove", "new"])
    def test_it_is_asked_in_vain(self, use):
        with ProcessSession(["a", "b"], blob_timeout=0.3) as session:
            witness = Witness(session, "a", "b")
            workspace, pid = session.workspace("a"), pid_of(session, "a")
            stop(pid)
            uses: dict[str, Callable[[], Any]] = {
                "fetch": lambda: workspace.fetch_blob("kept large"),
                "feed": lambda: workspace.feed_blob("x", 1),
                "large feed": lambda: workspace.feed_blob("x", np.zeros(MIB)),
                "long feed": lambda: workspace.feed_blob("x", "a" * (9 * MIB)),
                "remove": lambda: workspace.remove_blob("kept large"),
                "new": lambda: workspace.new_blob("x", (MIB,)).__enter__(),
            }
            began = time.monotonic()
            with pytest.raises(RunTimeoutError) as caught:
                uses[use]()
            assert time.monotonic() - began >= 0.3
            assert caught.value.killed == ("a",)
            assert gone([pid])
            with pytest.raises(NodeDiedError):
                workspace.fetch_blob("kept small")
            witness.check_views()
            witness.check_node("b")

    @pytest.mark.parametrize("use", ["fetch", "large feed", "run"])
    def test_it_goes_on_in_time(self, use):
        with ProcessSession(["a", "b"], blob_timeout=WITHIN) as session:
            witness = Witness(session, "a", "b")
            workspace, pid = session.workspace("a"), pid_of(session, "a")
            stop(pid)
            with after(0.1, lambda: send(pid, signal.SIGCONT)):
                if use == "fetch":
                    assert workspace.fetch_blob("kept large").size == 100_000
                elif use == "large feed":
                    workspace.feed_blob("x", np.zeros(MIB))
                else:
                    run_on(session, "a", adding("kept small", 10))
                    workspace.feed_blob("kept small", witness.values["a kept small"])
            for node in "ab":
                witness.check_node(node)

    def test_the_others_and_the_janitor_take_no_notice(self, session):
        witness = Witness(session, "a", "b")
        session.workspace("a").feed_blob("large", np.ones(MIB))
        session.workspace("b").feed_blob("large", np.ones(MIB))
        held = [session.workspace(node).fetch_blob("large") for node in "ab"]
        pid = pid_of(session, "a")
        stop(pid)
        # Their leases end: the janitor wants to tell both nodes.
        held.clear()
        gc.collect()
        for _ in range(5):
            view = session.workspace("b").fetch_blob("large")
            session.workspace("b").feed_blob("large", np.ones(MIB))
            assert view.sum() == MIB
            del view
            threading.Event().wait(0.1)
        witness.check_node("b")
        send(pid, signal.SIGCONT)
        witness.check_node("a")

    def test_stats_are_told_all_the_same(self, session):
        stop(pid_of(session, "a"))
        assert session.stats()["a"].rss_bytes > 0
        assert session.nodes == ["local", "a", "b"]


class TestClosing:
    @pytest.mark.parametrize("many", [1, 3])
    def test_it_is_killed_in_the_end(self, many):
        nodes = [f"n{number}" for number in range(3)]
        session = ProcessSession(nodes, close_timeout=0.3)
        witness = Witness(session, *nodes)
        pids = [pid_of(session, node) for node in nodes]
        for pid in pids[:many]:
            stop(pid)
        began = time.monotonic()
        session.close()
        # Together, not one after the other.
        assert time.monotonic() - began < 10
        assert gone(pids, 5)
        witness.check_views()

    def test_by_default_too(self):
        session = ProcessSession(["a", "b"])
        pids = [pid_of(session, node) for node in "ab"]
        stop(pids[0])
        session.close()
        assert gone(pids, 5)

    def test_in_a_run(self):
        session = ProcessSession(["local", "b"], close_timeout=0.3)
        pids = [pid_of(session, node) for node in ("local", "b")]
        future = session.run_async(endless())
        until(future.running)
        stop(pids[0])
        session.close()
        assert gone(pids, 5)
        assert future.done()
