"""Blob: one named value, and the rule that what was fetched of it never changes.

A tensor of `MINIMUM` bytes or more lives in a buffer of the workspace's pool, a smaller one in
an array of its own, anything else is kept as the Python object it is. A buffer is written in
place as long as nobody looks at it; while it is leased, the next value goes to another one.

Whoever wants to use a tensor again and again without asking for it each time can *watch* the blob.
A watcher gets two cells that hold the blob's arrays, wherever they move, and is told when those are
not to be relied upon any more: `changed` before they are of another shape or dtype, or gone;
`leased` when somebody looks at the buffer, so that nothing may be written into the array.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from types import CellType
from typing import Any, Protocol

import numpy as np

from procession.blobs.datatypes import check_dtype
from procession.blobs.shared import MINIMUM
from procession.blobs.snapshot import Array
from procession.blobs.unfinished import Unfinished


class Buffer(Protocol):
    """Memory for one tensor."""

    @property
    def leased(self) -> bool:
        """Whether somebody may still be looking at it."""

    def array(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A writable array over its beginning."""


class Pool(Protocol):
    """Where buffers come from."""

    def allocate(self, nbytes: int) -> Any:
        """A buffer of at least so many bytes."""

    def adopt(self, array: Array) -> Any:
        """A buffer made of the array itself, None where that cannot be."""

    def draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """An array to be filled, in a buffer if there is one that can become a blob's."""

    def free(self, buffer: Any) -> None:
        """Take a buffer back."""


class Watcher(Protocol):
    """Who wants to be told what happens to a blob. Blobs do not keep watchers alive."""

    def changed(self, blob: Blob) -> None:
        """The cells are about to hold something of another kind."""

    def leased(self, blob: Blob) -> None:
        """The array must not be written from here on, until it has moved or the lease is over."""


def is_tensor(value: object) -> bool:
    """Whether a value is kept as bytes with a shape and a dtype."""
    return (
        isinstance(value, np.ndarray)
        and not value.dtype.hasobject
        and not isinstance(value, np.ma.MaskedArray)
    )


def as_value(value: object, name: str | None = None) -> Any:
    """What a fed value is kept as; `name` says in errors which blob it is for.

    Arrays stay (their subclasses' extras do not; masked arrays are kept as objects), numbers become
    0-dimensional tensors: bool, int64 and, as everything in Caffe2, float32. All else is an object.

    Raises:
        DataTypeError: An array of a type that is not NumPy's own.
    """
    if isinstance(value, np.ma.MaskedArray):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.isbuiltin != 1:
            check_dtype(array.dtype, "a blob" if name is None else f"blob {name!r}")
        return array
    if isinstance(value, (bool, int)):
        try:
            return np.asarray(value, np.bool_ if isinstance(value, bool) else np.int64)
        except OverflowError:
            return value
    if isinstance(value, float):
        return np.asarray(value, np.float32)
    return value


