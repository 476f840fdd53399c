"""Sums and averages, over all elements or over the first or last dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, number
from procession.operators.registry import emit, operator


def _total(x: Array, count: int, out: Array | None) -> Any:
    """The sum over everything divided by `count`, in the type of X."""
    total = np.add.reduce(x, axis=None, dtype=x.dtype, out=out)
    if count == 1:
        return total
    # The divisor in the type of X: float32 / int is float64, before NumPy 2, for scalars.
    return np.divide(total, x.dtype.type(count), out=out)


def _spread(x: Array, dy: Array, factor: float, out: Array | None) -> Array:
    """One number for all elements of X: `factor` times the one in dY."""
    value = factor * number(dy, "dY")
    if out is None:
        return np.full(x.shape, value, x.dtype)
    out[...] = value
    return out


@operator("SumElements", gradient=[emit("SumElementsGradient", "I0 GO0", "GI0")])
def sum_elements(x: Array, *, average: bool = False, out: Array | None = None) -> Any:
    """The sum of all elements, or their average; of shape (). Caffe2: SumElements.

    Args:
        average: Divide by the number of elements. The average of none is 0.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("SumElements", x)
    return _total(x, max(x.size, 1) if average else 1, out)


@operator("SumElementsGradient")
def sum_elements_gradient(
    x: Array, dy: Array, *, average: bool = False, out: Array | None = None
) -> Array:
    """The gradient of X from that of the sum (or average) of it. Caffe2: SumElementsGradient."""
    return _spread(x, dy, 1 / max(x.size, 1) if average else 1.0, out)


@operator("SumSqrElements", gradient=[emit("SumSqrElementsGradient", "I0 GO0", "GI0")])
def sum_sqr_elements(x: Array, *, average: bool = False, out: Array | None = None) -> Any:
    """The sum of the squares of all elements; of shape (). Caffe2: SumSqrElements.

    Args:
        average: Divide by the number of elements. The average of none is 0.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("SumSqrElements", x)
    return _total(np.multiply(x, x), max(x.size, 1) if average else 1, out)


@operator("SumSqrElementsGradient")
def sum_sqr_elements_gradient(
    x: Array, dy: Array, *, average: bool = False, out: Array | None = None
) -> Any:
    """The gradient of X from that of the sum (or average) of its squares."""
    factor = 2 * number(dy, "dY") / (max(x.size, 1) if average else 1)
    return np.multiply(x, x.dtype.type(factor), out=out)


@operator("AveragedLoss", gradient=[emit("AveragedLossGradient", "I0 GO0", "GI0")])
def averaged_loss(x: Array, *, out: Array | None = None) -> Any:
    """The average of all elements, 0 if there are none; of shape (). Caffe2: AveragedLoss.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("AveragedLoss", x)
    return _total(x, max(x.size, 1), out)


@operator("AveragedLossGradient")
def averaged_loss_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Array:
    """The gradient of X from that of its average. Caffe2: AveragedLossGradient."""
    return _spread(x, dy, 1 / max(x.size, 1), out)


def _cut(x: Array, dimensions: int) -> int:
    if not 0 <= dimensions <= x.ndim:
        raise ValueError(f"num_reduce_dim={dimensions}, but X is {x.shape}")
    return dimensions


def _reduce(x: Array, axes: range, average: bool, out: Array | None) -> Any:
    total = np.add.reduce(x, axis=tuple(axes), dtype=x.dtype, out=out)
    count = math.prod(x.shape[axis] for axis in axes)
    if not average or count <= 1:
        return total
    if x.dtype.kind == "f":
        return np.divide(total, x.dtype.type(count), out=out)
    return np.floor_divide(total, x.dtype.type(count), out=out)


def _expand(dy: Array, x: Array, axes: range, average: bool, out: Array | None) -> Array:
    count = math.prod(x.shape[axis] for axis in axes) if average else 1
    share = np.divide(dy, dy.dtype.type(max(count, 1)))
    shape = tuple(1 if axis in axes else length for axis, length in enumerate(x.shape))
    if out is None:
        out = np.empty(x.shape, dy.dtype)
    np.copyto(out, np.reshape(share, shape))
    return out


@operator("ReduceFrontSum", gradient=[emit("ReduceFrontSumGradient", "GO0 I0", "GI0")])
def reduce_front_sum(x: Array, *, num_reduce_dim: int = 1, out: Array | None = None) -> Any:
    """The sum over the first `num_reduce_dim` dimensions. Caffe2: ReduceFrontSum.

    Raises:
        ValueError: X has fewer dimensions.
    """
    return _reduce(x, range(_cut(x, num_reduce_dim)), False, out)


@operator("ReduceFrontSumGradient")
def reduce_front_sum_gradient(
    dy: Array, x: Array, *, num_reduce_dim: int = 1, out: Array | None = None
) -> Array:
    """The gradient of X from that of the sum over it. Caffe2: ReduceFrontSumGradient."""
    return _expand(dy, x, range(_cut(x, num_reduce_dim)), False, out)


@operator("ReduceFrontMean", gradient=[emit("ReduceFrontMeanGradient", "GO0 I0", "GI0")])
def reduce_front_mean(x: Array, *, num_reduce_dim: int = 1, out: Array | None = None) -> Any:
    """The average over the first `num_reduce_dim` dimensions. Caffe2: ReduceFrontMean.

    Raises:
        ValueError: X has fewer dimensions.
    """
    return _reduce(x, range(_cut(x, num_reduce_dim)), True, out)


@operator("ReduceFrontMeanGradient")
def reduce_front_mean_gradient(
    dy: Array, x: Array, *, num_reduce_dim: int = 1, out: Array | None = None
) -> Array:
    """The gradient of X from that of the average over it. Caffe2: ReduceFrontMeanGradient."""
    return _expand(dy, x, range(_cut(x, num_reduce_dim)), True, out)


@operator("ReduceBackSum", gradient=[emit("ReduceBackSumGradient", "GO0 I0", "GI0")])
def reduce_back_sum(x: Array, *, num_reduce_dim: int = 1, out: Array | None = None) -> Any:
    """The sum over the last `num_reduce_dim` dimensions. Caffe2: ReduceBackSum.

    Raises:
        ValueError: X has fewer dimensions.
    """
    return _reduce(x, range(x.ndim - _cut(x, num_reduce_dim), x.ndim), False, out)


@operator("ReduceBackSumGradient")
def reduce_back_sum_gradient(
    dy: Array, x: Array, *, num_reduce_dim: int = 1, out: Array | None = None
) -> Array:
    """The gradient of X from that of the sum over it. Caffe2: ReduceBackSumGradient."""
    return _expand(dy, x, range(x.ndim - _cut(x, num_reduce_dim), x.ndim), False, out)


@operator("ReduceBackMean", gradient=[emit("ReduceBackMeanGradient", "GO0 I0", "GI0")])
def reduce_back_mean(x: Array, *, num_reduce_dim: int = 1, out: Array | None = None) -> Any:
    """The average over the last `num_reduce_dim` dimensions. Caffe2: ReduceBackMean.

    Raises:
        ValueError: X has fewer dimensions.
    """
    return _reduce(x, range(x.ndim - _cut(x, num_reduce_dim), x.ndim), True, out)


@operator("ReduceBackMeanGradient")
def reduce_back_mean_gradient(
    dy: Array, x: Array, *, num_reduce_dim: int = 1, out: Array | None = None
) -> Array:
    """The gradient of X from that of the average over it. Caffe2: ReduceBackMeanGradient."""
    return _expand(dy, x, range(x.ndim - _cut(x, num_reduce_dim), x.ndim), True, out)
