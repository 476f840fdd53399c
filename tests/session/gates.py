"""Gates: where a call in a worker waits until the test lets it go on."""

from __future__ import annotations

import itertools
import os
from pathlib import Path


class Gate:
    """For one call. Travels to the worker by pickle: all it has are the names of two pipes."""

    _numbers = itertools.count()

    def __init__(self, directory: Path) -> None:
        number = next(self._numbers)
        self._there, self._left = (directory / f"{what}-{number}" for what in ("there", "left"))
        os.mkfifo(self._there)
        os.mkfifo(self._left)

    def wait(self) -> None:
        """In the worker: say that the call is there, and wait until the gate is opened."""
        # To open a pipe is to wait for the other side to open it.
        self._there.write_bytes(b"")
        self._left.read_bytes()

    def arrival(self) -> None:
        """Wait until the call is there."""
        self._there.read_bytes()

    def open(self) -> None:
        """Let it go on."""
        self._left.write_bytes(b"")

    def let_through(self) -> None:
        """Wait until the call is there, and let it go on."""
        self.arrival()
        self.open()
