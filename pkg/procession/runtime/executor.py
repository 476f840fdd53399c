"""Executable: steps, loops, threads, stopping."""

from __future__ import annotations

import contextvars
import threading
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from procession.errors import OperatorError
from procession.operators import REGISTRY
from procession.runtime.monitor import Cancelled, Monitor, TaskRun
from procession.runtime.net import ONCE, LoopEnd, PreparedNet, StopCheck
from procession.runtime.operation import PreparedOperation, describe
from procession.runtime.program import NetProgram, NodeProgram, StepProgram
from procession.runtime.workspace import Workspace


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


class _Run:
    """One run of an executable: what its threads share."""

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

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What fails inside stops the other threads."""
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise


@dataclass(frozen=True)
class _Place:
    """Where in a run a thread is."""

    run: _Run
    task: TaskRun
    workspace: Workspace


@contextmanager
def _repeating(job: Callable[[], None], seconds: float, run: _Run) -> Iterator[None]:
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
        self._nets: dict[int, PreparedNet] = {}
        self._bodies: dict[int, PreparedNet | None] = {}
        for _, net in program.nets():
            if id(net) not in self._nets:
                self._nets[id(net)] = PreparedNet(
                    net.name,
                    [PreparedOperation(spec, definitions[spec.type]) for spec in net.operations],
                )

    def run(
        self,
        workspace: Workspace,
        monitor: Monitor,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Run all tasks at once, in the workspace or in a child of it.

        What the program has to run before, beside and after its tasks runs there as well.

        Args:
            workspace: The node's global workspace.
            monitor: Who watches it.
            on_failure: Told of what fails when it does, by the thread in which it does, while
                others may still be running.

        Raises:
            OperatorError, BlobNotFoundError, SharedMemoryError: See `PreparedOperation.run`.
            Cancelled: And whatever else the monitor raises.

        When several things fail, the first in time is raised.
        """
        program = self.program
        run = _Run(monitor, on_failure)
        inside = workspace
        if program.private:
            # A private run's outputs outlive it, so they belong to the global workspace.
            inside = workspace.child(exported=frozenset(program.outputs))
        try:
            jobs = {}
            for number, task in enumerate(program.all_tasks):
                place = _Place(run, TaskRun(task.name, number, monitor, self._nets), inside)
                jobs[id(task)] = partial(self._step, task.step, place)
            with run.failure.raised():
                if program.before is not None:
                    jobs[id(program.before)]()
                with ExitStack() as stack:
                    for task in program.beside:
                        assert task.step.every_millis is not None
                        seconds = task.step.every_millis / 1000
                        stack.enter_context(_repeating(jobs[id(task)], seconds, run))
                    run_all([jobs[id(task)] for task in program.tasks], run.stop)
                if program.after is not None:
                    jobs[id(program.after)]()
        finally:
            if inside is not workspace:
                inside.close()

    def _step(self, step: StepProgram, place: _Place) -> None:
        # With a stop blob, `only_once` is about the loop.
        once = step.only_once and step.should_stop is None
        if once and not place.run.first_time(step):
            return
        run_all([partial(self._execute, step, place)] * step.copies, place.run.stop)

    def _execute(self, step: StepProgram, place: _Place) -> None:
        with ExitStack() as stack:
            run = place.run
            stack.enter_context(run.failing())
            if step.create_workspace:
                # What is handed back is seen to the end, wherever it is made.
                child = place.workspace.child(exported=frozenset(self.program.outputs))
                stack.callback(child.close)
                place = replace(place, workspace=child)
            if step.report is not None:
                net, seconds = step.report
                stack.enter_context(_repeating(partial(self._net, net, place), seconds, run))
            for part in step.recurring:
                assert part.every_millis is not None
                job = partial(self._step, part, place)
                stack.enter_context(_repeating(job, part.every_millis / 1000, run))
            self._loop(step, place)

    def _loop(self, step: StepProgram, place: _Place) -> None:
        most = step.iterations
        if most is None and (step.should_stop is None or step.only_once):
            most = 1
        turns: Iterable[None] = repeat(None) if most is None else repeat(None, most)
        body = self._body(step)
        if body is not None:
            self._prepared(body, place, turns)
            return
        for _ in turns:
            # A loop whose parts do nothing can be stopped, too.
            place.task.check()
            if not self._once_through(step, place):
                return

    def _body(self, step: StepProgram) -> PreparedNet | None:
        """What a step repeats as one net; None if it is more than nets, one after the other."""
        if id(step) not in self._bodies:
            self._bodies[id(step)] = self._as_one_net(step)
        return self._bodies[id(step)]

    def _as_one_net(self, step: StepProgram) -> PreparedNet | None:
        nets = [part for part in step.parts if isinstance(part, NetProgram)]
        if step.at_once or not nets or len(nets) != len(step.parts):
            return None
        if len(nets) == 1 and step.should_stop is None:
            return self._nets[id(nets[0])]
        operations: list[PreparedOperation | StopCheck] = []
        for net in nets:
            operations += self._nets[id(net)].operations
            if step.should_stop is not None:
                operations.append(StopCheck(step.should_stop, partial(self._stops, step)))
        return PreparedNet(step.name, operations)

    def _once_through(self, step: StepProgram, place: _Place) -> bool:
        """Run the parts; False when the stop blob, read after each of them, says to stop."""
        if step.at_once or not step.parts:
            self._at_once(step, place)
            return not self._stops(step, place.workspace, place.task)
        for part in step.parts:
            self._part(part, place)
            if self._stops(step, place.workspace, place.task):
                return False
        return True

    def _part(self, part: NetProgram | StepProgram, place: _Place) -> None:
        if isinstance(part, NetProgram):
            self._net(part, place)
        else:
            self._step(part, place)

    def _at_once(self, step: StepProgram, place: _Place) -> None:
        """Run the parts at once: `instances` copies of each substep."""
        jobs = [partial(self._part, part, place) for part in step.parts]
        if step.copies == 1:
            jobs *= step.instances
        run_all(jobs, place.run.stop)

    def _stops(self, step: StepProgram, workspace: Workspace, task: TaskRun) -> bool:
        if step.should_stop is None:
            return False
        blob = workspace.find(step.should_stop)
        if blob is None:
            if step.should_stop in self.program.writes:
                return False  # not written yet
            error = workspace.not_found(step.should_stop)
            error.task = task.name
            error.message += f" Step {step.name!r} stops by it (task {task.name!r})."
            raise error
        value = blob.value
        if not isinstance(value, np.ndarray) or value.size != 1:
            raise OperatorError(
                f"step {step.name!r} stops by blob {step.should_stop!r}, which should hold one "
                f"truth value and holds {describe(value)} (task {task.name!r})",
                task=task.name,
                node=workspace.node,
            )
        return bool(value.item())

    def _net(self, net: NetProgram, place: _Place) -> None:
        self._prepared(self._nets[id(net)], place, ONCE)

    def _prepared(self, net: PreparedNet, place: _Place, turns: Iterable[None]) -> None:
        try:
            net.run(place.workspace, place.task, turns)
        except LoopEnd:
            if place.task.note is not None:
                place.task.note[0] = 0
        except BaseException as error:
            place.run.fail(error)
            raise
