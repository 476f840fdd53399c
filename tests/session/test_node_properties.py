"""Nodes with properties, in worker processes."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import psutil
import pytest
from tests.session.process_nodes import python_net, run_on

from procession import (
    LocalSession,
    Node,
    NodePropertyError,
    ProcessSession,
    Session,
    Task,
    TaskGroup,
)
from procession.cluster import blas, placement
from procession.testing.session_contract import constant

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPUs can be chosen on Linux")
tellable = pytest.mark.skipif(blas.blas_threads() is None, reason="this BLAS cannot be asked")
CPUS = sorted(placement.usable_cpus() or [])
NICE = min(psutil.Process().nice() + 5, 19)


def process_of(session: Session, node: str) -> psutil.Process:
    return psutil.Process(session.stats()[node].pid)


def threads_of(session: Session, node: str) -> tuple[int, str | None]:
    """What a worker's BLAS says, and what the programs would read that it starts."""

    def tell(inputs: Any, outputs: Any) -> None:
        outputs[0].feed(blas.blas_threads())
        outputs[1].feed(os.environ.get("OMP_NUM_THREADS"))

    run_on(session, node, python_net(tell, outputs=["threads", "variable"]))
    workspace = session.workspace(node)
    return int(workspace.fetch_blob("threads")), workspace.fetch_blob("variable")


@pytest.fixture
def nobody_chose_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in blas.THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_cpus_and_priority(method: str) -> None:
    nodes = [Node("a", cpus=CPUS[-1:], nice=NICE), "b"]
    with ProcessSession(nodes, start_method=method) as session:
        a, b = process_of(session, "a"), process_of(session, "b")
        assert (a.cpu_affinity(), a.nice()) == (CPUS[-1:], NICE)
        assert (b.cpu_affinity(), b.nice()) == (CPUS, psutil.Process().nice())
        for thread in a.threads():
            assert os.sched_getaffinity(thread.id) == set(CPUS[-1:])
            assert os.getpriority(os.PRIO_PROCESS, thread.id) == NICE
        run_on(session, "a", constant("net", "x", 5))
        assert session.workspace("a").fetch_blob("x") == 5
    assert psutil.Process().cpu_affinity() == CPUS


def test_threads_that_operators_start_inherit_them() -> None:
    def tell(inputs: Any, outputs: Any) -> None:
        import threading

        def inside() -> None:
            outputs[0].feed(np.array(sorted(os.sched_getaffinity(0))))
            outputs[1].feed(os.getpriority(os.PRIO_PROCESS, 0))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()

    with ProcessSession([Node("a", cpus=CPUS[:1], nice=NICE)]) as session:
        run_on(session, "a", python_net(tell, outputs=["cpus", "nice"]))
        workspace = session.workspace("a")
        assert workspace.fetch_blob("cpus").tolist() == CPUS[:1]
        assert workspace.fetch_blob("nice") == NICE


@tellable
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_threads_come_before_what_the_session_says(method: str) -> None:
    nodes = [Node("a", threads=1), Node("b")]
    with ProcessSession(nodes, start_method=method, threads_per_node=2) as session:
        assert threads_of(session, "a") == (1, "1")
        assert threads_of(session, "b") == (2, "2")


@tellable
@pytest.mark.usefixtures("nobody_chose_threads")
def test_threads_come_before_the_share_and_stay_when_that_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blas, "cores", lambda: 4)
    nodes = [Node("a", threads=3), Node("b", cpus=CPUS[:1])]
    with ProcessSession(nodes) as session:
        assert threads_of(session, "a")[0] == 3
        # A share of two would only get in its own way on one CPU.
        assert threads_of(session, "b")[0] == 1
        for node in ("c", "d"):
            run_on(session, node, constant("net", "x", 1))
        assert threads_of(session, "a")[0] == 3
        assert threads_of(session, "b")[0] == 1
        assert threads_of(session, "c")[0] == 1


def test_nodes_that_are_started_by_a_run() -> None:
    with TaskGroup() as group:
        with Node("a", nice=NICE):
            Task(step=constant("one", "x", 1))
        with Node("a", cpus=CPUS[:1]):
            Task(step=constant("two", "y", 1))
        with Node("b"):
            Task(step=constant("three", "x", 1))
    with ProcessSession() as session:
        session.run(group)
        a, b = process_of(session, "a"), process_of(session, "b")
        assert (a.cpu_affinity(), a.nice()) == (CPUS[:1], NICE)
        assert b.nice() == psutil.Process().nice()


