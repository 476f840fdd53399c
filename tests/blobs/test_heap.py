from __future__ import annotations

import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis.stateful import initialize, invariant
from tests.blobs.houses import Heap
from tests.blobs.machine import SETTINGS, Values

from procession.blobs.heap import HeapBuffer, HeapPool


@pytest.fixture
def buffer() -> HeapBuffer:
    return HeapPool().allocate(8192)


def test_a_buffer_is_as_large_as_asked(buffer: HeapBuffer) -> None:
    array = buffer.array((2048,), "f4")
    array[...] = 1
    assert array.flags.writeable
    assert np.shares_memory(array, buffer.array((8192,), "u1"))
    with pytest.raises(TypeError, match="too small"):
        buffer.array((2049,), "f4")


def test_a_buffer_is_leased_while_a_snapshot_lives(buffer: HeapBuffer) -> None:
    assert not buffer.leased
    first = buffer.snapshot((2048,), "f4")
    second = buffer.snapshot((64, 32), "f4")
    assert buffer.leased
    part = second[3:5]
    del first, second
    assert buffer.leased
    del part
    assert not buffer.leased


def test_a_snapshot_shows_the_buffer(buffer: HeapBuffer) -> None:
    array = buffer.array((32, 64), "i4")
    array[...] = np.arange(2048).reshape(32, 64)
    taken = buffer.snapshot((32, 64), "i4")
    assert np.shares_memory(taken, array)
    np.testing.assert_array_equal(taken, array)
    assert not taken.flags.writeable


def test_a_snapshot_outlives_buffer_and_pool() -> None:
    pool = HeapPool()
    buffer = pool.allocate(8192)
    buffer.array((8192,), "u1")[...] = 3
    taken = buffer.snapshot((8192,), "u1")
    pool.free(buffer)
    gone = weakref.ref(taken.base)
    del buffer, pool
    assert (taken == 3).all()
    del taken
    assert gone() is None


def test_snapshots_that_are_garbage_leave_nothing(buffer: HeapBuffer) -> None:
    """A blob may be fetched for ever and never be written again."""

    def fetch(times: int) -> None:
        for _ in range(times):
            buffer.snapshot((2048,), "f4")

    fetch(10)
    tracemalloc.start()
    try:
        fetch(10)
        before, _ = tracemalloc.get_traced_memory()
        fetch(2000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(2048, "f4"),
        np.ones((32, 64), ">i4"),
        np.zeros((), "V5000"),
        np.zeros(1000, "M8[s]"),
        np.zeros(600, [("a", "u1"), ("b", "f8")]),
        np.zeros((3, 700), "U2"),
    ],
    ids=lambda array: f"{array.dtype}",
)
def test_an_adopted_array_is_the_buffer(array: Any) -> None:
    buffer = HeapPool().adopt(array)
    assert buffer is not None
    again = buffer.array(array.shape, array.dtype)
    taken = buffer.snapshot(array.shape, array.dtype)
    assert np.shares_memory(again, array)
    assert np.shares_memory(taken, array)
    assert again.tobytes() == taken.tobytes() == array.tobytes()
    assert (taken.shape, taken.dtype) == (array.shape, array.dtype)


def test_a_buffer_is_no_longer_leased_whatever_the_order() -> None:
    buffer = HeapPool().allocate(4096)
    taken = [buffer.snapshot((1024,), "f4") for _ in range(20)]
    for place in (7, 0, -1, 3):
        del taken[place]
    assert buffer.leased
    while taken:
        assert buffer.leased
        taken.pop(len(taken) // 2)
    assert not buffer.leased


class HeapValues(Values):
    @initialize()
    def begin(self) -> None:
        self.start(Heap())

    @invariant()
    def no_two_values_overlap(self) -> None:
        live = [blob.value for blob in self.blobs if blob.buffer is not None]
        for number, value in enumerate(live):
            assert not any(np.shares_memory(value, other) for other in live[number + 1 :])


TestHeapValues = HeapValues.TestCase
TestHeapValues.settings = SETTINGS
