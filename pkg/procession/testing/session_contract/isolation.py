"""Nodes do not see each other's blobs."""

from __future__ import annotations

import numpy as np
import pytest

from procession.errors import (
    BlobIsolationError,
    BlobNotFoundError,
)
from procession.graph.net import Net
from procession.graph.step import execution_step
from procession.graph.task import (
    Node,
    Task,
    TaskGroup,
    WorkspaceType,
    final_output,
)
from procession.session.base import Session
from procession.testing.session_contract.base import ContractBase, constant


class Isolation(ContractBase):
    """With `isolates`, what is refused; without, what is shared."""

    def crossing(self) -> tuple[TaskGroup, str]:
        """A group in which node b reads what only node a makes."""
        make, read = Net("make"), Net("read")
        blob = make.Const(1, "x")
        read.Add([blob, blob], ["y"])
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            with Node("a"):
                Task(step=make)
            with Node("b"):
                task = Task(step=read)
        return group, task.name

    def test_a_group_that_crosses_nodes(self, session: Session) -> None:
        group, task = self.crossing()
        if not self.isolates:
            session.compile(group)
            return
        for use in (session.compile, session.run):
            with pytest.raises(BlobIsolationError, match="which only node 'a' has") as caught:
                use(group)
            error = caught.value
            assert isinstance(error, RuntimeError)
            assert (error.blob, error.task, error.reader, error.owner) == ("x", task, "b", "a")
        assert not session.nodes or not session.workspace("a").has_blob("x")

    def test_a_run_that_crosses_nodes(self, session: Session) -> None:
        session.workspace("a").feed_blob("x", 1)
        net = Net("net")
        net.Add(["x", "x"], ["y"])
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("b"):
            task = Task(step=net)
        if not self.isolates:
            session.run(group)
            assert session.workspace("a").fetch_blob("y") == 2
            return
        with pytest.raises(BlobIsolationError) as caught:
            session.run(group)
        error = caught.value
        assert (error.blob, error.task, error.reader, error.owner) == ("x", task.name, "b", "a")
        session.workspace("b").feed_blob("x", 4)
        session.run(group)
        assert session.workspace("b").fetch_blob("y") == 8

    def test_a_blob_of_each_that_none_has_yet(self, session: Session) -> None:
        net = Net("net")
        net.Scale("x", "x", scale=2.0)
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for node in ("a", "b"):
                with Node(node):
                    Task(step=net)
        # Each means its own, so nothing is said of the other's.
        with pytest.raises(BlobNotFoundError, match="'x'"):
            session.run(group)
        session.workspace("a").feed_blob("x", np.ones(1))
        session.workspace("b").feed_blob("x", np.ones(1))
        session.run(group)

    def test_an_output_of_another_node(self, session: Session) -> None:
        session.workspace("a").feed_blob("x", 1)
        with TaskGroup() as group, Node("b"):
            output = final_output("x")
        if not self.isolates:
            session.run(group)
            assert output.fetch() == 1
            return
        with pytest.raises(BlobIsolationError):
            session.run(group)

    def test_a_crossing_that_shows_only_while_running(self, session: Session) -> None:
        session.workspace("a").feed_blob("x", 1)
        stop, use = Net("stop"), Net("use")
        stop.Const(False, "stop")
        use.Add(["x", "x"], ["y"])
        use.Const(True, "stop")
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("b"):
            Task(step=execution_step("loop", [stop, use], should_stop_blob="stop"))
        if not self.isolates:
            session.run(group)
            return
        with pytest.raises(BlobIsolationError, match="'x'") as caught:
            session.run(group)
        assert (caught.value.reader, caught.value.owner) == ("b", "a")

    def test_same_names_on_two_nodes(self, session: Session) -> None:
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for node, value in (("a", 1), ("b", 2)):
                with Node(node):
                    Task(step=constant(f"net_{node}", "x", value))
        session.run(group)
        if not self.isolates:
            # One blob, with two writers.
            seen = [session.workspace(node).fetch_blob("x") for node in ("a", "b")]
            assert seen in ([1, 1], [2, 2])
            return
        update = []
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for node in ("a", "b"):
                net = Net(f"update_{node}")
                net.Add(["x", "x"], ["x"])
                with Node(node):
                    update.append(Task(step=net, outputs=["x"]))
        session.run(group)
        assert [task.outputs()[0].fetch() for task in update] == [2, 4]
        assert session.workspace("a").fetch_blob("x") == 2
        assert session.workspace("b").fetch_blob("x") == 4

    def test_a_missing_blob_says_who_has_one(self, session: Session) -> None:
        session.workspace("a").feed_blob("x", 1)
        session.workspace("b").feed_blob("z", 1)
        if not self.isolates:
            assert session.workspace("b").fetch_blob("x") == 1
            return
        with pytest.raises(BlobNotFoundError, match="'a'") as caught:
            session.workspace("b").fetch_blob("x")
        assert caught.value.elsewhere == ("a",)
