"""Blobs that are filled in place: `with workspace.new_blob(name, shape, dtype) as array:`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession.errors import BlobNotFoundError, DataTypeError, SessionClosedError
from procession.runtime.workspace import WorkspaceView
from procession.session.base import Session
from procession.testing.session_contract.base import LARGE, SMALL, ContractBase
from procession.testing.session_contract.values import assert_same, filled, foreign_dtype

SHAPES: tuple[Any, ...] = (SMALL, LARGE, 3000, (), (0,), (4, 0, 2), [20, 30], np.int64(7))
TOO_LARGE: tuple[Any, ...] = ((1 << 62, 8), (1 << 40, 1 << 40), (1 << 70,), (0, 1 << 62))
NO_SHAPES: tuple[Any, ...] = (2.5, (2, 2.5), "x", None, (2, None))


def fill(workspace: WorkspaceView, name: Any, shape: Any, dtype: Any, value: Any = 1) -> Any:
    """Fill a new blob; raises the value if it is an exception, after something was written.

    Returns:
        The array, which the caller keeps.
    """
    with workspace.new_blob(name, shape, dtype) as array:
        if isinstance(value, BaseException):
            array[...] = 9
            raise value
        array[...] = value
    return array


class NewBlobs(ContractBase):
    """A blob appears when the block that fills it ends well, and not at all when it fails."""

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_an_array_to_be_filled(self, session: Session, shape: Any) -> None:
        workspace = session.workspace("n")
        lengths = np.empty(shape, np.bool_).shape
        for kind in ("f4", ">i2", "M8[us]", "U3", "S7", [("a", "i1"), ("b", "f8", (2,))]):
            dtype = np.dtype(kind)
            value = filled(lengths, dtype)
            with workspace.new_blob("x", shape, kind) as array:
                assert (array.shape, array.dtype) == (lengths, dtype)
                assert array.flags.writeable
                assert array.flags.c_contiguous
                array[...] = value
            assert_same(workspace.fetch_blob("x"), value)
            workspace.remove_blob("x")

    @pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
    def test_it_is_not_there_before_the_end(self, session: Session, shape: Any) -> None:
        workspace = session.workspace("n")
        with workspace.new_blob("x", shape, np.float32) as array:
            assert not workspace.has_blob("x")
            with pytest.raises(BlobNotFoundError):
                workspace.fetch_blob("x")
            self.works_on(session)
            workspace.feed_blob("y", np.ones(shape))
            array[...] = 2
        assert workspace.has_blob("x")
        assert workspace.fetch_blob("x").sum() == 2 * array.size
        assert workspace.fetch_blob("y").sum() == array.size

    @pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
    def test_left_by_an_exception_nothing_has_happened(self, session: Session, shape: Any) -> None:
        workspace = session.workspace("n")
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                fill(workspace, "x", shape, np.float32, ZeroDivisionError())
            assert not workspace.has_blob("x")
        workspace.feed_blob("x", np.ones(shape))
        held = workspace.fetch_blob("x")
        with pytest.raises(KeyboardInterrupt):
            fill(workspace, "x", shape, np.float64, KeyboardInterrupt())
        assert workspace.fetch_blob("x").sum() == held.sum() == held.size
        fill(workspace, "x", shape, np.float64, 4)
        assert workspace.fetch_blob("x").sum() == 4 * held.size
        assert held.sum() == held.size

    @pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
    def test_nothing_that_was_kept_of_it_can_change_the_blob(
        self, session: Session, shape: Any
    ) -> None:
        workspace = session.workspace("n")
        with workspace.new_blob("x", shape, np.float32) as array:
            array[...] = 1
            kept: list[Any] = [array, array[:], array.data, np.frombuffer(array, np.uint8)]
        fetched = workspace.fetch_blob("x")
        for each in kept:
            # Whether it may still be written to is its own affair.
            if not memoryview(each).readonly:
                each[0] = 7
        assert fetched.sum() == workspace.fetch_blob("x").sum() == fetched.size
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 2

    def test_several_at_once(self, session: Session) -> None:
        one, other = session.workspace("n"), session.workspace("m")
        with one.new_blob("x", LARGE, np.float32) as x:
            x[...] = 1
            with one.new_blob("y", LARGE, np.float32) as y, other.new_blob("z", LARGE, "f8") as z:
                y[...] = 2
                z[...] = 3
            with pytest.raises(ZeroDivisionError):
                fill(one, "w", LARGE, np.float32, ZeroDivisionError())
        for workspace, name, value in ((one, "x", 1), (one, "y", 2), (other, "z", 3)):
            assert workspace.fetch_blob(name)[0] == value
        assert not one.has_blob("w")

    def test_what_is_no_shape(self, session: Session) -> None:
        workspace = session.workspace("n")
        for shape in (-1, (2, -1)):
            with pytest.raises(ValueError, match="an array cannot have the shape"):
                fill(workspace, "x", shape, np.float32)
        for shape in TOO_LARGE:
            with pytest.raises((ValueError, MemoryError)):
                fill(workspace, "x", shape, np.float32)
        for shape in NO_SHAPES:
            with pytest.raises(TypeError, match="a shape is a length or a sequence of lengths"):
                fill(workspace, "x", shape, np.float32)
        assert not workspace.has_blob("x")
        self.works_on(session)

    def test_what_is_no_dtype_for_it(self, session: Session) -> None:
        workspace = session.workspace("n")
        for kind in (object, [("a", "f4"), ("b", object)]):
            with pytest.raises(DataTypeError, match="objects") as caught:
                fill(workspace, "x", LARGE, kind)
            assert isinstance(caught.value, TypeError)
        with pytest.raises(TypeError):
            fill(workspace, "x", LARGE, "no type at all")
        with pytest.raises(TypeError):
            fill(workspace, 3, LARGE, "f4")
        with pytest.raises(DataTypeError, match="rational"):
            fill(workspace, "x", LARGE, foreign_dtype())
        assert workspace.names() == []
        self.works_on(session)

    def test_the_session_is_closed_meanwhile(self) -> None:
        with self.make() as session:
            block = session.workspace("n").new_blob("x", LARGE, "f4")
            array = block.__enter__()
            session.close()
            array[...] = 1
            with pytest.raises(SessionClosedError):
                block.__exit__(None, None, None)
            assert array.sum() == array.size
