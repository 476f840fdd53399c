"""Functions, arguments and results as bytes, with large arrays beside; no process is started."""

from __future__ import annotations

import _thread
import gc
import pickle
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from procession.blobs.shared import MINIMUM
from procession.cluster import calls
from procession.cluster.calls import Packed, PackedFunction
from procession.cluster.serial import Report
from procession.errors import RemoteError, RemoteTraceback, SerializationError

LARGE = MINIMUM // 8
"""So many float64 are just large enough."""


class Memory:
    """Stands in for shared memory: one array per buffer, and which of them are garbage."""

    def __init__(self) -> None:
        self.ended: list[int] = []
        self.areas: list[np.ndarray] = []

    def windows(self, packed: Packed) -> Iterator[memoryview]:
        for buffer, size in zip(packed.buffers, packed.sizes, strict=True):
            number, offset = len(self.areas), 64
            area = bytearray(b"x" * (size + 2 * offset))
            self.areas.append(np.frombuffer(area, np.uint8))
            calls.write(buffer, area, offset)
            assert area[:offset] == area[-offset:] == b"x" * offset
            # There is more of it than was asked for.
            yield calls.window(area, offset, size + 5, lambda n=number: self.ended.append(n))

    def across(self, value: Any) -> Any:
        """The value, packed and unpacked."""
        packed = calls.pack(value, "it")
        return calls.unpack(packed.data, self.windows(packed), "it")

    def holds(self, array: np.ndarray) -> bool:
        return any(np.may_share_memory(array, area) for area in self.areas)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def same(one: np.ndarray, other: np.ndarray) -> bool:
    # What lies between the fields of a structure is nobody's.
    values = one.tolist(), other.tolist()
    return one.dtype == other.dtype and one.shape == other.shape and values[0] == values[1]


# Arrays.

STRUCTURED = np.dtype([("a", "<i4"), ("b", ">f8"), ("c", "S5")], align=True)

ARRAYS = {
    "plain": np.arange(2 * LARGE, dtype=np.float64),
    "three axes": np.arange(LARGE * 8, dtype=np.int16).reshape(4, LARGE, 2),
    "Fortran": np.asfortranarray(np.arange(4.0 * LARGE).reshape(4, LARGE)),
    "a slice with a step": np.arange(4.0 * LARGE)[::3],
    "backwards": np.arange(2.0 * LARGE)[::-1],
    "a window of a matrix": np.arange(16.0 * LARGE).reshape(16, LARGE)[3:9, 5:-5],
    "axes in another order": np.arange(6.0 * LARGE).reshape(2, 3, LARGE).transpose(1, 0, 2),
    "repeated without memory": np.broadcast_to(np.float32(3), (5, 2 * LARGE)),
    "big-endian": np.arange(LARGE, dtype=">f8"),
    "bool": np.arange(MINIMUM) % 3 == 0,
    "half": np.arange(MINIMUM, dtype=np.float16),
    "complex": np.arange(LARGE, dtype=np.complex64) * 1j,
    "dates": np.arange(LARGE).astype("datetime64[ms]"),
    "text": np.array(["abc", "de"] * LARGE),
    "bytes": np.array([b"abcd", b"de"] * LARGE),
    "structured": np.array([(1, 2.5, b"ab")] * LARGE, STRUCTURED),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_large_array_is_beside_the_pickle(memory: Memory, name: str) -> None:
    array = ARRAYS[name]
    packed = calls.pack(array, "it")
    assert packed.sizes == (array.nbytes,)
    assert len(packed.data) < 1000
    back = memory.across(array)
    assert same(back, array)
    assert memory.holds(back)
    assert back.flags.writeable
    assert back.flags.aligned


@pytest.mark.parametrize("name", ARRAYS)
def test_a_small_one_is_in_it(memory: Memory, name: str) -> None:
    array = ARRAYS[name].reshape(-1)[:20]
    assert calls.pack(array, "it").buffers == []
    back = memory.across(array)
    assert same(back, array)
    assert back.flags.writeable
    assert back.flags.owndata


@pytest.mark.parametrize("length", [LARGE - 1, LARGE, LARGE + 1])
def test_a_page_is_the_limit(length: int) -> None:
    assert len(calls.pack(np.zeros(length), "it").buffers) == (length >= LARGE)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1)])
