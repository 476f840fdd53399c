"""LocalSession: the contract, and what is its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import (
    BlobIsolationError,
    LocalSession,
    Net,
    Node,
    Session,
    Task,
    TaskGroup,
    Workspace,
    WorkspaceType,
)
from procession.testing.session_contract import SessionContract, constant


class TestLocalSession(SessionContract):
    isolates = False

    def make(self, **options: Any) -> Session:
        return LocalSession(**options)

    def name_of(self, node: str) -> str:
        return "local"


class TestIsolatedLocalSession(SessionContract):
    def make(self, **options: Any) -> Session:
        return LocalSession(isolate=True, **options)


def test_all_nodes_share_one_workspace():
    with LocalSession() as session:
        with Node("a"):
            session.run(constant("net", "x", 1))
        assert session.workspace("b").fetch_blob("x") == 1
        assert session.workspace().fetch_blob("x") == 1


def test_tasks_of_different_nodes_share_a_private_workspace_as_in_caffe2():
    first, second = Net("first"), Net("second")
    with TaskGroup(WorkspaceType.PRIVATE) as group:
        with Node("a"):
            Task(step=first)
        with Node("b"):
            Task(step=second)
    with LocalSession() as session:
        session.run(group)
        assert session.workspace().names() == []


def test_a_given_workspace_is_used_and_left_alone():
    workspace = Workspace()
    workspace.feed_blob("x", 2)
    net = Net("net")
    net.Add(["x", "x"], "y")
    with LocalSession(workspace) as session:
        session.run(net)
    assert workspace.fetch_blob("y") == 4
    with LocalSession(ws=workspace, isolate=True) as session:
        assert session.workspace().fetch_blob("y") == 4
        assert not session.workspace("other").has_blob("y")


def test_a_workspace_has_to_be_one():
    with pytest.raises(TypeError, match="Workspace"):
        LocalSession({"x": 1})  # type: ignore[arg-type]


def test_isolation_is_of_the_class_so_that_compile_knows():
    make, read = Net("make"), Net("read")
    read.Relu(make.Const(1.0, "x"), "y")
    with TaskGroup() as group:
        with Node("a"):
            Task(step=make)
        with Node("b"):
            Task(step=read)
    session = LocalSession(isolate=True)
    assert isinstance(session, LocalSession)
    with pytest.raises(BlobIsolationError):
        type(session).compile(group)
    compiled = LocalSession.compile(group)
    with pytest.raises(BlobIsolationError):
        session.run(compiled)
    session.close()


def test_fetching_large_tensors_copies_nothing():
    with LocalSession() as session:
        session.workspace().feed_blob("x", np.zeros(100_000))
        first = session.workspace().fetch_blob("x")
        second = session.workspace().fetch_blob("x")
        assert np.shares_memory(first, second)
