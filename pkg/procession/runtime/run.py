"""A run of a program: what its threads share, what each of its tasks has to know, what failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from procession.runtime.monitor import Called, Cancelled, Monitor, Note
from procession.runtime.program import NetProgram, StepProgram
from procession.runtime.workspace import Workspace


class Runs(Protocol):
    """A net that is prepared."""

    def run(self, workspace: Workspace, task: TaskRun) -> None:
        """Run it once."""


class Failure:
    """What failed first among things that run at once.

    An error comes out of its thread late: whoever started threads waits for all of them. So
    each is noted where and when it happens.
    """

    __slots__ = ("_error", "_lock")

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

    __slots__ = ("_lock", "_on_failure", "_once", "_stop", "failure")

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


class TaskRun:
    """One run of one task: what its nets have to know of it.

    Args:
        name: The task's name.
        number: Its number within the run.
        monitor: Who watches.
        nets: All nets of the program, prepared.
        whole: The run of the program that it is part of.
    """

    __slots__ = ("_check", "_nets", "called", "name", "note", "run", "stop", "whole")

    def __init__(
        self,
        name: str,
        number: int,
        monitor: Monitor,
        nets: Mapping[int, Runs],
        whole: WholeRun,
    ) -> None:
        self.name = name
        self.whole = whole
        self._nets = nets
        self._check = monitor.check
        self.stop: list[Any] = monitor.stop
        cells = monitor.cells(number)
        self.note: Note | None = None if cells is None else cells.note
        self.called: Called = () if cells is None else cells.called
        self.run = 0 if cells is None else cells.run

    def check(self) -> None:
        """Raise if the run should not go on."""
        if self.stop or (self.called and self.called[0] == self.run):
            self._check()

    def enter(self, operation: int) -> None:
        """The task comes to an operation (0: to none). Raises like `check`."""
        self.check()
        if self.note is not None:
            self.note[0] = operation

    def net(self, net: NetProgram, workspace: Workspace) -> None:
        """Run a net once."""
        self._nets[id(net)].run(workspace, self)
