"""Blobs whose values are lost: absent, with a reason, until they are written again or removed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from procession import errors
from procession.blobs.journal import Journal, Torn, replay
from procession.blobs.segment import Segment
from procession.blobs.shared import SharedPool
from procession.errors import BlobNotFoundError, OutOfSharedMemoryError, TornBlobError
from procession.operators.learning_rate import iter_
from procession.runtime.operation import OperationContext
from procession.runtime.workspace import Workspace

TORN = Torn("the dog ate it", "Mul")


@pytest.fixture
def workspace() -> Workspace:
    workspace = Workspace(node="n1")
    workspace.feed_blob("x", np.ones(3))
    workspace.feed_blob("y", np.ones(3))
    workspace.tear("x", TORN)
    return workspace


def test_a_torn_blob_is_not_there(workspace: Workspace) -> None:
    assert workspace.names() == ["y"]
    assert not workspace.has_blob("x")
    assert "x" not in workspace.blobs
    assert dict(workspace.torn) == {"x": TORN}
    with pytest.raises(TornBlobError) as caught:
        workspace.fetch_blob("x")
    error = caught.value
    assert (error.blob, error.node, error.operator) == ("x", "n1", "Mul")
    assert str(error) == (
        "the value of blob 'x' in the workspace of node 'n1' is lost: the dog ate it. "
        "Feed it, or run what writes it."
    )
    assert isinstance(error, errors.ProcessionError)
    assert isinstance(error, RuntimeError)
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    with pytest.raises(TornBlobError):
        workspace.blobs["x"]
    with pytest.raises(BlobNotFoundError):
        workspace.fetch_blob("z")


def test_it_may_never_have_been_there(workspace: Workspace) -> None:
    workspace.tear("new", Torn("it was being made"))
    with pytest.raises(TornBlobError, match="being made"):
        workspace.fetch_blob("new")
    workspace.tear("new", TORN)
    with pytest.raises(TornBlobError, match="the dog"):
        workspace.fetch_blob("new")


def test_until_it_is_written_again(workspace: Workspace) -> None:
    workspace.feed_blob("x", np.zeros(2))
    np.testing.assert_array_equal(workspace.fetch_blob("x"), np.zeros(2))
    assert not workspace.torn
    workspace.remove_blob("x")
    with pytest.raises(BlobNotFoundError):
        workspace.fetch_blob("x")


def test_or_removed(workspace: Workspace) -> None:
    workspace.remove_blob("x")
    assert not workspace.torn
    with pytest.raises(BlobNotFoundError):
        workspace.remove_blob("x")


def test_what_was_fetched_stays(workspace: Workspace) -> None:
    workspace.feed_blob("z", np.arange(5000))
    before = workspace.fetch_blob("z")
    workspace.tear("z", TORN)
    workspace.feed_blob("z", np.zeros(5000))
    np.testing.assert_array_equal(before, np.arange(5000))


def test_it_is_torn_as_seen_from_inside(workspace: Workspace) -> None:
    child = workspace.child()
    scope = child.scope({"inner": "x", "other": "y"})
    for view, name in ((child, "x"), (scope, "inner"), (scope.child(), "inner")):
        with pytest.raises(TornBlobError, match=repr(name)):
            view.fetch_blob(name)
    with pytest.raises(BlobNotFoundError):
        scope.fetch_blob("x")
    scope.remove_blob("inner")
    assert not workspace.torn
    workspace.tear("x", TORN)
    scope.feed_blob("inner", np.zeros(1))
    assert not workspace.torn
    assert workspace.has_blob("x")


def test_what_writes_it_from_inside_writes_it(workspace: Workspace) -> None:
    workspace.child().feed_blob("x", np.zeros(1))
    assert workspace.names() == ["x", "y"]
    assert not workspace.torn
    # Another of that name is not the same.
    workspace.tear("x", TORN)
    scope = workspace.scope({"inner": "y"})
    scope.feed_blob("x", np.zeros(1))
    assert scope.has_blob("x")
    assert dict(workspace.torn) == {"x": TORN}
    assert not workspace.has_blob("x")


def test_a_count_that_is_lost_does_not_begin_anew(workspace: Workspace) -> None:
    context: Any = OperationContext((), ("x",), workspace, {}, None, 1)  # type: ignore[arg-type]
    with pytest.raises(TornBlobError):
        iter_(context=context)
    workspace.feed_blob("x", np.array([5]))
    assert iter_(context=context) == 6
    workspace.remove_blob("x")
    assert iter_(context=context) == 1


# With a journal.


class Kept:
    """A workspace in shared memory, and its journal."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.refuses = False
        self.pool = SharedPool(self.request)
        self.journal = self.request(1 << 16, 1 << 16, ())
        self.workspace = Workspace(node="n1", pool=self.pool)
        more = self.journal
        self.workspace.keep_journal(Journal(more, lambda n: self.request(n, n, ()), self.pool))

    def request(self, least: int, preferred: int, returned: Any, world: str = "") -> Segment:
        if self.refuses:
            raise OutOfSharedMemoryError("no more")
        self.segments.append(Segment.create(preferred))
        return self.segments[-1]

    def known(self) -> dict[str, str]:
        """Blob -> what the journal says of it."""
        blobs, whole = replay(self.journal.memory, lambda name, size: None)
        assert whole
        return {name: type(known).__name__ for name, known in blobs.items()}


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    for segment in kept.segments:
        segment.unlink()
        segment.close()
    vars(kept).clear()


