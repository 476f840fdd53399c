"""Convolutions, and those that are transposed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from procession import GraphError
from procession.train.initializers import Fill
from procession.train.layers.common import XAVIER, ZEROS, divided, named, of_device, parameter
from procession.train.model import ModelHelper
from procession.train.parameter import ParameterTags

Kernel = int | list[int]
Transform = Callable[[Any, Any, list[Any]], Any]
"""Called with model, output and the inputs, which it may change, before the operator is added."""


def _filter_shape(out: int, into: int, kernels: list[int], order: str) -> list[int]:
    if order not in ("NCHW", "NHWC"):
        raise GraphError(f"order is 'NCHW' or 'NHWC', not {order!r}")
    return [out, into, *kernels] if order == "NCHW" else [out, *kernels, into]


def _convolution(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    kernels: list[int],
    window: dict[str, Any],
    weight_init: Fill | None,
    bias_init: Fill | None,
    WeightInitializer: Any,
    BiasInitializer: Any,
    group: int,
    transform_inputs: Transform | None,
    order: str,
    arguments: dict[str, Any],
    use_cudnn: bool = False,
    cudnn_exhaustive_search: bool = False,
    ws_nbytes_limit: int | None = None,
    no_bias: bool = False,
) -> Any:
    if arguments.get("engine") is not None and (arguments["engine"] == "CUDNN") != use_cudnn:
        raise GraphError(f"engine={arguments['engine']!r} does not go with use_cudnn={use_cudnn}")
    of_device(arguments, use_cudnn, cudnn_exhaustive_search, ws_nbytes_limit)
    out = named(model, blob_out)
    shape = _filter_shape(dim_out, divided("dim_in", dim_in, group), kernels, order)
    weight = parameter(
        model, out + "_w", shape, ParameterTags.WEIGHT, XAVIER, weight_init, WeightInitializer
    )
    inputs = [blob_in, weight]
    if not no_bias:
        inputs.append(
            parameter(
                model, out + "_b", [dim_out], ParameterTags.BIAS, ZEROS, bias_init, BiasInitializer
            )
        )
    if transform_inputs is not None:
        transform_inputs(model, out, inputs)
    if group != 1:
        arguments["group"] = group
    return model.net.Conv(inputs, out, order=order, **window, **arguments)


def conv(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    kernel: Kernel,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    WeightInitializer: Any = None,
    BiasInitializer: Any = None,
    group: int = 1,
    transform_inputs: Transform | None = None,
    order: str = "NCHW",
    **kwargs: Any,
) -> Any:
    """A convolution of images, with the parameters `blob_out`_w and `blob_out`_b.

    Args:
        model: Where it is added.
        blob_in: Images: (N, dim_in, H, W), or (N, H, W, dim_in) if `order` is "NHWC".
        blob_out: Its output.
        dim_in: How many channels the input has.
        dim_out: How many the output is to have.
        kernel: The height and width of the window, or both in a list.
        weight_init: What fills the filters: ("XavierFill", {}). They have the shape
            (dim_out, dim_in / group, height, width), or with "NHWC" the channels at the end.
        bias_init: What fills the bias, of shape (dim_out,): ("ConstantFill", {}).
        WeightInitializer: A class of initializers, or an initializer.
        BiasInitializer: The same.
        group: In how many groups of channels.
        transform_inputs: A function of the model, the output and the list of inputs, which it may
            change.
        order: "NCHW" or "NHWC".
        **kwargs: Arguments of Conv: `stride`, `pad`, `dilation`, ...; and `no_bias=True`.

    Raises:
        GraphError: The channels cannot be divided into so many groups, or a kernel of other than
            two dimensions.

    Caffe2: brew.conv.
    """
    kernels = kernel if isinstance(kernel, list) else [kernel, kernel]
    if len(kernels) != 2:
        raise GraphError(f"conv takes a kernel of two dimensions, not {kernel}: use conv_nd")
    window: dict[str, Any] = {"kernel": kernel}
    if isinstance(kernel, list):
        window = {"kernel_h": kernel[0], "kernel_w": kernel[1]}
    return _convolution(
        model,
        blob_in,
        blob_out,
        dim_in,
        dim_out,
        kernels,
        window,
        weight_init,
        bias_init,
        WeightInitializer,
        BiasInitializer,
        group,
        transform_inputs,
        order,
        kwargs,
        **_own(kwargs),
    )


def conv_nd(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    kernel: Kernel,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    WeightInitializer: Any = None,
    BiasInitializer: Any = None,
    group: int = 1,
    transform_inputs: Transform | None = None,
    order: str = "NCHW",
    **kwargs: Any,
) -> Any:
    """A convolution over as many dimensions as `kernel` has; see `conv`.

    Raises:
        GraphError: `order` is not "NCHW".

    Caffe2: brew.conv_nd.
    """
    if order != "NCHW":
        raise GraphError(f"conv_nd takes channels before the other dimensions, not {order!r}")
    kernels = kernel if isinstance(kernel, list) else [kernel]
    return _convolution(
        model,
        blob_in,
        blob_out,
        dim_in,
        dim_out,
        kernels,
        {"kernels": kernels},
        weight_init,
        bias_init,
        WeightInitializer,
        BiasInitializer,
        group,
        transform_inputs,
        order,
        kwargs,
        **_own(kwargs),
    )


_OWN = ("use_cudnn", "cudnn_exhaustive_search", "ws_nbytes_limit", "no_bias")


def _own(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the keywords that are no arguments of the operator, taken out."""
    return {name: arguments.pop(name) for name in _OWN if name in arguments}


