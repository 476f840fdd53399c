"""Members of a common world make calls together, and are told of what is wrong with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pytest

from procession.errors import (
    CollectiveError,
    CollectiveTimeoutError,
    GraphError,
    OperatorError,
    RunCancelledError,
    RunTimeoutError,
)
from procession.graph.net import Net
from procession.graph.step import execution_step
from procession.graph.task import Node, Task, TaskGroup, WorkspaceType
from procession.session.base import Session
from procession.testing.session_contract.base import ContractBase

Calls = Callable[[Net, str, str, int], object]
"""Adds a member's calls to a net: given its world, its tensor, and its rank."""


def members(
    size: int, calls: Calls, *, create: bool = False, nodes: Sequence[str] = (), turns: int = 1
) -> TaskGroup:
    """A task for each member of world "all": rank r has the blobs `world r` and `x r`."""
    nodes = nodes or [f"n{rank}" for rank in range(size)]
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for rank, node in enumerate(nodes):
            with Node(node):
                net = Net("calls")
                world, x = f"world {rank}", f"x {rank}"
                if create:
                    net.CreateCommonWorld(
                        [], world, size=size, rank=rank, name="all", timeout_sec=20.0
                    )
                calls(net, world, x, rank)
                Task(step=execution_step("turns", net, num_iter=turns))
    return group


def no_calls(net: Net, world: str, x: str, rank: int) -> None:
    """Only create it."""


def allreduce(net: Net, world: str, x: str, rank: int) -> None:
    """Add the tensors up, in place."""
    net.Allreduce([world, x], x)


def barrier(net: Net, world: str, x: str, rank: int) -> None:
    """Meet."""
    net.Barrier([world], [])


