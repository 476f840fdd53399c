"""Errand: what is done to the end, even when Ctrl-C comes while somebody waits for it.

Ctrl-C is an exception that comes to the main thread between any two steps. What must not be left
half done is therefore done by another thread, which it does not come to, while the main thread
waits. When that is interrupted, the errand goes on, and whoever calls `run` again gets its result.
Other threads do it themselves, and so does the main thread of a worker, where Ctrl-C does nothing.

A signal handler, or a finalizer, may come while the main thread holds a lock that the errand needs.
Another thread would wait for that for ever, so it is then done at once (`done_at_once_while`).
"""

from __future__ import annotations

import _thread
import copy
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")
SLICE = 0.2
"""Seconds to wait at a time: a signal that comes in the moment before a wait begins is not noticed
before it ends."""


_reasons: list[Callable[[], bool]] = []


def done_at_once_while(held: Callable[[], bool]) -> None:
    """Tell of a lock that errands need: `held` says whether the thread that calls it has it."""
    _reasons.append(held)


def _locked() -> bool:
    """Whether this thread has such a lock."""
    for held in _reasons:  # noqa: SIM110 - what comes into a generator may only be printed
        if held():
            return True
    return False


class Errand(Generic[Result]):
    """Something to be done once.

    Args:
        job: What to do. It must not wait for the thread that waits for it.
        interruptible: Whether Ctrl-C may come to this process's main thread.
    """

    __slots__ = ("_claim", "_done", "_failure", "_interruptible", "_job", "_result")

    def __init__(self, job: Callable[[], Result], interruptible: bool = True) -> None:
        self._interruptible = interruptible
        self._job: Callable[[], Result] | None = job
        self._claim = threading.Lock()
        self._done = threading.Event()
        self._result: Result
        self._failure: BaseException | None = None

    def run(self, timeout: float | None = None) -> Result:
        """Do it, or wait until it is done; what comes of it.

        Args:
            timeout: Seconds to wait for another thread that does it.

        Raises:
            TimeoutError: It was not done by then, and goes on.
            BaseException: What it raises; again each time.
        """
        if not self._done.is_set():
            main = threading.current_thread() is threading.main_thread()
            if self._interruptible and main and not _locked():
                try:
                    _thread.start_new_thread(self._do, ())
                except RuntimeError:
                    self._do()  # no thread is to be had, as at the interpreter's end
            else:
                self._do()
            end = None if timeout is None else time.monotonic() + timeout
            while not self._done.wait(SLICE if end is None else min(SLICE, end - time.monotonic())):
                if end is not None and time.monotonic() >= end:
                    raise TimeoutError
        if self._failure is not None:
            raise _another(self._failure) from self._failure.__cause__
        return self._result

    def _do(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        job, self._job = self._job, None
        assert job is not None
        try:
            self._result = job()
        except BaseException as error:
            self._failure = error.with_traceback(None)
        finally:
            self._done.set()


def _another(error: BaseException) -> BaseException:
    """A copy: the traceback that it gets would keep the frames of all who are above."""
    try:
        return copy.copy(error)
    except Exception:
        return error  # of a user's class, with an `__init__` that does not take its `args`
