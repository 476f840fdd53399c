"""Activations: what stands between two layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, matrix, result, store, sum_to, text
from procession.operators.elementwise import error_function
from procession.operators.registry import STOPS, Look, emit, operator
from procession.operators.softmax import normalizing, shifting

ROW = 4096
"""No longer row of zeros is kept."""


@lru_cache(maxsize=32)
def _zero(dtype: np.dtype[Any]) -> Array:
    return np.zeros((), dtype)


@lru_cache(maxsize=32)
def _zero_row(dtype: np.dtype[Any], length: int) -> Array:
    return np.zeros(length, dtype)


def _zeros(x: Array) -> Array:
    """Zeros to compare a tensor with: one, or a row of them, with which NumPy is faster."""
    if x.size > ROW and 64 <= x.shape[-1] <= ROW:
        return _zero_row(x.dtype, x.shape[-1])
    return _zero(x.dtype)


def _specialize_relu(
    inputs: Sequence[Look], outputs: Sequence[Look]
) -> Callable[..., object] | None:
    ((shape, dtype),) = inputs
    if dtype.kind not in "iuf" or math.prod(shape) > ROW:
        return None
    zeros, maximum = np.zeros(shape, dtype), np.maximum
    return lambda x, y: maximum(x, zeros, out=y)


def _specialize_relu_gradient(
    inputs: Sequence[Look], outputs: Sequence[Look]
) -> Callable[..., object] | None:
    (shape, dtype), dy = inputs
    if dtype.kind != "f" or dy != inputs[0] or math.prod(shape) > ROW:
        return None
    zero, positive, factors = np.zeros((), dtype), np.empty(shape, np.bool_), np.empty(shape, dtype)
    greater, multiply = np.greater, np.multiply

    def gradient(y: Array, dy: Array, dx: Array) -> None:
        # Several times as fast as a product of numbers and bools.
        factors[...] = greater(y, zero, positive)
        multiply(dy, factors, dx)

    return gradient


@operator("Relu", gradient=[emit("ReluGradient", "O0 GO0", "GI0")], specialize=_specialize_relu)
def relu(x: Array, *, out: Array | None = None) -> Any:
    """The larger of X and 0, elementwise. Caffe2: Relu."""
    return np.maximum(x, _zeros(x), out=out)


@operator("ReluGradient", specialize=_specialize_relu_gradient)
def relu_gradient(y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY where Y is positive, else 0. Caffe2: ReluGradient."""
    return np.multiply(dy, np.greater(y, _zero(y.dtype)), out=out)


@operator("LeakyRelu", gradient=[emit("LeakyReluGradient", "O0 GO0", "GI0")])
def leaky_relu(x: Array, *, alpha: float = 0.01, out: Array | None = None) -> Any:
    """X where it is positive, else `alpha` times X. Caffe2: LeakyRelu.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("LeakyRelu", x)
    return np.multiply(x, np.where(x > 0, x.dtype.type(1), x.dtype.type(alpha)), out=out)


@operator("LeakyReluGradient")
def leaky_relu_gradient(
    y: Array, dy: Array, *, alpha: float = 0.01, out: Array | None = None
) -> Any:
    """The gradient of X: dY where Y is from 0 up, else `alpha` dY. Caffe2: LeakyReluGradient."""
    return np.multiply(dy, np.where(y >= 0, y.dtype.type(1), y.dtype.type(alpha)), out=out)


@operator("Sigmoid", gradient=[emit("SigmoidGradient", "O0 GO0", "GI0")])
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """1 / (1 + exp(-X)), elementwise. Caffe2: Sigmoid.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Sigmoid", x)
    y = np.empty(x.shape, x.dtype) if out is None else out
    np.negative(x, out=y)
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is the 0 that is meant
        np.exp(y, out=y)
    y += y.dtype.type(1)
    np.divide(y.dtype.type(1), y, out=y)
    return y


