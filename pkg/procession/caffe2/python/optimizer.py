"""`caffe2.python.optimizer`: what updates the parameters of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.caffe2.python import workspace
from procession.train.adaptive import (
    AdadeltaOptimizer,
    AdagradOptimizer,
    AdamOptimizer,
    StormOptimizer,
    WngradOptimizer,
)
from procession.train.build import LEARNING_RATE_INJECTION as _LEARNING_RATE_INJECTION
from procession.train.build import (
    add_weight_decay,
    build_adadelta,
    build_adagrad,
    build_adam,
    build_ftrl,
    build_gftrl,
    build_rms_prop,
    build_sgd,
    build_storm,
    build_wngrad,
    build_yellowfin,
    get_param_device,
)
from procession.train.build import build as _build
from procession.train.descent import (
    RmsPropOptimizer,
    SgdOptimizer,
    WeightDecayBuilder,
    YellowFinOptimizer,
)
from procession.train.ftrl import FtrlOptimizer, GFtrlOptimizer
from procession.train.optimizer import AuxOptimizerParams, Optimizer, _optimizer_instance_count

__all__ = [
    "AdadeltaOptimizer",
    "AdagradOptimizer",
    "AdamOptimizer",
    "AuxOptimizerParams",
    "FtrlOptimizer",
    "GFtrlOptimizer",
    "Optimizer",
    "RmsPropOptimizer",
    "SgdOptimizer",
    "StormOptimizer",
    "WeightDecayBuilder",
    "WngradOptimizer",
    "YellowFinOptimizer",
    "_build",
    "_optimizer_instance_count",
    "add_weight_decay",
    "build_adadelta",
    "build_adagrad",
    "build_adam",
    "build_ftrl",
    "build_gftrl",
    "build_rms_prop",
    "build_sgd",
    "build_storm",
    "build_wngrad",
    "build_yellowfin",
    "get_lr_injection",
    "get_param_device",
    "set_lr_injection",
]


def get_lr_injection() -> Any:
    """What learning rates are multiplied with, in the current workspace.

    That is for optimizers that were built with `allow_lr_injection`.
    """
    return workspace.FetchBlob(_LEARNING_RATE_INJECTION)


def set_lr_injection(lr_injection_value: float) -> None:
    """Have them multiplied with another number, in the current workspace."""
    value = np.array([lr_injection_value], np.float32)
    workspace.FeedBlob(_LEARNING_RATE_INJECTION, value)
