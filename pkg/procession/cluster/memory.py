"""NodeMemory: the shared memory that the coordinator owns for one node.

It makes segments when the worker needs them, makes arrays over what the worker leased to us, and
notes when those have become garbage. Nobody else unlinks.

Each lease that the worker names in an answer is handed to exactly one of `view`, `own`, `draft` and
`end`, or, if it is of a call, to a `calls.window`, which calls `end`. The others end it when the
last thing that looks at the memory is garbage. The numbers of ended leases are taken from `ended`
and go along with the next question. When no question has
followed for a while, after a large one has ended or after `tidy_soon`, the janitor calls the method
`tidy` that was given. What the worker hands back in its answers goes to `take_back`.

A draft is memory that the coordinator writes into before a blob has it:

    draft = memory.draft(segment, offset, shape, dtype, lease)       of a buffer that was lent
    draft.array                                                      is filled by the user
    if draft.finish():  the blob adopts the buffer by its lease, which goes on
    else:               a copy of draft.array is fed to the blob; see blobs/unfinished.py
    draft.release()                                                  always, and last

As long as the user keeps the array, its lease goes on, whatever has become of it: as a snapshot of
the blob that has adopted the buffer, or because the buffer must not be used again while he can
write into it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from typing import Any
from weakref import WeakMethod, ref

import numpy as np

from procession.blobs import snapshot
from procession.blobs.segment import Segment
from procession.blobs.shared import PAGE
from procession.blobs.snapshot import Array
from procession.blobs.unfinished import Unfinished
from procession.cluster.janitor import Chore
from procession.cluster.protocol import Located, NeedSegment
from procession.errors import OutOfSharedMemoryError

LARGE_LEASE = 1 << 20
"""When a lease of so many bytes ends, the worker is told even if nobody asks it anything."""


class NodeMemory:
    """The segments of one node.

    Args:
        node: Its name, for messages.
        limit: Bytes that it may have; None for what the machine has.
        tidy: A bound method, held weakly, that tells the worker what `ended`, and takes back what
            it hands back: called by a thread of its own, when it is quiet. It must not wait for a
            question that is under way but return False, to be called again.
    """

    def __init__(
        self, node: str, limit: int | None, tidy: Callable[[], bool] | None = None
    ) -> None:
        self._node = node
        self._limit = limit
        self._segments: dict[str, Segment] = {}
        self._ended: deque[int] = deque()
        self._held: dict[int, ref[Any]] = {}
        """Lease -> the holder of what was made of it."""
        self._tidy = None if tidy is None else WeakMethod(tidy)
        self._chore = None if tidy is None else Chore(self._tidy_if_quiet)
        self._questions = 0
        """So many times `ended` was called."""
        self._questions_before = 0
        """The same, when tidying was last thought of."""

    @property
    def size(self) -> int:
        """Bytes in all segments, used or pooled."""
        return sum(segment.size for segment in self._segments.values())

    def grant(self, wanted: NeedSegment) -> Segment:
        """Make a segment for the worker, and unlink those that it hands back.

        Raises:
            OutOfSharedMemoryError: The limit is reached, or the machine has no more.
        """
        self.take_back(wanted.returned)
        preferred, left = wanted.preferred, self._left()
        if left is not None:
            if wanted.least > left:
                raise OutOfSharedMemoryError(
                    self._refusal(wanted.least),
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

    def _refusal(self, needed: int) -> str:
        assert self._limit is not None
        if needed > self._limit:
            return (
                f"a blob of {needed:,} bytes is larger than all the memory that node "
                f"{self._node!r} may have: its memory_limit is {self._limit:,} bytes, of which "
                f"{self.size:,} are taken. Give the session a larger memory_limit."
            )
        return (
            f"node {self._node!r} has reached its memory limit: {needed:,} bytes needed for a "
            f"blob, {self.size:,} of {self._limit:,} taken. Remove blobs, let go of fetched "
            f"arrays, or give the session a larger memory_limit."
        )

    def take_back(self, names: Iterable[str]) -> None:
        """Unlink segments that the worker has handed back. Views of them stay good."""
        for name in names:
            self._drop(self._segments.pop(name))

    def view(self, at: Located, dtype: Any = None) -> Array:
        """A snapshot of a leased tensor; the lease ends when its last view is garbage.

        Args:
            at: Where it is. Not an empty tensor.
            dtype: Its dtype, if that in `at` is packed.
        """
        memory = self._segments[at.segment].memory
        dtype = at.dtype if dtype is None else dtype
        array, holder = snapshot.over(memory, at.offset, at.shape, dtype)
        self._watch(holder, at.lease, array.nbytes)
        return array

    def own(
        self, segment: str, offset: int, shape: tuple[int, ...], dtype: Any, lease: int
    ) -> Array:
        """A writable array over a leased buffer that no blob has, for a caller to keep.

        The lease ends when the last view of it is garbage.
        """
        memory = self._segments[segment].memory
        array, holder = snapshot.owned_over(memory, offset, shape, dtype)
        self._watch(holder, lease, array.nbytes)
        return array

    def draft(
        self, segment: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], lease: int
    ) -> Unfinished:
        """An array to be filled, over a leased buffer that no blob has: see the top of this file.

        The lease ends when the last view of it is garbage.
        """
        draft = Unfinished(self._segments[segment].memory, offset, shape, dtype)
        self._watch(draft.holder, lease, prod(shape) * dtype.itemsize)
        return draft

    def _watch(self, holder: Any, lease: int, nbytes: int) -> None:
        """End the lease when the holder is garbage.

        Not by `weakref.finalize`, which takes longer than all the rest of a fetch. What it is good
        for is not needed: at the interpreter's end nobody is told of leases, and once this object
        is closed there are none.
        """
        over = self._over
        if nbytes >= LARGE_LEASE and self._chore is not None:
            self._chore.start()
            over = self._over_large
        self._held[lease] = ref(holder, partial(over, lease))

    def _over(self, lease: int, _: object) -> None:
        self._ended.append(lease)
        self._held.pop(lease, None)

    def _over_large(self, lease: int, _: object) -> None:
        self._ended.append(lease)
        self._held.pop(lease, None)
        if self._chore is not None:
            self._questions_before = self._questions
            self._chore.ask()

    def tidy_soon(self) -> None:
        """Have `tidy` called when it is quiet, as after a large blob was removed."""
        if self._chore is not None and self._segments:
            self._questions_before = self._questions
            self._chore.start()
            self._chore.ask()

    def _tidy_if_quiet(self) -> bool:
        if self._questions != self._questions_before:
            self._questions_before = self._questions
            return False
        tidy = None if self._tidy is None else self._tidy()
        return tidy is None or tidy()

    def whole(self, segment: str) -> Any:
        """The memory of a segment, all of it."""
        return self._segments[segment].memory

    def writable(self, segment: str, offset: int, nbytes: int) -> Array:
        """The bytes of a buffer that the worker reserved, to be written by us and nobody else."""
        return np.ndarray((nbytes,), np.uint8, self._segments[segment].memory, offset)

    def target(self, segment: str, offset: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """A writable array where the worker reserved memory for it."""
        return np.ndarray(shape, dtype, buffer=self._segments[segment].memory, offset=offset)

    def end(self, lease: int, nbytes: int = 0) -> None:
        """Note that a lease has ended. Runs in finalizers: in any thread, at any moment.

        Args:
            lease: Which one.
            nbytes: Of a large buffer the worker is told even if nobody asks it anything: by the
                thread that `tidy_soon` has started.
        """
        self._ended.append(lease)
        chore = self._chore
        if nbytes >= LARGE_LEASE and chore is not None:
            self._questions_before = self._questions
            chore.ask()

    def ended(self) -> tuple[int, ...]:
        """The leases that have ended since the last call, for the worker to know."""
        self._questions += 1
        return take_all(self._ended) if self._ended else ()

    def close(self) -> None:
        """Take all names away. What was fetched stays good; nobody is told when it is garbage."""
        self._chore = None
        self._held.clear()
        self._ended.clear()
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
