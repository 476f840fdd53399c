from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from tests.blobs.houses import Build, Coordinator
from tests.blobs.machine import SETTINGS, Values

from procession.blobs.blob import Blob
from procession.blobs.segment import Segment
from procession.blobs.shared import (
    COMMON,
    COMMON_MOST,
    MINIMUM,
    PAGE,
    SharedBuffer,
    SharedPool,
    size_class,
)
from procession.errors import OutOfSharedMemoryError

LARGE = COMMON
"""A size that gets a segment of its own, and so do its small multiples, without waste."""


def place(buffer: SharedBuffer) -> tuple[str, int]:
    return buffer.segment.name, buffer.offset


def overlap(one: SharedBuffer, other: SharedBuffer) -> bool:
    return (
        one.segment.name == other.segment.name
        and one.offset < other.offset + other.size
        and other.offset < one.offset + one.size
    )


# Sizes.

lengths = st.integers(1, 1 << 44)


@given(lengths)
@example(MINIMUM)
@example(MINIMUM + 1)
@example(COMMON // 2)
@example(COMMON // 2 + 1)
def test_a_size_class_wastes_at_most_an_eighth(nbytes: int) -> None:
    size = size_class(nbytes)
    assert size >= nbytes
    assert size % 64 == 0
    assert size - nbytes < max(64, nbytes / 8)
    assert size_class(size) == size


@given(lengths, lengths)
def test_size_classes_grow_with_the_size(one: int, other: int) -> None:
    least, most = sorted((one, other))
    assert size_class(least) <= size_class(most)


def test_there_are_few_size_classes() -> None:
    between = {size_class(nbytes) for nbytes in range(MINIMUM + 1, 2 * MINIMUM + 1)}
    assert len(between) == 8


def test_large_sizes_are_whole_pages() -> None:
    for nbytes in range(COMMON // 2 + 1, 4 * COMMON, 777):
        assert size_class(nbytes) % PAGE == 0


# Cutting.


def test_small_buffers_share_a_segment(coordinator: Coordinator, pool: SharedPool) -> None:
    buffers = [pool.allocate(nbytes) for nbytes in (MINIMUM, 5000, 4097, 70_000, MINIMUM)]
    assert coordinator.requests == [(MINIMUM, COMMON)]
    assert len({buffer.segment.name for buffer in buffers}) == 1
    for number, buffer in enumerate(buffers):
        assert buffer.offset % 64 == 0
        assert not buffer.dedicated
        assert not any(overlap(buffer, other) for other in buffers[number + 1 :])


def test_large_buffers_have_a_segment_each(coordinator: Coordinator, pool: SharedPool) -> None:
    one, other = pool.allocate(LARGE), pool.allocate(5 * LARGE)
    assert one.segment.name != other.segment.name
    assert (one.offset, other.offset) == (0, 0)
    assert one.dedicated
    assert coordinator.requests == [(LARGE, LARGE), (5 * LARGE, 5 * LARGE)]


def test_common_segments_grow_to_a_most(coordinator: Coordinator, pool: SharedPool) -> None:
    offsets: dict[str, list[int]] = {}
    while len(coordinator.requests) < 7:
        buffer = pool.allocate(COMMON // 2)
        offsets.setdefault(buffer.segment.name, []).append(buffer.offset)
    for found in offsets.values():
        assert found == [number * (COMMON // 2) for number in range(len(found))]
    assert [len(found) for found in offsets.values()] == [2, 4, 8, 16, 16, 16, 1]
    sizes = [preferred for _, preferred in coordinator.requests]
    assert sizes == [COMMON, 2 * COMMON, 4 * COMMON, *[COMMON_MOST] * 4]


def test_a_smaller_common_segment_than_wanted_is_used_as_it_is(build: Build) -> None:
    house = build(5 * MINIMUM)
    buffers = [house.pool.allocate(MINIMUM) for _ in range(5)]
    assert house.bytes == 5 * MINIMUM
    assert [buffer.offset for buffer in buffers] == [n * MINIMUM for n in range(5)]
    with pytest.raises(OutOfSharedMemoryError):
        house.pool.allocate(MINIMUM)


def test_a_refused_common_segment_does_not_cost_the_present_one(build: Build) -> None:
    house = build(COMMON)
    house.pool.allocate(COMMON // 2)
    house.pool.allocate(COMMON // 4)
    with pytest.raises(OutOfSharedMemoryError):
        house.pool.allocate(COMMON // 2)
    assert house.pool.allocate(COMMON // 4).offset == 3 * COMMON // 4


def test_an_array_lies_where_the_buffer_does(coordinator: Coordinator, pool: SharedPool) -> None:
    pool.allocate(MINIMUM)
    buffer = pool.allocate(8192)
    array = buffer.array((32, 64), "f4")
    array[...] = np.arange(2048).reshape(32, 64)
    memory = coordinator.segments[buffer.segment.name].memory
    seen = np.ndarray((2048,), "f4", buffer=memory, offset=buffer.offset)
    np.testing.assert_array_equal(seen, np.arange(2048))
    assert array.ctypes.data % 64 == 0


def test_heap_memory_is_not_adopted(pool: SharedPool) -> None:
    assert pool.adopt(np.zeros(MINIMUM, np.uint8)) is None


# Using again.


@pytest.mark.parametrize("nbytes", [MINIMUM, 70_000, LARGE, 3 << 20])
def test_a_freed_buffer_is_used_again(
    coordinator: Coordinator, pool: SharedPool, nbytes: int
) -> None:
    buffer = pool.allocate(nbytes)
    assert buffer.owned
    pool.free(buffer)
    assert not buffer.owned
    again = pool.allocate(nbytes - nbytes // 64)
    assert again is buffer
    assert again.owned
    assert pool.allocate(nbytes) is not buffer
    assert coordinator.granted <= 2


@pytest.mark.parametrize("nbytes", [MINIMUM, LARGE])
def test_a_leased_buffer_is_not_used_again(pool: SharedPool, nbytes: int) -> None:
    buffer = pool.allocate(nbytes)
    first, second = pool.lease(buffer), pool.lease(buffer)
    assert first != second
    pool.free(buffer)
    for lease in (first, second):
        assert buffer.leased
        assert pool.allocate(nbytes) is not buffer
        pool.end_lease(lease)
    assert not buffer.leased
    assert pool.allocate(nbytes) is buffer


def test_a_lease_that_ends_leaves_a_blob_its_buffer(pool: SharedPool) -> None:
    buffer = pool.allocate(MINIMUM)
    pool.end_lease(pool.lease(buffer))
    assert not buffer.leased
    assert pool.allocate(MINIMUM) is not buffer
    pool.free(buffer)
    assert pool.allocate(MINIMUM) is buffer


# Handing back.


def test_idle_segments_are_handed_back_when_they_are_more_than_half(
    coordinator: Coordinator, pool: SharedPool
) -> None:
    buffers = [pool.allocate(LARGE) for _ in range(4)]
    for buffer in buffers[:2]:
        pool.free(buffer)
    pool.allocate(2 * LARGE)  # Two of four are idle: not more than half.
    assert coordinator.returned == []
    for buffer in buffers[2:]:
        pool.free(buffer)
    pool.allocate(3 * LARGE)  # Four, and a busy one of twice the size.
    assert sorted(coordinator.returned) == sorted(buffer.segment.name for buffer in buffers)
    assert coordinator.bytes == 5 * LARGE


def test_a_leased_segment_is_not_handed_back(coordinator: Coordinator, pool: SharedPool) -> None:
    leased, idle = pool.allocate(3 << 20), pool.allocate(4 << 20)
    lease = pool.lease(leased)
    pool.free(leased)
    pool.free(idle)
    pool.allocate(LARGE)
    assert coordinator.returned == [idle.segment.name]
    pool.end_lease(lease)
    pool.allocate(2 * LARGE)
    assert coordinator.returned == [idle.segment.name, leased.segment.name]


def test_common_segments_in_use_are_kept(coordinator: Coordinator, pool: SharedPool) -> None:
    buffers = [pool.allocate(COMMON // 2) for _ in range(6)]
    for buffer in buffers[::2]:
        pool.free(buffer)
    pool.allocate(LARGE)
    assert coordinator.returned == []
    again = [pool.allocate(COMMON // 2) for _ in range(3)]
    assert sorted(map(place, again)) == sorted(map(place, buffers[::2]))


def test_a_common_segment_of_which_nothing_is_in_use_is_cut_anew(
    coordinator: Coordinator, pool: SharedPool
) -> None:
    for size in (COMMON // 2, COMMON // 4, COMMON // 8):
        for _ in range(4):
            buffers = [pool.allocate(size) for _ in range(COMMON // size)]
            for buffer in buffers:
                pool.free(buffer)
    assert len(coordinator.segments) == 1


def test_idle_common_segments_go_before_a_request_fails(build: Build) -> None:
    coordinator = build(4 << 20)
    buffers = [coordinator.pool.allocate(COMMON // 2) for _ in range(6)]
    for buffer in buffers:
        coordinator.pool.free(buffer)
    coordinator.pool.allocate(3 << 20)
    assert coordinator.returned


def test_views_of_a_segment_that_was_handed_back_stay_good(
    coordinator: Coordinator, pool: SharedPool
) -> None:
    """A user's function in the worker may have kept its input."""
    buffer = pool.allocate(LARGE)
    kept = buffer.array((LARGE,), np.uint8)
    kept[...] = 7
    pool.free(buffer)
    pool.allocate(2 * LARGE)
    assert coordinator.returned == [buffer.segment.name]
    assert (kept == 7).all()


def test_idle_memory_goes_before_a_request_fails(build: Build) -> None:
    """Less than half is idle, so it would be kept, but there is no other memory."""
    house = build(5 * LARGE)
    busy, idle = house.pool.allocate(2 * LARGE), house.pool.allocate(LARGE)
    house.pool.free(idle)
    buffer = house.pool.allocate(3 * LARGE)
    assert house.returned == [idle.segment.name]
    assert house.bytes == 5 * LARGE
    with pytest.raises(OutOfSharedMemoryError) as caught:
        house.pool.allocate(LARGE)
    assert caught.value.__context__ is None
    house.pool.free(buffer)
    house.pool.free(busy)
    assert house.pool.allocate(2 * LARGE) is busy


def test_a_refused_request_leaves_the_accounts_right(build: Build) -> None:
    house = build(4 * LARGE)
    idle = house.pool.allocate(LARGE)
    house.pool.free(idle)
    for _ in range(3):
        with pytest.raises(OutOfSharedMemoryError):
            house.pool.allocate(5 * LARGE)
    assert house.returned == [idle.segment.name]
    assert house.bytes == 0
    buffers = [house.pool.allocate(LARGE) for _ in range(4)]
    house.pool.free(buffers[0])
    house.pool.free(buffers[1])
    with pytest.raises(OutOfSharedMemoryError):
        house.pool.allocate(3 * LARGE)
    assert house.bytes == 2 * LARGE


def test_ever_larger_values_do_not_pile_up(coordinator: Coordinator, pool: SharedPool) -> None:
    blob = Blob(pool)
    for count in range(1, 30):
        blob.store(np.full(count * LARGE, count, np.uint8))
        # The value, the one before it, and as much idle as was in use when it was asked for.
        assert coordinator.bytes <= 4 * count * LARGE
    blob.close()


# Threads.


def test_threads_get_memory_of_their_own(coordinator: Coordinator, pool: SharedPool) -> None:
    errors: list[BaseException] = []
    begin = threading.Barrier(4)

    def work(stamp: int) -> None:
        random = np.random.default_rng(stamp)
        try:
            begin.wait(30)
            for _ in range(60):
                held = [pool.allocate(int(n)) for n in random.choice([4096, 9000, LARGE], 3)]
                for buffer in held:
                    buffer.array((buffer.size,), np.uint8)[...] = stamp
                leases = [pool.lease(buffer) for buffer in held]
                for buffer in held:
                    assert (buffer.array((buffer.size,), np.uint8) == stamp).all()
                    pool.free(buffer)
                for buffer, lease in zip(held, leases, strict=True):
                    assert (buffer.array((buffer.size,), np.uint8) == stamp).all()
                    pool.end_lease(lease)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(stamp,)) for stamp in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
    # At most three at a time each, of three sizes.
    assert coordinator.bytes <= COMMON + 2 * COMMON + 12 * LARGE


# Everything at once.


class RecordingPool(SharedPool):
    """Remembers every buffer that it cut."""

    def __init__(self, coordinator: Coordinator, refused: Callable[[], None]) -> None:
        super().__init__(coordinator.request)
        self.cut: dict[tuple[str, int], SharedBuffer] = {}
        self.refused = refused

    def allocate(self, nbytes: int) -> SharedBuffer:
        try:
            buffer = super().allocate(nbytes)
        except OutOfSharedMemoryError:
            self.refused()
            raise
        assert buffer.size == size_class(nbytes)
        assert buffer.offset % 64 == 0
        assert buffer.offset + buffer.size <= buffer.segment.size
        known = self.cut.setdefault(place(buffer), buffer)
        assert known is buffer
        return buffer

    def _forget(self, segments: Collection[str]) -> None:
        super()._forget(segments)
        for at, buffer in list(self.cut.items()):
            if buffer.segment.name in segments:
                assert not buffer.owned
                assert not buffer.leased
                del self.cut[at]


class SharedValues(Values):
    """A coordinator and a worker, with or without a limit."""

    house: Coordinator

    @initialize(limit=st.sampled_from([None, 4 << 20, 8 << 20, 13 << 20]))
    def begin(self, limit: int | None) -> None:
        house = Coordinator(limit)
        house.pool = self.pool = RecordingPool(house, self.refused)
        house.asked = self.asked
        self.start(house)

    def in_use(self) -> list[SharedBuffer]:
        """What holds a value, is being filled, or is being looked at."""
        buffers = [blob.buffer for blob in self.blobs if blob.buffer is not None]
        buffers += [blob._pending[0] for blob in self.blobs if blob._pending is not None]
        buffers += [lease.buffer for lease in self.house.leases.values()]
        return list({id(buffer): buffer for buffer in buffers}.values())

    def idle(self) -> list[SharedBuffer]:
        busy = {id(buffer) for buffer in self.in_use()}
        names = self.house.segments
        return [
            buffer
            for buffer in self.pool.cut.values()
            if buffer.segment.name in names and id(buffer) not in busy
        ]

    @invariant()
    def nothing_in_use_overlaps(self) -> None:
        buffers = self.in_use()
        for number, buffer in enumerate(buffers):
            assert buffer.segment.name in self.house.segments, "it was handed back"
            assert not any(overlap(buffer, other) for other in buffers[number + 1 :])

    @invariant()
    def each_buffer_has_one_user(self) -> None:
        held = [blob.buffer for blob in self.blobs if blob.buffer is not None]
        held += [blob._pending[0] for blob in self.blobs if blob._pending is not None]
        assert len({id(buffer) for buffer in held}) == len(held)
        assert all(buffer.owned for buffer in held)

    @invariant()
    def leases_are_what_the_coordinator_holds(self) -> None:
        for buffer in self.pool.cut.values():
            held = [lease for lease in self.house.leases.values() if lease.buffer is buffer]
            assert buffer.leases == len(held)

    @invariant()
    def the_accounts_are_right(self) -> None:
        idle = [buffer for buffer in self.idle() if buffer.dedicated]
        assert self.pool._dedicated_free == sum(buffer.size for buffer in idle)
        names = self.house.dedicated
        assert self.pool._dedicated_total == sum(self.house.segments[name].size for name in names)
        free = [buffer for buffers in self.pool._free.values() for buffer in buffers]
        assert {id(buffer) for buffer in free} == {id(buffer) for buffer in self.idle()}
        assert len(free) == len(self.idle())
        for name, common in self.pool._commons.items():
            in_use = [b for b in self.in_use() if b.segment.name == name]
            assert common.live == len(in_use)

    @rule(everything=st.booleans(), quiet=st.booleans())
    def hand_back(self, everything: bool, quiet: bool) -> None:
        self.house.take_back(self.pool.surplus(everything, quiet))

    @invariant()
    def so_much_there_is(self) -> None:
        pool = self.pool
        assert pool._total == self.house.bytes
        busy = {buffer.segment.name for buffer in self.in_use()}
        sizes = {name: segment.size for name, segment in self.house.segments.items()}
        assert pool._idle == sum(size for name, size in sizes.items() if name not in busy)

    def idle_bytes(self) -> int:
        return sum(buffer.size for buffer in self.idle() if buffer.dedicated)

    def asked(self) -> None:
        """When a segment is about to be made, not more than half of what there is lies idle."""
        assert 2 * self.idle_bytes() <= sum(
            self.house.segments[name].size for name in self.house.dedicated
        )

    def refused(self) -> None:
        assert self.idle_bytes() == 0

    @invariant()
    def the_limit_is_kept(self) -> None:
        if self.house.limit is not None:
            assert self.house.bytes <= self.house.limit

    def at_the_end(self) -> None:
        assert self.house.leases == {}
        assert self.in_use() == []
        for buffer in self.idle():
            assert not buffer.owned
            assert not buffer.leased
        self.the_accounts_are_right()
        # All of it can be had again, without a new segment.
        granted = self.house.granted
        again = {id(self.pool.allocate(buffer.size)) for buffer in self.idle()}
        assert again == {id(buffer) for buffer in self.idle()}
        assert self.house.granted == granted


TestSharedValues = SharedValues.TestCase
TestSharedValues.settings = SETTINGS


# Going on where another pool ended.


def resumed(
    coordinator: Coordinator, buffers: Iterable[SharedBuffer], leases: dict[int, SharedBuffer]
) -> tuple[SharedPool, dict[tuple[str, int], SharedBuffer]]:
    """A pool that goes on with some buffers, and leases by their numbers."""
    buffers = list(buffers)
    used = {buffer.segment.name for buffer in (*buffers, *leases.values())}
    segments = [Segment.attach(name, coordinator.segments[name].size) for name in sorted(used)]
    pool = SharedPool(coordinator.request, 1000)
    found = pool.resume(
        segments,
        [(buffer.segment.name, buffer.offset, buffer.size) for buffer in buffers],
        [(number, b.segment.name, b.offset, b.size - 10) for number, b in leases.items()],
    )
    return pool, found


def test_what_was_in_use_goes_on(coordinator: Coordinator, pool: SharedPool) -> None:
    kept = [pool.allocate(nbytes) for nbytes in (100, MINIMUM, LARGE)]
    lost = [pool.allocate(nbytes) for nbytes in (100, MINIMUM)]
    for number, buffer in enumerate(kept):
        buffer.array((buffer.size,), "u1")[...] = number
    again, found = resumed(coordinator, kept, {})
    before = dict(coordinator.segments)
    assert {(b.segment.name, b.offset, b.size, b.dedicated) for b in found.values()} == {
        (b.segment.name, b.offset, b.size, b.dedicated) for b in kept
    }
    for number, buffer in enumerate(kept):
        same = found[place(buffer)]
        assert same.owned
        assert not same.leased
        assert (same.array((same.size,), "u1") == number).all()
    # What is cut from the same segments lies beside what is used.
    fresh = [again.allocate(MINIMUM) for _ in range(20)]
    assert coordinator.segments == before
    for buffer in fresh:
        assert not any(overlap(buffer, other) for other in found.values())
    assert any(overlap(buffer, other) for buffer in fresh for other in lost)
    # A large one is used again when it is free.
    large = found[place(kept[2])]
    again.free(large)
    assert again.allocate(LARGE) is large
    for buffer in (*fresh, *found.values()):
        again.free(buffer)
    coordinator.take_back(again.surplus(everything=True))
    assert not coordinator.segments


def test_leases_go_on_under_their_numbers(coordinator: Coordinator, pool: SharedPool) -> None:
    blob, other, large, _ = (pool.allocate(n) for n in (MINIMUM, MINIMUM, 3 * LARGE, 9000))
    leases = {3: blob, 5: blob, 7: other, 9: large}
    again, found = resumed(coordinator, [blob], leases)
    assert set(found) == {place(blob)}
    assert found[place(blob)].leases == 2
    assert place(again.leased(7)) == place(other)
    assert not again.leased(7).owned
    assert again.lease(found[place(blob)]) == 1000
    again.end_lease(1000)
    # Nothing that is looked at is used for anything else.
    fresh = [again.allocate(nbytes) for nbytes in (MINIMUM, 9000, 3 * LARGE) for _ in range(4)]
    for buffer in fresh:
        assert not any(overlap(buffer, used) for used in (blob, other, large))
    for number in leases:
        again.end_lease(number)
        again.end_lease(number)
    assert not found[place(blob)].leased
    again.free(found[place(blob)])
    for buffer in fresh:
        again.free(buffer)
    coordinator.take_back(again.surplus(everything=True))
    assert not coordinator.segments


def test_a_lease_of_less_than_its_buffer(coordinator: Coordinator, pool: SharedPool) -> None:
    """The coordinator knows how much it looks at, but not how large the buffer is."""
    large = pool.allocate(2 * LARGE)
    segment = Segment.attach(large.segment.name, large.segment.size)
    again = SharedPool(coordinator.request, 1000)
    assert again.resume([segment], [], [(4, segment.name, 0, 100)]) == {}
    fresh = again.allocate(MINIMUM)
    assert fresh.segment.name == segment.name
    assert fresh.offset >= 100
    again.free(fresh)
    again.end_lease(4)
    coordinator.take_back(again.surplus(everything=True))
    assert not coordinator.segments


def test_common_segments_go_on_growing(coordinator: Coordinator, pool: SharedPool) -> None:
    buffers = [pool.allocate(COMMON // 2) for _ in range(6)]
    assert [preferred for _, preferred in coordinator.requests] == [COMMON, 2 * COMMON]
    again, _ = resumed(coordinator, buffers, {})
    again.allocate(COMMON // 2)
    assert coordinator.requests[-1][1] == 4 * COMMON


def test_a_pool_goes_on_with_nothing(coordinator: Coordinator) -> None:
    again, found = resumed(coordinator, [], {})
    assert found == {}
    assert again.allocate(100).offset == 0
    assert len(coordinator.segments) == 1
