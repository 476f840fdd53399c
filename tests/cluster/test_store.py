"""A node's store as a whole, against a plain dict: the worker's pool and blobs, the coordinator's
memory.

Both sides are in this process, apart from each other: they map each segment separately, and know of
each other only what goes through `Store`, which does what a node and its worker do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from procession.blobs import shared
from procession.blobs.blob import Blob
from procession.blobs.segment import Segment
from procession.blobs.shared import COMMON, MINIMUM, SharedBuffer, SharedPool
from procession.blobs.snapshot import of_bytes
from procession.blobs.unfinished import Unfinished
from procession.cluster import calls
from procession.cluster.memory import NodeMemory
from procession.cluster.protocol import Located, NeedSegment
from procession.errors import OutOfSharedMemoryError

BYTE = np.dtype(np.uint8)


class Store:
    """A node, and its worker.

    Args:
        limit: Most bytes of shared memory.
    """

    def __init__(self, limit: int | None) -> None:
        self.memory = NodeMemory("n", limit)
        self.pool = SharedPool(self._request)
        self.blobs: dict[str, Blob] = {}
        self.names: set[str] = set()
        """Of all segments that there have been."""

    def _request(
        self, least: int, preferred: int, returned: Sequence[str], world: str = ""
    ) -> Segment:
        segment = self.memory.grant(NeedSegment(least, preferred, tuple(returned), world))
        self.names.add(segment.name)
        return Segment.attach(segment.name, segment.size)

    def tell(self) -> None:
        """What goes along with each question."""
        for lease in self.memory.ended():
            self.pool.end_lease(lease)

    def tidy(self, everything: bool = False, quiet: bool = False) -> None:
        self.tell()
        self.memory.take_back(self.pool.surplus(everything, quiet))

    def blob(self, name: str) -> Blob:
        return self.blobs.get(name) or Blob(self.pool)

    def feed(self, name: str, value: Any) -> None:
        self.tell()
        blob = self.blob(name)
        if value.nbytes < MINIMUM:
            blob.store(of_bytes(value.tobytes(), value.shape, value.dtype))
        else:
            target = blob.target(value.shape, value.dtype)
            buffer = blob.target_buffer(target)
            name_, offset = buffer.segment.name, buffer.offset
            np.copyto(self.memory.target(name_, offset, value.shape, value.dtype), value)
            blob.store(target)
        self.blobs[name] = blob

    def feed_in_place(self, name: str, value: Any) -> None:
        """By a ticket for the blob's own buffer, with other questions in between."""
        self.tell()
        buffer = self.blobs[name].buffer
        ticket = self.pool.lease(buffer)
        there = self.memory.target(buffer.segment.name, buffer.offset, value.shape, value.dtype)
        there[:] = value
        self.tidy()
        blob = self.blob(name)
        blob.take(self.pool.claim(ticket), value.shape, value.dtype)
        self.pool.end_lease(ticket)
        self.blobs[name] = blob

    def fetch(self, name: str) -> Any:
        self.tell()
        blob = self.blobs[name]
        value, buffer = blob.value, blob.buffer
        if buffer is None:
            return of_bytes(value.tobytes(), value.shape, value.dtype)
        lease = self.pool.lease(buffer)
        at = Located(buffer.segment.name, buffer.offset, value.shape, value.dtype, lease)
        return self.memory.view(at)

    def draft(self, size: int) -> tuple[Unfinished, int]:
        self.tell()
        if size < MINIMUM:
            return Unfinished(None, 0, (size,), BYTE), 0
        lease, buffer = self.pool.reserve(size)
        place = buffer.segment.name, buffer.offset
        return self.memory.draft(*place, (size,), BYTE, lease), lease

    def finish(self, name: str, draft: Unfinished, lease: int) -> bool:
        """Whether the buffer itself became the value."""
        whole = draft.finish()
        try:
            if whole:
                self.tell()
                blob = self.blob(name)
                blob.take(self.pool.claim(lease), draft.array.shape, draft.array.dtype)
                self.blobs[name] = blob
            else:
                self.feed(name, draft.array)
        finally:
            draft.release()
        return whole

    def result(self, size: int, stamp: int) -> Any:
        """What a function returned: the worker writes, the coordinator owns."""
        self.tell()
        lease, buffer = self.pool.reserve(size)
        self.pool.leased(lease).array((size,), BYTE)[:] = stamp
        place = buffer.segment.name, buffer.offset, size
        self.memory.note(lease, *place)
        whole = self.memory.whole(buffer.segment.name)
        end = partial(self.memory.end, lease, size)
        return np.frombuffer(calls.window(whole, buffer.offset, size, end), BYTE)

    def remove(self, name: str) -> None:
        self.tell()
        self.blobs.pop(name).close()
        self.memory.take_back(self.pool.surplus())

    def in_use(self) -> list[SharedBuffer]:
        """What a blob has, is being filled, or is being looked at."""
        buffers = [blob.buffer for blob in self.blobs.values() if blob.buffer is not None]
        return list(
            {id(buffer): buffer for buffer in [*buffers, *self.pool._leases.values()]}.values()
        )


