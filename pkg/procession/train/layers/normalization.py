"""Normalisation of batches, channels, instances, groups and layers; softmax; dropout."""

from __future__ import annotations

from typing import Any

from procession import GraphError
from procession.train.initializers import Fill
from procession.train.layers.common import constant, named, of_device, parameter
from procession.train.model import ModelHelper
from procession.train.parameter import ParameterTags


def _scale_and_bias(
    model: ModelHelper,
    out: Any,
    shape: list[int],
    scale: float = 1.0,
    bias: float = 0.0,
    initializers: tuple[Any, Any] = (None, None),
    suffixes: tuple[str, str] = ("_s", "_b"),
) -> list[Any]:
    fills: list[tuple[Fill, str]] = [
        (constant(scale), ParameterTags.WEIGHT),
        (constant(bias), ParameterTags.BIAS),
    ]
    return [
        parameter(model, out + suffix, shape, tag, fill, None, initializer)
        for suffix, (fill, tag), initializer in zip(suffixes, fills, initializers, strict=True)
    ]


def _tell(arguments: dict[str, Any], is_test: bool | None) -> None:
    if is_test is not None:
        arguments["is_test"] = is_test


def _running(model: ModelHelper, out: Any, dim_in: int, initializers: tuple[Any, Any]) -> list[Any]:
    """Mean and variance over batches, which begin at 0 and 1."""
    return [
        parameter(
            model,
            out + suffix,
            [dim_in],
            ParameterTags.COMPUTED_PARAM,
            constant(begin),
            None,
            initializer,
        )
        for suffix, begin, initializer in zip(
            ("_rm", "_riv"), (0.0, 1.0), initializers, strict=True
        )
    ]


