"""ReLU and others: a function of each element."""

from __future__ import annotations

from typing import Any

from procession.train.initializers import Fill
from procession.train.layers.common import constant, of_device, parameter
from procession.train.model import ModelHelper


def relu(
    model: ModelHelper, blob_in: Any, blob_out: Any, use_cudnn: bool = False, **kwargs: Any
) -> Any:
    """The operator Relu. Caffe2: brew.relu."""
    return model.net.Relu(blob_in, blob_out, **of_device(kwargs, use_cudnn))


def tanh(
    model: ModelHelper, blob_in: Any, blob_out: Any, use_cudnn: bool = False, **kwargs: Any
) -> Any:
    """The operator Tanh. Caffe2: brew.tanh."""
    return model.net.Tanh(blob_in, blob_out, **of_device(kwargs, use_cudnn))


def sigmoid(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Sigmoid."""
    return model.net.Sigmoid(blob_in, blob_out, **kwargs)


def prelu(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    num_channels: int = 1,
    slope_init: Fill | None = None,
    order: str = "NCHW",
) -> Any:
    """ReLU with a slope below 0 that is learned, `blob_out`_slope: PRelu.

    Args:
        model: Where it is added.
        blob_in: Its input.
        blob_out: Its output.
        num_channels: How many slopes there are: 1, or one for each channel.
        slope_init: What fills them: ("ConstantFill", {"value": 0.25}).
        order: Where the channels are: "NCHW" or "NHWC".

    Caffe2: brew.prelu.
    """
    slope = parameter(model, blob_out + "_slope", [num_channels], None, constant(0.25), slope_init)
    where = {} if order == "NCHW" else {"order": order}
    return model.net.PRelu([blob_in, slope], [blob_out], **where)
