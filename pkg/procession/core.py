"""Caffe2's `core`, as far as it is about building graphs: the same names under one roof."""

from procession.graph.blob import BlobReference, ScopedBlobReference, ScopedName
from procession.graph.cloning import clone_and_bind_net, remap_input
from procession.graph.device import (
    CurrentDeviceScope,
    DeviceOption,
    DeviceScope,
    EmptyDeviceScope,
    InferBlobDevices,
    InferOpBlobDevices,
    InferOpBlobDevicesAsDict,
    InjectCrossDeviceCopies,
    InjectDeviceCopiesAmongNets,
    device_option_equal,
)
from procession.graph.gradient import GradientRegistry
from procession.graph.gradient_makers import GradientSlice
from procession.graph.ir import IR, OpSSA
from procession.graph.net import Net
from procession.graph.operator import CreateOperator, IsOperator, IsOperatorWithEngine
from procession.graph.scope import CurrentNameScope, EmptyNameScope, NameScope
from procession.graph.ssa import (
    get_op_ids_in_path,
    get_output_producers,
    get_ssa,
    get_undefined_blobs,
)
from procession.graph.step import (
    ExecutionStep,
    Plan,
    add_nets_in_order,
    execution_step,
    scoped_execution_step,
    to_execution_step,
)
from procession.operators.datatype import DataType

__all__ = [
    "IR",
    "BlobReference",
    "CreateOperator",
    "CurrentDeviceScope",
    "CurrentNameScope",
    "DataType",
    "DeviceOption",
    "DeviceScope",
    "EmptyDeviceScope",
    "EmptyNameScope",
    "ExecutionStep",
    "GradientRegistry",
    "GradientSlice",
    "InferBlobDevices",
    "InferOpBlobDevices",
    "InferOpBlobDevicesAsDict",
    "InjectCrossDeviceCopies",
    "InjectDeviceCopiesAmongNets",
    "IsOperator",
    "IsOperatorWithEngine",
    "NameScope",
    "Net",
    "OpSSA",
    "Plan",
    "ScopedBlobReference",
    "ScopedName",
    "add_nets_in_order",
    "clone_and_bind_net",
    "device_option_equal",
    "execution_step",
    "get_op_ids_in_path",
    "get_output_producers",
    "get_ssa",
    "get_undefined_blobs",
    "remap_input",
    "scoped_execution_step",
    "to_execution_step",
]
