"""`caffe2.python.task`: nodes, tasks, groups of tasks, their outputs."""

from typing import ClassVar

from procession.caffe2.python import core
from procession.graph import builder, task
from procession.graph.cluster import Cluster, Node, WorkspaceType
from procession.graph.output import TaskOutput, TaskOutputList
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


class NetBuilder(builder.NetBuilder):
    """A builder of nets that are not strict. Caffe2: net_builder.NetBuilder."""

    net_type = core.Net


class Task(task.Task):
    """A task that has an output, and whose `with` block builds nets that are not strict.

    Caffe2: task.Task.
    """

    builder_type: ClassVar[type[builder.NetBuilder]] = NetBuilder
    has_output: ClassVar[bool] = True
