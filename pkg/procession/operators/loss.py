"""Losses, and how good a prediction is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from procession.operators.arrays import (
    Array,
    Outs,
    Shape,
    floats,
    matrix,
    number,
    result,
    text,
)
from procession.operators.registry import STOPS, Look, Rules, emit, operator
from procession.operators.softmax import normalizing, shifting

_LARGEST: Any = np.maximum.reduce
_SUM: Any = np.add.reduce
SMALLEST = 1e-20
"""Probabilities below it count as this one: the logarithm of 0 is nobody's loss."""


@lru_cache(maxsize=32)
def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of unsigned integers that is as wide."""
    return np.dtype(f"{dtype.byteorder}u{dtype.itemsize}")


@lru_cache(maxsize=32)
def _starts(count: int, classes: int) -> Array:
    """Where the rows begin."""
    starts = np.arange(0, count * classes, max(1, classes))
    starts.flags.writeable = False
    return starts


def _places(labels: Array, count: int, classes: int) -> Array:
    """Where in a matrix, read as a vector, the labels of its rows point to.

    Brackets with two indices take twice as long as `take` and `put` with these.
    """
    if labels.dtype.kind == "u":
        labels = labels.astype(np.intp)
    return np.add(labels, _starts(count, classes))


def _labels(operator: str, label: Array, lead: Shape, classes: int) -> Array:
    """The labels as a vector, checked: one for each row, each of them a class."""
    rows = math.prod(lead)
    if label.dtype.kind not in "iu":
        raise TypeError(f"{operator}: labels are integers, not {label.dtype}")
    shape = label.shape
    if shape != lead and shape not in {(*lead, 1), (rows,), (rows, 1)}:
        raise ValueError(
            f"{operator}: labels are {label.shape}, the predictions ask for {lead} or {(*lead, 1)}"
        )
    flat = label.reshape(rows)
    _check_classes(operator, flat, classes)
    return flat


def _check_classes(operator: str, flat: Array, classes: int) -> None:
    if len(flat) == 1 and 0 <= flat.item() < classes:
        return
    # One pass instead of two: as an unsigned number, a negative label is too large.
    unsigned = flat.view(_unsigned(flat.dtype))
    if unsigned.size and _LARGEST(unsigned).item() >= classes:
        row = int((unsigned >= classes).argmax())
        raise ValueError(f"{operator}: label {flat[row]} at {row} is not in [0, {classes})")


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


@operator("MultiClassAccuracy", outputs=2, gradient=STOPS)
def multi_class_accuracy(x: Array, label: Array) -> tuple[Array, Array]:
    """For each class the share of its rows whose prediction is right, and how many there are.

    X is (N, D), the labels are (N,) or (N, 1) integers. The results are (D,), the first of the type
    of X and 0 for a class without rows, the second int32. Caffe2: MultiClassAccuracy.

    Raises:
        TypeError: X does not hold floating-point numbers, or the labels are no integers.
        ValueError: The shapes do not match, or a label is out of range.
    """
    rows = _rows("MultiClassAccuracy", x)
    count, classes = rows.shape
    labels = _labels("MultiClassAccuracy", label, (count,), classes).astype(np.intp)
    right = rows.argmax(axis=1) == labels if x.size else np.zeros(count, np.bool_)
    amounts = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[right], minlength=classes)
    return (hits / np.maximum(amounts, 1)).astype(x.dtype), amounts.astype(np.int32)


@operator("Perplexity", gradient=STOPS)
def perplexity(x: Array) -> Array:
    """The Nth root of 1 / the product of the N probabilities X, which are (N,) or (N, 1).

    Caffe2: Perplexity.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has another shape.
    """
    floats("Perplexity", x)
    if x.ndim < 1 or x.size != len(x):
        raise ValueError(f"Perplexity: X is {x.shape}, and should be (N,)")
    mean = float(np.log(x).sum(dtype=np.float64)) / max(len(x), 1)
    return np.array(math.exp(-mean), x.dtype)


def _cross_entropy(rows: Array, labels: Array, y: Array) -> None:
    """-log of what belongs to the labels; X may be the result."""
    if len(rows) == 1:
        y.fill(-math.log(max(rows.item(labels.item()), SMALLEST)))
        return
    chosen = rows.take(_places(labels, *rows.shape))
    np.maximum(chosen, _smallest(chosen.dtype), out=chosen)
    np.negative(np.log(chosen, chosen), y)


def _cross_entropy_gradient(rows: Array, labels: Array, dy: Array, dx: Array) -> None:
    """The gradient of X for `_cross_entropy`; X and dY may be the result."""
    if len(rows) == 1:
        which = labels.item()
        slope = -dy.item() / max(rows.item(which), SMALLEST)
        dx.fill(0)
        dx[0, which] = slope
        return
    places = _places(labels, *rows.shape)
    chosen = rows.take(places)
    np.maximum(chosen, _smallest(chosen.dtype), out=chosen)
    np.negative(np.divide(dy, chosen, chosen), chosen)
    dx.fill(0)
    dx.put(places, chosen)


@lru_cache(maxsize=8)
def _smallest(dtype: np.dtype[Any]) -> Array:
    smallest = np.array(SMALLEST, dtype)
    smallest.flags.writeable = False
    return smallest


def _specialize_cross_entropy(
    inputs: Sequence[Look], outputs: Sequence[Look]
) -> Callable[..., object] | None:
    if not _is_plain(inputs, 0, 1.0, 1, "NCHW"):
        return None
    ((count, classes), _), *_ = inputs

    def entropy(x: Array, label: Array, y: Array) -> None:
        flat = label.reshape(count)
        _check_classes("LabelCrossEntropy", flat, classes)
        _cross_entropy(x, flat, y)

    def gradient(x: Array, label: Array, dy: Array, dx: Array) -> None:
        flat = label.reshape(count)
        _check_classes("LabelCrossEntropy", flat, classes)
        _cross_entropy_gradient(x, flat, dy.reshape(count), dx)

    if len(inputs) == 2:
        return entropy
    return gradient if inputs[2] == ((count,), inputs[0][1]) else None


@operator(
    "LabelCrossEntropy",
    gradient=[emit("LabelCrossEntropyGradient", "I0 I1 GO0", "GI0")],
    specialize=_specialize_cross_entropy,
)
def label_cross_entropy(x: Array, label: Array, *, out: Array | None = None) -> Array:
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
    y = result(out, (count,), x.dtype)
    _cross_entropy(rows, labels, y)
    return y


@operator("LabelCrossEntropyGradient", specialize=_specialize_cross_entropy)
def label_cross_entropy_gradient(
    x: Array, label: Array, dy: Array, *, out: Array | None = None
) -> Array:
    """The gradient of X from that of LabelCrossEntropy. Caffe2: LabelCrossEntropyGradient.

    Raises:
        TypeError, ValueError: As LabelCrossEntropy.
    """
    rows = _rows("LabelCrossEntropy", x)
    count, classes = rows.shape
    labels = _labels("LabelCrossEntropy", label, (count,), classes)
    dx = result(out, x.shape, x.dtype)
    _cross_entropy_gradient(rows, labels, dy.reshape(count), dx.reshape(rows.shape))
    return dx


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


def _weights(weight: Array, rows: int, like: Array) -> Array:
    """One weight for each row, in the type of X."""
    if weight.size != rows:
        raise ValueError(f"SoftmaxWithLoss: weights are {weight.shape}, for {rows} rows")
    return weight.reshape(rows).astype(like.dtype, copy=False)


def _factor(scale: float, weights: Array | None, rows: int, average_by_batch_size: bool) -> float:
    """What the sum of all losses is multiplied with."""
    total = float(rows)
    if weights is not None and not average_by_batch_size:
        total = float(np.add.reduce(weights))
    return scale / total if total > 0 else 0.0


def _softmax_options(scale: float, order: str) -> None:
    if scale < 0:
        raise ValueError(f"SoftmaxWithLoss: scale={scale} is negative")
    if text(order) != "NCHW":
        raise ValueError(f"SoftmaxWithLoss: order={text(order)!r}, and there is none but 'NCHW'")


def _distributions(label: Array, x: Array, shape: tuple[int, int]) -> Array:
    """Labels that are probabilities, checked."""
    if label.shape != x.shape:
        raise ValueError(f"SoftmaxWithLoss: labels are {label.shape}, X is {x.shape}")
    targets = label.reshape(shape)
    mass = np.add.reduce(targets, axis=1)
    if not np.allclose(mass, 1, rtol=0, atol=1e-4):
        bad = mass[np.abs(mass - 1).argmax()]
        raise ValueError(f"SoftmaxWithLoss: probabilities of a label sum to {bad}, not to 1")
    return targets


def _one_softmax(classes: int, dtype: np.dtype[Any]) -> Callable[[Array, int, Array], float]:
    """What turns a row into its softmax, and returns the loss for a label. X may be the result."""
    shift, normalize = shifting(1, classes, dtype), normalizing(1, classes, dtype)

    def softmax(x: Array, label: int, made: Array) -> float:
        shift(x, made)
        picked: float = made.item(label)
        return math.log(normalize(made).item()) - picked

    return softmax


def _softmaxes(
    count: int, classes: int, dtype: np.dtype[Any]
) -> Callable[[Array, Callable[[Array], Array], Array], Array]:
    """What turns rows into softmaxes, and returns what is lost. X may be the result.

    The second argument picks of each row, less its largest number, what belongs to the label.
    """
    shift, normalize = shifting(count, classes, dtype), normalizing(count, classes, dtype)

    def softmax(x: Array, pick: Callable[[Array], Array], made: Array) -> Array:
        shift(x, made)
        picked = pick(made)
        sums = normalize(made)
        return np.subtract(np.log(sums, sums), picked, picked)

    return softmax


def _one_slope(label: int, chances: Array, factor: Array, made: Array) -> None:
    """The gradient of a row for `_one_softmax`. The softmax may be the result."""
    slope = factor.item()
    at = (chances.item(label) - 1.0) * slope
    np.multiply(chances, factor, made)
    made[0, label] = at


def _slopes(places: Array, chances: Array, factor: Array, made: Array) -> None:
    """The gradient of rows for `_softmaxes`. The softmax may be the result."""
    np.multiply(chances, factor, made)
    at = made.take(places)
    made.put(places, np.subtract(at, factor.reshape(-1), at))


def _is_plain(inputs: Sequence[Look], label_prob: int, scale: float, axis: int, order: str) -> bool:
    """Whether these are a matrix, and labels as they most often are."""
    (shape, dtype), (labels, kind) = inputs[:2]
    return (
        len(shape) == 2
        and min(shape) > 0
        and axis == 1
        and not label_prob
        and dtype.kind == "f"
        and kind.kind == "i"
        and labels in {shape[:1], (shape[0], 1)}
        and scale >= 0
        and text(order) == "NCHW"
    )


def _specialize_softmax_with_loss(
    inputs: Sequence[Look],
    outputs: Sequence[Look],
    *,
    label_prob: int,
    scale: float,
    axis: int,
    order: str,
    average_by_batch_size: bool,
) -> Callable[..., object] | None:
    """For a batch with labels, and without weights."""
    if len(inputs) != 2 or not _is_plain(inputs, label_prob, scale, axis, order):
        return None
    ((count, classes), dtype), _ = inputs
    factor = _factor(scale, None, count, average_by_batch_size)
    if count == 1:
        one = _one_softmax(classes, dtype)

        def for_one(x: Array, label: Array, made: Array, loss: Array) -> None:
            which = label.item()
            if not 0 <= which < classes:
                _check_classes("SoftmaxWithLoss", label.reshape(1), classes)
            loss.fill(one(x, which, made) * factor)

        return for_one
    softmax = _softmaxes(count, classes, dtype)

    def for_all(x: Array, label: Array, made: Array, loss: Array) -> None:
        flat = label.reshape(count)
        _check_classes("SoftmaxWithLoss", flat, classes)
        losses = softmax(x, lambda rows: rows.take(_places(flat, count, classes)), made)
        loss.fill(_SUM(losses).item() * factor)

    return for_all


def _specialize_softmax_with_loss_gradient(
    inputs: Sequence[Look],
    outputs: Sequence[Look],
    *,
    label_prob: int,
    scale: float,
    axis: int,
    average_by_batch_size: bool,
) -> Callable[..., object] | None:
    """For a batch with labels, and without weights."""
    if len(inputs) != 4 or not _is_plain(inputs, label_prob, scale, axis, "NCHW"):
        return None
    ((count, classes), dtype), _, softmax, (dloss, _) = inputs
    if softmax != inputs[0] or math.prod(dloss) != 1:
        return None
    share = _factor(scale, None, count, average_by_batch_size)
    factor = np.empty((), dtype)
    if count == 1:

        def for_one(x: Array, label: Array, softmax: Array, dloss: Array, made: Array) -> None:
            which = label.item()
            if not 0 <= which < classes:
                _check_classes("SoftmaxWithLoss", label.reshape(1), classes)
            factor.fill(dloss.item() * share)
            _one_slope(which, softmax, factor, made)

        return for_one

    def for_all(x: Array, label: Array, softmax: Array, dloss: Array, made: Array) -> None:
        flat = label.reshape(count)
        _check_classes("SoftmaxWithLoss", flat, classes)
        factor.fill(dloss.item() * share)
        _slopes(_places(flat, count, classes), softmax, factor, made)

    return for_all


def _softmax_with_loss_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    weight = "I2 " if inputs == 3 else ""
    return [emit("SoftmaxWithLossGradient", f"I0 I1 {weight}O0 GO1", "GI0")]


@operator(
    "SoftmaxWithLoss",
    outputs=2,
    gradient=_softmax_with_loss_rules,
    specialize=_specialize_softmax_with_loss,
)
def softmax_with_loss(
    x: Array,
    label: Array,
    weight: Array | None = None,
    *,
    label_prob: int = 0,
    scale: float = 1.0,
    axis: int = 1,
    order: str = "NCHW",
    average_by_batch_size: bool = False,
    outs: Outs = None,
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
        order: "NCHW".
        average_by_batch_size: Divide what is weighted by N, not by the sum of the weights.

    Raises:
        TypeError: X does not hold floating-point numbers, or the labels are no integers.
        ValueError: The shapes do not match, a label is out of range, the probabilities of a
            label do not sum to 1, `scale` is negative, or another order.
    """
    floats("SoftmaxWithLoss", x)
    _softmax_options(scale, order)
    shape = matrix(x.shape, axis, "X")
    count, classes = shape
    softmax = result(outs[0] if outs else None, x.shape, x.dtype)
    rows, made = x.reshape(shape), softmax.reshape(shape)
    weights = None if weight is None else _weights(weight, count, x)
    factor = _factor(scale, weights, count, average_by_batch_size)
    if label_prob:
        targets = _distributions(label, x, shape)
    else:
        labels = _labels("SoftmaxWithLoss", label, x.shape[: axis % x.ndim], classes)
    total = 0.0
    if x.size and count == 1 and weight is None and not label_prob:
        total = _one_softmax(classes, x.dtype)(rows, labels.item(), made)
    elif x.size:

        def pick(made: Array) -> Array:
            if label_prob:
                return np.asarray(np.einsum("ij,ij->i", targets, made))
            return made.take(_places(labels, count, classes))

        losses = _softmaxes(count, classes, x.dtype)(rows, pick, made)
        total = float(_SUM(losses) if weights is None else losses @ weights)
    loss = result(outs[1] if outs else None, (), x.dtype)
    loss.fill(total * factor if factor else 0.0)
    return softmax, loss


@operator("SoftmaxWithLossGradient", specialize=_specialize_softmax_with_loss_gradient)
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
    average_by_batch_size: bool = False,
    out: Array | None = None,
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
    shape = matrix(x.shape, axis, "X")
    count, classes = shape
    # All that is read is read before anything is written: `out` may be any of the inputs.
    weights = None if weight is None else _weights(weight, count, x)
    slope = number(dloss, "the gradient of the loss")
    factor = np.array(slope * _factor(scale, weights, count, average_by_batch_size), x.dtype)
    if weights is not None:
        factor = (weights * factor)[:, np.newaxis]
    dx = result(out, x.shape, x.dtype)
    made, chances = dx.reshape(shape), softmax.reshape(shape)
    if label_prob:
        np.subtract(chances, label.reshape(shape), out=made)
        made *= factor
        return dx
    labels = _labels("SoftmaxWithLoss", label, x.shape[: axis % x.ndim], classes)
    if count == 1 and weights is None:
        _one_slope(labels.item(), chances, factor, made)
    else:
        _slopes(_places(labels, count, classes), chances, factor, made)
    return dx


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
