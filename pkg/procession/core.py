"""Caffe2's `core`, as far as it is about building graphs: the same names under one roof."""

from procession.graph.blob import BlobReference, ScopedBlobReference, ScopedName
from procession.graph.net import Net
from procession.graph.scope import CurrentNameScope, NameScope
from procession.graph.step import ExecutionStep, Plan, execution_step, to_execution_step
from procession.operators.datatype import DataType

__all__ = [
    "BlobReference",
    "CurrentNameScope",
    "DataType",
    "ExecutionStep",
    "NameScope",
    "Net",
    "Plan",
    "ScopedBlobReference",
    "ScopedName",
    "execution_step",
    "to_execution_step",
]
