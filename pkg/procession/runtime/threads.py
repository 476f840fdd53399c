"""Threads: several jobs at once, and jobs that recur beside others."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from procession.runtime.monitor import Cancelled
from procession.runtime.run import WholeRun


class _Thread(threading.Thread):
    """A thread with a copy of this one's context, as a call would have.

    It can be waited for again after Ctrl-C has interrupted the wait. `join` cannot before Python
    3.13: interrupted, it may take the thread for ended.
    """

    def __init__(self, job: Callable[[], None]) -> None:
        super().__init__(target=contextvars.copy_context().run, args=(job,))
        self._over = threading.Event()

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._over.set()

    def wait(self) -> None:
        """Wait for its end, if it was started."""
        if self.ident is not None:
            self._over.wait()
            self.join()


def run_all(jobs: Sequence[Callable[[], None]], stop: Callable[[], None]) -> None:
    """Run jobs at once, each in a thread, and wait for all; raise what was raised first.

    Args:
        jobs: What to run. One alone runs in this thread.
        stop: Has the jobs come to an end. Called when the wait is interrupted, by Ctrl-C.
    """
    if len(jobs) <= 1:
        for job in jobs:
            job()
        return
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [_Thread(partial(guarded, job)) for job in jobs]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.wait()
    except BaseException:
        stop()
        for thread in threads:
            thread.wait()
        raise
    try:
        if errors:
            # One that only stopped because another failed is not the answer.
            raise next((e for e in errors if not isinstance(e, Cancelled)), errors[0])
    finally:
        errors.clear()  # this frame is in the error's traceback


@contextmanager
def repeating(job: Callable[[], object], seconds: float, run: WholeRun) -> Iterator[None]:
    """Do a job every so many seconds, in a thread, while the body runs, and once at its end.

    Once anything of the run has failed, it is not done any more.
    """
    # No wait can be longer, and none is worth it.
    seconds = min(seconds, threading.TIMEOUT_MAX)
    over = threading.Event()
    errors: list[BaseException] = []

    def repeat() -> None:
        try:
            last = False
            while not last:
                last = over.wait(seconds)
                if run.failed:
                    return
                with run.failing():
                    job()
        except BaseException as error:
            errors.append(error)

    thread = _Thread(repeat)
    try:
        try:
            thread.start()
            yield
            over.set()
            thread.wait()
        except BaseException:
            run.stop()
            over.set()
            thread.wait()
            raise
        if errors:
            raise errors[0]
    finally:
        errors.clear()  # this frame is in the error's traceback
