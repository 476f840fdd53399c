"""Cross entropy for each pixel of images, as segmentation is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, number, text
from procession.operators.registry import Rules, emit, operator

IGNORED = -1
"""The label of a pixel that does not count."""


def _pixels(x: Array, label: Array, weight: Array | None, order: str) -> tuple[Array, Array]:
    """(images, pixels): labels and weights, both 0 where a pixel does not count."""
    name = "SpatialSoftmaxWithLoss"
    floats(name, x)
    if text(order) != "NCHW":
        raise ValueError(f"{name}: order={text(order)!r}, and there is none but 'NCHW'")
    if x.ndim != 4:
        raise ValueError(f"{name}: X is {x.shape}, images have four dimensions")
    wanted = (x.shape[0], *x.shape[2:])
    if label.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels are integers, not {label.dtype}")
    for what, other in (("labels", label), ("weights", weight)):
        if other is not None and other.shape != wanted:
            raise ValueError(f"{name}: {what} are {other.shape}, for X {x.shape} they are {wanted}")
    labels = label.reshape(x.shape[0], math.prod(x.shape[2:]))
    counts = labels != IGNORED
    wrong = counts & ((labels < 0) | (labels >= x.shape[1]))
    if wrong.any():
        raise ValueError(
            f"{name}: label {labels[wrong][0]} is neither in [0, {x.shape[1]}) nor {IGNORED}"
        )
    weights = counts.astype(x.dtype)
    if weight is not None:
        weights *= weight.reshape(labels.shape)
    return np.where(counts, labels, 0), weights


def _rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    weight = "I2 " if inputs == 3 else ""
    return [emit("SpatialSoftmaxWithLossGradient", f"I0 I1 {weight}O0 GO1", "GI0")]


@operator("SpatialSoftmaxWithLoss", outputs=2, gradient=_rules)
def spatial_softmax_with_loss(
    x: Array,
    label: Array,
    weight: Array | None = None,
    *,
    scale: float = 1.0,
    order: str = "NCHW",
) -> tuple[Array, Array]:
    """Softmax over the channels of each pixel, and the average cross entropy of what comes out.

    X is (N, classes, H, W), the labels are (N, H, W) integers, -1 for a pixel that does not
    count. Weights, in the shape of the labels, make the average a weighted one. Gradients
    flow back from the loss only. Caffe2: SpatialSoftmaxWithLoss.

    Args:
        scale: A factor for the loss.
        order: "NCHW".

    Raises:
        TypeError: X does not hold floating-point numbers, or the labels are no integers.
        ValueError: The shapes do not match, a label is out of range, or another order.
    """
    labels, weights = _pixels(x, label, weight, order)
    shifted = x - x.max(axis=1, keepdims=True) if x.size else x.copy()
    softmax = np.exp(shifted)
    sums = softmax.sum(axis=1, keepdims=True)
    softmax /= sums
    flat = shifted.reshape(*x.shape[:2], labels.shape[1])
    own = np.take_along_axis(flat, labels[:, np.newaxis], axis=1)[:, 0]
    losses = np.log(sums).reshape(own.shape) - own
    total = float(weights.sum())
    loss = scale * float((losses * weights).sum()) / total if total > 0 else 0.0
    return np.asarray(softmax), np.array(loss, x.dtype)


@operator("SpatialSoftmaxWithLossGradient")
def spatial_softmax_with_loss_gradient(
    x: Array,
    label: Array,
    softmax_or_weight: Array,
    dloss_or_softmax: Array,
    dloss: Array | None = None,
    *,
    scale: float = 1.0,
    order: str = "NCHW",
) -> Array:
    """The gradient of X from that of the loss. Caffe2: SpatialSoftmaxWithLossGradient.

    The inputs are X, the labels, the weights if there are any, the softmax, and the gradient
    of the loss.

    Raises:
        TypeError, ValueError: As SpatialSoftmaxWithLoss.
    """
    weight: Array | None
    if dloss is None:
        weight, softmax, dloss = None, softmax_or_weight, dloss_or_softmax
    else:
        weight, softmax = softmax_or_weight, dloss_or_softmax
    labels, weights = _pixels(x, label, weight, order)
    dx = np.array(softmax, x.dtype, order="C").reshape(*x.shape[:2], labels.shape[1])
    where = labels[:, np.newaxis]
    own = np.take_along_axis(dx, where, axis=1)
    np.put_along_axis(dx, where, own - 1, axis=1)
    total = float(weights.sum())
    slope = scale * number(dloss, "the gradient of the loss") / total if total > 0 else 0.0
    dx *= (weights * x.dtype.type(slope))[:, np.newaxis]
    return dx.reshape(x.shape)
