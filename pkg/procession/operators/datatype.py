"""Caffe2's numbers for element types, and what they are in NumPy."""

from __future__ import annotations

from enum import IntEnum
from numbers import Integral
from typing import Any

import numpy as np

from procession.errors import did_you_mean


class DataType(IntEnum):
    """The numbers that `dtype=` and `to=` arguments of Caffe2 scripts hold."""

    UNDEFINED = 0
    FLOAT = 1
    INT32 = 2
    BYTE = 3
    STRING = 4
    BOOL = 5
    UINT8 = 6
    INT8 = 7
    UINT16 = 8
    INT16 = 9
    INT64 = 10
    FLOAT16 = 12
    DOUBLE = 13
    ZERO_COLLISION_HASH = 14


_NUMPY: dict[DataType, np.dtype[Any]] = {
    DataType.FLOAT: np.dtype(np.float32),
    DataType.INT32: np.dtype(np.int32),
    DataType.BYTE: np.dtype(np.uint8),
    DataType.STRING: np.dtype(object),
    DataType.BOOL: np.dtype(np.bool_),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.INT8: np.dtype(np.int8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT64: np.dtype(np.int64),
    DataType.FLOAT16: np.dtype(np.float16),
    DataType.DOUBLE: np.dtype(np.float64),
}


def numpy_dtype(value: Any) -> np.dtype[Any]:
    """The NumPy dtype meant by a `DataType`, its number, its name, or anything NumPy knows.

    Names are Caffe2's in any case ("float" is float32 and "byte" is uint8, unlike NumPy),
    then NumPy's. Strings of any kind are arrays of objects: theirs is the one string type
    that has no fixed length.

    Raises:
        ValueError: No such number or name.
        TypeError: `value` does not name a type at all.
    """
    if isinstance(value, Integral) and not isinstance(value, (bool, np.bool_)):
        try:
            return _NUMPY[DataType(int(value))]
        except (ValueError, KeyError):
            known = ", ".join(f"{each.value} ({each.name})" for each in _NUMPY)
            raise ValueError(f"{value} is not the number of a data type: {known}") from None
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str):
        named = DataType.__members__.get(value.upper())
        if named is not None and named in _NUMPY:
            return _NUMPY[named]
    if value is None or isinstance(value, (bool, np.bool_, float)):
        raise TypeError(f"{value!r} does not name a data type")
    try:
        dtype = np.dtype(value)
    except TypeError:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} does not name a data type") from None
        hint = did_you_mean(value, (each.name for each in _NUMPY))
        raise ValueError(f"{value!r} is not the name of a data type.{hint}") from None
    return np.dtype(object) if dtype.kind in "US" else dtype
