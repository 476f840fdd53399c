"""A blob's surroundings, the same for both kinds of memory: a pool, and somebody who fetches.

And arrays to store in it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from procession.blobs import snapshot
from procession.blobs.blob import Blob
from procession.blobs.heap import HeapPool
from procession.blobs.segment import Segment
from procession.blobs.shared import COMMON, PAGE, SharedBuffer, SharedPool
from procession.errors import OutOfSharedMemoryError

F4 = np.dtype("f4")
LARGE = (64, 64)


class Heap:
    """Memory of this process."""

    def __init__(self) -> None:
        self.pool = HeapPool()

    def fetch(self, blob: Blob) -> Any:
        """A snapshot of a blob's value, which lives in a buffer."""
        return blob.buffer.snapshot(blob.value.shape, blob.value.dtype)

    def hear(self) -> None:
        """Let the worker know which fetched arrays are garbage."""

    def close(self) -> None:
        """Take everything away."""


@dataclass(frozen=True)
class Lease:
    """What the coordinator knows of an array that it fetched, and the worker of its buffer."""

    segment: str
    buffer: SharedBuffer


class Coordinator:
    """The coordinator's half of shared memory, and its worker's pool, in one process.

    It makes and unlinks the segments, and maps each of them apart from the worker, as across
    processes. That an array has become garbage the worker hears only when it is told.

    Args:
        limit: Most bytes of segments.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.pool = SharedPool(self.request)
        self.limit = limit
        self.segments: dict[str, Segment] = {}
        self.dedicated: set[str] = set()
        self.leases: dict[int, Lease] = {}
        self.ended: list[int] = []
        self.requests: list[tuple[int, int]] = []
        self.granted = 0
        self.returned: list[str] = []
        self.asked: Callable[[], None] = lambda: None
        """Called when what was handed back is gone and nothing new is made yet."""
        self._attached: weakref.WeakSet[Segment] = weakref.WeakSet()

    @property
    def bytes(self) -> int:
        """The size of all segments."""
        return sum(segment.size for segment in self.segments.values())

    def request(
        self, least: int, preferred: int, returned: Sequence[str], world: str = ""
    ) -> Segment:
        """What the worker's pool asks for."""
        assert 0 < least <= preferred
        self.requests.append((least, preferred))
        self.take_back(returned)
        self.asked()
        if self.limit is not None:
            left = self.limit - self.bytes
            if least > left:
                raise OutOfSharedMemoryError("the limit", needed=least, available=left)
            preferred = max(least, min(preferred, left) // PAGE * PAGE)
        segment = Segment.create(preferred)
        self.segments[segment.name] = segment
        if world or least > COMMON // 2:
            self.dedicated.add(segment.name)
        self.granted += 1
        attached = Segment.attach(segment.name, segment.size)
        self._attached.add(attached)
        return attached

    def take_back(self, names: Sequence[str]) -> None:
        """What the worker's pool hands back."""
        for name in names:
            assert name not in {lease.segment for lease in self.leases.values()}, "still fetched"
            self.dedicated.discard(name)
            segment = self.segments.pop(name)
            segment.unlink()
            segment.close()
            self.returned.append(name)

    def fetch(self, blob: Blob) -> Any:
        """A leased array over the coordinator's own mapping."""
        buffer, value = blob.buffer, blob.value
        number = self.pool.lease(buffer)
        self.leases[number] = Lease(buffer.segment.name, buffer)
        memory = self.segments[buffer.segment.name].memory
        array, holder = snapshot.over(memory, buffer.offset, value.shape, value.dtype)
        weakref.finalize(holder, self.ended.append, number).atexit = False
        return array

    def hear(self) -> None:
        """Let the worker know which fetched arrays are garbage."""
        while self.ended:
            number = self.ended.pop()
            del self.leases[number]
            self.pool.end_lease(number)

    def close(self) -> None:
        """Take all segments away, from the worker too, which would have ended by now."""
        for segment in self.segments.values():
            segment.unlink()
            segment.close()
        self.segments.clear()
        for segment in self._attached:
            segment.close()


House = Heap | Coordinator
Build = Callable[[int | None], Coordinator]


def numbers(shape: tuple[int, ...], dtype: Any = F4, start: int = 1) -> Any:
    count = int(np.prod(shape))
    return np.arange(start, start + count).reshape(shape).astype(dtype)


def address(array: Any) -> int:
    return array.__array_interface__["data"][0]


def assert_same(array: Any, other: Any) -> None:
    assert (array.shape, array.dtype) == (other.shape, other.dtype)
    if array.dtype.names:
        # What lies between the fields is anything.
        np.testing.assert_array_equal(array, other)
    else:
        assert array.tobytes() == other.tobytes()
