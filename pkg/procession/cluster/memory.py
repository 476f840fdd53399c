"""NodeMemory: the shared memory that the coordinator owns for one node.

It makes segments when the worker needs them, makes read-only views of what the worker leased
to us, and notes when those have become garbage. Nobody else unlinks.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import numpy as np

from procession.blobs import snapshot
from procession.blobs.segment import Segment
from procession.blobs.shared import PAGE
from procession.blobs.snapshot import Array
from procession.cluster.protocol import Located, NeedSegment
from procession.errors import OutOfSharedMemoryError


class NodeMemory:
    """The segments of one node.

    Args:
        node: Its name, for messages.
        limit: Bytes that it may have; None for what the machine has.
    """

    def __init__(self, node: str, limit: int | None) -> None:
        self._node = node
        self._limit = limit
        self._segments: dict[str, Segment] = {}
        self._ended: deque[int] = deque()

    @property
    def size(self) -> int:
        """Bytes in all segments, used or pooled."""
        return sum(segment.size for segment in self._segments.values())

    def grant(self, wanted: NeedSegment) -> Segment:
        """Make a segment for the worker, and unlink those that it hands back.

        Raises:
            OutOfSharedMemoryError: The limit is reached, or the machine has no more.
        """
        for name in wanted.returned:
            self._drop(self._segments.pop(name))
        preferred, left = wanted.preferred, self._left()
        if left is not None:
            if wanted.least > left:
                raise OutOfSharedMemoryError(
                    f"node {self._node!r} has reached its memory limit: {wanted.least:,} bytes "
                    f"needed, {self.size:,} of {self._limit:,} taken. Remove blobs, let go of "
                    f"fetched arrays, or give the session a larger memory_limit.",
                    needed=wanted.least,
                    available=left,
                    limit=self._limit,
                    node=self._node,
                )
            preferred = min(preferred, left)
        preferred = max(wanted.least, preferred // PAGE * PAGE)
        try:
            segment = Segment.create(preferred)
        except OutOfSharedMemoryError:
            if preferred == wanted.least:
                raise
            segment = Segment.create(wanted.least)
        self._segments[segment.name] = segment
        return segment

    def _left(self) -> int | None:
        return None if self._limit is None else self._limit - self.size

    def view(self, at: Located) -> Array:
        """A snapshot of a leased tensor; the lease ends when its last view is garbage."""
        memory = self._segments[at.segment].memory
        array, holder = snapshot.over(memory, at.offset, at.shape, at.dtype)
        weakref.finalize(holder, self.end, at.lease).atexit = False
        return array

    def target(self, segment: str, offset: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """A writable array where the worker reserved memory for it."""
        return np.ndarray(shape, dtype, buffer=self._segments[segment].memory, offset=offset)

    def end(self, lease: int) -> None:
        """Note that a lease has ended. Runs in finalizers: in any thread, at any moment."""
        self._ended.append(lease)

    def ended(self) -> tuple[int, ...]:
        """The leases that have ended since the last call, for the worker to know."""
        return take_all(self._ended)

    def close(self) -> None:
        """Take all names away. What was fetched stays good."""
        while self._segments:
            self._drop(self._segments.popitem()[1])

    @staticmethod
    def _drop(segment: Segment) -> None:
        segment.unlink()
        segment.close()


def take_all(queue: deque[int]) -> tuple[int, ...]:
    """Empty a queue to which finalizers may be adding meanwhile."""
    found = []
    while queue:
        found.append(queue.popleft())
    return tuple(found)
