"""`caffe2.python.cnn`: a model with layers as methods."""

from __future__ import annotations

from typing import Any

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import brew, core, workspace
from procession.caffe2.python.model_helper import ModelHelper
from procession.errors import GraphError

__all__ = ["CNNModelHelper"]

_CUDNN = ("use_cudnn", "cudnn_exhaustive_search", "ws_nbytes_limit")
# Method -> the helper, and what of the model it is told.
_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Accuracy": ("accuracy", ()),
    "AddWeightDecay": ("add_weight_decay", ()),
    "AveragePool": ("average_pool", ("order", "use_cudnn")),
    "Concat": ("concat", ("order",)),
    "Conv": ("conv", ("order", *_CUDNN)),
    "ConvNd": ("conv_nd", ("order", *_CUDNN)),
    "ConvTranspose": ("conv_transpose", ("order", *_CUDNN)),
    "DepthConcat": ("depth_concat", ("order",)),
    "Dropout": ("dropout", ("order", "use_cudnn")),
    "FC": ("fc", ()),
    "GroupConv": ("group_conv", ("order", *_CUDNN)),
    "GroupConv_Deprecated": ("group_conv_deprecated", ("order", *_CUDNN)),
    "InstanceNorm": ("instance_norm", ("order",)),
    "Iter": ("iter", ()),
    "LRN": ("lrn", ("order", "use_cudnn")),
    "MaxPool": ("max_pool", ("order", "use_cudnn")),
    "PRelu": ("prelu", ()),
    "Relu": ("relu", ("order", "use_cudnn")),
    "Softmax": ("softmax", ("use_cudnn",)),
    "SpatialBN": ("spatial_bn", ("order",)),
    "SpatialGN": ("spatial_gn", ("order",)),
    "Sum": ("sum", ()),
    "Transpose": ("transpose", ("use_cudnn",)),
}


class CNNModelHelper(ModelHelper):
    """A `ModelHelper` whose layers are methods, called as operators are: `model.Conv(...)`.

    Args:
        order: The order of images: "NCHW" or "NHWC".
        name: Its name; left out, "CNN".
        use_cudnn: Names an engine, which has no effect.
        cudnn_exhaustive_search: An argument of convolutions, which has no effect.
        ws_nbytes_limit: The same.
        init_params: See `ModelHelper`, as for the rest.
        skip_sparse_optim: See there.
        param_model: See there.

    Raises:
        GraphError: `order` is neither of the two.
    """

    def __init__(
        self,
        order: str = "NCHW",
        name: str | None = None,
        use_cudnn: bool = True,
        cudnn_exhaustive_search: bool = False,
        ws_nbytes_limit: int | None = None,
        init_params: bool = True,
        skip_sparse_optim: bool = False,
        param_model: ModelHelper | None = None,
    ) -> None:
        if order not in ("NCHW", "NHWC"):
            raise GraphError(f"the order of images is 'NCHW' or 'NHWC', not {order!r}")
        arguments: dict[str, Any] = {
            "order": order,
            "use_cudnn": use_cudnn,
            "cudnn_exhaustive_search": cudnn_exhaustive_search,
        }
        if ws_nbytes_limit:
            arguments["ws_nbytes_limit"] = ws_nbytes_limit
        super().__init__(
            name="CNN" if name is None else name,
            init_params=init_params,
            skip_sparse_optim=skip_sparse_optim,
            param_model=param_model,
            arg_scope=arguments,
        )
        self.order = order
        self.use_cudnn = use_cudnn
        self.cudnn_exhaustive_search = cudnn_exhaustive_search
        self.ws_nbytes_limit = ws_nbytes_limit

    def __getattr__(self, operator: str) -> Any:
        if operator not in _LAYERS:
            return super().__getattr__(operator)
        name, told = _LAYERS[operator]
        helper = getattr(brew, name)

        def add(*args: Any, **kwargs: Any) -> Any:
            own = {each: getattr(self, each) for each in told}
            return helper(self, *args, **own, **kwargs)

        return add

    @property
    def XavierInit(self) -> tuple[str, dict[str, Any]]:
        """Fills a parameter so that signals keep their size."""
        return ("XavierFill", {})

    @property
    def MSRAInit(self) -> tuple[str, dict[str, Any]]:
        """The same, for layers with ReLU behind them."""
        return ("MSRAFill", {})

    @property
    def ZeroInit(self) -> tuple[str, dict[str, Any]]:
        """Fills a parameter with 0."""
        return ("ConstantFill", {})

    def ConstantInit(self, value: float) -> tuple[str, dict[str, Any]]:
        """Fills a parameter with a number."""
        return ("ConstantFill", {"value": value})

    @property
    def CPU(self) -> Any:
        """The device option of the CPU."""
        return core.DeviceOption(caffe2_pb2.CPU)

    @property
    def GPU(self) -> Any:
        """That of the first GPU; what has it cannot run."""
        return core.DeviceOption(workspace.GpuDeviceType, 0)
