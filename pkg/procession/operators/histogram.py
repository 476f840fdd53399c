"""Which of some ranges numbers are in, and how many there are in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from procession.operators.arrays import Array
from procession.operators.registry import REQUIRED, STOPS, Context, operator


@operator("Bucketize", gradient=STOPS)
def bucketize(x: Array, *, boundaries: Sequence[float] = REQUIRED) -> Array:
    """For each number how many of the boundaries are below it, int32. Caffe2: Bucketize.

    Args:
        boundaries: In ascending order. A number that is a boundary belongs to the range below it.

    Raises:
        ValueError: The boundaries are not in ascending order, or there is none.
    """
    edges = np.asarray(boundaries, x.dtype if x.dtype.kind == "f" else np.float64)
    if edges.ndim != 1 or not edges.size or (edges[1:] < edges[:-1]).any():
        raise ValueError(f"Bucketize: boundaries={list(boundaries)} are not in ascending order")
    return np.asarray(np.searchsorted(edges, x, side="left")).astype(np.int32)


@operator("AccumulateHistogram", outputs=2, gradient=STOPS)
def accumulate_histogram(
    x: Array,
    *,
    lower_bound: float = 0.0,
    upper_bound: float = 1.0,
    num_buckets: int = 1,
    context: Context,
) -> tuple[Array, Array]:
    """How many numbers there are in each of some ranges: in X, and in all X so far, int64.

    The results have `num_buckets` + 2 elements: the first is for what is below all ranges, the last
    for what is above. Caffe2: AccumulateHistogram.

    Args:
        lower_bound: Where the first range begins.
        upper_bound: Where the last one ends.
        num_buckets: How many ranges of the same length there are in between.

    Raises:
        ValueError: There is no range, or the bounds are not in ascending order.
    """
    if num_buckets < 1 or not lower_bound < upper_bound:
        raise ValueError(
            f"AccumulateHistogram: num_buckets={num_buckets} ranges from {lower_bound} to "
            f"{upper_bound}"
        )
    step = (upper_bound - lower_bound) / num_buckets
    places = np.floor((x.reshape(-1).astype(np.float64) - lower_bound) / step) + 1
    which = np.clip(places, 0, num_buckets + 1).astype(np.int64)
    counts = np.bincount(which, minlength=num_buckets + 2)
    total = context.state.get("total", 0) + counts
    context.state["total"] = total
    return counts, total.copy()