def spatial_bn(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    init_scale: float = 1.0,
    init_bias: float = 0.0,
    ScaleInitializer: Any = None,
    BiasInitializer: Any = None,
    RunningMeanInitializer: Any = None,
    RunningVarianceInitializer: Any = None,
    order: str = "NCHW",
    is_test: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Normalise each channel over the batch: SpatialBN.

    Its parameters are `blob_out`_s and `blob_out`_b, which are learned, and `blob_out`_rm and
    `blob_out`_riv, the running mean and variance, which `is_test=True` uses.

    Args:
        model: Where it is added.
        blob_in: Its input.
        blob_out: Its output.
        dim_in: How many channels there are.
        init_scale: What the scale begins with.
        init_bias: What the bias begins with.
        ScaleInitializer: A class of initializers, or an initializer.
        BiasInitializer: The same.
        RunningMeanInitializer: The same.
        RunningVarianceInitializer: The same.
        order: "NCHW" or "NHWC".
        is_test: Use the running mean and variance, instead of making them.
        **kwargs: Arguments of SpatialBN: `epsilon`, `momentum`, ...

    Caffe2: brew.spatial_bn.
    """
    out = named(model, blob_out)
    learned = _scale_and_bias(
        model, out, [dim_in], init_scale, init_bias, (ScaleInitializer, BiasInitializer)
    )
    running = _running(model, out, dim_in, (RunningMeanInitializer, RunningVarianceInitializer))
    inputs = [blob_in, *learned, *running]
    _tell(kwargs, is_test)
    if is_test:
        return model.net.SpatialBN(inputs, [out], order=order, **kwargs)
    outputs = [out, *running, out + "_sm", out + "_siv"]
    return model.net.SpatialBN(inputs, outputs, order=order, **kwargs)[0]


def spatial_gn(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    init_scale: float = 1.0,
    init_bias: float = 0.0,
    ScaleInitializer: Any = None,
    BiasInitializer: Any = None,
    order: str = "NCHW",
    **kwargs: Any,
) -> Any:
    """Normalise groups of channels of each image: GroupNorm; see `spatial_bn`.

    `group` says how many groups; there are neither running mean nor variance. Caffe2:
    brew.spatial_gn.
    """
    out = named(model, blob_out)
    learned = _scale_and_bias(
        model, out, [dim_in], init_scale, init_bias, (ScaleInitializer, BiasInitializer)
    )
    if order != "NCHW":
        kwargs["order"] = order
    return model.net.GroupNorm([blob_in, *learned], [out, out + "_mean", out + "_std"], **kwargs)[0]


def instance_norm(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    order: str = "NCHW",
    is_test: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Normalise each channel of each image: InstanceNorm, with `blob_out`_s and `blob_out`_b.

    Caffe2: brew.instance_norm.
    """
    out = named(model, blob_out)
    inputs = [blob_in, *_scale_and_bias(model, out, [dim_in])]
    _tell(kwargs, is_test)
    if is_test:
        return model.net.InstanceNorm(inputs, [out], order=order, **kwargs)
    outputs = [out, out + "_sm", out + "_siv"]
    return model.net.InstanceNorm(inputs, outputs, order=order, **kwargs)[0]


def layer_norm(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int | list[int],
    axis: int = 1,
    epsilon: float = 1e-4,
    initial_scale: float = 1.0,
    initial_bias: float = 0.0,
) -> Any:
    """Normalise each row: LayerNorm, with `blob_out`_scale and `blob_out`_bias.

    Args:
        model: Where it is added.
        blob_in: Its input.
        blob_out: Its output.
        dim_in: How long a row is; or the shape of the input from `axis` on.
        axis: With which axis a row begins.
        epsilon: What is added to the variance.
        initial_scale: What the scale begins with.
        initial_bias: What the bias begins with.

    Returns:
        The output, the mean of each row, and its standard deviation.

    Caffe2: brew.layer_norm.
    """
    shape = [dim_in] if isinstance(dim_in, int) else dim_in
    learned = _scale_and_bias(
        model, blob_out, shape, initial_scale, initial_bias, suffixes=("_scale", "_bias")
    )
    return model.net.LayerNorm(
        [blob_in, *learned],
        [blob_out, blob_out + "_mean", blob_out + "_std"],
        axis=axis,
        epsilon=epsilon,
        elementwise_affine=True,
    )


def moments_with_running_stats(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    RunningMeanInitializer: Any = None,
    RunningVarianceInitializer: Any = None,
    order: str = "NCHW",
    **kwargs: Any,
) -> Any:
    """The mean and variance of each channel: Moments, to `blob_out`_sm and `blob_out`_sv.

    Also makes the parameters `blob_out`_rm and `blob_out`_riv, for who keeps running ones. Caffe2:
    brew.moments_with_running_stats.
    """
    if order not in ("NCHW", "NHWC"):
        raise GraphError(f"order is 'NCHW' or 'NHWC', not {order!r}")
    _running(model, blob_out, dim_in, (RunningMeanInitializer, RunningVarianceInitializer))
    axes = [0, 2, 3] if order == "NCHW" else [0, 1, 2]
    outputs = [blob_out + "_sm", blob_out + "_sv"]
    return model.net.Moments([blob_in], outputs, axes=axes, keepdims=False, **kwargs)


def lrn(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    order: str = "NCHW",
    use_cudnn: bool = False,
    **kwargs: Any,
) -> Any:
    """Divide by what the channels beside have: LRN: `size`, `alpha`, `beta`, `bias`.

    By what is divided is in _`blob_out`_scale. `use_cudnn` has no effect. Caffe2: brew.lrn.
    """
    outputs = [blob_out, "_" + blob_out + "_scale"]
    return model.net.LRN(blob_in, outputs, order=order, **kwargs)[0]


def softmax(
    model: ModelHelper, blob_in: Any, blob_out: Any = None, use_cudnn: bool = False, **kwargs: Any
) -> Any:
    """The operator Softmax. Caffe2: brew.softmax."""
    return model.net.Softmax(blob_in, blob_out, **of_device(kwargs, use_cudnn))


def dropout(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    use_cudnn: bool = False,
    is_test: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Replace some elements by 0: Dropout.

    Which are kept is in _`blob_out`_mask.

    Args:
        model: Where it is added.
        blob_in: Its input.
        blob_out: Its output.
        use_cudnn: Names an engine, which has no effect.
        is_test: Hand all on. It has to be given, here or by an `arg_scope`.
        **kwargs: Arguments of Dropout: `ratio`, which part becomes 0.

    Raises:
        GraphError: `is_test` is not given.

    Caffe2: brew.dropout.
    """
    if is_test is None:
        raise GraphError(
            "dropout needs is_test: False where the net trains, True where it does not"
        )
    _tell(kwargs, is_test)
    kwargs["engine"] = "CUDNN" if use_cudnn else "DEFAULT"
    return model.net.Dropout(blob_in, [blob_out, "_" + blob_out + "_mask"], **kwargs)[0]
