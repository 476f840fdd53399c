"""A dtype on its way between processes: a short text for nearly all, else a pickle.

A text is enough for whatever has no parts. Fields, with their offsets, titles and alignment,
subarrays and metadata come out of a pickle as they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.blobs.datatypes import check_dtype
from procession.cluster.serial import dumps, loads


def pack_dtype(dtype: np.dtype[Any]) -> str | bytes:
    """The dtype as something that `marshal` can write.

    Raises:
        DataTypeError: It is not NumPy's own, see `check_dtype`.
        SerializationError: Its metadata cannot be pickled.
    """
    if dtype.isbuiltin == 1:
        # Not `str`, in which "long" and "long long" are the same.
        return dtype.char
    check_dtype(dtype)
    if (
        dtype.names is None
        and dtype.subdtype is None
        and dtype.metadata is None
        and not dtype.hasobject
    ):
        text = dtype.str if dtype.char not in "qQ" else dtype.byteorder + dtype.char
        if np.dtype(text).type is dtype.type:
            return text
    return dumps(dtype, f"dtype {dtype}")


def unpack_dtype(packed: str | bytes) -> np.dtype[Any]:
    """The dtype that `pack_dtype` packed.

    Raises:
        SerializationError: Something in it cannot be unpickled here.
    """
    if isinstance(packed, str):
        return np.dtype(packed)
    dtype: np.dtype[Any] = loads(packed, "a dtype")
    return dtype
