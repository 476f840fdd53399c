from __future__ import annotations

import copy
import mmap
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from procession.blobs import snapshot

RECORD = np.dtype([("key", "S3"), ("value", ">f8"), ("pair", "i2", (2,))], align=True)
DTYPES = ["u1", "?", "f2", "f4", ">f8", "c16", "M8[us]", "m8[s]", "S5", "U3", "V7", RECORD]
SHAPES = [(1,), (6,), (), (2, 3), (1, 2, 1, 3), (4096,), (300, 20)]


def filled(shape: tuple[int, ...], dtype: Any) -> Any:
    array = np.zeros(shape, dtype)
    array[...] = {"S": b"abc", "U": "äb", "V": np.zeros((), dtype)}.get(array.dtype.kind, 1)
    return array


def over_memory(array: Any) -> Any:
    memory = mmap.mmap(-1, 64 + array.nbytes)
    np.ndarray(array.shape, array.dtype, buffer=memory, offset=64)[...] = array
    return snapshot.over(memory, 64, array.shape, array.dtype)[0]


def over_heap(array: Any) -> Any:
    memory = np.frombuffer(bytearray(array.tobytes()), np.uint8)
    return snapshot.over(memory, 0, array.shape, array.dtype)[0]


def of_bytes(array: Any) -> Any:
    return snapshot.of_bytes(array.tobytes(), array.shape, array.dtype)


MAKERS = [over_memory, over_heap, of_bytes, snapshot.of_copy]

make_each = pytest.mark.parametrize("make", MAKERS)


@make_each
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: "record" if dtype is RECORD else dtype)
def test_a_snapshot_has_shape_dtype_and_values(make: Any, shape: Any, dtype: Any) -> None:
    array = filled(shape, dtype)
    taken = make(array)
    assert type(taken) is np.ndarray
    assert (taken.shape, taken.dtype) == (array.shape, array.dtype)
    assert taken.flags.c_contiguous
    assert taken.tobytes() == array.tobytes()
    np.testing.assert_array_equal(taken, array)


@pytest.mark.parametrize("make", [of_bytes, snapshot.of_copy])
@pytest.mark.parametrize(
    "dtype", [*DTYPES, "V0"], ids=lambda dtype: "record" if dtype is RECORD else dtype
)
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)], ids=str)
def test_empty_snapshots(make: Any, shape: Any, dtype: Any) -> None:
    taken = make(np.zeros(shape, dtype))
    assert (taken.shape, taken.dtype) == (shape, np.dtype(dtype))
    assert not taken.flags.writeable


def test_a_copy_is_a_copy_whatever_the_order() -> None:
    for array in (
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(20)[::-3],
        np.broadcast_to(np.float32(2), (4, 5)),
        np.arange(6).reshape(2, 3).T.view(np.matrix),
    ):
        before = array.copy()
        taken = snapshot.of_copy(array)
        if array.flags.writeable:
            array[...] = 0
        np.testing.assert_array_equal(taken, before)
        assert type(taken) is np.ndarray
        assert taken.flags.c_contiguous


def test_a_copy_of_objects_holds_the_same_objects() -> None:
    things = np.array([[1], "two", None, {3}], dtype=object)
    taken = snapshot.of_copy(things)
    assert all(a is b for a, b in zip(taken, things, strict=True))
    things[0] = 0
    assert taken[0] == [1]
    with pytest.raises(ValueError, match="read-only"):
        taken[0] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        taken.flags.writeable = True


def test_a_copy_of_a_masked_array_keeps_its_mask() -> None:
    array = np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[False, True, False], fill_value=7)
    taken = snapshot.of_copy(array)
    array.mask = np.ma.nomask
    assert taken.mask.tolist() == [False, True, False]
    assert taken.fill_value == 7
    with pytest.raises(ValueError, match="read-only"):
        taken[0] = 0


# Nobody writes.


def derived(array: Any) -> Iterator[Any]:
    """All that can be made of an array without a copy, as far as one thinks of it."""
    yield array
    base = array
    while isinstance(base, np.ndarray):
        yield base
        base = base.base
    yield array[...]
    yield array[None]
    yield array.view()
    yield array.view(np.matrix) if array.ndim == 2 else array.view(np.recarray)
    yield array.reshape(-1)
    yield array.reshape(-1)[::-1]
    yield array.T
    yield array.ravel()
    yield np.asarray(array)
    yield np.ascontiguousarray(array)
    yield np.squeeze(array)
    yield np.broadcast_to(array, (2, *array.shape))
    yield np.require(array, requirements="A")
    yield as_strided(array, (1,), (0,))
    yield np.frombuffer(array, np.uint8)
    yield np.asarray(memoryview(array.reshape(-1).view(np.uint8)))
    yield array.reshape(-1).view(np.uint8)[1:]
    yield np.ndarray(array.shape, array.dtype, buffer=array)
    if array.ndim:
        yield array[:1]
        yield np.asarray(next(iter(array[None])))
    if isinstance(base, (memoryview, bytes)):
        yield np.asarray(memoryview(base))
        yield np.frombuffer(base, np.uint8)


