"""Accuracy, a counter of runs, weight decay."""

from __future__ import annotations

from typing import Any

from procession.core import CurrentNameScope, DataType, DeviceOption
from procession.train.model import ModelHelper


def accuracy(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    top_k: int = 1,
    device_option: Any = None,
) -> Any:
    """Which part of the predictions are right: Accuracy.

    Args:
        model: Where it is added.
        blob_in: Predictions and labels.
        blob_out: Its output.
        top_k: A prediction is right if the label is among so many.
        device_option: Where it is to run.

    Caffe2: brew.accuracy.
    """
    arguments = {} if top_k == 1 else {"top_k": top_k}
    return model.net.Accuracy(blob_in, blob_out, device_option=device_option, **arguments)


def iter(model: ModelHelper, blob_out: Any, device_option: Any = None, **kwargs: Any) -> Any:
    """A counter, int64 of shape (1,), which begins at 0 and counts the runs of the net: Iter.

    `device_option` is passed over: counters are on the CPU. Caffe2: brew.iter.
    """
    kind = int(DataType.INT64)
    model.param_init_net.ConstantFill(
        [], blob_out, shape=[1], value=0, dtype=kind, device_option=DeviceOption(0), **kwargs
    )
    return model.net.Iter(blob_out, blob_out, **kwargs)


def add_weight_decay(model: ModelHelper, weight_decay: float) -> None:
    """Add a part of each weight in the name scope in force to its gradient.

    To be called after `AddGradientOperators`. With a scope, only weights right in it are meant,
    not those in scopes inside.

    Args:
        model: The model.
        weight_decay: Which part; nothing is done if it is not above 0.

    Raises:
        KeyError: A weight has no gradient.

    Caffe2: brew.add_weight_decay.
    """
    if weight_decay <= 0:
        return
    fill = model.param_init_net.ConstantFill
    decay = fill([], "wd", shape=[1], value=weight_decay)
    one = fill([], "ONE", shape=[1], value=1.0)
    scope = CurrentNameScope()
    for weight in model.weights:
        if not scope or weight.GetNameScope() == scope:
            gradient = model.param_to_grad[weight]
            model.net.WeightedSum([gradient, one, weight, decay], gradient)