def test_a_net_on_the_current_node() -> None:
    net = constant("net", "x", 1)
    with ProcessSession() as session:
        with Node("a", nice=NICE):
            session.run(net)
        assert process_of(session, "a").nice() == NICE
        with Node("a"):
            session.run(net)
        with Node("a", nice=NICE - 1), pytest.raises(NodePropertyError, match="was started with"):
            session.run(net)
        assert session.stats()["a"].runs == 2


def test_a_workspace_of_a_node_that_is_not_running() -> None:
    with ProcessSession() as session:
        session.workspace(Node("a", nice=NICE)).feed_blob("x", 1)
        assert process_of(session, "a").nice() == NICE


@pytest.mark.parametrize("said", [{}, {"nice": NICE}])
def test_a_running_node_does_not_change(said: dict[str, Any]) -> None:
    with ProcessSession([Node("a", **said)]) as session:
        for other in ({}, said):
            with Node("a", **other):
                session.run(constant("net", "x", 1))
        group = TaskGroup()
        Task(step=constant("net", "x", 1), node=Node("a", threads=7), group=group)
        with pytest.raises(NodePropertyError, match="threads=7") as caught:
            session.run(group)
        assert (caught.value.node, caught.value.property) == ("a", "threads")
        assert "settled when it starts" in str(caught.value)
        run_on(session, "a", constant("net", "x", 1))


@pytest.mark.parametrize(
    ("said", "name"), [({"cpus": [4095]}, "cpus"), ({"nice": -20}, "nice")], ids=["cpus", "nice"]
)
def test_what_cannot_be_had_starts_nothing(
    said: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "least_nice", lambda: 0)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(NodePropertyError, match="node 'a' cannot have") as caught:
        ProcessSession(["b", Node("a", **said)])
    assert (caught.value.node, caught.value.property) == ("a", name)
    with ProcessSession() as session:
        with TaskGroup() as group:
            Task(step=constant("one", "x", 1), node="b")
            Task(step=constant("two", "x", 1), node=Node("a", **said))
        with pytest.raises(NodePropertyError, match="node 'a' cannot have"):
            session.run(group)
        assert session.nodes == []
        after = {child.pid for child in psutil.Process().children(recursive=True)}
        assert not after - before
        run_on(session, "a", constant("net", "x", 1))


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_the_system_refuses_all_the_same(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "check", lambda node, properties: None)
    with ProcessSession(["b"], start_method=method) as session:
        with pytest.raises(NodePropertyError, match="the system refuses it") as caught:
            session.workspace(Node("a", cpus=[4095])).feed_blob("x", 1)
        assert (caught.value.node, caught.value.asked) == ("a", [4095])
        assert session.nodes == ["b"]
        run_on(session, "b", constant("net", "x", 1))
        session.workspace("a").feed_blob("x", 1)


def test_one_node_twice_in_the_list() -> None:
    with ProcessSession([Node("a", threads=1), "a", Node("a", nice=NICE)]) as session:
        assert session.nodes == ["a"]
        assert process_of(session, "a").nice() == NICE
    with pytest.raises(NodePropertyError, match=r"threads=1.*threads=2"):
        ProcessSession([Node("a", threads=1), Node("a", threads=2)])


@pytest.mark.parametrize("isolate", [False, True])
def test_they_have_no_effect_where_nodes_share_a_process(isolate: bool) -> None:
    before = psutil.Process().nice(), psutil.Process().cpu_affinity(), blas.blas_threads()
    with LocalSession(isolate=isolate) as session, TaskGroup() as group:
        with Node("a", threads=1, cpus=[4095], nice=19):
            task = Task(step=constant("net", "x", 3), outputs=["x"])
        session.run(group)
        session.workspace(Node("a", nice=18)).feed_blob("y", 1)
    assert task.outputs()[0].fetch() == 3
    assert before == (psutil.Process().nice(), psutil.Process().cpu_affinity(), blas.blas_threads())
