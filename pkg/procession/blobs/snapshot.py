"""Read-only arrays over memory that is not to be written while they live.

A snapshot is an array whose base is a read-only buffer, so that its `writeable` flag cannot be
turned on again. Whoever owns the memory learns from the *holder*, a small object that lives exactly
as long as any array, slice or memoryview made from the snapshot, when the memory may be written
again.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BYTE = np.dtype(np.uint8)


def over(memory: Any, offset: int, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """(snapshot, holder) over a part of a buffer; no byte is copied. Not for empty arrays."""
    # This is what a fetch costs here: math.prod and a dtype that is made already are quick.
    dtype = np.dtype(dtype)
    holder: Array = np.ndarray((prod(shape) * dtype.itemsize,), _BYTE, memory, offset)
    # `np.ndarray(buffer=...)` would look through the memoryview to the writable holder.
    flat: Array = np.frombuffer(holder.data.toreadonly(), dtype)
    return flat.reshape(shape), holder


def of_bytes(data: bytes, shape: tuple[int, ...], dtype: Any) -> Array:
    """A snapshot over bytes, which nobody can change anyway."""
    return np.ndarray(shape, dtype, buffer=data)


def of_copy(array: Array) -> Array:
    """A snapshot of a copy of the array."""
    if array.dtype.hasobject or isinstance(array, np.ma.MaskedArray):
        # These are more than bytes; the copy's owner is read-only, and so its view.
        owner = array.copy()
        owner.flags.writeable = False
        return owner.view()
    return of_bytes(array.tobytes(), array.shape, array.dtype)
