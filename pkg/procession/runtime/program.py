"""What the runtime can run. Made by the compiler, shipped to workers, changed by nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from procession.operators import Definition
from procession.operators.registry import signature


@dataclass(frozen=True)
class Operation:
    """One operator of a net."""

    number: int
    """Its number within the node's program, from 1: what a worker notes down before it runs it."""
    net: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: Mapping[str, Any]
    source: str
    """The line of the user's script that added it, as text."""
    seed: int | None = None

    def __str__(self) -> str:
        return signature(self.type, self.inputs, self.outputs, self.arguments)


@dataclass(frozen=True)
class NetProgram:
    """Operations, one after the other."""

    name: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class StepProgram:
    """When and how often its parts run. The fields are those of `graph.step.ExecutionStep`."""

    name: str
    body: tuple[NetProgram | StepProgram, ...]
    iterations: int | None = None
    should_stop: str | None = None
    only_once: bool = False
    concurrent: bool = False
    create_workspace: bool = False
    instances: int = 1
    every_millis: int | None = None
    report: tuple[NetProgram, float] | None = None


@dataclass(frozen=True)
class TaskProgram:
    """One task; the tasks of a node run at once."""

    name: str
    step: StepProgram


@dataclass(frozen=True)
class NodeProgram:
    """All that one node does in a run."""

    node: str
    private: bool
    """Whether it runs in a child of the node's global workspace that goes when the run ends."""
    tasks: tuple[TaskProgram, ...]
    outputs: tuple[str, ...]
    """Blobs to hand back at the end."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Blob -> the task that reads it, for blobs that must be there before anything runs."""
    writes: frozenset[str] = frozenset()
    """All blobs that it may write."""
    definitions: tuple[Definition, ...] = ()
    """Operators that are not Procession's own, and so have to travel along."""

    def nets(self) -> Iterator[tuple[str, NetProgram]]:
        """(task, net) for every net in it."""

        def walk(step: StepProgram) -> Iterator[NetProgram]:
            for part in step.body:
                if isinstance(part, NetProgram):
                    yield part
                else:
                    yield from walk(part)
            if step.report is not None:
                yield step.report[0]

        for task in self.tasks:
            for net in walk(task.step):
                yield task.name, net

    def operations(self) -> Iterator[Operation]:
        """All operations."""
        for _, net in self.nets():
            yield from net.operations

    def operation(self, number: int) -> Operation | None:
        """The operation of that number."""
        return next((o for o in self.operations() if o.number == number), None)

    def reader(self, blob: str) -> Operation | None:
        """The first operation that reads a blob."""
        return next((o for o in self.operations() if blob in o.inputs), None)
