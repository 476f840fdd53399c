"""What is done to parameters after an update: rows shortened or decayed, elements kept in a range.

With a sparse gradient it is done to the rows that it has. The gradient itself, as a last input, is
taken no notice of: what matters is that the update comes first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, floats, number
from procession.operators.blocks import tables
from procession.operators.indexing import positions
from procession.operators.registry import STOPS, operator

_LARGEST = float(np.finfo(np.float32).max)


def _rows(operator: str, parameter: Array, indices: Array) -> Array:
    """The rows that the indices name, each once."""
    if not parameter.ndim:
        raise ValueError(f"{operator}: the parameter has no rows, it is of shape ()")
    return np.unique(positions(indices, parameter.shape[0]))


@operator("EnsureClipped", outputs=1, gradient=STOPS, in_place=[(0, 0)])
def ensure_clipped(
    parameter: Array,
    indices: Array | None = None,
    gradient: Array | None = None,
    *,
    min: float = -_LARGEST,
    max: float = _LARGEST,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The parameter with its elements kept between two numbers. Caffe2: EnsureClipped.

    With indices it is about the rows that they name.

    Args:
        min: The least that an element may be.
        max: The largest.

    Raises:
        IndexError: There is no such row.
        TypeError: The parameter is not of floating-point numbers.
    """
    floats("EnsureClipped", parameter)
    (made,) = tables(outs, parameter)
    if indices is None:
        np.clip(made, min, max, out=made)
    else:
        which = _rows("EnsureClipped", parameter, indices)
        made[which] = np.clip(made[which], min, max)
    return (made,)


@operator("SparseNormalize", outputs=1, gradient=STOPS, in_place=[(0, 0)])
def sparse_normalize(
    parameter: Array,
    indices: Array,
    gradient: Array | None = None,
    *,
    use_max_norm: bool = True,
    norm: float = 1.0,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The parameter with rows that are no longer than `norm`. Caffe2: SparseNormalize.

    It is about the rows that the indices name.

    Args:
        use_max_norm: Leave shorter rows as they are; else they become as long as `norm`.
        norm: The length.

    Raises:
        IndexError: There is no such row.
        TypeError: The parameter is not of floating-point numbers.
    """
    floats("SparseNormalize", parameter)
    which = _rows("SparseNormalize", parameter, indices)
    (made,) = tables(outs, parameter)
    rows = made[which].reshape(which.size, math.prod(parameter.shape[1:]))
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    changed = length > norm if use_max_norm else length > 0
    rows = rows[changed] * (norm / length[changed]).astype(made.dtype)[:, np.newaxis]
    made[which[changed]] = rows.reshape(-1, *parameter.shape[1:])
    return (made,)


@operator("SparseLpRegularizer", outputs=1, gradient=STOPS, in_place=[(0, 0)])
def sparse_lp_regularizer(
    parameter: Array,
    indices: Array,
    gradient: Array | None = None,
    *,
    p: float = 2.0,
    reg_lambda: float = 1e-5,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """The parameter with rows drawn towards 0. Caffe2: SparseLpRegularizer.

    With p=2 a row becomes 1 - `reg_lambda` times what it was; with p=1 each element comes closer to
    0 by `reg_lambda`, and stays 0. A row that the indices name twice is drawn twice.

    Args:
        p: 1 or 2.
        reg_lambda: How much.

    Raises:
        IndexError: There is no such row.
        TypeError: The parameter is not of floating-point numbers.
        ValueError: `p` is neither 1 nor 2.
    """
    floats("SparseLpRegularizer", parameter)
    if p not in (1, 2):
        raise ValueError(f"SparseLpRegularizer: p is 1 or 2, not {p}")
    which = _rows("SparseLpRegularizer", parameter, indices)
    times = np.bincount(np.searchsorted(which, indices.reshape(-1)), minlength=which.size)
    times = times.reshape(-1, *(1,) * (parameter.ndim - 1))
    (made,) = tables(outs, parameter)
    if p == 2:
        made[which] *= np.asarray((1 - reg_lambda) ** times, made.dtype)
    else:
        rows = made[which]
        less = np.asarray(times * reg_lambda, made.dtype)
        made[which] = np.copysign(np.maximum(np.abs(rows) - less, 0), rows)
    return (made,)


@operator("RowWiseCounter", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def row_wise_counter(
    previous: Array,
    counter: Array,
    indices: Array,
    iteration: Array,
    *,
    counter_halflife: int = -1,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """How often each row was updated lately, and in which iteration last. Caffe2: RowWiseCounter.

    The outputs are the last iteration of each row, and the count: an update counts 1, and half of
    that after `counter_halflife` iterations.

    Args:
        counter_halflife: See above; without one, nothing is counted.

    Raises:
        IndexError: There is no such row.
        ValueError: There is not one count for each row, or the iteration is not a single number.
    """
    if previous.size != counter.size:
        raise ValueError(
            f"RowWiseCounter: the last iterations are {previous.shape}, the counts {counter.shape}"
        )
    which = positions(indices, previous.size).reshape(-1)
    last, count = tables(outs, previous, counter)
    at = int(number(iteration, "the iteration"))
    if counter_halflife > 0 and which.size:
        _count(last.reshape(-1), count.reshape(-1), which, at, counter_halflife)
    return last, count


def _count(last: Array, count: Array, indices: Array, at: int, halflife: int) -> Any:
    which, times = np.unique(indices, return_counts=True)
    passed = np.maximum(at - last[which], 0)
    # What follows the first of several updates in an iteration does not decay.
    count[which] = times + 0.5 ** (passed / halflife) * count[which]
    last[which] = np.maximum(at, last[which])
