"""Executable: steps, loops, threads, stopping."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from procession.errors import OperatorError, RunTimeoutError
from procession.operators import REGISTRY
from procession.runtime.operation import PreparedOperation, describe
from procession.runtime.program import NetProgram, NodeProgram, StepProgram
from procession.runtime.workspace import Workspace


class Cancelled(Exception):  # noqa: N818 - a signal, not a mistake
    """The run was called off; whoever called it off knows why."""


class Monitor(Protocol):
    """Is told before each operation, and may stop the run by raising."""

    def enter(self, task: int, operation: int) -> None:
        """Task number `task` comes to that operation (0: to none)."""


class Deadline:
    """A monitor for runs in this process: stops them when time is up or a sibling failed."""

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        self._cancelled = False

    def cancel(self) -> None:
        """Stop everything that runs under this monitor at its next operation."""
        self._cancelled = True

    def enter(self, task: int, operation: int) -> None:
        if self._cancelled:
            raise Cancelled
        if self._end is not None and time.monotonic() > self._end:
            raise RunTimeoutError(
                f"the run did not end within {self._timeout} s; it was stopped between operators",
                timeout=self._timeout,
            )


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

    # Each in a copy of this thread's context, as a call would be.
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(guarded, job)) for job in jobs
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if errors:
        # One that only stopped because another failed is not the answer.
        raise next((e for e in errors if not isinstance(e, Cancelled)), errors[0])


class _Run:
    """One run of an executable: what its threads share."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._failed = False
        self._once: set[int] = set()
        self._lock = threading.Lock()

    def first_time(self, step: StepProgram) -> bool:
        """Whether nobody asked this of the step in this run before."""
        with self._lock:
            if id(step) in self._once:
                return False
            self._once.add(id(step))
            return True

    def enter(self, task: int, operation: int) -> None:
        if self._failed:
            raise Cancelled
        self._monitor.enter(task, operation)

    def fail(self) -> None:
        """Stop all threads of the run at their next operation."""
        self._failed = True

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What fails inside stops the other threads."""
        try:
            yield
        except BaseException:
            self.fail()
            raise


@dataclass(frozen=True)
class _Place:
    """Where in a run a thread is."""

    run: _Run
    task: str
    number: int
    workspace: Workspace


@contextmanager
def _repeating(job: Callable[[], None], seconds: float) -> Iterator[None]:
    """Do a job every so many seconds, in a thread, while the body runs."""
    over = threading.Event()
    errors: list[BaseException] = []

    def repeat() -> None:
        try:
            while not over.wait(seconds):
                job()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        try:
            yield
        finally:
            over.set()
            thread.join()
    except Cancelled:
        # It may be the job's failure that stopped the body.
        if not errors:
            raise
    if errors:
        raise errors[0]


class Executable:
    """A node's program, ready to run any number of times in one process.

    Args:
        program: What to run.

    Raises:
        UnknownOperatorError: The program uses an operator that is not known here.
    """

    def __init__(self, program: NodeProgram) -> None:
        self.program = program
        own = {definition.name: definition for definition in program.definitions}
        definitions: Any = ChainMap(own, REGISTRY) if own else REGISTRY  # type: ignore[arg-type]
        self._nets: dict[int, list[PreparedOperation]] = {}
        for _, net in program.nets():
            if id(net) not in self._nets:
                self._nets[id(net)] = [
                    PreparedOperation(spec, definitions[spec.type]) for spec in net.operations
                ]

    def run(self, workspace: Workspace, monitor: Monitor) -> None:
        """Run all tasks at once, in the workspace or in a child of it.

        Args:
            workspace: The node's global workspace.
            monitor: Told of each operation beforehand.

        Raises:
            OperatorError, BlobNotFoundError, SharedMemoryError: See `PreparedOperation.run`.
            Cancelled: And whatever else the monitor raises.
        """
        program = self.program
        run = _Run(monitor)
        inside = workspace
        if program.private:
            # A private run's outputs outlive it, so they belong to the global workspace.
            inside = workspace.child(exported=frozenset(program.outputs))
        try:
            jobs = []
            for number, task in enumerate(program.tasks):
                place = _Place(run, task.name, number, inside)
                jobs.append(partial(self._step, task.step, place))
            run_all(jobs, run.fail)
        finally:
            if inside is not workspace:
                inside.close()

    def _step(self, step: StepProgram, place: _Place) -> None:
        if step.only_once and not place.run.first_time(step):
            return
        run_all([partial(self._instance, step, place)] * step.instances, place.run.fail)

    def _instance(self, step: StepProgram, place: _Place) -> None:
        with ExitStack() as stack:
            stack.enter_context(place.run.failing())
            if step.create_workspace:
                child = place.workspace.child()
                stack.callback(child.close)
                place = replace(place, workspace=child)
            if step.report is None:
                self._loop(step, place)
                return
            net, seconds = step.report
            with _repeating(partial(self._net, net, place), seconds):
                self._loop(step, place)
            self._net(net, place)

    def _loop(self, step: StepProgram, place: _Place) -> None:
        most = step.iterations
        if most is None and step.should_stop is None:
            most = 1
        count = 0
        while most is None or count < most:
            # A loop whose parts do nothing can be stopped, too.
            place.run.enter(place.number, 0)
            if not self._once_through(step, place):
                return
            count += 1

    def _once_through(self, step: StepProgram, place: _Place) -> bool:
        """Run the parts; False when the stop blob, read after each of them, says to stop."""
        if step.concurrent or not step.body:
            self._at_once(step, place)
            return not self._stops(step, place)
        for part in step.body:
            self._part(part, place)
            if self._stops(step, place):
                return False
        return True

    def _part(self, part: NetProgram | StepProgram, place: _Place) -> None:
        if isinstance(part, NetProgram):
            self._net(part, place)
        else:
            self._step(part, place)

    def _at_once(self, step: StepProgram, place: _Place) -> None:
        """Run the parts at once; those with an interval again and again until the others end."""
        with ExitStack() as repeating:
            jobs = []
            for part in step.body:
                job = partial(self._part, part, place)
                if isinstance(part, StepProgram) and part.every_millis is not None:
                    repeating.enter_context(_repeating(job, part.every_millis / 1000))
                else:
                    jobs.append(job)
            run_all(jobs, place.run.fail)

    def _stops(self, step: StepProgram, place: _Place) -> bool:
        if step.should_stop is None:
            return False
        if not place.workspace.has_blob(step.should_stop):
            if step.should_stop in self.program.writes:
                return False  # not written yet
            error = place.workspace.not_found(step.should_stop)
            error.task = place.task
            error.message += f" Step {step.name!r} stops by it (task {place.task!r})."
            raise error
        value = place.workspace.fetch_blob(step.should_stop)
        if not isinstance(value, np.ndarray) or value.size != 1:
            raise OperatorError(
                f"step {step.name!r} stops by blob {step.should_stop!r}, which should hold one "
                f"truth value and holds {describe(value)} (task {place.task!r})",
                task=place.task,
                node=place.workspace.node,
            )
        return bool(value.reshape(())[()])

    def _net(self, net: NetProgram, place: _Place) -> None:
        enter, number = place.run.enter, place.number
        with place.run.failing():
            for operation in self._nets[id(net)]:
                enter(number, operation.spec.number)
                operation.run(place.workspace, place.task)
        enter(number, 0)
