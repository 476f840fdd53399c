"""From a runnable to tasks by node, and from those to programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from procession.compiler.check import analyze, check_isolation
from procession.compiler.compiled import CompiledRunnable
from procession.errors import GraphError, RunnableTypeError
from procession.graph.net import Net
from procession.graph.source import describe
from procession.graph.step import ExecutionStep, Plan
from procession.graph.task import Node, Task, TaskGroup, TaskOutput, WorkspaceType
from procession.operators import REGISTRY, Definition
from procession.runtime.program import (
    NetProgram,
    NodeProgram,
    Operation,
    StepProgram,
    TaskProgram,
)

Runnable = Net | ExecutionStep | Plan | Task | TaskGroup
RUNNABLES = (Net, ExecutionStep, Plan, Task, TaskGroup)


def check_runnable(runnable: Any) -> None:
    """Refuse what is no runnable, with the reason where it can be guessed."""
    if isinstance(runnable, RUNNABLES):
        return
    hint = ""
    if isinstance(runnable, (list, tuple)):
        hint = "; put a list of nets or steps into core.execution_step(name, list)"
    elif isinstance(runnable, TaskOutput):
        hint = "; a TaskOutput is fetched, its task is run"
    elif isinstance(runnable, type):
        hint = f"; {runnable.__name__} is a class, not an instance of one"
    raise RunnableTypeError(
        "a session runs a Net, ExecutionStep, Plan, Task or TaskGroup, or what compile() "
        f"returned, not {runnable!r} of type {type(runnable).__name__}{hint}"
    )


def home_node(runnable: Runnable) -> str | None:
    """The node that a runnable runs on which does not say so itself: the current one."""
    return None if isinstance(runnable, (Task, TaskGroup)) else str(Node.current())


def _nets_and_steps(part: Any) -> Iterator[Net | ExecutionStep | Plan]:
    if isinstance(part, TaskGroup):
        for task in part.tasks():
            yield from _nets_and_steps(task)
    elif isinstance(part, Task):
        yield from _nets_and_steps(part.get_step())
    elif isinstance(part, Plan):
        yield part
        for step in part.Steps():
            yield from _nets_and_steps(step)
    elif isinstance(part, ExecutionStep):
        yield part
        for inner in part.body:
            yield from _nets_and_steps(inner)
        if part.report is not None:
            yield part.report[0]
    else:
        yield part


def revisions(runnable: Runnable) -> tuple[int, ...]:
    """Numbers that change when anything in the runnable does."""
    return tuple(part.revision for part in _nets_and_steps(runnable))


def _own(definition: Definition) -> bool:
    """Whether workers know the operator without being told."""
    return definition.kernel.__module__.startswith("procession.operators.")


class _Lowering:
    """Lowers what runs on one node."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.tasks: list[TaskProgram] = []
        self.outputs: dict[str, str] = {}
        self.declared: set[str] = set()
        self.definitions: dict[str, Definition] = {}
        self._nets: dict[int, NetProgram] = {}
        self._steps: dict[int, StepProgram] = {}
        self._operations = 0

    def program(self, private: bool) -> NodeProgram:
        reads, writes = analyze(self.tasks, self.outputs)
        return NodeProgram(
            node=self.node,
            private=private,
            tasks=tuple(self.tasks),
            outputs=tuple(self.outputs),
            reads=reads,
            writes=writes,
            definitions=tuple(self.definitions.values()),
        )

    def net(self, net: Net) -> NetProgram:
        if id(net) in self._nets:
            return self._nets[id(net)]
        self.declared |= net.declared_inputs
        operations = []
        for index, operator in enumerate(net.operators):
            definition = REGISTRY[operator.type]
            if not _own(definition):
                self.definitions[definition.name] = definition
            seed = None
            if net.seed is not None:
                first, counts_up = net.seed
                seed = first + index if counts_up else first
            self._operations += 1
            operations.append(
                Operation(
                    number=self._operations,
                    net=net.Name(),
                    type=operator.type,
                    inputs=operator.inputs,
                    outputs=operator.outputs,
                    arguments=operator.arguments,
                    source=describe(operator.source),
                    seed=seed,
                )
            )
        lowered = NetProgram(net.Name(), tuple(operations))
        self._nets[id(net)] = lowered
        return lowered

    def step(self, step: ExecutionStep) -> StepProgram:
        # A step that is used twice stays one: `only_once` is about the step.
        if id(step) not in self._steps:
            self._steps[id(step)] = self._step(step)
        return self._steps[id(step)]

    def _step(self, step: ExecutionStep) -> StepProgram:
        body: list[NetProgram | StepProgram] = []
        for part in step.body:
            body.append(self.net(part) if isinstance(part, Net) else self.step(part))
        report = None
        if step.report is not None:
            report = (self.net(step.report[0]), step.report[1])
        return StepProgram(
            name=step.Name(),
            body=tuple(body),
            iterations=step.iterations,
            should_stop=None if step.should_stop is None else str(step.should_stop),
            only_once=step.only_once,
            concurrent=step.concurrent,
            create_workspace=step.create_workspace,
            instances=step.concurrent_instances,
            every_millis=step.every_millis,
            report=report,
        )

    def task(self, task: Task) -> None:
        step = self.step(task.get_step())
        if task.num_instances > 1:
            step = StepProgram(
                f"{task.name}:parallel",
                (step,),
                create_workspace=True,
                instances=task.num_instances,
            )
        self.tasks.append(TaskProgram(task.name, step))
        for output in task.outputs():
            for blob in output.names:
                self.outputs.setdefault(str(blob), task.name)

    def plain(self, runnable: Net | ExecutionStep | Plan) -> None:
        if isinstance(runnable, Net):
            step = StepProgram(runnable.Name(), (self.net(runnable),))
        elif isinstance(runnable, ExecutionStep):
            step = self.step(runnable)
        else:
            if not runnable.Steps():
                raise GraphError(f"plan {runnable.Name()!r} has no steps to run")
            step = StepProgram(runnable.Name(), tuple(map(self.step, runnable.Steps())))
        self.tasks.append(TaskProgram(f"{self.node}/{runnable.Name()}", step))


