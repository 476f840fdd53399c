"""Unfinished: an array that its user fills in place, before it becomes a blob's value.

    draft = Unfinished(memory, offset, shape, dtype)      over a buffer that is reserved
    draft.array                                           is the user's, until he is done
    draft.finish()                                        True: the buffer may be the blob's value
                                                          False: a copy of draft.array has to be
    draft.release()                                       in any case, also when the user failed

What a blob holds must not change by itself, and the user could have kept a way to write into the
buffer: a slice, a memoryview, a tensor of another library that shares the memory. Arrays that are
read-only hold back nobody who looked before. So `finish` makes the array read-only, for good, and
finds out whether it was the only thing that looks at the buffer. It goes by the counts of
references. Those to the array itself may be harmless names or things that look through it. So names
are searched for in the frames that are running, where the `with` statement is; what is not found to
be a name counts as something that can write. An array that was put into a list or an attribute is
therefore copied: that costs time, but is never wrong.

The memory is in use until the *holder* is garbage, which lives as long as the array and all that
was made from it. After a successful `finish` the array is a snapshot of the blob.
"""

from __future__ import annotations

import inspect
import sys
from math import prod
from operator import index
from types import FrameType
from typing import Any

import numpy as np

from procession.blobs.datatypes import check_dtype
from procession.blobs.snapshot import Array
from procession.errors import DataTypeError

_FRAMES = 12
"""So many callers are searched for names of the array."""


def description(shape: Any, dtype: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and bytes of an array that somebody wants to fill.

    Args:
        shape: A length, or a sequence of them.
        dtype: Whatever NumPy takes for one.

    Raises:
        DataTypeError: It would be an array of objects, or of a type that is not NumPy's own.
        TypeError, ValueError: It is no shape, or no dtype.
    """
    dtype = np.dtype(dtype)
    check_dtype(dtype)
    if dtype.hasobject:
        raise DataTypeError(
            f"an array of objects ({dtype}) cannot be filled in place, since objects are no bytes: "
            f"make it, and feed it with feed_blob",
            dtype=dtype.name,
        )
    if dtype.subdtype is not None:
        dtype, inner = dtype.subdtype
        outer = description(shape, np.uint8)[0]
        return description((*outer, *inner), dtype)
    try:
        lengths: tuple[int, ...] = (index(shape),)
    except TypeError:
        try:
            lengths = tuple(index(length) for length in shape)
        except TypeError:
            text = f"a shape is a length or a sequence of lengths, not {shape!r}"
            raise TypeError(text) from None
    if any(length < 0 for length in lengths):
        raise ValueError(f"an array cannot have the shape {lengths}: lengths are 0 or more")
    return lengths, dtype, prod(lengths) * dtype.itemsize


class _Holder:
    """Keeps the memory. Unlike a memoryview it cannot be asked for a writable view later."""

    __slots__ = ("__array_interface__", "__weakref__", "memory")

    def __init__(self, memory: Any) -> None:
        self.memory = memory


class Unfinished:
    """See the top of this file.

    Args:
        memory: What holds the buffer; None to have an array of its own. Then `finish` always says
            that a copy is needed, which for small arrays is what a blob makes anyway.
        offset: Where the buffer begins.
        shape: That of the array.
        dtype: That of the array; not of objects.
        buffer: What the memory belongs to, for who made this to know.
    """

    __slots__ = ("_flat", "array", "buffer", "holder")

    def __init__(
        self,
        memory: Any,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        buffer: Any = None,
    ) -> None:
        self.buffer = buffer
        self.holder: Any = None
        """Whoever owns the buffer has a weak reference to this."""
        self._flat: Array | None = None
        if memory is None:
            self.array: Array = np.empty(shape, dtype)
            return
        size = prod(shape) * dtype.itemsize
        begin: Array = np.ndarray((size,), np.uint8, memory, offset)
        holder: Any = _Holder(memory)
        self.holder = holder
        # An array's flag can be turned on again if what the array was made of offers its memory for
        # writing. This offers it once.
        holder.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (begin.__array_interface__["data"][0], False),
        }
        self._flat = np.asarray(holder)
        del holder.__array_interface__
        self.array = np.ndarray(shape, dtype, self._flat)

    def finish(self) -> bool:
        """Make the array read-only. Call it on the thread that filled the array.

        Returns:
            Whether nobody has any other way to write into the buffer.
        """
        flat = self._flat
        if flat is not None:
            flat.flags.writeable = False
        self.array.flags.writeable = False
        if flat is None:
            return False
        del flat
        holder, views, users = self._counts()
        return (holder, views) == _UNUSED[:2] and users - _UNUSED[2] == self._names()

    def release(self) -> None:
        """Let go of the array and the buffer."""
        self._flat = self.holder = self.buffer = None
        self.array = _NOTHING

    def _counts(self) -> tuple[int, int, int]:
        """How many refer to the holder, to the array of bytes and to the array."""
        return (
            sys.getrefcount(self.holder),
            sys.getrefcount(self._flat),
            sys.getrefcount(self.array),
        )

    def _names(self) -> int:
        """How many variables of the callers the array is the value of."""
        found = 0
        frame = sys._getframe(1)
        for _ in range(_FRAMES):
            if frame.f_back is None:
                break
            frame = frame.f_back
            found += _names_in(frame, self.array)
        return found


def _names_in(frame: FrameType, array: Array) -> int:
    code = frame.f_code
    names = frame.f_locals
    if not code.co_flags & inspect.CO_OPTIMIZED:
        # A module or the body of a class: this is where its names are.
        return sum(value is array for value in names.values())
    # A variable from further out has its place in another frame.
    own = code.co_varnames + code.co_cellvars
    found = sum(names.get(name) is array for name in dict.fromkeys(own))
    if sys.version_info < (3, 13) and sys.getrefcount(names) <= _SNAPSHOT:
        # The frame keeps this copy of its names, and would keep alive whatever they stand for.
        names.clear()
    return found


_NOTHING: Array = np.empty(0, np.uint8)
_UNUSED = Unfinished(bytearray(1), 0, (1,), np.dtype(np.uint8))._counts()
"""The counts when nobody but the draft has the array."""
_SNAPSHOT = 3
"""References to a frame's copy of its names when nobody else asked for it: by the frame, by a name
here, by the call that counts."""
