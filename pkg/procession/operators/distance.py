"""How far apart rows are, how long, and in which direction.

A row is everything at one place of the first dimension; what has no dimension is one row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, promote, squares, store
from procession.operators.registry import emit, operator

_EPSILON = 1e-12
"""What stands in for the (squared) length of a row that has hardly any."""


def _rows(x: Array) -> Array:
    """X as a matrix, a row for each place of the first dimension."""
    return x.reshape(x.shape[0] if x.ndim else 1, math.prod(x.shape[1:]))


def _pair(name: str, x: Array, y: Array) -> tuple[Array, Array]:
    floats(name, x, y)
    if x.shape != y.shape:
        raise ValueError(f"{name}: X is {x.shape}, Y is {y.shape}")
    x, y = promote(x, y)
    return _rows(x), _rows(y)


def _total(x: Array) -> Array:
    """The sum of each row."""
    return np.asarray(np.add.reduce(x, axis=1, dtype=x.dtype))


def _inner(left: Array, right: Array) -> Array:
    """The inner products of the rows of two matrices."""
    return np.asarray(np.einsum("ij,ij->i", left, right))


def _column(dy: Array) -> Array:
    return dy.reshape(-1, 1)


@operator("DotProduct", gradient=[emit("DotProductGradient", "I0 I1 GO0", "GI0 GI1")])
def dot_product(x: Array, y: Array) -> Array:
    """The inner product of each row of X with that of Y: of shape (N,). Caffe2: DotProduct.

    Raises:
        TypeError: X or Y does not hold floating-point numbers.
        ValueError: X and Y differ in shape.
    """
    return _inner(*_pair("DotProduct", x, y))


@operator("DotProductGradient", outputs=2)
def dot_product_gradient(x: Array, y: Array, dy: Array) -> tuple[Array, Array]:
    """The gradients of X and Y: dY times the other one. Caffe2: DotProductGradient."""
    left, right = _pair("DotProductGradient", x, y)
    slope = _column(dy)
    return (right * slope).reshape(x.shape), (left * slope).reshape(y.shape)


def _padded(narrow: Array, width: int, pad_value: float, replicate: bool) -> Array:
    """A matrix made as wide as another one: repeated, or filled up with a number."""
    have = narrow.shape[1]
    if replicate:
        if not have or width % have:
            raise ValueError(f"replicate: {width} columns are no multiple of {have}")
        return np.tile(narrow, (1, width // have))
    return np.pad(narrow, ((0, 0), (0, width - have)), constant_values=narrow.dtype.type(pad_value))


def _both(name: str, x: Array, y: Array, pad_value: float, replicate: bool) -> tuple[Array, Array]:
    floats(name, x, y)
    x, y = promote(x, y)
    left, right = _rows(x), _rows(y)
    if len(left) != len(right):
        raise ValueError(f"{name}: X {x.shape} and Y {y.shape} differ in their number of rows")
    if left.shape[1] < right.shape[1]:
        left = _padded(left, right.shape[1], pad_value, replicate)
    elif right.shape[1] < left.shape[1]:
        right = _padded(right, left.shape[1], pad_value, replicate)
    return left, right


@operator(
    "DotProductWithPadding",
    gradient=[emit("DotProductWithPaddingGradient", "I0 I1 GO0", "GI0 GI1")],
)
def dot_product_with_padding(
    x: Array, y: Array, *, pad_value: float = 0.0, replicate: bool = False
) -> Array:
    """DotProduct of rows that may differ in length. Caffe2: DotProductWithPadding.

    Args:
        pad_value: What the shorter rows go on with.
        replicate: Repeat the shorter rows instead; the longer ones are a multiple as long.

    Raises:
        TypeError: X or Y does not hold floating-point numbers.
        ValueError: X and Y differ in their number of rows, or cannot be repeated to fit.
    """
    left, right = _both("DotProductWithPadding", x, y, pad_value, replicate)
    return _inner(left, right)


def _unpadded(dx: Array, like: Array, replicate: bool) -> Array:
    rows = _rows(like)
    if replicate and dx.shape != rows.shape:
        parts = dx.reshape(len(rows), -1, rows.shape[1])
        dx = np.add.reduce(parts, axis=1, dtype=dx.dtype)
    return np.array(dx[:, : rows.shape[1]], like.dtype).reshape(like.shape)


@operator("DotProductWithPaddingGradient", outputs=2)
def dot_product_with_padding_gradient(
    x: Array, y: Array, dy: Array, *, pad_value: float = 0.0, replicate: bool = False
) -> tuple[Array, Array]:
    """The gradients of X and Y. Caffe2: DotProductWithPaddingGradient."""
    left, right = _both("DotProductWithPaddingGradient", x, y, pad_value, replicate)
    slope = _column(dy)
    return _unpadded(right * slope, x, replicate), _unpadded(left * slope, y, replicate)


@operator("SquaredL2Distance", gradient=[emit("SquaredL2DistanceGradient", "I0 I1 GO0", "GI0 GI1")])
def squared_l2_distance(x: Array, y: Array) -> Array:
    """Half the squared distance of each row of X from that of Y: (N,). Caffe2: SquaredL2Distance.

    Raises:
        TypeError: X or Y does not hold floating-point numbers.
        ValueError: X and Y differ in shape.
    """
    left, right = _pair("SquaredL2Distance", x, y)
    apart = left - right
    return np.asarray(_inner(apart, apart) * left.dtype.type(0.5))


@operator("SquaredL2DistanceGradient", outputs=2)
def squared_l2_distance_gradient(x: Array, y: Array, dy: Array) -> tuple[Array, Array]:
    """The gradients: dY (X - Y), and the opposite. Caffe2: SquaredL2DistanceGradient."""
    left, right = _pair("SquaredL2DistanceGradient", x, y)
    dx = ((left - right) * _column(dy)).reshape(x.shape)
    return dx, np.negative(dx)


@operator("L1Distance", gradient=[emit("L1DistanceGradient", "I0 I1 GO0", "GI0 GI1")])
def l1_distance(x: Array, y: Array) -> Array:
    """The sum of the differences of each row of X from that of Y: (N,). Caffe2: L1Distance.

    Raises:
        TypeError: X or Y does not hold floating-point numbers.
        ValueError: X and Y differ in shape.
    """
    left, right = _pair("L1Distance", x, y)
    apart = left - right
    return _total(np.absolute(apart, out=apart))


@operator("L1DistanceGradient", outputs=2)
def l1_distance_gradient(x: Array, y: Array, dy: Array) -> tuple[Array, Array]:
    """The gradients: dY times the sign of X - Y, and the opposite. Caffe2: L1DistanceGradient."""
    left, right = _pair("L1DistanceGradient", x, y)
    dx = (np.sign(left - right) * _column(dy)).reshape(x.shape)
    return dx, np.negative(dx)


def _length(rows: Array) -> Array:
    """The length of each row, as a column; of one that has hardly any, 1e-6."""
    squared = np.maximum(_inner(rows, rows), rows.dtype.type(_EPSILON))
    return _column(np.sqrt(squared))


@operator("CosineSimilarity", gradient=[emit("CosineSimilarityGradient", "I0 I1 GO0", "GI0 GI1")])
def cosine_similarity(x: Array, y: Array) -> Array:
    """The cosine of the angle between each row of X and that of Y: (N,). Caffe2: CosineSimilarity.

    Raises:
        TypeError: X or Y does not hold floating-point numbers.
        ValueError: X and Y differ in shape.
    """
    left, right = _pair("CosineSimilarity", x, y)
    return np.asarray(_inner(left, right) / (_length(left) * _length(right))[:, 0])


@operator("CosineSimilarityGradient", outputs=2)
def cosine_similarity_gradient(x: Array, y: Array, dy: Array) -> tuple[Array, Array]:
    """The gradients of X and Y. Caffe2: CosineSimilarityGradient."""
    left, right = _pair("CosineSimilarityGradient", x, y)
    length_x, length_y, slope = _length(left), _length(right), _column(dy)
    one, other = left / length_x, right / length_y
    cosine = _column(_total(one * other))
    dx = (other - one * cosine) / length_x * slope
    return dx.reshape(x.shape), ((one - other * cosine) / length_y * slope).reshape(y.shape)


def _axis(x: Array, axis: int, name: str) -> int:
    floats(name, x)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: X {x.shape} has no axis {axis}")
    return axis


def _norm(x: Array, axis: int) -> Array:
    squared = np.add.reduce(x * x, axis=axis, dtype=x.dtype, keepdims=True)
    return np.asarray(np.maximum(np.sqrt(squared), x.dtype.type(_EPSILON)))


@operator("Normalize", gradient=[emit("NormalizeGradient", "I0 GO0", "GI0")])
def normalize(x: Array, *, axis: int = -1, out: Array | None = None) -> Any:
    """X over its length along a dimension, so that it has length 1. Caffe2: Normalize.

    Args:
        axis: The dimension along which the vectors lie.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension.
    """
    return np.divide(x, _norm(x, _axis(x, axis, "Normalize")), out=out)


@operator("NormalizeGradient")
def normalize_gradient(x: Array, dy: Array, *, axis: int = -1, out: Array | None = None) -> Any:
    """The gradient of X: the part of dY across X over X's length. Caffe2: NormalizeGradient."""
    norm = _norm(x, _axis(x, axis, "NormalizeGradient"))
    unit = x / norm
    along = np.add.reduce(unit * dy, axis=axis, dtype=x.dtype, keepdims=True)
    return np.divide(dy - unit * along, norm, out=out)


