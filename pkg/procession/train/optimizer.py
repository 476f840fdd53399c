"""What optimizers have in common: names, learning rates, what they keep beside parameters.

An optimizer is called once for each parameter, and adds the operators that update it.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from procession import (
    BlobReference,
    GraphError,
    Net,
    OperatorError,
    Workspace,
    count_runs,
    infer_shapes_and_types,
)
from procession.core import (
    CreateOperator,
    CurrentDeviceScope,
    DataType,
    EmptyNameScope,
    GradientSlice,
    ScopedBlobReference,
    ScopedName,
)
from procession.train.parameter import ParameterInfo

OPTIMIZER_ITERATION_NAME = "optimizer_iteration"
_LARGEST_FLOAT = 3.4028234663852886e38

_optimizer_instance_count: defaultdict[str, int] = defaultdict(int)
"""Class -> how many optimizers there have been of it: their blobs have a number in their names."""


class AuxOptimizerParams(NamedTuple):
    """The blobs that an optimizer keeps: for each parameter, and for all of them."""

    local: list[Any]
    shared: list[Any]


class Optimizer:
    """Updates parameters; the base of all.

    Those of one's own define `_run(net, param_init_net, param_info)`, which adds operators.

    Caffe2: optimizer.Optimizer.
    """

    _rate = "alpha"
    """The attribute that is the learning rate."""

    def __init__(self) -> None:
        self._aux_params = AuxOptimizerParams(local=[], shared=[])
        kind = type(self).__name__
        self._instance_num = _optimizer_instance_count[kind]
        _optimizer_instance_count[kind] += 1
        self._lr_multiplier: Any = None
        self._local_lr_multiplier: Any = None

    def __call__(self, net: Net, param_init_net: Net, param: Any, grad: Any = None) -> None:
        """Add what updates a parameter.

        Args:
            net: The net that is run for each step.
            param_init_net: The one that is run once before.
            param: A `ParameterInfo` with its gradient; or the blob.
            grad: The blob's gradient, or the `GradientSlice` of two blobs.

        Raises:
            GraphError: It has no gradient, or the optimizer has no way to update it.
        """
        if grad is not None:
            blob = BlobReference(param) if isinstance(param, str) else param
            param = ParameterInfo(param_id=None, param=blob, grad=grad)
        if not isinstance(param, ParameterInfo):
            raise GraphError(f"an optimizer takes a ParameterInfo, or a gradient, too: {param!r}")
        if param.grad is None:
            raise GraphError(f"parameter {param.name!r} has no gradient")
        self._run(net, param_init_net, param)

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say how it updates")

    # Names.

    def get_cpu_blob_name(self, base_str: str, node_name: str = "") -> str:
        """A name with the optimizer's class and number in it."""
        return f"{type(self).__name__}_{self._instance_num}_{base_str}{node_name}_cpu"

    def make_unique_blob_name(self, base_str: str) -> str:
        """A name that no other optimizer uses, nor this one on another node."""
        device = CurrentDeviceScope()
        return self.get_cpu_blob_name(base_str, device.node_name if device is not None else "")

    @property
    def attributes(self) -> dict[str, Any]:
        """What it was made with, as a copy: all that it knows but its number."""
        known = copy.deepcopy(self.__dict__)
        del known["_instance_num"]
        return known

    # Learning rates.

    def build_lr(
        self,
        net: Net,
        param_init_net: Net,
        base_learning_rate: float,
        learning_rate_blob: str | None = None,
        policy: str = "fixed",
        iter_val: int = 0,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """Add the learning rate, and the counter of runs that it follows, if they are not there.

        Args:
            net: The net that is run for each step.
            param_init_net: The one that is run once before.
            base_learning_rate: What the rate is multiples of. The blob has the opposite sign, so
                that to add the gradient, times the rate, is to go down.
            learning_rate_blob: Its name.
            policy: How it changes: "fixed", "step", "exp", ...: see the operator LearningRate.
            iter_val: Where the counter begins.
            **kwargs: Arguments of LearningRate.

        Returns:
            The rate, times the multipliers in force, and the counter.

        Raises:
            GraphError: There is no such policy, or it needs another argument.
        """
        name = learning_rate_blob or self.make_unique_blob_name("lr")
        counter = ScopedBlobReference(OPTIMIZER_ITERATION_NAME)
        iteration = count_runs(param_init_net, net, iter=counter, iter_val=iter_val)
        if net.BlobIsDefined(ScopedName(name)):
            rate = net.GetBlobRef(ScopedName(name))
        else:
            if policy != "fixed":
                self._try(iter_val, policy, kwargs)
            rate = net.LearningRate(
                [iteration], name, base_lr=-base_learning_rate, policy=policy, **kwargs
            )
        if self._lr_multiplier is not None:
            multiplier = net.CopyFromCPUInput(
                self._lr_multiplier, self.make_unique_blob_name("lr_multiplier")
            )
            scaled = self.make_unique_blob_name("scaled_lr")
            rate = net.Mul([rate, multiplier], scaled, broadcast=1)
        if self._local_lr_multiplier is not None:
            scaled = self.make_unique_blob_name("local_scaled_lr")
            rate = net.Mul([rate, self._local_lr_multiplier], scaled, broadcast=1)
        return rate, iteration

    def _try(self, iteration: int, policy: str, arguments: dict[str, Any]) -> None:
        """Have a policy computed once: all that it needs is known."""
        workspace = Workspace()
        workspace.feed_blob("iteration", np.array([iteration], np.int64))
        with EmptyNameScope():
            rate = CreateOperator(
                "LearningRate", ["iteration"], ["rate"], base_lr=1.0, policy=policy, **arguments
            )
        try:
            workspace.run(rate)
        except OperatorError as error:
            raise GraphError(f"{type(self).__name__} has no such rate: {error.__cause__}") from None

    def add_lr_multiplier(self, lr_multiplier: Any) -> None:
        """Multiply the learning rate with a blob in all updates from here on; None: with none."""
        self._lr_multiplier = lr_multiplier

    def scale_learning_rate(self, scale: float) -> None:
        """Multiply the learning rate with a number, in all updates from here on."""
        if not hasattr(self, self._rate):
            raise NotImplementedError(f"{type(self).__name__} has no learning rate")
        setattr(self, self._rate, getattr(self, self._rate) * scale)

    def _learning_rate(
        self,
        net: Net,
        param_init_net: Net,
        param_info: ParameterInfo,
        lars: float | None = None,
        sign: int = 1,
    ) -> tuple[Any, Any]:
        """The rate and the counter for one parameter, as the attributes say.

        Args:
            net: See `build_lr`.
            param_init_net: See `build_lr`.
            param_info: The parameter.
            lars: The offset of layer-wise adaptive scaling; None: without. Sparse gradients go
                without.
            sign: -1: the blob has the sign of the rate.
        """
        self._local_lr_multiplier = None
        gradient = param_info.grad
        if lars is not None and not isinstance(gradient, GradientSlice):
            if lars < 0:
                raise GraphError(f"the offset of LARS cannot be below 0: {lars}")
            limits = self.create_lars_inputs(param_init_net, 0.0, 1.0, _LARGEST_FLOAT)
            self._local_lr_multiplier = net.Lars(
                [param_info.blob, gradient, *limits],
                self.make_unique_blob_name(f"{param_info.blob}_lars"),
                offset=lars,
                lr_min=0.0,
            )
        return self.build_lr(
            net,
            param_init_net,
            base_learning_rate=getattr(self, self._rate) * sign,
            policy=getattr(self, "policy", "fixed"),
            **getattr(self, "init_kwargs", {}),
        )

    @staticmethod
    def create_lars_inputs(
        param_init_net: Net, weight_decay: float, trust: float, lr_max: float
    ) -> tuple[Any, Any, Any]:
        """The blobs that the operator Lars reads besides parameter and gradient."""
        fill = param_init_net.ConstantFill
        return (
            fill([], "weight_decay", shape=[1], value=weight_decay),
            fill([], "trust", shape=[1], value=trust),
            fill([], "lr_max", shape=[1], value=lr_max),
        )

    # What is kept.

    def get_auxiliary_parameters(self) -> AuxOptimizerParams:
        """The blobs that belong to the state of training, besides the parameters."""
        return self._aux_params

    @staticmethod
    def _filled(
        param_init_net: Net,
        param_info: ParameterInfo,
        suffix: str,
        value: float = 0.0,
        shape: list[int] | None = None,
        **arguments: Any,
    ) -> Any:
        """A blob beside a parameter, of the parameter's shape if no other is given."""
        like = [param_info.blob] if shape is None else []
        if shape is not None:
            arguments["shape"] = shape
        name = f"{param_info.blob}{suffix}"
        return param_init_net.ConstantFill(like, name, value=value, **arguments)

    def _kept(self, *args: Any, **arguments: Any) -> Any:
        """The same, of what belongs to the optimizer's state."""
        kept = self._filled(*args, **arguments)
        self._aux_params.local.append(kept)
        return kept

    def _one(self, param_init_net: Net, with_node: bool = True) -> Any:
        """The number 1, of the device in force."""
        device = CurrentDeviceScope()
        kind, number, node = 0, 0, ""
        if device is not None:
            kind, number, node = device.device_type, device.device_id, device.node_name
        name = f"ONE_{kind}_{number}{node if with_node else ''}"
        return param_init_net.ConstantFill([], name, shape=[1], value=1.0)

    @staticmethod
    def _shape(param_init_net: Net, param_info: ParameterInfo) -> list[int] | None:
        """A parameter's shape; None if nobody says it, and it is not seen by what fills it."""
        if param_info.shape is None:
            shapes, _ = infer_shapes_and_types([param_init_net])
            param_info.shape = shapes.get(param_info.name)
        return None if param_info.shape is None else list(param_info.shape)

    def _rows(
        self,
        param_init_net: Net,
        param_info: ParameterInfo,
        suffix: str,
        dtype: DataType = DataType.FLOAT,
    ) -> Any:
        """A blob with a number for each row of a parameter, all 0."""
        kind: dict[str, Any] = {"value": 0 if dtype == DataType.INT64 else 0.0}
        if dtype != DataType.FLOAT:
            kind["dtype"] = int(dtype)
        shape = self._shape(param_init_net, param_info)
        if shape is not None:
            return self._kept(param_init_net, param_info, suffix, shape=shape[:1], **kind)
        whole = param_init_net.Shape(param_info.blob, f"{param_info.blob}_shape")
        rows = param_init_net.Slice([whole], f"{whole}_numrows", starts=[0], ends=[1])
        kept = param_init_net.ConstantFill(
            rows, f"{param_info.blob}{suffix}", input_as_shape=1, **kind
        )
        self._aux_params.local.append(kept)
        return kept

    # Gradients.

    @staticmethod
    def dedup(net: Net, sparse_dedup_aggregator: str | None, grad: GradientSlice) -> Any:
        """A sparse gradient in which no row occurs twice, if an aggregator is given.

        Args:
            net: The net.
            sparse_dedup_aggregator: "sum" or "mean" of the values of one row; None: as it is.
            grad: The gradient.

        Raises:
            GraphError: It is not sparse.
        """
        if not isinstance(grad, GradientSlice):
            raise GraphError(f"only sparse gradients can have rows twice, not {grad!r}")
        if not sparse_dedup_aggregator:
            return grad
        return net.DeduplicateGradientSlices(grad, aggregator=sparse_dedup_aggregator)

    def _slices(self, net: Net, grad: Any) -> Any:
        """The same, by the attribute; None if the gradient is not sparse."""
        if not isinstance(grad, GradientSlice):
            return None
        return self.dedup(net, getattr(self, "sparse_dedup_aggregator", None), grad)

    def _dense_only(self, param_info: ParameterInfo) -> Any:
        if isinstance(param_info.grad, GradientSlice):
            raise GraphError(
                f"{type(self).__name__} cannot update {param_info.name!r}: its gradient is sparse"
            )
        return param_info.grad
