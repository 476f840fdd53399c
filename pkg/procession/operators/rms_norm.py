"""Examples brought to a common scale by the root of their mean square."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, floats, matrix, result
from procession.operators.registry import emit, operator


def _rows(x: Array, gamma: Array, axis: int) -> tuple[Array, Array]:
    """X as a matrix, and gamma as a vector."""
    floats("RMSNorm", x)
    rows = x.reshape(matrix(x.shape, axis, "X"))
    return rows, _elements("gamma", gamma, rows)


def _elements(name: str, values: Array, rows: Array) -> Array:
    if values.size != rows.shape[1]:
        raise ValueError(
            f"RMSNorm: {name} is {values.shape}, an example has {rows.shape[1]} elements"
        )
    return values.reshape(-1).astype(rows.dtype, copy=False)


@operator("RMSNorm", outputs=2, gradient=[emit("RMSNormGradient", "GO0 I0 I1 O1", "GI0 GI1 GI2")])
def rms_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    axis: int = 1,
    eps: float = 0.0,
    outs: Outs = None,
) -> tuple[Array, Array]:
    """Each example divided by the root of its mean square, then scaled and moved.

    Y = X / sqrt(mean(X * X) + eps) * gamma + beta, where gamma and beta have one number for each
    element of an example. The second output is 1 / that square root, of the shape of X before
    `axis`. Caffe2: RMSNorm.

    Args:
        axis: An example is everything from this dimension on.
        eps: Added to the mean square.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has no such dimension, or gamma or beta have another size.
    """
    rows, scale = _rows(x, gamma, axis)
    offset = _elements("beta", beta, rows)
    of = x.dtype.type
    inverse = np.einsum("ij,ij->i", rows, rows)
    inverse *= of(1 / max(rows.shape[1], 1))
    inverse += of(eps)
    np.sqrt(inverse, out=inverse)
    np.divide(of(1), inverse, out=inverse)
    y = result(outs[0] if outs else None, x.shape, x.dtype)
    made = y.reshape(rows.shape)
    np.multiply(rows, inverse[:, np.newaxis], out=made)
    made *= scale
    made += offset
    return y, inverse.reshape(x.shape[: axis % x.ndim])


@operator("RMSNormGradient", outputs=3)
def rms_norm_gradient(
    dy: Array, x: Array, gamma: Array, rrms: Array, *, axis: int = 1, outs: Outs = None
) -> tuple[Any, ...]:
    """The gradients of X, gamma and beta. Caffe2: RMSNormGradient."""
    rows, scale = _rows(x, gamma, axis)
    slopes, inverse = dy.reshape(rows.shape), rrms.reshape(-1, 1)
    dx = result(outs[0] if outs else None, x.shape, x.dtype)
    unit = dx.reshape(rows.shape)
    np.multiply(rows, inverse, out=unit)
    dgamma = np.einsum("ij,ij->j", slopes, unit)
    dbeta = np.ones(len(slopes), dy.dtype) @ slopes
    scaled = slopes * scale
    pull = np.einsum("ij,ij->i", scaled, unit)
    pull *= x.dtype.type(-1 / max(rows.shape[1], 1))
    unit *= pull[:, np.newaxis]
    unit += scaled
    unit *= inverse
    return dx, dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)
