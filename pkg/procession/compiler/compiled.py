"""CompiledRunnable: what `Session.compile` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from procession.compiler.check import analyze
from procession.graph.task import LOCAL, TaskOutput
from procession.runtime.program import NodeProgram


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

    @property
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
        reads, writes = analyze(tasks, {name: tasks[-1].name for name in outputs if tasks})
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
            reads=reads,
            writes=writes,
            definitions=tuple(definitions.values()),
        )
