"""Sums, averages and extremes, over all elements or over dimensions that are chosen.

Those over the first or last dimensions are in `reduction_ends`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import (
    Array,
    Shape,
    align,
    floats,
    number,
    numbers,
    squares,
    store,
    sum_to,
)
from procession.operators.registry import STOPS, emit, operator


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


@operator("SumElements", gradient=[emit("SumElementsGradient", "~I0 GO0", "GI0")])
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
    total = squares(x)
    return np.divide(total, x.dtype.type(max(x.size, 1) if average else 1), out=out)


@operator("SumSqrElementsGradient")
def sum_sqr_elements_gradient(
    x: Array, dy: Array, *, average: bool = False, out: Array | None = None
) -> Any:
    """The gradient of X from that of the sum (or average) of its squares."""
    factor = 2 * number(dy, "dY") / (max(x.size, 1) if average else 1)
    return np.multiply(x, x.dtype.type(factor), out=out)


@operator("AveragedLoss", gradient=[emit("AveragedLossGradient", "~I0 GO0", "GI0")])
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


@operator("SumElementsInt", gradient=STOPS)
def sum_elements_int(x: Array, *, out: Array | None = None) -> Any:
    """The sum of all elements, integers; of their type and shape (). Caffe2: SumElementsInt.

    Raises:
        TypeError: X does not hold integers.
    """
    if x.dtype.kind not in "iu":
        raise TypeError(f"SumElementsInt is for integers, not for {x.dtype}")
    return np.add.reduce(x, axis=None, dtype=x.dtype, out=out)


def _axes(x: Array, axes: int | Sequence[int]) -> tuple[int, ...]:
    """The dimensions that are meant, in order; all of them where none is given."""
    given = (axes,) if isinstance(axes, (int, np.integer)) else tuple(axes)
    if not given:
        return tuple(range(x.ndim))
    for axis in given:
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"X {x.shape} has no axis {axis}")
    return tuple(sorted({int(axis) % x.ndim for axis in given}))


def _kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(1 if axis in axes else length for axis, length in enumerate(shape))


def _sum(x: Array, axes: tuple[int, ...], keepdims: int, out: Array | None) -> Any:
    reduce: Any = np.add.reduce
    return reduce(x, axis=axes, dtype=x.dtype, keepdims=bool(keepdims), out=out)


def _count(x: Array, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


@operator("ReduceSum", gradient=[emit("ReduceSumGradient", "GO0 ~I0 ~O0", "GI0")])
def reduce_sum(
    x: Array, *, axes: Sequence[int] = (), keepdims: int = 1, out: Array | None = None
) -> Any:
    """The sum over the given dimensions. Caffe2: ReduceSum.

    Args:
        axes: The dimensions to go over; all of them if none is given.
        keepdims: 1 to keep each of them, with a length of 1.

    Raises:
        TypeError: X does not hold numbers.
        ValueError: X has no such dimension.
    """
    numbers("ReduceSum", x)
    return _sum(x, _axes(x, axes), keepdims, out)


@operator("ReduceSumGradient")
def reduce_sum_gradient(
    dy: Array, x: Array, y: Array, *, axes: Sequence[int] = (), out: Array | None = None
) -> Any:
    """The gradient of X: dY, for each element that was summed. Caffe2: ReduceSumGradient."""
    wide = dy.reshape(_kept(x.shape, _axes(x, axes)))
    return store(np.broadcast_to(wide, x.shape), dy.dtype, out)


@operator("ReduceMean", gradient=[emit("ReduceMeanGradient", "GO0 ~I0 ~O0", "GI0")])
def reduce_mean(
    x: Array, *, axes: Sequence[int] = (), keepdims: int = 1, out: Array | None = None
) -> Any:
    """The average over the given dimensions; that of nothing is 0. Caffe2: ReduceMean.

    Arguments as for ReduceSum.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension.
    """
    floats("ReduceMean", x)
    over = _axes(x, axes)
    total = _sum(x, over, keepdims, out)
    return np.divide(total, x.dtype.type(max(_count(x, over), 1)), out=out)


@operator("ReduceMeanGradient")
def reduce_mean_gradient(
    dy: Array, x: Array, y: Array, *, axes: Sequence[int] = (), out: Array | None = None
) -> Any:
    """The gradient of X: dY over the number of elements. Caffe2: ReduceMeanGradient."""
    over = _axes(x, axes)
    share = dy.reshape(_kept(x.shape, over)) / dy.dtype.type(max(_count(x, over), 1))
    return store(np.broadcast_to(share, x.shape), dy.dtype, out)


def _extreme(
    function: np.ufunc,
    x: Array,
    axes: Sequence[int],
    keepdims: int,
    worst: Any,
    out: Array | None,
) -> Any:
    over = _axes(x, axes)
    if _count(x, over):
        return function.reduce(x, axis=over, keepdims=bool(keepdims), out=out)
    return function.reduce(x, axis=over, keepdims=bool(keepdims), out=out, initial=worst)


def _limits(dtype: np.dtype[Any]) -> Any:
    return np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)


def _extreme_gradient(dy: Array, x: Array, y: Array, axes: Sequence[int], out: Array | None) -> Any:
    kept = _kept(x.shape, _axes(x, axes))
    return np.multiply(dy.reshape(kept), np.equal(x, y.reshape(kept)), out=out, dtype=dy.dtype)


@operator("ReduceMax", gradient=[emit("ReduceMaxGradient", "GO0 I0 O0", "GI0")])
def reduce_max(
    x: Array, *, axes: Sequence[int] = (), keepdims: int = 1, out: Array | None = None
) -> Any:
    """The largest number over the given dimensions. Caffe2: ReduceMax.

    That of nothing is the lowest finite number of the type. Arguments as for ReduceSum.

    Raises:
        TypeError: X does not hold numbers.
        ValueError: X has no such dimension.
    """
    numbers("ReduceMax", x)
    return _extreme(np.maximum, x, axes, keepdims, _limits(x.dtype).min, out)


@operator("ReduceMaxGradient")
def reduce_max_gradient(
    dy: Array, x: Array, y: Array, *, axes: Sequence[int] = (), out: Array | None = None
) -> Any:
    """The gradient of X: dY wherever X is that number, else 0. Caffe2: ReduceMaxGradient."""
    return _extreme_gradient(dy, x, y, axes, out)


@operator("ReduceMin", gradient=[emit("ReduceMinGradient", "GO0 I0 O0", "GI0")])
def reduce_min(
    x: Array, *, axes: Sequence[int] = (), keepdims: int = 1, out: Array | None = None
) -> Any:
    """The smallest number over the given dimensions. Caffe2: ReduceMin.

    That of nothing is the highest finite number of the type. Arguments as for ReduceSum.

    Raises:
        TypeError: X does not hold numbers.
        ValueError: X has no such dimension.
    """
    numbers("ReduceMin", x)
    return _extreme(np.minimum, x, axes, keepdims, _limits(x.dtype).max, out)


@operator("ReduceMinGradient")
def reduce_min_gradient(
    dy: Array, x: Array, y: Array, *, axes: Sequence[int] = (), out: Array | None = None
) -> Any:
    """The gradient of X: dY wherever X is that number, else 0. Caffe2: ReduceMinGradient."""
    return _extreme_gradient(dy, x, y, axes, out)


@operator("ReduceL1", gradient=[emit("ReduceL1Gradient", "GO0 I0 ~O0", "GI0")])
def reduce_l1(
    x: Array, *, axes: Sequence[int] = (), keepdims: int = 1, out: Array | None = None
) -> Any:
    """The sum of the absolute values over the given dimensions. Caffe2: ReduceL1.

    Arguments as for ReduceSum.

    Raises:
        TypeError: X does not hold numbers.
        ValueError: X has no such dimension.
    """
    numbers("ReduceL1", x)
    return _sum(np.absolute(x), _axes(x, axes), keepdims, out)


@operator("ReduceL1Gradient")
def reduce_l1_gradient(
    dy: Array, x: Array, y: Array, *, axes: Sequence[int] = (), out: Array | None = None
) -> Any:
    """The gradient of X: dY times the sign of X. Caffe2: ReduceL1Gradient."""
    wide = dy.reshape(_kept(x.shape, _axes(x, axes)))
    return np.multiply(np.sign(x), wide, out=out)


@operator("ReduceL2", gradient=[emit("ReduceL2Gradient", "GO0 I0 O0", "GI0")])
def reduce_l2(
    x: Array, *, axes: Sequence[int] = (), keepdims: int = 1, out: Array | None = None
) -> Any:
    """The root of the sum of squares over the given dimensions. Caffe2: ReduceL2.

    Arguments as for ReduceSum.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension.
    """
    floats("ReduceL2", x)
    total = _sum(x * x, _axes(x, axes), keepdims, out)
    return np.sqrt(total, out=out)


@operator("ReduceL2Gradient")
def reduce_l2_gradient(
    dy: Array, x: Array, y: Array, *, axes: Sequence[int] = (), out: Array | None = None
) -> Any:
    """The gradient of X: dY times X / Y, and 0 where Y is 0. Caffe2: ReduceL2Gradient."""
    kept = _kept(x.shape, _axes(x, axes))
    norm = y.reshape(kept)
    safe = np.where(norm == 0, norm.dtype.type(1), norm)
    return np.multiply(x, dy.reshape(kept) / safe, out=out)


def _place(x: Array, axis: int, name: str) -> int:
    numbers(name, x)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: X {x.shape} has no axis {axis}")
    if not x.shape[axis]:
        raise ValueError(f"{name}: X {x.shape} has nothing along axis {axis}")
    return axis


@operator("ArgMax", gradient=STOPS)
def arg_max(x: Array, *, axis: int = -1, keepdims: int = 1) -> Array:
    """Where along a dimension the largest number is, the first of them; int64. Caffe2: ArgMax.

    Args:
        axis: The dimension.
        keepdims: 1 to keep it, with a length of 1.

    Raises:
        ValueError: X has no such dimension, or nothing in it.
    """
    place = np.argmax(x, axis=_place(x, axis, "ArgMax"), keepdims=bool(keepdims))
    return np.asarray(place, np.int64)


@operator("ArgMin", gradient=STOPS)
def arg_min(x: Array, *, axis: int = -1, keepdims: int = 1) -> Array:
    """Where along a dimension the smallest number is; otherwise as ArgMax. Caffe2: ArgMin.

    Raises:
        ValueError: X has no such dimension, or nothing in it.
    """
    place = np.argmin(x, axis=_place(x, axis, "ArgMin"), keepdims=bool(keepdims))
    return np.asarray(place, np.int64)


@operator("Moments", outputs=2, gradient=[emit("MomentsGradient", "GO0 GO1 I0 O0", "GI0")])
def moments(x: Array, *, axes: Sequence[int] = (), keepdims: int = 1) -> tuple[Array, Array]:
    """The mean and the variance over the given dimensions. Caffe2: Moments.

    The variance is the mean of the squared deviations. Arguments as for ReduceSum.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension.
    """
    floats("Moments", x)
    over = _axes(x, axes)
    mean = reduce_mean(x, axes=over)
    deviation = x - mean
    variance = reduce_mean(deviation * deviation, axes=over)
    if keepdims:
        return np.asarray(mean), np.asarray(variance)
    return np.squeeze(mean, over), np.squeeze(variance, over)


@operator("MomentsGradient")
def moments_gradient(
    d_mean: Array,
    d_variance: Array,
    x: Array,
    mean: Array,
    *,
    axes: Sequence[int] = (),
    out: Array | None = None,
) -> Any:
    """The gradient of X from those of mean and variance. Caffe2: MomentsGradient."""
    over = _axes(x, axes)
    kept, of = _kept(x.shape, over), x.dtype.type
    slope = (x - mean.reshape(kept)) * of(2) * d_variance.reshape(kept) + d_mean.reshape(kept)
    return np.divide(slope, of(max(_count(x, over), 1)), out=out)


@operator("SumReduceLike")
def sum_reduce_like(
    a: Array,
    b: Array,
    *,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
) -> Array:
    """A summed to the shape of B, which lies along dimensions of A. Caffe2: SumReduceLike.

    What undoes the broadcasting of B in an Add with `broadcast=1`; the arguments are those of
    Add.

    Raises:
        ValueError: B does not fit into A.
    """
    numbers("SumReduceLike", a, b)
    _, wide = align(a, b, 1, axis, axis_str, order)
    lengths = zip(reversed(a.shape), reversed(wide.shape), strict=False)
    if wide.ndim > a.ndim or any(other not in (1, length) for length, other in lengths):
        raise ValueError(f"B {b.shape} does not fit into A {a.shape} at axis {axis}")
    return sum_to(a, wide.shape, b, copy=True)
