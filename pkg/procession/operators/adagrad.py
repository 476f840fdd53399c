"""Learning rates by what the gradients have been: Adagrad, Adadelta, RmsProp; sparse ones, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs
from procession.operators.blocks import (
    alike,
    by_blocks,
    constants,
    results,
    running,
    scalar,
    sparse_rows,
    tables,
)
from procession.operators.registry import STOPS, operator
from procession.operators.rows import by_rows


def _adagrad(
    epsilon: Array,
    decay: Array | None,
    weight_decay: Array | None,
    rate: Array,
    parameter: Array,
    moment: Array,
    gradient: Array,
    moved: Array,
    after: Array,
    *others: Any,
) -> None:
    *wanted, spare, decayed = others
    if weight_decay is not None:
        decayed = np.multiply(parameter, weight_decay, decayed)
        gradient = np.add(decayed, gradient, decayed)
    spare = np.multiply(gradient, gradient, spare)
    if decay is None:
        np.add(moment, spare, after)
    else:
        np.multiply(moment, decay, after)
        np.add(after, spare, after)
    # The learning rates of the single elements, then the change: outputs where they are asked for.
    effective = wanted[0] if wanted else spare
    change = wanted[1] if len(wanted) > 1 else spare
    np.sqrt(after, effective)
    np.add(effective, epsilon, effective)
    np.divide(rate, effective, effective)
    np.multiply(effective, gradient, change)
    np.add(parameter, change, moved)


def _numbers(
    dtype: np.dtype[Any], epsilon: float, decay: float, weight_decay: float
) -> tuple[Array | None, ...]:
    """The constants of a step of Adagrad, but for the learning rate; None for what does nothing."""
    numbers = constants(dtype, epsilon, decay, weight_decay)
    return (
        numbers[0],
        None if decay == 1 else numbers[1],
        None if weight_decay == 0 else numbers[2],
    )


@operator("Adagrad", outputs=(2, 4), gradient=STOPS, in_place=[(0, 0), (1, 1)])
def adagrad(
    parameter: Array,
    moment: Array,
    gradient: Array,
    lr: Array,
    *,
    epsilon: float = 1e-5,
    decay: float = 1.0,
    weight_decay: float = 0.0,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of Adagrad: the parameter and the moment after it. Caffe2: Adagrad.

    The moment becomes `decay` * moment + gradient ** 2, and the parameter gets
    lr * gradient / (sqrt(moment) + `epsilon`) added: lr is negative, as a rule. A third output is
    what the gradient was multiplied with, a fourth what the parameter has got added.

    Args:
        epsilon: Keeps the divisor from 0.
        decay: How much of the moment stays.
        weight_decay: How much of the parameter is added to its gradient.

    Raises:
        ValueError: The shapes differ, or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    tensors = parameter, moment, gradient
    alike("Adagrad", "parameter, moment, gradient", *tensors)
    rate = scalar("Adagrad", "learning rate", lr, parameter.dtype)
    numbers = *_numbers(parameter.dtype, epsilon, decay, weight_decay), rate
    made = results(outs, 2, parameter, moment, gradient, gradient)
    by_blocks(_adagrad, numbers, tensors, made, 2)
    return tuple(made)


@operator("SparseAdagrad", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def sparse_adagrad(
    parameter: Array,
    moment: Array,
    indices: Array,
    gradient: Array,
    lr: Array,
    *,
    epsilon: float = 1e-5,
    weight_decay: float = 0.0,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Adagrad of the rows that the indices name. Caffe2: SparseAdagrad.

    The gradient has a row for each index; where an index occurs again, the row is updated again.

    Args:
        epsilon: Keeps the divisor from 0.
        weight_decay: How much of the parameter is added to its gradient.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    alike("SparseAdagrad", "parameter, moment", parameter, moment)
    which, rows = sparse_rows("SparseAdagrad", parameter, indices, gradient)
    made = tables(outs, parameter, moment)
    rate = scalar("SparseAdagrad", "learning rate", lr, parameter.dtype)
    update_rows(made, which, rows, rate, epsilon, weight_decay)
    return tuple(made)


def update_rows(
    made: Sequence[Array],
    which: Array,
    rows: Array,
    rate: Array,
    epsilon: float,
    weight_decay: float = 0.0,
    source: Array | None = None,
) -> None:
    """What SparseAdagrad does to a parameter and its moment; `source` as for `by_rows`."""
    added, _, decay = _numbers(made[0].dtype, epsilon, 1.0, weight_decay)
    numbers = added, None, decay, rate

    def update(g: Array, p: Array, m: Array) -> None:
        by_blocks(_adagrad, numbers, (p, m, g), (p, m), 2)

    def several(g: Array, p: Array, m: Array) -> None:
        moments = running(np.multiply(g, g), m, 1, 1)
        np.sqrt(moments, moments)
        moments += added
        np.divide(g, moments, moments)
        p += np.add.reduce(moments, axis=0) * rate

    by_rows(update, made, which, rows, None, several if decay is None else None, source)


def per_row(operator: str, parameter: Array, moment: Array) -> None:
    """Refuse a moment that has not one number for each row of the parameter.

    Raises:
        ValueError: That is how it is.
        TypeError: The dtypes differ.
    """
    if not parameter.ndim or moment.size != parameter.shape[0]:
        raise ValueError(
            f"{operator}: the moment is {moment.shape}, but it has one number for each row of the "
            f"parameter, which is {parameter.shape}"
        )
    if moment.dtype != parameter.dtype:
        raise TypeError(f"{operator}: the moment is {moment.dtype}, not {parameter.dtype}")


@operator("RowWiseSparseAdagrad", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def row_wise_sparse_adagrad(
    parameter: Array,
    moment: Array,
    indices: Array,
    gradient: Array,
    lr: Array,
    *,
    epsilon: float = 1e-5,
    weight_decay: float = 0.0,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """SparseAdagrad with one number as the moment of a row. Caffe2: RowWiseSparseAdagrad.

    It gets the mean of the gradient's squares added.

    Args:
        epsilon: Keeps the divisor from 0.
        weight_decay: How much of the parameter is added to its gradient.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    name = "RowWiseSparseAdagrad"
    per_row(name, parameter, moment)
    which, rows = sparse_rows(name, parameter, indices, gradient)
    made = tables(outs, parameter, moment)
    rate = scalar(name, "learning rate", lr, parameter.dtype)
    update_row_wise(made, which, rows, rate, epsilon, weight_decay)
    return tuple(made)


