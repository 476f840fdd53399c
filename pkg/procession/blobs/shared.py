"""Buffers inside segments, pooled: the worker's side of shared memory.

The coordinator owns the segments; which part of one is which buffer is the worker's business
alone. Memory that has never been touched is dear, so a buffer that is let go of goes to a free
list and is used again for the next value of its size. Small buffers are cut from a common
segment, large ones have a segment each, and when more than half of those lies idle, or memory
runs out, the idle ones are handed back.

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
from procession.errors import SharedMemoryError

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


class SharedPool:
    """Cuts segments into buffers and reuses them. Safe to use from several threads."""

    def __init__(self, request: SegmentRequest) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._free: dict[int, list[SharedBuffer]] = {}
        self._common: Segment | None = None
        self._cut = 0
        self._next_common = COMMON
        self._dedicated_total = 0
        self._dedicated_free = 0
        self._numbers = itertools.count(1)
        self._leases: dict[int, SharedBuffer] = {}

    def allocate(self, nbytes: int) -> SharedBuffer:
        """A buffer of at least so many bytes, its content anything.

        Raises:
            SharedMemoryError: The machine, or the node's limit, does not have them.
        """
        size = size_class(nbytes)
        with self._lock:
            free = self._free.get(size)
            if free:
                buffer = free.pop()
                buffer.owned = True
                self._dedicated_free -= size if buffer.dedicated else 0
                return buffer
            if size > COMMON // 2:
                return self._dedicated(size)
            if self._common is None or self._cut + size > self._common.size:
                self._common = self._segment(size, self._next_common)
                self._next_common = min(2 * self._next_common, COMMON_MOST)
                self._cut = 0
            buffer = SharedBuffer(self._common, self._cut, size, dedicated=False)
            self._cut += size
            return buffer

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
        except SharedMemoryError:
            returned = self._idle()
            if not returned:
                raise
            return self._request(least, preferred, returned)

    def _idle(self) -> list[str]:
        """Let go of all idle segments; their names."""
        names = []
        for size, buffers in self._free.items():
            for buffer in buffers:
                if buffer.dedicated:
                    names.append(buffer.segment.name)
                    buffer.segment.close()
                    self._dedicated_total -= size
            self._free[size] = [buffer for buffer in buffers if not buffer.dedicated]
        self._dedicated_free = 0
        return names

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
            self._dedicated_free += buffer.size if buffer.dedicated else 0

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
