"""`caffe2.python.task`: nodes, tasks, groups of tasks, their outputs."""

from typing import Any, ClassVar

from procession.caffe2.python import core
from procession.graph import builder, cluster, task
from procession.graph.cluster import Cluster, WorkspaceType
from procession.graph.output import TaskOutput, TaskOutputList
from procession.graph.properties import NAMES
from procession.graph.setup import SetupNets, add_setup_steps, get_setup_nets
from procession.graph.task import TaskGroup, final_output

__all__ = [
    "Cluster",
    "Node",
    "SetupNets",
    "Task",
    "TaskGroup",
    "TaskOutput",
    "TaskOutputList",
    "WorkspaceType",
    "add_setup_steps",
    "final_output",
    "get_setup_nets",
]


class Node(cluster.Node):
    """A node that keeps whatever keywords it is given. Caffe2: task.Node.

    Those that Procession knows have their meaning, see `procession.Node`.
    """

    def __init__(self, node: Any = cluster.LOCAL, **kwargs: Any) -> None:
        self._given = kwargs
        super().__init__(node, **{name: kwargs[name] for name in NAMES if name in kwargs})

    def kwargs(self) -> dict[str, Any]:
        """The keywords it was made with."""
        return self._given

    def __repr__(self) -> str:
        return f"Node(name={self}, kwargs={self._given})"

    @classmethod
    def current(cls, value: Any = None, required: bool = True) -> Any:
        """The innermost node, be it of this class or made by Procession itself."""
        return cluster.Node.current(value, required=required)


class NetBuilder(builder.NetBuilder):
    """A builder of nets that are not strict. Caffe2: net_builder.NetBuilder."""

    net_type = core.Net


class Task(task.Task):
    """A task that has an output, and whose `with` block builds nets that are not strict.

    Caffe2: task.Task.
    """

    builder_type: ClassVar[type[builder.NetBuilder]] = NetBuilder
    has_output: ClassVar[bool] = True
