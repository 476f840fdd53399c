"""Sums, differences, joining, transposing."""

from __future__ import annotations

from typing import Any

from procession.train.layers.common import of_device
from procession.train.model import ModelHelper


def transpose(
    model: ModelHelper, blob_in: Any, blob_out: Any, use_cudnn: bool = False, **kwargs: Any
) -> Any:
    """The operator Transpose. Caffe2: brew.transpose."""
    return model.net.Transpose(blob_in, blob_out, **of_device(kwargs, use_cudnn))


def sum(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Sum. Caffe2: brew.sum."""
    return model.net.Sum(blob_in, blob_out, **kwargs)


def reduce_sum(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator ReduceSum. Caffe2: brew.reduce_sum."""
    return model.net.ReduceSum(blob_in, blob_out, **kwargs)


def sub(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Sub. Caffe2: brew.sub."""
    return model.net.Sub(blob_in, blob_out, **kwargs)


def arg_min(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator ArgMin. Caffe2: brew.arg_min."""
    return model.net.ArgMin(blob_in, blob_out, **kwargs)


def concat(
    model: ModelHelper,
    blobs_in: Any,
    blob_out: Any,
    axis: int | None = None,
    order: str | None = None,
    **kwargs: Any,
) -> Any:
    """The operator Concat; its second output is called _`blob_out`_concat_dims.

    Args:
        model: Where it is added.
        blobs_in: What is joined.
        blob_out: Its output.
        axis: Along which axis.
        order: Along the channels of images of this order, if no axis is given.
        **kwargs: Arguments of Concat.

    Caffe2: brew.concat.
    """
    if axis is None and order is None:
        axis = 1
    where = {"order": order} if axis is None else {"axis": axis}
    outputs = [blob_out, "_" + blob_out + "_concat_dims"]
    return model.net.Concat(blobs_in, outputs, **where, **kwargs)[0]


def depth_concat(model: ModelHelper, blobs_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """`concat`. Caffe2: brew.depth_concat."""
    return concat(model, blobs_in, blob_out, **kwargs)
