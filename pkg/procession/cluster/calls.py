"""Calls of plain functions: what travels to a worker and back, large arrays beside the pickle.

What is called with what, and what comes of it, goes as cloudpickle, of which large arrays are left
out: a `Packed` has them beside its bytes, for whoever sends it to copy, once, into shared memory.
`unpack` makes arrays over that memory, which belong to the receiver alone: they can be written
whatever the sender's flags were. The memory is free again when the last of them is garbage.

A function is unpickled anew for each call. One that a worker can import is the same object each
time; one that travels by value, as those of a script and all lambdas do, begins each call with the
globals and variables that it left with. So a call never depends on which calls came before it on
the same node, unless it goes out of its way to.
"""

from __future__ import annotations

import io
import marshal
import pickle
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from procession.blobs.shared import MINIMUM
from procession.blobs.snapshot import Array
from procession.cluster.serial import Report, _inside, _picklable, loads
from procession.errors import RemoteTraceback, SerializationError

LARGE_PICKLE = 64 << 10
"""A pickle of so many bytes and more is itself put into shared memory."""


class Packed(NamedTuple):
    """A value as bytes, with what is to lie in shared memory beside."""

    data: bytes
    """For `unpack`."""
    buffers: list[Array]
    """Arrays of any layout. They are the user's own: their bytes are those of when they are read.
    """

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many bytes of shared memory each buffer takes."""
        return tuple(buffer.nbytes for buffer in self.buffers)


def write(buffer: Array, memory: Any, offset: int = 0) -> None:
    """Copy one of `Packed.buffers` to where `unpack` will find it."""
    np.copyto(np.ndarray(buffer.shape, buffer.dtype, memory, offset, order=_order(buffer)), buffer)


def window(memory: Any, offset: int, size: int, end: Callable[[], object]) -> memoryview:
    """Writable memory for `unpack`.

    Args:
        memory: Of the whole segment; no array.
        offset: Where it begins.
        size: How many bytes it has.
        end: Called when the last array over it is garbage: in any thread, at any moment, even while
            that thread holds a lock. It should do no more than note that down.
    """
    # NumPy would make arrays over that one, and let go of the holder between.
    assert not isinstance(memory, np.ndarray)
    holder: Array = np.ndarray((size,), np.uint8, memory, offset)
    weakref.finalize(holder, end).atexit = False
    return holder.data


def _order(array: Array) -> Any:
    return "F" if array.flags.fnc else "C"


def _rebuilt(
    memory: Any, dtype: Any, shape: tuple[int, ...], order: Any, private: bool = True
) -> Array:
    """An array over memory that belongs to it, or a copy of what is there."""
    array: Array = np.ndarray(shape, dtype, memory, order=order)
    return array if private else array.copy(order)


_NOTHING = bytearray(1)
_PICKLE = 0x80
"""The first byte of a pickle."""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Leaves out large arrays, and whatever else offers its memory."""

    def __init__(self, file: io.BytesIO) -> None:
        self.buffers: list[Array] = []
        self.foreign: list[Array] = []
        """Those of the buffers that others will look at: they have to end where they ended."""
        self._arrays: dict[int, Array] = {}
        # No method: it would be a cycle, and the pickler holds on to all that it has seen.
        set_aside = partial(_set_aside, self._arrays, self.buffers, self.foreign)
        super().__init__(file, pickle.HIGHEST_PROTOCOL, set_aside)

    def reducer_override(self, obj: Any) -> Any:
        # NumPy would copy what is not contiguous, and tell the other side what is read-only.
        # What has objects within, or no bytes at all, it can keep.
        if type(obj) is np.ndarray and obj.dtype.itemsize and not obj.dtype.hasobject:
            return self._array(obj)
        return super().reducer_override(obj)

    def _array(self, array: Array) -> Any:
        dtype: Any = array.dtype
        if dtype.isbuiltin == 1 and dtype.kind in "biufc" and dtype.metadata is None:
            dtype = dtype.str
        order = _order(array)
        if array.nbytes < MINIMUM:
            return _rebuilt, (array.tobytes(order), dtype, array.shape, order, False)
        # The pickle only says that a buffer comes here, and that it can be written. So it need not
        # be this array's memory, which may be neither contiguous nor writable.
        place = pickle.PickleBuffer(_NOTHING)
        self._arrays[id(place)] = array
        return _rebuilt, (place, dtype, array.shape, order)


