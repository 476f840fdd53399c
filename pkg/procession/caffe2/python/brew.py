"""`caffe2.python.brew`: operators together with their parameters, for a `ModelHelper`.

Those of Caffe2's that need nothing but operators which exist here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from procession.caffe2.python import core
from procession.caffe2.python.model_helper import ModelHelper

__all__ = ["accuracy", "concat", "fc", "mat_mul", "relu", "softmax", "sub", "sum", "tanh"]

Fill = tuple[str, Mapping[str, Any]]
"""The operator that fills a parameter, and its arguments."""


def _parameter(model: ModelHelper, name: str, shape: list[int], fill: Fill) -> Any:
    if model.init_params:
        operator, arguments = fill
        made = getattr(model.param_init_net, operator)([], name, shape=shape, **arguments)
    else:
        made = core.ScopedBlobReference(name, model.param_init_net)
    model.AddParameter(made)
    return made


def fc(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
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
        **kwargs: Arguments of FC.
    """
    blob_out = blob_out or model.net.NextName()
    weight = _parameter(
        model, f"{blob_out}_w", [dim_out, dim_in], weight_init or ("XavierFill", {})
    )
    bias = _parameter(model, f"{blob_out}_b", [dim_out], bias_init or ("ConstantFill", {}))
    return model.net.FC([blob_in, weight, bias], blob_out, **kwargs)


def accuracy(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Accuracy; returns nothing."""
    model.net.Accuracy(blob_in, blob_out, **kwargs)


def concat(model: ModelHelper, blobs_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Concat; its second output is called _`blob_out`_concat_dims."""
    return model.net.Concat(blobs_in, [blob_out, f"_{blob_out}_concat_dims"], **kwargs)[0]


def mat_mul(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator MatMul."""
    return model.net.MatMul(blob_in, blob_out, **kwargs)


def relu(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Relu."""
    return model.net.Relu(blob_in, blob_out, **kwargs)


def softmax(model: ModelHelper, blob_in: Any, blob_out: Any = None, **kwargs: Any) -> Any:
    """The operator Softmax."""
    return model.net.Softmax(blob_in, blob_out, **kwargs)


def sub(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Sub."""
    return model.net.Sub(blob_in, blob_out, **kwargs)


def sum(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Sum."""
    return model.net.Sum(blob_in, blob_out, **kwargs)


def tanh(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Tanh."""
    return model.net.Tanh(blob_in, blob_out, **kwargs)
