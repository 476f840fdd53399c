"""Losses of yes-or-no questions, many of them at once: cross entropy of a sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.activation import sigmoid
from procession.operators.arrays import Array, floats
from procession.operators.registry import emit, operator

SURE = 1e-20
"""Chances below it count as this one: a logarithm of 0 is no slope."""


def _checked(operator: str, logits: Array, targets: Array, weights: Array | None = None) -> None:
    floats(operator, logits)
    for name, other in (("targets", targets), ("weights", weights)):
        if other is not None and other.shape != logits.shape:
            raise ValueError(f"{operator}: {name} are {other.shape}, the logits {logits.shape}")


def _one_of(operator: str, trick: bool, unjoined: bool) -> None:
    if trick and unjoined:
        raise ValueError(f"{operator}: log_D_trick and unjoined_lr_loss: one of them")


def _rest(logits: Array) -> Array:
    """log(1 + exp(-|logits|)): what there is of a loss besides straight lines."""
    rest = np.asarray(np.abs(logits))
    np.negative(rest, out=rest)
    np.exp(rest, out=rest)
    np.log1p(rest, out=rest)
    return rest


def _average(losses: Array) -> Array:
    """Over the last dimension; a vector's is one number."""
    if not losses.ndim:
        return losses
    total = np.add.reduce(losses, axis=-1)
    return np.asarray(total * losses.dtype.type(1 / max(losses.shape[-1], 1)))


def _joined(logits: Array, targets: Array) -> Array:
    """max(logit, 0) - logit * target + log(1 + exp(-|logit|))."""
    losses = np.maximum(logits, logits.dtype.type(0))
    losses -= logits * targets
    losses += _rest(logits)
    return np.asarray(losses)


def _each(dy: Array, logits: Array) -> Array:
    """What each loss has of dY: its share of an average."""
    if not logits.ndim:
        return dy.reshape(())
    share = dy.dtype.type(1 / max(logits.shape[-1], 1))
    return np.asarray(dy * share).reshape((*logits.shape[:-1], 1))


@operator(
    "SigmoidCrossEntropyWithLogits",
    gradient=[emit("SigmoidCrossEntropyWithLogitsGradient", "GO0 I0 I1", "GI0")],
)
def sigmoid_cross_entropy_with_logits(
    logits: Array,
    targets: Array,
    *,
    log_D_trick: bool = False,  # noqa: N803
    unjoined_lr_loss: bool = False,
) -> Array:
    """The cross entropy of sigmoid(logits) and the targets, averaged over the last dimension.

    With p = sigmoid(logit) it is the average of -(target * log(p) + (1 - target) * log(1 - p)).
    The targets, in the shape of the logits, are between 0 and 1. The result has the shape of the
    logits without the last dimension. Caffe2: SigmoidCrossEntropyWithLogits.

    Args:
        log_D_trick: Average -(2 * target - 1) * log(p) instead, as generators are trained that
            are to fool a discriminator.
        unjoined_lr_loss: Average -(target * logit - (1 - target) * -log(1 - p)) instead, for
            examples that come as negative ones first, and again when they turn out positive.

    Raises:
        TypeError: The logits are no floating-point numbers.
        ValueError: The shapes differ, or both arguments are set.
    """
    _checked("SigmoidCrossEntropyWithLogits", logits, targets)
    _one_of("SigmoidCrossEntropyWithLogits", log_D_trick, unjoined_lr_loss)
    one = logits.dtype.type(1)
    if log_D_trick:
        # log(p) = min(logit, 0) - rest
        below = np.minimum(logits, logits.dtype.type(0)) - _rest(logits)
        return _average(np.asarray(below * (one - targets - targets)).astype(logits.dtype))
    if unjoined_lr_loss:
        # -log(1 - p) = max(logit, 0) + rest
        above = np.maximum(logits, logits.dtype.type(0)) + _rest(logits)
        losses = above * (one - targets) - logits * targets
        return _average(np.asarray(losses).astype(logits.dtype))
    return _average(_joined(logits, targets.astype(logits.dtype, copy=False)))


