"""From a runnable to tasks by node, and from those to programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from procession.compiler.check import analyze, check_isolation
from procession.compiler.compiled import CompiledRunnable
from procession.compiler.worlds import worlds_of
from procession.errors import GraphError, ProcessionError, RunnableTypeError
from procession.graph.device import check_device
from procession.graph.message import Repeated
from procession.graph.net import Net
from procession.graph.operator import check_operator, signature_of
from procession.graph.properties import NodeProperties
from procession.graph.proto import NetDef, OperatorDef
from procession.graph.setup import is_set_up
from procession.graph.source import describe
from procession.graph.step import ExecutionStep, Plan
from procession.graph.task import Node, NodeWork, Task, TaskGroup, TaskOutput, WorkspaceType
from procession.operators import Definition
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


def home_node(runnable: Runnable) -> tuple[str, NodeProperties] | None:
    """The node that a runnable runs on which does not say so itself: the current one.

    Returns:
        Its name and what is said of it there; None if the runnable says so itself.
    """
    if isinstance(runnable, (Task, TaskGroup)):
        return None
    node = Node.current()
    return str(node), node.properties


def _nets_and_steps(part: Any) -> Iterator[Net | ExecutionStep | Plan]:
    if isinstance(part, (Task, TaskGroup)):
        for work in part.work().values():
            yield from _nets_and_steps(work)
    elif isinstance(part, NodeWork):
        steps = [task.get_step() for task in part.tasks]
        for each in (*part.inits, *steps, *part.reports, *part.exits):
            yield from _nets_and_steps(each)
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


def _check_flow(operator: OperatorDef, definition: Definition) -> None:
    for name, value in operator.arguments.items():
        if name in definition.arguments and not isinstance(value, NetDef):
            raise RunnableTypeError(
                f"argument {name!r} of operator {signature_of(operator)} is a net to run, given as "
                f"its message, net.Proto(), not as {value!r}"
            )


class Lowering:
    """Lowers what runs on one node."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.tasks: list[TaskProgram] = []
        self.around: dict[str, Any] = {}
        """What runs before, beside and after them."""
        self.outputs: dict[str, str] = {}
        self.declared: set[str] = set()
        self.definitions: dict[str, Definition] = {}
        self._nets: dict[int, NetProgram] = {}
        self._steps: dict[int, StepProgram] = {}
        self._operations = 0

    def program(self, private: bool) -> NodeProgram:
        """The node's program, of all that was lowered."""
        reads, writes = analyze(self.tasks, self.outputs, **self.around)
        return NodeProgram(
            node=self.node,
            private=private,
            tasks=tuple(self.tasks),
            outputs=tuple(self.outputs),
            reads=reads,
            writes=writes,
            definitions=tuple(self.definitions.values()),
            **self.around,
        )

    def net(self, net: Net) -> NetProgram:
        """A net; lowered once."""
        if id(net) not in self._nets:
            self.declared |= net.declared_inputs
            self._nets[id(net)] = self.message(net.message, net.strict)
        return self._nets[id(net)]

    def message(self, net: NetDef, strict: bool) -> NetProgram:
        """A net's message; unless `strict`, arguments that an operator has not are passed over."""
        return NetProgram(
            net.name, tuple(self._operation(operator, net, strict) for operator in net.op)
        )

    def _operation(self, operator: OperatorDef, net: NetDef, strict: bool) -> Operation:
        try:
            definition = check_operator(operator, strict)
            if definition.flow:
                _check_flow(operator, definition)
        except ProcessionError as error:
            error.message += f"\n  in net {net.name!r}"
            if operator.source is not None:
                error.message += f"\n  added at {describe(operator.source)}"
            raise
        if not definition.own:
            self.definitions[definition.name] = definition
        seed = None
        if "device_option" in operator.__dict__:
            option = operator.device_option
            check_device(option, f"operator {signature_of(operator)} of net {net.name!r}")
            seed = option.random_seed if option.HasField("random_seed") else None
        self._operations += 1
        number = self._operations
        known = definition.arguments
        arguments = {
            name: self._argument(value, strict)
            for name, value in operator.arguments.items()
            if strict or definition.takes(name)
        }
        if "is_gradient_op" in known and operator.is_gradient_op:
            arguments["is_gradient_op"] = True
        if "name" in known and operator.name:
            arguments["name"] = operator.name
        return Operation(
            number=number,
            net=net.name,
            type=operator.type,
            inputs=tuple(operator.input),
            outputs=tuple(operator.output),
            arguments=arguments,
            source=describe(operator.source),
            seed=seed,
            debug_info=operator.debug_info,
        )

    def _argument(self, value: Any, strict: bool) -> Any:
        """An argument's value; nets in it as programs."""
        if isinstance(value, NetDef):
            return self.message(value, strict)
        if isinstance(value, (list, tuple)) and any(isinstance(each, NetDef) for each in value):
            return tuple(self._argument(each, strict) for each in value)
        return list(value) if isinstance(value, Repeated) else value

    def step(self, step: ExecutionStep) -> StepProgram:
        """A step; lowered once."""
        # A step that is used twice stays one: `only_once` is about the step.
        if id(step) not in self._steps:
            self._steps[id(step)] = self._step(step)
        return self._steps[id(step)]

    def _step(self, step: ExecutionStep) -> StepProgram:
        body = self._parts(step.body)
        report = None
        if step.report is not None:
            report = (self.net(step.report[0]), step.report[1])
        return StepProgram(
            name=step.Name(),
            body=body,
            iterations=step.iterations,
            should_stop=None if step.should_stop is None else str(step.should_stop),
            only_once=step.only_once,
            concurrent=step.concurrent,
            create_workspace=step.create_workspace,
            instances=step.concurrent_instances,
            every_millis=step.every_millis,
            report=report,
        )

    def _parts(self, parts: Iterable[Net | ExecutionStep]) -> tuple[NetProgram | StepProgram, ...]:
        return tuple(self.net(part) if isinstance(part, Net) else self.step(part) for part in parts)

    def work(self, work: NodeWork) -> None:
        """All that a task or a group does on the node."""
        for task in work.tasks:
            self.tasks.append(TaskProgram(task.name, self.step(task.get_step()), self.node))
            for output in task.outputs():
                for blob in output.names:
                    self.outputs.setdefault(str(blob), task.name)
        for when, what, parts in (
            ("before", "init", work.inits),
            ("after", "exit", work.exits),
        ):
            if parts:
                name = f"{self.node}:{what}"
                step = StepProgram(name, self._parts(parts))
                self.around[when] = TaskProgram(name, step)
        if work.reports:
            name = f"{self.node}:report"
            self.around["beside"] = tuple(
                TaskProgram(name, self.step(step)) for step in work.reports
            )

    def plain(self, runnable: Net | ExecutionStep | Plan) -> None:
        """What names no node, as a task of its own."""
        if isinstance(runnable, Net):
            step = StepProgram(runnable.Name(), (self.net(runnable),))
        elif isinstance(runnable, ExecutionStep):
            step = self.step(runnable)
        else:
            if not runnable.Steps():
                raise GraphError(f"plan {runnable.Name()!r} has no steps to run")
            # At the top there are no siblings beside which a step could recur.
            steps = (
                step if step.every_millis is None else replace(step, every_millis=None)
                for step in map(self.step, runnable.Steps())
            )
            step = StepProgram(runnable.Name(), tuple(steps))
        self.tasks.append(TaskProgram(f"{self.node}/{runnable.Name()}", step))


