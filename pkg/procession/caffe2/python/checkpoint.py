"""`caffe2.python.checkpoint`: Job, the groups of tasks of a whole training."""

from __future__ import annotations

from typing import Any, ClassVar

from procession.caffe2.python.task import Task
from procession.errors import GraphError
from procession.graph import job, task
from procession.graph.cluster import WorkspaceType
from procession.graph.task import TaskGroup

__all__ = ["Job", "JobRunner", "Task", "TaskGroup", "WorkspaceType", "epoch_limiter"]


class _Group(TaskGroup):
    """A group that finds out only when it is used that its tasks are of several workspace types."""

    _mismatch: GraphError | None = None

    def add(self, added: task.Task) -> None:
        try:
            super().add(added)
        except GraphError as error:
            if self._already_used:
                raise
            self._mismatch = error

    def discard(self, added: task.Task) -> None:
        if added in self._tasks:
            super().discard(added)

    def freeze(self) -> None:
        if self._mismatch is not None:
            raise self._mismatch
        super().freeze()


class Job(job.Job):
    """A job whose groups look at workspace types when they are run; see `procession.Job`."""

    group_type: ClassVar[type[TaskGroup]] = _Group


class JobRunner:
    """Runs a job from its beginning; see `Job.run`.

    Args:
        job: The job.
        checkpoint_manager: None: there are no checkpoints.
        resume_from_epoch: None.
        upload_task_group_builder: None.

    Raises:
        GraphError: Something is not None.
    """

    def __init__(
        self,
        job: Job,
        checkpoint_manager: Any = None,
        resume_from_epoch: int | None = None,
        upload_task_group_builder: Any = None,
    ) -> None:
        wanted = (checkpoint_manager, resume_from_epoch, upload_task_group_builder)
        if wanted != (None, None, None):
            raise GraphError("there are no checkpoints here to save, to upload or to resume from")
        self.job = job

    def train(self, session: Any) -> int:
        """Run the job in a session; how many epochs there were."""
        return self.job.run(session)


def epoch_limiter(job: Job, num_epochs: int) -> None:
    """End a job after so many epochs; see `Job.limit_epochs`."""
    job.limit_epochs(num_epochs)
