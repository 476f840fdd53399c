"""Numbers brought to a common scale by those around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats
from procession.operators.channels import channels_last
from procession.operators.registry import REQUIRED, Context, emit, operator


def _channels(operator: str, x: Array, order: str) -> int:
    """Which dimension is that of the channels."""
    floats(operator, x)
    if x.ndim != 4:
        raise ValueError(f"{operator} is for images, of four dimensions, not {x.shape}")
    return 3 if channels_last(operator, order) else 1


def _around(channels: int, size: int, like: Array) -> Array:
    """Row j: 1 for the channels that count for channel j, else 0."""
    if size < 1:
        raise ValueError(f"LRN: size={size} is not positive")
    first = np.arange(channels)[:, None] - (size - 1) // 2
    index = np.arange(channels)
    return ((index >= first) & (index < first + size)).astype(like.dtype)


def _gathered(around: Array, values: Array, axis: int) -> Array:
    """For each channel the sum of those that count for it."""
    if axis == 3:
        return np.asarray(values @ around.T)
    flat = values.reshape(*values.shape[:2], values.shape[2] * values.shape[3])
    return np.asarray(around @ flat).reshape(values.shape)


def _scale(x: Array, around: Array, size: int, alpha: float, bias: float, axis: int) -> Array:
    scale = _gathered(around, x * x, axis)
    scale *= x.dtype.type(alpha / size)
    scale += x.dtype.type(bias)
    return scale


def _power(scale: Array, exponent: float) -> Array:
    """Positive numbers, to the power of an exponent."""
    # A logarithm and an exponential are several times as fast as a power.
    power = np.log(scale)
    power *= scale.dtype.type(exponent)
    np.exp(power, out=power)
    return np.asarray(power)


@operator("LRN", outputs=(1, 2), gradient=[emit("LRNGradient", "I0 O0 GO0", "GI0")])
def lrn(
    x: Array,
    *,
    size: int = REQUIRED,
    alpha: float = 0.0,
    beta: float = 0.0,
    bias: float = 1.0,
    order: str = "NCHW",
    context: Context,
) -> tuple[Array, ...]:
    """X over a power of the squares in the channels around it; and what that is a power of.

    Y is X * scale ** -beta, where scale is bias + alpha / size * the sum of the squares of `size`
    channels, with the number's own in their middle. The second output is the scale. Caffe2: LRN.

    Args:
        size: How many channels count.
        alpha: See above; so are the others.
        beta: See `alpha`.
        bias: See `alpha`.
        order: Where the channels are, "NCHW" or "NHWC".

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X does not have four dimensions, `size` is not positive, or no such order.
    """
    axis = _channels("LRN", x, order)
    scale = _scale(x, _around(x.shape[axis], size, x), size, alpha, bias, axis)
    y = _power(scale, -beta)
    y *= x
    return (y, scale)[: len(context.outputs)]


@operator("LRNGradient")
def lrn_gradient(
    x: Array,
    y: Array,
    dy: Array,
    *,
    size: int = REQUIRED,
    alpha: float = 0.0,
    beta: float = 0.0,
    bias: float = 1.0,
    order: str = "NCHW",
    out: Array | None = None,
) -> Any:
    """The gradient of X, which has a part in the scales around it, too. Caffe2: LRNGradient."""
    axis, of = _channels("LRNGradient", x, order), x.dtype.type
    around = _around(x.shape[axis], size, x)
    scale = _scale(x, around, size, alpha, bias, axis)
    through = dy * y
    through /= scale
    through = _gathered(around.T, through, axis)
    through *= x
    through *= of(2 * beta * alpha / size)
    direct = _power(scale, -beta)
    direct *= dy
    return np.subtract(direct, through, out=out)