def lower(runnable: Runnable, *, isolated: bool) -> CompiledRunnable:
    """Compile a runnable: one program per node, checked.

    Tasks and task groups cannot be changed any more afterwards.

    Args:
        runnable: What to run.
        isolated: Refuse what crosses from node to node, as far as the runnable itself shows it.

    Raises:
        RunnableTypeError: It is none.
        GraphError: A plan without steps; a common world whose members do not fit together.
        BlobIsolationError: See `check_isolation`.
        NodePropertyError: Different things are said of the node that it runs on.
    """
    check_runnable(runnable)
    if not isinstance(runnable, (Task, TaskGroup)) and is_set_up(runnable):
        runnable = Task.of(runnable)
    outputs: list[tuple[str, TaskOutput]] = []
    nodes: dict[str, Lowering] = {}
    private = False
    if isinstance(runnable, (Task, TaskGroup)):
        runnable.freeze()
        kind = runnable.workspace_type()
        works = runnable.work()
        # A task by itself runs globally, as a net does; a group that does not say, privately.
        default = WorkspaceType.GLOBAL if isinstance(runnable, Task) else WorkspaceType.PRIVATE
        private = (kind or default) == WorkspaceType.PRIVATE
        for node, work in works.items():
            nodes[node] = Lowering(node)
            nodes[node].work(work)
            outputs += [(node, output) for task in work.tasks for output in task.outputs()]
        name = runnable.name if isinstance(runnable, Task) else "task group"
        if isinstance(runnable, Task):
            said = {runnable.node: runnable.node_properties}
        else:
            said = runnable.node_properties()
    else:
        home = Node.current()
        node, said = str(home), {str(home): home.properties}
        nodes[node] = Lowering(node)
        nodes[node].plain(runnable)
        name = runnable.Name()
    programs = tuple(lowering.program(private) for lowering in nodes.values())
    if isolated:
        check_isolation(programs, {n: frozenset(low.declared) for n, low in nodes.items()})
    properties = {node: each for node, each in said.items() if each}
    return CompiledRunnable(name, programs, tuple(outputs), properties, worlds_of(programs))
