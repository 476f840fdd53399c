"""What the runtime can run. Made by the compiler, shipped to workers, changed by nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from procession.operators import Definition
from procession.operators.registry import signature

MENTIONED = 3
"""So many operators at most are listed in a message."""


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
    debug_info: str = ""
    """What who added it wants to be read when it fails."""

    @property
    def origin(self) -> str:
        """Lines to end an error with: where it comes from, and its `debug_info`."""
        text = f"\n  added at {self.source}" if self.source else ""
        return text + (f"\n  {self.debug_info}" if self.debug_info else "")

    @cached_property
    def nets(self) -> tuple[NetProgram, ...]:
        """The nets among its arguments, by themselves or in a tuple: what it may run."""
        found: list[NetProgram] = []
        for value in self.arguments.values():
            values = value if isinstance(value, (list, tuple)) else (value,)
            found += (each for each in values if isinstance(each, NetProgram))
        return tuple(found)

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

    @cached_property
    def parts(self) -> tuple[NetProgram | StepProgram, ...]:
        """What every iteration runs: the body without what recurs on its own."""
        return tuple(part for part in self.body if not _recurs(part))

    @cached_property
    def recurring(self) -> tuple[StepProgram, ...]:
        """Substeps that run every so many milliseconds beside the others."""
        return tuple(part for part in self.body if isinstance(part, StepProgram) and _recurs(part))

    @cached_property
    def copies(self) -> int:
        """How many copies of the step itself run, where there is no substep to copy."""
        has_substeps = any(isinstance(part, StepProgram) for part in self.body)
        return 1 if has_substeps else self.instances

    @cached_property
    def at_once(self) -> bool:
        """Whether its parts run at the same time."""
        return self.concurrent or self.instances > self.copies


def _recurs(part: NetProgram | StepProgram) -> bool:
    return isinstance(part, StepProgram) and part.every_millis is not None


@dataclass(frozen=True)
class TaskProgram:
    """One task; the tasks of a node run at once."""

    name: str
    step: StepProgram
    node: str | None = None
    """The node that it is of, where that is known: programs of several may be run as one."""


@dataclass(frozen=True)
class NodeProgram:
    """All that one node does in a run."""

    node: str
    private: bool
    """Whether it runs in a child of the node's global workspace that goes when the run ends."""
    tasks: tuple[TaskProgram, ...]
    outputs: tuple[str, ...]
    """Blobs to hand back at the end."""
    before: TaskProgram | None = None
    """What runs before all tasks."""
    beside: tuple[TaskProgram, ...] = ()
    """What runs every so many milliseconds while the tasks do, and once when they have ended."""
    after: TaskProgram | None = None
    """What runs after all tasks."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Blob -> the task that reads it, for blobs that must be there before anything runs."""
    writes: frozenset[str] = frozenset()
    """All blobs that it may write."""
    definitions: tuple[Definition, ...] = ()
    """Operators that are not Procession's own, and so have to travel along."""

    @cached_property
    def all_tasks(self) -> tuple[TaskProgram, ...]:
        """The tasks, and what runs beside, before and after them. A task's number is that here."""
        around = (self.before, self.after)
        return (*self.tasks, *self.beside, *(task for task in around if task is not None))

    def nets(self) -> Iterator[tuple[str, NetProgram]]:
        """(task, net) for every net in it, also for those that operators run."""

        def nested(net: NetProgram) -> Iterator[NetProgram]:
            yield net
            for operation in net.operations:
                for inner in operation.nets:
                    yield from nested(inner)

        def walk(step: StepProgram) -> Iterator[NetProgram]:
            for part in step.body:
                if isinstance(part, NetProgram):
                    yield from nested(part)
                else:
                    yield from walk(part)
            if step.report is not None:
                yield from nested(step.report[0])

        for task in self.all_tasks:
            for net in walk(task.step):
                yield task.name, net

    def operations(self) -> Iterator[Operation]:
        """All operations."""
        for _, net in self.nets():
            yield from net.operations

    @property
    def carries_objects(self) -> bool:
        """Whether anything in it is more than names, numbers and arrays: it may not pickle."""
        plain = (str, bytes, int, float, np.ndarray, np.generic, NetProgram, type(None))

        def is_plain(value: Any) -> bool:
            if isinstance(value, (list, tuple)):
                return all(map(is_plain, value))
            return isinstance(value, plain)

        return bool(self.definitions) or not all(
            is_plain(value)
            for operation in self.operations()
            for value in operation.arguments.values()
        )

    def operation(self, number: int) -> Operation | None:
        """The operation of that number."""
        return next((o for o in self.operations() if o.number == number), None)

    def written_by(self, blob: str) -> str:
        """Further lines for a message about a blob: which operators write it, and where they stand.

        Those that only fill it are left out if there are others.
        """
        writers = {str(o): o for o in self.operations() if blob in o.outputs}
        told = [o for o in writers.values() if o.inputs] or list(writers.values())
        lines = []
        for operation in told[:MENTIONED]:
            lines.append(f"\n  written by operator {operation} of net {operation.net!r}")
            lines += [f"\n  added at {operation.source}"] if operation.source else []
        if len(told) > MENTIONED:
            lines.append(f"\n  and by {len(told) - MENTIONED} more")
        return "".join(lines)

    def reader(self, blob: str) -> Operation | None:
        """The first operation that reads a blob."""
        return next((o for o in self.operations() if blob in o.inputs), None)
