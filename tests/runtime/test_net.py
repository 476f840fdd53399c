"""Nets as generated functions: they do what their operators do one by one, whatever happens."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.nets import PATIENCE, call, execute

from procession import LocalSession, Net, OperatorError, ProcessSession, Workspace, execution_step
from procession.compiler.lower import lower
from procession.errors import BlobNotFoundError
from procession.operators import REGISTRY
from procession.runtime.executor import Executable
from procession.runtime.monitor import Deadline

LARGE = 2000
"""So many float32s live in a buffer, and are leased when they are fetched."""
MANY = 8
"""More runs than it takes until a net is one function."""


# Against a model.


def plain() -> Net:
    net = Net("plain")
    net.Add(["a", "b"], "c")
    net.Scale("c", "c", scale=2.0)
    net.Mul(["c", "a"], "d")
    return net


def in_place() -> Net:
    net = Net("in_place")
    net.GivenTensorFill([], "one", shape=[1], values=[1.0])
    net.Add(["a", "one"], "a")
    net.Sub(["b", "a"], "b")
    net.Negative("b", "b")
    return net


def several() -> Net:
    net = Net("several")
    net.Add(["a", "b"], "c")
    net.AddGradient(["c", "a", "b"], ["a", "d"])
    net.Copy("a", "b")
    net.Sum(["a", "b", "d"], "d")
    return net


def growing() -> Net:
    """A blob that has two shapes in one turn."""
    net = Net("growing")
    net.SumElements("a", "c")
    net.Add(["c", "a"], "c")
    net.LT(["a", "c"], "d")
    return net


NETS = (plain, in_place, several, growing)
NAMES = "abcd"


def interpret(net: Net, blobs: dict[str, Any]) -> None:
    """What the net does, one operator after the other, every result in memory of its own."""
    for operator in net.Proto().op:
        if not all(name in blobs for name in operator.input):
            raise BlobNotFoundError("missing")
        values = [blobs[name].copy() for name in operator.input]
        arguments = {each.name: each.value for each in operator.arg}
        results = REGISTRY[operator.type].kernel(*values, **arguments)
        results = results if isinstance(results, tuple) else (results,)
        for name, result in zip(operator.output, results, strict=True):
            blobs[name] = np.array(result)


def value(length: int, dtype: str, seed: int) -> Any:
    shape = () if length == 0 else (length,)
    return np.random.default_rng(seed).integers(1, 5, shape).astype(dtype)


KINDS = ["run"] * 8 + ["fetch"] * 8 + ["loop", "like", "drop"] * 3 + ["feed", "other", "remove"]


@st.composite
def action(draw: st.DrawFn) -> tuple[Any, ...]:
    kind = draw(st.sampled_from(KINDS))
    name, number = draw(st.sampled_from(NAMES)), draw(st.integers(1, 4))
    if kind == "feed":
        length = draw(st.sampled_from([1, 3, LARGE, 0]))
        return kind, name, length, draw(st.sampled_from(["f4", "f4", "f8", "i4"])), number
    if kind == "like":
        return kind, name, number
    return (kind, name) if kind in ("fetch", "remove") else (kind, number)


class Side:
    """A session, beside a model of its workspace."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.workspace = session.workspace()
        self.nets: list[Net] = []
        self.loops: dict[Any, Any] = {}
        self.index = 0
        self.model: dict[str, Any] = {}
        self.held: list[tuple[Any, Any]] = []

    def begin(self, index: int, length: int) -> None:
        self.index = index
        # Others than before, which nobody knows anything of.
        self.nets = [make() for make in NETS]
        self.loops = {
            (index, times): execution_step("loop", net, num_iter=times)
            for index, net in enumerate(self.nets)
            for times in range(1, 5)
        }
        self.held.clear()
        self.model.clear()
        for name in list(self.workspace.blobs):
            self.workspace.remove_blob(name)
        for seed, name in enumerate("ab"):
            self.act("feed", name, length, "f4", seed)

    def act(self, kind: str, *arguments: Any) -> None:
        getattr(self, kind)(*arguments)
        for taken, expected in self.held:
            np.testing.assert_array_equal(taken, expected)

    def feed(self, name: str, *what: Any) -> None:
        self.model[name] = value(*what)
        self.workspace.feed_blob(name, self.model[name].copy())

    def like(self, name: str, seed: int) -> None:
        if name in self.model:
            known = self.model[name]
            self.feed(name, len(known) if known.ndim else 0, known.dtype, seed)

    def run(self, times: int) -> None:
        for _ in range(times):
            self.other(self.index)

    def other(self, index: int) -> None:
        self._run(self.nets[index % len(NETS)], self.nets[index % len(NETS)], 1)

    def loop(self, times: int) -> None:
        self._run(self.loops[self.index, times], self.nets[self.index], times)

    def _run(self, runnable: Any, net: Net, turns: int) -> None:
        error = None
        if not all(str(name) in self.model for name in net.external_inputs):
            error = BlobNotFoundError
        else:
            try:
                for _ in range(turns):
                    interpret(net, self.model)
            except (ValueError, TypeError):
                error = OperatorError
        with np.errstate(all="ignore"):
            if error is None:
                self.session.run(runnable)
            else:
                with pytest.raises(error):
                    self.session.run(runnable)

    def fetch(self, name: str) -> None:
        if name in self.model:
            taken = self.workspace.fetch_blob(name)
            assert taken.dtype == self.model[name].dtype
            np.testing.assert_array_equal(taken, self.model[name])
            self.held.append((taken, self.model[name].copy()))

    def drop(self, index: int) -> None:
        del self.held[index : index + 2]

    def remove(self, name: str) -> None:
        if self.model.pop(name, None) is not None:
            self.workspace.remove_blob(name)

    def compare(self) -> None:
        assert set(self.workspace.blobs) == set(self.model)
        for name in sorted(self.model):
            self.act("fetch", name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "examples"), [(LocalSession, 150), (ProcessSession, 25)], ids=["local", "process"]
)
def test_whatever_happens_nets_do_what_their_operators_do(kind: Any, examples: int) -> None:
    with kind() as session:
        side = Side(session)

        @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
        @given(
            st.integers(0, len(NETS) - 1),
            st.sampled_from([1, 3, LARGE]),
            st.lists(action(), min_size=10, max_size=40),
        )
        def happen(index: int, length: int, what: list[Any]) -> None:
            side.begin(index, length)
            side.run(3)
            for action in what:
                side.act(*action)
            side.compare()

        with np.errstate(all="ignore"):
            happen()
        side.held.clear()


