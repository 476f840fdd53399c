"""`caffe2.python.workspace`: functions over the current workspace."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections import defaultdict, namedtuple
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import _import_c_extension as C
from procession.errors import WorkspaceError
from procession.graph.device import CurrentDeviceScope
from procession.graph.message import Message
from procession.graph.net import Net
from procession.graph.proto import NetDef, OperatorDef, TensorShapes
from procession.graph.scope import CurrentNameScope
from procession.graph.step import ExecutionStep, Plan
from procession.session.inference import as_dicts

logger = logging.getLogger(__name__)

Blobs = C.blobs
ResetBlob = C.reset_blob
CreateBlob = C.create_blob
CurrentWorkspace = C.current_workspace
DeserializeBlob = C.deserialize_blob
GlobalInit = C.global_init
HasBlob = C.has_blob
RegisteredOperators = C.registered_operators
SerializeBlob = C.serialize_blob
SwitchWorkspace = C.switch_workspace
RootFolder = C.root_folder
Workspaces = C.workspaces
BenchmarkNet = C.benchmark_net
BenchmarkNetOnce = C.benchmark_net_once
GetStats = C.get_stats
IsNUMAEnabled = C.is_numa_enabled
GetNumNUMANodes = C.get_num_numa_nodes
GetBlobNUMANode = C.get_blob_numa_node
GetBlobSizeBytes = C.get_blob_size_bytes
Workspace = C.Workspace

operator_tracebacks: defaultdict[str, dict[int, Any]] = defaultdict(dict)

is_asan = C.is_asan
has_cuda_support = C.has_cuda_support
has_hip_support = C.has_hip_support
has_gpu_support = C.has_gpu_support
GpuDeviceType = caffe2_pb2.CUDA


def NumCudaDevices() -> int:
    """0: there is the CPU only."""
    return 0


NumGpuDevices = NumCudaDevices
GetCUDAVersion = NumCudaDevices
GetCuDNNVersion = NumCudaDevices


def GetDeviceProperties(deviceid: int) -> None:
    """None: there is no such device."""


def GetGPUMemoryInfo(deviceid: int | None = None) -> None:
    """None: there is no such device."""


def GetGpuPeerAccessPattern() -> Any:
    """An empty array: there are no such devices."""
    return np.array([])


# Messages and names.


def StringifyProto(obj: Any) -> Any:
    """Bytes of a message, or of what has one; strings and bytes as they are.

    Raises:
        ValueError: It has no message.
    """
    if isinstance(obj, (str, bytes)):
        return obj
    return _message(obj).SerializeToString()


def _message(obj: Any) -> Any:
    """The message itself; strings and bytes as they are."""
    if isinstance(obj, (str, bytes, Message)):
        return obj
    if isinstance(obj, Net):
        return obj.message
    if hasattr(obj, "Proto"):
        return obj.Proto()
    raise ValueError(f"something with a message is wanted, not {obj!r} of {type(obj).__name__}")


def _name(obj: Any, kind: str) -> str:
    if isinstance(obj, bytes):
        return obj.decode()
    if not isinstance(obj, str) and type(obj).__name__ != kind:
        raise AssertionError(f"a string or a {kind} is wanted, not {obj!r}")
    return str(obj)


def StringifyBlobName(name: Any) -> str:
    """The name of a blob, given as a string or a `BlobReference`."""
    return _name(name, "BlobReference")


def StringifyNetName(name: Any) -> str:
    """The name of a net, given as a string or a `Net`."""
    return _name(name, "Net")


def GetNetName(net: Any) -> str:
    """The name of a net, given as a string, a `Net` or a `NetDef`."""
    if isinstance(net, (str, bytes)):
        return net if isinstance(net, str) else net.decode(errors="replace")
    if isinstance(net, Net):
        return str(net.Name())
    if isinstance(net, NetDef):
        return str(net.name)
    raise TypeError(f"a net is wanted, not {net!r}")


def GetNameScope() -> str:
    """The name scope in force."""
    return CurrentNameScope()


# Blobs.


def FeedBlob(name: Any, arr: Any, device_option: Any = None) -> bool:
    """Give a blob a value: an array, a string or a `TensorProto`; returns True."""
    if device_option is None:
        device_option = CurrentDeviceScope()
    return C.feed_blob(StringifyBlobName(name), arr, device_option)


def FetchBlob(name: Any) -> Any:
    """A blob's value: an array, which is the script's own, or bytes."""
    return C.fetch_blob(StringifyBlobName(name))


def FetchBlobs(names: Iterable[Any]) -> list[Any]:
    """The values of several blobs."""
    return [FetchBlob(name) for name in names]


Int8Tensor = namedtuple("Int8Tensor", ["data", "scale", "zero_point"])


class _BlobDict:
    """The blobs of the current workspace by name, to fetch and to feed."""

    def __getitem__(self, key: Any) -> Any:
        return FetchBlob(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        FeedBlob(key, value)

    def __len__(self) -> int:
        return len(C.blobs())

    def __iter__(self) -> Iterator[str]:
        return iter(C.blobs())

    def __contains__(self, item: Any) -> bool:
        return C.has_blob(item)


blobs = _BlobDict()


def ResetWorkspace(root_folder: Any = None) -> bool:
    """Give the current workspace up for a new one; returns True.

    Args:
        root_folder: A folder to make, which `RootFolder` returns; left out, it stays.
    """
    if root_folder is not None:
        os.makedirs(root_folder, exist_ok=True)
    return C.reset_workspace(root_folder)


@contextlib.contextmanager
def WorkspaceGuard(workspace_name: Any) -> Iterator[None]:
    """Have another workspace be the current one inside."""
    with C.switched(workspace_name):
        yield


# Running.


def CreateNet(net: Any, overwrite: bool = False, input_blobs: Sequence[Any] | None = None) -> bool:
    """Make a net ready to be run by name; returns True.

    Args:
        net: The net, or its message.
        overwrite: Replace one of the same name.
        input_blobs: Blobs to make, without values, before.
    """
    for blob in input_blobs or ():
        C.create_blob(blob)
    GetNetName(net)
    return C.create_net(_message(net), overwrite)


def RunNet(name: Any, num_iter: int = 1, allow_fail: bool = False) -> bool:
    """Run a net that `CreateNet` made; returns True, or with `allow_fail` whether it went well."""
    return C.run_net(StringifyNetName(name), num_iter, allow_fail)


def RunNetOnce(net: Any) -> bool:
    """Run a net, or its message; returns True."""
    return C.run_net_once(_message(net))


def RunOperatorOnce(operator: Any) -> bool:
    """Run an operator's message; returns True."""
    return C.run_operator_once(_message(operator))