class Blob:
    """One value. Not safe for two writers at once, as blobs never are."""

    __slots__ = (
        "_array",
        "_cells",
        "_pending",
        "_pool",
        "_watchers",
        "buffer",
        "exposed",
        "value",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._array: Array | None = None
        self._pending: tuple[Any, Array] | None = None
        self._cells: tuple[CellType, CellType] | None = None
        self._watchers: dict[int, weakref.ref[Watcher]] = _NOBODY
        self.buffer: Any = None
        """The buffer that a large tensor lives in."""
        self.exposed = False
        """Whether somebody was given its memory to write to, and may do so at any time."""
        self.value: Any = None
        """What a kernel reads: a read-only array, or the object."""

    def target(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A writable array for the next value; `store` it when it is filled.

        It is the present value's own memory when that fits and nobody looks at it.
        """
        array = self._array
        if (
            array is not None
            and array.shape == shape
            and array.dtype == dtype
            and not (self.buffer is not None and self.buffer.leased)
        ):
            return array
        if self._pending is not None:
            buffer, array = self._pending
            if array.shape == shape and array.dtype == dtype:
                return array
            self.discard()
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        if nbytes < MINIMUM or dtype.hasobject:
            return np.empty(shape, dtype)
        buffer = self._pool.allocate(nbytes)
        fresh: Array = buffer.array(shape, dtype)
        self._pending = (buffer, fresh)
        return fresh

    def target_buffer(self, array: Array) -> Any:
        """The buffer that an array from `target` lies in; None for a small one."""
        if self._pending is not None and array is self._pending[1]:
            return self._pending[0]
        return self.buffer

    def store(self, value: Any, given: bool = False) -> None:
        """Make this the blob's value.

        Args:
            value: An array from `target`, or any value; a tensor's bytes are copied.
            given: Nobody else holds the value: it may be kept as it is.

        Raises:
            DataTypeError: An array of a type that is not NumPy's own.
        """
        if not is_tensor(value):
            self._let_go()
            self.discard()
            self._release()
            self._array, self.value = None, value
            return
        if value is self._array:
            return
        if self._pending is not None and value is self._pending[1]:
            buffer, self._pending = self._pending[0], None
            self._set(buffer, value)
            return
        if value.dtype.isbuiltin != 1:
            check_dtype(value.dtype)
        if given:
            # To be written in place later, it must be like an array of the blob's own making.
            flags = value.flags
            given = type(value) is np.ndarray and flags.owndata and flags.carray
        if value.nbytes < MINIMUM:
            self._set(None, value if given else np.array(value, order="C"))
            return
        if given:
            buffer = self._pool.adopt(value)
            if buffer is not None:
                self._set(buffer, value)
                return
        array = self.target(value.shape, value.dtype)
        np.copyto(array, value)
        self.store(array)

    def take(self, buffer: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Make what was written into a buffer the blob's value. The buffer is the blob's from here.

        The one of the value before is freed; if it is leased, that is when its last lease ends. It
        may also be the blob's own one, written in place. Who wrote it may look at it still.
        """
        array = self._array
        own = buffer is self.buffer
        if not (own and array is not None and array.shape == shape and array.dtype == dtype):
            if own:
                self.buffer = None
            self._set(buffer, buffer.array(shape, dtype))
        if buffer.leased:
            self.tell_leased()

    def _set(self, buffer: Any, array: Array) -> None:
        before = self._array
        other = before is None or before.shape != array.shape or before.dtype != array.dtype
        if other:
            self._let_go()
        self._release()
        self.discard()
        self.buffer = buffer
        self._array = array
        view = array.view()
        view.flags.writeable = False
        self.value = view
        if self._cells is not None:
            self._cells[0].cell_contents = view
            self._cells[1].cell_contents = array
            if other:
                # Who has begun to watch in the meantime was not told.
                self.tell_changed()

    def watch(self, watcher: Watcher) -> tuple[CellType, CellType]:
        """Begin to tell a watcher.

        Returns:
            A cell that holds `value`, and one that holds the writable array behind it. They are the
            same for all watchers. What the blob held before may be gone by now: look afterwards.
        """
        with _BEGINNING:
            if self._watchers is _NOBODY:
                # Not a WeakSet, which takes longer to make than all the rest of a binding.
                self._watchers = {}
            if self._cells is None:
                self._cells = CellType(None), CellType(None)
            cells = self._cells
        key = id(watcher)
        # When the watcher dies, the reference calls `pop(key, reference)`.
        self._watchers[key] = weakref.ref(watcher, partial(self._watchers.pop, key))
        while cells[1].cell_contents is not self._array or cells[0].cell_contents is not self.value:
            # Another thread may be storing a value.
            cells[0].cell_contents, cells[1].cell_contents = self.value, self._array
        return cells

    def _let_go(self) -> None:
        """Tell the watchers, and keep nothing alive for them that the blob lets go of."""
        if self._cells is None:
            return
        self.tell_changed()
        for cell in self._cells:
            cell.cell_contents = None

    def tell_changed(self) -> None:
        """Whoever found the blob by a name has to look again."""
        for reference in list(self._watchers.values()):
            watcher = reference()
            if watcher is not None:
                watcher.changed(self)

    def tell_leased(self) -> None:
        """Somebody has begun to look at the buffer."""
        for reference in list(self._watchers.values()):
            watcher = reference()
            if watcher is not None:
                watcher.leased(self)

    def discard(self) -> None:
        """Let go of an array from `target` that was not stored."""
        if self._pending is not None:
            buffer, self._pending = self._pending[0], None
            self._pool.free(buffer)

    def _release(self) -> None:
        if self.buffer is not None:
            buffer, self.buffer = self.buffer, None
            self._pool.free(buffer)

    def close(self) -> None:
        """Give the memory back; the blob has no value any more."""
        self._let_go()
        self.discard()
        self._release()
        self._array = self.value = None


_NOBODY: dict[int, weakref.ref[Watcher]] = {}
"""The watchers of most blobs."""
_BEGINNING = threading.Lock()
"""Held while a blob gets its cells."""
