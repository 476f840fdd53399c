"""Adam: momentum and a learning rate for each element; of whole parameters, or of rows of them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from procession.operators.adagrad import per_row
from procession.operators.arrays import Array, Outs, number
from procession.operators.blocks import (
    alike,
    by_blocks,
    results,
    running,
    scalar,
    sparse_rows,
    tables,
)
from procession.operators.registry import STOPS, operator
from procession.operators.rows import by_rows


def _count(iteration: Array) -> int:
    """How many steps there are with this one."""
    t = int(number(iteration, "the iteration")) + 1
    if t < 1:
        raise ValueError(f"the iteration must be from 0 up, not {t - 1}")
    return t


class _Numbers:
    """The arguments of Adam in the dtype of the parameter, and what follows from them.

    The corrections are computed from the rounded numbers: 1 - beta2 has few digits left in float32,
    and both are to have the same.
    """

    def __init__(self, dtype: np.dtype[Any], beta1: float, beta2: float, epsilon: float) -> None:
        one, of = dtype.type(1), dtype.type
        self.beta1, self.beta2 = float(of(beta1)), float(of(beta2))
        self.arrays = tuple(
            np.array(each, dtype)
            for each in (of(beta1), one - of(beta1), of(beta2), one - of(beta2), epsilon)
        )

    def correction(self, iteration: Array) -> float:
        """What makes up for moments that began with zeros."""
        t = _count(iteration)
        return math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)

    def rectified(self, iteration: Array) -> tuple[float, bool]:
        """The correction of RAdam, and whether to divide by the root of the second moment."""
        t = _count(iteration)
        left = self.beta2**t
        most = 2 / (1 - self.beta2) - 1
        length = most - 2 * t * left / (1 - left)
        if length < 5:
            return 1 / (1 - self.beta1**t), False
        ratio = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
        return math.sqrt(ratio) * self.correction(iteration), True


_numbers = lru_cache(maxsize=256)(_Numbers)


def _adam(
    beta1: Array,
    rest1: Array,
    beta2: Array,
    rest2: Array,
    epsilon: Array | None,
    factor: Array,
    rate: Array | None,
    parameter: Array,
    first: Array,
    second: Array,
    gradient: Array,
    moved: Array,
    first_after: Array,
    second_after: Array,
    *others: Any,
) -> None:
    """A step; without `epsilon` one that does not divide by the root of the second moment.

    The effective gradient is the first of `others` if `rate` is given, else it is the change.
    """
    *_, spare = others
    spare = np.multiply(gradient, rest1, spare)
    np.multiply(first, beta1, first_after)
    np.add(first_after, spare, first_after)
    np.multiply(gradient, gradient, spare)
    np.multiply(spare, rest2, spare)
    np.multiply(second, beta2, second_after)
    np.add(second_after, spare, second_after)
    if epsilon is None:
        np.multiply(first_after, factor, spare)
    else:
        np.sqrt(second_after, spare)
        np.add(spare, epsilon, spare)
        np.divide(first_after, spare, spare)
        np.multiply(spare, factor, spare)
    if rate is not None:
        np.copyto(others[0], spare)
        np.multiply(spare, rate, spare)
    np.add(parameter, spare, moved)


@operator("Adam", outputs=(3, 4), gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def adam(
    parameter: Array,
    moment_1: Array,
    moment_2: Array,
    gradient: Array,
    lr: Array,
    iteration: Array,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-5,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of Adam: the parameter, and its two moments. Caffe2: Adam.

    The moments are running means of the gradient and of its square. The effective gradient is
    moment 1 / (sqrt(moment 2) + `epsilon`), times what makes up for moments that began with zeros,
    sqrt(1 - beta2 ** t) / (1 - beta1 ** t) with t the iteration plus 1; the parameter gets lr
    times that added. A fourth output is the effective gradient.

    Args:
        beta1: How much of the first moment stays.
        beta2: How much of the second moment stays.
        epsilon: Keeps the divisor from 0.

    Raises:
        ValueError: The shapes differ, or the learning rate or the iteration is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    tensors = parameter, moment_1, moment_2, gradient
    alike("Adam", "parameter, moment 1, moment 2, gradient", *tensors)
    dtype = parameter.dtype
    numbers = _numbers(dtype, beta1, beta2, epsilon)
    rate: Array | None = scalar("Adam", "learning rate", lr, dtype)
    factor = numbers.correction(iteration)
    made = results(outs, 3, *tensors)
    if len(made) == 3:
        factor, rate = factor * float(lr.reshape(())), None
    by_blocks(_adam, (*numbers.arrays, np.array(factor, dtype), rate), tensors, made, 1)
    return tuple(made)


@operator("SparseAdam", outputs=(3, 4), gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def sparse_adam(
    parameter: Array,
    moment_1: Array,
    moment_2: Array,
    indices: Array,
    gradient: Array,
    lr: Array,
    iteration: Array,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-5,
    enableRAdam: bool = False,  # noqa: N803
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Adam of the rows that the indices name. Caffe2: SparseAdam.

    The gradient has a row for each index; where an index occurs again, the row is updated again.

    Args:
        beta1: How much of the first moment stays.
        beta2: How much of the second moment stays.
        epsilon: Keeps the divisor from 0.
        enableRAdam: Rectify the variance of the learning rate while there were few iterations.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, or the learning rate or the iteration is not a single
            number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    alike("SparseAdam", "parameter, moment 1, moment 2", parameter, moment_1, moment_2)
    which, rows = sparse_rows("SparseAdam", parameter, indices, gradient)
    dtype = parameter.dtype
    numbers = _numbers(dtype, beta1, beta2, epsilon)
    rate = scalar("SparseAdam", "learning rate", lr, dtype)
    divided, factor = True, numbers.correction(iteration)
    if enableRAdam:
        factor, divided = numbers.rectified(iteration)
    *betas, added = numbers.arrays
    stays_rest = [float(each) for each in betas]
    every = (*betas, added if divided else None, np.array(factor, dtype), rate)
    made = tables(None if outs is None else outs[:3], parameter, moment_1, moment_2)
    made += results(None if outs is None else outs[3:], 0, gradient)

    changes = made[3].reshape(rows.shape) if made[3:] else None

    def update(g: Array, p: Array, m: Array, v: Array) -> Array:
        effective = np.empty_like(g)
        by_blocks(_adam, every, (p, m, v, g), (p, m, v, effective), 1)
        return effective

    def several(g: Array, p: Array, m: Array, v: Array) -> None:
        effective = running(g, m, *stays_rest[:2])
        second = running(np.multiply(g, g, g), v, *stays_rest[2:])
        if divided:
            np.sqrt(second, second)
            second += added
            effective /= second
        p += np.add.reduce(effective, axis=0) * dtype.type(factor * float(rate))

    by_rows(update, made[:3], which, rows, changes, several if changes is None else None)
    return tuple(made)


@operator("RowWiseSparseAdam", outputs=(3, 4), gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def row_wise_sparse_adam(
    parameter: Array,
    moment_1: Array,
    moment_2: Array,
    indices: Array,
    gradient: Array,
    lr: Array,
    iteration: Array,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-5,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """SparseAdam with one number as the second moment of a row. Caffe2: RowWiseSparseAdam.

    It is the running mean of the mean of the gradient's squares.

    Args:
        beta1: How much of the first moment stays.
        beta2: How much of the second moment stays.
        epsilon: Keeps the divisor from 0.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, or the learning rate or the iteration is not a single
            number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    name = "RowWiseSparseAdam"
    alike(name, "parameter, moment 1", parameter, moment_1)
    per_row(name, parameter, moment_2)
    which, rows = sparse_rows(name, parameter, indices, gradient)
    dtype = parameter.dtype
    numbers = _numbers(dtype, beta1, beta2, epsilon)
    rate = scalar(name, "learning rate", lr, dtype)
    factor = dtype.type(numbers.correction(iteration))
    width = dtype.type(max(1, rows.shape[1]))
    stays1, rest1, stays2, rest2, added = numbers.arrays
    made = tables(None if outs is None else outs[:3], parameter, moment_1, moment_2)
    made += results(None if outs is None else outs[3:], 0, gradient)

    def update(g: Array, p: Array, m: Array, v: Array) -> Array:
        v *= stays2
        v[:, 0] += np.einsum("ij,ij->i", g, g) / width * rest2
        m *= stays1
        g *= rest1
        m += g
        effective: Array = np.multiply(m, factor / (np.sqrt(v) + added), g)
        p += effective * rate
        return effective

    def several(g: Array, p: Array, m: Array, v: Array) -> None:
        squares = (np.einsum("ij,ij->i", g, g) / width)[:, np.newaxis]
        second = running(squares, v, float(stays2), float(rest2))
        p += (factor * rate / (np.sqrt(second[:, 0]) + added)) @ running(
            g, m, float(stays1), float(rest1)
        )

    changes = made[3].reshape(rows.shape) if made[3:] else None
    by_rows(
        update,
        (*made[:2], made[2].reshape(-1)),
        which,
        rows,
        changes,
        several if changes is None else None,
    )
    return tuple(made)
