"""Buffers inside segments, pooled: the worker's side of shared memory.

The coordinator owns the segments; which part of one is which buffer is the worker's business
alone. Memory that has never been touched is dear, so a buffer that is let go of goes to a free
list and is used again for the next value of its size. Small buffers are cut from a common
segment, which is cut anew when none of them is in use; large ones have a segment each.

Segments in which nothing is in use are *idle*. They are handed back in exchange, when a new
segment is needed and more than half of the large ones is idle, or there is no other memory; and as
*surplus*, when more is idle than `KEPT` and than what is in use. A program may let go of much and
want it again at once, over and over. So what was handed back and is wanted again raises what is
kept, until `surplus` is told that nothing has happened for a while.

A buffer that was fetched is *leased*: each fetch counts one up, each message from the
coordinator that a fetched array has become garbage counts one down. A leased buffer is neither
written nor reused. A buffer can be leased before any blob has it: that is a *reserved* one, for
the coordinator to write into. Its lease is the ticket by which a blob claims it. Unclaimed, it goes
back to the free list when the lease ends, as any other does.

Some blobs are exchanged between the members of a common world, who read them where they lie (see
`procession.blobs.exchange`). Their buffers have segments of their own, of which the coordinator
knows for which world they are, and which are never used for anything else (`ExchangePool`).

A pool may go on where that of a dead worker ended (`resume`): with the segments in which something
is still in use, the buffers that blobs had, and the leases that the coordinator still holds, under
their numbers. Nobody else uses anything of these segments, so what lies behind the last buffer is
cut, and the gaps between them are free when nothing of the segment is in use.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from procession.blobs.exchange import EXCHANGED, Use
from procession.blobs.segment import Segment
from procession.blobs.snapshot import Array
from procession.blobs.unfinished import Unfinished
from procession.errors import OutOfSharedMemoryError

PAGE = 4096
MINIMUM = PAGE
"""Tensors of so many bytes and more live in shared memory."""
COMMON = 1 << 20
"""The first common segment's size; each further one is twice as large, up to `COMMON_MOST`."""
COMMON_MOST = 8 << 20
KEPT = 64 << 20
"""So many idle bytes are kept in any case, for what comes next."""


class SegmentRequest(Protocol):
    """Asks the coordinator for a segment."""

    def __call__(
        self, least: int, preferred: int, returned: Sequence[str], world: str = ""
    ) -> Segment:
        """A segment, mapped.

        Args:
            least: So many bytes are needed.
            preferred: So many are wanted.
            returned: Names of segments that are handed back.
            world: Of which common world the members may look at it.
        """


