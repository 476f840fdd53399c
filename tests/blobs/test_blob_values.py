"""What a blob holds is what was stored: tensors of every kind, and anything else as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.blobs.houses import F4, LARGE, House, assert_same, numbers

from procession.blobs.blob import Blob, as_value, is_tensor
from procession.blobs.shared import MINIMUM

RECORD = np.dtype([("key", "S3"), ("value", ">f8"), ("pair", "i2", (2,))], align=True)
DTYPES = [
    "?",
    "u1",
    "i8",
    "f2",
    "f4",
    ">f4",
    ">i8",
    "c16",
    "g",
    "M8[ns]",
    ">m8[s]",
    "S5",
    "U3",
    "V7",
]
SHAPES = [(), (1,), (3, 5), (4096,), (70, 80), (1, 4100, 1), (2, 3, 4, 700)]


# Values.


@pytest.mark.parametrize(
    "dtype", [*DTYPES, RECORD], ids=lambda dtype: "record" if dtype is RECORD else dtype
)
@pytest.mark.parametrize("given", [False, True], ids=["copied", "given"])
def test_a_value_is_what_was_stored(house: House, dtype: Any, given: bool) -> None:
    for shape in SHAPES:
        blob = Blob(house.pool)
        value = np.zeros(shape, dtype)
        value.reshape(-1).view(np.uint8)[...] = np.arange(value.nbytes) % 3 % 2
        expected = value.copy()
        blob.store(value, given=given)
        assert_same(blob.value, expected)
        assert type(blob.value) is np.ndarray
        assert not blob.value.flags.writeable
        assert blob.value.flags.c_contiguous
        assert blob.value.flags.aligned
        assert (blob.buffer is not None) == (value.nbytes >= MINIMUM)
        if blob.buffer is not None:
            assert_same(house.fetch(blob), expected)
        blob.close()


@pytest.mark.parametrize("shape", [(7,), LARGE], ids=str)
def test_a_value_is_a_copy(blob: Blob, shape: Any) -> None:
    value = numbers(shape)
    blob.store(value)
    value[...] = 0
    assert_same(blob.value, numbers(shape))


@pytest.mark.parametrize("shape", [(5, 6), (60, 70)], ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["copied", "given"])
@pytest.mark.parametrize(
    "arrange",
    [
        np.asfortranarray,
        lambda a: a.T,
        lambda a: a[::-1],
        lambda a: a[:, ::-2],
        lambda a: np.broadcast_to(a, (3, *a.shape)),
        lambda a: a.reshape(1, *a.shape).swapaxes(0, 2),
        lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    ],
    ids=["fortran", "transposed", "reversed", "strided", "broadcast", "swapped", "unaligned"],
)
def test_whatever_lies_askew_is_straightened(
    blob: Blob, shape: Any, given: bool, arrange: Any
) -> None:
    value = arrange(numbers(shape))
    blob.store(value, given=given)
    assert_same(blob.value, np.ascontiguousarray(value))
    assert blob.value.flags.c_contiguous
    assert blob.value.flags.aligned
    target = blob.target(value.shape, F4)
    assert target.flags.writeable
    assert target.flags.c_contiguous


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2000)], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "S9", RECORD], ids=["f4", "S9", "record"])
def test_empty_values(blob: Blob, shape: Any, dtype: Any) -> None:
    blob.store(np.zeros(shape, dtype))
    assert_same(blob.value, np.zeros(shape, dtype))
    assert blob.buffer is None
    blob.store(blob.target(shape, np.dtype(dtype)))
    blob.store(blob.value)
    assert_same(blob.value, np.zeros(shape, dtype))


@pytest.mark.parametrize("shape", [(2, 3), (40, 50)], ids=str)
@pytest.mark.parametrize("given", [False, True], ids=["copied", "given"])
def test_subclasses_become_arrays(blob: Blob, shape: Any, given: bool, tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "values", F4, "w+", shape=shape)
    mapped[...] = numbers(shape)
    matrix = numbers(shape).view(np.matrix)
    # Copies own their memory, which is what could be kept of them.
    for value in (matrix, matrix.copy(), mapped, numbers(shape).view(np.recarray).copy()):
        blob.store(value, given=given)
        assert type(blob.value) is np.ndarray
        assert_same(blob.value, numbers(shape))
        target = blob.target(shape, F4)
        assert type(target) is np.ndarray


@pytest.mark.parametrize("shape", [(3,), (5000,)], ids=str)
def test_a_masked_array_is_an_object(blob: Blob, shape: Any) -> None:
    value = np.ma.MaskedArray(numbers(shape), mask=numbers(shape, int) % 2 == 0)
    assert not is_tensor(value)
    assert as_value(value) is value
    blob.store(value)
    assert blob.value is value
    assert blob.buffer is None


@pytest.mark.parametrize(
    "value",
    [None, "text", b"bytes", [1], np.array([[1], None], object), np.array([("a", {})], "O,O")],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_tensor_is_kept_as_it_is(blob: Blob, value: Any) -> None:
    blob.store(numbers(LARGE))
    blob.store(value)
    assert blob.value is value
    assert blob.buffer is None
    blob.store(numbers(LARGE))
    assert_same(blob.value, numbers(LARGE))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, np.asarray(True)),
        (3, np.asarray(3, np.int64)),
        (-(2**63), np.asarray(-(2**63), np.int64)),
        (0.5, np.asarray(0.5, np.float32)),
        (np.float64(0.5), np.asarray(0.5, np.float64)),
        (np.bool_(True), np.asarray(True)),
        (np.datetime64("2020-01-01"), np.asarray("2020-01-01", "M8[D]")),
        (np.array([[1, 2]]).view(np.matrix), np.array([[1, 2]])),
        (np.arange(3, dtype=">i2"), np.arange(3, dtype=">i2")),
    ],
    ids=repr,
)
def test_numbers_and_arrays_become_tensors(value: Any, expected: Any) -> None:
    tensor = as_value(value)
    assert type(tensor) is np.ndarray
    assert is_tensor(tensor)
    assert_same(tensor, expected)


@pytest.mark.parametrize("value", [None, "text", 2**63, 1j, [1.0], (1,), {}, object()], ids=repr)
def test_anything_else_is_itself(value: Any) -> None:
    assert as_value(value) is value
    assert not is_tensor(value)


def test_what_holds_objects_is_no_tensor() -> None:
    assert not is_tensor(np.array([None]))
    assert not is_tensor(np.array([(1, "a")], [("a", "i4"), ("b", "O")]))
    if hasattr(np.dtypes if hasattr(np, "dtypes") else np, "StringDType"):
        assert not is_tensor(np.array(["a"], np.dtypes.StringDType()))
