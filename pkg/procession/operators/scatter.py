"""Rows, or single elements, of a tensor written by number.

Numbers are checked: one that a tensor does not have is an IndexError. What Caffe2 has write over
its input returns the changed tensor; name the output after the input.
"""

from __future__ import annotations

import math

import numpy as np

from procession.operators.arrays import Array, number, numbers
from procession.operators.indexing import positions, which_axis
from procession.operators.registry import operator
from procession.operators.rows import add_rows


def _target(x: Array, out: Array | None, *others: Array) -> tuple[Array, tuple[Array, ...]]:
    """A copy of X to change, in `out` if there is one, and what else must stay as it is."""
    if out is None:
        return np.array(x, order="C"), others
    kept = tuple(each.copy() if np.may_share_memory(each, out) else each for each in others)
    np.copyto(out, x)
    return out, kept


@operator("ScatterAssign")
def scatter_assign(
    data: Array, indices: Array, slices: Array, *, out: Array | None = None
) -> Array:
    """The data with rows replaced: row `indices[i]` by slice i. Caffe2: ScatterAssign.

    Where an index occurs more than once, the last slice counts.

    Raises:
        IndexError: There is no such row.
        TypeError: The slices are of a kind that the data cannot hold.
        ValueError: A slice has not the shape of a row.
    """
    wanted = indices.shape + data.shape[1:]
    if not np.can_cast(slices.dtype, data.dtype, "same_kind"):
        raise TypeError(f"ScatterAssign: the slices are {slices.dtype}, the data is {data.dtype}")
    if slices.shape != wanted or not data.ndim:
        raise ValueError(f"ScatterAssign: the slices are {slices.shape}, and should be {wanted}")
    chosen = positions(indices, data.shape[0])
    out, (chosen, slices) = _target(data, out, chosen, slices)
    out[chosen] = slices
    return out


@operator("ScatterWeightedSum")
def scatter_weighted_sum(
    x: Array,
    weight: Array,
    indices: Array,
    first: Array,
    first_weight: Array,
    *others: Array,
    out: Array | None = None,
) -> Array:
    """X with weighted slices added to rows of it. Caffe2: ScatterWeightedSum.

    The inputs are X, its weight, the indices, and any number of pairs of slices and their
    weight. Row `indices[i]` becomes the row times the weight of X, plus slice i of every pair
    times its weight; where an index occurs more than once, so does all of this.

    Raises:
        IndexError: There is no such row.
        ValueError: Slices have another shape than the rows, or lack their weight.
    """
    numbers("ScatterWeightedSum", x, first, *others)
    if not x.ndim:
        raise ValueError("ScatterWeightedSum: X has no rows, it is of shape ()")
    if len(others) % 2:
        raise ValueError("ScatterWeightedSum: the last slices have no weight")
    chosen = positions(indices, x.shape[0]).reshape(-1)
    own = number(weight, "weight 0")
    terms = []
    rows = (chosen.size, *x.shape[1:])
    pairs = (first, first_weight, *others)
    for which, (slices, factor) in enumerate(zip(pairs[::2], pairs[1::2], strict=True), 1):
        if slices.size != math.prod(rows):
            raise ValueError(
                f"ScatterWeightedSum: slices {which} are {slices.shape}, for {chosen.size} rows "
                f"of X {x.shape}"
            )
        scaled = slices * x.dtype.type(number(factor, f"weight {which}"))
        terms.append(scaled.reshape(rows).astype(x.dtype, copy=False))
    result, (chosen,) = _target(x, out, chosen)
    if own != 1:
        np.multiply.at(result, chosen, x.dtype.type(own))
    for scaled in terms:
        add_rows(result, chosen, scaled)
    return result


@operator("Scatter")
def scatter(data: Array, indices: Array, updates: Array, *, axis: int = 1) -> Array:
    """The data with single elements replaced by those of the updates. Caffe2: Scatter.

    Along `axis` an element goes where the indices say, in all other dimensions it stays where
    it is in the updates.

    Raises:
        IndexError: An index is out of bounds.
        ValueError: The shapes do not fit.
    """
    axis = which_axis(axis, data.shape)
    fits = indices.ndim == data.ndim and all(
        each == axis or one <= other
        for each, (one, other) in enumerate(zip(indices.shape, data.shape, strict=True))
    )
    if not np.can_cast(updates.dtype, data.dtype, "same_kind"):
        raise TypeError(f"Scatter: the updates are {updates.dtype}, the data is {data.dtype}")
    if indices.shape != updates.shape or not fits:
        raise ValueError(
            f"Scatter: the indices {indices.shape}, the updates {updates.shape} and the data "
            f"{data.shape} do not fit together"
        )
    grids: list[Array] = list(np.indices(indices.shape, sparse=True))
    grids[axis] = positions(indices, data.shape[axis])
    result = np.array(data, order="C")
    result[tuple(grids)] = updates
    return result
