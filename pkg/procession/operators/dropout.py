"""Dropout: some numbers are left out, by chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, floats, result
from procession.operators.registry import REQUIRED, Rules, emit, operator


def _rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [emit("DropoutGrad", "GO0" if arguments["is_test"] else "GO0 O1", "GI0")]


def _share(ratio: float) -> float:
    if not 0 <= ratio < 1:
        raise ValueError(f"Dropout: ratio={ratio} is not in [0, 1)")
    return 1 / (1 - ratio)


@operator("Dropout", outputs=(1, 2), gradient=_rules, in_place=[(0, 0)])
def dropout(
    x: Array,
    *,
    is_test: bool = REQUIRED,
    ratio: float = 0.5,
    rng: np.random.Generator,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """X with numbers set to 0 by chance, and the others made larger in turn. Caffe2: Dropout.

    In training there are two outputs: Y, X / (1 - ratio) where it stays and else 0, and a mask of
    what stays, bools in the shape of X. In testing all stays, and the mask may be left out.

    Args:
        is_test: Whether this is a test. It must be said.
        ratio: How likely a number is to be left out.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: `ratio` is not in [0, 1).
    """
    floats("Dropout", x)
    share = _share(ratio)
    target = outs[0] if outs else None
    y = np.empty(x.shape, x.dtype) if target is None else target
    if is_test:
        if y is not x:
            np.copyto(y, x)
        return (y, np.ones(x.shape, np.bool_)) if outs and len(outs) == 2 else (y,)
    mask = outs[1] if outs and outs[1] is not None else np.empty(x.shape, np.bool_)
    np.greater_equal(rng.random(x.shape, np.float32), np.float32(ratio), out=mask)
    np.multiply(x, x.dtype.type(share), out=y)
    np.multiply(y, mask, out=y)
    return y, mask


@operator("DropoutGrad")
def dropout_grad(
    dy: Array,
    mask: Array | None = None,
    *,
    is_test: bool = False,
    ratio: float = 0.5,
    out: Array | None = None,
) -> Any:
    """The gradient of X: dY / (1 - ratio) where X has stayed, else 0. Caffe2: DropoutGrad.

    In testing it is dY.

    Raises:
        ValueError: There is no mask, or `ratio` is not in [0, 1).
    """
    share = _share(ratio)
    dx = result(out, dy.shape, dy.dtype)
    if is_test:
        np.copyto(dx, dy)
        return dx
    if mask is None or mask.shape != dy.shape:
        raise ValueError("DropoutGrad: in training there must be a mask in the shape of dY")
    np.multiply(dy, dy.dtype.type(share), out=dx)
    return np.multiply(dx, mask, out=dx)
