"""The operators of common worlds: their results in nets, what they refuse, and Caffe2's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from procession import (
    CollectiveError,
    GradientError,
    GraphError,
    LocalSession,
    Net,
    Node,
    OperatorError,
    Session,
    Task,
    TaskGroup,
    WorkspaceType,
)
from procession.operators import REGISTRY
from procession.operators.world import World
from procession.session.workspace import Workspace

VALUES = [np.float32([[1, 2], [3, 4]]), np.float32([[10, 20], [30, 40]])]


@pytest.fixture
def session() -> Iterator[Session]:
    """Two nodes with worlds, each with a blob x of its own."""
    with LocalSession(isolate=True) as session:
        run(session, lambda net, rank: net.CreateCommonWorld([], "world", size=2, rank=rank))
        for rank, value in enumerate(VALUES):
            session.workspace(f"n{rank}").feed_blob("x", value)
        yield session


def run(session: Session, calls: Callable[[Net, int], object], turns: int = 1) -> None:
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for rank in range(2):
            with Node(f"n{rank}"):
                net = Net("calls")
                calls(net, rank)
                Task(step=net)
    compiled = session.compile(group)
    for _ in range(turns):
        session.run(compiled)


def fetched(session: Session, name: str) -> list[Any]:
    return [session.workspace(f"n{rank}").fetch_blob(name) for rank in range(2)]


class TestResults:
    @pytest.mark.parametrize(
        ("op", "expected"),
        [
            ("sum", VALUES[0] + VALUES[1]),
            ("mean", (VALUES[0] + VALUES[1]) / 2),
            ("max", VALUES[1]),
            ("min", VALUES[0]),
            ("prod", VALUES[0] * VALUES[1]),
        ],
    )
    def test_allreduce(self, session: Session, op: str, expected: Any) -> None:
        run(session, lambda net, rank: net.Allreduce(["world", "x"], "y", op=op), turns=3)
        for got in fetched(session, "y"):
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == np.float32

    def test_sum_is_the_default(self, session: Session) -> None:
        assert REGISTRY["Allreduce"].arguments["op"] == "sum"
        run(session, lambda net, rank: net.Allreduce(["world", "x"], "x"), turns=2)
        for got in fetched(session, "x"):
            np.testing.assert_array_equal(got, 2 * (VALUES[0] + VALUES[1]))

    def test_a_bucket(self, session: Session) -> None:
        def calls(net: Net, rank: int) -> None:
            net.Copy("x", "z")
            # One of the results is where another tensor lies.
            net.Allreduce(["world", "x", "z"], ["z", "y"])

        run(session, calls, turns=3)
        for name in ("z", "y"):
            for got in fetched(session, name):
                np.testing.assert_array_equal(got, VALUES[0] + VALUES[1])
        for got, value in zip(fetched(session, "x"), VALUES, strict=True):
            np.testing.assert_array_equal(got, value)

    def test_a_large_tensor_twice(self, session: Session) -> None:
        def calls(net: Net, rank: int) -> None:
            net.ConstantFill([], "x", shape=[90_000], value=rank + 1.0)
            net.Allreduce(["world", "x", "x"], ["x", "y"])

        run(session, calls, turns=3)
        for name in ("x", "y"):
            for got in fetched(session, name):
                assert (got == 3).all()

    @pytest.mark.parametrize("root", [0, 1])
    def test_reduce_leaves_the_others_as_they_are(self, session: Session, root: int) -> None:
        run(session, lambda net, rank: net.Reduce(["world", "x"], "x", root=root))
        results = fetched(session, "x")
        np.testing.assert_array_equal(results[root], VALUES[0] + VALUES[1])
        np.testing.assert_array_equal(results[1 - root], VALUES[1 - root])

    @pytest.mark.parametrize("root", [0, 1])
    def test_broadcast(self, session: Session, root: int) -> None:
        run(session, lambda net, rank: net.Broadcast(["world", "x"], "x", root=root))
        for got in fetched(session, "x"):
            np.testing.assert_array_equal(got, VALUES[root])

    def test_broadcast_to_another_blob(self, session: Session) -> None:
        run(session, lambda net, rank: net.Broadcast(["world", "x"], "y", root=1), turns=2)
        for got in fetched(session, "y"):
            np.testing.assert_array_equal(got, VALUES[1])

    def test_allgather(self, session: Session) -> None:
        run(session, lambda net, rank: net.Allgather(["world", "x"], "y"), turns=2)
        for got in fetched(session, "y"):
            np.testing.assert_array_equal(got, np.concatenate(VALUES).ravel())

    def test_allgather_of_numbers(self, session: Session) -> None:
        def calls(net: Net, rank: int) -> None:
            net.Const(np.int32(rank), "number")
            net.Allgather(["world", "number"], "y")

        run(session, calls)
        for got in fetched(session, "y"):
            assert (got.tolist(), got.dtype) == ([0, 1], np.int32)

    def test_reduce_scatter(self, session: Session) -> None:
        run(session, lambda net, rank: net.ReduceScatter(["world", "x"], "y", op="max"), turns=2)
        for got, row in zip(fetched(session, "y"), VALUES[1], strict=True):
            np.testing.assert_array_equal(got, row[None])

    def test_ranks_and_tags_from_tensors(self, session: Session) -> None:
        def calls(net: Net, rank: int) -> None:
            net.Const(np.int32([1 - rank]), "other")
            net.Const(np.int32([5]), "tag")
            if rank:
                net.SendTensor(["world", "x", "other", "tag"], [], dst=9, tag=9)
            else:
                names = ["x", "from", "its tag"]
                net.ReceiveTensor(["world", "x", "other", "tag"], names, raw_buffer=True)

        run(session, calls)
        np.testing.assert_array_equal(fetched(session, "x")[0], VALUES[1])
        workspace = session.workspace("n0")
        for name, number in (("from", 1), ("its tag", 5)):
            got = workspace.fetch_blob(name)
            assert (got.tolist(), got.dtype) == ([number], np.int32)

    def test_destroyed(self, session: Session) -> None:
        with pytest.raises(OperatorError, match="'world', not 'other'"):
            run(session, lambda net, rank: net.DestroyCommonWorld("world", "other"))
        run(session, lambda net, rank: net.DestroyCommonWorld("world", "world"))
        with pytest.raises(OperatorError, match="it was destroyed"):
            run(session, lambda net, rank: net.Barrier(["world"], []))

    def test_a_world_of_one_needs_no_session(self) -> None:
        workspace, net = Workspace(), Net("alone")
        net.CreateCommonWorld([], "world", size=1, rank=0)
        net.Const(np.float32([1, 2]), "x")
        net.Allreduce(["world", "x"], "x", op="mean")
        net.Barrier("world", [])
        for _ in range(2):
            workspace.run(net)
        assert workspace.fetch_blob("x").tolist() == [1, 2]
        assert isinstance(workspace.fetch_blob("world"), World)


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda net: net.Allreduce(["world", "x"], "x", op="median"), "'median'"),
            (lambda net: net.Allreduce(["x", "x"], "x"), "takes a World, as CreateCommonWorld"),
            (lambda net: net.Allreduce(["world", "object"], "x"), "only tensors"),
            (lambda net: net.Broadcast(["world", "texts"], "texts"), "tensors of objects"),
            (lambda net: net.Allreduce(["world", "true"], "true"), "no sum of bool"),
            (lambda net: net.Allreduce(["world", "x", "whole"], ["x", "y"]), "one type"),
            (lambda net: net.Allreduce(["world", "x", "x"], ["x"]), "as many outputs"),
            (lambda net: net.Broadcast(["world", "x"], "x", root=2), "0 to 1"),
            (lambda net: net.Reduce(["world", "x"], "x", root=-1), "0 to 1"),
            (lambda net: net.ReduceScatter(["world", "three"], "y"), "2 equal parts"),
            (lambda net: net.SendTensor(["world", "x"], [], dst=0), "not 0"),
            (lambda net: net.SendTensor(["world", "x"], []), "dst"),
            (lambda net: net.SendTensor(["world", "x", "x"], []), "one number"),
            (lambda net: net.ReceiveTensor(["world"], ["a", "b", "c"], src=2), "src"),
            (lambda net: net.CloneCommonWorld("world", "clone"), "no room for one more"),
        ],
    )
    def test_in_a_run(self, session: Session, call: Any, message: str) -> None:
        workspace = session.workspace("n0")
        for name, value in (
            ("object", {"an": "object"}),
            ("whole", np.array([1])),
            ("texts", np.array([b"a", b"bc"], object)),
            ("true", np.array([True])),
            ("three", np.zeros(3)),
        ):
            workspace.feed_blob(name, value)
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("n0"):
            net = Net("refused")
            call(net)
            Task(step=net)
        with pytest.raises(OperatorError, match=message):
            session.run(group)
        # Nobody has waited for anybody: the world is as good as before.
        run(session, lambda net, rank: net.Allreduce(["world", "x"], "x"))

    @pytest.mark.parametrize("timeout", [0.0, -1.0])
    def test_a_timeout_that_is_none(self, timeout: float) -> None:
        net = Net("creating")
        net.CreateCommonWorld([], "world", size=1, rank=0, timeout_sec=timeout)
        with LocalSession() as session, pytest.raises(OperatorError, match="above 0 s"):
            session.run(net)

    def test_what_came_is_not_what_was_there(self, session: Session) -> None:
        def calls(net: Net, rank: int) -> None:
            if rank:
                net.SendTensor(["world", "x"], [], dst=0)
            else:
                net.Const(np.zeros(3), "y")
                net.ReceiveTensor(["world", "y"], ["y", "from", "tag"], raw_buffer=True)

        with pytest.raises(OperatorError, match="float32"):
            run(session, calls)

    def test_several_members_need_a_session(self) -> None:
        from procession.testing.gradcheck import KernelContext

        with pytest.raises(CollectiveError, match="only a session"):
            REGISTRY["CreateCommonWorld"].kernel(
                size=2, rank=0, context=KernelContext((), ("world",))
            )

    def test_a_seat_that_was_not_offered(self) -> None:
        workspace = Workspace()
        with pytest.raises(CollectiveError, match="compiled and run together"):
            workspace.worlds.join("world", 2, 0, 1.0)

    def test_there_are_no_gradients(self) -> None:
        net = Net("net")
        loss = net.Allreduce(["world", "x"], "y")
        with pytest.raises(GradientError):
            net.AddGradientOperators([loss])


class TestCaffe2:
    @pytest.mark.parametrize(
        ("name", "inputs", "outputs"),
        [
            ("CreateCommonWorld", (0, 1), (1, 1)),
            ("CloneCommonWorld", (1, 1), (1, 1)),
            ("DestroyCommonWorld", (1, 1), (1, 1)),
            ("Reduce", (2, 2), (1, 1)),
        ],
    )
    def test_as_many_blobs(self, name: str, inputs: Any, outputs: Any) -> None:
        known = REGISTRY[name]
        assert (known.min_inputs, known.max_inputs) == inputs
        assert (known.min_outputs, known.max_outputs) == outputs

    def test_the_arguments_with_which_its_scripts_create_worlds(self) -> None:
        with LocalSession() as session:
            net = Net("creating")
            net.CreateCommonWorld(
                [],
                "blob",
                name="named",
                size=1,
                rank=0,
                engine="GLOO",
                timeout_ms=2000,
                transport="tcp",
                interface="lo",
                mpi_rendezvous=True,
                status_blob="status",
            )
            session.run(net)
            world = session.workspace().fetch_blob("blob")
        assert (world.name, world.timeout) == ("named", 2.0)

    def test_names_tell_worlds_apart(self) -> None:
        with TaskGroup() as group:
            for rank in range(2):
                with Node(f"n{rank}"):
                    net = Net("creating")
                    net.CreateCommonWorld([], f"world {rank}", size=2, rank=rank)
                    Task(step=net)
        with pytest.raises(GraphError, match="rank 1"):
            LocalSession.compile(group)
