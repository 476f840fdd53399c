import numpy as np
import pytest

from procession.operators.datatype import DataType, numpy_dtype


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (1, "f4"), (2, "i4"), (3, "u1"), (4, "O"), (5, "?"), (6, "u1"), (7, "i1"), (8, "u2"),
        (9, "i2"), (10, "i8"), (12, "f2"), (13, "f8"),
    ],
)  # fmt: skip
def test_numbers_and_names(number, dtype):
    assert numpy_dtype(number) == np.dtype(dtype)
    assert numpy_dtype(np.int64(number)) == np.dtype(dtype)
    assert numpy_dtype(DataType(number)) == np.dtype(dtype)
    assert numpy_dtype(DataType(number).name) == np.dtype(dtype)
    assert numpy_dtype(DataType(number).name.lower()) == np.dtype(dtype)


def test_names_may_be_bytes():
    assert numpy_dtype(b"int32") == np.int32


def test_every_number_is_covered():
    none = {DataType.UNDEFINED, DataType.ZERO_COLLISION_HASH}
    assert [numpy_dtype(each).kind for each in DataType if each not in none]
    assert len(DataType) == 14


@pytest.mark.parametrize("value", [DataType.UNDEFINED, "ZERO_COLLISION_HASH"])
def test_some_have_no_type(value):
    with pytest.raises(ValueError, match="of a data type"):
        numpy_dtype(value)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.float32, "f4"),
        (float, "f8"),
        ("f8", "f8"),
        ("<i4", "i4"),
        (np.dtype("u4"), "u4"),
        (str, "O"),
        (bytes, "O"),
        ("U5", "O"),
    ],
)
def test_what_numpy_knows(value, dtype):
    assert numpy_dtype(value) == np.dtype(dtype)


@pytest.mark.parametrize("number", [0, 11, 14, -1])
def test_no_such_number(number):
    with pytest.raises(ValueError, match=rf"{number} is not the number of a data type: 1 \(FLOAT"):
        numpy_dtype(number)


def test_no_such_name():
    with pytest.raises(ValueError, match="'flaot' is not the name of a data type"):
        numpy_dtype("flaot")


@pytest.mark.parametrize("value", [None, True, 1.0, [1, 2]])
def test_not_a_type_at_all(value):
    with pytest.raises(TypeError, match="does not name a data type"):
        numpy_dtype(value)
