"""CompiledRunnable: what `Session.compile` returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from procession.compiler.check import analyze
from procession.compiler.worlds import CommonWorld
from procession.graph.properties import NodeProperties
from procession.graph.task import LOCAL, TaskOutput
from procession.runtime.program import NetProgram, NodeProgram, StepProgram, TaskProgram


def _names(part: NetProgram | StepProgram) -> tuple[str, ...]:
    """What tells a part from others: the names of its nets."""
    if isinstance(part, NetProgram):
        return (part.name,)
    return tuple(name for inner in part.body for name in _names(inner))


def _joined(what: str, nodes: Iterable[TaskProgram | None]) -> TaskProgram | None:
    """What runs before, or after, the tasks of several nodes, as if they were one.

    What hangs on nets of several nodes runs on each of them, but once where they are one.
    """
    parts: dict[Any, NetProgram | StepProgram] = {}
    for task in nodes:
        times: Counter[Any] = Counter()
        for part in () if task is None else task.step.body:
            key = type(part), part.name, _names(part)
            times[key] += 1
            parts.setdefault((key, times[key]), part)
    name = f"{LOCAL}:{what}"
    return TaskProgram(name, StepProgram(name, tuple(parts.values()))) if parts else None


@dataclass(frozen=True, eq=False)
class CompiledRunnable:
    """A runnable, lowered to one program per node. Any session can run it, any number of times.

    It is a picture of the runnable at the moment of compiling: later changes of its nets
    do not reach it.
    """

    name: str
    programs: tuple[NodeProgram, ...]
    outputs: tuple[tuple[str, TaskOutput], ...] = field(repr=False)
    """(node, output) for every task output."""
    properties: Mapping[str, NodeProperties] = field(default_factory=dict, repr=False)
    """Node -> what its process is to have; only those are there of which something was said."""
    worlds: tuple[CommonWorld, ...] = ()
    """The common worlds that it creates."""

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The nodes it runs on, in order of first use."""
        return tuple(program.node for program in self.programs)

    @cached_property
    def merged(self) -> NodeProgram:
        """All programs as one, for a session in which the nodes share a workspace."""
        tasks = tuple(task for program in self.programs for task in program.tasks)
        outputs = tuple(
            dict.fromkeys(output for program in self.programs for output in program.outputs)
        )
        before = _joined("init", [program.before for program in self.programs])
        beside = tuple(task for program in self.programs for task in program.beside)
        after = _joined("exit", [program.after for program in self.programs])
        reading = {name: tasks[-1].name for name in outputs if tasks}
        reads, writes = analyze(tasks, reading, before, beside, after)
        definitions = {
            definition.name: definition
            for program in self.programs
            for definition in program.definitions
        }
        return NodeProgram(
            node=LOCAL,
            private=all(program.private for program in self.programs),
            tasks=tasks,
            outputs=outputs,
            before=before,
            beside=beside,
            after=after,
            reads=reads,
            writes=writes,
            definitions=tuple(definitions.values()),
        )