@operator("SigmoidGradient")
def sigmoid_gradient(y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY * Y * (1 - Y). Caffe2: SigmoidGradient."""
    return np.multiply(dy, y * (y.dtype.type(1) - y), out=out)


@operator("Tanh", ufunc=np.tanh, gradient=[emit("TanhGradient", "O0 GO0", "GI0")])
def tanh(x: Array, *, out: Array | None = None) -> Any:
    """The hyperbolic tangent of each number. Caffe2: Tanh.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Tanh", x)
    return np.tanh(x, out=out)


@operator("TanhGradient")
def tanh_gradient(y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY * (1 - Y * Y). Caffe2: TanhGradient."""
    return np.multiply(dy, y.dtype.type(1) - y * y, out=out)


def _softmax(count: int, classes: int, dtype: np.dtype[Any]) -> Callable[[Array, Array], Array]:
    """What turns rows into their softmax; that may be the same memory."""
    shift, normalize = shifting(count, classes, dtype), normalizing(count, classes, dtype)

    def softmax(x: Array, y: Array) -> Array:
        shift(x, y)
        return normalize(y)

    return softmax


def _softmax_slopes(
    count: int, classes: int, dtype: np.dtype[Any]
) -> Callable[[Array, Array, Array], object]:
    """What computes the gradient of rows for `_softmax`; Y and dY may be the result."""
    multiply, subtract, spare = np.multiply, np.subtract, np.empty((count, classes), dtype)
    total: Any = np.add.reduce
    sums = np.empty((count, 1), dtype)
    # NumPy is quicker with a number than with a tensor that it has to broadcast.
    means = sums.reshape(()) if count == 1 else sums

    def slopes(y: Array, dy: Array, dx: Array) -> None:
        total(multiply(y, dy, spare), 1, None, sums, True)
        multiply(y, subtract(dy, means, spare), dx)

    return slopes


def _specialize_rows(
    make: Callable[[int, int, np.dtype[Any]], Callable[..., object]],
) -> Callable[..., Callable[..., object] | None]:
    def specialize(
        inputs: Sequence[Look], outputs: Sequence[Look], *, axis: int
    ) -> Callable[..., object] | None:
        shape, dtype = inputs[0]
        if (
            len(shape) != 2
            or axis != 1
            or 0 in shape
            or dtype.kind != "f"
            or any(look != inputs[0] for look in inputs)
        ):
            return None
        return make(*shape, dtype)

    return specialize


@operator(
    "Softmax",
    gradient=[emit("SoftmaxGradient", "O0 GO0", "GI0")],
    specialize=_specialize_rows(_softmax),
)
def softmax(x: Array, *, axis: int = 1, out: Array | None = None) -> Array:
    """Numbers turned into probabilities that sum to 1. Caffe2: Softmax.

    Args:
        axis: One distribution covers everything from this dimension on, all of it: with the
            default of 1 there is one per element of the first dimension.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension.
    """
    floats("Softmax", x)
    shape = matrix(x.shape, axis, "X")
    y = result(out, x.shape, x.dtype)
    if x.size == 0:
        return y
    _softmax(*shape, x.dtype)(x.reshape(shape), y.reshape(shape))
    return y


@operator("SoftmaxGradient", specialize=_specialize_rows(_softmax_slopes))
def softmax_gradient(y: Array, dy: Array, *, axis: int = 1, out: Array | None = None) -> Array:
    """The gradient of X: Y * (dY - the sum of Y * dY over its row). Caffe2: SoftmaxGradient."""
    shape = matrix(y.shape, axis, "Y")
    dx = result(out, y.shape, y.dtype)
    _softmax_slopes(*shape, y.dtype)(y.reshape(shape), dy.reshape(shape), dx.reshape(shape))
    return dx


@operator("ReluN", gradient=[emit("ReluNGradient", "O0 GO0", "GI0")])
def relu_n(x: Array, *, n: float = 6.0, out: Array | None = None) -> Any:
    """Relu, but nothing above `n`. Caffe2: ReluN.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("ReluN", x)
    return np.minimum(np.maximum(x, x.dtype.type(0)), x.dtype.type(n), out=out)


@operator("ReluNGradient")
def relu_n_gradient(y: Array, dy: Array, *, n: float = 6.0, out: Array | None = None) -> Any:
    """The gradient of X: dY where Y is strictly between 0 and `n`. Caffe2: ReluNGradient."""
    return np.multiply(dy, np.logical_and(y > 0, y < y.dtype.type(n)), out=out)


@operator("ThresholdedRelu", gradient=[emit("ThresholdedReluGradient", "O0 GO0", "GI0")])
def thresholded_relu(x: Array, *, alpha: float = 1.0, out: Array | None = None) -> Any:
    """X where it is above `alpha`, else 0. Caffe2: ThresholdedRelu.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("ThresholdedRelu", x)
    return np.multiply(x, x > x.dtype.type(alpha), out=out)


@operator("ThresholdedReluGradient")
def thresholded_relu_gradient(y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY where Y is not 0. Caffe2: ThresholdedReluGradient."""
    return np.multiply(dy, y != 0, out=out)


@operator("HardSigmoid", gradient=[emit("HardSigmoidGradient", "O0 GO0", "GI0")])
def hard_sigmoid(
    x: Array, *, alpha: float = 0.2, beta: float = 0.5, out: Array | None = None
) -> Any:
    """`alpha` X + `beta`, but nothing below 0 or above 1. Caffe2: HardSigmoid.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("HardSigmoid", x)
    of = x.dtype.type
    return np.minimum(np.maximum(x * of(alpha) + of(beta), of(0)), of(1), out=out)


@operator("HardSigmoidGradient")
def hard_sigmoid_gradient(
    y: Array, dy: Array, *, alpha: float = 0.2, out: Array | None = None
) -> Any:
    """The gradient of X: `alpha` dY where Y is strictly between 0 and 1.

    Caffe2: HardSigmoidGradient.
    """
    inside = np.logical_and(y > 0, y < 1)
    return np.multiply(dy, inside * y.dtype.type(alpha), out=out)


@operator("Elu", gradient=[emit("EluGradient", "O0 GO0", "GI0")])
def elu(x: Array, *, alpha: float = 1.0, out: Array | None = None) -> Any:
    """X where it is positive, else `alpha` (exp(X) - 1). Caffe2: Elu.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Elu", x)
    zero = x.dtype.type(0)
    below = np.expm1(np.minimum(x, zero)) * x.dtype.type(alpha)
    return np.add(np.maximum(x, zero), below, out=out)


@operator("EluGradient")
def elu_gradient(y: Array, dy: Array, *, alpha: float = 1.0, out: Array | None = None) -> Any:
    """The gradient of X: dY where Y is not negative, else dY (Y + `alpha`). Caffe2: EluGradient."""
    of = y.dtype.type
    return np.multiply(dy, np.where(y < 0, y + of(alpha), of(1)), out=out)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


@operator("Selu", gradient=[emit("SeluGradient", "O0 GO0", "GI0")])
def selu(
    x: Array,
    *,
    alpha: float = _SELU_ALPHA,
    scale: float = _SELU_SCALE,
    out: Array | None = None,
) -> Any:
    """`scale` times Elu: it keeps mean and variance from layer to layer. Caffe2: Selu.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Selu", x)
    return np.multiply(elu(x, alpha=alpha), x.dtype.type(scale), out=out)


@operator("SeluGradient")
def selu_gradient(
    y: Array,
    dy: Array,
    *,
    alpha: float = _SELU_ALPHA,
    scale: float = _SELU_SCALE,
    out: Array | None = None,
) -> Any:
    """The gradient of X: `scale` dY where Y is positive, else dY (Y + `scale` `alpha`).

    Caffe2: SeluGradient.
    """
    of = y.dtype.type
    return np.multiply(dy, np.where(y > 0, of(scale), y + of(scale * alpha)), out=out)


@operator("Softplus", gradient=[emit("SoftplusGradient", "O0 GO0", "GI0")])
def softplus(x: Array, *, out: Array | None = None) -> Any:
    """log(exp(X) + 1), elementwise: a smooth Relu. Caffe2: Softplus.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Softplus", x)
    return np.logaddexp(x, x.dtype.type(0), out=out)


@operator("SoftplusGradient")
def softplus_gradient(y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY (1 - exp(-Y)). Caffe2: SoftplusGradient."""
    return np.multiply(dy, np.negative(np.expm1(np.negative(y))), out=out)


@operator("Softsign", gradient=[emit("SoftsignGradient", "I0 GO0", "GI0")])
def softsign(x: Array, *, out: Array | None = None) -> Any:
    """X / (1 + the absolute value of X), elementwise. Caffe2: Softsign.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Softsign", x)
    return np.divide(x, np.absolute(x) + x.dtype.type(1), out=out)


@operator("SoftsignGradient")
def softsign_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY / (1 + the absolute value of X) squared. Caffe2: SoftsignGradient."""
    return np.divide(dy, np.square(np.absolute(x) + x.dtype.type(1)), out=out)


@operator("Swish", gradient=[emit("SwishGradient", "I0 O0 GO0", "GI0")])
def swish(x: Array, *, out: Array | None = None) -> Any:
    """X / (1 + exp(-X)), elementwise. Caffe2: Swish.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Swish", x)
    return np.multiply(x, sigmoid(x), out=out)


@operator("SwishGradient")
def swish_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY (Y + sigmoid(X) (1 - Y)). Caffe2: SwishGradient."""
    return np.multiply(dy, y + sigmoid(x) * (y.dtype.type(1) - y), out=out)


@operator("Mish", gradient=[emit("MishGradient", "I0 O0 GO0", "GI0")])
def mish(x: Array, *, out: Array | None = None) -> Any:
    """X times the hyperbolic tangent of Softplus(X). Caffe2: Mish.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Mish", x)
    return np.multiply(x, np.tanh(softplus(x)), out=out)


@operator("MishGradient")
def mish_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X; Y is Caffe2's input, and not needed. Caffe2: MishGradient."""
    bent = np.tanh(softplus(x))
    slope = bent + x * sigmoid(x) * (x.dtype.type(1) - bent * bent)
    return np.multiply(dy, slope, out=out)


_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715
"""The hyperbolic tangent of `_ROOT` (x + `_CUBIC` x**3) is nearly erf(x / sqrt(2))."""


@operator("Gelu", gradient=[emit("GeluGradient", "GO0 I0", "GI0")])
def gelu(x: Array, *, fast_gelu: int = 0, out: Array | None = None) -> Any:
    """X times the share of a normal distribution that is below X. Caffe2: Gelu.

    Args:
        fast_gelu: 1 for an approximation with the hyperbolic tangent.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Gelu", x)
    return np.multiply(x, _share(x, fast_gelu).astype(x.dtype, copy=False), out=out)


def _share(x: Array, fast: int) -> Array:
    of = x.dtype.type
    if fast:
        inner = of(_ROOT) * (x + of(_CUBIC) * (x * x * x))
        return np.asarray(of(0.5) * (of(1) + np.tanh(inner)))
    return np.asarray(0.5 * (1.0 + error_function(x * of(math.sqrt(0.5)))))


@operator("GeluGradient")
def gelu_gradient(dy: Array, x: Array, *, fast_gelu: int = 0, out: Array | None = None) -> Any:
    """The gradient of X: dY (share + X times the density at X). Caffe2: GeluGradient."""
    of = x.dtype.type
    share = _share(x, fast_gelu).astype(x.dtype, copy=False)
    if fast_gelu:
        rise = of(_ROOT) * (of(1) + of(3 * _CUBIC) * (x * x))
        density = of(2) * share * (of(1) - share) * rise
    else:
        density = np.exp(x * x * of(-0.5)) * of(_ROOT / 2)
    return np.multiply(dy, share + x * density, out=out)


def _slopes(x: Array, slope: Array, order: str) -> Array:
    """The slope of each channel, to be broadcast over X."""
    if slope.size == 1:
        return slope.reshape(())
    axis = x.ndim - 1 if text(order) == "NHWC" else 1
    if not 0 <= axis < x.ndim or slope.size != x.shape[axis]:
        raise ValueError(f"{slope.size} slopes for X {x.shape} with order={text(order)!r}")
    return slope.reshape((-1,) + (1,) * (x.ndim - axis - 1))


@operator("PRelu", gradient=[emit("PReluGradient", "O0 GO0 I0 I1", "GI0 GI1")])
def prelu(x: Array, slope: Array, *, order: str = "NCHW", out: Array | None = None) -> Any:
    """X where it is positive, else X times a slope that can be learnt. Caffe2: PRelu.

    There is one slope, or one per channel.

    Args:
        order: Where the channels are: "NCHW", the second dimension, or "NHWC", the last.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: There are neither one slope nor as many as channels.
    """
    floats("PRelu", x)
    slopes = _slopes(x, slope, order).astype(x.dtype, copy=False)
    return np.multiply(x, np.where(x > 0, x.dtype.type(1), slopes), out=out)


@operator("PReluGradient", outputs=2)
def prelu_gradient(
    y: Array, dy: Array, x: Array, slope: Array, *, order: str = "NCHW"
) -> tuple[Array, Array]:
    """The gradients of X and of the slopes. Caffe2: PReluGradient."""
    slopes = _slopes(x, slope, order)
    dx = np.multiply(dy, np.where(x > 0, x.dtype.type(1), slopes.astype(x.dtype, copy=False)))
    each = dy * np.minimum(x, x.dtype.type(0))
    return np.asarray(dx), sum_to(each, slopes.shape, slope)


@operator("Glu")
def glu(x: Array, *, dim: int = -1) -> Array:
    """The first half of X times the sigmoid of its second half. Caffe2: Glu.

    Args:
        dim: The dimension that is cut in two.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension, or it is odd.
    """
    floats("Glu", x)
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"Glu: X {x.shape} has no dimension {dim}")
    if x.shape[dim] % 2:
        raise ValueError(f"Glu: dimension {dim} of X {x.shape} has no two halves")
    left, right = np.split(x, 2, axis=dim)
    return np.asarray(left * sigmoid(right))


@operator("StumpFunc", gradient=STOPS)
def stump_func(
    x: Array,
    *,
    threshold: float = 0.0,
    low_value: float = 0.0,
    high_value: float = 0.0,
    out: Array | None = None,
) -> Array:
    """`high_value` where X is above `threshold`, else `low_value`. Caffe2: StumpFunc.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("StumpFunc", x)
    of = x.dtype.type
    return store(np.where(x > of(threshold), of(high_value), of(low_value)), x.dtype, out)


@operator("StumpFuncIndex", outputs=2, gradient=STOPS)
def stump_func_index(x: Array, *, threshold: float = 0.0) -> tuple[Array, Array]:
    """Where X is not above `threshold`, and where it is: two vectors of int64.

    The places are counted through all of X in row-major order. Caffe2: StumpFuncIndex.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("StumpFuncIndex", x)
    above = x.reshape(-1) > x.dtype.type(threshold)
    low, high = np.flatnonzero(~above), np.flatnonzero(above)
    return low.astype(np.int64), high.astype(np.int64)
