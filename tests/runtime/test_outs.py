"""Kernels with several results that write into the blobs' own memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from procession import LocalSession, Net, OperatorError, ProcessSession, operator
from procession.blobs.shared import MINIMUM
from procession.operators import REGISTRY, registry
from procession.runtime.operation import targets

SIZES = [4, MINIMUM]
RUNS = 6
"""More than it takes until the net is one function."""


@pytest.fixture
def session() -> Iterator[LocalSession]:
    with LocalSession() as session:
        yield session


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    made = []

    def add(name: str, kernel: Any, **options: Any) -> None:
        operator(name, **options)(kernel)
        made.append(name)

    yield add
    for name in made:
        REGISTRY.remove(name)


def address(session: LocalSession, name: str) -> int:
    """Where a blob lies, without holding on to it."""
    found: int = session._workspace("local").find(name).value.ctypes.data
    return found


class Step:
    """(x - y, x + y, the sum of x), which notes down what it was given."""

    def __init__(self) -> None:
        self.given: list[list[int | None]] = []

    def __call__(self, x: Any, y: Any, *, outs: Any = None) -> Any:
        assert outs is not None
        self.given.append([None if out is None else out.ctypes.data for out in outs])
        first = x - y
        return (
            np.positive(first, out=outs[0]),
            np.add(x, y, out=outs[1]),
            np.add.reduce(x),
        )


@pytest.mark.parametrize("size", SIZES)
def test_results_go_where_the_last_ones_were(
    session: LocalSession, register: Callable[..., None], size: int
) -> None:
    step = Step()
    register("TestStep", step.__call__, outputs=3)
    net = Net("n")
    net.TestStep(["x", "y"], ["a", "b", "c"])
    workspace = session.workspace()
    workspace.feed_blob("x", np.full(size, 3, np.float32))
    workspace.feed_blob("y", np.ones(size, np.float32))
    session.run(net)
    homes = [address(session, name) for name in "ab"]
    assert step.given == [[None, None, None]]
    for _ in range(RUNS):
        session.run(net)
        assert step.given[-1][:2] == homes
        assert step.given[-1][2] is not None
    assert workspace.fetch_blob("c") == 3 * size

    # While somebody looks at a large one, its next value goes elsewhere. The other one stays.
    looked = workspace.fetch_blob("b")
    workspace.feed_blob("x", np.full(size, 5, np.float32))
    for _ in range(RUNS):
        session.run(net)
        assert step.given[-1][0] == homes[0]
    assert (looked == 4).all()
    assert (workspace.fetch_blob("b") == 6).all()
    assert (workspace.fetch_blob("a") == 4).all()
    assert (address(session, "b") == homes[1]) is (size < MINIMUM // 4)
    del looked

    # Other shapes, and other dtypes, are another first time.
    for dtype in (np.float32, np.float64):
        for name in "xy":
            workspace.feed_blob(name, np.ones(size + 1, dtype))
        session.run(net)
        assert step.given[-1] == [None, None, None]
        assert workspace.fetch_blob("b").dtype == dtype
        for _ in range(RUNS):
            session.run(net)
            assert None not in step.given[-1]
        assert (workspace.fetch_blob("b") == 2).all()


def update(gradient: Any, velocity: Any, parameter: Any, *, outs: Any = None) -> Any:
    """A step of momentum."""
    keep, velocity_out, parameter_out = outs or (None, None, None)
    after = np.add(np.multiply(velocity, 0.5), gradient, out=velocity_out)
    return (
        np.multiply(gradient, 1, out=keep),
        after,
        np.subtract(parameter, after, out=parameter_out),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("looked", [True, False])
def test_parameters_in_place(
    session: LocalSession,
    register: Callable[..., None],
    size: int,
    declared: bool,
    looked: bool,
) -> None:
    pairs = [(0, 0), (1, 1), (2, 2)] if declared else []
    register("TestUpdate", update, outputs=3, in_place=pairs)
    net = Net("n")
    net.TestUpdate(["g", "v", "p"], ["g", "v", "p"])
    workspace = session.workspace()
    for name, value in (("g", 1), ("v", 0), ("p", 10)):
        workspace.feed_blob(name, np.full(size, value, np.float32))
    parameter, velocity = 10.0, 0.0
    seen = []
    for _ in range(RUNS):
        before = address(session, "p")
        session.run(net)
        velocity = velocity * 0.5 + 1
        parameter -= velocity
        if looked:
            seen.append((workspace.fetch_blob("p"), parameter))
        elif declared and len(seen) > 1:
            assert address(session, "p") == before
        assert (session._workspace("local").find("p").value == np.float32(parameter)).all()
    for snapshot, value in seen:
        assert (snapshot == np.float32(value)).all()
    assert (workspace.fetch_blob("v") == np.float32(velocity)).all()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_not_declared_is_not_handed_over(
    session: LocalSession, register: Callable[..., None], size: int
) -> None:
    step = Step()
    # Its second result is right in place, its first would be if it were written first.
    register("TestStep", step.__call__, outputs=3, in_place=[(0, 1)])
    net = Net("n")
    net.TestStep(["x", "y"], ["y", "x", "total"])
    other = Net("crossed")
    other.TestStep(["x", "x"], ["a", "x", "total"])
    workspace = session.workspace()
    x, y = 3.0, 1.0
    workspace.feed_blob("x", np.full(size, x, np.float32))
    workspace.feed_blob("y", np.full(size, y, np.float32))
    for _ in range(RUNS):
        session.run(net)
        x, y = x + y, x - y
        assert step.given[-1][0] is None
        assert (workspace.fetch_blob("x") == x).all()
        assert (workspace.fetch_blob("y") == y).all()
    assert step.given[-1][1] is not None
    for _ in range(RUNS):
        session.run(other)
        x *= 2
        # It is an input twice, and only once as declared.
        assert step.given[-1][1] is None
        assert (workspace.fetch_blob("x") == x).all()


def test_two_outputs_that_are_one_blob(
    session: LocalSession, register: Callable[..., None]
) -> None:
    step = Step()
    register("TestStep", step.__call__, outputs=3)
    net = Net("n")
    net.TestStep(["x", "y"], ["a", "a", "b"])
    workspace = session.workspace()
    workspace.feed_blob("x", np.full(3, 3, np.float32))
    workspace.feed_blob("y", np.ones(3, np.float32))
    for _ in range(RUNS):
        session.run(net)
        # The later one counts.
        assert (workspace.fetch_blob("a") == 4).all()
        assert step.given[-1][:2] == [None, None]


def test_which_outputs_can_be_handed_over() -> None:
    assert targets("ab", "cd", ()) == [True, True]
    assert targets("ab", "ba", ()) == [False, False]
    assert targets("ab", "ba", [(0, 1), (1, 0)]) == [True, True]
    assert targets("ab", "ab", [(0, 0)]) == [True, False]
    assert targets("aa", "ab", [(0, 0)]) == [False, True]
    assert targets("a", "bb", ()) == [False, False]


@pytest.mark.parametrize("size", SIZES)
def test_a_kernel_may_return_something_else(
    session: LocalSession, register: Callable[..., None], size: int
) -> None:
    def kernel(x: Any, *, outs: Any = None) -> Any:
        return x + 1, np.multiply(x, 2, out=outs[1])

    register("TestOther", kernel, outputs=2)
    net = Net("n")
    net.TestOther("x", ["a", "b"])
    net.Add(["a", "b"], "c")
    workspace = session.workspace()
    held = []
    for number in range(RUNS):
        workspace.feed_blob("x", np.full(size, number, np.float32))
        session.run(net)
        held.append(workspace.fetch_blob("a"))
        assert (workspace.fetch_blob("c") == 3 * number + 1).all()
    for number, each in enumerate(held):
        assert (each == number + 1).all()


def test_objects_are_stored_as_they_are(
    session: LocalSession, register: Callable[..., None]
) -> None:
    def kernel(x: Any, *, outs: Any = None) -> Any:
        return np.add(x, 1, out=outs[0]), f"{x.size} numbers"

    register("TestText", kernel, outputs=2)
    net = Net("n")
    net.TestText("x", ["a", "b"])
    for size in (2, 2, 2, 2, 3):
        session.workspace().feed_blob("x", np.zeros(size, np.float32))
        session.run(net)
        assert session.workspace().fetch_blob("b") == f"{size} numbers"
        assert session.workspace().fetch_blob("a").tolist() == [1] * size


@pytest.mark.parametrize("runs", [1, RUNS])
def test_an_error_leaves_nothing_behind(
    session: LocalSession, register: Callable[..., None], runs: int
) -> None:
    failing = False

    def kernel(x: Any, *, outs: Any = None) -> Any:
        if failing:
            raise ValueError("no more")
        return np.add(x, 1, out=outs[0]), np.add(x, 2, out=outs[1])

    register("TestFail", kernel, outputs=2)
    net = Net("n")
    net.TestFail("x", ["a", "b"])
    workspace = session.workspace()
    workspace.feed_blob("x", np.zeros(MINIMUM, np.float32))
    for _ in range(runs):
        session.run(net)
    looked = workspace.fetch_blob("a")
    failing = True
    for _ in range(3):
        with pytest.raises(OperatorError, match="no more"):
            session.run(net)
    failing = False
    workspace.feed_blob("x", np.ones(MINIMUM, np.float32))
    for _ in range(3):
        session.run(net)
        assert (workspace.fetch_blob("a") == 2).all()
        assert (workspace.fetch_blob("b") == 3).all()
    assert (looked == 1).all()


def test_a_kernel_that_takes_outs_returns_a_tuple(
    session: LocalSession, register: Callable[..., None]
) -> None:
    register("TestOne", lambda x, *, outs=None: x + 1, outputs=(1, 2))
    net = Net("n")
    net.TestOne("x", "y")
    session.workspace().feed_blob("x", np.zeros(3, np.float32))
    with pytest.raises(OperatorError, match="returns a tuple"):
        session.run(net)


def test_with_a_context(session: LocalSession, register: Callable[..., None]) -> None:
    given = []

    def kernel(x: Any, *, outs: Any = None, context: registry.Context) -> Any:
        assert len(outs) == len(context.outputs)
        given.append(outs)
        return tuple(np.add(x, index, out=out) for index, out in enumerate(outs))

    register("TestContext", kernel, outputs=(1, None))
    net = Net("n")
    net.TestContext("x", ["a", "b"])
    net.TestContext("x", ["c"])
    session.workspace().feed_blob("x", np.zeros(MINIMUM, np.float32))
    for _ in range(RUNS):
        session.run(net)
    assert (session.workspace().fetch_blob("b") == 1).all()
    assert given[-1][0].ctypes.data == address(session, "c")
    assert all(out is not None for out in given[-2])


def test_in_a_worker() -> None:
    net = Net("n")
    net.FCGradient(["x", "w", "dy"], ["dw", "db", "dx"])
    net.MomentumSGDUpdate(["dw", "v", "lr", "w"], ["dw", "v", "w"], momentum=0.5)
    rng = np.random.default_rng(0)
    fed = {
        "x": rng.normal(size=(16, 96)).astype(np.float32),
        "w": rng.normal(size=(64, 96)).astype(np.float32),
        "dy": rng.normal(size=(16, 64)).astype(np.float32),
        "v": np.zeros((64, 96), np.float32),
        "lr": np.float32([0.1]),
    }
    results = []
    for kind in (ProcessSession, LocalSession):
        with kind() as session:
            workspace = session.workspace()
            for name, value in fed.items():
                workspace.feed_blob(name, value)
            held = []
            for _ in range(RUNS):
                session.run(net)
                held.append([workspace.fetch_blob(name) for name in ("w", "v", "db", "dx")])
            results.append(held)
    for one, other in zip(*results, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert (results[0][0][0] != results[0][1][0]).any()
