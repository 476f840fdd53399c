"""Fully connected layers, and products of matrices."""

from __future__ import annotations

from typing import Any

from procession.train.initializers import Fill
from procession.train.layers.common import XAVIER, ZEROS, constant, named, parameter
from procession.train.model import ModelHelper
from procession.train.parameter import ParameterTags


def fc(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    WeightInitializer: Any = None,
    BiasInitializer: Any = None,
    freeze_bias: bool | None = None,
    **kwargs: Any,
) -> Any:
    """A fully connected layer, with the parameters `blob_out`_w and `blob_out`_b.

    Args:
        model: Where it is added.
        blob_in: Its input.
        blob_out: Its output.
        dim_in: How long the rows of the input are.
        dim_out: How long those of the output are.
        weight_init: What fills the weight, of shape (dim_out, dim_in): ("XavierFill", {}).
        bias_init: What fills the bias, of shape (dim_out,): ("ConstantFill", {}).
        WeightInitializer: A class of initializers, or an initializer.
        BiasInitializer: The same.
        freeze_bias: Given, and be it False: the bias is not learned.
        **kwargs: Arguments of FC.

    Caffe2: brew.fc.
    """
    out = named(model, blob_out)
    tags = [ParameterTags.BIAS]
    if freeze_bias is not None:
        tags.append(ParameterTags.COMPUTED_PARAM)
    weight = parameter(
        model,
        out + "_w",
        [dim_out, dim_in],
        ParameterTags.WEIGHT,
        XAVIER,
        weight_init,
        WeightInitializer,
    )
    bias = parameter(model, out + "_b", [dim_out], tags, ZEROS, bias_init, BiasInitializer)
    return model.net.FC([blob_in, weight, bias], out, **kwargs)


def elementwise_linear(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim: int,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    **kwargs: Any,
) -> Any:
    """A factor and a summand for each column, `blob_out`_w and `blob_out`_b: ElementwiseLinear.

    Args:
        model: Where it is added.
        blob_in: Its input.
        blob_out: Its output.
        dim: How long the rows are.
        weight_init: What fills the factors: ("ConstantFill", {"value": 1.0}).
        bias_init: What fills the summands: ("ConstantFill", {"value": 0.0}).
        **kwargs: Arguments of the operator.

    Caffe2: brew.elementwise_linear.
    """
    out = named(model, blob_out)
    weight = parameter(model, out + "_w", [dim], ParameterTags.WEIGHT, constant(1.0), weight_init)
    bias = parameter(model, out + "_b", [dim], ParameterTags.BIAS, constant(0.0), bias_init)
    return model.net.ElementwiseLinear([blob_in, weight, bias], out, **kwargs)


def mat_mul(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator MatMul. Caffe2: brew.mat_mul."""
    return model.net.MatMul(blob_in, blob_out, **kwargs)


def batch_mat_mul(
    model: ModelHelper, blob_in: Any, blob_out: Any, enable_tensor_core: bool = False, **kwargs: Any
) -> Any:
    """The operator BatchMatMul; `enable_tensor_core` names an engine.

    Caffe2: brew.batch_mat_mul.
    """
    if enable_tensor_core:
        kwargs["engine"] = "TENSORCORE"
    return model.net.BatchMatMul(blob_in, blob_out, **kwargs)
