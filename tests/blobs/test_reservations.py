"""Memory that is handed back, and memory that is written before a blob has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.blobs.houses import F4, Build, Coordinator, assert_same, numbers
from tests.blobs.houses import LARGE as SQUARE

from procession.blobs import shared
from procession.blobs.blob import Blob
from procession.blobs.shared import COMMON, MINIMUM, SharedPool
from procession.errors import OutOfSharedMemoryError

LARGE = COMMON
"""A size that gets a segment of its own, and so do its small multiples, without waste."""

# Surplus.


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> int:
    """What is kept in any case, less than in earnest."""
    monkeypatch.setattr(shared, "KEPT", 4 * LARGE)
    return 4 * LARGE


def let_go(pool: SharedPool, *sizes: int) -> list[str]:
    """Have buffers of these sizes lie idle; the names of their segments."""
    buffers = [pool.allocate(size) for size in sizes]
    for buffer in buffers:
        pool.free(buffer)
    return [buffer.segment.name for buffer in buffers]


def test_little_that_is_idle_is_kept(pool: SharedPool, kept: int) -> None:
    assert pool.surplus() == []
    let_go(pool, kept)
    assert pool.surplus() == []
    assert pool.surplus(quiet=True) == []


def test_much_that_is_idle_is_surplus(
    coordinator: Coordinator, pool: SharedPool, kept: int
) -> None:
    names = let_go(pool, kept + LARGE)
    assert pool.surplus() == names
    assert pool.surplus() == []
    coordinator.take_back(names)
    assert coordinator.bytes == 0
    assert pool.allocate(kept + LARGE).segment.name not in names


def test_the_small_half_stays(coordinator: Coordinator, pool: SharedPool, kept: int) -> None:
    names = let_go(pool, LARGE, 3 * LARGE, LARGE, LARGE)
    coordinator.take_back(pool.surplus())
    assert coordinator.returned[0] == names[1]
    assert len(coordinator.returned) == 2
    assert coordinator.bytes == kept // 2


def test_less_than_what_is_in_use_is_kept(pool: SharedPool, kept: int) -> None:
    busy = [pool.allocate(3 * LARGE) for _ in range(3)]
    let_go(pool, 8 * LARGE)
    assert pool.surplus() == []
    pool.free(busy.pop())
    assert pool.surplus() != []


@pytest.mark.parametrize("nbytes", [MINIMUM, LARGE])
def test_everything_that_is_idle_can_be_had(
    coordinator: Coordinator, pool: SharedPool, nbytes: int
) -> None:
    idle, leased, owned = (pool.allocate(nbytes) for _ in range(3))
    lease = pool.lease(leased)
    pool.free(idle)
    pool.free(leased)
    coordinator.take_back(pool.surplus(everything=True))
    busy = {leased.segment.name, owned.segment.name}
    assert set(coordinator.segments) == busy
    pool.end_lease(lease)
    pool.free(owned)
    coordinator.take_back(pool.surplus(everything=True))
    assert coordinator.segments == {}
    assert pool.surplus(everything=True) == []


def test_common_segments_are_surplus_too(pool: SharedPool, kept: int) -> None:
    names = set(let_go(pool, *[COMMON // 2] * 20))
    first = pool.surplus()
    rest = pool.surplus(everything=True)
    assert first
    assert sorted(first + rest) == sorted(names)
    assert pool.allocate(COMMON // 2).segment.name not in names


def test_what_is_wanted_again_at_once_is_kept(
    coordinator: Coordinator, pool: SharedPool, kept: int
) -> None:
    """As when a large blob is fed and removed over and over."""
    for _ in range(10):
        buffers = [pool.allocate(size) for size in (5 * LARGE, 6 * LARGE)]
        for buffer in buffers:
            pool.free(buffer)
        coordinator.take_back(pool.surplus())
    assert coordinator.granted == 4
    assert coordinator.bytes == 11 * LARGE
    coordinator.take_back(pool.surplus(quiet=True))
    assert coordinator.bytes == 0
    let_go(pool, 5 * LARGE)
    assert pool.surplus() != []


# Reservations.


@pytest.mark.parametrize("nbytes", [MINIMUM, 70_000, LARGE])
def test_a_reserved_buffer_is_nobody_else_s(pool: SharedPool, nbytes: int) -> None:
    ticket, buffer = pool.reserve(nbytes)
    assert pool.leased(ticket) is buffer
    assert pool.allocate(nbytes) is not buffer
    assert buffer.segment.name not in pool.surplus(everything=True)
    pool.end_lease(ticket)
    assert pool.allocate(nbytes) is buffer
    with pytest.raises(KeyError):
        pool.claim(ticket)


@pytest.mark.parametrize("shape", [(30, 50), (1 << 19,)], ids=str)
def test_a_reserved_buffer_becomes_a_value(pool: SharedPool, shape: Any) -> None:
    blob = Blob(pool)
    blob.store(numbers(shape, start=7))
    before = blob.buffer
    ticket, buffer = pool.reserve(blob.value.nbytes)
    buffer.array(shape, F4)[...] = numbers(shape)
    assert_same(blob.value, numbers(shape, start=7))
    blob.take(pool.claim(ticket), shape, F4)
    assert blob.buffer is buffer
    assert_same(blob.value, numbers(shape))
    assert pool.allocate(before.size) is before
    # Who wrote it looks at it still.
    assert not np.shares_memory(blob.target(shape, F4), blob.value)
    blob.discard()
    pool.end_lease(ticket)
    assert np.shares_memory(blob.target(shape, F4), blob.value)
    blob.close()
    assert pool.allocate(buffer.size) is buffer


class Watcher:
    def __init__(self) -> None:
        self.told: list[str] = []

    def changed(self, blob: Blob) -> None:
        self.told.append("changed")

    def leased(self, blob: Blob) -> None:
        assert blob.buffer.leased
        self.told.append("leased")


def test_who_watches_is_told_of_the_one_that_wrote(pool: SharedPool) -> None:
    """Watchers write into the array without asking."""
    blob = Blob(pool)
    blob.store(numbers(SQUARE))
    watcher = Watcher()
    value, target = blob.watch(watcher)
    ticket, buffer = pool.reserve(blob.value.nbytes)
    blob.take(pool.claim(ticket), SQUARE, F4)
    assert watcher.told == ["leased"]
    assert value.cell_contents is blob.value
    assert np.shares_memory(target.cell_contents, blob.value)
    pool.end_lease(ticket)
    ticket = pool.lease(buffer)
    blob.take(pool.claim(ticket), SQUARE, F4)
    assert watcher.told == ["leased", "leased"]
    pool.end_lease(ticket)
    ticket, _ = pool.reserve(blob.value.nbytes)
    blob.take(pool.claim(ticket), (2, 3), F4)
    assert list(dict.fromkeys(watcher.told[2:])) == ["changed", "leased"]
    pool.end_lease(ticket)


def test_a_value_of_another_shape_is_taken(pool: SharedPool) -> None:
    blob = Blob(pool)
    for shape in ((64, 64), (128, 64), (2, 4096)):
        ticket, buffer = pool.reserve(32768)
        buffer.array(shape, F4)[...] = numbers(shape)
        blob.take(pool.claim(ticket), shape, F4)
        pool.end_lease(ticket)
        assert_same(blob.value, numbers(shape))
    target = blob.target((2, 4096), F4)
    assert np.shares_memory(target, blob.value)


def test_a_value_before_that_is_looked_at_stays(coordinator: Coordinator, pool: SharedPool) -> None:
    blob = Blob(pool)
    blob.store(numbers(SQUARE))
    taken = coordinator.fetch(blob)
    ticket, buffer = pool.reserve(taken.nbytes)
    buffer.array(SQUARE, F4)[...] = 0
    blob.take(pool.claim(ticket), SQUARE, F4)
    pool.end_lease(ticket)
    assert_same(taken, numbers(SQUARE))
    assert (blob.value == 0).all()


@pytest.mark.parametrize("shape", [SQUARE, (32, 128)], ids=str)
def test_a_blob_s_own_buffer_is_written_by_ticket(pool: SharedPool, shape: Any) -> None:
    blob = Blob(pool)
    blob.store(numbers(SQUARE))
    buffer = blob.buffer
    ticket = pool.lease(buffer)
    buffer.array(shape, F4)[...] = 3
    blob.take(pool.claim(ticket), shape, F4)
    pool.end_lease(ticket)
    assert blob.buffer is buffer
    assert_same(blob.value, np.full(shape, 3, F4))
    assert np.shares_memory(blob.target(shape, F4), blob.value)
    blob.close()
    assert pool.allocate(buffer.size) is buffer


def test_a_blob_that_is_gone_gets_its_own_buffer_back(pool: SharedPool) -> None:
    blob = Blob(pool)
    blob.store(numbers(SQUARE))
    buffer = blob.buffer
    ticket = pool.lease(buffer)
    blob.close()
    assert pool.allocate(buffer.size) is not buffer
    again = Blob(pool)
    again.take(pool.claim(ticket), SQUARE, F4)
    pool.end_lease(ticket)
    assert pool.allocate(buffer.size) is not buffer
    assert_same(again.value, numbers(SQUARE))


def test_a_refused_reservation_leaves_nothing(build: Build) -> None:
    house = build(2 * LARGE)
    ticket, _ = house.pool.reserve(2 * LARGE)
    with pytest.raises(OutOfSharedMemoryError):
        house.pool.reserve(LARGE)
    house.pool.end_lease(ticket)
    house.pool.reserve(LARGE)
    assert house.bytes == LARGE
