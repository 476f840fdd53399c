"""`caffe2.python.core`: nets, steps, plans, operators, gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from procession import core as graph_core
from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import _import_c_extension as C
from procession.caffe2.python import scope, utils, workspace
from procession.caffe2.python.lazy import TriggerLazyImport
from procession.core import *  # noqa: F403
from procession.core import BlobReference, DeviceOption, GradientSlice
from procession.errors import GraphError
from procession.graph import cloning
from procession.graph import net as graph_net
from procession.graph import operator as graph_operator
from procession.graph.device import (
    InferOpDeviceAsBlobDevices,
    InjectDeviceCopiesAmongNetsWithoutB2D,
    IsGPUDeviceType,
    copy_func_between_devices,
    device_equal,
)
from procession.graph.operator import check_holdable
from procession.graph.proto import OperatorDef

__all__ = [
    "DEFAULT_REMAP_FUNCS",
    "C",
    "CreatePythonOperator",
    "GetGlobalInitArgs",
    "GetIndexFromGradientList",
    "GlobalInit",
    "InferOpDeviceAsBlobDevices",
    "InjectDeviceCopiesAmongNetsWithoutB2D",
    "IsGPUDeviceType",
    "RefreshRegisteredOperators",
    "SetEnginePref",
    "SetGlobalEnginePref",
    "SetOpEnginePref",
    "SetPerOpEnginePref",
    "TriggerLazyImport",
    "caffe2_pb2",
    "control_op_remap",
    "copy_func_between_devices",
    "device_equal",
    "get_net_name",
    "output_to_list",
    "remap_proto",
    "scope",
    "utils",
    "workspace",
]
__all__ += graph_core.__all__

SetEnginePref = C.set_engine_pref
SetGlobalEnginePref = C.set_global_engine_pref
SetOpEnginePref = C.set_op_engine_pref
SetPerOpEnginePref = C.set_per_op_engine_pref

control_op_remap = cloning.remap_nets_in_arguments
DEFAULT_REMAP_FUNCS = cloning.REMAP_FUNCTIONS

_GLOBAL_INIT_ARGS: list[str] = []


def GlobalInit(args: Iterable[str]) -> None:
    """Keep the arguments for `GetGlobalInitArgs`; there is nothing to set up."""
    _GLOBAL_INIT_ARGS.extend(list(args)[1:])
    C.global_init(args)


def GetGlobalInitArgs() -> list[str]:
    """What `GlobalInit` was given, without the program's name."""
    return _GLOBAL_INIT_ARGS[:]


def RefreshRegisteredOperators(trigger_lazy: bool = True) -> None:
    """Nothing to do: operators are known when they are registered."""


def _GetRegisteredOperators() -> set[str]:
    return set(C.registered_operators())


# These take the place of the graph's own, which find mistakes when operators are added.
def CreateOperator(  # type: ignore[no-redef]
    operator_type: str,
    inputs: Any,
    outputs: Any,
    name: str = "",
    control_input: Any = None,
    device_option: Any = None,
    arg: Any = None,
    engine: str | None = None,
    debug_info: str | None = None,
    **kwargs: Any,
) -> Any:
    """An operator by itself. See `procession.graph.operator.CreateOperator`.

    Raises:
        GraphError: An argument is nothing that Caffe2's messages hold.
    """
    check_holdable(operator_type, kwargs)
    made = graph_operator.CreateOperator(
        operator_type,
        inputs,
        outputs,
        name,
        control_input,
        device_option,
        arg,
        engine,
        debug_info,
        **kwargs,
    )
    if workspace.IsImmediate():
        workspace.RunOperatorImmediate(made)
    return made


