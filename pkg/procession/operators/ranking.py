"""Losses of comparisons: which of two is the larger one, or whether two are alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats
from procession.operators.lengths import checked_lengths
from procession.operators.registry import Rules, emit, operator


def _signs(operator: str, label: Array, *scores: Array) -> Array:
    """The labels, checked, in the shape of the scores."""
    floats(operator, *scores)
    if label.dtype.kind not in "iu":
        raise TypeError(f"{operator}: labels are integers, 1 or -1, not {label.dtype}")
    if any(each.size != label.size for each in scores) or scores[0].shape != scores[-1].shape:
        shapes = ", ".join(str(each.shape) for each in scores)
        raise ValueError(f"{operator}: labels are {label.shape}, for scores {shapes}")
    return label.reshape(scores[0].shape)


@operator(
    "MarginRankingCriterion",
    gradient=[emit("MarginRankingCriterionGradient", "I0 I1 I2 GO0", "GI0 GI1")],
)
def margin_ranking_criterion(
    x1: Array, x2: Array, y: Array, *, margin: float = 1.0, out: Array | None = None
) -> Any:
    """max(0, margin - Y * (X1 - X2)): Y is 1 where X1 should be larger, -1 where X2 should.

    Caffe2: MarginRankingCriterion.

    Args:
        margin: By how much it should be larger.

    Raises:
        TypeError: The scores are no floating-point numbers, or Y no integers.
        ValueError: The shapes do not match.
    """
    signs = _signs("MarginRankingCriterion", y, x1, x2).astype(x1.dtype)
    loss = x1.dtype.type(margin) - signs * (x1 - x2)
    return np.maximum(loss, x1.dtype.type(0), out=out)


@operator("MarginRankingCriterionGradient", outputs=2)
def margin_ranking_criterion_gradient(
    x1: Array, x2: Array, y: Array, dloss: Array, *, margin: float = 1.0
) -> tuple[Array, Array]:
    """The gradients of X1 and X2: -+Y dloss where there is a loss, else 0.

    Caffe2: MarginRankingCriterionGradient.
    """
    signs = _signs("MarginRankingCriterionGradient", y, x1, x2).astype(x1.dtype)
    lost = x1.dtype.type(margin) - signs * (x1 - x2) > 0
    second = np.asarray(signs * lost * dloss.reshape(x1.shape))
    return np.negative(second), second


@operator(
    "CosineEmbeddingCriterion",
    gradient=[emit("CosineEmbeddingCriterionGradient", "I0 I1 GO0", "GI0")],
)
def cosine_embedding_criterion(
    s: Array, y: Array, *, margin: float = 0.0, out: Array | None = None
) -> Any:
    """1 - S where Y is 1, max(0, S - margin) where it is -1; S is the cosine of two vectors.

    Caffe2: CosineEmbeddingCriterion.

    Args:
        margin: How alike may be what should be different.

    Raises:
        TypeError: S does not hold floating-point numbers, or Y no integers.
        ValueError: The shapes do not match.
    """
    alike = _signs("CosineEmbeddingCriterion", y, s) == 1
    of = s.dtype.type
    # One that writes to `out` last may have it as an input.
    different = np.maximum(s - of(margin), of(0))
    loss = np.where(alike, of(1) - s, different)
    return loss if out is None else np.positive(loss, out=out)


@operator("CosineEmbeddingCriterionGradient")
def cosine_embedding_criterion_gradient(
    s: Array, y: Array, dloss: Array, *, margin: float = 0.0, out: Array | None = None
) -> Any:
    """The gradient of S. Caffe2: CosineEmbeddingCriterionGradient."""
    of = s.dtype.type
    alike = _signs("CosineEmbeddingCriterionGradient", y, s) == 1
    slopes = np.where(alike, of(-1), np.where(s >= of(margin), of(1), of(0)))
    return np.multiply(slopes, dloss.reshape(s.shape), out=out)


def _pairwise_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    lengths = " I2" if inputs == 3 else ""
    return [emit("PairWiseLossGradient", f"I0 I1 GO0{lengths}", "GI0")]


def _sessions(
    operator: str, x: Array, label: Array, lengths: Array | None
) -> Iterator[tuple[Array, Array]]:
    """For each session its scores, and which label (row) is larger than which other."""
    floats(operator, x)
    if x.size != label.size or x.size != (x.shape[0] if x.ndim else 1):
        raise ValueError(f"{operator}: labels are {label.shape}, for scores {x.shape}")
    scores, labels = x.reshape(-1), label.reshape(-1)
    each = np.array([x.size]) if lengths is None else checked_lengths(lengths, x.size)
    end = 0
    for length in each.tolist():
        start, end = end, end + length
        part = labels[start:end]
        yield scores[start:end], part[:, np.newaxis] > part


@operator("PairWiseLoss", gradient=_pairwise_rules)
def pair_wise_loss(x: Array, label: Array, lengths: Array | None = None) -> Array:
    """How far the order of the scores is from that of the labels, for each session.

    It is the average of log(1 + exp(x[j] - x[i])) over the pairs of a session with
    label[i] > label[j]; 0 without such a pair. X and the labels are (N, 1) or (N,).
    The lengths are those of the sessions; without them all is one. Caffe2: PairWiseLoss.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: The shapes do not match, or the lengths do not add up to N.
    """
    losses = []
    for scores, larger in _sessions("PairWiseLoss", x, label, lengths):
        behind = np.logaddexp(scores - scores[:, np.newaxis], x.dtype.type(0))
        losses.append(float(behind[larger].sum()) / max(int(np.count_nonzero(larger)), 1))
    return np.array(losses, x.dtype)


@operator("PairWiseLossGradient")
def pair_wise_loss_gradient(
    x: Array, label: Array, dy: Array, lengths: Array | None = None
) -> Array:
    """The gradient of X. Caffe2: PairWiseLossGradient.

    Raises:
        TypeError, ValueError: As PairWiseLoss.
    """
    parts = [np.zeros(0, x.dtype)]
    sessions = _sessions("PairWiseLossGradient", x, label, lengths)
    for (scores, larger), slope in zip(sessions, dy.reshape(-1), strict=True):
        apart = scores - scores[:, np.newaxis]
        pull = np.where(larger, np.exp(-np.logaddexp(-apart, x.dtype.type(0))), 0)
        pull *= slope / max(int(np.count_nonzero(larger)), 1)
        parts.append(pull.sum(axis=0) - pull.sum(axis=1))
    return np.concatenate(parts).astype(x.dtype, copy=False).reshape(x.shape)