def lower(runnable: Runnable, *, isolated: bool) -> CompiledRunnable:
    """Compile a runnable: one program per node, checked.

    Tasks and task groups cannot be changed any more afterwards.

    Args:
        runnable: What to run.
        isolated: Refuse what crosses from node to node, as far as the runnable itself shows it.

    Raises:
        RunnableTypeError: It is none.
        GraphError: A plan without steps.
        BlobIsolationError: See `check_isolation`.
    """
    check_runnable(runnable)
    outputs: list[tuple[str, TaskOutput]] = []
    nodes: dict[str, _Lowering] = {}
    private = False
    if isinstance(runnable, (Task, TaskGroup)):
        runnable.freeze()
        kind = runnable.workspace_type()
        tasks = [runnable] if isinstance(runnable, Task) else runnable.tasks()
        # A task by itself runs globally, as a net does; a group that does not say, privately.
        default = WorkspaceType.GLOBAL if isinstance(runnable, Task) else WorkspaceType.PRIVATE
        private = (kind or default) == WorkspaceType.PRIVATE
        for task in tasks:
            nodes.setdefault(task.node, _Lowering(task.node)).task(task)
            outputs += [(task.node, output) for output in task.outputs()]
        name = runnable.name if isinstance(runnable, Task) else "task group"
    else:
        node = str(Node.current())
        nodes[node] = _Lowering(node)
        nodes[node].plain(runnable)
        name = runnable.Name()
    programs = tuple(lowering.program(private) for lowering in nodes.values())
    if isolated:
        check_isolation(programs, {n: frozenset(low.declared) for n, low in nodes.items()})
    return CompiledRunnable(name, programs, tuple(outputs))
