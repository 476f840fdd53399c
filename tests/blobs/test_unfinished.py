"""What a user fills in place becomes a value without a copy, if nothing else can write to it."""

from __future__ import annotations

import contextlib
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.blobs.houses import F4, LARGE, Heap, House, address, assert_same, numbers
from tests.blobs.test_snapshot import derived

from procession.blobs.blob import Blob
from procession.blobs.shared import MINIMUM
from procession.blobs.unfinished import Unfinished, description
from procession.errors import DataTypeError


def begin(shape: Any = LARGE, dtype: Any = F4) -> Unfinished:
    memory = bytearray(64 + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return Unfinished(memory, 64, shape, np.dtype(dtype))


# What may be filled.


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        (3, "f4", ((3,), F4, 12)),
        ((2, 3), np.int64, ((2, 3), np.dtype("i8"), 48)),
        ([2, np.int32(5)], float, ((2, 5), np.dtype("f8"), 80)),
        ((), "S7", ((), np.dtype("S7"), 7)),
        ((4, 0), ">f4", ((4, 0), np.dtype(">f4"), 0)),
        (np.int64(2), [("a", "i1"), ("b", "f8")], ((2,), np.dtype("i1, f8").newbyteorder("="), 18)),
        (2, ("f4", (3,)), ((2, 3), F4, 24)),
        ((1 << 40, 1 << 40), "u1", ((1 << 40, 1 << 40), np.dtype("u1"), 1 << 80)),
    ],
    ids=str,
)
def test_what_is_to_be_filled(shape: Any, dtype: Any, expected: Any) -> None:
    lengths, found, nbytes = description(shape, dtype)
    assert (lengths, found.itemsize, nbytes) == (expected[0], expected[1].itemsize, expected[2])
    assert found.kind == expected[1].kind
    assert all(type(length) is int for length in lengths)


def test_objects_cannot_be_filled() -> None:
    for dtype in (object, [("a", "O")]):
        with pytest.raises(DataTypeError, match="feed_blob"):
            description(3, dtype)


def test_what_is_no_shape() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        description((3, -1), F4)
    assert description(np.array([2, 3]), F4)[0] == (2, 3)
    for shape in (2.0, (1, 2.5), None):
        with pytest.raises(TypeError):
            description(shape, F4)


# The array.


@pytest.mark.parametrize("dtype", ["u1", "f4", ">i8", "M8[us]", "S5", "U2", "V3", "i1, f8"])
@pytest.mark.parametrize("shape", [(), (6,), (2, 3, 4)], ids=str)
def test_the_array_lies_in_the_memory(shape: Any, dtype: Any) -> None:
    dtype = np.dtype(dtype)
    memory = bytearray(500)
    draft = Unfinished(memory, 16, shape, dtype)
    assert type(draft.array) is np.ndarray
    assert (draft.array.shape, draft.array.dtype) == (shape, dtype)
    assert draft.array.flags.c_contiguous
    value = np.frombuffer(bytes(range(49, 49 + 96)) * 5, dtype, int(np.prod(shape))).reshape(shape)
    draft.array[...] = value
    assert memory[16 : 16 + value.nbytes] == draft.array.tobytes()
    assert not any(memory[:16])
    assert draft.finish()


def fill(array: Any) -> None:
    array[...] = 1
    part = array[1:]
    part += 1
    np.add(array, 1, out=array)
    array.reshape(-1).sort()
    np.frombuffer(array, "u1")[:4] = 0
    with memoryview(array) as view:
        view[0, 0] = 3.0


def test_afterwards_it_is_a_snapshot() -> None:
    draft = begin()
    array = draft.array
    fill(array)
    assert draft.finish()
    before = array.tobytes()
    for view in derived(array):
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            view[...] = 0
    base = array
    while isinstance(base, np.ndarray):
        assert not base.flags.writeable
        base = base.base
    with pytest.raises(TypeError):
        memoryview(base)
    assert not np.shares_memory(np.asarray(base), array)
    assert array.tobytes() == before


def test_small_and_empty_ones_are_to_be_copied() -> None:
    for shape in ((), (3,), (0, 4)):
        draft = Unfinished(None, 0, shape, F4)
        draft.array[...] = 1
        assert not draft.finish()
        assert_same(draft.array, np.ones(shape, F4))
        assert not draft.array.flags.writeable


# Who else can write.

KEEP: dict[str, Callable[[Any], Any]] = {
    "slice": lambda array: array[1:],
    "empty slice": lambda array: array[:0],
    "transposed": lambda array: array.T,
    "flat": lambda array: array.flat,
    "row": lambda array: array[0],
    "other dtype": lambda array: array.view("u1"),
    "subclass": lambda array: array.view(np.matrix),
    "base": lambda array: array.base,
    "last base": lambda array: array.base.base,
    "memoryview": memoryview,
    "part of a memoryview": lambda array: memoryview(array)[1:],
    "data": lambda array: array.data,
    "array of a memoryview": lambda array: np.asarray(memoryview(array)),
    "array of a buffer": lambda array: np.ndarray((2,), "f4", buffer=array),
    "from buffer": lambda array: np.frombuffer(array, "u1"),
    "ctypes": lambda array: array.ctypes,
    "iterator": iter,
    "nditer": lambda array: np.nditer(array, op_flags=[["readwrite"]]),
    "list": lambda array: [array],
    "attribute": lambda array: types.SimpleNamespace(weights=array),
    "closure": lambda array: lambda: array,
    "default": lambda array: lambda value=array: value,
    "partial": lambda array: array.fill,
}


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_what_may_write_is_noticed(keep: Any) -> None:
    draft = begin()
    array = draft.array
    kept = keep(array)
    assert not draft.finish()
    assert kept is not None
    assert not array.flags.writeable


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_what_may_write_is_noticed_where_it_takes_the_name(keep: Any) -> None:
    draft = begin()
    array = draft.array
    array = keep(array)
    assert not draft.finish()
    assert array is not None


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_what_is_gone_does_no_harm(keep: Any) -> None:
    draft = begin()
    array = draft.array
    kept = keep(array)
    del kept
    assert draft.finish()
    assert not array.flags.writeable


