"""A net's function for one workspace, and the blobs of that workspace that it relies upon."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import CellType, CodeType
from typing import Any

import numpy as np

from procession.blobs.blob import Blob, is_tensor
from procession.blobs.snapshot import Array


class Slot:
    """A blob that a function may rely upon.

    Args:
        blob: The blob.
        value: The tensor that it holds.
        variable: The number that it goes by in the text.
    """

    __slots__ = ("blob", "dtype", "nbytes", "shape", "size", "variable")

    def __init__(self, blob: Blob, value: Array, variable: int) -> None:
        self.blob = blob
        self.variable = variable
        self.shape: tuple[int, ...] = value.shape
        self.dtype: np.dtype[Any] = value.dtype
        self.nbytes: int = value.nbytes
        self.size: int = value.size


class Binding:
    """A net's function for one workspace. Watches the blobs that the function relies upon.

    Args:
        board: Whether the function notes down on a board where it is.
        code: The function's code.
        direct: For each item, whether the function itself does it, and not the item's `run`.
        waits: The items behind which the function returns; see `procession.runtime.draft`.
    """

    __slots__ = (
        "__weakref__",
        "_names",
        "_written",
        "board",
        "broken",
        "calls",
        "changes",
        "code",
        "direct",
        "function",
        "made",
        "waits",
    )

    def __init__(
        self, board: bool, code: CodeType, direct: tuple[bool, ...], waits: frozenset[int]
    ) -> None:
        self.board = board
        self.code = code
        self.direct = direct
        self.waits = waits
        self.broken = CellType(False)
        self.calls = 0
        self.made = time.perf_counter()
        self.changes: set[str] = set()
        """The names of blobs that have changed shape or dtype, or have gone."""
        self.function: Callable[..., int]
        self._names: dict[Blob, str] = {}
        self._written: set[Blob] = set()

    def rely(self, name: str, slot: Slot, written: bool) -> tuple[CellType, CellType]:
        """Rely upon a blob, and, if it is written, upon nobody looking at it. Returns its cells."""
        blob = slot.blob
        self._names.setdefault(blob, name)
        if written:
            self._written.add(blob)
        cells = blob.watch(self)
        value = blob.value
        if not is_tensor(value) or (value.shape, value.dtype) != (slot.shape, slot.dtype):
            # It has changed since it was looked at, when nobody was told.
            self.changed(blob)
        return cells

    def changed(self, blob: Blob) -> None:
        """See `procession.blobs.blob.Watcher`."""
        self.changes.add(self._names[blob])
        self.broken.cell_contents = True

    def leased(self, blob: Blob) -> None:
        """See `procession.blobs.blob.Watcher`."""
        if blob in self._written:
            self.broken.cell_contents = True

    def mended(self) -> bool:
        """Whether it can be used (again): nothing has changed, and nothing written is leased."""
        # In this order: what begins meanwhile is noted.
        self.broken.cell_contents = False
        if self.changes or any(
            blob.buffer is not None and blob.buffer.leased for blob in self._written
        ):
            self.broken.cell_contents = True
        return not self.broken.cell_contents
