"""What blobs hold besides tensors: counters, flags, mutexes and timers.

Steps that run at the same time share the handles of a blob: each method is atomic. A copy of a
handle, which is what fetching it or sending it to another process makes, goes its own way from
there on.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, TypeVar

Handle = TypeVar("Handle")


def expect(value: Any, kind: type[Handle], maker: str) -> Handle:
    """The value, if it is a handle of that kind.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"this takes a {kind.__name__}, as {maker} makes it, not a {type(value).__name__}"
        )
    return value


class Counter:
    """A whole number to count with."""

    __slots__ = ("_count", "_lock")

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """The number as it is at this moment."""
        return self._count

    def down(self) -> bool:
        """Take one away; whether there was none left to take."""
        with self._lock:
            self._count -= 1
            return self._count < 0

    def up(self) -> int:
        """Add one; the number before."""
        with self._lock:
            self._count += 1
            return self._count - 1

    def reset(self, count: int) -> int:
        """Set it to a number; the one before."""
        with self._lock:
            before, self._count = self._count, count
            return before

    def __reduce__(self) -> tuple[Any, ...]:
        return Counter, (self._count,)

    def __repr__(self) -> str:
        return f"Counter({self._count})"


class AtomicBool:
    """A flag, false until it is set."""

    __slots__ = ("value",)

    def __init__(self, value: bool = False) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return AtomicBool, (self.value,)

    def __repr__(self) -> str:
        return f"AtomicBool({self.value})"


class Mutex:
    """A lock; `with mutex:` holds it. A copy of it is free, and another one."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Mutex:
        self._lock.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return Mutex, ()

    def __repr__(self) -> str:
        return f"<Mutex, {'held' if self._lock.locked() else 'free'}>"


class Timer:
    """The time since it was begun, until it is ended. A copy in another process starts anew."""

    __slots__ = ("_lock", "_start", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._start: int | None = time.perf_counter_ns()
        self._lock = threading.Lock()

    def elapsed(self, *, end: bool = False) -> int:
        """Nanoseconds since it was begun.

        Raises:
            ValueError: It has ended.
        """
        with self._lock:
            if self._start is None:
                raise ValueError(f"the timer {self.name!r} has ended already")
            nanoseconds = time.perf_counter_ns() - self._start
            if end:
                self._start = None
            return nanoseconds

    def __reduce__(self) -> tuple[Any, ...]:
        return Timer, (self.name,)

    def __repr__(self) -> str:
        return f"<Timer {self.name!r}, {'ended' if self._start is None else 'running'}>"
