"""Crew: threads that do jobs beside the script, made when there is none free."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

IDLE_FOR = 5.0
"""Seconds for which a thread waits for another job before it ends."""


class Crew:
    """Does jobs, each in a thread, at once. A job must not raise.

    The threads keep neither the script nor the crew's owner from ending.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0
        self._closed = False

    def do(self, job: Callable[[], object]) -> None:
        """Have a job done."""
        with self._lock:
            free = self._free > 0
            if free:
                self._free -= 1
        if free:
            self._jobs.put(job)
        else:
            threading.Thread(
                target=self._serve, args=([job],), name="procession-run", daemon=True
            ).start()

    def close(self) -> None:
        """Have no thread wait for jobs any more."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, 0
        for _ in range(free):
            self._jobs.put(None)

    def _serve(self, first: list[Callable[[], object]]) -> None:
        # A thread keeps its arguments until it ends.
        job: Callable[[], object] | None = first.pop()
        while job is not None:
            job()
            # What the job holds must not outlive it in here.
            job = None
            with self._lock:
                if self._closed:
                    return
                self._free += 1
            try:
                job = self._jobs.get(timeout=IDLE_FOR)
            except queue.Empty:
                with self._lock:
                    if self._free:
                        self._free -= 1
                        return
                # Somebody has counted on this thread a moment ago.
                job = self._jobs.get()
