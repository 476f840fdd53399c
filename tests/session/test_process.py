"""ProcessSession: the contract on both start methods, and workers that come and go."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import numpy as np
import psutil
import pytest
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    Net,
    Node,
    NodeDiedError,
    ProcessSession,
    SerializationError,
    Session,
)
from procession.cluster import blas
from procession.testing.session_contract import SessionContract, constant


class TestProcessSession(SessionContract):
    def make(self, **options: Any) -> Session:
        return ProcessSession(**options)


class TestSpawnedProcessSession(SessionContract):
    def make(self, **options: Any) -> Session:
        return ProcessSession(start_method="spawn", **options)


class TestStarting:
    def test_named_nodes_are_started_at_once(self):
        with ProcessSession(["a", Node("b")]) as session:
            assert session.nodes == ["a", "b"]
            pids = [stats.pid for stats in session.stats().values()]
            assert len({*pids, os.getpid()}) == 3
            assert all(psutil.pid_exists(pid) for pid in pids)
        assert not any(psutil.pid_exists(pid) for pid in pids)

    def test_others_when_they_are_used(self, session):
        assert session.nodes == []
        assert not session.workspace("a").has_blob("x")
        assert session.nodes == []
        session.workspace("a").feed_blob("x", 1)
        assert session.nodes == ["a"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"nodes": "a"}, "list of names"),
            ({"start_method": "fork"}, "fork"),
            ({"start_method": "sprawn"}, "spawn"),
            ({"threads_per_node": 0}, "threads_per_node"),
            ({"memory_limit": -1}, "memory_limit"),
            ({"timeout": 0}, "timeout"),
        ],
    )
    def test_arguments_that_make_no_sense(self, options, message):
        with pytest.raises(ValueError, match=message):
            ProcessSession(**options)

    def test_a_worker_that_does_not_come_up(self, monkeypatch):
        monkeypatch.setattr(
            "procession.cluster.incarnation.WORKER", "procession.cluster.nowhere:main"
        )
        with pytest.raises(NodeDiedError, match="before it was ready"):
            ProcessSession(["a", "b"])
        assert segments() == set()

    def test_workers_run_in_processes_of_their_own(self, session):
        def who(inputs, outputs):
            outputs[0].feed(np.array(os.getpid()))

        net = python_net(who, outputs=["pid"])
        for node in ("a", "b"):
            run_on(session, node, net)
        pids = {node: int(session.workspace(node).fetch_blob("pid")) for node in ("a", "b")}
        assert pids == {node: stats.pid for node, stats in session.stats().items()}
        assert os.getpid() not in pids.values()


class TestThreads:
    def threads(self, session: ProcessSession, *nodes: str) -> list[Any]:
        def ask(inputs, outputs):
            from procession.cluster import blas

            matrix = np.ones((400, 400))
            matrix @ matrix
            outputs[0].feed(np.array([blas.blas_threads() or 0]))

        net = python_net(ask, outputs=["threads"])
        for node in nodes:
            run_on(session, node, net)
        return [int(session.workspace(node).fetch_blob("threads")[0]) for node in nodes]

    @pytest.fixture(autouse=True)
    def no_choice(self, monkeypatch):
        if blas.blas_threads() is None:
            pytest.skip("NumPy's BLAS cannot be asked")
        for variable in blas.THREAD_VARIABLES:
            monkeypatch.delenv(variable, raising=False)

    def test_the_cores_are_shared_out(self):
        cores = blas.cores()
        with ProcessSession(["a"]) as session:
            assert self.threads(session, "a") == [cores]
            names = ["a", *(f"n{number}" for number in range(cores))]
            for name in names[1:]:
                session.workspace(name).feed_blob("x", 1)
            assert self.threads(session, *names) == [1] * len(names)

    def test_a_number_given(self):
        with ProcessSession(["a", "b"], threads_per_node=3) as session:
            assert self.threads(session, "a", "b") == [3, 3]

    def test_the_environment_wins(self, monkeypatch):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
        with ProcessSession(["a"]) as session:
            assert self.threads(session, "a") == [1]


class TestShipping:
    def test_a_plan_travels_once(self, session):
        net = constant("net", "x", np.zeros(50_000))
        run_on(session, "a", net)
        shipped = session.stats()["a"].plan_bytes
        assert shipped > 100_000
        for _ in range(5):
            run_on(session, "a", net)
        assert session.stats()["a"].plan_bytes == shipped

    def test_what_cannot_be_pickled_is_named(self, session):
        lock = threading.Lock()

        def holds_a_lock(inputs, outputs):
            lock.acquire()

        net = Net("net")
        net.Python(holds_a_lock)([], [])
        with pytest.raises(SerializationError) as caught:
            run_on(session, "a", net)
        error = caught.value
        assert isinstance(error, TypeError)
        for part in ("holds_a_lock", "'lock'", "Python", "test_process.py"):
            assert part in str(error)
        run_on(session, "a", constant("on", "x", 1))

    def test_what_cannot_be_pickled_is_named_by_compile(self):
        lock = threading.Lock()
        net = python_net(lambda inputs, outputs: lock.acquire())
        with pytest.raises(SerializationError, match="'lock'"):
            ProcessSession.compile(net)

    def test_what_cannot_be_pickled_is_named_in_a_nested_net(self, session):
        lock = threading.Lock()

        def holds_a_lock(inputs, outputs):
            lock.acquire()

        inner = python_net(holds_a_lock)
        net = Net("outer")
        net.If([net.Const(True)], [], then_net=inner.Proto())
        with pytest.raises(SerializationError, match="argument 'func' of operator Python") as found:
            run_on(session, "a", net)
        assert str(found.value).startswith("<function")
        assert inner.Name() in str(found.value)

    def test_a_fed_value_that_cannot_be_pickled(self, session):
        with pytest.raises(SerializationError, match="'x'"):
            session.workspace("a").feed_blob("x", threading.Lock())
        session.workspace("a").feed_blob("x", 1)

    def test_a_blob_that_cannot_be_pickled(self, session):
        def make(inputs, outputs, workspace):
            workspace.feed_blob("x", threading.Lock())

        run_on(session, "a", python_net(make, pass_workspace=True))
        with pytest.raises(SerializationError, match="'x' of node 'a'"):
            session.workspace("a").fetch_blob("x")
        run_on(session, "a", constant("on", "y", 1))

    def test_what_cannot_be_loaded_there(self, session):
        class Sly:
            def __call__(self):
                raise AssertionError("it cannot be loaded")

            def __reduce__(self):
                return (_only_here, (os.getpid(),))

        net = Net("net")
        net.Python((Sly(), [], {}))([], [])
        with pytest.raises(SerializationError, match="not on this side"):
            run_on(session, "a", net)
        run_on(session, "a", constant("on", "y", 1))


def _only_here(pid: int) -> Any:
    if pid != os.getpid():
        raise ValueError("not on this side")
    return print


def test_a_dropped_session_is_closed():
    session = ProcessSession(["a"])
    pid = session.stats()["a"].pid
    del session
    gc.collect()
    assert not psutil.pid_exists(pid)
