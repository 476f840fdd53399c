"""`caffe2.python.model_helper`: a net, the net that makes its parameters, and what those are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from procession.caffe2.python import core
from procession.caffe2.python.modeling.parameter_sharing import parameter_sharing_context
from procession.caffe2.python.optimizer_context import DEFAULT_OPTIM, OptimizerContext
from procession.caffe2.python.regularizer_context import RegularizerContext
from procession.errors import GraphError
from procession.train import model, predictor
from procession.train.parameter import ParameterInfo

__all__ = [
    "DEFAULT_OPTIM",
    "ExtractPredictorNet",
    "ModelHelper",
    "OptimizerContext",
    "RegularizerContext",
    "parameter_sharing_context",
]

_KNOWN = """
Accuracy Adadelta Adagrad Adam Add AveragedLoss Cast Checkpoint ConstantFill Copy CopyCPUToGPU
CopyGPUToCPU DequeueBlobs EnsureCPUOutput ExpandDims Flatten FlattenToVec LabelCrossEntropy
LearningRate MakeTwoClass MatMul NCCLAllreduce NHWC2NCHW PRelu PackSegments Print ReduceFrontSum
Scale ScatterWeightedSum Sigmoid Snapshot Softmax SoftmaxWithLoss SortedSegmentSum SparseAdadelta
SparseAdagrad SquaredL2Distance Squeeze StopGradient Summarize Tanh Transpose UnpackSegments
WeightedSum YellowFin
"""


class ModelHelper(model.ModelHelper):
    """See `procession.train.ModelHelper`. Its nets take what Caffe2's do."""

    net_type: ClassVar[type[Any]] = core.Net
    default_arg_scope: ClassVar[Mapping[str, Any]] = {
        "order": "NCHW",
        "use_cudnn": True,
        "cudnn_exhaustive_search": False,
    }

    known_operators: ClassVar[frozenset[str]] = frozenset(_KNOWN.split())

    # What `data_parallel_model` says of a model that it has filled with replicas.
    _replicas: Any
    _devices: list[int]
    _device_type: int
    _device_prefix: str
    _device_grouped_blobs: dict[str, dict[int, Any]]
    _optimizer: Any

    def _gradients(self, ys: Any, skip: int, wanted: Iterable[Any] | None) -> Any:
        return self.net.AddGradientOperators(ys, skip, wanted=wanted)

    def GetDevices(self) -> list[int]:
        """The numbers of the replicas in it; see `data_parallel_model`.

        Raises:
            GraphError: There are none.
        """
        devices: list[int] | None = vars(self).get("_devices")
        if not devices:
            raise GraphError(f"model {self.name!r} has no replicas: data_parallel_model adds them")
        return devices

    def add_param_DEPRECATED(
        self, param: Any, key: Any = None, shape: Any = None, length: Any = None
    ) -> ParameterInfo:
        """`AddParameter`; returns what is known of it."""
        self.AddParameter(param)
        info = ParameterInfo(
            param_id=len(self.params) - 1,
            param=param,
            shape=shape if shape is not None else self._shape_in_init(str(param)),
            key=self._key_of(key),
            length=length,
        )
        return self._parameters_info.setdefault(param, info)

    def _key_of(self, key: Any) -> Any:
        record = self.net.input_record()
        if key is None or record is None:
            return key
        return record.field_names()[record.field_blobs().index(key)]

    def RunAllOnGPU(self, *args: Any, **kwargs: Any) -> None:
        """Have both nets on a GPU; a run of them is then refused."""
        for net in (self.param_init_net, self.net):
            net.RunAllOnGPU(*args, **kwargs)


def ExtractPredictorNet(
    net_proto: Any,
    input_blobs: Iterable[Any],
    output_blobs: Iterable[Any],
    device: Any = None,
    renames: Any = None,
    disabled_inputs: Any = None,
) -> tuple[Any, list[str]]:
    """The part of a net that is needed to predict; see `procession.train.predictor_net`.

    Args:
        net_proto: The message of the net.
        input_blobs: What will be fed.
        output_blobs: What is to be predicted.
        device: Where the operators are to run; None: where they did.
        renames: Blob -> its new name.
        disabled_inputs: Blobs that must not be needed.

    Returns:
        The net, and those of its external inputs that are not among the inputs.
    """
    inputs = [str(blob) for blob in input_blobs]
    made: Any = predictor.predictor_net(
        core.Net(net_proto), inputs, output_blobs, renames, disabled_inputs or ()
    )
    made.Proto().name = f"{net_proto.name}_predict"
    if device is not None:
        for operator in made.Proto().op:
            operator.device_option.device_type = device.device_type
            operator.device_option.device_id = device.device_id
    renamed = {(renames or {}).get(blob, blob) for blob in inputs}
    return made, [blob for blob in made.Proto().external_input if blob not in renamed]