def RunOperatorMultiple(operator: Any, num_runs: int) -> bool:
    """Run an operator's message so many times; returns True."""
    return C.run_operator_multiple(_message(operator), num_runs)


def RunOperatorsOnce(operators: Iterable[Any]) -> bool:
    """Run operators, one after the other; returns True."""
    for operator in operators:
        RunOperatorOnce(operator)
    return True


def _plan(plan_or_step: Any) -> Any:
    return _message(Plan(plan_or_step) if isinstance(plan_or_step, ExecutionStep) else plan_or_step)


def RunPlan(plan_or_step: Any) -> bool:
    """Run a plan, a step or a plan's message; returns True."""
    return C.run_plan(_plan(plan_or_step))


def RunPlanInBackground(plan_or_step: Any) -> C.BackgroundPlan:
    """Begin to run a plan; what is returned has `is_done` and `is_succeeded`."""
    return C.run_plan_in_background(_plan(plan_or_step))


ClearGlobalNetObserver = C.clear_global_net_observer


def CallWithExceptionIntercept(
    func: Any, op_id_fetcher: Any, net_name: str, *args: Any, **kwargs: Any
) -> Any:
    """Call a function: errors say by themselves where in the script an operator was added."""
    return func(*args, **kwargs)


def GetOperatorCost(operator: Any, blobs: Any) -> tuple[int, int]:
    """Refused: operators do not know what they cost."""
    raise WorkspaceError("Procession's operators do not know what they cost: measure them instead")


