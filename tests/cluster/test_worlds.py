"""Common worlds of a ProcessSession: who maps their memory, when its name goes, who is dead."""

from __future__ import annotations

import gc
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    CollectiveError,
    LocalSession,
    Net,
    Node,
    NodeDiedError,
    OperatorError,
    OutOfSharedMemoryError,
    ProcessSession,
    SerializationError,
    Task,
    TaskGroup,
    WorkspaceType,
)
from procession.blobs.exchange import block_size
from procession.blobs.segment import PREFIX
from procession.testing.session_contract.worlds import allreduce, barrier, members, no_calls


def mapped(inputs: Any, outputs: Any) -> None:
    """Which segments this process maps, and how large each is."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    sizes = []
    for line in lines:
        if len(line) > 5 and Path(line[5]).name.startswith(PREFIX):
            first, last = (int(end, 16) for end in line[0].split("-"))
            sizes.append(last - first)
    outputs[0].feed(np.array(sizes, np.int64))


def sizes(session: ProcessSession, node: str) -> list[int]:
    run_on(session, node, python_net(mapped, outputs=["sizes"]))
    return list(session.workspace(node).fetch_blob("sizes"))


def world_size(size: int, lanes: int = 1) -> int:
    return block_size(size, lanes)


def test_only_members_map_it_and_its_name_goes_with_the_run() -> None:
    with ProcessSession(["n0", "n1", "apart"]) as session:
        before = segments()
        session.run(members(2, no_calls, create=True))
        assert segments() == before
        assert [world_size(2) in sizes(session, node) for node in ("n0", "n1", "apart")] == [
            True,
            True,
            False,
        ]


def test_it_is_unmapped_when_it_was_created_anew_or_removed() -> None:
    with ProcessSession(["n0", "n1"]) as session:
        group = session.compile(members(2, no_calls, create=True))
        for _ in range(3):
            session.run(group)
            assert sizes(session, "n0").count(world_size(2)) == 1
        handles = session._supervisor.nodes
        assert len(handles["n0"].seats) <= 2
        for rank in range(2):
            session.workspace(f"n{rank}").remove_blob(f"world {rank}")
        assert world_size(2) not in sizes(session, "n0")


def test_a_private_run_leaves_nothing() -> None:
    with ProcessSession(["n0", "n1"]) as session:
        with TaskGroup() as group:
            for rank in range(2):
                with Node(f"n{rank}"):
                    net = Net("private")
                    world = net.CreateCommonWorld([], "world", size=2, rank=rank)
                    x = net.Const(np.float32(rank))
                    net.Allreduce([world, x], x)
                    task = Task(step=net, outputs=[x])
        for _ in range(2):
            session.run(group)
            assert task.outputs()[0].fetch() == 1
        gc.collect()
        assert world_size(2) not in sizes(session, "n1")


def test_the_name_goes_when_the_run_fails() -> None:
    def fails(net: Net, world: str, x: str, rank: int) -> None:
        def fail(inputs: Any, outputs: Any) -> None:
            raise LookupError

        barrier(net, world, x, rank)
        net.Python(fail)([], [])

    with ProcessSession(["n0", "n1"]) as session:
        before = segments()
        with pytest.raises(OperatorError):
            session.run(members(2, fails, create=True))
        assert segments() == before


def test_no_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from procession.blobs import segment

    with ProcessSession(["n0", "n1"]) as session:
        before = segments()
        group = session.compile(members(2, no_calls, create=True))
        monkeypatch.setattr(segment, "available", lambda: 1000)
        with pytest.raises(OutOfSharedMemoryError, match="common world 'all' of 2"):
            session.run(group)
        monkeypatch.undo()
        assert segments() == before
        session.run(group)


def test_it_does_not_travel() -> None:
    with ProcessSession(["n0", "n1"]) as session:
        session.run(members(2, no_calls, create=True))
        with pytest.raises(SerializationError, match="seat"):
            session.workspace("n0").fetch_blob("world 0")


def die(inputs: Any, outputs: Any) -> None:
    os._exit(3)


def test_a_member_that_died_between_two_runs() -> None:
    with ProcessSession(["n0", "n1"]) as session:
        session.run(members(2, no_calls, create=True))
        with pytest.raises(NodeDiedError):
            run_on(session, "n1", python_net(die))
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("n0"):
            net = Net("alone")
            net.Barrier(["world 0"], [])
            Task(step=net)
        with pytest.raises(OperatorError) as caught:
            session.run(group)
        error = caught.value.__cause__
        assert isinstance(error, CollectiveError)
        assert error.others == ("n1",)
        assert "rank 1 (node 'n1') is gone" in error.message


def test_a_node_that_comes_back_joins_a_new_world() -> None:
    with ProcessSession(["n0", "n1"], on_node_failure="restart") as session:
        create = session.compile(members(2, no_calls, create=True))
        session.run(create)
        for rank in range(2):
            session.workspace(f"n{rank}").feed_blob(f"x {rank}", np.arange(5000.0))
        session.run(members(2, allreduce))
        with pytest.raises(NodeDiedError):
            run_on(session, "n1", python_net(die))
        # The handle has died with the process.
        with pytest.raises(Exception, match="world 1"):
            session.run(members(2, allreduce))
        session.run(create)
        session.run(members(2, allreduce))
        for rank in range(2):
            value = session.workspace(f"n{rank}").fetch_blob(f"x {rank}")
            np.testing.assert_array_equal(value, np.arange(5000.0) * 4)


def test_members_of_runs_of_their_own() -> None:
    """The members' calls need not be of one run."""
    with ProcessSession(["n0", "n1"]) as session:
        session.run(members(2, no_calls, create=True))
        futures = []
        for rank in range(2):
            session.workspace(f"n{rank}").feed_blob("x", np.float64(rank + 1))
            with TaskGroup(WorkspaceType.GLOBAL) as group, Node(f"n{rank}"):
                net = Net("own")
                net.Allreduce([f"world {rank}", "x"], "x")
                Task(step=net)
            futures.append(session.run_async(group))
        for rank, future in enumerate(futures):
            future.result(20)
            assert session.workspace(f"n{rank}").fetch_blob("x") == 3


