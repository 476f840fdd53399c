"""NodeMemory: the shared memory that the coordinator owns for one node.

It makes segments when the worker needs them, makes arrays over what the worker leased to us, and
notes when those have become garbage. Nobody else unlinks.

Each lease that the worker names in an answer is handed to exactly one of `view`, `draft` and `end`,
or, if it is of a call, to `note` and a `calls.window`, which calls `end`. The others end it when
the last thing that looks at the memory is garbage. The numbers of ended leases are taken from
`ended` and go along with the next question. When no question has
followed for a while, after a large one has ended or after `tidy_soon`, the janitor calls the method
`tidy` that was given. What the worker hands back in its answers goes to `take_back`.

All this may outlive the worker. What its successor is to take over is kept (`keep_only`), and all
other segments are unlinked. It is told where the `leases` lie that have not ended, and knows them
by the same numbers.

A draft is memory that the coordinator writes into before a blob has it:

    draft = memory.draft(segment, offset, shape, dtype, lease)       of a buffer that was lent
    draft.array                                                      is filled by the user
    if draft.finish():  the blob adopts the buffer by its lease, which goes on
    else:               a copy of draft.array is fed to the blob; see blobs/unfinished.py
    draft.release()                                                  always, and last

A lease that goes on when the process is forked does not end before the copy has (see `forks`).

As long as the user keeps the array, its lease goes on, whatever has become of it: as a snapshot of
the blob that has adopted the buffer, or because the buffer must not be used again while he can
write into it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from math import prod
from typing import Any, NamedTuple, TypeVar
from weakref import WeakMethod, ref

import numpy as np

from procession.blobs import snapshot
from procession.blobs.segment import Segment
from procession.blobs.shared import PAGE
from procession.blobs.snapshot import Array
from procession.blobs.unfinished import Unfinished
from procession.cluster import forks
from procession.cluster.errand import Errand
from procession.cluster.janitor import Chore
from procession.cluster.protocol import Located, NeedSegment
from procession.errors import OutOfSharedMemoryError

Item = TypeVar("Item")
LARGE_LEASE = 1 << 20
"""When a lease of so many bytes ends, the worker is told even if nobody asks it anything."""


class Lease(NamedTuple):
    """A lease that has not ended, and the bytes that somebody may be looking at."""

    number: int
    segment: str
    offset: int
    nbytes: int


class _Holder(ref[Any]):
    """A reference to what stands on leased memory, which knows where that is."""

    __slots__ = ("lease",)

    lease: Lease


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
        self._worlds: dict[str, str] = {}
        """Of which common world the members may look at a segment, of those of which they may."""
        self._ended: deque[int] = deque()
        self._gone: deque[_Holder] = deque()
        """Holders that have become garbage."""
        self._held: dict[int, _Holder | Lease] = {}
        """The leases that have not ended, by number; with their holders, as far as we know them."""
        self._returned: tuple[str, ...] = ()
        """What was taken back last."""
        self._copied: dict[int, list[forks.Copy]] = {}
        """Leases that forked copies of this process have as well, by number."""
        self._waiting: list[int] = []
        """Those of them that have ended here."""
        forks.watch(self)
        self._tidy = None if tidy is None else WeakMethod(tidy)
        self._chore = None if tidy is None else Chore(self._tidy_if_quiet)
        self._questions = 0
        """So many times `ended` was called."""
        self._questions_before = 0
        """The same, when tidying was last thought of."""

    @property
    def size(self) -> int:
        """Bytes in all segments, used or pooled."""
        return sum(segment.size for segment in list(self._segments.values()))

    def grant(self, wanted: NeedSegment) -> Segment:
        """Make a segment for the worker, and unlink those that it hands back.

        Raises:
            OutOfSharedMemoryError: The limit is reached, or the machine has no more.
        """
        # Ctrl-C in the middle of it would leave a segment that nobody knows of.
        return Errand(partial(self._grant, wanted)).run()

    def _grant(self, wanted: NeedSegment) -> Segment:
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
        while True:
            try:
                segment = Segment.create(preferred)
                break
            except OutOfSharedMemoryError as error:
                if preferred == wanted.least:
                    error.node = self._node
                    raise
                preferred = wanted.least
        if wanted.world:
            self._worlds[segment.name] = wanted.world
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
        """Unlink segments that the worker has handed back. Views of them stay good.

        It may be told twice in a row of the same ones.

        Raises:
            KeyError: It never had one of them.
        """
        before, self._returned = self._returned, tuple(names)
        for name in self._returned:
            if name in self._segments or name not in before:
                self._drop(name)

    def view(self, at: Located, dtype: Any = None) -> Array:
        """A snapshot of a leased tensor; the lease ends when its last view is garbage.

        Args:
            at: Where it is. Not an empty tensor.
            dtype: Its dtype, if that in `at` is packed.
        """
        memory = self._segments[at.segment].memory
        dtype = at.dtype if dtype is None else dtype
        array, holder = snapshot.over(memory, at.offset, at.shape, dtype)
        self._watch(holder, at.lease, at.segment, at.offset, array.nbytes)
        return array

    def draft(
        self, segment: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], lease: int
    ) -> Unfinished:
        """An array to be filled, over a leased buffer that no blob has: see the top of this file.

        The lease ends when the last view of it is garbage.
        """
        draft = Unfinished(self._segments[segment].memory, offset, shape, dtype)
        self._watch(draft.holder, lease, segment, offset, prod(shape) * dtype.itemsize)
        return draft

    def note(self, lease: int, segment: str, offset: int, nbytes: int) -> None:
        """Remember where a lease lies that somebody else will `end`."""
        self._held[lease] = Lease(lease, segment, offset, nbytes)

    def _watch(self, holder: Any, lease: int, segment: str, offset: int, nbytes: int) -> None:
        """End the lease when the holder is garbage.

        Not by `weakref.finalize`, which takes longer than all the rest of a fetch. What it is good
        for is not needed: at the interpreter's end nobody is told of leases, and once this object
        is closed there are none. What is called is not Python's, if it can be: a Ctrl-C that comes
        to a finalizer is lost.
        """
        over: Callable[[Any], object] = self._gone.append
        if nbytes >= LARGE_LEASE and self._chore is not None:
            self._chore.start()
            over = self._over_large
        # In this order: one that is there knows its lease, whatever interrupts this.
        held = _Holder(holder, over)
        held.lease = Lease(lease, segment, offset, nbytes)
        self._held[lease] = held

    def _over_large(self, holder: _Holder) -> None:
        self._gone.append(holder)
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
        if lease not in self._copied and not forks.under_way():
            self._held.pop(lease, None)
        chore = self._chore
        if nbytes >= LARGE_LEASE and chore is not None:
            self._questions_before = self._questions
            chore.ask()

    def ended(self) -> tuple[int, ...]:
        """The leases that have ended since the last call, for the worker to know."""
        self._questions += 1
        if self._gone:
            self._ended.extend([holder.lease.number for holder in take_all(self._gone)])
        if not (self._ended or self._waiting) or forks.under_way():
            return ()
        numbers = take_all(self._ended)
        if self._copied:
            numbers = self._nobody_s((*self._waiting, *numbers))
        for number in numbers:
            self._held.pop(number, None)
        return numbers

    def _nobody_s(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Those of the leases, which have ended here, that no copy of this process has either."""
        found, waiting = [], []
        for number in dict.fromkeys(numbers):
            copies = self._copied.get(number)
            if copies and forks.living(copies):
                waiting.append(number)
            else:
                self._copied.pop(number, None)
                found.append(number)
        self._waiting = waiting
        return tuple(found)

    def has_leases(self) -> bool:
        """Whether one goes on; see `forks`."""
        return bool(self._held)

    def copied(self, copy: forks.Copy) -> None:
        """See `forks`."""
        for lease in self.leases(copied=True):
            number = lease.number
            self._copied.setdefault(number, []).append(copy)

    def leases(self, copied: bool = False) -> list[Lease]:
        """The leases that have not ended. Some may end at any moment.

        Args:
            copied: Also those whose end nobody has noted yet, as for a copy of this process.
        """
        while True:
            try:
                held = list(self._held.items())
            except RuntimeError:
                continue  # a finalizer came between
            return [
                each.lease if isinstance(each, _Holder) else each
                for number, each in held
                if copied
                or not isinstance(each, _Holder)
                or each() is not None
                or number in self._copied
            ]

    def sizes(self) -> dict[str, int]:
        """The segments, and how many bytes they have."""
        return {name: segment.size for name, segment in self._segments.items()}

    def worlds(self) -> dict[str, str]:
        """Segment -> the common world of which members may look at it, where they may."""
        return dict(self._worlds)

    def keep_only(self, names: Collection[str]) -> None:
        """Unlink all other segments: the worker that used them is dead. Views stay good."""
        for name in [name for name in self._segments if name not in names]:
            self._drop(name)

    def close(self) -> None:
        """Take all names away. What was fetched stays good; nobody is told when it is garbage."""
        self._chore = None
        self._held.clear()
        self._ended.clear()
        self._gone.clear()
        if self._copied:
            self._copied.clear()
            forks.living(())
        self._waiting.clear()
        for name in list(self._segments):
            self._drop(name)

    def _drop(self, name: str) -> None:
        segment = self._segments[name]
        segment.unlink()
        segment.close()
        self._worlds.pop(name, None)
        # Last: who was interrupted before finds it here again.
        self._segments.pop(name, None)


def take_all(queue: deque[Item]) -> tuple[Item, ...]:
    """Empty a queue to which finalizers may be adding meanwhile."""
    found = []
    while queue:
        found.append(queue.popleft())
    return tuple(found)