def Predictor(init_net: Any, predict_net: Any) -> Any:
    """Refused."""
    raise WorkspaceError("Procession has no Predictor: create the net, feed blobs, and run it")


def ApplyTransform(transform_key: str, net: Any) -> Any:
    """Refused: there are no transforms."""
    raise WorkspaceError(f"Procession has no transform {transform_key!r}, nor any other")


def ApplyTransformIfFaster(transform_key: str, net: Any, init_net: Any, **kwargs: Any) -> Any:
    """Refused: there are no transforms."""
    return ApplyTransform(transform_key, net)


def InferShapesAndTypes(
    nets: Iterable[Any],
    blob_dimensions: Mapping[Any, Any] | None = None,
    nets_proto: bool = False,
    blob_types: Mapping[Any, int] | None = None,
) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Shapes and types of what nets make, as far as they can be told: two dicts by blob.

    Args:
        nets: The nets.
        blob_dimensions: The shapes of blobs; left out, those of the current workspace.
        nets_proto: Whether the nets are messages.
        blob_types: The types of blobs; float where none is given.
    """
    messages = [_message(net) for net in nets]
    if blob_dimensions is None:
        if blob_types is not None:
            raise AssertionError("InferShapesAndTypes: blob_types without blob_dimensions")
        found = C.infer_shapes_and_types_from_workspace(messages)
    else:
        found = C.infer_shapes_and_types_from_map(messages, blob_dimensions, blob_types)
    return as_dicts(TensorShapes.FromString(found))


# Immediate mode: operators run, in a workspace of their own, as soon as they are made.

_immediate_workspace_name = "_CAFFE2_IMMEDIATE"
_immediate_root_folder = ""
_immediate_mode = False


def IsImmediate() -> bool:
    """Whether operators run as soon as they are made."""
    return _immediate_mode


def StartImmediate(i_know: bool = False) -> None:
    """Run operators as soon as they are made, from here on, in a workspace of their own.

    Args:
        i_know: Do not warn that this is for debugging.
    """
    global _immediate_mode, _immediate_root_folder
    StopImmediate()
    _immediate_mode = True
    with WorkspaceGuard(_immediate_workspace_name):
        _immediate_root_folder = tempfile.mkdtemp()
        ResetWorkspace(_immediate_root_folder)
    if not i_know:
        print(
            "Immediate mode: each operator runs once as it is made, in a workspace of its own, "
            "by itself. It is for debugging; StopImmediate() ends it."
        )


def StopImmediate() -> None:
    """End what `StartImmediate` began, and give its workspace up."""
    global _immediate_mode, _immediate_root_folder
    if not _immediate_mode:
        return
    with WorkspaceGuard(_immediate_workspace_name):
        ResetWorkspace()
    shutil.rmtree(_immediate_root_folder, ignore_errors=True)
    _immediate_root_folder = ""
    _immediate_mode = False


def ImmediateBlobs() -> list[str]:
    """The names of the blobs of immediate mode."""
    with WorkspaceGuard(_immediate_workspace_name):
        return C.blobs()


def RunOperatorImmediate(op: OperatorDef) -> None:
    """Run an operator among the blobs of immediate mode."""
    with WorkspaceGuard(_immediate_workspace_name):
        RunOperatorOnce(op)


def FetchImmediate(name: Any) -> Any:
    """`FetchBlob` in immediate mode."""
    with WorkspaceGuard(_immediate_workspace_name):
        return FetchBlob(name)


def FeedImmediate(name: Any, arr: Any, device_option: Any = None) -> bool:
    """`FeedBlob` in immediate mode."""
    with WorkspaceGuard(_immediate_workspace_name):
        return FeedBlob(name, arr, device_option)
