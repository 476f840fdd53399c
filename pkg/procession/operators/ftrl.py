"""Follow the regularized leader: parameters of which many are exactly 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, number
from procession.operators.blocks import (
    alike,
    by_blocks,
    constants,
    results,
    sparse_rows,
    tables,
)
from procession.operators.registry import STOPS, operator
from procession.operators.rows import by_rows


def _numbers(
    operator: str,
    dtype: np.dtype[Any],
    alpha: float | None,
    given: Array | None,
    *others: float,
) -> tuple[Array, ...]:
    """1 / alpha, beta, lambda1 and lambda2; alpha is an argument or an input."""
    if given is None:
        rate = 0.005 if alpha is None else float(alpha)
    elif alpha is not None:
        raise ValueError(f"{operator}: alpha is an input and an argument: one of them")
    else:
        rate = number(given, "alpha")
    if not rate:
        raise ValueError(f"{operator}: alpha must not be 0")
    return constants(dtype, 1 / rate, *others)


def _halves(operator: str, parameter: Array, n_z: Array) -> None:
    """Refuse a state that has not n and z for each element of the parameter."""
    if n_z.size != 2 * parameter.size:
        raise ValueError(
            f"{operator}: the second input is {n_z.shape}, but it has two numbers, n and z, for "
            f"each element of the parameter, which is {parameter.shape}"
        )
    if n_z.dtype != parameter.dtype:
        raise TypeError(f"{operator}: the second input is {n_z.dtype}, not {parameter.dtype}")


def _split(n_z: Array) -> tuple[Array, Array]:
    vector = n_z.reshape(-1)
    return vector[::2], vector[1::2]


def _lead(
    inverse: Array,
    parameter: Array,
    n: Array,
    z: Array,
    gradient: Array,
    n_after: Array,
    z_after: Array,
    root: Array | None,
    spare: Array | None,
) -> Array:
    """Write n and z after a gradient; the result, in `root` if that is given, is the root of n."""
    spare = np.multiply(gradient, gradient, spare)
    root = np.sqrt(n, root)
    np.add(n, spare, n_after)
    np.add(z, gradient, z_after)
    np.multiply(root, inverse, root)
    np.sqrt(n_after, spare)
    np.multiply(spare, inverse, spare)
    np.subtract(spare, root, root)
    np.multiply(root, parameter, root)
    np.subtract(z_after, root, z_after)
    np.sqrt(n_after, root)
    return root


def _ftrl(
    inverse: Array,
    beta: Array,
    lambda1: Array,
    lambda2: Array,
    parameter: Array,
    n: Array,
    z: Array,
    gradient: Array,
    moved: Array,
    n_after: Array,
    z_after: Array,
    root: Array | None,
    spare: Array | None,
) -> None:
    root = _lead(inverse, parameter, n, z, gradient, n_after, z_after, root, spare)
    np.add(root, beta, root)
    np.multiply(root, inverse, root)
    np.add(root, lambda2, root)
    # How far z is out of +-lambda1, with the other sign: 0 within.
    spare = np.clip(z_after, -lambda1, lambda1, spare)
    np.subtract(spare, z_after, spare)
    root[spare == 0] = 1
    np.divide(spare, root, moved)


def _run(numbers: Sequence[Array], tensors: Sequence[Array], made: Sequence[Array]) -> None:
    parameter, n_z, gradient = tensors
    moved, after = made
    inputs = parameter.reshape(-1), *_split(n_z), gradient.reshape(-1)
    by_blocks(_ftrl, numbers, inputs, (moved.reshape(-1), *_split(after)), 2)


@operator("Ftrl", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def ftrl(
    parameter: Array,
    n_z: Array,
    gradient: Array,
    learning_rate: Array | None = None,
    *,
    alpha: float | None = None,
    beta: float = 1.0,
    lambda1: float = 0.001,
    lambda2: float = 0.001,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of FTRL-Proximal: the parameter and its state after it. Caffe2: Ftrl.

    The state has two numbers for each element, n and z, side by side: n is the sum of the squares
    of the gradients, z becomes z + gradient - (sqrt(n after) - sqrt(n)) / alpha * parameter.
    Where z is between +-`lambda1` the parameter becomes 0, else
    (+-`lambda1` - z) / ((`beta` + sqrt(n)) / alpha + `lambda2`), with the sign of z. The fourth
    input is alpha, if there is one.

    Args:
        alpha: The learning rate: 0.005 if it is neither given here nor as an input.
        beta: Keeps the first steps small.
        lambda1: How much is needed for a parameter that is not 0.
        lambda2: How much parameters are drawn towards 0.

    Raises:
        ValueError: The shapes do not fit, or alpha is given twice, 0, or not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    alike("Ftrl", "parameter, gradient", parameter, gradient)
    _halves("Ftrl", parameter, n_z)
    numbers = _numbers("Ftrl", parameter.dtype, alpha, learning_rate, beta, lambda1, lambda2)
    made = results(outs, 2, parameter, n_z)
    _run(numbers, (parameter, n_z, gradient), made)
    return tuple(made)


@operator("SparseFtrl", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def sparse_ftrl(
    parameter: Array,
    n_z: Array,
    indices: Array,
    gradient: Array,
    learning_rate: Array | None = None,
    *,
    alpha: float | None = None,
    beta: float = 1.0,
    lambda1: float = 0.001,
    lambda2: float = 0.001,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Ftrl of the rows that the indices name. Caffe2: SparseFtrl.

    The gradient has a row for each index; where an index occurs again, the row is updated again.
    The fifth input is alpha, if there is one.

    Args:
        alpha: The learning rate: 0.005 if it is neither given here nor as an input.
        beta: Keeps the first steps small.
        lambda1: How much is needed for a parameter that is not 0.
        lambda2: How much parameters are drawn towards 0.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, or alpha is given twice, 0, or not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    _halves("SparseFtrl", parameter, n_z)
    which, rows = sparse_rows("SparseFtrl", parameter, indices, gradient)
    numbers = _numbers("SparseFtrl", parameter.dtype, alpha, learning_rate, beta, lambda1, lambda2)
    made = tables(outs, parameter, n_z)
    # The state may be of any shape with twice the elements: a table has a row for each one of ours.
    state = made[1].reshape(parameter.shape[0], 2 * rows.shape[1])

    def update(g: Array, p: Array, s: Array) -> None:
        _run(numbers, (p, s, g), (p, s))

    by_rows(update, (made[0], state), which, rows)
    return tuple(made)


@operator("GFtrl", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def g_ftrl(
    parameter: Array,
    n_z: Array,
    gradient: Array,
    learning_rate: Array | None = None,
    *,
    alpha: float | None = None,
    beta: float = 1.0,
    lambda1: float = 0.001,
    lambda2: float = 0.001,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Ftrl that makes whole columns of a parameter 0. Caffe2: GFtrl.

    A column is what lies along the first dimension. It becomes 0 where the length of its z is not
    above `lambda1` * sqrt(its number of elements).

    Args:
        alpha: The learning rate: 0.005 if it is neither given here nor as an input.
        beta: Keeps the first steps small.
        lambda1: How much is needed for a column that is not 0.
        lambda2: How much parameters are drawn towards 0.

    Raises:
        ValueError: The shapes do not fit, or alpha is given twice, 0, or not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    alike("GFtrl", "parameter, gradient", parameter, gradient)
    _halves("GFtrl", parameter, n_z)
    if not parameter.ndim:
        raise ValueError("GFtrl: the parameter has no columns, it is of shape ()")
    dtype = parameter.dtype
    numbers = _numbers("GFtrl", dtype, alpha, learning_rate, beta, lambda1, lambda2)
    inverse, added, _, decay = numbers
    moved, after = made = results(outs, 2, parameter, n_z)
    columns = parameter.shape[0], parameter.size // max(1, parameter.shape[0])
    z = _split(after)[1].reshape(columns)
    root = np.empty(parameter.size, dtype)
    inputs = parameter.reshape(-1), *_split(n_z), gradient.reshape(-1)
    by_blocks(_lead, (inverse,), inputs, (*_split(after), root), 1)
    length = np.sqrt(np.einsum("ij,ij->j", z, z))
    least = dtype.type(lambda1 * math.sqrt(columns[0]))
    factor = np.zeros_like(length)
    np.divide(least, length, out=factor, where=length > least)
    factor[length > least] -= 1
    divisor = (root.reshape(columns) + added) * inverse + decay
    divisor[:, length <= least] = 1
    np.divide(z * factor, divisor, moved.reshape(columns))
    return tuple(made)
