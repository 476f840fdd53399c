"""What workers import: functions, operators, and objects that take their time on the way.

It imports little, because each new worker imports it anew.
"""

from __future__ import annotations

import subprocess
import time
from typing import Any


def busy(seconds: float) -> None:
    """Compute for so long, in Python."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(200))


def fail(inputs: Any, outputs: Any) -> None:
    """A Python operator that raises."""
    raise ValueError("on purpose")


def make_busy(seconds: float) -> Any:
    """Make a Python operator that computes for so long."""

    def compute(inputs: Any, outputs: Any) -> None:
        busy(seconds)

    return compute


class Thing:
    """An object that is no plain data: it goes with its process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Thing({self.number})"


class SlowToLoad(Thing):
    """It takes that many milliseconds to unpickle one."""

    def __reduce__(self) -> Any:
        return _load_slowly, (self.number, self.number % 10 / 1000)


def _load_slowly(number: int, seconds: float) -> SlowToLoad:
    busy(seconds)
    return SlowToLoad(number)


class SlowToDump(Thing):
    """It takes that many milliseconds to pickle one."""

    def __reduce__(self) -> Any:
        busy(self.number % 10 / 1000)
        return SlowToDump, (self.number,)


def number_of(thing: Thing) -> int:
    """Look at a thing that travelled."""
    return thing.number


def thing_of(number: int) -> list[Any]:
    """Hand back what takes its time to be dumped, and is large."""
    return [SlowToDump(number), "x" * (number * 1000)]


def doubled(array: Any) -> Any:
    """Twice an array."""
    return array * 2


def added(left: int, right: int) -> int:
    """A sum."""
    return left + right


_children: list[subprocess.Popen[bytes]] = []


def leave_a_child() -> int:
    """Start a process that stays; its id."""
    child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _children.append(child)
    return child.pid