def _set_aside(
    arrays: dict[int, Array],
    buffers: list[Array],
    foreign: list[Array],
    place: pickle.PickleBuffer,
) -> bool:
    """Add to the buffers what belongs in that place, or say that it is to go in the pickle."""
    array = arrays.pop(id(place), None)
    if array is None:
        array = np.frombuffer(place.raw(), np.uint8)
        if array.nbytes < MINIMUM:
            return True
        foreign.append(array)
    buffers.append(array)
    return False


def pack(value: Any, what: str) -> Packed:
    """Pickle a value, but for its large arrays.

    Args:
        value: Anything. An array that is in it twice will be one array again.
        what: What it is, for the error.

    Raises:
        SerializationError: It cannot be pickled.
    """
    with io.BytesIO() as file:
        pickler = _Pickler(file)
        try:
            pickler.dump(value)
        except Exception as error:
            raise _not_picklable(what, error) from error
        data, buffers = file.getvalue(), pickler.buffers
    if len(data) >= LARGE_PICKLE:
        data, buffers = b"", [np.frombuffer(data, np.uint8), *buffers]
    if pickler.foreign:
        data = marshal.dumps((data, [buffer.nbytes for buffer in buffers]))
    return Packed(data, buffers)


def unpack(data: bytes, buffers: Iterable[Any], what: str) -> Any:
    """The value again.

    Args:
        data: As in `Packed`.
        buffers: Writable memory with what `write` put there, as from `window`; there may be more
            of it. Arrays are made over it without a copy.
        what: What it is, for the error.

    Raises:
        SerializationError: It cannot be unpickled here.
    """
    if data and data[0] != _PICKLE:
        data, sizes = marshal.loads(data)
        buffers = [buffer[:size] for buffer, size in zip(buffers, sizes, strict=True)]
    buffers = iter(buffers)
    try:
        return pickle.loads(data or next(buffers), buffers=buffers)
    except (Exception, SystemExit) as error:
        raise SerializationError(
            f"{what} cannot be unpickled here: {type(error).__name__}: {error}", what=what
        ) from error


def _not_picklable(what: str, error: Exception) -> SerializationError:
    return SerializationError(
        f"{what} cannot be pickled: {type(error).__name__}: {error}", what=what
    )


def name_of(function: Any) -> str:
    """What messages call a function."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else repr(function)


class PackedFunction:
    """A function that is pickled once, when it first has to be, for as many calls as there are."""

    __slots__ = ("_data", "function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._data: bytes | None = None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> PackedFunction:
        """The function packed, if it is not already."""
        return function if isinstance(function, cls) else cls(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it here."""
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """What messages call it."""
        return name_of(self.function)

    @property
    def data(self) -> bytes:
        """Its pickle.

        Raises:
            SerializationError: It cannot be pickled; the message says which variable of it cannot.
        """
        if self._data is None:
            try:
                self._data = cloudpickle.dumps(self.function, pickle.HIGHEST_PROTOCOL)
            except Exception as error:
                what = f"the function {self.name}"
                for place, inner in _inside(self.function):
                    if not _picklable(inner):
                        what += f", for {place} = {inner!r},"
                        break
                raise _not_picklable(what, error) from error
        return self._data


def pack_arguments(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Packed:
    """Pack what a function is called with.

    Args:
        name: The function's, for the error.
        args: By position.
        kwargs: By name.

    Raises:
        SerializationError: The message says which of them cannot be pickled.
    """
    what = f"what {name} is called with"
    try:
        return pack((tuple(args), dict(kwargs)), what)
    except SerializationError:
        for place, value in enumerate(args, 1):
            pack(value, f"argument {place} of {name}")
        for keyword, value in kwargs.items():
            pack(value, f"argument {keyword!r} of {name}")
        raise


def call(function: bytes, data: bytes, buffers: Iterable[Any]) -> Packed:
    """Call a function, in the worker.

    Args:
        function: From `PackedFunction.data`.
        data: From `pack_arguments`.
        buffers: As for `unpack`.

    Returns:
        Its result.

    Raises:
        SerializationError: One of them cannot be unpickled here, or the result not be pickled.
        BaseException: Whatever the function raises, SystemExit included.
    """
    called = loads(function, "the function")
    name = name_of(called)
    args, kwargs = unpack(data, buffers, f"what {name} is called with")
    return pack(called(*args, **kwargs), f"the result of {name}")


def raised(report: Report) -> BaseException:
    """What a call raised, with the worker's traceback as its cause."""
    error = report.unpack()
    # Its text has the causes as well.
    error.__cause__ = RemoteTraceback(report.traceback)
    return error
