"""Sums, averages and extremes over the first dimensions of a tensor, or over its last.

A tensor is cut in two: into a matrix whose rows are the first `num_reduce_dim` dimensions and
whose columns the others ("Front"), or whose columns are the last ones ("Back"). The second input,
`lengths`, says for each of what is left how many elements count, from the first one on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, numbers, store
from procession.operators.registry import Rules, described, emit, operator


def _cut(x: Array, lengths: Array | None, dimensions: int, front: bool) -> tuple[Array, int]:
    """X with what is reduced as its first or last dimension, and which of the two."""
    if not 0 <= dimensions <= x.ndim:
        raise ValueError(f"num_reduce_dim={dimensions}, but X is {x.shape}")
    if lengths is not None and dimensions != 1:
        raise ValueError(f"num_reduce_dim={dimensions} and lengths: those go over one dimension")
    if front:
        reduced, left = x.shape[:dimensions], x.shape[dimensions:]
        return x.reshape((math.prod(reduced), *left)), 0
    left, reduced = x.shape[: x.ndim - dimensions], x.shape[x.ndim - dimensions :]
    return x.reshape((*left, math.prod(reduced))), -1


def _counted(matrix: Array, axis: int, lengths: Array) -> Array:
    """True for the elements that count.

    Raises:
        ValueError: There is not one length for each of what is left, or a length is too long.
    """
    left = matrix.shape[1:] if axis == 0 else matrix.shape[:-1]
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, not {lengths.dtype}")
    if lengths.ndim != 1 or lengths.size != math.prod(left):
        raise ValueError(f"lengths {lengths.shape} for {math.prod(left)} results")
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= matrix.shape[axis]:
        raise ValueError(f"lengths are from 0 to {matrix.shape[axis]}, not {lengths.tolist()}")
    index = np.arange(matrix.shape[axis])
    if axis == 0:
        return index.reshape((-1,) + (1,) * len(left)) < lengths.reshape(left)
    return index < lengths.reshape((*left, 1))


def _sum(
    x: Array,
    lengths: Array | None,
    dimensions: int,
    front: bool,
    average: bool,
    out: Array | None,
) -> Any:
    matrix, axis = _cut(x, lengths, dimensions, front)
    count: Any = matrix.shape[axis]
    if lengths is not None:
        matrix = np.where(_counted(matrix, axis, lengths), matrix, x.dtype.type(0))
        count = lengths.reshape(matrix.shape[1:] if axis == 0 else matrix.shape[:-1])
    total = np.add.reduce(matrix, axis=axis, dtype=x.dtype, out=out)
    if not average:
        return total
    divisor = np.maximum(count, 1).astype(x.dtype)
    if x.dtype.kind == "f":
        return np.divide(total, divisor, out=out)
    # Towards zero, as integers are divided by Div.
    return np.floor_divide(total - np.fmod(total, divisor), divisor, out=out)


def _sum_gradient(
    dy: Array,
    x: Array,
    lengths: Array | None,
    dimensions: int,
    front: bool,
    average: bool,
    out: Array | None,
) -> Array:
    if x.ndim == 1 and x.dtype == np.int64 and dy.dtype.kind == "f":
        # Not X but its shape, which is all that is asked of X.
        x = np.broadcast_to(dy.dtype.type(0), tuple(x.tolist()))
    matrix, axis = _cut(x, lengths, dimensions, front)
    left = matrix.shape[1:] if axis == 0 else matrix.shape[:-1]
    share = dy.reshape(left)
    if average:
        count: Any = matrix.shape[axis] if lengths is None else lengths.reshape(left)
        share = share / np.maximum(count, 1).astype(dy.dtype)
    wide = np.broadcast_to(np.expand_dims(share, axis), matrix.shape)
    if lengths is not None:
        wide = np.where(_counted(matrix, axis, lengths), wide, dy.dtype.type(0))
    return store(wide.reshape(x.shape), dy.dtype, out)


def _lengths_rules(gradient: str, symbols: str, inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [emit(gradient, symbols + (" I1" if inputs == 2 else ""), "GI0")]


def _declare_sum(name: str, gradient: str, front: bool, average: bool) -> None:
    """Make the operators of a sum, or of an average, and of its gradient."""
    made, ends = "average" if average else "sum", "first" if front else "last"
    note = "That of nothing is 0; that of integers is cut to one.\n\n" if average else ""

    @operator(name, gradient=partial(_lengths_rules, gradient, "GO0 ~I0"))
    @described(
        name,
        f"The {made} over the {ends} `num_reduce_dim` dimensions. Caffe2: {name}.\n\n{note}"
        "Raises:\n    ValueError: X has fewer dimensions, or the lengths do not fit.",
    )
    def kernel(
        x: Array,
        lengths: Array | None = None,
        *,
        num_reduce_dim: int = 1,
        out: Array | None = None,
    ) -> Any:
        numbers(name, x)
        return _sum(x, lengths, num_reduce_dim, front, average, out)

    @operator(gradient)
    @described(
        gradient,
        f"The gradient of X from that of the {made} over it. Caffe2: {gradient}.\n\n"
        "A vector of int64 in place of X is the shape of X.",
    )
    def gradient_kernel(
        dy: Array,
        x: Array,
        lengths: Array | None = None,
        *,
        num_reduce_dim: int = 1,
        out: Array | None = None,
    ) -> Array:
        return _sum_gradient(dy, x, lengths, num_reduce_dim, front, average, out)


_declare_sum("ReduceFrontSum", "ReduceFrontSumGradient", front=True, average=False)
_declare_sum("ReduceFrontMean", "ReduceFrontMeanGradient", front=True, average=True)
_declare_sum("ReduceBackSum", "ReduceBackSumGradient", front=False, average=False)
_declare_sum("ReduceBackMean", "ReduceBackMeanGradient", front=False, average=True)


def _max(x: Array, lengths: Array | None, dimensions: int, front: bool, out: Array | None) -> Any:
    matrix, axis = _cut(x, lengths, dimensions, front)
    if lengths is not None:
        if lengths.size and lengths.min() == 0:
            raise ValueError("a length is 0: there is no largest of no numbers")
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        matrix = np.where(_counted(matrix, axis, lengths), matrix, x.dtype.type(lowest))
    if not matrix.shape[axis]:
        return np.add.reduce(matrix, axis=axis, dtype=x.dtype, out=out)
    return np.maximum.reduce(matrix, axis=axis, out=out)


def _max_gradient(
    dy: Array,
    x: Array,
    y: Array,
    lengths: Array | None,
    dimensions: int,
    front: bool,
    out: Array | None,
) -> Array:
    matrix, axis = _cut(x, lengths, dimensions, front)
    left = matrix.shape[1:] if axis == 0 else matrix.shape[:-1]
    chosen = matrix == np.expand_dims(y.reshape(left), axis)
    if lengths is not None:
        chosen &= _counted(matrix, axis, lengths)
    dx = chosen * np.expand_dims(dy.reshape(left), axis)
    return store(dx.reshape(x.shape), dy.dtype, out)


def _declare_max(name: str, gradient: str, front: bool) -> None:
    """Make the operators of a largest number and of its gradient."""
    ends = "first" if front else "last"

    @operator(name, gradient=partial(_lengths_rules, gradient, "GO0 I0 O0"))
    @described(
        name,
        f"The largest over the {ends} `num_reduce_dim` dimensions, 0 of none. Caffe2: {name}.\n\n"
        "Raises:\n    ValueError: X has fewer dimensions, or the lengths do not fit, or one is 0.",
    )
    def kernel(
        x: Array,
        lengths: Array | None = None,
        *,
        num_reduce_dim: int = 1,
        out: Array | None = None,
    ) -> Any:
        numbers(name, x)
        return _max(x, lengths, num_reduce_dim, front, out)

    @operator(gradient)
    @described(
        gradient, f"The gradient of X: dY wherever X is the largest number Y. Caffe2: {gradient}."
    )
    def gradient_kernel(
        dy: Array,
        x: Array,
        y: Array,
        lengths: Array | None = None,
        *,
        num_reduce_dim: int = 1,
        out: Array | None = None,
    ) -> Array:
        return _max_gradient(dy, x, y, lengths, num_reduce_dim, front, out)


_declare_max("ReduceFrontMax", "ReduceFrontMaxGradient", front=True)
_declare_max("ReduceBackMax", "ReduceBackMaxGradient", front=False)


@operator("ReduceTailSum")
def reduce_tail_sum(x: Array, *, out: Array | None = None) -> Any:
    """The sum of each row: over all dimensions but the first. Caffe2: ReduceTailSum.

    Raises:
        ValueError: X has no dimensions.
    """
    numbers("ReduceTailSum", x)
    if not x.ndim:
        raise ValueError("ReduceTailSum: X has no dimensions, so it has no rows")
    return np.add.reduce(x, axis=tuple(range(1, x.ndim)), dtype=x.dtype, out=out)


def _weighted_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if arguments["grad_on_weights"]:
        return [emit("ReduceFrontWeightedSumGradient", "GO0 I0 I1", "GI0 GI1")]
    return [emit("ReduceFrontWeightedSumGradient", "GO0 ~I0 I1", "GI0")]


@operator("ReduceFrontWeightedSum", gradient=_weighted_rules)
def reduce_front_weighted_sum(x: Array, weights: Array, *, grad_on_weights: bool = False) -> Array:
    """The sum of the rows of X, each times its weight. Caffe2: ReduceFrontWeightedSum.

    Args:
        grad_on_weights: A gradient flows to the weights, too.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: There is not one weight for each row.
    """
    floats("ReduceFrontWeightedSum", x)
    numbers("ReduceFrontWeightedSum", weights)
    if x.ndim == 0 or weights.shape != x.shape[:1]:
        raise ValueError(f"weights {weights.shape} for X {x.shape}: one for each row")
    return np.asarray(np.tensordot(weights.astype(x.dtype, copy=False), x, axes=1))


@operator("ReduceFrontWeightedSumGradient", outputs=(1, 2))
def reduce_front_weighted_sum_gradient(
    dy: Array, x: Array, weights: Array, *, grad_on_weights: bool = False
) -> tuple[Array, ...]:
    """The gradient of X, and with `grad_on_weights` that of the weights.

    Caffe2: ReduceFrontWeightedSumGradient.
    """
    dx = weights.reshape((-1,) + (1,) * (x.ndim - 1)).astype(x.dtype, copy=False) * dy
    if not grad_on_weights:
        return (dx,)
    dw = np.add.reduce(x * dy, axis=tuple(range(1, x.ndim)), dtype=x.dtype)
    return dx, np.asarray(dw, weights.dtype)


def _three(x: Array, name: str) -> None:
    numbers(name, x)
    if x.ndim != 3:
        raise ValueError(f"{name} is for batches of matrices, of three dimensions, not {x.shape}")


@operator("RowwiseMax", gradient=[emit("RowwiseMaxGradient", "I0 O0 GO0", "GI0")])
def rowwise_max(x: Array, *, out: Array | None = None) -> Any:
    """The largest number of each row of each matrix: (B, M, N) to (B, M). Caffe2: RowwiseMax.

    Raises:
        ValueError: X does not have three dimensions.
    """
    _three(x, "RowwiseMax")
    return np.maximum.reduce(x, axis=2, out=out)


@operator("ColwiseMax", gradient=[emit("ColwiseMaxGradient", "I0 O0 GO0", "GI0")])
def colwise_max(x: Array, *, out: Array | None = None) -> Any:
    """The largest number of each column of each matrix: (B, M, N) to (B, N). Caffe2: ColwiseMax.

    Raises:
        ValueError: X does not have three dimensions.
    """
    _three(x, "ColwiseMax")
    return np.maximum.reduce(x, axis=1, out=out)


@operator("RowwiseMaxGradient")
def rowwise_max_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY wherever X is the largest of its row. Caffe2: RowwiseMaxGradient."""
    return np.multiply(x == y[:, :, None], dy[:, :, None], out=out)


@operator("ColwiseMaxGradient")
def colwise_max_gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY wherever X is the largest of its column.

    Caffe2: ColwiseMaxGradient.
    """
    return np.multiply(x == y[:, None, :], dy[:, None, :], out=out)
