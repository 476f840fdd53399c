"""Activations: what stands between two layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, matrix, result
from procession.operators.registry import emit, operator


@operator("Relu", gradient=[emit("ReluGradient", "O0 GO0", "GI0")])
def relu(x: Array, *, out: Array | None = None) -> Any:
    """The larger of X and 0, elementwise. Caffe2: Relu."""
    return np.maximum(x, x.dtype.type(0), out=out)


@operator("ReluGradient")
def relu_gradient(y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY where Y is positive, else 0. Caffe2: ReluGradient."""
    return np.multiply(dy, y > 0, out=out)


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
    """The gradient of X: dY where Y is positive, else `alpha` dY. Caffe2: LeakyReluGradient."""
    return np.multiply(dy, np.where(y > 0, y.dtype.type(1), y.dtype.type(alpha)), out=out)


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


@operator("Tanh", gradient=[emit("TanhGradient", "O0 GO0", "GI0")])
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


@operator("Softmax", gradient=[emit("SoftmaxGradient", "O0 GO0", "GI0")])
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
    rows, probabilities = x.reshape(shape), y.reshape(shape)
    np.subtract(rows, rows.max(axis=1, keepdims=True), out=probabilities)
    np.exp(probabilities, out=probabilities)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return y


@operator("SoftmaxGradient")
def softmax_gradient(y: Array, dy: Array, *, axis: int = 1, out: Array | None = None) -> Array:
    """The gradient of X: Y * (dY - the sum of Y * dY over its row). Caffe2: SoftmaxGradient."""
    shape = matrix(y.shape, axis, "Y")
    dx = result(out, y.shape, y.dtype)
    rows, slopes = y.reshape(shape), dy.reshape(shape)
    mean = np.multiply(rows, slopes).sum(axis=1, keepdims=True)
    np.multiply(rows, slopes - mean, out=dx.reshape(shape))
    return dx
