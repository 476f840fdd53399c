"""Overdue: looking again, a while later, at what was called off, and may not have stopped.

One thread per process looks, after `GRACE` seconds each, at the runs that were called off, in that
order. It is started by the first of them, is a daemon, and keeps no session alive. A forked copy of
the process begins without.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from procession.cluster.supervisor import GRACE

_Look = tuple[float, "weakref.WeakMethod[Callable[[Any], object]]", "weakref.ref[Any]"]


class _Watch:
    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._queue: SimpleQueue[_Look] | None = None

    def ask(self, look: _Look) -> None:
        with self._starting:
            if self._queue is None:
                queue: SimpleQueue[_Look] = SimpleQueue()
                threading.Thread(
                    target=_work, args=(queue,), name="procession-overdue", daemon=True
                ).start()
                self._queue = queue
        self._queue.put(look)


def _work(queue: SimpleQueue[_Look]) -> None:
    while True:
        when, method, subject = queue.get()
        time.sleep(max(0.0, when - time.monotonic()))
        look, seen = method(), subject()
        if look is not None and seen is not None:
            # Whatever becomes of one, the others are looked at.
            with contextlib.suppress(Exception):
                look(seen)
        del look, seen


_watch = _Watch()


def look_again(look: Callable[[Any], object], subject: Any) -> None:
    """Have a bound method called with a subject in `GRACE` seconds, if both are alive then.

    Raises:
        RuntimeError: No thread is to be had.
    """
    _watch.ask((time.monotonic() + GRACE, weakref.WeakMethod(look), weakref.ref(subject)))


def _forget() -> None:
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_forget)