def update_row_wise(
    made: Sequence[Array],
    which: Array,
    rows: Array,
    rate: Array,
    epsilon: float,
    weight_decay: float = 0.0,
    source: Array | None = None,
) -> None:
    """What RowWiseSparseAdagrad does to a parameter and its moment; `source` as for `by_rows`."""
    parameter, moment = made
    added, _, decay = _numbers(parameter.dtype, epsilon, 1.0, weight_decay)
    width = parameter.dtype.type(max(1, rows.shape[1]))

    def update(g: Array, p: Array, m: Array) -> None:
        if decay is not None:
            g += p * decay
        m[:, 0] += np.einsum("ij,ij->i", g, g) / width
        g *= rate / (np.sqrt(m) + added)
        p += g

    def several(g: Array, p: Array, m: Array) -> None:
        moments = running((np.einsum("ij,ij->i", g, g) / width)[:, np.newaxis], m, 1, 1)
        p += (rate / (np.sqrt(moments[:, 0]) + added)) @ g

    tables = parameter, moment.reshape(-1)
    by_rows(update, tables, which, rows, None, several if decay is None else None, source)


def _adadelta(
    decay: Array,
    rest: Array,
    epsilon: Array,
    rate: Array,
    parameter: Array,
    moment: Array,
    delta: Array,
    gradient: Array,
    moved: Array,
    after: Array,
    delta_after: Array,
    spare: Array | None,
    other: Array | None,
) -> None:
    spare = np.multiply(gradient, gradient, spare)
    np.multiply(spare, rest, spare)
    np.multiply(moment, decay, after)
    np.add(after, spare, after)
    np.add(after, epsilon, spare)
    other = np.add(delta, epsilon, other)
    np.divide(other, spare, spare)
    np.sqrt(spare, spare)
    np.multiply(spare, gradient, spare)
    np.multiply(spare, rate, other)
    np.add(parameter, other, moved)
    np.multiply(spare, spare, spare)
    np.multiply(spare, rest, spare)
    np.multiply(delta, decay, delta_after)
    np.add(delta_after, spare, delta_after)


def _delta_numbers(
    operator: str, dtype: np.dtype[Any], lr: Array, epsilon: float, decay: float
) -> tuple[Array, ...]:
    if epsilon < 0 or not 0 < decay < 1:
        raise ValueError(
            f"{operator}: epsilon={epsilon} must not be negative, and decay={decay} must be "
            "between 0 and 1"
        )
    rate = scalar(operator, "learning rate", lr, dtype)
    return (*constants(dtype, decay, 1 - decay, epsilon), rate)


