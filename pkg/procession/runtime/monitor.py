"""Stopping: how the threads of a run learn that it is over, and others what they are doing.

Looking has to cost next to nothing, because it is done between all operations. So a run is called
off by putting something into a list that all its threads have at hand. A worker process has a
*board* besides, in memory that it shares with its coordinator: a cell per task to note the
operation in, and a cell in which the coordinator calls a run off. The latter is looked at less
often, but before everything that may take long.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol

from procession.errors import RunTimeoutError


class Cancelled(Exception):  # noqa: N818 - a signal, not a mistake
    """The run was called off; whoever called it off knows why."""


class Called(Protocol):
    """A cell that is only read."""

    def __len__(self) -> int:
        """1."""

    def __getitem__(self, index: int, /) -> int:
        """What it holds; the index is 0."""


class Note(Protocol):
    """A cell that is only written."""

    def __setitem__(self, index: int, number: int, /) -> None:
        """Let it hold a number; the index is 0."""


class Cells(NamedTuple):
    """What one task has to do with the board of a worker."""

    note: Note
    """Item 0 is the number of the operation that the task is in; 0: in none."""
    called: Called
    """Item 0 is the number of the run that is called off."""
    run: int
    """The number of this run."""


class Monitor(Protocol):
    """Who a run is watched by."""

    @property
    def stop(self) -> list[Any]:
        """Empty as long as the run may go on. Whoever wants it to end appends something."""

    def check(self) -> None:
        """Raise if the run should not go on: `Cancelled`, or what is the matter."""

    def cells(self, task: int) -> Cells | None:
        """The cells of task number `task`; None without a board."""


class _Clock:
    """A cell that holds 1 from some moment on."""

    def __init__(self, end: float) -> None:
        self._end = end

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return time.monotonic() >= self._end


class Deadline:
    """A monitor for runs in this process: ends them when time is up or a sibling failed.

    Args:
        timeout: Seconds from now on.
    """

    __slots__ = ("_clock", "_timeout", "stop")

    def __init__(self, timeout: float | None = None) -> None:
        self.stop: list[Any] = []
        self._timeout = timeout
        self._clock = None if timeout is None else _Clock(time.monotonic() + timeout)

    def cancel(self) -> None:
        """Stop everything that runs under this monitor at its next operation."""
        self.stop.append(Cancelled)

    def check(self) -> None:
        """See `Monitor.check`."""
        if self.stop:
            raise Cancelled
        if self._clock is not None and self._clock[0]:
            raise RunTimeoutError(
                f"the run did not end within {self._timeout} s; it was stopped between operators",
                timeout=self._timeout,
            )

    def cells(self, task: int) -> Cells | None:
        """See `Monitor.cells`."""
        # A clock is looked at where a board would be.
        return None if self._clock is None else Cells([0], self._clock, 1)