@operator("SigmoidCrossEntropyWithLogitsGradient")
def sigmoid_cross_entropy_with_logits_gradient(
    dy: Array,
    logits: Array,
    targets: Array,
    *,
    log_D_trick: bool = False,  # noqa: N803
    unjoined_lr_loss: bool = False,
    out: Array | None = None,
) -> Any:
    """The gradient of the logits. Caffe2: SigmoidCrossEntropyWithLogitsGradient.

    Raises:
        TypeError, ValueError: As SigmoidCrossEntropyWithLogits.
    """
    _checked("SigmoidCrossEntropyWithLogitsGradient", logits, targets)
    _one_of("SigmoidCrossEntropyWithLogitsGradient", log_D_trick, unjoined_lr_loss)
    one, p = logits.dtype.type(1), sigmoid(logits)
    targets = targets.astype(logits.dtype, copy=False)
    if log_D_trick:
        slopes = (one - p) * (one - targets - targets)
    elif unjoined_lr_loss:
        slopes = (one - targets) * p - targets
    else:
        p -= targets
        slopes = p
    return np.multiply(slopes, _each(dy, logits), out=out)


@operator(
    "WeightedSigmoidCrossEntropyWithLogits",
    gradient=[emit("WeightedSigmoidCrossEntropyWithLogitsGradient", "GO0 I0 I1 I2", "GI0")],
)
def weighted_sigmoid_cross_entropy_with_logits(
    logits: Array, targets: Array, weights: Array
) -> Array:
    """SigmoidCrossEntropyWithLogits with a weight for each of the losses that are averaged.

    The average is over the length of the last dimension, not over the weights.
    Caffe2: WeightedSigmoidCrossEntropyWithLogits.

    Raises:
        TypeError: The logits are no floating-point numbers.
        ValueError: The shapes differ.
    """
    _checked("WeightedSigmoidCrossEntropyWithLogits", logits, targets, weights)
    losses = _joined(logits, targets.astype(logits.dtype, copy=False))
    return _average(np.asarray(losses * weights).astype(logits.dtype, copy=False))


@operator("WeightedSigmoidCrossEntropyWithLogitsGradient")
def weighted_sigmoid_cross_entropy_with_logits_gradient(
    dy: Array, logits: Array, targets: Array, weights: Array, *, out: Array | None = None
) -> Any:
    """The gradient of the logits. Caffe2: WeightedSigmoidCrossEntropyWithLogitsGradient.

    Raises:
        TypeError, ValueError: As WeightedSigmoidCrossEntropyWithLogits.
    """
    _checked("WeightedSigmoidCrossEntropyWithLogitsGradient", logits, targets, weights)
    slopes = sigmoid(logits)
    slopes -= targets.astype(logits.dtype, copy=False)
    slopes *= weights
    return np.multiply(slopes, _each(dy, logits), out=out)


def _entropy(p: Array) -> Array:
    """The entropy of a yes with probability p; 0 for what is sure."""
    one, zero = p.dtype.type(1), p.dtype.type(0)
    other = one - p
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(each > 0, each * np.log(each), zero) for each in (p, other)]
    return np.asarray(-(parts[0] + parts[1]))


@operator("BernoulliJSD", gradient=[emit("BernoulliJSDGradient", "GO0 I0 I1", "GI0")])
def bernoulli_jsd(x: Array, t: Array, *, out: Array | None = None) -> Any:
    """How far apart two probabilities of a yes are: their Jensen-Shannon divergence, elementwise.

    The entropy of the average of the two, minus the average of their entropies.
    Caffe2: BernoulliJSD.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: The shapes differ.
    """
    _checked("BernoulliJSD", x, t)
    half = x.dtype.type(0.5)
    middle = (x + t) * half
    return np.subtract(_entropy(middle), (_entropy(x) + _entropy(t)) * half, out=out)


@operator("BernoulliJSDGradient")
def bernoulli_jsd_gradient(dy: Array, x: Array, t: Array, *, out: Array | None = None) -> Any:
    """The gradient of X; what is nearly sure counts as a little less so.

    Caffe2: BernoulliJSDGradient.
    """
    _checked("BernoulliJSDGradient", x, t)
    one, half, least = x.dtype.type(1), x.dtype.type(0.5), x.dtype.type(SURE)

    def odds(p: Array) -> Array:
        return np.asarray(np.log(np.maximum(p, least)) - np.log(np.maximum(one - p, least)))

    return np.multiply(dy, (odds(x) - odds((x + t) * half)) * half, out=out)
