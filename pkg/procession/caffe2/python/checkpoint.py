"""`caffe2.python.checkpoint`: Job, the groups of tasks of a whole training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from procession.errors import GraphError
from procession.graph.blob import BlobReference
from procession.graph.cluster import WorkspaceType
from procession.graph.output import TaskOutput
from procession.graph.scope import Managed
from procession.graph.task import Task, TaskGroup

__all__ = ["Job", "Task", "TaskGroup", "WorkspaceType"]


class _Group(TaskGroup):
    """A group that finds out only when it is used that its tasks are of several workspace types."""

    _mismatch: GraphError | None = None

    def add(self, task: Task) -> None:
        try:
            super().add(task)
        except GraphError as error:
            if self._already_used:
                raise
            self._mismatch = error

    def discard(self, task: Task) -> None:
        if task in self._tasks:
            super().discard(task)

    def freeze(self) -> None:
        if self._mismatch is not None:
            raise self._mismatch
        super().freeze()


class Job(Managed):
    """What runs at the beginning, in each epoch, and at the end.

    Tasks made inside `with job:` are those of an epoch; those of the others are made inside
    `with job.init_group:`, `with job.exit_group:` and `with job.download_group:`.

    Args:
        init_group: Runs first.
        epoch_group: Runs once per epoch.
        download_group: Runs when parameters are to be downloaded.
        exit_group: Runs last.
        stop_conditions: Outputs that end the training when one is true.
        nodes_to_checkpoint: The nodes whose blobs are to be saved.
    """

    def __init__(
        self,
        init_group: TaskGroup | None = None,
        epoch_group: TaskGroup | None = None,
        download_group: TaskGroup | None = None,
        exit_group: TaskGroup | None = None,
        stop_conditions: Iterable[Any] | None = None,
        nodes_to_checkpoint: Iterable[Any] | None = None,
    ) -> None:
        self.init_group = init_group or _Group(WorkspaceType.GLOBAL)
        self.epoch_group = epoch_group or _Group()
        self.download_group = download_group or _Group()
        self.exit_group = exit_group or _Group()
        self.stop_conditions = list(stop_conditions or ())
        self._nodes_to_checkpoint = nodes_to_checkpoint

    def nodes_to_checkpoint(self) -> Any:
        """The nodes whose blobs are to be saved; left out, all that `init_group` uses."""
        if self._nodes_to_checkpoint is not None:
            return self._nodes_to_checkpoint
        return self.init_group.used_nodes()

    def compile(self, session_class: Any) -> None:
        """Compile all groups for a class of sessions."""
        self._nodes_to_checkpoint = self.nodes_to_checkpoint()
        for name in ("init_group", "epoch_group", "download_group", "exit_group"):
            setattr(self, name, session_class.compile(getattr(self, name)))

    def add_stop_condition(self, output: Any) -> None:
        """End the training when this is true: a blob, or a task's output."""
        if isinstance(output, BlobReference):
            output = Task(outputs=[output], group=self.epoch_group).outputs()[0]
        if not isinstance(output, TaskOutput):
            raise GraphError(f"a stop condition is a blob or a task's output, not {output!r}")
        self.stop_conditions.append(output)

    def __enter__(self) -> Job:
        super().__enter__()
        self.epoch_group.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.epoch_group.__exit__(*exception)
        super().__exit__(*exception)
