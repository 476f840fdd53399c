"""Examples, or groups of their channels, brought to a common scale by their mean and variance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from procession.operators.arrays import Array, Outs, floats, matrix, result
from procession.operators.channels import channels_last, checked, pieces
from procession.operators.registry import Rules, emit, operator


def _given(outs: Outs, count: int) -> tuple[Array | None, ...]:
    return (*(outs or ()), *(None,) * count)[:count]


def _column(values: Array, out: Array | None, shape: tuple[int, ...]) -> Array:
    """A vector in another shape, in `out` if it is given."""
    if out is None:
        return np.array(values).reshape(shape)
    out[...] = values.reshape(shape)
    return out


def _centered(rows: Array, out: Array) -> tuple[Array, Array]:
    """The mean and the variance of each row; `out` becomes the rows without their mean."""
    ones = np.ones(rows.shape[1], rows.dtype)
    share = rows.dtype.type(1 / max(rows.shape[1], 1))
    mean = (rows @ ones) * share
    np.subtract(rows, mean[:, np.newaxis], out=out)
    return mean, np.einsum("ij,ij->i", out, out) * share


def _layer_norm_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if arguments["elementwise_affine"]:
        return [emit("LayerNormGradient", "GO0 O0 O1 O2 I0 I1", "GI0 GI1 GI2")]
    return [emit("LayerNormGradient", "GO0 O0 O1 O2 I0", "GI0")]


@operator("LayerNorm", outputs=3, gradient=_layer_norm_rules)
def layer_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    *,
    axis: int = 1,
    epsilon: float = 1e-5,
    elementwise_affine: bool = False,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Each example with its mean taken out, and divided by its standard deviation.

    Y = (X - mean) / sqrt(variance + epsilon). The other outputs are the mean and that square
    root, of the shape of X before `axis`, with one more dimension of length 1. Caffe2: LayerNorm.

    Args:
        axis: An example is everything from this dimension on.
        epsilon: Added to the variance.
        elementwise_affine: Y is then multiplied by gamma, and beta is added; both have one
            number for each element of an example.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension, or gamma or beta are missing or have another size.
    """
    floats("LayerNorm", x)
    shape = matrix(x.shape, axis, "X")
    rows = x.reshape(shape)
    given = _given(outs, 3)
    y = result(given[0], x.shape, x.dtype)
    made = y.reshape(shape)
    mean, variance = _centered(rows, made)
    deviation = np.sqrt(variance + x.dtype.type(epsilon))
    made *= (1 / deviation)[:, np.newaxis]
    if elementwise_affine:
        if gamma is None or beta is None:
            raise ValueError("LayerNorm: elementwise_affine asks for gamma and beta as inputs")
        made *= _elements("gamma", gamma, shape[1], x)
        made += _elements("beta", beta, shape[1], x)
    column = (*x.shape[: axis % x.ndim], 1)
    return y, _column(mean, given[1], column), _column(deviation, given[2], column)


def _elements(name: str, values: Array, count: int, like: Array) -> Array:
    if values.size != count:
        raise ValueError(f"LayerNorm: {name} is {values.shape}, an example has {count} elements")
    return values.reshape(count).astype(like.dtype, copy=False)


