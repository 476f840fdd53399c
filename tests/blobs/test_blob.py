"""Where the next value of a blob goes: into its own memory, another buffer, or nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.blobs.houses import F4, LARGE, Coordinator, House, address, assert_same, numbers

from procession.blobs.blob import Blob
from procession.blobs.heap import HeapPool
from procession.blobs.shared import COMMON
from procession.errors import OutOfSharedMemoryError


class Failing(HeapPool):
    """Has memory until it has not."""

    def __init__(self) -> None:
        self.full = False
        self.freed: list[Any] = []

    def allocate(self, nbytes: int) -> Any:
        if self.full:
            raise OutOfSharedMemoryError("none left", needed=nbytes)
        return super().allocate(nbytes)

    def adopt(self, array: Any) -> None:
        return None

    def free(self, buffer: Any) -> None:
        assert not any(buffer is other for other in self.freed), "twice"
        self.freed.append(buffer)


# In place.


@pytest.mark.parametrize("shape", [(3,), LARGE], ids=str)
def test_the_next_value_goes_to_the_same_memory(blob: Blob, shape: Any) -> None:
    blob.store(numbers(shape))
    where = address(blob.value)
    for start in range(5):
        target = blob.target(shape, F4)
        assert address(target) == where
        target[...] = start
        blob.store(target)
        assert (blob.value == start).all()
        assert address(blob.value) == where


def test_a_stored_copy_goes_to_the_same_memory(blob: Blob) -> None:
    blob.store(numbers(LARGE))
    where = address(blob.value)
    for start in range(5):
        blob.store(numbers(LARGE, start=start))
        assert_same(blob.value, numbers(LARGE, start=start))
        assert address(blob.value) == where


def test_what_is_looked_at_is_not_written(house: House, blob: Blob) -> None:
    blob.store(numbers(LARGE))
    where = address(blob.value)
    taken = house.fetch(blob)
    target = blob.target(LARGE, F4)
    assert not np.shares_memory(target, blob.value)
    target[...] = 0
    assert_same(blob.value, numbers(LARGE))
    blob.store(target)
    assert (blob.value == 0).all()
    assert address(blob.value) != where
    assert_same(taken, numbers(LARGE))


def test_memory_is_written_again_when_nobody_looks_any_more(house: House, blob: Blob) -> None:
    blob.store(numbers(LARGE))
    where = address(blob.value)
    taken = [house.fetch(blob), house.fetch(blob)]
    taken.append(taken.pop()[3:])
    while taken:
        assert address(blob.target(LARGE, F4)) != where
        del taken[0]
        house.hear()
    assert address(blob.target(LARGE, F4)) == where


def test_feeding_and_fetching_in_turn_uses_two_buffers() -> None:
    house = Coordinator()
    blob = Blob(house.pool)
    taken = None
    places = set()
    for start in range(20):
        blob.store(numbers(LARGE, start=start))
        places.add((blob.buffer.segment.name, blob.buffer.offset))
        taken = house.fetch(blob)
        house.hear()
    assert_same(taken, numbers(LARGE, start=19))
    assert len(places) == 2
    del taken
    house.close()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((64, 65), "f4"), ((64, 64, 1), "f4"), ((64, 64), "i4"), (LARGE, ">f4"), ((4096,), "f4")],
    ids=str,
)
def test_another_shape_or_dtype_is_another_array(blob: Blob, shape: Any, dtype: Any) -> None:
    blob.store(numbers(LARGE))
    target = blob.target(shape, np.dtype(dtype))
    assert (target.shape, target.dtype) == (shape, np.dtype(dtype))
    assert not np.shares_memory(target, blob.value)
    assert_same(blob.value, numbers(LARGE))
    target[...] = numbers(shape, dtype)
    blob.store(target)
    assert_same(blob.value, numbers(shape, dtype))


def test_records_of_another_layout_are_another_dtype(blob: Blob) -> None:
    plain = np.dtype([("a", "f4"), ("b", "f8")])
    padded = np.dtype([("a", "f4"), ("b", "f8")], align=True)
    renamed = np.dtype([("a", "f4"), ("c", "f8")])
    for dtype in (plain, padded, renamed, plain):
        value = np.zeros(1000, dtype)
        value["a"] = np.arange(1000)
        blob.store(value)
        assert blob.value.dtype == dtype
        assert blob.value.dtype.names == dtype.names
        assert blob.value.dtype.itemsize == dtype.itemsize
        np.testing.assert_array_equal(blob.value, value)


def test_a_target_of_objects_is_of_no_buffer(house: House) -> None:
    blob = Blob(house.pool)
    target = blob.target((5000,), np.dtype(object))
    target[...] = "text"
    blob.store(target)
    assert blob.value is target
    assert blob.buffer is None


# Targets, stored and not.


def test_the_buffer_of_a_target(blob: Blob) -> None:
    small = blob.target((3,), F4)
    assert blob.target_buffer(small) is None
    fresh = blob.target(LARGE, F4)
    buffer = blob.target_buffer(fresh)
    assert buffer is not None
    assert np.shares_memory(buffer.array(LARGE, F4), fresh)
    blob.store(fresh)
    assert blob.buffer is buffer
    assert blob.target_buffer(blob.target(LARGE, F4)) is buffer


@pytest.mark.parametrize("first", [None, "object", (3,), LARGE, (70, 70)], ids=str)
def test_a_target_that_is_not_stored_changes_nothing(house: House, first: Any) -> None:
    blob = Blob(house.pool)
    value = numbers(first) if isinstance(first, tuple) else first
    if value is not None:
        blob.store(value)
    for shape in ((50, 50), (50, 50), (2000,), (4,)):
        target = blob.target(shape, F4)
        target[...] = -1
        if shape == (2000,):
            blob.discard()
            blob.discard()
    if isinstance(first, tuple):
        assert_same(blob.value, value)
    else:
        assert blob.value is value


def test_asking_again_gives_the_same_target(blob: Blob) -> None:
    first = blob.target(LARGE, F4)
    assert blob.target(LARGE, F4) is first
    other = blob.target((10, 1000), F4)
    assert other is not first
    assert blob.target((10, 1000), F4) is other
    assert not np.shares_memory(blob.target(LARGE, F4), np.empty(0))


@pytest.mark.parametrize("size", [(3,), LARGE, (70, 70)], ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["copied", "given"])
def test_a_target_may_be_out_while_something_else_is_stored(
    house: House, size: Any, given: bool
) -> None:
    blob = Blob(house.pool)
    target = blob.target(LARGE, F4)
    target[...] = -1
    blob.store(numbers(size), given=given)
    assert_same(blob.value, numbers(size))
    again = blob.target(LARGE, F4)
    again[...] = 5
    blob.store(again)
    assert (blob.value == 5).all()
    assert blob.value.shape == LARGE


def test_no_buffer_is_lost_or_freed_twice() -> None:
    pool = Failing()
    blob = Blob(pool)
    made = 0
    allocate = pool.allocate

    def counting(nbytes: int) -> Any:
        nonlocal made
        made += 1
        return allocate(nbytes)

    pool.allocate = counting  # type: ignore[method-assign]
    blob.store(numbers(LARGE))
    blob.target((50, 50), F4)
    blob.target((51, 50), F4)
    blob.store(numbers((3,)))
    assert made == len(pool.freed) == 3
    blob.store(blob.target(LARGE, F4))
    blob.target((52, 50), F4)
    blob.store("text")
    assert made == len(pool.freed) == 5
    blob.target((53, 50), F4)
    blob.store(numbers((54, 50)))
    blob.target((55, 50), F4)
    blob.close()
    blob.close()
    assert made == len(pool.freed) == 8


def test_a_closed_blob_can_be_written_again(house: House) -> None:
    blob = Blob(house.pool)
    blob.store(numbers(LARGE))
    taken = house.fetch(blob)
    blob.close()
    assert blob.value is None
    assert blob.buffer is None
    assert_same(taken, numbers(LARGE))
    blob.store(numbers(LARGE, start=9))
    assert_same(blob.value, numbers(LARGE, start=9))
    assert_same(taken, numbers(LARGE))


# No memory.


@pytest.mark.parametrize("first", [None, "object", (3,), LARGE], ids=str)
def test_when_there_is_no_memory_the_value_stays(first: Any) -> None:
    pool = Failing()
    blob = Blob(pool)
    value = numbers(first) if isinstance(first, tuple) else first
    if value is not None:
        blob.store(value)
    taken = blob.buffer.snapshot(LARGE, F4) if blob.buffer is not None else None
    blob.target((50, 50), F4)
    pool.full = True
    for _ in range(2):
        with pytest.raises(OutOfSharedMemoryError, match="none left"):
            blob.store(numbers((70, 70)))
        with pytest.raises(OutOfSharedMemoryError, match="none left"):
            blob.store(numbers((70, 70)), given=True)
        with pytest.raises(OutOfSharedMemoryError, match="none left"):
            blob.target((70, 70), F4)
        if first == LARGE:
            # It is looked at, so that there is no writing in place.
            with pytest.raises(OutOfSharedMemoryError, match="none left"):
                blob.store(numbers(LARGE))
        if isinstance(first, tuple):
            assert_same(blob.value, value)
        else:
            assert blob.value is value
    assert len(pool.freed) == 1
    del taken
    if first == LARGE:
        blob.store(numbers(LARGE, start=5))
        assert_same(blob.value, numbers(LARGE, start=5))
    blob.store("small")
    assert blob.value == "small"


def test_the_limit_of_a_node_is_an_error_and_not_the_end() -> None:
    house = Coordinator(limit=4 * COMMON)
    blob, other = Blob(house.pool), Blob(house.pool)
    blob.store(np.full(3 * COMMON, 1, np.uint8))
    with pytest.raises(OutOfSharedMemoryError):
        other.store(np.full(2 * COMMON, 2, np.uint8))
    assert other.value is None
    assert (blob.value == 1).all()
    blob.close()
    other.store(np.full(2 * COMMON, 2, np.uint8))
    assert (other.value == 2).all()
    other.close()
    house.close()


# A blob's own value, given back to it.


@pytest.mark.parametrize("shape", [(6, 6), LARGE], ids=str)
@pytest.mark.parametrize("fetched", [False, True], ids=["", "fetched"])
@pytest.mark.parametrize(
    "change",
    [
        lambda value: value,
        lambda value: value[...],
        lambda value: value[::-1],
        lambda value: value.T,
        lambda value: value[1:],
        lambda value: value[:-1, 1:],
        lambda value: value.reshape(-1),
        lambda value: value.view("i4"),
        lambda value: value.view("u1"),
        lambda value: np.broadcast_to(value[0], value.shape),
    ],
    ids=["same", "all", "reversed", "T", "rest", "corner", "flat", "i4", "u1", "broadcast"],
)
def test_a_view_of_the_value_can_be_stored(
    house: House, shape: Any, fetched: bool, change: Any
) -> None:
    blob = Blob(house.pool)
    blob.store(numbers(shape))
    taken = house.fetch(blob) if fetched and blob.buffer is not None else None
    expected = change(numbers(shape)).copy()
    blob.store(change(blob.value))
    assert_same(blob.value, expected)
    if taken is not None:
        assert_same(taken, numbers(shape))


@pytest.mark.parametrize("shape", [(6, 6), LARGE], ids=str)
def test_a_view_of_a_target_can_be_stored(house: House, shape: Any) -> None:
    for change in (np.flip, np.transpose, np.ravel, lambda target: target[1:]):
        for looked_at in (False, True):
            blob = Blob(house.pool)
            blob.store(numbers(shape))
            taken = house.fetch(blob) if looked_at and blob.buffer is not None else None
            target = blob.target(shape, F4)
            target[...] = numbers(shape, start=7)
            blob.store(change(target))
            assert_same(blob.value, change(numbers(shape, start=7)).copy())
            if taken is not None:
                assert_same(taken, numbers(shape))


@pytest.mark.parametrize("shape", [(6, 6), LARGE], ids=str)
def test_two_blobs_do_not_share_what_one_was_given_of_the_other(house: House, shape: Any) -> None:
    one, other = Blob(house.pool), Blob(house.pool)
    one.store(numbers(shape))
    other.store(one.value, given=True)
    assert not np.shares_memory(one.value, other.value)
    one.store(numbers(shape, start=5))
    assert_same(other.value, numbers(shape))


# Given away.


@pytest.mark.parametrize("shape", [(6,), LARGE], ids=str)
def test_on_the_heap_a_given_array_is_kept_without_a_copy(shape: Any) -> None:
    blob = Blob(HeapPool())
    value = numbers(shape)
    if not value.flags.owndata:
        value = value.copy()
    blob.store(value, given=True)
    assert np.shares_memory(blob.value, value)
    assert blob.target(shape, F4) is value


@pytest.mark.parametrize("shape", [(6,), LARGE], ids=str)
def test_a_given_array_that_cannot_be_written_is_copied(house: House, shape: Any) -> None:
    """The next value has to go somewhere."""
    blob = Blob(house.pool)
    value = numbers(shape).copy()
    value.flags.writeable = False
    blob.store(value, given=True)
    assert_same(blob.value, value)
    target = blob.target(shape, F4)
    target[...] = 0
    blob.store(target)
    assert_same(value, numbers(shape))


@pytest.mark.parametrize("count", [6, 4096])
def test_a_given_part_of_an_array_does_not_keep_the_rest(house: House, count: int) -> None:
    blob = Blob(house.pool)
    whole = numbers((10 * count,)).copy()
    blob.store(whole[:count], given=True)
    assert not np.shares_memory(blob.value, whole)
    assert_same(blob.value, numbers((count,)))


def test_a_given_array_takes_the_place_of_a_target(house: House) -> None:
    """A kernel may return something else than the `out` it was given."""
    blob = Blob(house.pool)
    blob.store(numbers(LARGE))
    taken = house.fetch(blob)
    for shape in (LARGE, (3,), (70, 70)):
        blob.target(LARGE, F4)
        blob.store(numbers(shape, start=3).copy(), given=True)
        assert_same(blob.value, numbers(shape, start=3))
    assert_same(taken, numbers(LARGE))