def CreatePythonOperator(
    f: Any,
    inputs: Any,
    outputs: Any,
    grad_f: Any = None,
    pass_workspace: bool = False,
    python_func_type: Any = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """An operator that calls a function; see `procession.Net.Python`."""
    known = ("grad_output_indices", "grad_input_indices")
    arguments = graph_operator.python_arguments(
        f,
        grad_f,
        python_func_type,
        pass_workspace,
        **{name: kwargs.pop(name, None) for name in known},
    )
    arguments["must_write"] = False
    if isinstance(outputs, (list, tuple)):
        arguments["n_outputs"] = len(outputs)
    create: Any = CreateOperator
    return create("Python", inputs, outputs, *args, **arguments, **kwargs)


class Net(graph_net.Net):  # type: ignore[no-redef]
    """A net; see `procession.Net`.

    What Caffe2 finds wrong with an operator only when it is run is found when the net is run here,
    too. Arguments that an operator does not have are passed over.
    """

    strict = False

    def _add(self, type: str, inputs: Any, outputs: Any, arguments: dict[str, Any]) -> Any:
        if type == "Python":
            arguments["must_write"] = False
        check_holdable(type, arguments)
        made = super()._add(type, inputs, outputs, arguments)
        if workspace.IsImmediate():
            workspace.RunOperatorImmediate(self._net.op[-1])
        return made

    def _CreateAndAddToSelf(
        self, op_type: str, inputs: Any, outputs: Any = None, **kwargs: Any
    ) -> Any:
        return getattr(self, op_type)(inputs, outputs, **kwargs)

    def _ExtendOps(self, new_ops: Iterable[OperatorDef]) -> None:
        self.extend_ops(new_ops)

    def _InvalidateLookupTables(self) -> None:
        self._stale = True

    def _RecreateLookupTables(self) -> None:
        self._look_up()

    def _CheckLookupTables(self) -> None:
        known = set(self._written), set(self._from_outside)
        self._look_up()
        if known != (set(self._written), set(self._from_outside)):
            raise GraphError(f"net {self.Name()!r} knows other blobs than its message has")

    def AddObserver(self, observer_type: str) -> Any:
        """Have the runs observed of the net that `CreateNet` made of this; returns the observer.

        Args:
            observer_type: "TimeObserver" or "RunCountObserver"; see
                `procession.session.observers`.
        """
        return C.add_observer_to_net(self.Name(), observer_type)

    def RemoveObserver(self, observer: Any) -> None:
        """Have them observed by that observer no more."""
        C.remove_observer_from_net(self.Name(), observer)

    def NumObservers(self) -> int:
        """How many observers the net has that `CreateNet` made of this."""
        return C.num_observers_on_net(self.Name())

    @classmethod
    def _RunAllOnGPU(cls, net: Any, gpu_id: int = 0, use_cudnn: bool = False) -> None:
        net.device_option.CopyFrom(DeviceOption(workspace.GpuDeviceType, gpu_id))
        for operator in net.op:
            if use_cudnn:
                operator.engine = "CUDNN"
            if operator.type == "RecurrentNetwork":
                for argument in operator.arg:
                    if argument.name == "step_net":
                        cls._RunAllOnGPU(argument.n, gpu_id, use_cudnn)

    def RunAllOnGPU(self, gpu_id: int = 0, use_cudnn: bool = False) -> None:
        """Have the whole net on a GPU; a run of it is then refused."""
        self._RunAllOnGPU(self.Proto(), gpu_id, use_cudnn)

    def RunAllOnMKL(self) -> None:
        """Have the whole net on MKL; a run of it is then refused."""
        self.Proto().device_option.CopyFrom(DeviceOption(caffe2_pb2.MKLDNN))

    def RunAllOnIDEEP(self) -> None:
        """Have the whole net on IDEEP; a run of it is then refused."""
        self.Proto().device_option.CopyFrom(DeviceOption(caffe2_pb2.IDEEP))


def GetIndexFromGradientList(g_list: Iterable[Any], name: Any) -> int | None:
    """At which place of a list of gradients a blob is, as gradient, values or indices."""
    for index, gradient in enumerate(g_list):
        if gradient == name:
            return index
        if isinstance(gradient, GradientSlice) and name in (gradient.indices, gradient.values):
            return index
    return None


def get_net_name(netlike: Any) -> str:
    """The name of a net, a message of one, or a name."""
    if isinstance(netlike, graph_net.Net):
        return netlike.Name()
    if isinstance(netlike, caffe2_pb2.NetDef):
        return str(netlike.name)
    return str(netlike)


def output_to_list(op_output: Any) -> list[Any]:
    """What an operator's method returned, as a list."""
    if isinstance(op_output, (list, tuple)):
        return list(op_output)
    if not isinstance(op_output, BlobReference):
        raise AssertionError(f"an operator's outputs are wanted, not {op_output!r}")
    return [op_output]


def remap_proto(argument: Any, blob_remap: Any) -> None:
    """Rename the blobs of the net in an argument."""
    net = argument.n
    renamed = {str(old): str(new) for old, new in blob_remap.items()}
    argument.n.CopyFrom(cloning.remapped(net, net.name, renamed))
