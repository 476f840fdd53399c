"""Buffers inside segments, pooled: the worker's side of shared memory.

The coordinator owns the segments; which part of one is which buffer is the worker's business
alone. Memory that has never been touched is dear, so a buffer that is let go of goes to a free
list and is used again for the next value of its size. Small buffers are cut from a common
segment, which is cut anew when none of them is in use; large ones have a segment each. When
more than half of those lies idle, or memory runs out, all idle segments are handed back.

A buffer that was fetched is *leased*: each fetch counts one up, each message from the
coordinator that a fetched array has become garbage counts one down. A leased buffer is neither
written nor reused.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from procession.blobs.segment import Segment
from procession.blobs.snapshot import Array
from procession.errors import OutOfSharedMemoryError

PAGE = 4096
MINIMUM = PAGE
"""Tensors of so many bytes and more live in shared memory."""
COMMON = 1 << 20
"""The first common segment's size; each further one is twice as large, up to `COMMON_MOST`."""
COMMON_MOST = 8 << 20

SegmentRequest = Callable[[int, int, Sequence[str]], Segment]
"""(least bytes, preferred bytes, names of segments handed back) -> a segment, mapped."""


def size_class(nbytes: int) -> int:
    """The buffer size for so many bytes: at most an eighth more, so that sizes meet again."""
    step = max(64, 1 << max(0, (nbytes - 1).bit_length() - 4))
    return -(-nbytes // step) * step


class SharedBuffer:
    """A part of a segment."""

    __slots__ = ("dedicated", "leases", "offset", "owned", "segment", "size")

    def __init__(self, segment: Segment, offset: int, size: int, dedicated: bool) -> None:
        self.segment = segment
        self.offset = offset
        self.size = size
        self.dedicated = dedicated
        self.leases = 0
        self.owned = True
        """Whether a blob holds it (or is about to); not so, and not leased, it is free."""

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


class SharedPool:
    """Cuts segments into buffers and reuses them. Safe to use from several threads."""

    def __init__(self, request: SegmentRequest) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._free: dict[int, list[SharedBuffer]] = {}
        self._commons: dict[str, _Common] = {}
        self._common: _Common | None = None
        self._next_common = COMMON
        self._dedicated_total = 0
        self._dedicated_free = 0
        self._numbers = itertools.count(1)
        self._leases: dict[int, SharedBuffer] = {}

    def allocate(self, nbytes: int) -> SharedBuffer:
        """A buffer of at least so many bytes, its content anything.

        Raises:
            OutOfSharedMemoryError: The machine, or the node's limit, does not have them.
        """
        size = size_class(nbytes)
        with self._lock:
            free = self._free.get(size)
            if free:
                buffer = free.pop()
                buffer.owned = True
                if buffer.dedicated:
                    self._dedicated_free -= size
                else:
                    self._commons[buffer.segment.name].live += 1
                return buffer
            if size > COMMON // 2:
                return self._dedicated(size)
            common = self._common
            if common is None or common.cut + size > common.segment.size:
                common = self._common = self._empty_common(size) or self._new_common(size)
            buffer = SharedBuffer(common.segment, common.cut, size, dedicated=False)
            common.cut += size
            common.live += 1
            return buffer

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
        return common

    def _dedicated(self, size: int) -> SharedBuffer:
        whole = -(-size // PAGE) * PAGE
        segment = self._segment(whole, whole)
        self._dedicated_total += size
        return SharedBuffer(segment, 0, size, dedicated=True)

    def _segment(self, least: int, preferred: int) -> Segment:
        """A new segment; in exchange for all idle ones if those are more than half, or needed."""
        returned = self._idle() if 2 * self._dedicated_free > self._dedicated_total else []
        try:
            return self._request(least, preferred, returned)
        except OutOfSharedMemoryError:
            returned = self._idle()
            if not returned:
                raise
            return self._request(least, preferred, returned)

    def _idle(self) -> list[str]:
        """Let go of all segments of which nothing is in use; their names."""
        idle = {
            buffer.segment.name: buffer.segment
            for buffers in self._free.values()
            for buffer in buffers
            if buffer.dedicated
        }
        self._dedicated_total -= self._dedicated_free
        self._dedicated_free = 0
        for common in [common for common in self._commons.values() if common.live == 0]:
            idle[common.segment.name] = common.segment
            del self._commons[common.segment.name]
            if common is self._common:
                self._common = None
        self._forget(set(idle))
        for segment in idle.values():
            segment.close()
        return list(idle)

    def _forget(self, segments: set[str]) -> None:
        """Take the buffers of these segments off the free lists."""
        for size, buffers in self._free.items():
            self._free[size] = [b for b in buffers if b.segment.name not in segments]

    def adopt(self, array: Array) -> SharedBuffer | None:
        """Heap memory cannot become shared: the value has to be copied."""
        return None

    def free(self, buffer: SharedBuffer) -> None:
        """Take a buffer back, now or when its last lease ends."""
        with self._lock:
            buffer.owned = False
            self._reclaim(buffer)

    def _reclaim(self, buffer: SharedBuffer) -> None:
        if not buffer.owned and not buffer.leases:
            self._free.setdefault(buffer.size, []).append(buffer)
            if buffer.dedicated:
                self._dedicated_free += buffer.size
            else:
                self._commons[buffer.segment.name].live -= 1

    def lease(self, buffer: SharedBuffer) -> int:
        """Count one more who looks at the buffer; returns the number to end that with."""
        with self._lock:
            number = next(self._numbers)
            self._leases[number] = buffer
            buffer.leases += 1
            return number

    def end_lease(self, number: int) -> None:
        """The coordinator's array of that lease is garbage."""
        with self._lock:
            buffer = self._leases.pop(number)
            buffer.leases -= 1
            self._reclaim(buffer)
