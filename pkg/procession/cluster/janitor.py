"""The janitor: a thread of the coordinator that sees to memory when nobody else would.

That a fetched array has become garbage a worker hears with the next question, and hands back in its
answer what it does not need any more. When the last question was asked before the last view died,
nobody would ask. So there is one thread per process that asks for those who are quiet:

1. Whoever may have work for it makes a `Chore` of a method of his, and calls `start` when work may
   come and a thread can be started. The first of all these calls starts it.
2. `Chore.ask` puts the chore into a queue. That may be done by a finalizer: in any thread, in
   the middle of anything, while the interpreter ends. Asking again before it was begun does
   nothing.
3. The thread waits until for `QUIET` seconds nothing was asked of it, but not longer than
   `LONGEST`, and then calls the methods. A method must not wait for others. It returns whether it
   has done its work. One that could not, as when a run is under way, is called again, after twice
   as long each time, up to `LONGEST`. What it raises is dropped: it will come out of whatever its
   user does next.

A chore refers to its method's object weakly: when that is garbage there is nothing to be done. With
nothing to do the thread sleeps in the queue and costs nothing. It is a daemon, so the interpreter
does not wait for it. A forked copy of the process begins with no thread and an empty queue.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue

QUIET = 0.1
"""Seconds without a request after which the thread begins."""
LONGEST = 2.0
"""Seconds that a request waits at most before it is tried (again)."""


class Chore:
    """Something to be done soon, when it is quiet.

    Args:
        method: A bound method that returns whether it was done.
    """

    __slots__ = ("__weakref__", "_asked", "_method", "requests")

    def __init__(self, method: Callable[[], bool]) -> None:
        self._method = weakref.WeakMethod(method)
        self._asked = False
        self.requests = 0
        """Changes with each."""

    def start(self) -> None:
        """See that somebody is there to do it. Not for finalizers."""
        if _janitor.thread is None:
            _janitor.start()

    def ask(self) -> None:
        """Have it done. For finalizers, too."""
        self.requests += 1
        if not self._asked:
            self._asked = True
            _janitor.queue.put(self)

    def do(self) -> bool:
        """Do it, and say whether that is over. The thread's."""
        # First this: what somebody asks for from here on may come too late for the method.
        self._asked = False
        method = self._method()
        try:
            return method is None or method()
        except Exception:
            return True


class _Janitor:
    def __init__(self) -> None:
        self.queue: SimpleQueue[Chore] = SimpleQueue()
        self.thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        with self._starting:
            if self.thread is None:
                thread = threading.Thread(
                    target=_work, args=(self.queue,), name="procession-janitor", daemon=True
                )
                # Not when the interpreter is ending; then all memory goes anyway.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self.thread = thread

    def forget(self) -> None:
        """In a forked copy of the process, which has no such thread."""
        self.queue = SimpleQueue()
        self.thread = None
        self._starting = threading.Lock()


def _work(queue: SimpleQueue[Chore]) -> None:
    chores: set[Chore] = set()
    wait: float | None = None
    while True:
        with contextlib.suppress(Empty):
            chores.add(queue.get(timeout=wait))
            until = time.monotonic() + LONGEST
            while time.monotonic() < until:
                before = _requests(chores)
                try:
                    chores.add(queue.get(timeout=QUIET))
                except Empty:
                    if _requests(chores) == before:
                        break
        chores = {chore for chore in chores if not chore.do()}
        wait = min(2 * (wait or QUIET / 2), LONGEST) if chores else None


def _requests(chores: set[Chore]) -> int:
    return sum(chore.requests for chore in chores)


_janitor = _Janitor()
os.register_at_fork(after_in_child=_janitor.forget)
