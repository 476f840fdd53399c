"""Crew: threads that do jobs beside the script, made when there is none free."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

IDLE_FOR = 5.0
"""Seconds for which a thread waits for another job before it ends."""


class Crew:
    """Does jobs, each in a thread, at once. A job must not raise.

    A job may leave another one to its own thread, by `keep`, which is then done right after it: to
    hand it to another thread would take longer than most jobs do.

    The threads keep neither the script nor the crew's owner from ending.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0
        """Threads that wait for a job, less jobs that wait for a thread."""
        self._threads = 0
        self._closed = False
        self._own = threading.local()

    @contextlib.contextmanager
    def keep(self) -> Iterator[list[Callable[[], object]]]:
        """The first job that this thread has for `do` inside is put into the list instead.

        Who is in the middle of a job returns that one from it, or gives it to `do` after all.
        """
        kept = self._own.kept = []
        try:
            yield kept
        finally:
            self._own.kept = None

    def do(self, job: Callable[[], object]) -> None:
        """Have a job done."""
        kept = getattr(self._own, "kept", None)
        if kept == []:
            kept.append(job)
            return
        with self._lock:
            free = self._free > 0
            if free:
                self._free -= 1
            else:
                self._threads += 1
        if free:
            self._jobs.put(job)
            return
        try:
            threading.Thread(
                target=self._serve, args=([job],), name="procession-run", daemon=True
            ).start()
        except RuntimeError:
            # There can be no more; some versions of Python start none at the interpreter's end,
            # while what was begun is waited for. Then whichever thread is free first does it.
            with self._lock:
                self._threads -= 1
                if not self._threads:
                    raise
                self._free -= 1
            self._jobs.put(job)

    def close(self) -> None:
        """Have no thread wait for jobs any more."""
        with self._lock:
            self._closed = True
            free, self._free = max(self._free, 0), 0
        for _ in range(free):
            self._jobs.put(None)

    def _serve(self, first: list[Callable[[], object]]) -> None:
        # A thread keeps its arguments until it ends, so this is a list to take the job out of.
        job: Callable[[], object] | None = first.pop()
        while job is not None:
            # What the job holds must not outlive it in here.
            job = job()  # type: ignore[assignment]
            if job is not None:
                continue
            with self._lock:
                if self._closed:
                    self._threads -= 1
                    return
                self._free += 1
            try:
                job = self._jobs.get(timeout=IDLE_FOR)
            except queue.Empty:
                with self._lock:
                    if self._free > 0:
                        self._free -= 1
                        self._threads -= 1
                        return
                # Somebody has counted on this thread a moment ago.
                job = self._jobs.get()


def taken(kept: list[Callable[[], object]]) -> Callable[[], object] | None:
    """What a crew's thread has kept, for one of those that ask."""
    try:
        return kept.pop()
    except IndexError:
        return None


def hand_over(kept: list[Callable[[], object]], crew: Crew) -> None:
    """Have another thread do what this one has kept, if nobody has taken it."""
    job = taken(kept)
    if job is not None:
        crew.do(job)