NAMES = ["a", "b", "c", "d"]
SIZES = [
    1,
    100,
    MINIMUM - 1,
    MINIMUM,
    MINIMUM + 1,
    3 * MINIMUM,
    COMMON // 2,
    COMMON // 2 + 1,
    COMMON,
]

names = st.sampled_from(NAMES)
sizes = st.sampled_from(SIZES)
picks = st.integers(0, 1 << 16)


class StoreAgainstADict(RuleBasedStateMachine):
    """An array is full of one number, which tells the values apart: 1 to 249.

    What its user writes into an array of his own, or into a draft that he did not let go of, is
    from 250 on: no blob and no snapshot may ever show that.
    """

    stamps: ClassVar[int] = 249

    @initialize(limit=st.sampled_from([None, 2 << 20, 5 << 20, 9 << 20]))
    def begin(self, limit: int | None) -> None:
        self.store = Store(limit)
        self.model: dict[str, tuple[int, int]] = {}
        self.views: list[tuple[Any, int]] = []
        self.drafts: list[tuple[Unfinished, int, int]] = []
        self.scribbles: list[Any] = []
        self.owned: list[tuple[Any, int]] = []
        self.stamp = 0

    def fresh(self, size: int) -> Any:
        self.stamp = self.stamp % self.stamps + 1
        return np.full(size, self.stamp, np.uint8)

    def pick(self, things: list[Any], pick: int) -> int:
        return pick % len(things)

    # Values.

    @rule(name=names, size=sizes)
    def feed(self, name: str, size: int) -> None:
        value = self.fresh(size)
        try:
            self.store.feed(name, value)
        except OutOfSharedMemoryError:
            return
        self.model[name] = size, self.stamp

    @precondition(lambda self: self.model)
    @rule(pick=picks)
    def feed_in_place(self, pick: int) -> None:
        name = sorted(self.model)[self.pick(list(self.model), pick)]
        blob = self.store.blobs[name]
        self.store.tell()
        if blob.buffer is None or blob.buffer.leased:
            return
        self.store.feed_in_place(name, self.fresh(self.model[name][0]))
        self.model[name] = self.model[name][0], self.stamp

    @precondition(lambda self: self.model)
    @rule(pick=picks, size=st.none() | sizes, given_away=st.booleans())
    def run(self, pick: int, size: int | None, given_away: bool) -> None:
        """An operator writes in place, or a value of another size."""
        name = sorted(self.model)[self.pick(list(self.model), pick)]
        size = self.model[name][0] if size is None else size
        self.store.tell()
        blob = self.store.blobs[name]
        try:
            if given_away:
                blob.store(self.fresh(size), given=True)
            else:
                target = blob.target((size,), BYTE)
                target[:] = self.fresh(size)
                blob.store(target)
        except OutOfSharedMemoryError:
            return
        self.model[name] = size, self.stamp

    @precondition(lambda self: self.model)
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        name = sorted(self.model)[self.pick(list(self.model), pick)]
        self.store.remove(name)
        del self.model[name]

    # Looking.

    @precondition(lambda self: self.model)
    @rule(pick=picks)
    def fetch(self, pick: int) -> None:
        name = sorted(self.model)[self.pick(list(self.model), pick)]
        size, stamp = self.model[name]
        view = self.store.fetch(name)
        assert view.shape == (size,)
        self.views.append((view, stamp))

    @precondition(lambda self: self.views)
    @rule(pick=picks)
    def keep_a_part(self, pick: int) -> None:
        place = self.pick(self.views, pick)
        view, stamp = self.views[place]
        self.views[place] = view[view.size // 3 : view.size // 2 + 1], stamp

    @rule(pick=picks, which=st.sampled_from(["views", "owned", "scribbles"]))
    def drop(self, pick: int, which: str) -> None:
        things = getattr(self, which)
        if things:
            del things[self.pick(things, pick)]

    # Drafts.

    @rule(size=sizes)
    def reserve(self, size: int) -> None:
        try:
            draft, lease = self.store.draft(size)
        except OutOfSharedMemoryError:
            return
        draft.array[...] = self.fresh(size)
        self.drafts.append((draft, lease, self.stamp))

    @precondition(lambda self: self.drafts)
    @rule(name=names, pick=picks, how=st.sampled_from(["nothing", "part", "memory", "itself"]))
    def commit(self, name: str, pick: int, how: str) -> None:
        """With or without keeping something that writes."""
        draft, lease, stamp = self.drafts.pop(self.pick(self.drafts, pick))
        array = draft.array
        kept: list[Any] = []
        if how == "part":
            kept.append(array[array.size // 2 :])
        elif how == "memory":
            kept.append(memoryview(array))
        elif how == "itself":
            kept.append(array)
        self.scribbles += kept
        try:
            whole = self.store.finish(name, draft, lease)
        except OutOfSharedMemoryError:
            return
        assert whole == (lease != 0 and not kept)
        self.model[name] = array.size, stamp
        if whole:
            self.views.append((array, stamp))

    @precondition(lambda self: self.drafts)
    @rule(pick=picks)
    def abandon(self, pick: int) -> None:
        draft, _, _ = self.drafts.pop(self.pick(self.drafts, pick))
        self.scribbles.append(draft.array)
        draft.release()

    @precondition(lambda self: self.scribbles)
    @rule()
    def scribble(self) -> None:
        for array in self.scribbles:
            writable = np.asarray(array)
            if writable.flags.writeable:
                writable[...] = 250

    # Results of functions.

    @rule(size=st.sampled_from([size for size in SIZES if size >= MINIMUM]))
    def call(self, size: int) -> None:
        self.fresh(1)
        try:
            array = self.store.result(size, self.stamp)
        except OutOfSharedMemoryError:
            return
        self.owned.append((array, self.stamp))

    @precondition(lambda self: self.owned)
    @rule(pick=picks)
    def write_a_result(self, pick: int) -> None:
        place = self.pick(self.owned, pick)
        array, _ = self.owned[place]
        array[...] = 251
        self.owned[place] = array, 251

    # Memory.

    @rule(everything=st.booleans(), quiet=st.booleans())
    def tidy(self, everything: bool, quiet: bool) -> None:
        self.store.tidy(everything, quiet)

    # What always holds.

    @invariant()
    def blobs_are_what_the_dict_says(self) -> None:
        assert self.store.blobs.keys() == self.model.keys()
        for name, (size, stamp) in self.model.items():
            value = self.store.blobs[name].value
            assert value.shape == (size,)
            assert not value.flags.writeable
            assert (value == stamp).all()

    @invariant()
    def snapshots_never_change(self) -> None:
        for view, stamp in self.views:
            assert not view.flags.writeable
            assert (view == stamp).all()

    @invariant()
    def drafts_are_what_was_filled_in(self) -> None:
        for draft, _, stamp in self.drafts:
            assert (draft.array == stamp).all()

    @invariant()
    def results_are_their_owner_s(self) -> None:
        for array, stamp in self.owned:
            assert (array == stamp).all()

    @invariant()
    def no_buffer_serves_two(self) -> None:
        held = [b.buffer for b in self.store.blobs.values() if b.buffer is not None]
        assert len({id(buffer) for buffer in held}) == len(held)
        places = sorted((b.segment.name, b.offset, b.size) for b in self.store.in_use())
        for (segment, offset, size), (other, begin, _) in pairwise(places):
            assert segment != other or offset + size <= begin

    @invariant()
    def sizes_are_right(self) -> None:
        store, pool = self.store, self.store.pool
        assert store.memory.size == pool._total
        there = store.memory._segments
        busy = {buffer.segment.name for buffer in store.in_use()}
        assert busy <= there.keys()
        idle = sum(segment.size for name, segment in there.items() if name not in busy)
        assert pool._idle == idle
        limit = store.memory._limit
        assert limit is None or store.memory.size <= limit

    def teardown(self) -> None:
        # There is no store when drawing the first step failed.
        if not hasattr(self, "store"):
            return
        try:
            self.views.clear()
            self.owned.clear()
            self.scribbles.clear()
            while self.drafts:
                self.drafts.pop()[0].release()
            for name in list(self.model):
                self.store.remove(name)
            self.store.tidy(everything=True)
            assert self.store.pool._leases == {}
            assert self.store.memory._held == {}
            assert self.store.memory.size == self.store.pool._total == 0
            assert not self.store.names & set(os.listdir("/dev/shm"))
        finally:
            self.store.memory.close()


class TestStore(StoreAgainstADict.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(
        max_examples=200,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    @pytest.fixture(autouse=True)
    def little_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared, "KEPT", COMMON)
