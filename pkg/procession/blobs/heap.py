"""Buffers in this process's own memory."""

from __future__ import annotations

import weakref
from functools import partial
from math import prod
from typing import Any

import numpy as np

from procession.blobs import snapshot
from procession.blobs.exchange import Use
from procession.blobs.shared import MINIMUM
from procession.blobs.snapshot import Array
from procession.blobs.unfinished import Unfinished


class HeapBuffer:
    """Memory of the process, which the garbage collector takes back."""

    __slots__ = ("_holders", "_memory")

    def __init__(self, memory: Array) -> None:
        self._memory = memory
        self._holders: dict[int, weakref.ref[Any]] = {}

    @property
    def leased(self) -> bool:
        """Whether somebody may still be looking at it."""
        return bool(self._holders)

    def array(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A writable array over the beginning of the buffer."""
        return np.ndarray(shape, dtype, buffer=self._memory)

    def snapshot(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A snapshot of the beginning of the buffer, which is leased while it lives."""
        array, holder = snapshot.over(self._memory, 0, shape, dtype)
        self._watch(holder)
        return array

    def draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """An array to be filled over its beginning; the buffer is leased while that lives."""
        draft = Unfinished(self._memory, 0, shape, dtype, self)
        self._watch(draft.holder)
        return draft

    def _watch(self, holder: Any) -> None:
        # When the holder dies, the reference calls `pop(key, reference)`.
        key = id(holder)
        self._holders[key] = weakref.ref(holder, partial(self._holders.pop, key))


class HeapPool:
    """Makes heap buffers. What is let go of, Python frees."""

    def allocate(self, nbytes: int) -> HeapBuffer:
        """A buffer of at least so many bytes."""
        return HeapBuffer(np.empty(nbytes, np.uint8))

    def exchange(self, world: str, use: Use) -> HeapPool:
        """What members of a common world may look at: as threads of this process, anything."""
        return self

    def holds(self, buffer: HeapBuffer) -> bool:
        """Whether a buffer may be one of this pool: any may."""
        return True

    def draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """An array to be filled in a buffer of its own; a small one in no buffer."""
        nbytes = prod(shape) * dtype.itemsize
        if nbytes < MINIMUM:
            return Unfinished(None, 0, shape, dtype)
        return self.allocate(nbytes).draft(shape, dtype)

    def adopt(self, array: Array) -> HeapBuffer | None:
        """A buffer made of an array that nobody else holds, without a copy."""
        return HeapBuffer(array.reshape(-1).view(np.uint8))

    def free(self, buffer: HeapBuffer) -> None:
        """Take a buffer back; one that is leased lives on until its last view is garbage."""