@operator("NormalizeL1")
def normalize_l1(x: Array, *, axis: int = -1, out: Array | None = None) -> Any:
    """X over the sum of its absolute values along a dimension. Caffe2: NormalizeL1.

    Where that sum is 0, X stays 0.

    Args:
        axis: The dimension along which to sum.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension.
    """
    axis = _axis(x, axis, "NormalizeL1")
    total = np.add.reduce(np.absolute(x), axis=axis, dtype=x.dtype, keepdims=True)
    return np.divide(x, np.where(total == 0, x.dtype.type(1), total), out=out)


def _power(p: int) -> None:
    if p not in (1, 2):
        raise ValueError(f"LpNorm: p={p} is neither 1 nor 2")


@operator("LpNorm", gradient=[emit("LpNormGradient", "I0 GO0", "GI0")])
def lp_norm(x: Array, *, p: int = 2, average: bool = False) -> Array:
    """The sum of the p-th powers of all absolute values, of shape (1,). Caffe2: LpNorm.

    Args:
        p: 1 or 2.
        average: Divide by the number of elements.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: `p` is neither 1 nor 2.
    """
    floats("LpNorm", x)
    _power(p)
    total = squares(x) if p == 2 else np.add.reduce(np.absolute(x), axis=None, dtype=x.dtype)
    if average:
        total = total / x.dtype.type(max(x.size, 1))
    return np.asarray(total, x.dtype).reshape(1)


