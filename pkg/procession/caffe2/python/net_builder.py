"""`caffe2.python.net_builder`: nets and steps, built in the order in which they run."""

from procession.caffe2.python import core
from procession.caffe2.python.task import NetBuilder, Task
from procession.graph.control_ops import add_if_op, add_while_op
from procession.graph.ops import Operations, ops
from procession.graph.task import TaskGroup

__all__ = [
    "NetBuilder",
    "Operations",
    "Task",
    "TaskGroup",
    "add_if_op",
    "add_while_op",
    "core",
    "ops",
]
