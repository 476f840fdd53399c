"""Adagrad of the rows of a table right from the gradient of their sums, or of their means.

They are what the gradient of SparseLengthsSum or SparseLengthsMean and then SparseAdagrad are,
without a gradient for each row in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from procession.operators.adagrad import per_row, update_row_wise, update_rows
from procession.operators.arrays import Array, Outs
from procession.operators.blocks import alike, scalar, tables
from procession.operators.indexing import positions
from procession.operators.lengths import checked_lengths
from procession.operators.registry import STOPS, described, operator
from procession.operators.segments import share


def _fused(
    name: str,
    tensors: tuple[Array, Array, Array, Array, Array, Array],
    epsilon: float,
    average: bool,
    update: Callable[..., None],
    outs: Outs,
) -> tuple[Array, ...]:
    parameter, moment, indices, gradient, lr, lengths = tensors
    each = checked_lengths(lengths, indices.size)
    if not parameter.ndim or gradient.shape != (each.size, *parameter.shape[1:]):
        raise ValueError(
            f"{name}: the gradient is {gradient.shape}, but there are {each.size} segments of rows "
            f"of a parameter {parameter.shape}"
        )
    if gradient.dtype != parameter.dtype:
        raise TypeError(
            f"{name}: the gradient is {gradient.dtype}, the parameter {parameter.dtype}"
        )
    which = positions(indices, parameter.shape[0]).reshape(-1)
    slopes = gradient * share(each, gradient) if average else gradient
    rate = scalar(name, "learning rate", lr, parameter.dtype)
    made = tables(outs, parameter, moment)
    rows = slopes.reshape(each.size, math.prod(parameter.shape[1:]))
    update(made, which, rows, rate, epsilon, 0.0, np.repeat(np.arange(each.size), each))
    return tuple(made)


def _declare(kind: str, row_wise: bool, average: bool) -> None:
    """Make the operator for sums or averages, and for a moment of a row or of an element."""
    prefix = "RowWise" if row_wise else ""
    name = f"{prefix}SparseAdagradFusedWithSparseLengths{kind}Gradient"

    @operator(name, outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
    @described(
        name,
        f"{prefix}SparseAdagrad with the gradient of SparseLengths{kind}. Caffe2: {name}.\n\n"
        "The gradient has a row for each segment of indices, whose lengths are the last input.\n\n"
        "Args:\n    epsilon: Keeps the divisor from 0.\n\n"
        "Raises:\n    IndexError: There is no such row.\n"
        "    ValueError: The shapes do not fit, or the lengths do not add up to the number of\n"
        "        indices.\n"
        "    TypeError: The dtypes differ, or are not floating-point ones.",
    )
    def kernel(
        parameter: Array,
        moment: Array,
        indices: Array,
        gradient: Array,
        lr: Array,
        lengths: Array,
        *,
        epsilon: float = 1e-5,
        outs: Outs = None,
    ) -> tuple[Array, ...]:
        if row_wise:
            alike(name, "parameter", parameter)
            per_row(name, parameter, moment)
        else:
            alike(name, "parameter, moment", parameter, moment)
        tensors = parameter, moment, indices, gradient, lr, lengths
        update = update_row_wise if row_wise else update_rows
        return _fused(name, tensors, epsilon, average, update, outs)


_declare("Sum", row_wise=False, average=False)
_declare("Mean", row_wise=False, average=True)
_declare("Sum", row_wise=True, average=False)
_declare("Mean", row_wise=True, average=True)