def size_class(nbytes: int) -> int:
    """The buffer size for so many bytes: at most an eighth more, so that sizes meet again."""
    step = max(64, 1 << max(0, (nbytes - 1).bit_length() - 4))
    return -(-nbytes // step) * step


class SharedBuffer:
    """A part of a segment."""

    __slots__ = ("dedicated", "leases", "offset", "owned", "segment", "size", "world")

    def __init__(
        self, segment: Segment, offset: int, size: int, dedicated: bool, world: str = ""
    ) -> None:
        self.segment = segment
        self.offset = offset
        self.size = size
        self.dedicated = dedicated
        self.leases = 0
        self.owned = True
        """Whether a blob holds it (or is about to); not so, and not leased, it is free."""
        self.world = world
        """Of which common world the members may look at it."""

    @property
    def leased(self) -> bool:
        """Whether somebody may still be looking at it."""
        return self.leases > 0

    def array(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A writable array over the beginning of the buffer."""
        return np.ndarray(shape, dtype, buffer=self.segment.memory, offset=self.offset)


class _Common:
    """A segment that small buffers are cut from."""

    __slots__ = ("cut", "live", "segment")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.cut = 0
        """Where the next buffer begins."""
        self.live = 0
        """How many of its buffers are in use."""


def _size(segment: Segment) -> int:
    return segment.size


class SharedPool:
    """Cuts segments into buffers and reuses them. Safe to use from several threads.

    Args:
        request: Asks the coordinator for a segment.
        first_lease: The number of the first lease; those of leases that go on must be lower.
    """

    def __init__(self, request: SegmentRequest, first_lease: int = 1) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._free: dict[tuple[int, str], list[SharedBuffer]] = {}
        """By size and world."""
        self._exchanges: dict[str, ExchangePool] = {}
        self._commons: dict[str, _Common] = {}
        self._common: _Common | None = None
        self._next_common = COMMON
        self._dedicated_total = 0
        self._dedicated_free = 0
        self._total = 0
        """Bytes of all segments."""
        self._idle = 0
        """Bytes of those in which nothing is in use."""
        self._wanted_back = 0
        """Bytes that were handed back as surplus and are missed since; so much is kept."""
        self._most_idle = 0
        """Bytes that were idle when surplus was last handed back."""
        self._numbers = itertools.count(first_lease)
        self._leases: dict[int, SharedBuffer] = {}

    def allocate(self, nbytes: int, world: str = "") -> SharedBuffer:
        """A buffer of at least so many bytes, its content anything.

        Args:
            nbytes: How many.
            world: Of which common world the members may look at it.

        Raises:
            OutOfSharedMemoryError: The machine, or the node's limit, does not have them.
        """
        with self._lock:
            return self._allocate(size_class(nbytes), world)

    def exchange(self, world: str, use: Use) -> ExchangePool:
        """The buffers that members of a common world may look at.

        Args:
            world: What tells it from others.
            use: Of this node's member.
        """
        pool = self._exchanges.get(world)
        if pool is None:
            pool = self._exchanges.setdefault(world, ExchangePool(self, world))
        pool.use = use
        return pool

    def holds(self, buffer: SharedBuffer) -> bool:
        """Whether a buffer is one that nobody else may look at."""
        return not buffer.world

    def _allocate(self, size: int, world: str = "") -> SharedBuffer:
        free = self._free.get((size, world))
        if free:
            buffer = free.pop()
            buffer.owned = True
            if buffer.dedicated:
                self._dedicated_free -= size
                self._idle -= buffer.segment.size
            else:
                self._use(self._commons[buffer.segment.name])
            return buffer
        if world or size > COMMON // 2:
            return self._dedicated(size, world)
        common = self._common
        if common is None or common.cut + size > common.segment.size:
            common = self._common = self._empty_common(size) or self._new_common(size)
        buffer = SharedBuffer(common.segment, common.cut, size, dedicated=False)
        common.cut += size
        self._use(common)
        return buffer

    def _use(self, common: _Common) -> None:
        if common.live == 0:
            self._idle -= common.segment.size
        common.live += 1

    def _empty_common(self, size: int) -> _Common | None:
        """A common segment of which nothing is in use, to be cut anew."""
        for common in self._commons.values():
            if common.live == 0 and common.segment.size >= size:
                self._forget({common.segment.name})
                common.cut = 0
                return common
        return None

    def _new_common(self, size: int) -> _Common:
        common = _Common(self._segment(size, self._next_common))
        self._next_common = min(2 * self._next_common, COMMON_MOST)
        self._commons[common.segment.name] = common
        self._idle += common.segment.size
        return common

    def _dedicated(self, size: int, world: str) -> SharedBuffer:
        whole = -(-size // PAGE) * PAGE
        segment = self._segment(whole, whole, world)
        self._dedicated_total += size
        return SharedBuffer(segment, 0, size, dedicated=True, world=world)

    def _segment(self, least: int, preferred: int, world: str = "") -> Segment:
        """A new segment; in exchange for all idle ones if those are more than half, or needed."""
        self._wanted_back = min(self._wanted_back + preferred, self._most_idle)
        returned = self._hand_back(0) if 2 * self._dedicated_free > self._dedicated_total else []
        try:
            segment = self._request(least, preferred, returned, world)
        except OutOfSharedMemoryError:
            returned = self._hand_back(0)
            if not returned:
                raise
            segment = self._request(least, preferred, returned, world)
        self._total += segment.size
        return segment

    def surplus(self, everything: bool = False, quiet: bool = False) -> list[str]:
        """The segments to be handed back to the coordinator at this moment, unmapped here.

        That is more than nothing only if more is idle than `KEPT`, than what is in use, and than
        what was handed back too early. Then half of that stays. To be called after whatever
        may have let go of memory: it costs next to nothing.

        Args:
            everything: Hand back all that is idle.
            quiet: Nothing has happened for a while, so nothing counts as handed back too early.
        """
        if quiet:
            self._wanted_back = self._most_idle = 0
        kept = 0 if everything else max(KEPT, self._total - self._idle, self._wanted_back)
        if self._idle <= kept:
            return []
        with self._lock:
            if not (everything or quiet):
                self._most_idle = self._idle
            return self._hand_back(kept // 2)

    def _hand_back(self, kept: int) -> list[str]:
        """Let go of idle segments, large ones first, until no more than so many bytes are idle."""
        commons = [common for common in self._commons.values() if common.live == 0]
        idle = [common.segment for common in commons]
        idle += [b.segment for buffers in self._free.values() for b in buffers if b.dedicated]
        idle.sort(key=_size)
        gone: dict[str, Segment] = {}
        while idle and self._idle > kept:
            segment = idle.pop()
            gone[segment.name] = segment
            self._idle -= segment.size
            self._total -= segment.size
            common = self._commons.pop(segment.name, None)
            if common is None:
                self._dedicated_total -= segment.size
                self._dedicated_free -= segment.size
            elif common is self._common:
                self._common = None
        self._forget(gone.keys())
        for segment in gone.values():
            segment.close()
        return list(gone)

    def _forget(self, segments: Collection[str]) -> None:
        """Take the buffers of these segments off the free lists."""
        for kind, buffers in self._free.items():
            self._free[kind] = [b for b in buffers if b.segment.name not in segments]

    def adopt(self, array: Array) -> SharedBuffer | None:
        """Heap memory cannot become shared: the value has to be copied."""
        return None

    def draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """An array to be filled in this process, where nobody counts who looks at shared memory.

        It is an ordinary one, which is copied when it is done.
        """
        return Unfinished(None, 0, shape, dtype)

    def free(self, buffer: SharedBuffer) -> None:
        """Take a buffer back, now or when its last lease ends."""
        with self._lock:
            buffer.owned = False
            self._reclaim(buffer)

    def _reclaim(self, buffer: SharedBuffer) -> None:
        if buffer.owned or buffer.leases:
            return
        self._free.setdefault((buffer.size, buffer.world), []).append(buffer)
        if buffer.dedicated:
            self._dedicated_free += buffer.size
            self._idle += buffer.segment.size
        else:
            common = self._commons[buffer.segment.name]
            common.live -= 1
            if common.live == 0:
                self._idle += common.segment.size

    def lease(self, buffer: SharedBuffer) -> int:
        """Count one more who looks at the buffer; returns the number to end that with."""
        with self._lock:
            return self._lease(buffer)

    def _lease(self, buffer: SharedBuffer) -> int:
        number = next(self._numbers)
        self._leases[number] = buffer
        buffer.leases += 1
        return number

    def leased(self, number: int) -> SharedBuffer:
        """The buffer of a lease that has not ended.

        Raises:
            KeyError: There is no such lease.
        """
        return self._leases[number]

    def reserve(self, nbytes: int) -> tuple[int, SharedBuffer]:
        """A buffer that no blob has yet, for somebody else to write into.

        Returns:
            The number of its lease, which is the ticket to `claim` it with, and the buffer.

        Raises:
            OutOfSharedMemoryError: The machine, or the node's limit, does not have the memory.
        """
        with self._lock:
            buffer = self._allocate(size_class(nbytes))
            buffer.owned = False
            return self._lease(buffer), buffer

    def claim(self, ticket: int) -> SharedBuffer:
        """Take the buffer of a reservation for a blob (see `Blob.take`).

        Its lease goes on, since who wrote into it may still look: the blob's next value goes
        elsewhere until the lease has ended. A blob's own buffer, leased to be written in place, is
        claimed in the same way, whatever has become of the blob meanwhile. That is only for who
        sees to it that nobody reads the blob in between.

        Raises:
            KeyError: There is no such reservation, or not any more.
        """
        with self._lock:
            buffer = self._leases[ticket]
            buffer.owned = True
            return buffer

    def end_lease(self, number: int) -> None:
        """The coordinator's array of that lease is garbage."""
        with self._lock:
            # Somebody who was interrupted may say it twice.
            buffer = self._leases.pop(number, None)
            if buffer is not None:
                buffer.leases -= 1
                self._reclaim(buffer)

    def resume(
        self,
        segments: Iterable[Segment],
        places: Iterable[tuple[str, int, int]],
        leases: Iterable[tuple[int, str, int, int]],
        worlds: Mapping[str, str] | None = None,
    ) -> dict[tuple[str, int], SharedBuffer]:
        """Go on where another pool ended. Only for one that has not been used.

        Args:
            segments: All in which there is something in use, mapped.
            places: (segment, offset, size) of buffers that blobs have.
            leases: (number, segment, offset, bytes that are looked at) of leases that go on, of
                those buffers or of others.
            worlds: Segment -> the common world of which members may look at it, of those of which
                they may.

        Returns:
            (segment, offset) -> buffer, for all places. They are owned.
        """
        mapped = {segment.name: segment for segment in segments}
        worlds = worlds or {}
        buffers: dict[tuple[str, int], SharedBuffer] = {}
        with self._lock:
            for name, offset, size in places:
                buffers[name, offset] = _resumed(mapped[name], offset, size, worlds)
            found = dict(buffers)
            for number, name, offset, nbytes in leases:
                buffer = buffers.get((name, offset))
                if buffer is None:
                    # Which was at least as large as what was asked for.
                    size = size_class(nbytes or 1)
                    buffer = _resumed(mapped[name], offset, size, worlds)
                    buffers[name, offset] = buffer
                    buffer.owned = False
                self._leases[number] = buffer
                buffer.leases += 1
            for buffer in buffers.values():
                if buffer.dedicated:
                    self._dedicated_total += buffer.size
                    self._total += buffer.segment.size
                    continue
                common = self._commons.setdefault(buffer.segment.name, _Common(buffer.segment))
                common.live += 1
                common.cut = max(common.cut, -(-(buffer.offset + buffer.size) // 64) * 64)
            for common in self._commons.values():
                self._total += common.segment.size
                self._next_common = max(
                    self._next_common, min(2 * common.segment.size, COMMON_MOST)
                )
                self._common = max(self._common or common, common, key=_left)
        return found


def _resumed(segment: Segment, offset: int, size: int, worlds: Mapping[str, str]) -> SharedBuffer:
    world = worlds.get(segment.name)
    if world is not None:
        return SharedBuffer(segment, 0, segment.size, dedicated=True, world=world)
    dedicated = offset == 0 and size == segment.size and size > COMMON // 2
    return SharedBuffer(segment, offset, size, dedicated)


def _left(common: _Common) -> int:
    return common.segment.size - common.cut


class ExchangePool:
    """The buffers of a pool that members of one common world may look at.

    Each has a segment of its own. Tensors that are too small to be worth that lie with all others.
    """

    __slots__ = ("_pool", "use", "world")

    def __init__(self, pool: SharedPool, world: str) -> None:
        self._pool = pool
        self.world = world
        self.use = Use()
        """Of the node's member that has exchanged something last."""

    def allocate(self, nbytes: int) -> SharedBuffer:
        """See `SharedPool.allocate`."""
        return self._pool.allocate(nbytes, self.world if nbytes >= EXCHANGED else "")

    def exchange(self, world: str, use: Use) -> ExchangePool:
        """The buffers of another world, unless this one is in use still."""
        if world == self.world:
            self.use = use
        elif self.use.over:
            return self._pool.exchange(world, use)
        return self

    def holds(self, buffer: SharedBuffer) -> bool:
        """Whether members of this world may look at it."""
        return buffer.world == self.world

    def adopt(self, array: Array) -> None:
        """See `SharedPool.adopt`."""

    def draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """See `SharedPool.draft`."""
        return self._pool.draft(shape, dtype)

    def free(self, buffer: SharedBuffer) -> None:
        """See `SharedPool.free`."""
        self._pool.free(buffer)
