"""`caffe2.python.brew`: operators together with their parameters, for a `ModelHelper`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from procession.caffe2.python.helpers import control_ops
from procession.caffe2.python.model_helper import ModelHelper
from procession.train import brew
from procession.train.brew import (
    accuracy,
    add_weight_decay,
    arg_min,
    arg_scope,
    average_pool,
    batch_mat_mul,
    concat,
    conv,
    conv_nd,
    conv_transpose,
    depth_concat,
    dropout,
    elementwise_linear,
    fc,
    get_current_scope,
    group_conv,
    group_conv_deprecated,
    instance_norm,
    iter,
    layer_norm,
    lrn,
    mat_mul,
    max_pool,
    moments_with_running_stats,
    prelu,
    reduce_sum,
    relu,
    softmax,
    spatial_bn,
    spatial_gn,
    sub,
    sum,
    tanh,
    transpose,
)

__all__ = [
    "ModelHelper",
    "Register",
    "accuracy",
    "add_weight_decay",
    "arg_min",
    "arg_scope",
    "average_pool",
    "batch_mat_mul",
    "concat",
    "cond",
    "conv",
    "conv_nd",
    "conv_transpose",
    "depth_concat",
    "dropout",
    "elementwise_linear",
    "fc",
    "get_current_scope",
    "group_conv",
    "group_conv_deprecated",
    "has_helper",
    "instance_norm",
    "iter",
    "layer_norm",
    "loop",
    "lrn",
    "mat_mul",
    "max_pool",
    "moments_with_running_stats",
    "prelu",
    "reduce_sum",
    "relu",
    "softmax",
    "spatial_bn",
    "spatial_gn",
    "sub",
    "sum",
    "tanh",
    "transpose",
]

_HELPERS = brew.Helpers(brew.HELPERS)

cond = _HELPERS.add(control_ops.cond)
loop = _HELPERS.add(control_ops.loop)


def Register(helper: Callable[..., Any]) -> None:
    """Make a function `brew.<its name>`; its first argument is the model.

    Raises:
        GraphError: There is one of that name.
    """
    _HELPERS.register(helper)


def has_helper(helper_or_helper_name: Any) -> bool:
    """Whether there is a helper of that name, or of that function's."""
    return _HELPERS.has(helper_or_helper_name)


def __getattr__(name: str) -> Any:
    return _HELPERS.get(name)