def conv_transpose(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    kernel: int,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    use_cudnn: bool = False,
    order: str = "NCHW",
    cudnn_exhaustive_search: bool = False,
    ws_nbytes_limit: int | None = None,
    **kwargs: Any,
) -> Any:
    """A transposed convolution of images: ConvTranspose; see `conv`.

    The filters have the shape (dim_in, dim_out, kernel, kernel), or with "NHWC" the channels of the
    output at the end. Caffe2: brew.conv_transpose.
    """
    out = named(model, blob_out)
    shape = _filter_shape(dim_in, dim_out, [kernel, kernel], order)
    weight = parameter(model, out + "_w", shape, ParameterTags.WEIGHT, XAVIER, weight_init)
    bias = parameter(model, out + "_b", [dim_out], ParameterTags.BIAS, ZEROS, bias_init)
    of_device(kwargs, use_cudnn, cudnn_exhaustive_search, ws_nbytes_limit)
    return model.net.ConvTranspose(
        [blob_in, weight, bias], out, kernel=kernel, order=order, **kwargs
    )


def group_conv(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    kernel: Kernel,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    group: int = 1,
    **kwargs: Any,
) -> Any:
    """`conv` in groups. Caffe2: brew.group_conv."""
    return conv(
        model,
        blob_in,
        blob_out,
        dim_in,
        dim_out,
        kernel,
        weight_init=weight_init,
        bias_init=bias_init,
        group=group,
        **kwargs,
    )


def group_conv_deprecated(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    kernel: int,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    group: int = 1,
    use_cudnn: bool = False,
    order: str = "NCHW",
    cudnn_exhaustive_search: bool = False,
    ws_nbytes_limit: int | None = None,
    no_bias: bool = False,
    **kwargs: Any,
) -> Any:
    """A convolution in groups, each of which is a Conv with parameters of its own.

    Those are called `blob_out`_gconv_0_w and so on. `group_conv` is faster. Caffe2:
    brew.group_conv_deprecated.
    """
    of_device(kwargs, use_cudnn, cudnn_exhaustive_search, ws_nbytes_limit)
    into, out = divided("dim_in", dim_in, group), divided("dim_out", dim_out, group)
    parts = model.net.DepthSplit(
        blob_in,
        [f"_{blob_out}_gconv_split_{index}" for index in range(group)],
        order=order,
    )
    shape = _filter_shape(out, into, [kernel, kernel], order)
    made = []
    for index, part in enumerate(parts if group > 1 else [parts]):
        name = f"{blob_out}_gconv_{index}"
        inputs = [
            part,
            parameter(model, name + "_w", shape, ParameterTags.WEIGHT, XAVIER, weight_init),
        ]
        if not no_bias:
            inputs.append(
                parameter(model, name + "_b", [out], ParameterTags.BIAS, ZEROS, bias_init)
            )
        made.append(model.net.Conv(inputs, name, kernel=kernel, order=order, **kwargs))
    return model.net.Concat(made, [blob_out, f"_{blob_out}_concat_dims"], order=order)[0]