def memoryviews(array: Any) -> Iterator[memoryview]:
    plain = array.reshape(-1).view(np.uint8)
    yield memoryview(plain)
    yield memoryview(plain)[1:]
    yield memoryview(plain).cast("b")
    yield plain.data
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    yield memoryview(base)


@make_each
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_snapshot_cannot_be_made_writable(make: Any, shape: Any) -> None:
    taken = make(filled(shape, "f4"))
    before = taken.tobytes()
    for array in derived(taken):
        assert np.shares_memory(array, taken)
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="read-only"):
            np.copyto(array, 0)
    for view in memoryviews(taken):
        assert view.readonly
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 0
    for write in (
        lambda: taken.fill(0),
        lambda: np.add(taken, 1, out=taken),
        lambda: taken.__iadd__(1),
        lambda: taken.reshape(-1).sort(),
        lambda: taken.byteswap(inplace=True),
        lambda: taken.flat.__setitem__(0, 0),
    ):
        with pytest.raises(ValueError, match=r"read-only|array is not writeable"):
            write()
    assert taken.tobytes() == before


@make_each
def test_copies_are_the_user_s_own(make: Any) -> None:
    taken = make(filled((40, 50), "f8"))
    before = taken.tobytes()
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        mine = pickle.loads(pickle.dumps(taken, protocol))
        np.testing.assert_array_equal(mine, taken)
        assert not np.shares_memory(mine, taken)
        # Since protocol 5, what was read-only comes back read-only, over bytes.
        if mine.flags.writeable:
            mine[...] = 0
    for mine in (taken.copy(), np.array(taken), copy.copy(taken), copy.deepcopy(taken)):
        mine[...] = 0
    assert taken.tobytes() == before


@make_each
def test_pickled_without_a_copy_it_stays_read_only(make: Any) -> None:
    taken = make(filled((40, 50), "f8"))
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(taken, 5, buffer_callback=buffers.append)
    same = pickle.loads(text, buffers=buffers)
    assert np.shares_memory(same, taken)
    with pytest.raises(ValueError, match="WRITEABLE"):
        same.flags.writeable = True


# The holder.

DERIVE: dict[str, Callable[[Any], Any]] = {
    "the snapshot": lambda array: array,
    "slice": lambda array: array[1:2],
    "slice of a slice": lambda array: array[1:][::2][:1],
    "one row": lambda array: array[1],
    "base": lambda array: array.base,
    "last base": lambda array: array.base.base,
    "transposed": lambda array: array.T,
    "other dtype": lambda array: array.view("u1"),
    "reshaped": lambda array: array.reshape(2, -1),
    "asarray": np.asarray,
    "broadcast": lambda array: np.broadcast_to(array, (3, *array.shape)),
    "strided": lambda array: as_strided(array, (1,), (0,)),
    "memoryview": memoryview,
    "data": lambda array: array.data,
    "part of a memoryview": lambda array: memoryview(array)[1:],
    "cast of a memoryview": lambda array: memoryview(array).cast("B"),
    "array of a memoryview": lambda array: np.asarray(memoryview(array)),
    "from buffer": lambda array: np.frombuffer(array, "u1"),
    "ndarray": lambda array: np.ndarray((2,), "f4", buffer=array),
    "pickle buffer": pickle.PickleBuffer,
    "flat": lambda array: array.flat,
    "iterator": iter,
    "nditer": lambda array: np.nditer(array),
    "kept in an object": lambda array: {"a": [array[0]]},
    "matrix": lambda array: array.view(np.matrix),
    "holding a closure": lambda array: lambda: array,
}


@pytest.mark.parametrize("derive", DERIVE.values(), ids=DERIVE)
@pytest.mark.parametrize("shape", [(4, 6), (100, 100)], ids=str)
def test_the_holder_lives_as_long_as_the_last_thing_made_of_it(derive: Any, shape: Any) -> None:
    memory = mmap.mmap(-1, 1 << 16)
    array, holder = snapshot.over(memory, 128, shape, "f4")
    seen = weakref.ref(holder)
    del holder
    assert seen() is not None
    thing = derive(array)
    del array
    assert seen() is not None
    del thing
    assert seen() is None


def test_what_was_copied_does_not_hold() -> None:
    memory = mmap.mmap(-1, 1 << 16)
    array, holder = snapshot.over(memory, 0, (64, 64), "f4")
    seen = weakref.ref(holder)
    del holder
    kept = [array + 1, array[array == 0], array.tolist(), pickle.dumps(array), array.sum(axis=0)]
    kept.append(array[0, 0])
    del array
    assert seen() is None
    assert kept


def test_each_snapshot_has_a_holder_of_its_own() -> None:
    memory = mmap.mmap(-1, 4096)
    array, holder = snapshot.over(memory, 0, (8,), "f4")
    other, second = snapshot.over(memory, 0, (8,), "f4")
    first, second = weakref.ref(holder), weakref.ref(second)
    del holder, array
    assert first() is None
    assert second() is not None
    del other
    assert second() is None


def test_a_snapshot_is_no_copy() -> None:
    memory = mmap.mmap(-1, 8192)
    inside = np.ndarray((1024,), "f4", buffer=memory, offset=4096)
    array, _ = snapshot.over(memory, 4096, (1024,), "f4")
    assert np.shares_memory(inside, array)
    inside[0] = 5
    assert array[0] == 5
