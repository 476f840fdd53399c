"""The journal: whatever the moment at which its writer dies, it says what was, or what is."""

from __future__ import annotations

import pickle
import random
import struct
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procession.blobs import journal as module
from procession.blobs.blob import Blob
from procession.blobs.journal import (
    EXPOSED,
    INLINE,
    WRITING,
    Entry,
    Journal,
    Known,
    ObjectAt,
    ObjectIn,
    Replayed,
    TensorAt,
    Torn,
    replay,
    unpack_dtype,
)
from procession.blobs.plain import plain_pickle
from procession.blobs.shared import MINIMUM
from procession.errors import OutOfSharedMemoryError

F4 = np.dtype("f4")
SETTINGS = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Piece:
    """A segment that is none."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.memory = bytearray(size)


class Pool:
    """Buffers for long pickles, each in a segment of its own; what is let go of is gone."""

    def __init__(self) -> None:
        self.pieces: dict[str, Piece] = {}
        self.made = 0
        self.full = False

    def allocate(self, nbytes: int) -> Any:
        if self.full:
            raise OutOfSharedMemoryError("no more")
        self.made += 1
        piece = Piece(f"pool{self.made}", nbytes)
        self.pieces[piece.name] = piece
        return SimpleNamespace(segment=piece, offset=0, size=nbytes)

    def free(self, buffer: Any) -> None:
        del self.pieces[buffer.segment.name]


def place(number: int) -> Any:
    return SimpleNamespace(segment=Piece(f"s{number}", 1), offset=64 * number, size=4096)


class Desk:
    """A journal, its segments, and who asks for more of them."""

    def __init__(self, size: int = 1024, most: int = 1 << 20) -> None:
        self.first = Piece("first", size)
        self.pieces = {"first": self.first}
        self.most = most
        self.pool = Pool()
        self.journal = Journal(self.first, self.more, self.pool)
        self.entries: dict[str, Entry] = {}

    def more(self, nbytes: int) -> Piece:
        if nbytes > self.most:
            raise OutOfSharedMemoryError("no more")
        piece = Piece(f"more{len(self.pieces)}", nbytes)
        self.pieces[piece.name] = piece
        return piece

    def read(self) -> Replayed:
        """What somebody finds who comes now."""
        copies = {name: bytes(piece.memory) for name, piece in self.pieces.items()}

        def attach(name: str, size: int) -> Any:
            return copies.get(name)

        return replay(copies["first"], attach)

    def entry(self, name: str) -> Entry:
        return self.journal.entry(name)


@pytest.fixture
def desk() -> Desk:
    return Desk()


# What is written can be read.


def test_an_empty_journal_says_nothing(desk: Desk) -> None:
    assert desk.read() == ({}, True)


def test_the_last_record_of_a_blob_counts(desk: Desk) -> None:
    desk.entry("x").tensor(place(1), (2, 3), F4)
    desk.entry("y").object([1, "a"])
    desk.entry("x").tensor(place(2), (), np.dtype(">i8"))
    blobs, whole = desk.read()
    assert whole
    assert set(blobs) == {"x", "y"}
    x, y = blobs["x"], blobs["y"]
    assert isinstance(x, TensorAt)
    assert (x.segment, x.offset, x.size, x.shape, x.flags) == ("s2", 128, 4096, (), 0)
    assert unpack_dtype(x.dtype) == np.dtype(">i8")
    assert isinstance(y, ObjectIn)
    assert pickle.loads(y.data) == [1, "a"]
    desk.entry("x").remove()
    desk.entry("z").remove()
    assert set(desk.read().blobs) == {"y"}
    desk.entry("x").torn(Torn("lost", "Mul"))
    assert desk.read().blobs["x"] == Torn("lost", "Mul")


@pytest.mark.parametrize(
    "dtype", ["f4", ">f4", "?", "q", "l", "S", "S5", "U3", "M8[us]", "m8", "V7", "i1, f8", "c16"]
)
def test_dtypes_come_back_as_they_were(desk: Desk, dtype: str) -> None:
    desk.entry("x").tensor(place(1), (3,), np.dtype(dtype))
    known = desk.read().blobs["x"]
    assert isinstance(known, TensorAt)
    found = unpack_dtype(known.dtype)
    assert (found, found.type) == (np.dtype(dtype), np.dtype(dtype).type)


def flags(desk: Desk, name: str) -> int:
    known = desk.read().blobs[name]
    assert isinstance(known, TensorAt)
    return known.flags


def test_flags_come_and_go(desk: Desk) -> None:
    x = desk.entry("x")
    x.begin()
    x.end()
    x.expose()
    assert desk.read() == ({}, True)
    x.tensor(place(1), (3,), F4)
    assert flags(desk, "x") == 0
    x.begin()
    x.begin()
    assert flags(desk, "x") == WRITING
    x.expose()
    assert flags(desk, "x") == WRITING | EXPOSED
    x.end()
    assert flags(desk, "x") == EXPOSED
    x.begin()
    x.tensor(place(2), (3,), F4)
    assert flags(desk, "x") == 0
    x.begin()
    x.tensor(place(2), (3,), F4)
    assert flags(desk, "x") == 0
    x.tensor(place(3), (3,), F4, exposed=True)
    assert flags(desk, "x") == EXPOSED


def test_what_is_said_twice_takes_no_room(desk: Desk) -> None:
    desk.entry("x").tensor(place(1), (3,), F4)
    before = bytes(desk.first.memory)
    desk.entry("x").tensor(place(1), (3,), F4)
    assert bytes(desk.first.memory) == before


def test_it_is_written_anew_when_it_is_full() -> None:
    desk = Desk(2048)
    for number in range(500):
        desk.entry("xyz"[number % 3]).tensor(place(number), (number,), F4)
    assert list(desk.pieces) == ["first"]
    blobs, whole = desk.read()
    assert whole
    assert {name: known.offset // 64 for name, known in blobs.items()} == {  # type: ignore[union-attr]
        "x": 498,
        "y": 499,
        "z": 497,
    }


def test_it_moves_when_there_is_too_much(desk: Desk) -> None:
    for number in range(300):
        desk.entry(f"b{number}").tensor(place(number), (number,), F4)
    assert 2 <= len(desk.pieces) <= 8
    blobs, whole = desk.read()
    assert whole
    assert len(blobs) == 300
    for number in range(300):
        desk.entry(f"b{number}").remove()
    assert desk.read() == ({}, True)


def test_flags_are_kept_when_it_is_written_anew(desk: Desk) -> None:
    desk.entry("x").tensor(place(1), (3,), F4)
    desk.entry("x").begin()
    for number in range(50):
        desk.entry("y").tensor(place(number), (number,), F4)
    assert flags(desk, "x") == WRITING
    desk.entry("x").end()
    assert flags(desk, "x") == 0


def test_when_there_is_no_room_nothing_has_changed() -> None:
    desk = Desk(most=0)
    count = 0
    while True:
        try:
            desk.entry(f"b{count}").tensor(place(count), (), F4)
        except OutOfSharedMemoryError:
            break
        count += 1
    assert count > 2
    before = desk.read()
    assert set(before.blobs) == {f"b{number}" for number in range(count)}
    # What is known may change, and blobs may go.
    desk.entry("b0").tensor(place(99), (), F4)
    for number in range(1, count):
        desk.entry(f"b{number}").remove()
    blobs, whole = desk.read()
    assert whole
    assert set(blobs) == {"b0"}
    desk.entry("new").tensor(place(1), (), F4)
    assert set(desk.read().blobs) == {"b0", "new"}


def test_threads_may_write_at_once() -> None:
    desk = Desk(4096)
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(200):
                entry = desk.entry(f"{thread}/{number % 5}")
                entry.tensor(place(number), (number,), F4)
                entry.begin()
                if number % 5 != 4:
                    entry.end()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    blobs, whole = desk.read()
    assert whole
    assert {name: (known.shape, known.flags) for name, known in blobs.items()} == {  # type: ignore[union-attr]
        f"{thread}/{which}": ((195 + which,), WRITING if which == 4 else 0)
        for thread in range(4)
        for which in range(5)
    }


# Objects.


def test_an_object_that_is_no_plain_data_is_lost(desk: Desk) -> None:
    desk.entry("x").object([1])
    desk.entry("x").object([threading.Lock()])
    known = desk.read().blobs["x"]
    assert isinstance(known, Torn)
    assert known.reason == "it held a lock, which lives and dies with its process"


def test_long_pickles_have_a_buffer_of_their_own(desk: Desk) -> None:
    entry, long = desk.entry("x"), b"." * (2 * INLINE)
    entry.object(long)
    known = desk.read().blobs["x"]
    assert isinstance(known, ObjectAt)
    assert pickle.loads(desk.pool.pieces[known.segment].memory[: known.nbytes]) == long
    entry.object(long + b"!")
    assert len(desk.pool.pieces) == 1
    entry.object("short")
    assert not desk.pool.pieces
    entry.object(long)
    entry.remove()
    assert not desk.pool.pieces


def test_an_object_for_which_there_is_no_memory_is_lost(desk: Desk) -> None:
    desk.pool.full = True
    desk.entry("x").object(b"." * (2 * INLINE))
    known = desk.read().blobs["x"]
    assert isinstance(known, Torn)
    assert "no shared memory" in known.reason


# The writer dies.

NAMES = ["a", "b", "c", "d"]
names = st.sampled_from(NAMES)
changes = st.one_of(
    st.tuples(st.just("tensor"), names, st.integers(0, 9)),
    st.tuples(st.just("object"), names, st.sampled_from([1, 40, 2 * INLINE])),
    st.tuples(st.just("torn"), names, st.integers(0, 9)),
    st.tuples(st.sampled_from(["remove", "begin", "end", "expose"]), names, st.just(0)),
)


def do(desk: Desk, change: tuple[str, str, int]) -> None:
    what, name, number = change
    entry = desk.entry(name)
    if what == "tensor":
        entry.tensor(place(number), (number,), F4)
    elif what == "object":
        entry.object("." * number)
    elif what == "torn":
        entry.torn(Torn(f"reason {number}"))
    else:
        getattr(entry, what)()


def expected(before: dict[str, Known], change: tuple[str, str, int], made: int) -> dict[str, Known]:
    """What the journal has to say after a change.

    Args:
        before: What it said before.
        change: As for `do`.
        made: How many buffers the pool has made.
    """
    what, name, number = change
    after, known = dict(before), before.get(name)
    if what == "tensor":
        after[name] = TensorAt(f"s{number}", 64 * number, 4096, (number,), "f")
    elif what == "object":
        data = plain_pickle("." * number)
        size = len(data)
        after[name] = ObjectIn(data) if size <= INLINE else ObjectAt(f"pool{made}", 0, size, size)
    elif what == "torn":
        after[name] = Torn(f"reason {number}")
    elif what == "remove":
        after.pop(name, None)
    elif known is not None:
        said = known.flags if isinstance(known, TensorAt) else None
        if said is not None:
            said = {"begin": said | WRITING, "end": said & ~WRITING, "expose": said | EXPOSED}[what]
            assert isinstance(known, TensorAt)
            after[name] = known._replace(flags=said)
    return after


class Deaths:
    """Looks at what there is to be read before each store, and in the middle of each."""

    def __init__(self, patch: pytest.MonkeyPatch, seed: int) -> None:
        self.random = random.Random(seed)
        self.look: Callable[[], None] = lambda: None
        self.count = 0
        area = module._Area
        write, store = area.write, area.store

        def written(area: Any, at: int, data: bytes) -> None:
            self.died()
            # Bytes arrive in any order.
            part = self.random.sample(range(len(data)), self.random.randrange(len(data)))
            for index in part:
                write(area, at + index, data[index : index + 1])
            self.died()
            write(area, at, data)
            self.died()

        def stored(area: Any, at: int, word: int) -> None:
            self.died()
            store(area, at, word)
            self.died()

        patch.setattr(area, "write", written)
        patch.setattr(area, "store", stored)

    def died(self) -> None:
        self.count += 1
        self.look()


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@SETTINGS
@given(
    st.lists(changes, max_size=50),
    st.integers(0, 1 << 32),
    st.sampled_from([1 << 20, 4096, 0]),
)
def test_a_death_leaves_what_was_or_what_is(
    wanted: list[tuple[str, str, int]], seed: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        deaths = Deaths(patch, seed)
        desk = Desk(1024, most)
        states: list[dict[str, Known]] = [{}]

        def look() -> None:
            blobs, whole = desk.read()
            assert whole
            assert blobs in states
            # There is no way back.
            del states[: states.index(blobs)]
            for known in blobs.values():
                if isinstance(known, ObjectAt):
                    # What it speaks of is there, and whole.
                    data = desk.pool.pieces[known.segment].memory[: known.nbytes]
                    pickle.loads(data)

        deaths.look = look
        for change in wanted:
            before = states[-1]
            long = change[0] == "object" and change[2] > INLINE
            states = [before, expected(before, change, desk.pool.made + long)]
            try:
                do(desk, change)
            except OutOfSharedMemoryError:
                assert change[0] != "remove"
                assert desk.read().blobs == before
                states = [before]
            else:
                assert desk.read().blobs == states[-1]
                del states[:-1]
        held = sum(isinstance(known, ObjectAt) for known in states[-1].values())
        assert len(desk.pool.pieces) == held


# Whatever the memory holds.


@SETTINGS
@given(st.binary(min_size=64, max_size=400), st.integers(0, 500), st.integers(0, 500))
def test_reading_never_raises(data: bytes, begin: int, end: int) -> None:
    data = struct.pack("<Q", begin << 32 | end) + data[8:]
    blobs, whole = replay(data, lambda name, size: data)
    assert not (whole and blobs)


@SETTINGS
@given(st.lists(changes, min_size=1, max_size=30), st.data())
def test_what_was_overwritten_is_noticed(
    wanted: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    desk = Desk(4096)
    for change in wanted:
        do(desk, change)
    before = desk.read().blobs
    head = struct.unpack_from("<Q", desk.first.memory)[0]
    begin, end = head >> 32, head & 0xFFFFFFFF
    if begin == end:
        return
    at = data.draw(st.integers(begin, end - 1))
    desk.first.memory[at] ^= 1 << data.draw(st.integers(0, 7))
    blobs, whole = desk.read()
    if whole:
        # The flags, and what fills up to the next word.
        for name in (*before, *blobs):
            one, other = before[name], blobs[name]
            if isinstance(one, TensorAt) and isinstance(other, TensorAt):
                one, other = one._replace(flags=0), other._replace(flags=0)
            assert one == other


def test_a_continuation_that_is_not_there() -> None:
    desk = Desk()
    for number in range(100):
        desk.entry(f"b{number}").tensor(place(number), (number,), F4)
    assert len(desk.pieces) > 1
    assert not replay(bytes(desk.first.memory), lambda name, size: None).whole
    # One that leads to itself.
    assert not replay(bytes(desk.first.memory), lambda name, size: desk.first.memory).whole


# Blobs.


def test_a_blob_tells_before_it_lets_go(coordinator: Any) -> None:
    """The record comes after the value is whole, and before the memory of the last one goes."""
    pool = coordinator.pool
    desk = Desk()
    journal = Journal(desk.first, desk.more, pool)
    blob = Blob(pool)
    freed: list[Any] = []
    free = pool.free

    def noted(buffer: Any) -> None:
        known = desk.read().blobs.get("x")
        if isinstance(known, (TensorAt, ObjectAt)):
            assert (known.segment, known.offset) != (buffer.segment.name, buffer.offset)
        freed.append(buffer)
        free(buffer)

    pool.free = noted

    def there() -> Any:
        known = desk.read().blobs["x"]
        assert isinstance(known, TensorAt)
        assert known.flags == 0
        memory = coordinator.segments[known.segment].memory
        return np.ndarray(known.shape, unpack_dtype(known.dtype), memory, known.offset)

    small, large = np.arange(10.0), np.arange(5000.0)
    blob.store(small)
    assert blob.buffer is None
    blob.attach(journal.entry("x"))
    np.testing.assert_array_equal(there(), small)
    np.testing.assert_array_equal(blob.value, small)
    for value in (small + 1, large, large + 1, small.reshape(2, 5), np.empty((0, 3)), np.array(5)):
        blob.store(value)
        np.testing.assert_array_equal(there(), value)
        np.testing.assert_array_equal(blob.value, value)
    before = len(freed)
    assert before >= 5
    # In place.
    target = blob.target((), np.dtype("i8"))
    assert blob.in_place(target)
    assert flags(desk, "x") == WRITING
    target[...] = 7
    blob.store(target)
    assert there() == 7
    blob.target((), np.dtype("i8"))
    blob.discard()
    assert flags(desk, "x") == 0
    # Elsewhere.
    target = blob.target((MINIMUM,), F4)
    assert not blob.in_place(target)
    assert flags(desk, "x") == 0
    target[...] = 1
    blob.store(target)
    assert (there() == 1).all()
    blob.expose()
    assert flags(desk, "x") == EXPOSED
    ticket, buffer = pool.reserve(4 * MINIMUM)
    blob.take(pool.claim(ticket), (MINIMUM,), F4)
    assert desk.read().blobs["x"][:2] == (buffer.segment.name, buffer.offset)
    pool.end_lease(ticket)
    blob.store(["object"])
    assert desk.read().blobs["x"] == ObjectIn(plain_pickle(["object"]))
    blob.store(threading.Lock())
    assert isinstance(desk.read().blobs["x"], Torn)
    blob.store(large)
    blob.close()
    assert desk.read() == ({}, True)


def test_a_blob_whose_record_has_no_room_keeps_its_value(coordinator: Any) -> None:
    pool = coordinator.pool
    desk = Desk(most=0)
    journal = Journal(desk.first, desk.more, pool)
    blob, name = Blob(pool), "n" * 120
    blob.store(np.arange(5000.0))
    blob.attach(journal.entry(name))
    before = desk.read()
    for value in ("o" * 150, np.zeros((1,) * 32)):
        with pytest.raises(OutOfSharedMemoryError):
            blob.store(value)
        assert desk.read() == before
        np.testing.assert_array_equal(blob.value, np.arange(5000.0))
    ticket, _ = pool.reserve(4 * MINIMUM)
    with pytest.raises(OutOfSharedMemoryError):
        blob.take(pool.claim(ticket), (1,) * 32, F4)
    pool.end_lease(ticket)
    blob.close()
    assert desk.read() == ({}, True)
    assert not pool._leases
    # All buffers are free: the pool can hand back everything.
    coordinator.take_back(pool.surplus(everything=True))
    assert coordinator.bytes == 0
