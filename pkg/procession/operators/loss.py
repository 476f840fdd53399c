"""Losses, and how good a prediction is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape, floats, matrix, number
from procession.operators.registry import STOPS, Rules, emit, operator

SMALLEST = 1e-20
"""Probabilities below it count as this one: the logarithm of 0 is nobody's loss."""


def _labels(operator: str, label: Array, lead: Shape, classes: int) -> Array:
    """The labels as a vector, checked: one for each row, each of them a class."""
    rows = int(np.prod(lead))
    if label.dtype.kind not in "iu":
        raise TypeError(f"{operator}: labels are integers, not {label.dtype}")
    if label.shape not in {lead, (*lead, 1), (rows,), (rows, 1)}:
        raise ValueError(
            f"{operator}: labels are {label.shape}, the predictions ask for {lead} or {(*lead, 1)}"
        )
    flat = label.reshape(rows)
    # One pass instead of two: as an unsigned number, a negative label is too large.
    unsigned = flat.view(f"u{flat.dtype.itemsize}")
    if rows and int(unsigned.max()) >= classes:
        row = int((unsigned >= classes).argmax())
        raise ValueError(f"{operator}: label {flat[row]} at {row} is not in [0, {classes})")
    return flat


def _rows(operator: str, x: Array) -> Array:
    floats(operator, x)
    if x.ndim < 1:
        raise ValueError(f"{operator}: X has no dimensions")
    return x.reshape(x.shape[0], -1) if x.size else x.reshape(matrix(x.shape, x.ndim - 1, "X"))


@operator("Accuracy", gradient=STOPS)
def accuracy(x: Array, label: Array, *, top_k: int = 1) -> Array:
    """The share of the rows of X whose label is among the largest `top_k`. Caffe2: Accuracy.

    Of equal predictions the first counts as the larger one. X is (N, D), the labels are (N,) or
    (N, 1) integers; the result is of shape () and the type of X.

    Raises:
        TypeError: X does not hold floating-point numbers, or the labels are no integers.
        ValueError: The shapes do not match, or a label is out of range.
    """
    rows = _rows("Accuracy", x)
    count, classes = rows.shape
    labels = _labels("Accuracy", label, (count,), classes)
    own = rows[np.arange(count), labels][:, np.newaxis]
    earlier = np.arange(classes) < labels[:, np.newaxis]
    better = ((rows > own) | ((rows == own) & earlier)).sum(axis=1)
    return np.array((better < top_k).sum() / max(count, 1), dtype=x.dtype)


@operator("LabelCrossEntropy", gradient=[emit("LabelCrossEntropyGradient", "I0 I1 GO0", "GI0")])
def label_cross_entropy(x: Array, label: Array) -> Array:
    """-log(X[i, label[i]]) for each row i. Caffe2: LabelCrossEntropy.

    X is (N, D), probabilities; what is below 1e-20 counts as 1e-20. The labels are (N,) or
    (N, 1) integers. The result is (N,).

    Raises:
        TypeError: X does not hold floating-point numbers, or the labels are no integers.
        ValueError: The shapes do not match, or a label is out of range.
    """
    rows = _rows("LabelCrossEntropy", x)
    count, classes = rows.shape
    labels = _labels("LabelCrossEntropy", label, (count,), classes)
    y = rows[np.arange(count), labels]
    np.maximum(y, y.dtype.type(SMALLEST), out=y)
    np.log(y, out=y)
    return np.negative(y, out=y)


@operator("LabelCrossEntropyGradient")
def label_cross_entropy_gradient(x: Array, label: Array, dy: Array) -> Array:
    """The gradient of X from that of LabelCrossEntropy. Caffe2: LabelCrossEntropyGradient.

    Raises:
        TypeError, ValueError: As LabelCrossEntropy.
    """
    rows = _rows("LabelCrossEntropy", x)
    count, classes = rows.shape
    labels = _labels("LabelCrossEntropy", label, (count,), classes)
    each = np.arange(count)
    dx = np.zeros(rows.shape, x.dtype)
    chosen = np.maximum(rows[each, labels], x.dtype.type(SMALLEST))
    dx[each, labels] = np.negative(dy.reshape(count)) / chosen
    return dx.reshape(x.shape)


@operator("CrossEntropy", gradient=[emit("CrossEntropyGradient", "I0 I1 GO0", "GI0")])
def cross_entropy(x: Array, label: Array) -> Array:
    """-(the sum of label * log(X)) for each row. Caffe2: CrossEntropy.

    X and the labels are (N, D), probabilities; in X what is below 1e-20 counts as 1e-20. The
    result is (N,).

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: The shapes differ.
    """
    rows = _rows("CrossEntropy", x)
    if label.shape != x.shape:
        raise ValueError(f"CrossEntropy: labels are {label.shape}, X is {x.shape}")
    logs = np.log(np.maximum(rows, x.dtype.type(SMALLEST)))
    logs *= label.reshape(rows.shape)
    y = np.add.reduce(logs, axis=1)
    np.negative(y, out=y)
    return np.asarray(y)


@operator("CrossEntropyGradient")
def cross_entropy_gradient(x: Array, label: Array, dy: Array) -> Array:
    """The gradient of X from that of CrossEntropy. Caffe2: CrossEntropyGradient."""
    shape = (len(x),) + (1,) * (x.ndim - 1)
    dx = label / np.maximum(x, x.dtype.type(SMALLEST))
    dx *= np.negative(dy.reshape(shape))
    return np.asarray(dx.astype(x.dtype, copy=False))


