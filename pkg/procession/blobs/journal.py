"""The journal: what a worker's global workspace holds, written so that it outlives the worker.

The tensors lie in segments that the coordinator owns, so the death of a worker does not touch them.
What dies with it is the knowledge of what lies where. The journal is that knowledge, in a segment
as well: one record for each blob of the workspace, which the coordinator reads when the
worker is dead (`replay`), so that another one can go on.

    kind        says of a blob that
    TENSOR      it is a tensor, which lies there in that segment
    OBJECT      it is an object, of which this is the pickle
    OBJECT_AT   the same, but the pickle is long and lies there in that segment
    TORN        nobody will have its value when this process is dead, and why; or that it is lost
                already, since an earlier process died
    REMOVED     there is none
    CONTINUED   (of no blob) all that counts is in the journal in that segment

How it is written
-----------------

The worker alone writes, one thread at a time (`Journal` has a lock). It may die between any two
of its instructions, by SIGKILL. What it had stored until then is in the memory, and nothing else;
no fence is needed, since whoever reads begins when the writer is gone.

The first word is the *head*: where the records that count begin, and where they end. A record is
appended by writing its bytes behind the end, and then a new head, which is one store of 8 bytes.
So a death leaves the head before or the head after, and bytes behind the end mean nothing.
The last record of a blob counts. The head is the only word on which anything hangs, but for one
more in each record of a tensor, its *flags*:

    WRITING     somebody is writing into the memory of the blob's value: set before the first byte,
                taken away after the last
    EXPOSED     somebody has the memory and may write at any time

A blob's record is written *after* its new value is whole, and *before* the memory of the value
before is let go of. So each record that counts speaks of memory that is not used for anything else,
and a death leaves the old value or the new one.

Functions that a net has become (see `procession.runtime.generated`) write into the memory of blobs
without telling anybody: no store is added there. Which operation each task is in stands on the
board, and who reads the journal has to think of those.

When there is no room behind the end, what counts is written anew, to the other half of the
segment, and the head then points there. When that would leave little room, it is written to a
larger segment, and CONTINUED leads there.
"""

from __future__ import annotations

import marshal
import pickle
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import numpy as np

from procession.blobs.plain import NotPlainError, plain_pickle
from procession.errors import OutOfSharedMemoryError

TENSOR, OBJECT, OBJECT_AT, TORN, REMOVED, CONTINUED = range(6)

WRITING = 1
EXPOSED = 2

JOURNAL_SIZE = 128 << 10
"""How large the first segment of a journal is."""
INLINE = 512
"""Longer pickles lie in a buffer of their own."""

_HEAD = 0
_BEGIN = 64
"""Where the first half begins: behind the head's cache line."""
_RECORD = struct.Struct("<IIQ")
"""Before the bytes of a record: how many, their checksum, the flags."""
_FLAGS = 8
"""Where the flags are in a record."""
_TAIL = 192
"""So much is kept free behind the end, for CONTINUED."""


class Memory(Protocol):
    """A segment."""

    name: str
    size: int
    memory: Any


class Place(Protocol):
    """A buffer in a segment."""

    segment: Any
    offset: int
    size: int


class Places(Protocol):
    """Where buffers come from."""

    def allocate(self, nbytes: int) -> Any:
        """A buffer of at least so many bytes."""

    def free(self, buffer: Any) -> None:
        """Take one back."""


# What there is to know of a blob.


class TensorAt(NamedTuple):
    """A tensor, and where it lies."""

    segment: str
    offset: int
    size: int
    """Bytes of the buffer; the tensor may have fewer."""
    shape: tuple[int, ...]
    dtype: str | bytes
    """See `unpack_dtype`."""
    flags: int = 0


class ObjectIn(NamedTuple):
    """An object, as its pickle."""

    data: bytes


class ObjectAt(NamedTuple):
    """An object, and where its pickle lies."""

    segment: str
    offset: int
    size: int
    """Bytes of the buffer."""
    nbytes: int
    """Bytes of the pickle."""


class Torn(NamedTuple):
    """The value of a blob is lost."""

    reason: str
    """A clause that could follow "because"."""
    operator: str | None = None
    """The type of the operator that was writing it."""


Known = TensorAt | ObjectIn | ObjectAt | Torn


# dtypes.


def _pack_dtype(dtype: np.dtype[Any]) -> str | bytes:
    return dtype.char if dtype.isbuiltin == 1 else pickle.dumps(dtype)


def unpack_dtype(packed: str | bytes) -> np.dtype[Any]:
    """The dtype of a `TensorAt`."""
    if isinstance(packed, str):
        return np.dtype(packed)
    dtype: np.dtype[Any] = pickle.loads(packed)
    return dtype


# The writer.


def _room(nbytes: int) -> int:
    return _RECORD.size + (nbytes + 7) // 8 * 8


