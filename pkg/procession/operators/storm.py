"""Learning rates by the sum of all squares so far, one for a whole parameter: Storm and WNGrad."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, number
from procession.operators.blocks import (
    alike,
    by_blocks,
    results,
    scalar,
    sparse_rows,
    tables,
)
from procession.operators.registry import STOPS, operator
from procession.operators.rows import by_rows


def _squares(gradient: Array) -> float:
    vector = gradient.reshape(-1)
    return float(np.dot(vector, vector))


def _storm(
    stays: Array,
    rate: Array,
    parameter: Array,
    moment: Array,
    gradient: Array,
    moved: Array,
    after: Array,
    spare: Array | None,
) -> None:
    spare = np.subtract(moment, gradient, spare)
    np.multiply(spare, stays, spare)
    np.add(spare, gradient, after)
    np.multiply(after, rate, spare)
    np.add(parameter, spare, moved)


def _storm_numbers(
    total: float, lr: float, momentum: float, beta: float, parameter: Array
) -> tuple[Array, Array]:
    rate = lr * (beta + total) ** (-1 / 3)
    stays = 1 - momentum * rate * rate
    return np.array(stays, parameter.dtype), np.array(rate, parameter.dtype)


@operator("Storm", outputs=3, gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def storm(
    parameter: Array,
    moment: Array,
    grad_sq_sum: Array,
    gradient: Array,
    lr: Array,
    *,
    momentum: float = 10.0,
    beta: float = 0.1,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of STORM: the parameter, the moment, and the sum of all squares. Caffe2: Storm.

    The third input is the sum of the squares of all gradients so far; with those of this one added,
    the rate is lr / (`beta` + sum) ** (1 / 3). The moment becomes gradient +
    (1 - `momentum` * rate ** 2) * (moment - gradient), and the parameter gets rate * moment added.

    Args:
        momentum: How fast the moment forgets.
        beta: Keeps the first rates small.

    Raises:
        ValueError: The shapes differ, or the sum or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    tensors = parameter, moment, gradient
    alike("Storm", "parameter, moment, gradient", *tensors)
    total = number(grad_sq_sum, "the sum of squares") + _squares(gradient)
    rate = number(lr, "the learning rate")
    numbers = _storm_numbers(total, rate, momentum, beta, parameter)
    made = results(outs, 3, parameter, moment, grad_sq_sum)
    by_blocks(_storm, numbers, tensors, made[:2], 1)
    made[2][...] = total
    return tuple(made)


@operator("SparseStorm", outputs=3, gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def sparse_storm(
    parameter: Array,
    moment: Array,
    grad_sq_sum: Array,
    gradient: Array,
    indices: Array,
    lr: Array,
    *,
    momentum: float = 10.0,
    beta: float = 0.1,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Storm of the rows that the indices name. Caffe2: SparseStorm.

    The gradient has a row for each index; where an index occurs again, the row is updated again.

    Args:
        momentum: How fast the moments forget.
        beta: Keeps the first rates small.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, or the sum or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    alike("SparseStorm", "parameter, moment", parameter, moment)
    which, rows = sparse_rows("SparseStorm", parameter, indices, gradient)
    total = number(grad_sq_sum, "the sum of squares") + _squares(rows)
    rate = number(lr, "the learning rate")
    numbers = _storm_numbers(total, rate, momentum, beta, parameter)
    made = tables(outs, parameter, moment, grad_sq_sum)

    def update(g: Array, p: Array, m: Array) -> None:
        by_blocks(_storm, numbers, (p, m, g), (p, m), 1)

    by_rows(update, made[:2], which, rows)
    made[2][...] = total
    return tuple(made)


def _wngrad(rate: Array, parameter: Array, gradient: Array, moved: Array, *others: Any) -> None:
    """A step; the change is the first of `others`, which may be scratch."""
    change = np.multiply(gradient, rate, others[0])
    np.add(parameter, change, moved)


@operator("Wngrad", outputs=(2, 4), gradient=STOPS, in_place=[(0, 0), (1, 1)])
def wngrad(
    parameter: Array,
    seq_b: Array,
    gradient: Array,
    lr: Array,
    *,
    epsilon: float = 1e-5,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of WNGrad: the parameter, and b after it. Caffe2: Wngrad.

    The parameter gets lr / (b + `epsilon`) times the gradient added, b the sum of the gradient's
    squares / (b + `epsilon`). A third output is what the gradient was multiplied with, in the shape
    of b, a fourth what the parameter has got added.

    Args:
        epsilon: Keeps the divisor from 0.

    Raises:
        ValueError: The shapes differ, or b or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    alike("Wngrad", "parameter, gradient", parameter, gradient)
    b = number(seq_b, "b")
    rate = np.array(number(lr, "the learning rate") / (b + epsilon), parameter.dtype)
    made = results(outs, 2, parameter, seq_b, seq_b, gradient)
    moved, after, *others = made
    by_blocks(_wngrad, (rate,), (parameter, gradient), (moved, *others[1:]), 1)
    after[...] = b + _squares(gradient) / (b + epsilon)
    if others:
        others[0][...] = rate
    return tuple(made)


@operator("SparseWngrad", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def sparse_wngrad(
    parameter: Array,
    seq_b: Array,
    indices: Array,
    gradient: Array,
    lr: Array,
    *,
    epsilon: float = 1e-5,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Wngrad of the rows that the indices name. Caffe2: SparseWngrad.

    The gradient has a row for each index; where an index occurs again, the row is updated again. To
    b the sum of the squares / b is added, without `epsilon`; with no index it stays as it is.

    Args:
        epsilon: Keeps the divisor from 0.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, b or the learning rate is not a single number, or b is 0.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    which, rows = sparse_rows("SparseWngrad", parameter, indices, gradient)
    b = number(seq_b, "b")
    if not b:
        raise ValueError("SparseWngrad: b must not be 0")
    lr = scalar("SparseWngrad", "learning rate", lr, parameter.dtype)
    rate = np.asarray(lr / parameter.dtype.type(b + epsilon))
    made = tables(outs, parameter, seq_b)

    def update(g: Array, p: Array) -> None:
        by_blocks(_wngrad, (rate,), (p, g), (p,), 1)

    by_rows(update, made[:1], which, rows)
    made[1][...] = b + _squares(rows) / b
    return tuple(made)