def test_the_journal_knows_the_workspace_s_own_blobs(kept: Kept) -> None:
    workspace = kept.workspace
    workspace.feed_blob("small", np.ones(3))
    workspace.feed_blob("large", np.ones(3000))
    workspace.feed_blob("object", "text")
    child = workspace.child(exported=frozenset(["out"]))
    child.feed_blob("own", np.ones(3))
    child.feed_blob("out", np.ones(3))
    child.feed_blob("small", np.zeros(3))
    expected = {"small": "TensorAt", "large": "TensorAt", "object": "ObjectIn", "out": "TensorAt"}
    assert kept.known() == expected
    child.close()
    workspace.remove_blob("large")
    workspace.tear("small", TORN)
    del expected["large"]
    assert kept.known() == {**expected, "small": "Torn"}
    workspace.remove_blob("small")
    del expected["small"]
    assert kept.known() == expected
    workspace.tear("small", TORN)
    workspace.feed_blob("small", 1.0)
    assert kept.known() == {**expected, "small": "TensorAt"}
    workspace.close()
    assert kept.known() == {}
    kept.pool.surplus(everything=True)
    assert kept.pool._total == 0


def test_a_blob_for_which_there_is_no_memory_is_not_there(kept: Kept) -> None:
    kept.refuses = True
    # A small one needs none until it is to outlive the process.
    with pytest.raises(OutOfSharedMemoryError):
        kept.workspace.feed_blob("small", np.ones(3))
    assert kept.workspace.names() == []
    assert kept.known() == {}
    kept.refuses = False
    kept.workspace.feed_blob("small", np.ones(3))
    assert kept.known() == {"small": "TensorAt"}


def test_a_blob_that_two_make_at_once_is_one(kept: Kept) -> None:
    workspace = kept.workspace
    one, other = workspace.make("x"), workspace.make("x")
    one.store(np.ones(3))
    other.store(np.full(3, 2.0))
    workspace.keep("x", one)
    workspace.keep("x", other)
    assert workspace.find("x") is one
    np.testing.assert_array_equal(workspace.fetch_blob("x"), np.full(3, 2.0))
    assert kept.known() == {"x": "TensorAt"}


def test_a_copy_of_the_process_writes_nothing(kept: Kept) -> None:
    workspace = kept.workspace
    workspace.feed_blob("x", np.ones(3))
    before = bytes(kept.journal.memory)
    workspace.forget_journal()
    workspace.feed_blob("x", np.zeros(5000))
    workspace.feed_blob("y", np.ones(3))
    workspace.remove_blob("x")
    workspace.tear("y", TORN)
    assert bytes(kept.journal.memory) == before