def _weights(weight: Array | None, rows: int, dtype: np.dtype[Any]) -> tuple[Array, float]:
    """A weight for each row, and what they sum to."""
    if weight is None:
        return np.ones(rows, dtype), float(rows)
    if weight.size != rows:
        raise ValueError(f"SoftmaxWithLoss: weights are {weight.shape}, for {rows} rows")
    flat = weight.reshape(rows).astype(dtype, copy=False)
    return flat, float(flat.sum())


def _softmax_with_loss_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    weight = "I2 " if inputs == 3 else ""
    return [emit("SoftmaxWithLossGradient", f"I0 I1 {weight}O0 GO1", "GI0")]


@operator("SoftmaxWithLoss", outputs=2, gradient=_softmax_with_loss_rules)
def softmax_with_loss(
    x: Array,
    label: Array,
    weight: Array | None = None,
    *,
    label_prob: int = 0,
    scale: float = 1.0,
    axis: int = 1,
) -> tuple[Array, Array]:
    """Softmax, and the average cross entropy of what comes out. Caffe2: SoftmaxWithLoss.

    X is (N, D), any numbers. The first result is the softmax, shaped as X, the second the
    loss, of shape (). The labels are (N,) or (N, 1) integers, or with `label_prob` (N, D)
    probabilities. Weights, one for each row, make the average a weighted one. Gradients flow
    back from the loss only.

    Args:
        label_prob: 1 if the labels are distributions.
        scale: A factor for the loss.
        axis: Where X is cut into a matrix if it has more dimensions.

    Raises:
        TypeError: X does not hold floating-point numbers, or the labels are no integers.
        ValueError: The shapes do not match, a label is out of range, the probabilities of a
            label do not sum to 1, or `scale` is negative.
    """
    floats("SoftmaxWithLoss", x)
    if scale < 0:
        raise ValueError(f"SoftmaxWithLoss: scale={scale} is negative")
    count, classes = matrix(x.shape, axis, "X")
    rows = x.reshape(count, classes)
    weights, total = _weights(weight, count, x.dtype)
    if x.size:
        rows = rows - rows.max(axis=1, keepdims=True)
    softmax = np.exp(rows)
    sums = softmax.sum(axis=1, keepdims=True)
    softmax /= sums
    logs = rows - np.log(sums)
    if label_prob:
        if label.shape != x.shape:
            raise ValueError(f"SoftmaxWithLoss: labels are {label.shape}, X is {x.shape}")
        targets = label.reshape(count, classes)
        mass = targets.sum(axis=1)
        if not np.allclose(mass, 1, rtol=0, atol=1e-4):
            bad = mass[np.abs(mass - 1).argmax()]
            raise ValueError(f"SoftmaxWithLoss: probabilities of a label sum to {bad}, not to 1")
        losses = -(targets * logs).sum(axis=1)
    else:
        labels = _labels("SoftmaxWithLoss", label, x.shape[: axis % x.ndim], classes)
        losses = -logs[np.arange(count), labels]
    loss = scale * float((losses * weights).sum()) / total if total > 0 else 0.0
    return softmax.reshape(x.shape), np.array(loss, dtype=x.dtype)


@operator("SoftmaxWithLossGradient")
def softmax_with_loss_gradient(
    x: Array,
    label: Array,
    softmax_or_weight: Array,
    dloss_or_softmax: Array,
    dloss: Array | None = None,
    *,
    label_prob: int = 0,
    scale: float = 1.0,
    axis: int = 1,
) -> Array:
    """The gradient of X from that of the loss. Caffe2: SoftmaxWithLossGradient.

    The inputs are X, the labels, the weights if there are any, the softmax, and the gradient
    of the loss.

    Raises:
        TypeError, ValueError: As SoftmaxWithLoss.
    """
    weight: Array | None
    if dloss is None:
        weight, softmax, dloss = None, softmax_or_weight, dloss_or_softmax
    else:
        weight, softmax = softmax_or_weight, dloss_or_softmax
    count, classes = matrix(x.shape, axis, "X")
    weights, total = _weights(weight, count, x.dtype)
    dx = np.array(softmax, dtype=x.dtype).reshape(count, classes)
    if label_prob:
        dx -= label.reshape(count, classes)
    else:
        labels = _labels("SoftmaxWithLoss", label, x.shape[: axis % x.ndim], classes)
        dx[np.arange(count), labels] -= 1
    factor = scale * number(dloss, "the gradient of the loss") / total if total > 0 else 0.0
    dx *= np.multiply(weights, x.dtype.type(factor))[:, np.newaxis]
    return dx.reshape(x.shape)


@operator("MakeTwoClass", gradient=[emit("MakeTwoClassGradient", "GO0", "GI0")])
def make_two_class(x: Array) -> Array:
    """The probabilities (1 - X, X) of two classes, along one more dimension. Caffe2: MakeTwoClass.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("MakeTwoClass", x)
    return np.stack([x.dtype.type(1) - x, x], axis=-1)


@operator("MakeTwoClassGradient")
def make_two_class_gradient(dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY of its class minus that of the other. Caffe2: MakeTwoClassGradient.

    Raises:
        ValueError: The last dimension of dY is not 2.
    """
    if dy.shape[-1:] != (2,):
        raise ValueError(f"dY is {dy.shape}, and its last dimension must be 2")
    return np.subtract(dy[..., 1], dy[..., 0], out=out)
