"""Items: what a prepared net is a list of.

Most are operations (`procession.runtime.operation.PreparedOperation`). The others are here: looks
at a blob that decide whether some items are passed over, or the loop is left, and calls of what
is no operation. Items are run one after the other; one that says so by its answer *jumps*:
its `skip` says over how many of the next items, or, if it is None, out of the loop that the items
are the body of. Jumps go forward, and nest as the `if`s that they are in the generated function
(see `procession.runtime.generated`). As they are relative, items can be put into any list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from procession.runtime.program import Operation
from procession.runtime.run import TaskRun
from procession.runtime.workspace import Workspace

Job = Callable[[Workspace, TaskRun], object]


class Item(Protocol):
    """What there is to run."""

    spec: Operation
    """What to note down about it; its inputs and outputs are the blobs that it names."""

    @property
    def skip(self) -> int | None:
        """How far it jumps, if it does; None: out of the loop."""

    def run(self, workspace: Workspace, task: TaskRun) -> object:
        """Do it. Anything that is true: jump."""


def _nameless(*inputs: str) -> Operation:
    return Operation(0, "", "", inputs, (), {}, "")


class Call:
    """Runs something else."""

    skip: int | None = None

    def __init__(self, job: Job) -> None:
        self.spec = _nameless()
        self._job = job

    def run(self, workspace: Workspace, task: TaskRun) -> None:
        """Run it."""
        self._job(workspace, task)


class Check:
    """Jumps, or does not.

    Args:
        jumps: Whether it does.
        skip: See above.
        blob: The blob by whose one truth value that is decided, if it is.
        unless: It jumps if that is false.
        boolean: That must be a bool; otherwise any number will do.
    """

    def __init__(
        self,
        jumps: Callable[[Workspace, TaskRun], bool],
        skip: int | None,
        blob: str | None = None,
        *,
        unless: bool = False,
        boolean: bool = False,
    ) -> None:
        self.spec = _nameless() if blob is None else _nameless(blob)
        self.skip = skip
        self.unless = unless
        self.boolean = boolean
        self.run = jumps


class Jump:
    """Jumps: stands between what runs if something holds and what runs if not."""

    spec = _nameless()

    def __init__(self, skip: int) -> None:
        self.skip: int = skip

    def run(self, workspace: Workspace, task: TaskRun) -> bool:
        """Jump."""
        return True
