"""Bindings: what changes at the wrong moment, what was not seen in time, what is made how often."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from tests.runtime.nets import call

from procession import Net, Workspace, execution_step
from procession.compiler.lower import lower
from procession.errors import ProcessionError
from procession.runtime import flow
from procession.runtime import net as nets
from procession.runtime.binding import Binding
from procession.runtime.draft import Draft
from procession.runtime.executor import Executable
from procession.runtime.monitor import Deadline
from procession.runtime.net import PreparedNet

RUNS = 6
"""More than it takes until what runs is one function."""


def ready(runnable: Any) -> Executable:
    return Executable(lower(runnable, isolated=False).merged)


def bindings(executable: Executable) -> list[Binding]:
    """The bindings that there are of whatever it runs."""
    prepared = [each for each in gc.get_objects() if isinstance(each, PreparedNet)]
    own = {id(operation) for _, net in executable.program.nets() for operation in net.operations}
    return [
        home.binding
        for each in prepared
        for home in each._homes.values()
        if home.binding is not None and any(id(item.spec) in own for item in each.items)
    ]


@pytest.fixture
def adding() -> tuple[Executable, Workspace]:
    """z = x + y, of three numbers and one."""
    workspace = Workspace()
    workspace.feed_blob("x", np.ones(3, np.float32))
    workspace.feed_blob("y", np.ones(1, np.float32))
    net = Net("n")
    net.Add(["x", "y"], "z")
    return ready(net), workspace


@pytest.mark.parametrize("kind", ["shape", "object", "removed"])
def test_a_change_while_the_net_is_being_bound(
    adding: tuple[Executable, Workspace], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable, workspace = adding
    bind = Draft.bind

    def late(self: Draft, slots: Any) -> Binding:
        # As another thread would.
        workspace.remove_blob("x")
        if kind == "shape":
            workspace.feed_blob("x", np.ones(1, np.float32))
        elif kind == "object":
            workspace.feed_blob("x", [1, 2])
        monkeypatch.setattr(Draft, "bind", bind)
        return bind(self, slots)

    monkeypatch.setattr(Draft, "bind", late)

    def run() -> None:
        for _ in range(RUNS):
            executable.run(workspace, Deadline())

    if kind == "shape":
        run()
        assert workspace.fetch_blob("z").tolist() == [2]
        return
    with pytest.raises(ProcessionError, match=r"no blob 'x'|is a list"):
        run()
    workspace.feed_blob("x", np.zeros(2, np.float32))
    executable.run(workspace, Deadline())
    assert workspace.fetch_blob("z").tolist() == [1, 1]


def test_a_change_while_a_binding_is_being_mended(
    adding: tuple[Executable, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    executable, workspace = adding
    for _ in range(RUNS):
        executable.run(workspace, Deadline())
    (binding,) = bindings(executable)
    binding.broken.cell_contents = True  # a lease, that is over now
    mended = Binding.mended

    def late(self: Binding) -> bool:
        workspace.feed_blob("x", np.ones(1, np.float32))
        monkeypatch.setattr(Binding, "mended", mended)
        return mended(self)

    monkeypatch.setattr(Binding, "mended", late)
    executable.run(workspace, Deadline())
    assert workspace.fetch_blob("z").shape == (1,)


def test_what_a_signal_raises_at_a_check_is_raised_as_it_is() -> None:
    class SignalledError(Exception):
        pass

    workspace = Workspace()
    workspace.feed_blob("c", False)
    workspace.feed_blob("x", 1.0)
    branch, net = Net("branch"), Net("n")
    branch.Add(["x", "x"], "x")
    net.If(["c"], ["x"], then_net=branch.Proto())
    executable = ready(net)
    for _ in range(RUNS):
        executable.run(workspace, Deadline())

    class Hostile:
        def item(self) -> bool:
            raise SignalledError

    blob = workspace.find("c")
    assert blob is not None
    cells = blob._cells
    assert cells is not None
    cells[0].cell_contents = Hostile()
    with pytest.raises(SignalledError):
        executable.run(workspace, Deadline())


@pytest.mark.parametrize("turns", [1, 50])
def test_a_branch_that_is_taken_late_becomes_part_of_the_function(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However short the time since the last one was made.
    monkeypatch.setattr(nets, "WORTHWHILE", -1)
    workspace = Workspace()
    workspace.feed_blob("one", np.ones(1, np.float32))
    workspace.feed_blob("c", False)
    branch, other, net = Net("branch"), Net("other"), Net("n")
    branch.Add(["one", "one"], "t")
    branch.Mul(["t", "t"], "y")
    other.Add(["one", "one"], "y")
    net.If(["c"], ["y"], then_net=branch.Proto(), else_net=other.Proto())
    executable = ready(execution_step("s", net, num_iter=turns))
    for _ in range(RUNS):
        executable.run(workspace, Deadline())
    assert workspace.fetch_blob("y") == 2
    workspace.feed_blob("c", True)
    for _ in range(RUNS):
        executable.run(workspace, Deadline())
        assert workspace.fetch_blob("y") == 4
    (binding,) = bindings(executable)
    # All but the jump, which does nothing.
    assert binding.direct == (True, True, True, False, True)
    assert not binding.waits


def test_what_cannot_be_said_better_does_not_make_it_return_for_ever() -> None:
    workspace = Workspace()
    net = Net("n")
    net.Python(lambda inputs, outputs: outputs[0].feed([1]))([], ["list"])
    net.Copy("list", "copy")
    net.Copy("list", "never a tensor")
    executable = ready(net)
    for _ in range(3 * RUNS):
        executable.run(workspace, Deadline())
    for binding in bindings(executable):
        assert not binding.waits


def test_workspaces_that_look_the_same_share_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(
        nets,
        "compile_text",
        lambda *arguments, original=nets.compile_text: (
            compiled.append(arguments) or original(*arguments)
        ),
    )
    branch, other, net = Net("branch"), Net("other"), Net("n")
    branch.Add(["x", "x"], "y")
    other.Mul(["x", "x"], "y")
    net.If(["c"], ["y"], then_net=branch.Proto(), else_net=other.Proto())
    executable = ready(net)
    for number in range(20):
        workspace = Workspace()
        workspace.feed_blob("c", True)
        workspace.feed_blob("x", np.full(1, number, np.float32))
        for turn in range(RUNS):
            executable.run(workspace, Deadline(timeout=60 if turn % 2 else None))
            assert workspace.fetch_blob("y") == 2 * number
    assert len(compiled) <= 4


def test_a_net_does_not_keep_the_last_workspace_alive() -> None:
    workspace = Workspace()
    workspace.feed_blob("x", np.ones(3, np.float32))
    net = Net("n")
    net.Scale("x", "y", scale=2.0)
    executable = ready(net)
    for _ in range(RUNS):
        executable.run(workspace, Deadline())
    blobs = [weakref.ref(workspace.find(name).value) for name in "xy"]  # type: ignore[union-attr]
    del workspace
    gc.collect()
    assert [blob() for blob in blobs] == [None, None]


def test_a_list_is_not_opened_up_without_an_end() -> None:
    branch, net = Net("branch"), Net("n")
    for _ in range(flow.LONG - 10):
        branch.Add(["y", "one"], "y")
    for _ in range(40):
        net.If(["c"], ["y"], then_net=branch.Proto())
    steps = [execution_step(f"s{n}", branch) for n in range(40)]
    for runnable in (net, execution_step("all", steps)):
        workspace = Workspace()
        for name, value in (("one", 1), ("y", 0), ("c", True)):
            workspace.feed_blob(name, value)
        executable = ready(runnable)
        for run in range(1, 4):
            executable.run(workspace, Deadline())
            assert workspace.fetch_blob("y") == 40 * run * (flow.LONG - 10)
        assert max(len(binding.direct) for binding in bindings(executable)) < flow.FULL + 100


def test_nets_that_write_numbers_in_place_have_scratch_memory_by_blob() -> None:
    net = Net("n")
    for _ in range(50):
        net.Add(["x", "one"], "x")
        net.Add(["y", "one"], "y")
    workspace = Workspace()
    for name in ("x", "y", "one"):
        workspace.feed_blob(name, np.ones(1, np.float32))
    executable = ready(net)
    for _ in range(RUNS):
        executable.run(workspace, Deadline())
    (binding,) = bindings(executable)
    assert sum(name.startswith("s") for name in binding.code.co_freevars) == 2
    assert workspace.fetch_blob("x") == workspace.fetch_blob("y") == 50 * RUNS + 1


def test_no_turns_are_no_turns() -> None:
    runs: list[int] = []
    net = call(lambda inputs, outputs: runs.append(1))
    executable = ready(execution_step("s", net, num_iter=0))
    workspace = Workspace()
    for _ in range(RUNS):
        executable.run(workspace, Deadline())
    assert not runs
    assert not bindings(executable)


def test_a_blob_that_comes_between_is_found_from_there_on() -> None:
    """A child's blob, made while another thread makes one of that name in the parent."""
    parent = Workspace()
    child = parent.child()
    made = child.make("x")
    parent.feed_blob("x", np.ones(3, np.float32))
    net = Net("n")
    net.Scale("x", "y", scale=2.0)
    executable = ready(net)
    for _ in range(RUNS):
        executable.run(child, Deadline())
    assert child.fetch_blob("y").tolist() == [2, 2, 2]
    made.store(np.zeros(3, np.float32))
    child.keep("x", made)
    executable.run(child, Deadline())
    assert child.fetch_blob("y").tolist() == [0, 0, 0]


def test_who_begins_to_watch_while_a_blob_changes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace()
    workspace.feed_blob("x", np.ones(3, np.float32))
    blob = workspace.find("x")
    assert blob is not None
    told = []

    class Watcher:
        def changed(self, blob: Any) -> None:
            told.append(blob)

        def leased(self, blob: Any) -> None:
            pass

    watcher = Watcher()
    release = type(blob)._release

    def late(self: Any) -> None:
        # It is past the first telling, as another thread may be that begins to watch.
        self.watch(watcher)
        release(self)

    monkeypatch.setattr(type(blob), "_release", late)
    blob.store(np.ones(2, np.float32))
    assert told == [blob]
    cells = blob.watch(watcher)
    assert cells[1].cell_contents.shape == (2,)
