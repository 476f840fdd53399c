"""Blobs being written, fetched and forgotten in any order: no value ever changes by itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.blobs.houses import House

from procession.blobs.blob import Blob
from procession.blobs.shared import COMMON, MINIMUM
from procession.errors import OutOfSharedMemoryError

SIZES = [
    0,
    100,
    MINIMUM - 1,
    MINIMUM,
    MINIMUM + 1,
    2 * MINIMUM,
    COMMON // 2,
    COMMON // 2 + 1,
    COMMON,
    3 << 20,
    (3 << 20) + 1,
]
BLOBS = 4

blob_numbers = st.integers(0, BLOBS - 1)
sizes = st.sampled_from(SIZES)
picks = st.integers(0, 1 << 16)

SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Values(RuleBasedStateMachine):
    """The rules that hold for every pool.

    A value is an array that is full of one number, which tells the values apart.
    """

    house: House
    blobs: list[Blob]
    stamps: ClassVar[int] = 250

    def start(self, house: House) -> None:
        self.house = house
        self.blobs = [Blob(house.pool) for _ in range(BLOBS)]
        self.expected: list[Any] = [None] * BLOBS
        self.pending: list[Any] = [None] * BLOBS
        self.fetched: list[tuple[Any, int]] = []
        self.stamp = 0

    def fresh(self, size: int) -> Any:
        self.stamp = self.stamp % self.stamps + 1
        return np.full(size, self.stamp, np.uint8)

    def wrote(self, number: int, value: Any) -> None:
        self.expected[number] = value

    # Writing.

    @rule(number=blob_numbers, size=sizes, given=st.booleans())
    def store(self, number: int, size: int, given: bool) -> None:
        value = self.fresh(size)
        stamp = self.stamp
        try:
            self.blobs[number].store(value, given=given)
        except OutOfSharedMemoryError:
            return
        if not given:
            value[...] = 255
        self.wrote(number, (size, stamp))

    @rule(number=blob_numbers, size=sizes)
    def fill(self, number: int, size: int) -> None:
        blob = self.blobs[number]
        try:
            target = blob.target((size,), np.dtype(np.uint8))
        except OutOfSharedMemoryError:
            return
        assert target.flags.writeable
        target[...] = self.fresh(size)
        self.wrote(number, (size, self.stamp))
        blob.store(target)

    @rule(number=blob_numbers, size=sizes)
    def prepare(self, number: int, size: int) -> None:
        """Take a target and not store it: if it is fresh memory, the value does not notice."""
        blob = self.blobs[number]
        try:
            target = blob.target((size,), np.dtype(np.uint8))
        except OutOfSharedMemoryError:
            return
        if not np.shares_memory(target, blob.value if self.expected[number] else np.empty(0)):
            target[...] = 254

    @rule(number=blob_numbers)
    def discard(self, number: int) -> None:
        self.blobs[number].discard()

    @rule(number=blob_numbers, source=blob_numbers, step=st.sampled_from([1, -1, 2]))
    def store_part_of_a_value(self, number: int, source: int, step: int) -> None:
        """Of another blob, or of the very same."""
        if self.expected[source] is None:
            return
        part = self.blobs[source].value[::step]
        _, stamp = self.expected[source]
        try:
            self.blobs[number].store(part)
        except OutOfSharedMemoryError:
            return
        self.wrote(number, (part.size, stamp))

    @rule(number=blob_numbers)
    def store_object(self, number: int) -> None:
        self.blobs[number].store("no tensor")
        self.wrote(number, None)

    @rule(number=blob_numbers)
    def close(self, number: int) -> None:
        self.blobs[number].close()
        self.wrote(number, None)

    # Looking.

    @rule(number=blob_numbers)
    def fetch(self, number: int) -> None:
        if self.blobs[number].buffer is not None:
            _, stamp = self.expected[number]
            self.fetched.append((self.house.fetch(self.blobs[number]), stamp))

    @precondition(lambda self: self.fetched)
    @rule(pick=picks)
    def keep_a_part(self, pick: int) -> None:
        place = pick % len(self.fetched)
        array, stamp = self.fetched[place]
        self.fetched[place] = (array[array.size // 3 : array.size // 2], stamp)

    @precondition(lambda self: self.fetched)
    @rule(pick=picks)
    def forget(self, pick: int) -> None:
        del self.fetched[pick % len(self.fetched)]

    @rule()
    def forget_all(self) -> None:
        self.fetched.clear()

    @rule()
    def hear(self) -> None:
        self.house.hear()

    # What always holds.

    @invariant()
    def values_are_what_was_written(self) -> None:
        for blob, expected in zip(self.blobs, self.expected, strict=True):
            if expected is None:
                assert not isinstance(blob.value, np.ndarray)
                assert blob.buffer is None
            else:
                size, stamp = expected
                assert blob.value.shape == (size,)
                assert not blob.value.flags.writeable
                assert (blob.value == stamp).all()
                assert (blob.buffer is not None) == (size >= MINIMUM)

    @invariant()
    def what_was_fetched_never_changes(self) -> None:
        for array, stamp in self.fetched:
            assert not array.flags.writeable
            assert (array == stamp).all()

    def teardown(self) -> None:
        # There is no house when drawing the first step failed.
        if not hasattr(self, "house"):
            return
        try:
            for blob in self.blobs:
                blob.close()
            self.what_was_fetched_never_changes()
            self.fetched.clear()
            self.house.hear()
            self.at_the_end()
        finally:
            self.house.close()

    def at_the_end(self) -> None:
        """Nobody uses anything any more."""