def test_what_another_thread_looks_at() -> None:
    draft = begin()
    looking, over = threading.Event(), threading.Event()

    def look(array: Any) -> None:
        looking.set()
        over.wait(30)
        assert array is not None

    # The thread keeps its arguments only until it has begun.
    thread = threading.Thread(target=look, args=(draft.array,))
    thread.start()
    assert looking.wait(30)
    assert not draft.finish()
    over.set()
    thread.join(30)


# Names that it has.


@contextlib.contextmanager
def block(draft: Unfinished, found: list[bool]) -> Iterator[Any]:
    array = draft.array
    yield array
    found.append(draft.finish())
    draft.release()


class Block:
    def __init__(self, draft: Unfinished, found: list[bool]) -> None:
        self.draft = draft
        self.found = found

    def __enter__(self) -> Any:
        return self.draft.array

    def __exit__(self, *_: object) -> None:
        self.found.append(self.draft.finish())
        self.draft.release()


MANAGERS = pytest.mark.parametrize("manager", [block, Block], ids=["generator", "class"])


@MANAGERS
def test_the_name_of_a_block(manager: Any) -> None:
    found: list[bool] = []
    with manager(begin(), found) as array:
        fill(array)
    assert found == [True]
    assert not array.flags.writeable


@MANAGERS
def test_several_names(manager: Any) -> None:
    found: list[bool] = []

    def inner(given: Any) -> None:
        with contextlib.ExitStack() as stack:
            mine = other = stack.enter_context(given)
            fill(mine)
        assert mine is other

    inner(manager(begin(), found))
    with manager(begin(), found):
        pass
    with manager(begin(), found) as seen:

        def use() -> Any:
            return seen

        fill(use())
    assert found == [True, True, True]


@MANAGERS
def test_a_name_of_a_module(manager: Any) -> None:
    found: list[bool] = []
    names = {"manager": manager, "begin": begin, "found": found, "fill": fill}
    exec("with manager(begin(), found) as array:\n    fill(array)\n", names)
    exec("with manager(begin(), found) as array:\n    array = array[1:]\n", names)
    body = "class Body:\n    with manager(begin(), found) as array:\n        fill(array)\n"
    exec(body, names)
    assert found == [True, False, True]


@MANAGERS
def test_a_name_in_a_generator(manager: Any) -> None:
    found: list[bool] = []

    def steps() -> Iterator[int]:
        with manager(begin(), found) as array:
            for step in range(3):
                array[step] = step
                yield step

    assert list(steps()) == [0, 1, 2]
    assert found == [True]


def test_looking_for_names_keeps_nothing_alive() -> None:
    class Something:
        pass

    something = Something()
    seen = weakref.ref(something)
    array = begin().array
    draft = begin()
    array = draft.array
    assert draft.finish()
    del something
    assert seen() is None
    assert array is not None


def test_what_somebody_made_of_the_names_stays() -> None:
    draft = begin()
    names = locals()
    draft.finish()
    assert names["draft"] is draft


# As a blob's value.


def put(blob: Blob, draft: Unfinished) -> None:
    if draft.finish():
        blob.take(draft.buffer, draft.array.shape, draft.array.dtype)
    else:
        blob.store(draft.array)
    draft.release()


def test_a_blob_takes_it(house: House, blob: Blob) -> None:
    for shape in (LARGE, (3,), (), (0, 2), (5000,), LARGE):
        draft = house.pool.draft(shape, F4)
        array = draft.array
        array[...] = numbers(shape)
        put(blob, draft)
        assert_same(blob.value, numbers(shape))
        assert_same(array, numbers(shape))
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        large = array.nbytes >= MINIMUM
        assert (blob.buffer is not None) == large
        # Only in this process's own memory it is known who looks at it.
        assert np.shares_memory(array, blob.value) == (large and isinstance(house, Heap))


def test_what_it_was_filled_as_never_changes(house: House, blob: Blob) -> None:
    draft = house.pool.draft(LARGE, F4)
    array = draft.array
    array[...] = numbers(LARGE)
    part = array[:2]
    del array
    put(blob, draft)
    part[...] = 0
    assert_same(blob.value, numbers(LARGE))
    target = blob.target(LARGE, F4)
    target[...] = 5
    blob.store(target)
    assert (part == 0).all()


def test_the_next_value_goes_elsewhere_while_it_is_held() -> None:
    house = Heap()
    blob = Blob(house.pool)
    draft = house.pool.draft(LARGE, F4)
    array = draft.array
    array[...] = 1
    put(blob, draft)
    blob.store(np.zeros(LARGE, F4))
    assert (array == 1).all()
    where = address(blob.value)
    del array
    blob.store(np.ones(LARGE, F4))
    assert address(blob.value) == where


def test_one_that_is_not_finished_changes_nothing(house: House, blob: Blob) -> None:
    blob.store(numbers(LARGE))
    draft = house.pool.draft(LARGE, F4)
    draft.array[...] = 0
    draft.release()
    assert_same(blob.value, numbers(LARGE))


def test_the_memory_is_let_go_of_with_the_last_view() -> None:
    draft = begin()
    seen = weakref.ref(draft.holder)
    draft.finish()
    part = draft.array[2:]
    draft.release()
    assert seen() is not None
    del part
    assert seen() is None