class CommonWorlds(ContractBase):
    """Calls of several nodes."""

    def begun(self, session: Session, *values: Any, nodes: Sequence[str] = ()) -> None:
        """Create the world, and feed each member its tensor."""
        nodes = nodes or [f"n{rank}" for rank in range(len(values))]
        session.run(members(len(values), no_calls, create=True, nodes=nodes))
        for rank, (node, value) in enumerate(zip(nodes, values, strict=True)):
            session.workspace(node).feed_blob(f"x {rank}", value)

    def fails(self, session: Session, group: TaskGroup) -> CollectiveError:
        """The error with which a run ends."""
        with pytest.raises(OperatorError) as caught:
            session.run(group)
        cause = caught.value.__cause__
        assert isinstance(cause, CollectiveError)
        assert cause.message in caught.value.message
        assert cause.world == "all"
        return cause

    @pytest.mark.parametrize("size", [1, 2, 3])
    @pytest.mark.parametrize("shape", [(), (3,), (0, 2), (300, 700)])
    def test_allreduce(self, session: Session, size: int, shape: tuple[int, ...]) -> None:
        generator = np.random.default_rng(1)
        values = [generator.random(shape, np.float32) for _ in range(size)]
        self.begun(session, *values)
        session.run(members(size, allreduce))
        expected = values[0]
        for value in values[1:]:
            expected = expected + value
        for rank in range(size):
            got = session.workspace(f"n{rank}").fetch_blob(f"x {rank}")
            np.testing.assert_array_equal(got, expected)

    def test_what_was_fetched_before_stays_as_it_was(self, session: Session) -> None:
        self.begun(session, np.ones(5000), np.ones(5000))
        group = session.compile(members(2, allreduce))
        session.run(group)
        before = session.workspace("n0").fetch_blob("x 0")
        session.run(group)
        assert (before == 2).all()
        assert (session.workspace("n0").fetch_blob("x 0") == 4).all()
        assert (session.workspace("n1").fetch_blob("x 1") == 4).all()

    @pytest.mark.parametrize("size", [1, 2, 3, 4])
    def test_large_tensors_are_reduced_where_they_lie(self, session: Session, size: int) -> None:
        """An ordinary operator makes them, as one makes a gradient."""

        def calls(net: Net, world: str, x: str, rank: int) -> None:
            names = [f"{kind} {rank}" for kind in ("x", "few", "more")]
            made = [str(net.Copy([name], f"{name} made")) for name in names]
            # One in place, one that is small, one to elsewhere.
            net.Allreduce([world, *made], [*made[:2], f"sum {rank}"])

        shapes = ((300, 700), (3, 5), (150_001,))
        generator = np.random.default_rng(1)
        values = [[generator.random(shape, np.float32) for shape in shapes] for _ in range(size)]
        self.begun(session, *[each[0] for each in values])
        for rank, (_, few, more) in enumerate(values):
            session.workspace(f"n{rank}").feed_blob(f"few {rank}", few)
            session.workspace(f"n{rank}").feed_blob(f"more {rank}", more)
        expected = [reduce(np.add, column) for column in zip(*values, strict=True)]
        group = session.compile(members(size, calls))
        held = []
        # The first call of many goes another way, and has the same result.
        for _ in range(4):
            session.run(group)
            for rank in range(size):
                workspace = session.workspace(f"n{rank}")
                got = [
                    workspace.fetch_blob(name)
                    for name in (f"x {rank} made", f"few {rank} made", f"sum {rank}")
                ]
                for array, right in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(array, right)
                held.append(got)
        # What was fetched has stayed as it was, so the results have moved.
        for got in held:
            np.testing.assert_array_equal(got[2], expected[2])
        held.clear()
        got = []
        before = self.direct(session, size)
        for _ in range(4):
            session.run(group)
        after = self.direct(session, size)
        assert all(now - was >= 3 for now, was in zip(after, before, strict=True))

    def direct(self, session: Session, size: int) -> list[int]:
        """How many calls each member has made without copying large tensors to the others."""

        def count(net: Net, world: str, x: str, rank: int) -> None:
            net.Python(_count_direct)([world], [f"direct {rank}"])

        session.run(members(size, count))
        return [
            int(session.workspace(f"n{rank}").fetch_blob(f"direct {rank}")) for rank in range(size)
        ]

    @pytest.mark.parametrize("size", [2, 3])
    def test_all_calls_of_large_tensors(self, session: Session, size: int) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            for op in ("mean", "max", "min", "prod"):
                net.Allreduce([world, x], f"{op} {rank}", op=op)
            net.Reduce([world, x], f"reduced {rank}", root=1)
            net.Allgather([world, x], f"all {rank}")
            net.ReduceScatter([world, x], f"part {rank}")
            net.Broadcast([world, f"copy {rank}"], f"copy {rank}", root=1)

        generator = np.random.default_rng(1)
        values = [generator.random((30, 6000)) for _ in range(size)]
        self.begun(session, *values)
        for rank, value in enumerate(values):
            session.workspace(f"n{rank}").feed_blob(f"copy {rank}", value)
        total = reduce(np.add, values)
        expected = {
            "mean": [total / size] * size,
            "max": [reduce(np.maximum, values)] * size,
            "min": [reduce(np.minimum, values)] * size,
            "prod": [reduce(np.multiply, values)] * size,
            "all": [np.concatenate([value.reshape(-1) for value in values])] * size,
            "part": np.split(total, size),
            "copy": [values[1]] * size,
        }
        session.run(members(size, calls, turns=3))
        for rank in range(size):
            workspace = session.workspace(f"n{rank}")
            for name, right in expected.items():
                got = workspace.fetch_blob(f"{name} {rank}")
                np.testing.assert_array_equal(got, right[rank])
            assert workspace.has_blob(f"reduced {rank}") or rank != 1
        got = session.workspace("n1").fetch_blob("reduced 1")
        np.testing.assert_array_equal(got, total)
        assert min(self.direct(session, size)) >= 14

    def test_more_members_than_cores(self, session: Session, size: int = 8) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            net.Allreduce([world, x], f"sum {rank}")
            net.Allreduce([world, f"sum {rank}"], f"top {rank}", op="max")
            barrier(net, world, x, rank)

        values = [np.arange(5, dtype=np.int32) + rank for rank in range(size)]
        self.begun(session, *values)
        session.run(members(size, calls, turns=3))
        for rank in range(size):
            got = session.workspace(f"n{rank}").fetch_blob(f"top {rank}")
            np.testing.assert_array_equal(got, sum(values))

    def test_a_loop_of_calls(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            net.Allreduce([world, x], x, op="mean")
            net.Add([x, "one"], x)

        self.begun(session, np.array([0.0, 4.0]), np.array([2.0, 0.0]))
        for node in ("n0", "n1"):
            session.workspace(node).feed_blob("one", np.float64(1))
        session.run(members(2, calls, turns=100))
        for rank in range(2):
            got = session.workspace(f"n{rank}").fetch_blob(f"x {rank}")
            np.testing.assert_array_equal(got, [101, 102])

    def test_a_world_and_its_calls_in_one_run_as_often_as_one_likes(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            net.Const(np.int64(rank + 1), x)
            net.Allreduce([world, x], x, op="prod")

        group = session.compile(members(2, calls, create=True))
        for _ in range(3):
            session.run(group)
            assert session.workspace("n1").fetch_blob("x 1") == 2

    def test_two_members_on_one_node(self, session: Session) -> None:
        nodes = ("n0", "n0", "n1")
        self.begun(session, *map(np.float32, (1, 2, 4)), nodes=nodes)
        session.run(members(3, allreduce, nodes=nodes, turns=3))
        for rank, node in enumerate(nodes):
            assert session.workspace(node).fetch_blob(f"x {rank}") == 63

    def test_a_message(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            if rank == 0:
                net.SendTensor([world, x], [], dst=1, tag=3)
            else:
                net.ReceiveTensor([world], ["got", "from", "tag"])

        value = np.arange(200_000, dtype=np.int16).reshape(2, -1)
        self.begun(session, value, 0)
        session.run(members(2, calls))
        workspace = session.workspace("n1")
        np.testing.assert_array_equal(workspace.fetch_blob("got"), value)
        assert (workspace.fetch_blob("from"), workspace.fetch_blob("tag")) == ([0], [3])

    def test_calls_beside_each_other_in_clones(self, session: Session) -> None:
        def make(net: Net, world: str, x: str, rank: int) -> None:
            net.CloneCommonWorld([world], f"{world} clone")

        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for rank in range(2):
                with Node(f"n{rank}"):
                    for number, world in enumerate((f"world {rank}", f"world {rank} clone")):
                        net = Net("beside")
                        x = net.Const(np.float32(rank + number), f"y {rank} {number}")
                        net.Allreduce([world, x], x)
                        Task(step=execution_step("turns", net, num_iter=20))
        session.run(members(2, make, create=True))
        session.run(group)
        assert session.workspace("n0").fetch_blob("y 0 0") == 1
        assert session.workspace("n1").fetch_blob("y 1 1") == 3

    # What is wrong.

    def test_another_call(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            (allreduce if rank else barrier)(net, world, x, rank)

        self.begun(session, np.zeros((2, 3)), np.zeros((2, 3)))
        error = self.fails(session, members(2, calls))
        for part in (
            "rank 0 (node 'n0'): Barrier()",
            "rank 1 (node 'n1'): Allreduce(sum, float64(2, 3))",
        ):
            assert part in error.message
        # It says so from then on, until it is created again.
        again = self.fails(session, members(2, barrier))
        assert "CreateCommonWorld" in again.message
        self.begun(session, np.ones(2), np.ones(2))
        session.run(members(2, allreduce))

    @pytest.mark.parametrize("other", [np.zeros(4), np.zeros(3, np.float32), np.zeros((3, 1))])
    def test_another_shape_or_type(self, session: Session, other: Any) -> None:
        self.begun(session, np.zeros(3), other)
        error = self.fails(session, members(2, allreduce))
        assert "float64(3)" in error.message
        assert {error.node, *error.others} == {"n0", "n1"}

    def test_fewer_calls(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            barrier(net, world, x, rank)
            if rank == 0:
                barrier(net, world, x, rank)

        self.begun(session, 0, 0)
        error = self.fails(session, members(2, calls))
        assert (error.node, error.others) == ("n0", ("n1",))
        assert "ended its program after 1 call" in error.message

    def test_a_member_that_has_left(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            if rank:
                net.DestroyCommonWorld([world], [world])
            else:
                barrier(net, world, x, rank)

        self.begun(session, 0, 0)
        error = self.fails(session, members(2, calls))
        assert (error.node, error.others) == ("n0", ("n1",))

    def test_a_member_that_does_not_come(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            made = net.CreateCommonWorld([], x, size=2, rank=rank, name="all", timeout_sec=0.2)
            if rank == 0:
                barrier(net, str(made), x, rank)
            else:
                net.Python(_waits)([], [])

        error = self.fails(session, members(2, calls))
        assert isinstance(error, CollectiveTimeoutError)
        assert isinstance(error, TimeoutError)
        assert (error.node, error.others) == ("n0", ("n1",))

    def test_a_member_that_fails_is_the_one_that_is_told_of(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            if rank:
                net.Python(_fails)([], [])
            barrier(net, world, x, rank)

        self.begun(session, 0, 0)
        with pytest.raises(OperatorError, match="nothing to do with the others"):
            session.run(members(2, calls))

    def test_a_run_that_is_called_off(self, session: Session) -> None:
        def calls(net: Net, world: str, x: str, rank: int) -> None:
            if rank:
                net.Python(_waits)([], [])
            barrier(net, world, x, rank)

        self.begun(session, 0, 0)
        future = session.run_async(members(2, calls))
        while not future.done():
            session.cancel()
            threading.Event().wait(0.01)
        with pytest.raises(RunCancelledError):
            future.result(20)
        self.works_on(session)

    def test_a_run_that_takes_too_long(self, session: Session) -> None:
        self.begun(session, 0, 0)
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("n0"):
            net = Net("alone")
            net.Barrier(["world 0"], [])
            Task(step=net)
        with pytest.raises(RunTimeoutError):
            session.run(group, timeout=0.3)
        assert "CreateCommonWorld" in self.fails(session, members(2, barrier)).message

    @pytest.mark.parametrize(
        ("seats", "message"),
        [
            ([(0, 2)], "rank 1"),
            ([(0, 3), (2, 3)], "rank 1"),
            ([(0, 2), (1, 3)], "size"),
            ([(1, 2), (1, 2)], "two members"),
            ([(2, 2), (0, 2)], "0 to 1"),
            ([(0, 0)], "at least one member"),
            ([(0, 2.5), (1, 2.5)], "whole number, not 2.5"),
        ],
    )
    def test_members_that_do_not_fit_together(
        self, session: Session, seats: list[tuple[int, float]], message: str
    ) -> None:
        with TaskGroup() as group:
            for index, (rank, size) in enumerate(seats):
                with Node(f"n{index}"):
                    net = Net("creating")
                    net.CreateCommonWorld([], f"world {index}", name="all", size=size, rank=rank)
                    Task(step=net)
        with pytest.raises(GraphError, match=message) as caught:
            session.compile(group)
        for part in ("'all'", "'n0'", "CreateCommonWorld", "'creating"):
            assert part in caught.value.message


def _count_direct(inputs: Any, outputs: Any) -> None:
    outputs[0].feed(np.int64(inputs[0].data.direct))


def _waits(inputs: Any, outputs: Any) -> None:
    threading.Event().wait(0.5)


def _fails(inputs: Any, outputs: Any) -> None:
    threading.Event().wait(0.05)
    raise LookupError("nothing to do with the others")