@operator("LayerNormGradient", outputs=(1, 3))
def layer_norm_gradient(
    dy: Array,
    y: Array,
    mean: Array,
    stddev: Array,
    x: Array,
    gamma: Array | None = None,
    *,
    axis: int = 1,
    elementwise_affine: bool = False,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The gradients of X, and with gamma among the inputs those of gamma and beta.

    Caffe2: LayerNormGradient. Y is not needed.
    """
    shape = matrix(x.shape, axis, "X")
    rows, slopes = x.reshape(shape), dy.reshape(shape)
    given = _given(outs, 3)
    dx = result(given[0], x.shape, x.dtype)
    unit = dx.reshape(shape)
    inverse = (1 / stddev).reshape(-1, 1)
    np.subtract(rows, mean.reshape(-1, 1), out=unit)
    unit *= inverse
    scaled, parameters = slopes, cast("tuple[Array, ...]", ())
    if elementwise_affine and gamma is not None:
        dgamma = np.asarray(np.einsum("ij,ij->j", slopes, unit))
        dbeta = np.asarray(np.ones(shape[0], dy.dtype) @ slopes)
        parameters = (
            _column(dgamma, given[1], gamma.shape),
            _column(dbeta, given[2], gamma.shape),
        )
        scaled = slopes * gamma.reshape(-1)
    share = x.dtype.type(1 / max(shape[1], 1))
    offset = (scaled @ np.ones(shape[1], dy.dtype)) * share
    unit *= (np.einsum("ij,ij->i", scaled, unit) * -share)[:, np.newaxis]
    unit += scaled
    unit -= offset[:, np.newaxis]
    unit *= inverse
    return (dx, *parameters)


def _first(x: Array, last: bool) -> Array:
    """X with the channels in the second place."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if last else x


def _back(y: Array, last: bool, outs: Outs) -> Array:
    """What `_first` made, undone; into the first of `outs`, if it can be."""
    if not last:
        return y
    back = np.moveaxis(y, 1, -1)
    if not outs or outs[0] is None:
        return np.ascontiguousarray(back)
    np.copyto(outs[0], back)
    return outs[0]


def _grouped(
    x: Array, scale: Array, bias: Array, groups: int, epsilon: float, out: Array | None
) -> tuple[Array, Array, Array]:
    """Y, and for each group of channels of an example the mean and 1 / the deviation."""
    images, channels = x.shape[:2]
    pixels = x.size // max(images * channels, 1)
    y = result(out, x.shape, x.dtype)
    mean = np.empty((images, groups), x.dtype)
    inverse = np.empty((images, groups), x.dtype)
    weights = scale.reshape(groups, channels // groups)
    for piece in pieces(x):
        part = y[piece]
        rows = (len(part) * groups, channels // groups * pixels)
        center, variance = _centered(x[piece].reshape(rows), part.reshape(rows))
        steep = 1 / np.sqrt(variance + x.dtype.type(epsilon))
        mean[piece], inverse[piece] = (a.reshape(-1, groups) for a in (center, steep))
        factor = steep.reshape(-1, groups, 1) * weights
        planes = part.reshape(len(part), channels, pixels)
        planes *= factor.reshape(-1, channels, 1)
        planes += bias[:, np.newaxis]
    return y, mean, inverse


def _grouped_gradient(
    dy: Array, x: Array, scale: Array, mean: Array, inverse: Array, out: Array | None
) -> tuple[Array, Array, Array]:
    """The gradients of X, scale and bias."""
    images, channels = x.shape[:2]
    groups, pixels = mean.shape[1], x.size // max(images * channels, 1)
    size = channels // groups
    share = x.dtype.type(1 / max(size * pixels, 1))
    weights, ones = scale.reshape(groups, size), np.ones(pixels, x.dtype)
    dscale, dbias = np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    dx = result(out, x.shape, x.dtype)
    for piece in pieces(x):
        count = len(x[piece])
        rows = dx[piece].reshape(count * groups, size * pixels)
        planes = rows.reshape(count * channels, pixels)
        slopes = dy[piece].reshape(planes.shape)
        np.subtract(x[piece].reshape(rows.shape), mean[piece].reshape(-1, 1), out=rows)
        along = np.einsum("ij,ij->i", planes, slopes).reshape(count, groups, size)
        level = (slopes @ ones).reshape(count, groups, size)
        steep = inverse[piece].reshape(count, groups, 1)
        pull = (along * weights).sum(axis=2, keepdims=True) * steep**3 * -share
        offset = (level * weights).sum(axis=2, keepdims=True) * steep * -share
        rows *= pull.reshape(-1, 1)
        rows += offset.reshape(-1, 1)
        planes += slopes * (weights * steep).reshape(-1, 1)
        dscale += (along * steep).reshape(count, channels).sum(axis=0)
        dbias += level.reshape(count, channels).sum(axis=0)
    return dx, dscale, dbias


def _images(operator: str, x: Array, order: str) -> tuple[Array, bool]:
    floats(operator, x)
    last = channels_last(operator, order)
    if x.ndim < 2:
        raise ValueError(f"{operator}: X is {x.shape}, and has no dimension of channels")
    return _first(x, last), last


def _asked(made: tuple[Array, ...], is_test: bool, outs: Outs) -> tuple[Array, ...]:
    """As many of the results as there are outputs."""
    return made[: len(outs)] if outs else made[:1] if is_test else made


def _instance_norm_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    kept = " O1 O2"[: 3 * (arguments.get("n_outputs", 1) - 1)]
    return [emit("InstanceNormGradient", f"I0 I1 I2 GO0{kept}", "GI0 GI1 GI2")]


@operator("InstanceNorm", outputs=(1, 3), gradient=_instance_norm_rules)
def instance_norm(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    epsilon: float = 1e-5,
    order: str = "NCHW",
    is_test: bool = False,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Each channel of each example with its own mean and variance taken out, scaled and moved.

    Y = (X - mean) / sqrt(variance + epsilon) * scale + bias, with one scale and one bias for each
    channel. The other outputs, if they are wanted, are the mean and 1 / that square root, of
    shape (N, C). Caffe2: InstanceNorm.

    Args:
        epsilon: Added to the variance.
        order: Where the channels are, "NCHW" or "NHWC".
        is_test: Y is the only output, unless more are named.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has fewer than two dimensions, scale or bias have not one number for each
            channel, or no such order.
    """
    images, last = _images("InstanceNorm", x, order)
    channels = images.shape[1]
    scale = checked("InstanceNorm", "scale", scale, channels, x)
    bias = checked("InstanceNorm", "bias", bias, channels, x)
    out = outs[0] if outs and not last else None
    y, mean, inverse = _grouped(images, scale, bias, channels, epsilon, out)
    return _asked((_back(y, last, outs), mean, inverse), is_test, outs)


@operator("InstanceNormGradient", outputs=3)
def instance_norm_gradient(
    x: Array,
    scale: Array,
    bias: Array,
    dy: Array,
    mean: Array | None = None,
    inv_stdev: Array | None = None,
    *,
    epsilon: float = 1e-5,
    order: str = "NCHW",
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The gradients of X, scale and bias. Caffe2: InstanceNormGradient.

    Mean and 1 / deviation are computed again where they are no inputs.
    """
    images, last = _images("InstanceNormGradient", x, order)
    channels = images.shape[1]
    if mean is None or inv_stdev is None:
        rows = images.reshape(images.shape[0] * channels, math.prod(images.shape[2:]))
        mean, variance = _centered(rows, np.empty_like(rows))
        inv_stdev = np.asarray(1 / np.sqrt(variance + x.dtype.type(epsilon)))
    mean, inv_stdev = (a.reshape(images.shape[:2]) for a in (mean, inv_stdev))
    out = outs[0] if outs and not last else None
    dx, dscale, dbias = _grouped_gradient(_first(dy, last), images, scale, mean, inv_stdev, out)
    return _back(dx, last, outs), dscale, dbias


def _group_norm_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules | None:
    if arguments.get("n_outputs", 3) < 3:
        return None
    return [emit("GroupNormGradient", "GO0 I0 I1 I2 O1 O2", "GI0 GI1 GI2")]


def _groups(channels: int, group: int | None, num_groups: int | None) -> int:
    if group is not None and num_groups is not None and group != num_groups:
        raise ValueError(f"GroupNorm: group={group} and num_groups={num_groups}: one of them")
    groups = group if group is not None else 32 if num_groups is None else num_groups
    if groups < 1 or channels % groups:
        raise ValueError(f"GroupNorm: {channels} channels cannot be cut into {groups} groups")
    return groups


@operator("GroupNorm", outputs=(1, 3), gradient=_group_norm_rules)
def group_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    group: int | None = None,
    num_groups: int | None = None,
    epsilon: float = 1e-5,
    order: str = "NCHW",
    is_test: bool = False,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Groups of channels of each example with their mean and variance taken out, scaled, moved.

    Y = (X - mean) / sqrt(variance + epsilon) * gamma + beta, with one gamma and one beta for each
    channel. The other outputs are the mean and 1 / that square root, of shape (N, groups).
    Caffe2: GroupNorm.

    Args:
        group: How many groups there are; 32 if nothing is said.
        num_groups: The same.
        epsilon: Added to the variance.
        order: Where the channels are, "NCHW" or "NHWC".
        is_test: Y is the only output, unless more are named.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has fewer than two dimensions, its channels cannot be cut into so many
            groups, gamma or beta have not one number for each channel, or no such order.
    """
    images, last = _images("GroupNorm", x, order)
    channels = images.shape[1]
    groups = _groups(channels, group, num_groups)
    gamma = checked("GroupNorm", "gamma", gamma, channels, x)
    beta = checked("GroupNorm", "beta", beta, channels, x)
    out = outs[0] if outs and not last else None
    y, mean, inverse = _grouped(images, gamma, beta, groups, epsilon, out)
    return _asked((_back(y, last, outs), mean, inverse), is_test, outs)


@operator("GroupNormGradient", outputs=3)
def group_norm_gradient(
    dy: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    *,
    order: str = "NCHW",
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The gradients of X, gamma and beta. Caffe2: GroupNormGradient."""
    images, last = _images("GroupNormGradient", x, order)
    out = outs[0] if outs and not last else None
    dx, dgamma, dbeta = _grouped_gradient(_first(dy, last), images, gamma, mean, inv_std, out)
    return _back(dx, last, outs), dgamma, dbeta
