"""Executable: a node's program, ready to run any number of times in one process."""

from __future__ import annotations

import threading
from collections import ChainMap, Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from procession.operators import REGISTRY
from procession.runtime.flow import Flow, side_by_side
from procession.runtime.items import Job
from procession.runtime.monitor import Monitor
from procession.runtime.program import NetProgram, NodeProgram, StepProgram
from procession.runtime.run import TaskRun, WholeRun
from procession.runtime.threads import repeating, run_all
from procession.runtime.workspace import Workspace


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
        self._flow = Flow(definitions, program.writes, self._spread, program.written_by)
        for _, net in program.nets():
            self._flow.net(net)
        tasks = program.all_tasks
        self._nodes = Counter(task.node for task in program.tasks)
        """How many tasks there are of each node."""
        self._only: tuple[str, Job] | None = None
        """The one task, of a program that has no other and nothing around it; what runs it."""
        if len(tasks) == 1 and program.tasks and not program.private:
            self._only = tasks[0].name, self._flow.job(tasks[0].step)

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
            OperatorError, BlobNotFoundError, OutOfSharedMemoryError: See `PreparedOperation.run`.
            Cancelled: And whatever else the monitor raises.

        When several things fail, the first in time is raised.
        """
        program = self.program
        whole = WholeRun(monitor, on_failure)
        if self._only is not None:
            # What most runs are, again and again: the rest of this would take longer than they do.
            name, only = self._only
            try:
                only(workspace, TaskRun(name, 0, monitor, self._flow.nets, whole))
            except BaseException as error:
                with whole.failure.raised():
                    whole.fail(error)
                    raise
            return
        inside = workspace
        if program.private:
            # A private run's outputs outlive it, so they belong to the global workspace.
            inside = workspace.child(exported=frozenset(program.outputs))
        try:
            jobs: dict[int, Callable[[], None]] = {}
            for number, task in enumerate(program.all_tasks):
                run = TaskRun(task.name, number, monitor, self._flow.nets, whole)
                job = partial(self._flow.job(task.step), inside, run)
                jobs[id(task)] = partial(whole.guarded, job)
            if len(self._nodes) > 1 and program.after is None and workspace.has_worlds:
                self._tell_of_ends(jobs, workspace)
            with whole.failure.raised():
                if program.before is not None:
                    jobs[id(program.before)]()
                with ExitStack() as stack:
                    for task in program.beside:
                        assert task.step.every_millis is not None
                        seconds = task.step.every_millis / 1000
                        stack.enter_context(repeating(jobs[id(task)], seconds, whole))
                    run_all([jobs[id(task)] for task in program.tasks], whole.stop)
                if program.after is not None:
                    jobs[id(program.after)]()
        finally:
            if inside is not workspace:
                inside.close()

    def _tell_of_ends(self, jobs: dict[int, Callable[[], None]], workspace: Workspace) -> None:
        """Have it known when the last task of a node has ended, of several that are run as one."""
        left = self._nodes.copy()
        lock = threading.Lock()

        def do(job: Callable[[], None], node: str | None) -> None:
            job()
            with lock:
                left[node] -= 1
                over = not left[node]
            if over and node is not None:
                workspace.worlds.ended((node,))

        for task in self.program.tasks:
            jobs[id(task)] = partial(do, jobs[id(task)], task.node)

    def _spread(self, step: StepProgram) -> Job:
        """What runs a step that has copies, a workspace of its own, or something beside it."""
        return partial(side_by_side, [partial(self._with_surroundings, step)] * step.copies)

    def _with_surroundings(self, step: StepProgram, workspace: Workspace, task: TaskRun) -> None:
        whole = task.whole
        with ExitStack() as stack:
            if step.create_workspace:
                # What is handed back is seen to the end, wherever it is made.
                workspace = workspace.child(exported=frozenset(self.program.outputs))
                stack.callback(workspace.close)
            beside: list[tuple[NetProgram | StepProgram, float]] = []
            if step.report is not None:
                beside.append(step.report)
            beside += [(part, (part.every_millis or 0) / 1000) for part in step.recurring]
            for part, seconds in beside:
                job = partial(self._flow.job(part), workspace, task)
                stack.enter_context(repeating(job, seconds, whole))
            whole.guarded(partial(self._flow.body(step), workspace, task))
