"""Job: the groups of tasks of a whole training, by when they run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from procession.errors import GraphError
from procession.graph.blob import BlobReference
from procession.graph.builder import NetBuilder
from procession.graph.cluster import WorkspaceType
from procession.graph.output import TaskOutput
from procession.graph.scope import Managed
from procession.graph.task import Task, TaskGroup


class Job(Managed):
    """What runs at the beginning, in each epoch, and at the end. Caffe2: checkpoint.Job.

    Tasks that are made inside `with job:` are those of an epoch; those of the other groups are made
    inside `with job.init_group:`, `with job.download_group:` and `with job.exit_group:`.

    Args:
        init_group: Runs first, once; its blobs stay (`WorkspaceType.GLOBAL`).
        epoch_group: Runs again and again, until a stop condition is true.
        download_group: For after the last epoch: brings together what was trained.
        exit_group: For the very end: saves what was trained.
        stop_conditions: Outputs that end the training when one is true after an epoch.
        nodes_to_checkpoint: The nodes whose blobs are to be saved; left out, those of `init_group`.
    """

    group_type: ClassVar[type[TaskGroup]] = TaskGroup
    """What its groups are that are not given."""

    def __init__(
        self,
        init_group: TaskGroup | None = None,
        epoch_group: TaskGroup | None = None,
        download_group: TaskGroup | None = None,
        exit_group: TaskGroup | None = None,
        stop_conditions: Iterable[TaskOutput] | None = None,
        nodes_to_checkpoint: Iterable[Any] | None = None,
    ) -> None:
        make = self.group_type
        self.init_group: Any = init_group or make(WorkspaceType.GLOBAL)
        self.epoch_group: Any = epoch_group or make()
        self.download_group: Any = download_group or make()
        self.exit_group: Any = exit_group or make()
        self.stop_conditions = list(stop_conditions or ())
        self._nodes_to_checkpoint = nodes_to_checkpoint

    def nodes_to_checkpoint(self) -> Any:
        """The nodes whose blobs are to be saved."""
        return self._nodes_to_checkpoint or self.init_group.used_nodes()

    def compile(self, session_class: Any) -> None:
        """Compile all groups for a class of sessions: they become what its `compile` returns."""
        self._nodes_to_checkpoint = self.nodes_to_checkpoint()
        for name in ("init_group", "epoch_group", "download_group", "exit_group"):
            setattr(self, name, session_class.compile(getattr(self, name)))

    def add_stop_condition(self, output: BlobReference | TaskOutput) -> None:
        """End the training after an epoch in which this is true.

        Args:
            output: The output of a task of an epoch; or a blob, which an epoch then hands back.

        Raises:
            GraphError: It is something else.
        """
        if isinstance(output, BlobReference):
            output = Task(outputs=[output], group=self.epoch_group).outputs()[0]
        if not isinstance(output, TaskOutput):
            raise GraphError(f"a stop condition is a blob or a task's output, not {output!r}")
        self.stop_conditions.append(output)

    def limit_epochs(self, num_epochs: int) -> None:
        """End the training after so many epochs. Caffe2: checkpoint.epoch_limiter."""
        with self.init_group:
            init_net = NetBuilder.new_net("epoch_counter_init")
            counter = init_net.CreateCounter([], init_count=num_epochs - 1)
            Task(step=init_net)
        with self.epoch_group:
            epoch_net = NetBuilder.new_net("epoch_countdown")
            finished = epoch_net.CountDown([counter])
            task = Task(step=epoch_net, outputs=[finished])
        self.add_stop_condition(task.outputs()[0])

    def run(self, session: Any) -> int:
        """Run all groups in a session: that of the epochs until a stop condition is true.

        A job without a stop condition runs until something fails.

        Returns:
            How many epochs there were.
        """
        session.run(self.init_group)
        epochs = 0
        while True:
            session.run(self.epoch_group)
            epochs += 1
            if any(bool(output.fetch()) for output in self.stop_conditions):
                break
        session.run(self.download_group)
        session.run(self.exit_group)
        return epochs

    def __enter__(self) -> Job:
        super().__enter__()
        self.epoch_group.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.epoch_group.__exit__(*exception)
        super().__exit__(*exception)
