"""Which common worlds a runnable creates."""

from __future__ import annotations

from procession import LocalSession, Net, Node, Task, TaskGroup, ops
from procession.compiler.messages import lower_net
from procession.compiler.worlds import CommonWorld


def creating(net: Net, rank: int, size: int = 2, name: str = "") -> None:
    net.CreateCommonWorld([], "world", size=size, rank=rank, name=name)


def test_none() -> None:
    net = Net("net")
    net.Const(1.0, "x")
    assert LocalSession.compile(net).worlds == ()


def test_members_stand_by_rank_wherever_they_are() -> None:
    with TaskGroup() as group:
        for rank, node in ((2, "a"), (0, "b"), (1, "a")):
            with Node(node):
                net = Net("net")
                net.CreateCommonWorld([], f"world {rank}", size=3, rank=rank, name="all")
                Task(step=net)
    assert LocalSession.compile(group).worlds == (CommonWorld("all", ("b", "a", "a"), 1),)


def test_several_worlds_and_clones() -> None:
    with TaskGroup() as group:
        for rank, node in enumerate("ab"):
            with Node(node):
                net = Net("net")
                creating(net, rank)
                creating(net, 1 - rank, name="other")
                net.CloneCommonWorld("world", "clone")
                net.CloneCommonWorld("clone", "its clone")
                Task(step=net)
    worlds = {world.name: world for world in LocalSession.compile(group).worlds}
    assert worlds["world"].members == ("a", "b")
    assert worlds["other"].members == ("b", "a")
    assert worlds["world"].lanes == 3


def test_in_a_branch_and_in_a_message() -> None:
    with TaskGroup() as group, Node("a"), Task():
        ops.Const(True, "condition")
        with ops.IfNet("condition"):
            ops.CreateCommonWorld([], "world", size=1, rank=0)
    [world] = LocalSession.compile(group).worlds
    assert world.members == ("a",)
    net = Net("net")
    creating(net, 0, 1, "named")
    assert lower_net(net.Proto()).worlds == (CommonWorld("named", ("local",), 1),)
