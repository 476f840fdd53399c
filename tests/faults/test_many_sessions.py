"""Many sessions, at once and one after the other: independent, and nothing grows.

| what | how often |
| --- | --- |
| sessions at once | two, ten, and in threads |
| opened and closed | 100 times (PROCESSION_FAULTS_SESSIONS says otherwise) |
| opened, used, and a worker of it killed | a fifth of that |
"""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import numpy as np
import psutil
import pytest
from tests.faults.moments import MIB, WITHIN, Witness, adding, gone, pid_of, send
from tests.session.process_nodes import run_on, segments

from procession import NodeDiedError, ProcessSession

TIMES = int(os.environ.get("PROCESSION_FAULTS_SESSIONS", "100"))


class TestAtOnce:
    def test_a_worker_of_one_is_nothing_to_the_other(self):
        with ProcessSession(["a", "b"]) as one, ProcessSession(["a", "b"]) as other:
            mine, theirs = Witness(one, "a", "b"), Witness(other, "a", "b")
            pid = pid_of(one, "a")
            send(pid, "SIGKILL")
            with pytest.raises(NodeDiedError):
                one.workspace("a").fetch_blob("kept large")
            for node in "ab":
                theirs.check_node(node)
            mine.check_node("b")
            one.close()
            for node in "ab":
                theirs.check_node(node)
            mine.check_views()
            theirs.check_views()

    def test_ten(self, chance):
        sessions = [ProcessSession(["a", "b"]) for _ in range(10)]
        try:
            witnesses = [Witness(session, "a", "b", chance=chance) for session in sessions]
            pids = [pid_of(session, node) for session in sessions for node in "ab"]
            assert len(set(pids)) == 20
            order = list(range(10))
            chance.shuffle(order)
            for place in order:
                if chance.random() < 0.5:
                    send(pid_of(sessions[place], "a"), "SIGKILL")
                sessions[place].close()
                for other in range(10):
                    witnesses[other].check_views()
                    if sessions[other].is_open():
                        for node in "ab":
                            witnesses[other].check_node(node)
            assert gone(pids)
        finally:
            for session in sessions:
                session.close()

    def test_in_threads(self, chance):
        """Each opens its own, works, loses a worker, and closes it."""
        wrong: list[BaseException] = []
        moments = [chance.random() for _ in range(6)]

        def work(moment: float) -> None:
            try:
                for _ in range(5):
                    with ProcessSession(["a", "b"]) as session:
                        witness = Witness(session, "a", "b")
                        for node in "ab":
                            witness.check_node(node)
                        if moment < 0.5:
                            send(pid_of(session, "a"), "SIGKILL")
                            with pytest.raises(NodeDiedError):
                                session.workspace("a").fetch_blob("kept large")
                            witness.check_node("b")
                    witness.check_views()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(moment,)) for moment in moments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WITHIN)
            assert not thread.is_alive()
        assert wrong == []

    def test_a_session_of_a_thread_outlives_it(self):
        made: list[ProcessSession] = []
        thread = threading.Thread(target=lambda: made.append(ProcessSession(["a", "b"])))
        thread.start()
        thread.join(WITHIN)
        (session,) = made
        with session:
            witness = Witness(session, "a", "b")
            for node in "ab":
                witness.check_node(node)


class Figures:
    """What this process has that could grow."""

    def __init__(self) -> None:
        gc.collect()
        me = psutil.Process()
        self.files = me.num_fds()
        self.threads = me.num_threads()
        self.processes = len(me.children(recursive=True))
        self.segments = len(segments())
        self.memory = me.memory_info().rss

    def check(self, before: Figures, memory: int) -> None:
        assert self.files <= before.files
        assert self.threads <= before.threads
        assert self.processes <= before.processes
        assert self.segments <= before.segments
        assert self.memory - before.memory < memory


def open_and_close() -> None:
    with ProcessSession(["a"]):
        pass


def open_use_and_close() -> None:
    with ProcessSession(["a", "b"]) as session:
        session.workspace("a").feed_blob("x", np.zeros(MIB // 8))
        run_on(session, "a", adding("x"))
        assert session.workspace("a").fetch_blob("x")[0] == 1
        session.workspace("b").feed_blob("text", "a" * 10_000)


def open_kill_and_close() -> None:
    with ProcessSession(["a", "b"]) as session:
        session.workspace("a").feed_blob("x", np.zeros(MIB // 8))
        send(pid_of(session, "a"), "SIGKILL")
        with pytest.raises(NodeDiedError):
            session.workspace("a").fetch_blob("x")


@pytest.mark.parametrize(
    ("once", "times"),
    [(open_and_close, TIMES), (open_use_and_close, TIMES // 5), (open_kill_and_close, TIMES // 5)],
)
def test_one_after_the_other(once: Any, times: int) -> None:
    for _ in range(5):
        once()
    before = Figures()
    for _ in range(times):
        once()
    Figures().check(before, 16 * MIB)


def test_the_server_s_side_is_flat_too():
    """The fork server, the parent of all workers, keeps nothing of those that are gone."""
    from procession.cluster import forkserver
    from procession.cluster.launch import DEFAULT_METHOD

    if DEFAULT_METHOD != "forkserver":
        pytest.skip("there is no fork server")
    server = psutil.Process(forkserver.running_server().pid)
    open_use_and_close()
    files, memory = server.num_fds(), server.memory_info().rss
    for _ in range(10):
        open_use_and_close()
        open_kill_and_close()
    assert server.num_fds() <= files
    assert server.memory_info().rss - memory < 4 * MIB