@pytest.mark.parametrize("kind", [ProcessSession, partial(LocalSession, isolate=True)])
def test_sixteen_members(kind: Any) -> None:
    def calls(net: Net, world: str, x: str, rank: int) -> None:
        net.Allreduce([world, "few"], "few sum")
        net.Allreduce([world, x], "sum")
        barrier(net, world, x, rank)

    with kind() as session:
        session.run(members(16, no_calls, create=True))
        for rank in range(16):
            workspace = session.workspace(f"n{rank}")
            workspace.feed_blob("few", np.arange(5) + rank)
            workspace.feed_blob(f"x {rank}", np.arange(20_000) + rank)
        session.run(members(16, calls, turns=3))
        for rank in range(16):
            workspace = session.workspace(f"n{rank}")
            for name, length in (("few sum", 5), ("sum", 20_000)):
                got = workspace.fetch_blob(name)
                np.testing.assert_array_equal(got, np.arange(length) * 16 + sum(range(16)))


def test_where_there_is_no_room_to_move_it_is_copied() -> None:
    def count(net: Net, world: str, x: str, rank: int) -> None:
        net.Python(direct)([world], ["direct"])

    def direct(inputs: Any, outputs: Any) -> None:
        outputs[0].feed(np.int64(inputs[0].data.direct))

    with ProcessSession(["n0", "n1"], memory_limit=12 << 20) as session:
        session.run(members(2, no_calls, create=True))
        for rank in range(2):
            session.workspace(f"n{rank}").feed_blob(f"x {rank}", np.ones(1 << 20))
        session.run(members(2, allreduce, turns=3))
        session.run(members(2, count))
        for rank in range(2):
            workspace = session.workspace(f"n{rank}")
            np.testing.assert_array_equal(workspace.fetch_blob(f"x {rank}"), np.full(1 << 20, 8.0))
            assert workspace.fetch_blob("direct") == 0