def _pages(nbytes: int) -> int:
    return -(-nbytes // 4096) * 4096


class Entry:
    """What a journal says of one blob. Whoever changes the blob tells it first."""

    __slots__ = ("_at", "_data", "_flags", "_journal", "_kept", "name")

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self.name = name
        self._at = 0
        """Where its record is."""
        self._data: bytes | None = None
        """The bytes of its record; None when there is none."""
        self._flags = 0
        self._kept: Any = None
        """The buffer that a long pickle lies in."""

    def tensor(
        self, buffer: Place, shape: tuple[int, ...], dtype: np.dtype[Any], exposed: bool = False
    ) -> None:
        """Its value is whole and lies at the beginning of a buffer.

        Raises:
            OutOfSharedMemoryError: The journal has no room left. Nothing has changed.
        """
        place = buffer.segment.name, buffer.offset, buffer.size
        self._put((TENSOR, self.name, *place, shape, _pack_dtype(dtype)), EXPOSED * exposed)
        self._free_kept()

    def object(self, value: Any) -> None:
        """Its value is an object.

        Raises:
            OutOfSharedMemoryError: The journal has no room left. Nothing has changed.
        """
        try:
            data = plain_pickle(value)
        except NotPlainError as error:
            self.torn(Torn(str(error)))
            return
        if len(data) <= INLINE:
            self._put((OBJECT, self.name, data))
            self._free_kept()
        else:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        pool = self._journal.pool
        try:
            buffer = pool.allocate(len(data))
        except OutOfSharedMemoryError:
            self.torn(Torn("there was no shared memory to keep a copy of the object that it held"))
            return
        try:
            memoryview(buffer.segment.memory)[buffer.offset : buffer.offset + len(data)] = data
            place = buffer.segment.name, buffer.offset, buffer.size
            self._put((OBJECT_AT, self.name, *place, len(data)))
        except BaseException:
            pool.free(buffer)
            raise
        self._free_kept()
        self._kept = buffer

    def torn(self, torn: Torn) -> None:
        """Its value is lost, or will be when this process dies.

        Raises:
            OutOfSharedMemoryError: The journal has no room left. Nothing has changed.
        """
        self._put((TORN, self.name, torn.reason, torn.operator))
        self._free_kept()

    def remove(self) -> None:
        """There is no such blob any more."""
        self._journal.put(self, None, 0)
        self._free_kept()

    def begin(self) -> None:
        """Somebody is going to write into the memory of its value."""
        self._journal.flag(self, self._flags | WRITING)

    def end(self) -> None:
        """What was begun is done, or given up: what is there now is the value."""
        if self._flags & WRITING:
            self._journal.flag(self, self._flags & ~WRITING)

    def expose(self) -> None:
        """Somebody may write into the memory of its value at any time."""
        if not self._flags & EXPOSED:
            self._journal.flag(self, self._flags | EXPOSED)

    def _put(self, record: tuple[Any, ...], flags: int = 0) -> None:
        self._journal.put(self, marshal.dumps(record), flags)

    def _free_kept(self) -> None:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self._journal.pool.free(kept)


class Journal:
    """The worker's side: writes. Safe to use from several threads.

    Args:
        segment: Where it is to be written; all zero.
        more: Makes a segment of at least so many bytes, all zero. Its name means something to the
            coordinator.
        pool: Where there is room for long pickles.
    """

    def __init__(self, segment: Memory, more: Callable[[int], Memory], pool: Places) -> None:
        self.lock = threading.RLock()
        """Held by who makes a blob visible that is to be in the journal."""
        self.pool = pool
        self._more = more
        self._entries: dict[str, Entry] = {}
        self._area = _Area(segment)
        self._begin = self._end = _BEGIN
        """Where the records that count are."""

    def entry(self, name: str) -> Entry:
        """What it says, or is going to say, of a blob."""
        with self.lock:
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = Entry(self, name)
            return entry

    def put(self, entry: Entry, data: bytes | None, flags: int) -> None:
        """Write a record; `None` for a blob that is removed. For `Entry`."""
        with self.lock:
            if data == entry._data and flags == entry._flags:
                return
            record = data or marshal.dumps((REMOVED, entry.name))
            area, at = self._area, self._end
            if at + _room(len(record)) > self._begin + area.capacity:
                self._make_room(entry, data, flags)
            else:
                end = area.append(at, record, flags)
                area.commit(self._begin, end)
                entry._at, self._end = at, end
            entry._data, entry._flags = data, flags
            if data is None:
                self._entries.pop(entry.name, None)
            else:
                # It may have been removed in the meantime, and is there again.
                self._entries[entry.name] = entry

    def flag(self, entry: Entry, flags: int) -> None:
        """Change the flags of a blob's record. For `Entry`."""
        with self.lock:
            if entry._data is not None:
                self._area.store(entry._at + _FLAGS, flags)
                entry._flags = flags

    def _make_room(self, entry: Entry, data: bytes | None, flags: int) -> None:
        """Write all that counts anew, with one blob's record changed."""
        counting = [
            (each, each._data, each._flags)
            for each in self._entries.values()
            if each._data is not None and each is not entry
        ]
        if data is not None:
            counting.append((entry, data, flags))
        total = sum(_room(len(record)) for _, record, _ in counting)
        area = self._area
        if 2 * total > area.capacity:
            try:
                area = _Area(self._more(_pages(max(2 * area.segment.size, 8 * total))))
            except Exception:
                # It has to do as long as it does: what is removed needs no more than there was.
                if total > area.capacity:
                    raise
        begin = area.halves[area is self._area and self._begin == area.halves[0]]
        end, places = begin, []
        for _, record, its_flags in counting:
            places.append(end)
            end = area.append(end, record, its_flags)
        area.commit(begin, end)
        if area is not self._area:
            # The other one is whole: lead there. There is room for that, always.
            link = marshal.dumps((CONTINUED, area.segment.name, area.segment.size))
            self._area.commit(self._begin, self._area.append(self._end, link, 0))
        self._area, self._begin, self._end = area, begin, end
        for (each, _, _), at in zip(counting, places, strict=True):
            each._at = at


class _Area:
    """A segment as a journal writes it. All that is ever stored goes through `write` and `store`.

    Args:
        segment: All zero.
    """

    __slots__ = ("_memory", "_words", "capacity", "halves", "segment")

    def __init__(self, segment: Memory) -> None:
        self.segment = segment
        self._memory = memoryview(segment.memory)
        self._words = self._memory.cast("Q")
        half = (segment.size - _BEGIN) // 16 * 8
        self.halves = _BEGIN, _BEGIN + half
        self.capacity = half - _TAIL
        """Bytes for records in each half."""

    def append(self, at: int, data: bytes, flags: int) -> int:
        """Write a record, which does not count yet; returns where it ends."""
        self.write(at, _RECORD.pack(len(data), crc32(data), flags) + data)
        return at + _room(len(data))

    def commit(self, begin: int, end: int) -> None:
        """These records count from here on, and no others."""
        self.store(_HEAD, begin << 32 | end)

    def write(self, at: int, data: bytes) -> None:
        """Bytes, in any order."""
        self._memory[at : at + len(data)] = data

    def store(self, at: int, word: int) -> None:
        """A word, in one store."""
        self._words[at >> 3] = word


# The reader.


class Replayed(NamedTuple):
    """What a journal says."""

    blobs: dict[str, Known]
    whole: bool
    """Whether it could be read to its end. If not, something has written where it should not, and
    what is known may be of an earlier time: nothing of it is to be relied upon."""


def replay(memory: Any, attach: Callable[[str, int], Any]) -> Replayed:
    """Read the journal of a worker that is dead. Never raises, whatever the memory holds.

    Args:
        memory: Of its first segment.
        attach: Name and size of a further segment -> its memory; None if there is none.
    """
    blobs: dict[str, Known] = {}
    seen: set[str] = set()
    while memory is not None:
        further: tuple[str, int] | None = None
        for record in _records(memory):
            if record is None:
                return Replayed(blobs, False)
            if further is not None:
                return Replayed(blobs, False)
            if record[0] == CONTINUED:
                further = record[1], record[2]
            elif record[2] is None:
                blobs.pop(record[1], None)
            else:
                blobs[record[1]] = record[2]
        if further is None:
            return Replayed(blobs, True)
        if further[0] in seen:
            break
        seen.add(further[0])
        blobs = {}
        memory = attach(*further)
    return Replayed(blobs, False)


def _records(memory: Any) -> Any:
    """The records that count; None for one that makes no sense, which is the last."""
    whole = memoryview(memory)
    (head,) = struct.unpack_from("<Q", whole, _HEAD)
    if head == 0:
        return
    at, end = head >> 32, head & 0xFFFFFFFF
    if not _BEGIN <= at <= end <= len(whole) or at % 8 or end % 8:
        yield None
        return
    while at < end:
        record = None
        if at + _RECORD.size <= end:
            nbytes, checksum, flags = _RECORD.unpack_from(whole, at)
            begin = at + _RECORD.size
            if begin + nbytes <= end:
                data = bytes(whole[begin : begin + nbytes])
                record = _read(data, flags) if crc32(data) == checksum else None
                at += _room(nbytes)
        yield record
        if record is None:
            return


def _read(data: bytes, flags: int) -> tuple[Any, ...] | None:
    try:
        kind, *parts = marshal.loads(data)
        if kind == CONTINUED:
            name, size = parts
            return (kind, name, size) if _are(parts, str, int) else None
        name, *parts = parts
        if type(name) is not str:
            return None
        known: Known | None
        if kind == TENSOR and _are(parts, str, int, int, tuple, (str, bytes)):
            known = TensorAt._make((*parts, flags))
            if min(known.offset, known.size, 0, *known.shape) < 0:
                return None
        elif kind == OBJECT and _are(parts, bytes):
            known = ObjectIn(*parts)
        elif kind == OBJECT_AT and _are(parts, str, int, int, int):
            known = ObjectAt(*parts)
        elif kind == TORN and _are(parts, str, (str, type(None))):
            known = Torn(*parts)
        elif kind == REMOVED and not parts:
            known = None
        else:
            return None
        return kind, name, known
    except (ValueError, TypeError, EOFError, IndexError, OverflowError, MemoryError):
        return None


def _are(parts: Any, *kinds: Any) -> bool:
    return len(parts) == len(kinds) and all(map(isinstance, parts, kinds))
