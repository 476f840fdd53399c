"""Maps from keys to values, as one blob."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.datatype import DataType, numpy_dtype
from procession.operators.handles import expect
from procession.operators.registry import operator


class Table:
    """Keys and their values: what CreateMap and KeyValueToMap make. It never changes."""

    def __init__(self, keys: Array, values: Array) -> None:
        self.entries = dict(zip(keys.tolist(), values.tolist(), strict=True))
        self.key_dtype = keys.dtype
        self.value_dtype = values.dtype

    def keys(self) -> Array:
        """The keys, in the order in which they came."""
        return np.array(list(self.entries), self.key_dtype)

    def values(self) -> Array:
        """The values, in the order of the keys."""
        return np.array(list(self.entries.values()), self.value_dtype)

    def __repr__(self) -> str:
        return f"Table({self.entries!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return (self.key_dtype, self.value_dtype, self.entries) == (
            other.key_dtype,
            other.value_dtype,
            other.entries,
        )

    __hash__ = None  # type: ignore[assignment]


@operator("CreateMap")
def create_map(*, key_dtype: Any = DataType.INT32, value_dtype: Any = DataType.INT32) -> Table:
    """A map with nothing in it. Caffe2: CreateMap.

    Args:
        key_dtype: The data type of the keys.
        value_dtype: The data type of the values.
    """
    return Table(np.empty(0, numpy_dtype(key_dtype)), np.empty(0, numpy_dtype(value_dtype)))


@operator("KeyValueToMap")
def key_value_to_map(keys: Array, values: Array) -> Table:
    """A map of a vector of keys and one of values; the last of equal keys counts.

    Caffe2: KeyValueToMap.

    Raises:
        ValueError: The inputs are not two vectors of one length.
    """
    if keys.ndim != 1 or keys.shape != values.shape:
        raise ValueError(f"KeyValueToMap: keys {keys.shape} and values {values.shape}")
    return Table(keys, values)


@operator("MapToKeyValue", outputs=2)
def map_to_key_value(table: Any) -> tuple[Array, Array]:
    """The keys of a map and their values, in the order in which the keys came.

    Caffe2: MapToKeyValue, where there is no order.

    Raises:
        TypeError: The input is not a map.
    """
    held = expect(table, Table, "KeyValueToMap")
    return held.keys(), held.values()