@pytest.mark.parametrize("dtype", ["<f8", ">i2", "U3", "S0", "V6", STRUCTURED, "M8[D]", object])
def test_no_axes_no_elements(memory: Memory, shape: tuple[int, ...], dtype: Any) -> None:
    array = np.zeros(shape, dtype)
    back = memory.across(array)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    assert str(back.tolist()) == str(array.tolist())
    assert back.flags.writeable


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [2, LARGE])
def test_the_order_of_the_axes_in_memory_stays(memory: Memory, order: Any, rows: int) -> None:
    back = memory.across(np.ones((rows, 3), order=order))
    assert back.flags.f_contiguous == (order == "F")


@pytest.mark.parametrize("length", [3, LARGE])
@pytest.mark.parametrize("step", [1, 2])
def test_a_read_only_array_can_be_written_on_the_other_side(
    memory: Memory, length: int, step: int
) -> None:
    array = np.zeros(length * step)[::step]
    array.flags.writeable = False
    back = memory.across(array)
    back += 1
    assert back.sum() == length
    assert array.sum() == 0


def test_the_dtype_keeps_its_metadata_and_alignment(memory: Memory) -> None:
    told = np.dtype("f8", metadata={"unit": "m"})
    assert memory.across(np.zeros(LARGE, STRUCTURED)).dtype.isalignedstruct
    with_metadata = memory.across(np.zeros(LARGE, told)).dtype
    plainly = pickle.loads(pickle.dumps(told))
    assert with_metadata.metadata == plainly.metadata


class Sub(np.ndarray):
    pass


@pytest.mark.parametrize("length", [3, 9 * LARGE])
def test_arrays_that_are_more_than_bytes_go_by_their_own_pickle(
    memory: Memory, length: int
) -> None:
    objects = np.array([{"a": number} for number in range(length)], object)
    sub = np.arange(length).view(Sub)
    masked = np.ma.masked_array(np.arange(length), np.arange(length) % 2)
    back = memory.across([objects, sub, masked])
    assert back[0].tolist() == objects.tolist()
    assert type(back[1]) is Sub
    assert same(back[1], sub)
    assert type(back[2]) is np.ma.MaskedArray
    assert (back[2].mask == masked.mask).all()
    assert back[2].sum() == masked.sum()


def test_an_array_with_itself_in_it(memory: Memory) -> None:
    array = np.empty(1, object)
    array[0] = array
    back = memory.across(array)
    assert back[0] is back


