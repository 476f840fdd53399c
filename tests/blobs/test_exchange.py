"""Blobs that are exchanged: where they lie, and that nothing else ever lies there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.blobs.houses import Coordinator, Heap

from procession.blobs import segment
from procession.blobs.blob import Blob
from procession.blobs.exchange import EXCHANGED, Use
from procession.blobs.segment import Segment
from procession.blobs.shared import COMMON, SharedPool
from procession.errors import OutOfSharedMemoryError

LENGTH = EXCHANGED
"""Elements of one byte that are just enough."""


@pytest.fixture
def pool(coordinator: Coordinator) -> SharedPool:
    return coordinator.pool


def values(start: int = 0, length: int = LENGTH) -> Any:
    return (np.arange(length) + start).astype(np.uint8)


def blob_of(pool: SharedPool, start: int = 0) -> Blob:
    blob = Blob(pool)
    blob.store(values(start))
    return blob


def segment_of(blob: Blob) -> str:
    name: str = blob.buffer.segment.name
    return name


def test_it_moves_once_and_stays(pool: SharedPool) -> None:
    blob, use = blob_of(pool), Use()
    before = segment_of(blob)
    assert blob.place(blob.value, "w") is None
    blob.exchange("w", use)
    assert segment_of(blob) != before
    np.testing.assert_array_equal(blob.value, values())
    place = blob.place(blob.value, "w")
    assert place == (segment_of(blob), blob.buffer.segment.size, 0)
    value = blob.value
    blob.exchange("w", use)
    assert blob.value is value
    target = blob.target(value.shape, value.dtype)
    assert blob.place(target, "w") == place
    assert blob.place(value, "another") is None
    assert blob.place(np.zeros(3), "w") is None


def test_what_is_fetched_has_it_go_on_elsewhere_in_the_same_world(
    coordinator: Coordinator, pool: SharedPool
) -> None:
    blob = blob_of(pool)
    blob.exchange("w", Use())
    fetched = coordinator.fetch(blob)
    target = blob.target(blob.value.shape, blob.value.dtype)
    place = blob.place(target, "w")
    assert place is not None
    assert place[0] != segment_of(blob)
    target[...] = 7
    blob.store(target)
    np.testing.assert_array_equal(fetched, values())
    assert blob.place(blob.value, "w") == place


def test_nothing_else_lies_there_ever(coordinator: Coordinator, pool: SharedPool) -> None:
    blob, use = blob_of(pool), Use()
    blob.exchange("w", use)
    exchanged = segment_of(blob)
    # So much is in use that what is free is kept.
    pool.allocate(4 * COMMON)
    blob.close()
    others = [pool.allocate(nbytes) for nbytes in (100, LENGTH, LENGTH, 2 * LENGTH)]
    other = blob_of(pool)
    other.exchange("another", use)
    assert exchanged not in {each.segment.name for each in (*others, other.buffer)}
    # A blob of the same world may.
    again = blob_of(pool)
    again.exchange("w", use)
    assert segment_of(again) == exchanged
    small = again.target((EXCHANGED // 2,), np.dtype(np.uint8))
    assert again.place(small, "w") is None
    again.close()
    coordinator.take_back(pool.surplus(everything=True))
    assert exchanged not in coordinator.segments


def test_in_another_world_not_before_the_first_is_over(pool: SharedPool) -> None:
    blob, first, second = blob_of(pool), Use(), Use()
    blob.exchange("w", first)
    blob.exchange("another", second)
    assert blob.place(blob.value, "w") is not None
    first.over = True
    blob.exchange("another", second)
    assert blob.place(blob.value, "another") is not None
    np.testing.assert_array_equal(blob.value, values())
    # One of the same name and members takes the place of the one before.
    second.over = True
    value = blob.value
    blob.exchange("another", Use())
    blob.exchange("w", Use())
    assert blob.value is value


def test_not_what_somebody_writes_to_at_any_time(pool: SharedPool) -> None:
    blob = blob_of(pool)
    blob.expose()
    before = segment_of(blob)
    blob.exchange("w", Use())
    assert segment_of(blob) == before
    assert blob.place(blob.value, "w") is None
    other = blob_of(pool)
    other.exchange("w", Use())
    other.expose()
    assert other.place(other.value, "w") is None


def test_no_room_to_move(coordinator: Coordinator, pool: SharedPool) -> None:
    blob = blob_of(pool)
    coordinator.limit = coordinator.bytes
    with pytest.raises(OutOfSharedMemoryError):
        blob.exchange("w", Use())
    np.testing.assert_array_equal(blob.value, values())


def test_who_watches_is_told_where_it_is(pool: SharedPool) -> None:
    class Watcher:
        def changed(self, blob: Blob) -> None:
            raise AssertionError

        leased = changed

    blob, watcher = blob_of(pool), Watcher()
    view, array = blob.watch(watcher)
    blob.exchange("w", Use())
    assert view.cell_contents is blob.value
    array.cell_contents[:] = 3
    assert (blob.value == 3).all()


def test_small_tensors_objects_and_new_blobs(pool: SharedPool) -> None:
    for value in (np.zeros(3), "text"):
        blob = Blob(pool)
        blob.store(value)
        blob.exchange("w", Use())
        assert blob.place(blob.value, "w") is None
    blob = Blob(pool)
    blob.exchange("w", Use())
    target = blob.target((LENGTH,), np.dtype(np.uint8))
    place = blob.place(target, "w")
    blob.store(target)
    assert place == blob.place(blob.value, "w") != None  # noqa: E711


def test_in_this_process_it_stays_where_it_is() -> None:
    house = Heap()
    blob = Blob(house.pool)
    blob.store(values())
    value = blob.value
    blob.exchange("w", Use())
    assert blob.value is value
    assert blob.place(value, "w") is None


def test_after_a_worker_died_it_is_kept_apart_still(
    coordinator: Coordinator, pool: SharedPool
) -> None:
    blob = blob_of(pool)
    blob.exchange("w", Use())
    leased = pool.allocate(LENGTH, "w")
    number = pool.lease(leased)
    names = [segment_of(blob), leased.segment.name]
    again = SharedPool(coordinator.request, 1000)
    found = again.resume(
        [Segment.attach(name, coordinator.segments[name].size) for name in names],
        [(names[0], 0, blob.buffer.size)],
        [(number, names[1], 0, 100)],
        dict.fromkeys(names, "w"),
    )
    others = [again.allocate(nbytes) for nbytes in (100, LENGTH, LENGTH)]
    again.end_lease(number)
    again.free(found[names[0], 0])
    others += [again.allocate(nbytes) for nbytes in (100, LENGTH, LENGTH)]
    assert not {each.segment.name for each in others} & set(names)
    assert {again.allocate(LENGTH, "w").segment.name for _ in names} == set(names)


# Looking at segments of others.


def test_a_segment_is_looked_at_and_not_written(coordinator: Coordinator, pool: SharedPool) -> None:
    blob = blob_of(pool)
    blob.exchange("w", Use())
    memory = segment.look(segment_of(blob), LENGTH)
    np.testing.assert_array_equal(np.frombuffer(memory, np.uint8), values())
    with pytest.raises(TypeError):
        memory[0] = 1
    blob.target((LENGTH,), np.dtype(np.uint8))[:] = 5
    assert memory[17] == 5
    assert segment.is_there(segment_of(blob))


@pytest.mark.parametrize("name", ["", "x", "../shm/x", "procession-1", "procession-1-abcdefghij"])
def test_what_is_no_segment_is_not_looked_at(name: str) -> None:
    with pytest.raises(ValueError, match="no segment"):
        segment.look(name, 100)


def test_one_that_is_gone_or_too_small(coordinator: Coordinator, pool: SharedPool) -> None:
    blob = blob_of(pool)
    blob.exchange("w", Use())
    name = segment_of(blob)
    with pytest.raises(ValueError, match=r"larger|greater"):
        segment.look(name, 100 * LENGTH)
    coordinator.segments[name].unlink()
    assert not segment.is_there(name)
    with pytest.raises(FileNotFoundError):
        segment.look(name, LENGTH)
