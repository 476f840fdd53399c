"""Threads of a run: several jobs at once, jobs that recur, and what happens when one fails."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from procession.runtime.monitor import Cancelled, Monitor
from procession.runtime.program import StepProgram


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


class Failure:
    """What failed first among things that run at once.

    An error comes out of its thread late: whoever started threads waits for all of them. So
    each is noted where and when it happens.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def note(self, error: BaseException) -> None:
        """An error happens now. Being called off is none."""
        if isinstance(error, Cancelled):
            return
        with self._lock:
            if self._error is None:
                self._error = error

    @contextmanager
    def raised(self) -> Iterator[None]:
        """When the body fails, raise what was noted first, if anything was.

        Ctrl-C is always let through: it is the caller's own.
        """
        try:
            try:
                yield
                return
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                first = self._error
                if first is None or first is error:
                    raise
            try:
                raise first from first.__cause__
            finally:
                del first  # this frame is in its traceback
        finally:
            self._error = None


class WholeRun:
    """One run of an executable: what its threads share.

    Args:
        monitor: Who watches it.
        on_failure: Told of what fails, when it does.
    """

    def __init__(
        self, monitor: Monitor, on_failure: Callable[[BaseException], None] | None = None
    ) -> None:
        self._stop = monitor.stop
        self._on_failure = on_failure
        self._once: set[int] = set()
        self._lock = threading.Lock()
        self.failure = Failure()

    def first_time(self, step: StepProgram) -> bool:
        """Whether nobody asked this of the step in this run before."""
        with self._lock:
            if id(step) in self._once:
                return False
            self._once.add(id(step))
            return True

    @property
    def failed(self) -> bool:
        """Whether its threads are to stop."""
        return bool(self._stop)

    def stop(self) -> None:
        """Stop all threads of the run at their next operation."""
        self._stop.append(Cancelled)

    def fail(self, error: BaseException) -> None:
        """A thread of the run failed: stop all. What failed first is remembered."""
        self.failure.note(error)
        self.stop()
        if self._on_failure is not None:
            self._on_failure(error)

    def guarded(self, job: Callable[[], object]) -> None:
        """Do a job. If it fails, that stops the other threads."""
        with self.failing():
            job()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What fails inside stops the other threads."""
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise


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
