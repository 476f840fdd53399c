"""Channels brought to a common scale by their mean and variance in the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, result
from procession.operators.channels import by_channel, checked, pieces, products, spread, sums
from procession.operators.registry import REQUIRED, Rules, emit, operator

FAR = 16.0
"""A mean whose square is so many variances: too few digits would be left of their difference."""


def _moments(x: Array) -> tuple[Array, Array]:
    """The mean and the variance of each channel, as float64; of something that is not empty."""
    count = x.size // x.shape[1]
    total, squares = _both(x, x)
    mean = total / count
    variance = squares / count - mean * mean
    if (mean * mean > FAR * variance).any():
        total, squares = _both(x, None, mean.astype(x.dtype))
        offset = total / count
        variance = squares / count - offset * offset
    return mean, np.maximum(variance, 0)


def _both(x: Array, other: Array | None, center: Array | None = None) -> tuple[Array, Array]:
    """For each channel the sums of `other` and of its products with X, as float64.

    With a center, X is X - center, and without `other`, the other is X as well.
    """
    total: Any = 0.0
    product: Any = 0.0
    scratch = None
    for piece in pieces(x):
        part = x[piece]
        if center is not None:
            scratch = np.empty(part.shape, x.dtype) if scratch is None else scratch[: len(part)]
            part = np.subtract(part, spread(center, x), out=scratch)
        with_part = part if other is None else other[piece]
        total = total + sums(with_part).astype(np.float64)
        product = product + products(part, with_part)
    return total, product


def _scaled(x: Array, factor: Array, offset: Array, out: Array) -> None:
    """X * factor + offset, by channel, into `out`."""
    factor, offset = spread(factor, x), spread(offset, x)
    for piece in pieces(x):
        part = np.multiply(x[piece], factor, out=out[piece])
        part += offset


def _moved(old: Array, target: Array | None, momentum: float, value: Array) -> Array:
    """The old values and a share of the new ones, in place if that is wanted."""
    moved: Array = np.multiply(old, old.dtype.type(momentum), out=target)
    moved += value * (1 - momentum)
    return moved


def _spatial_bn_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules | None:
    if arguments["is_test"]:
        return [emit("SpatialBNGradient", "I0 I1 GO0 I3 I4", "GI0 GI1 GI2")]
    if inputs > 5:
        return [
            emit("ChannelBackpropStats", "I0 O3 O4 GO0", "GI1 GI2"),
            emit("SpatialBNGradient", "I0 I1 GO0 O3 O4 GI1 GI2", "GI0 GI1 GI2"),
        ]
    return [emit("SpatialBNGradient", "I0 I1 GO0 O3 O4", "GI0 GI1 GI2")]


@operator("SpatialBN", outputs=(1, 5), gradient=_spatial_bn_rules, in_place=[(3, 1), (4, 2)])
def spatial_bn(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    sums: Array | None = None,
    sumsq: Array | None = None,
    *,
    is_test: bool = REQUIRED,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    order: str = "NCHW",
    num_batches: int = 1,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Each channel of X with its mean and variance taken out, then scaled and moved.

    Y = (X - mean) / sqrt(variance + epsilon) * scale + bias. X is (N, C, ...) or, with the
    order "NHWC", (N, ..., C); all others are of shape (C,). Caffe2: SpatialBN.

    In training the mean and variance are those of X. There are five outputs then: Y, the running
    mean and variance, which are named as the inputs that they replace, the mean of X, and
    1 / sqrt(variance of X + epsilon). In testing they are the running ones, and Y is all.

    Args:
        is_test: Whether this is a test. It must be said.
        epsilon: Added to the variance.
        momentum: How much of the running mean and variance stays in a step.
        order: Where the channels are, "NCHW" or "NHWC".
        num_batches: How many batches of this size the inputs `sums` and `sumsq`, sums of
            the numbers of each channel and of their squares, were made of; without them, 1.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has fewer than two dimensions, something has not one number for each
            channel, `sumsq` is missing, or no such order.
    """
    flat = by_channel("SpatialBN", x, order)
    channels, dtype = flat.shape[1], x.dtype
    scale = checked("SpatialBN", "scale", scale, channels, x)
    bias = checked("SpatialBN", "bias", bias, channels, x)
    running = checked("SpatialBN", "mean", mean, channels, x)
    spreads = checked("SpatialBN", "var", var, channels, x)
    y, new_mean, new_var, saved_mean, saved_inv = _targets(outs, x, is_test)
    made = y.reshape(flat.shape)
    if is_test:
        factor = scale / np.sqrt(spreads + dtype.type(epsilon))
        _scaled(flat, factor, bias - running * factor, made)
        return (y,)
    count = flat.size // channels * (1 if sums is None else num_batches)
    if not count:
        center, inverse = np.zeros(channels), np.zeros(channels)
        moved = np.array(running), np.array(spreads)
    else:
        center, variance = _given_or_own(flat, sums, sumsq, count)
        inverse = 1 / np.sqrt(variance + epsilon)
        unbiased = variance * (count / max(count - 1, 1))
        moved = (
            _moved(running, new_mean, momentum, center),
            _moved(spreads, new_var, momentum, unbiased),
        )
        factor = scale * inverse
        offset = bias - center * factor
        _scaled(flat, factor.astype(dtype), offset.astype(dtype), made)
    return (
        y,
        *moved,
        _kept(center, dtype, saved_mean),
        _kept(inverse, dtype, saved_inv),
    )


