"""Blob: one named value, and the rule that what was fetched of it never changes.

A tensor of `MINIMUM` bytes or more lives in a buffer of the workspace's pool, a smaller one in
an array of its own, anything else is kept as the Python object it is. A buffer is written in
place as long as nobody looks at it; while it is leased, the next value goes to another one.

Whoever wants to use a tensor again and again without asking for it each time can *watch* the blob.
A watcher gets two cells that hold the blob's arrays, wherever they move, and is told when those are
not to be relied upon any more: `changed` before they are of another shape or dtype, or gone;
`leased` when somebody looks at the buffer, so that nothing may be written into the array.

A blob that is to outlive its process is *attached* to an entry of a journal (see
`procession.blobs.journal`), which it tells of each value before the memory of the one before is let
go of, and of each writing into its memory before and after. Then small tensors live in buffers,
too, which they do not share with their next value.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from types import CellType
from typing import Any, Protocol

import numpy as np

from procession.blobs.datatypes import check_dtype
from procession.blobs.exchange import EXCHANGED, Use
from procession.blobs.journal import Entry
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

    def exchange(self, world: str, use: Use) -> Pool:
        """Where buffers come from that members of a common world may look at."""

    def holds(self, buffer: Any) -> bool:
        """Whether a buffer is of the kind that comes from here."""

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
        "entry",
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
        self.entry: Entry | None = None
        """What is to be told, of a blob that is to outlive this process."""
        self.exposed = False
        """Whether somebody was given its memory to write to, and may do so at any time."""
        self.value: Any = None
        """What a kernel reads: a read-only array, or the object."""

    def target(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A writable array for the next value; `store` it when it is filled.

        It is the present value's own memory when that fits and nobody looks at it.

        Raises:
            OutOfSharedMemoryError: No memory for it.
        """
        array = self._array
        if (
            array is not None
            and array.shape == shape
            and array.dtype == dtype
            and not (self.buffer is not None and self.buffer.leased)
        ):
            if self.entry is not None:
                self.entry.begin()
            return array
        if self._pending is not None:
            array = self._pending[1]
            if array.shape == shape and array.dtype == dtype:
                return array
            self.discard()
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        if (nbytes < MINIMUM and self.entry is None) or dtype.hasobject:
            return np.empty(shape, dtype)
        return self._fresh(shape, dtype, nbytes)

    def _fresh(self, shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> Array:
        """An array in a buffer of its own, which waits to be stored."""
        self.discard()
        buffer = self._pool.allocate(nbytes or 1)
        fresh: Array = buffer.array(shape, dtype)
        self._pending = (buffer, fresh)
        return fresh

    def in_place(self, array: Array) -> bool:
        """Whether an array from `target` is the memory of the present value."""
        return array is self._array

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
            if self.entry is not None:
                self.entry.object(value)
            self._let_go()
            self.discard()
            self._release()
            self._array, self.value = None, value
            return
        if value is self._array:
            if self.entry is not None:
                self.entry.end()
            return
        if self._pending is not None and value is self._pending[1]:
            buffer = self._pending[0]
            self._record(buffer, value)
            self._pending = None
            self._set(buffer, value)
            return
        if value.dtype.isbuiltin != 1:
            check_dtype(value.dtype)
        if given:
            # To be written in place later, it must be like an array of the blob's own making.
            flags = value.flags
            given = type(value) is np.ndarray and flags.owndata and flags.carray
        if value.nbytes < MINIMUM:
            if self.entry is None:
                self._set(None, value if given else np.array(value, order="C"))
                return
            array = self._fresh(value.shape, value.dtype, value.nbytes)
            np.copyto(array, value)
            self.store(array)
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
            fresh = buffer.array(shape, dtype)
            try:
                self._record(buffer, fresh)
            except BaseException:
                if not own:
                    self._pool.free(buffer)
                raise
            if own:
                self.buffer = None
            self._set(buffer, fresh)
        if buffer.leased:
            self.tell_leased()

    def _record(self, buffer: Any, array: Array) -> None:
        """Have the journal know where the next value lies, which is whole."""
        if self.entry is not None:
            self.entry.tensor(buffer, array.shape, array.dtype, self.exposed)

    def attach(self, entry: Entry) -> None:
        """Have a journal know of it from here on. Only while nobody else can find it.

        Raises:
            OutOfSharedMemoryError: No memory for the value, or for the journal.
        """
        array = self._array
        if array is None:
            entry.object(self.value)
        elif self.buffer is None:
            target = self._fresh(array.shape, array.dtype, array.nbytes)
            np.copyto(target, array)
            entry.tensor(self.target_buffer(target), array.shape, array.dtype, self.exposed)
            self.store(target)
        else:
            entry.tensor(self.buffer, array.shape, array.dtype, self.exposed)
        self.entry = entry

    def expose(self) -> None:
        """Somebody is given its memory to write to, from here on."""
        self.exposed = True
        if self.entry is not None:
            self.entry.expose()

    def exchange(self, world: str, use: Use) -> None:
        """Have the members of a common world be able to look at it, from here on.

        Its value moves to memory that they may map, and all that follow are made there; unless
        it is exchanged in another world that is in use, or somebody writes to it at any time.

        Raises:
            OutOfSharedMemoryError: No memory for it. It stays where it is.
        """
        if self.exposed:
            return
        self._pool = pool = self._pool.exchange(world, use)
        array, buffer = self._array, self.buffer
        if buffer is None or array is None or pool.holds(buffer):
            return
        if array.nbytes >= EXCHANGED:
            fresh = self._fresh(array.shape, array.dtype, array.nbytes)
            np.copyto(fresh, array)
            self.store(fresh)

    def place(self, array: Array, world: str) -> tuple[str, int, int] | None:
        """Where the members of a world find its value, or an array from `target`.

        Returns:
            The segment's name and size, and where the array begins there; None if it lies where
            they may not look.
        """
        if array is self.value or array is self._array:
            buffer = self.buffer
        elif self._pending is not None and array is self._pending[1]:
            buffer = self._pending[0]
        else:
            return None
        if self.exposed or getattr(buffer, "world", "") != world:
            return None
        return buffer.segment.name, buffer.segment.size, buffer.offset

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
        if self.entry is not None:
            self.entry.end()
        if self._pending is not None:
            buffer, self._pending = self._pending[0], None
            self._pool.free(buffer)

    def _release(self) -> None:
        if self.buffer is not None:
            buffer, self.buffer = self.buffer, None
            self._pool.free(buffer)

    def close(self) -> None:
        """Give the memory back; the blob has no value any more."""
        if self.entry is not None:
            entry, self.entry = self.entry, None
            entry.remove()
        self._let_go()
        self.discard()
        self._release()
        self._array = self.value = None


_NOBODY: dict[int, weakref.ref[Watcher]] = {}
"""The watchers of most blobs."""
_BEGINNING = threading.Lock()
"""Held while a blob gets its cells."""