@operator("LpNormGradient")
def lp_norm_gradient(
    x: Array, dy: Array, *, p: int = 2, average: bool = False, out: Array | None = None
) -> Any:
    """The gradient of X: dY times the sign of X, or times 2 X. Caffe2: LpNormGradient."""
    _power(p)
    of = x.dtype.type
    slope = np.sign(x) if p == 1 else x * of(2)
    share = dy.reshape(()) / of(max(x.size, 1)) if average else dy.reshape(())
    return np.multiply(slope, share, out=out)


@operator("SquareRootDivide", gradient=[emit("SquareRootDivide", "GO0 I1", "GI0")])
def square_root_divide(x: Array, scale: Array, *, out: Array | None = None) -> Array:
    """Each row of X over the root of its number in `scale`, if that is not 0.

    Caffe2: SquareRootDivide.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: There is not one number for each row, or one is negative.
    """
    floats("SquareRootDivide", x)
    if x.ndim == 0 or scale.shape != x.shape[:1]:
        raise ValueError(f"scale is {scale.shape}, X {x.shape} has {x.shape[:1]} rows")
    if scale.size and scale.min() < 0:
        raise ValueError(f"scale has a negative number, {scale.min()}")
    roots = np.sqrt(np.where(scale == 0, 1, scale).astype(x.dtype))
    return store(x / roots.reshape((-1,) + (1,) * (x.ndim - 1)), x.dtype, out)