# One thing at a time.


@pytest.mark.parametrize("kind", [LocalSession, ProcessSession])
def test_a_fetch_in_the_middle_of_a_net_is_a_snapshot(kind: Any) -> None:
    def taker() -> Any:
        taken: list[Any] = []

        def take(inputs: Any, outputs: Any, workspace: Any) -> None:
            for snapshot, expected in taken:
                assert (snapshot == expected).all()
            snapshot = workspace.fetch_blob("x")
            taken.append((snapshot, snapshot.copy()))

        return take

    net = Net("n")
    net.Add(["x", "one"], "x")
    net.Python((taker, (), {}), pass_workspace=True)([], [])
    net.Add(["x", "one"], "x")
    net.Add(["x", "one"], "x")
    with kind() as session:
        session.workspace().feed_blob("x", np.zeros(LARGE, np.float32))
        session.workspace().feed_blob("one", np.ones(1, np.float32))
        for _ in range(MANY):
            session.run(net)
        assert (session.workspace().fetch_blob("x") == 3 * MANY).all()


def failing_net() -> Net:
    net = Net("failing")
    net.Scale("x", "y", scale=2.0)
    net.Div(["y", "z"], "y")  # the line
    net.Copy("y", "w")
    return net


def test_an_error_says_the_same_as_before() -> None:
    texts = []
    for runs in (0, MANY):
        workspace = Workspace()
        executable = Executable(lower(failing_net(), isolated=False).merged)
        workspace.feed_blob("x", np.int32([4]).astype(np.float32))
        workspace.feed_blob("z", np.float32([2]))
        for _ in range(runs):
            executable.run(workspace, Deadline())
        # Nothing changes but what is in it, so that a net that is one function stays it.
        with np.errstate(divide="raise"):
            found = workspace.find("z")
            assert found is not None
            target = found.target((1,), np.dtype(np.float32))
            target[...] = 0
            found.store(target)
            with pytest.raises(OperatorError) as caught:
                executable.run(workspace, Deadline())
        assert isinstance(caught.value.__cause__, FloatingPointError)
        assert "the line" in str(caught.value.source)
        assert workspace.has_blob("w") is (runs > 0)
        texts.append(str(caught.value).replace("failing_1", "failing"))
    assert texts[0] == texts[1]
    assert "inputs: y float32(1), z float32(1)" in texts[0]


def test_a_removed_blob_takes_no_memory() -> None:
    workspace = Workspace()
    net = Net("n")
    net.Scale("x", "y", scale=2.0)
    workspace.feed_blob("x", np.zeros(LARGE, np.float32))
    executable = Executable(lower(net, isolated=False).merged)
    for _ in range(MANY):
        executable.run(workspace, Deadline())
    blob = workspace.find("y")
    assert blob is not None
    memory = weakref.ref(blob.value.base)
    workspace.remove_blob("y")
    gc.collect()
    assert memory() is None
    executable.run(workspace, Deadline())
    assert workspace.has_blob("y")


def test_a_workspace_keeps_nothing_of_a_net_that_is_gone() -> None:
    workspace = Workspace()
    workspace.feed_blob("x", np.zeros(3, np.float32))
    net = Net("n")
    net.Scale("x", "x", scale=2.0)
    executable = Executable(lower(net, isolated=False).merged)
    for _ in range(MANY):
        executable.run(workspace, Deadline())
    blob = workspace.find("x")
    assert blob is not None
    assert len(blob._watchers) == 1
    del executable
    gc.collect()
    assert len(blob._watchers) == 0


def test_a_run_in_another_thread_changes_a_shape_meanwhile() -> None:
    workspace = Workspace()
    workspace.feed_blob("x", np.ones(3, np.float32))
    turn = threading.Barrier(2)

    def wait(inputs: Any, outputs: Any) -> None:
        turn.wait(PATIENCE)
        turn.wait(PATIENCE)

    def change(inputs: Any, outputs: Any, inside: Any) -> None:
        for length in range(1, MANY + 1):
            turn.wait(PATIENCE)
            inside.feed_blob("x", np.ones(length, np.float32))
            turn.wait(PATIENCE)

    net = call(wait)
    net.Scale("x", "y", scale=2.0)
    net.Sum(["y", "y"], "z")
    loop = execution_step("loop", net, num_iter=MANY)
    other = call(change, workspace=True)
    execute(execution_step("s", [loop, other], concurrent_substeps=True), workspace)
    assert workspace.fetch_blob("z").tolist() == [4.0] * MANY