@operator("Adadelta", outputs=3, gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def adadelta(
    parameter: Array,
    moment: Array,
    delta: Array,
    gradient: Array,
    lr: Array,
    *,
    epsilon: float = 1e-5,
    decay: float = 0.95,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of Adadelta: the parameter, the moment, and the moment of its changes.

    Caffe2: Adadelta. Both moments are running means of squares, of the gradient and of the
    change. The change is the gradient times the root of (second moment + `epsilon`) /
    (first moment + `epsilon`), and the parameter gets lr times that added.

    Args:
        epsilon: Added to both moments; not negative.
        decay: How much of the moments stays, between 0 and 1.

    Raises:
        ValueError: The shapes differ, an argument is out of its range, or the learning rate is not
            a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    tensors = parameter, moment, delta, gradient
    alike("Adadelta", "parameter, moment, moment of changes, gradient", *tensors)
    numbers = _delta_numbers("Adadelta", parameter.dtype, lr, epsilon, decay)
    made = results(outs, 3, parameter, moment, delta)
    by_blocks(_adadelta, numbers, tensors, made, 2)
    return tuple(made)


@operator("SparseAdadelta", outputs=3, gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def sparse_adadelta(
    parameter: Array,
    moment: Array,
    delta: Array,
    indices: Array,
    gradient: Array,
    lr: Array,
    *,
    epsilon: float = 1e-5,
    decay: float = 0.95,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """Adadelta of the rows that the indices name. Caffe2: SparseAdadelta.

    The gradient has a row for each index; where an index occurs again, the row is updated again.

    Args:
        epsilon: Added to both moments; not negative.
        decay: How much of the moments stays, between 0 and 1.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, an argument is out of its range, or the learning rate is
            not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    name = "SparseAdadelta"
    alike(name, "parameter, moment, moment of changes", parameter, moment, delta)
    which, rows = sparse_rows(name, parameter, indices, gradient)
    numbers = _delta_numbers(name, parameter.dtype, lr, epsilon, decay)
    made = tables(outs, parameter, moment, delta)

    def update(g: Array, p: Array, m: Array, d: Array) -> None:
        by_blocks(_adadelta, numbers, (p, m, d, g), (p, m, d), 2)

    by_rows(update, made, which, rows)
    return tuple(made)


def _rms_prop(
    decay: Array,
    rest: Array,
    momentum: Array | None,
    epsilon: Array,
    rate: Array,
    gradient: Array,
    squares: Array,
    velocity: Array,
    change: Array,
    squares_after: Array,
    after: Array,
    spare: Array | None,
) -> None:
    spare = np.multiply(gradient, gradient, spare)
    np.multiply(spare, rest, spare)
    np.multiply(squares, decay, squares_after)
    np.add(squares_after, spare, squares_after)
    np.add(squares_after, epsilon, spare)
    np.sqrt(spare, spare)
    np.divide(gradient, spare, spare)
    np.multiply(spare, rate, spare)
    if momentum is None:
        np.copyto(after, spare)
    else:
        np.multiply(velocity, momentum, after)
        np.add(after, spare, after)
    np.copyto(change, after)


@operator("RmsProp", outputs=3, gradient=STOPS, in_place=[(0, 0), (1, 1), (2, 2)])
def rms_prop(
    gradient: Array,
    mean_squares: Array,
    velocity: Array,
    lr: Array,
    *,
    decay: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-5,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of RMSProp: the change of the parameter, the mean squares, and the momentum.

    Caffe2: RmsProp. The mean of squares moves towards the gradient's square by 1 - `decay`, the
    momentum becomes `momentum` * momentum + lr * gradient / sqrt(mean + `epsilon`), and the
    change, to be added to the parameter, is the same.

    Args:
        decay: How much of the mean stays.
        momentum: How much of the momentum stays.
        epsilon: Keeps the divisor from 0.

    Raises:
        ValueError: The shapes differ, or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    tensors = gradient, mean_squares, velocity
    alike("RmsProp", "gradient, mean squares, momentum", *tensors)
    rate = scalar("RmsProp", "learning rate", lr, gradient.dtype)
    stays, rest, faster, added = constants(gradient.dtype, decay, 1 - decay, momentum, epsilon)
    made = results(outs, 3, *tensors)
    numbers = (stays, rest, faster if momentum else None, added, rate)
    by_blocks(_rms_prop, numbers, tensors, made, 1)
    return tuple(made)
