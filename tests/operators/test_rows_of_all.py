"""AllgatherRows among members: rows in any number, of several tensors, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from procession import (
    CollectiveError,
    LocalSession,
    Net,
    Node,
    OperatorError,
    ProcessSession,
    Session,
    Task,
    TaskGroup,
    WorkspaceType,
)

SIZE = 3


@pytest.fixture(params=["local", "process"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """Three nodes with seats in a world."""
    kinds: dict[str, Callable[[], Session]] = {
        "local": lambda: LocalSession(isolate=True),
        "process": ProcessSession,
    }
    with kinds[request.param]() as session:
        session.run(
            group(lambda net, rank: net.CreateCommonWorld([], "world", size=SIZE, rank=rank))
        )
        yield session


def group(calls: Callable[[Net, int], object]) -> TaskGroup:
    with TaskGroup(WorkspaceType.GLOBAL) as made:
        for rank in range(SIZE):
            with Node(f"n{rank}"):
                net = Net("calls")
                calls(net, rank)
                Task(step=net)
    return made


def gather(net: Net, rank: int) -> None:
    net.AllgatherRows(["world", "indices", "values"], ["all_indices", "all_values"])


def gathered(session: Session, compiled: Any, parts: list[list[Any]]) -> None:
    """Have parts joined, and see that all have all of them."""
    for rank, part in enumerate(parts):
        for name, value in zip(("indices", "values"), part, strict=True):
            session.workspace(f"n{rank}").feed_blob(name, value)
    session.run(compiled)
    for place, name in enumerate(("all_indices", "all_values")):
        expected = np.concatenate([part[place] for part in parts])
        for rank in range(SIZE):
            found = session.workspace(f"n{rank}").fetch_blob(name)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def test_members_have_different_numbers_of_rows(session: Session) -> None:
    random = np.random.default_rng(1)
    compiled = session.compile(group(gather))
    for counts in ([2, 5, 1], [2, 5, 1], [0, 0, 0], [0, 7, 0], [3000, 2000, 4], [1, 1, 1]):
        parts = [[random.integers(0, 99, n), random.random((n, 4, 3), "f")] for n in counts]
        gathered(session, compiled, parts)


def test_rows_of_no_bytes_and_single_numbers(session: Session) -> None:
    compiled = session.compile(group(gather))
    parts = [[np.zeros((rank, 0), np.float32), np.arange(rank)] for rank in range(SIZE)]
    gathered(session, compiled, parts)
    gathered(session, compiled, [[part[0], part[0]] for part in parts])


def test_rows_that_are_not_alike(session: Session) -> None:
    """Of the same bytes, even: the members say so, and nobody waits."""
    for rank in range(SIZE):
        workspace = session.workspace(f"n{rank}")
        workspace.feed_blob("indices", np.arange(2))
        workspace.feed_blob("values", np.ones((2, 2), np.int32 if rank == 1 else np.float32))
    with pytest.raises(OperatorError, match=r"its rows are of .*\(0 is any number\)") as caught:
        session.run(group(gather))
    cause = caught.value.__cause__
    assert isinstance(cause, CollectiveError)
    assert cause.world == "world"
    assert set(cause.others) <= {"n0", "n1", "n2"}


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (["two", "three"], ["a", "b"], r"same number of rows: not \(2,\), \(3,\)"),
        (["number"], ["a"], "same number of rows"),
        (["two", "two"], ["a"], "as many outputs"),
        (["object"], ["a"], "only tensors"),
    ],
)
def test_refusals(inputs: list[str], outputs: list[str], message: str) -> None:
    net = Net("refused")
    net.CreateCommonWorld([], "world", size=1, rank=0)
    net.AllgatherRows(["world", *inputs], outputs)
    with LocalSession() as session:
        workspace = session.workspace()
        workspace.feed_blob("two", np.arange(2))
        workspace.feed_blob("three", np.arange(3))
        workspace.feed_blob("number", np.float32(1))
        workspace.feed_blob("object", {"an": "object"})
        with pytest.raises(OperatorError, match=message):
            session.run(net)
