"""The largest of what a window sees, or the mean."""

from __future__ import annotations

from typing import Any

from procession.train.layers.common import of_device
from procession.train.model import ModelHelper


def max_pool(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    use_cudnn: bool = False,
    order: str = "NCHW",
    **kwargs: Any,
) -> Any:
    """The operator MaxPool: `kernel`, `stride`, `pad`, ... Caffe2: brew.max_pool."""
    return model.net.MaxPool(blob_in, blob_out, order=order, **of_device(kwargs, use_cudnn))


def average_pool(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    use_cudnn: bool = False,
    order: str = "NCHW",
    **kwargs: Any,
) -> Any:
    """The operator AveragePool: `kernel`, `stride`, `pad`, ... Caffe2: brew.average_pool."""
    return model.net.AveragePool(blob_in, blob_out, order=order, **of_device(kwargs, use_cudnn))