def _targets(outs: Outs, x: Array, is_test: bool) -> tuple[Any, ...]:
    given = (*(outs or ()), None, None, None, None, None)
    y = given[0] if given[0] is not None else np.empty(x.shape, x.dtype)
    return (y, None, None, None, None) if is_test else (y, *given[1:5])


def _given_or_own(
    x: Array, total: Array | None, squares: Array | None, count: int
) -> tuple[Array, Array]:
    """Mean and variance: of the sums that were handed in, else of X."""
    if total is None:
        return _moments(x)
    if squares is None:
        raise ValueError("SpatialBN: with `sums` there must be `sumsq` as well")
    mean = checked("SpatialBN", "sums", total, x.shape[1], x).astype(np.float64) / count
    second = checked("SpatialBN", "sumsq", squares, x.shape[1], x).astype(np.float64) / count
    return mean, np.maximum(second - mean * mean, 0)


def _kept(values: Array, dtype: np.dtype[Any], out: Array | None) -> Array:
    if out is None:
        return values.astype(dtype)
    out[...] = values
    return out


@operator("SpatialBNGradient", outputs=3)
def spatial_bn_gradient(
    x: Array,
    scale: Array,
    dy: Array,
    mean: Array,
    inv_std: Array,
    scale_gradient: Array | None = None,
    bias_gradient: Array | None = None,
    *,
    is_test: bool = REQUIRED,
    epsilon: float = 1e-5,
    order: str = "NCHW",
    num_batches: int = 1,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The gradients of X, of the scale and of the bias. Caffe2: SpatialBNGradient.

    The mean and 1 / sqrt(variance + epsilon) are those that SpatialBN has kept; in testing they
    are the running mean and variance. Gradients of scale and bias that are handed in are sums
    over `num_batches` batches of this size, and are handed on divided by it.

    Raises:
        TypeError, ValueError: As SpatialBN.
    """
    flat = by_channel("SpatialBNGradient", x, order)
    channels, of = flat.shape[1], x.dtype.type
    slopes = dy.reshape(flat.shape)
    scale = checked("SpatialBNGradient", "scale", scale, channels, x)
    center = checked("SpatialBNGradient", "mean", mean, channels, x)
    inverse = checked("SpatialBNGradient", "inv_std", inv_std, channels, x)
    if is_test:
        inverse = 1 / np.sqrt(inverse + of(epsilon))
    given = (*(outs or ()), None, None, None)
    dx = result(given[0], x.shape, x.dtype)
    if scale_gradient is None or bias_gradient is None:
        dscale, dbias = _backprop_stats(flat, center, inverse, slopes)
        batches = 1
    else:
        dscale = checked("SpatialBNGradient", "the scale's gradient", scale_gradient, channels, x)
        dbias = checked("SpatialBNGradient", "the bias's gradient", bias_gradient, channels, x)
        batches = num_batches
    made, factor = dx.reshape(flat.shape), spread((scale * inverse).astype(x.dtype), flat)
    if is_test:
        np.multiply(slopes, factor, out=made)
    else:
        count = max(flat.size // channels * batches, 1)
        pull, offset = inverse * dscale / of(-count), dbias / of(count)
        middle = center if _far(center, inverse) else None
        offset = offset if middle is not None else offset + center * pull
        pull, offset = spread(pull, flat), spread(offset, flat)
        for piece in pieces(flat):
            part = flat[piece]
            if middle is not None:
                part = np.subtract(part, spread(middle, flat), out=made[piece])
            part = np.multiply(part, pull, out=made[piece])
            part += slopes[piece]
            part -= offset
            part *= factor
    return (
        dx,
        _kept(dscale / batches, x.dtype, given[1]),
        _kept(dbias / batches, x.dtype, given[2]),
    )


def _far(mean: Array, inverse: Array) -> bool:
    """Whether a mean is so far from 0 that X is to be taken without it."""
    far = mean * inverse
    return bool((far * far > FAR).any())


def _backprop_stats(x: Array, mean: Array, inverse: Array, dy: Array) -> tuple[Array, Array]:
    """The gradients of scale and bias, in the type of X."""
    if not x.size:
        return np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    if _far(mean, inverse):
        dbias, dscale = _both(x, dy, mean)
    else:
        dbias, dscale = _both(x, dy)
        dscale = dscale - mean * dbias
    dscale = dscale * inverse
    return dscale.astype(x.dtype), dbias.astype(x.dtype)


@operator("ChannelStats", outputs=2)
def channel_stats(x: Array, *, order: str = "NCHW") -> tuple[Array, Array]:
    """For each channel the sum of its numbers, and of their squares. Caffe2: ChannelStats.

    Args:
        order: Where the channels are, "NCHW" or "NHWC".

    Raises:
        TypeError, ValueError: As SpatialBN.
    """
    flat = by_channel("ChannelStats", x, order)
    return sums(flat), products(flat, flat)


@operator("ChannelBackpropStats", outputs=2)
def channel_backprop_stats(
    x: Array, mean: Array, inv_std: Array, dy: Array, *, order: str = "NCHW"
) -> tuple[Array, Array]:
    """The gradients of SpatialBN's scale and bias. Caffe2: ChannelBackpropStats.

    Raises:
        TypeError, ValueError: As SpatialBN.
    """
    flat = by_channel("ChannelBackpropStats", x, order)
    center = checked("ChannelBackpropStats", "mean", mean, flat.shape[1], x)
    inverse = checked("ChannelBackpropStats", "inv_std", inv_std, flat.shape[1], x)
    return _backprop_stats(flat, center, inverse, dy.reshape(flat.shape))


def _affine_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if arguments["is_learnable"]:
        return [emit("AffineChannelGradient", "GO0 I0 I1", "GI0 GI1 GI2")]
    return [emit("AffineChannelGradient", "GO0 I1", "GI0")]


@operator("AffineChannel", gradient=_affine_rules)
def affine_channel(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    order: str = "NCHW",
    is_learnable: bool = False,
    out: Array | None = None,
) -> Array:
    """X * scale + bias, with one scale and one bias for each channel. Caffe2: AffineChannel.

    Args:
        order: Where the channels are, "NCHW" or "NHWC".
        is_learnable: Scale and bias have gradients, too.

    Raises:
        TypeError, ValueError: As SpatialBN.
    """
    flat = by_channel("AffineChannel", x, order)
    scale = checked("AffineChannel", "scale", scale, flat.shape[1], x)
    bias = checked("AffineChannel", "bias", bias, flat.shape[1], x)
    y = result(out, x.shape, x.dtype)
    _scaled(flat, scale, bias, y.reshape(flat.shape))
    return y


@operator("AffineChannelGradient", outputs=(1, 3))
def affine_channel_gradient(
    dy: Array,
    x_or_scale: Array,
    scale: Array | None = None,
    *,
    order: str = "NCHW",
    is_learnable: bool = False,
) -> tuple[Array, ...]:
    """The gradient of X, and with X among the inputs those of scale and bias.

    Caffe2: AffineChannelGradient.
    """
    slopes = by_channel("AffineChannelGradient", dy, order)
    own = x_or_scale if scale is None else scale
    factor = spread(checked("AffineChannelGradient", "scale", own, slopes.shape[1], dy), slopes)
    dx = np.multiply(slopes, factor).reshape(dy.shape)
    if scale is None:
        return (dx,)
    return dx, products(x_or_scale.reshape(slopes.shape), slopes), sums(slopes)