def test_one_array_stays_one(memory: Memory) -> None:
    array = np.arange(2.0 * LARGE)
    packed = calls.pack([array, {"again": array}, array[:LARGE]], "it")
    assert packed.sizes == (array.nbytes, array.nbytes // 2)
    one, again, part = calls.unpack(packed.data, memory.windows(packed), "it")
    assert again["again"] is one
    # As for any pickle, what shared memory does so no longer.
    one[:] = 0
    assert same(part, array[:LARGE])


class Table:
    """Gives its memory away as pandas does: arrays within a state."""

    def __init__(self, *columns: np.ndarray) -> None:
        self.columns = columns


class Offering:
    """Gives its memory away as pyarrow does."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: int) -> Any:
        return Offering, (pickle.PickleBuffer(self.memory),)


def test_arrays_within_objects(memory: Memory) -> None:
    columns = [np.arange(LARGE * 2.0), np.ones((LARGE, 2), order="F"), np.arange(3)]
    back = memory.across({"table": Table(*columns)})["table"]
    assert all(map(same, back.columns, columns))
    assert [memory.holds(column) for column in back.columns] == [True, True, False]


def test_memory_that_others_offer(memory: Memory) -> None:
    large, small, fixed = bytearray(range(256)) * 32, bytearray(b"abc"), bytes(MINIMUM)
    packed = calls.pack([Offering(large), Offering(small), Offering(fixed)], "it")
    assert packed.sizes == (len(large), MINIMUM)
    back = calls.unpack(packed.data, memory.windows(packed), "it")
    assert [bytes(each.memory) for each in back] == [large, small, fixed]
    # What it offered as read-only it gets back so.
    assert [memoryview(each.memory).readonly for each in back] == [False, False, True]


def test_others_memory_beside_a_large_pickle(memory: Memory) -> None:
    value = [b"x" * calls.LARGE_PICKLE, Offering(bytearray(MINIMUM)), np.ones(LARGE)]
    back = memory.across(value)
    assert back[0] == value[0]
    assert bytes(back[1].memory) == bytes(MINIMUM)
    assert same(back[2], value[2])


def test_a_large_pickle_is_put_beside_as_well(memory: Memory) -> None:
    value = [b"x" * calls.LARGE_PICKLE, np.arange(LARGE)]
    packed = calls.pack(value, "it")
    assert packed.data == b""
    assert len(packed.buffers) == 2
    back = calls.unpack(packed.data, memory.windows(packed), "it")
    assert back[0] == value[0]
    assert same(back[1], value[1])
    del back
    assert sorted(memory.ended) == [0, 1]


def test_the_bytes_are_those_of_when_they_are_written(memory: Memory) -> None:
    array = np.zeros(LARGE)
    packed = calls.pack(array, "it")
    array[:] = 1
    assert calls.unpack(packed.data, memory.windows(packed), "it").sum() == LARGE


# Who holds what.


def test_memory_ends_with_the_last_array_over_it(memory: Memory) -> None:
    one, two = memory.across([np.zeros(LARGE), np.zeros((2, LARGE))])
    view = memoryview(two[1:, ::2])
    del two
    assert memory.ended == []
    del one
    assert memory.ended == [0]
    del view
    assert memory.ended == [0, 1]


def test_nothing_of_a_value_is_held_once_it_is_written(memory: Memory) -> None:
    array = np.zeros(LARGE)
    gone = weakref.ref(array)
    packed = calls.pack([array], "it")
    del array
    assert gone() is not None
    back = calls.unpack(packed.data, memory.windows(packed), "it")
    del packed
    assert gone() is None
    del back


# What cannot travel.


def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"^argument 2 of work cannot be pickled: Type"):
        calls.pack_arguments("work", [1, [lock], 3], {})
    with pytest.raises(SerializationError, match=r"argument 'key' of work cannot") as caught:
        calls.pack_arguments("work", [1], {"fine": 1, "key": lock})
    assert caught.value.what == "argument 'key' of work"
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_function_that_cannot_be_pickled_says_why() -> None:
    lock = threading.Lock()

    def work() -> None:
        lock.acquire()

    with pytest.raises(SerializationError, match=r"the function .*work, for its variable 'lock' ="):
        _ = PackedFunction(work).data


def fail(*_: object) -> Any:
    raise ValueError("not here")


class Unwelcome:
    def __reduce__(self) -> Any:
        return fail, ()


def test_what_cannot_be_unpickled_is_told(memory: Memory) -> None:
    with pytest.raises(SerializationError, match=r"^it cannot be unpickled here: ValueError: not"):
        memory.across([np.zeros(LARGE), Unwelcome()])
    gc.collect()
    assert memory.ended == [0]


# Functions.


def called(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call it as a worker does; the result as the coordinator gets it."""
    memory = Memory()
    packed = calls.pack_arguments(calls.name_of(function), args, kwargs)
    data = PackedFunction.of(function).data
    try:
        answer = calls.call(data, packed.data, memory.windows(packed))
    except BaseException as error:
        failure = calls.raised(Report._make(tuple(Report.of(error))))
    else:
        return calls.unpack(answer.data, memory.windows(answer), "the result")
    raise failure


def test_a_call() -> None:
    assert called(divmod, 17, 5) == (3, 2)
    assert called(lambda *args, **kwargs: (args, kwargs), 1, self=2, function=3, data=4) == (
        (1,),
        {"self": 2, "function": 3, "data": 4},
    )


def test_a_call_with_large_arrays() -> None:
    def swapped(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
        one *= 2
        return [other, one]

    array = np.arange(2.0 * LARGE)
    other, doubled = called(swapped, array, other=np.ones((3, LARGE), np.float32))
    assert same(doubled, np.arange(2.0 * LARGE) * 2)
    assert same(other, np.ones((3, LARGE), np.float32))
    assert array[1] == 1
    doubled[0] = 5


def test_a_function_may_keep_an_argument() -> None:
    kept = []
    memory = Memory()
    packed = calls.pack_arguments("keep", [np.ones(LARGE), np.zeros(LARGE)], {})
    keep = PackedFunction(_Keeping.of(kept))
    calls.call(keep.data, packed.data, memory.windows(packed))
    assert memory.ended == [1]
    assert kept.pop().sum() == LARGE
    assert memory.ended == [1, 0]


class _Keeping:
    """Its pickle is a way to find it again in this process."""

    known: dict[int, list[np.ndarray]] = {}  # noqa: RUF012 - that is what it is for

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def of(cls, kept: list[np.ndarray]) -> _Keeping:
        cls.known[id(kept)] = kept
        return cls(id(kept))

    def __call__(self, first: np.ndarray, second: np.ndarray) -> None:
        self.known[self.number].append(first)


def test_each_call_begins_with_the_state_that_the_function_left_with() -> None:
    seen = [0]

    def count() -> int:
        seen[0] += 1
        return seen[0]

    packed, nothing = PackedFunction(count), calls.pack_arguments("count", (), {})
    for _ in range(2):
        answer = calls.call(packed.data, nothing.data, ())
        assert calls.unpack(answer.data, (), "it") == 1
    assert seen == [0]


def test_a_function_is_pickled_once() -> None:
    times = []

    class Function:
        def __reduce__(self) -> Any:
            times.append(self)
            return list, ()

        def __call__(self, x: int) -> int:
            return x + 1

    packed = PackedFunction.of(Function())
    assert PackedFunction.of(packed) is packed
    assert packed(1) == 2
    assert times == []
    assert packed.data == packed.data
    assert len(times) == 1


class SpecialError(Exception):
    def __init__(self, number: int, *, word: str) -> None:
        super().__init__(number)
        self.word = word

    def __reduce__(self) -> Any:
        return _special, (self.args[0], self.word)


def _special(number: int, word: str) -> SpecialError:
    return SpecialError(number, word=word)


def outer() -> None:
    try:
        fail()
    except ValueError as error:
        raise SpecialError(3, word="sorry") from error  # a word about it


def test_an_exception_comes_back_with_its_traceback() -> None:
    with pytest.raises(SpecialError) as caught:
        called(outer)
    assert (caught.value.args, caught.value.word) == ((3,), "sorry")
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "# a word about it" in str(cause)
    assert "ValueError: not here" in str(cause)
    assert "in fail" in str(cause)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, SerializationError])
def test_any_exception_does(kind: type[BaseException]) -> None:
    def stop() -> None:
        raise kind("enough")

    with pytest.raises(kind, match="enough") as caught:
        called(stop)
    assert isinstance(caught.value.__cause__, RemoteTraceback)


def test_an_exception_that_cannot_travel_comes_as_its_text() -> None:
    def stop() -> None:
        raise ValueError(threading.Lock())

    with pytest.raises(RemoteError, match="ValueError: <unlocked"):
        called(stop)


def test_a_result_that_cannot_be_pickled_is_told() -> None:
    with pytest.raises(
        SerializationError, match=r"^the result of allocate_lock cannot be pickled: Type"
    ):
        called(_thread.allocate_lock)


def test_arguments_that_cannot_be_unpickled_are_told() -> None:
    with pytest.raises(SerializationError, match=r"what abs is called with cannot be unpickled"):
        called(abs, Unwelcome())
