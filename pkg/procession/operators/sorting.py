"""Order and sameness: the largest elements, unique ones, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, number
from procession.operators.lengths import checked_lengths
from procession.operators.registry import Context, Rules, emit, operator


def _top_k_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [emit("TopKGradient", "GO0 O1 I0", "GI0")]


def _largest(rows: Array, count: int) -> Array:
    """Where in each row its largest elements are, the largest first; of equal ones the first."""
    length = rows.shape[-1]
    if 4 * count < length:
        # Only what is largest is sorted, unless it is not clear which of equal ones that is.
        places = np.sort(np.argpartition(rows, length - count)[..., length - count :])
        values = np.take_along_axis(rows, places, axis=-1)
        least = values.min(axis=-1, keepdims=True)
        if np.count_nonzero(rows == least) == np.count_nonzero(values == least) > 0:
            order = _largest(values, count)
            return np.asarray(np.take_along_axis(places, order, axis=-1), np.int64)
    # A stable sort from behind: of equal elements the first one ends up last, and is taken first.
    order = length - 1 - np.argsort(rows[..., ::-1], axis=-1, kind="stable")
    return np.asarray(order[..., ::-1][..., :count], np.int64)


@operator("TopK", outputs=(2, 3), gradient=_top_k_rules)
def top_k(
    x: Array, k_: Array | None = None, *, k: int = -1, axis: int = -1, context: Context
) -> tuple[Array, ...]:
    """The k largest elements along a dimension, and where they are. Caffe2: TopK.

    Of equal elements the first one comes first. The second output has their places along `axis`,
    the third, if there is one, their places in X as a vector; both are int64. Where X has less
    than k, the values are 0 and the places -1.

    Args:
        k: How many, unless a second input says so.
        axis: The dimension, from the end if negative.

    Raises:
        ValueError: k is not positive, or X has no such dimension.
    """
    count = k if k_ is None else int(number(k_, "k"))
    if count < 1 or not -x.ndim <= axis < x.ndim:
        raise ValueError(f"TopK: k={count} and axis={axis} for X {x.shape}")
    rows = np.moveaxis(x, axis, -1)
    length = rows.shape[-1]
    places = _largest(rows, min(count, length))
    values = np.take_along_axis(rows, places, axis=-1)
    flat = np.moveaxis(np.arange(x.size).reshape(x.shape), axis, -1)
    everywhere = np.take_along_axis(flat, places, axis=-1).astype(np.int64)
    if count > length:
        rest = [(0, 0)] * (x.ndim - 1) + [(0, count - length)]
        values = np.pad(values, rest)
        places = np.pad(places, rest, constant_values=-1)
        everywhere = np.pad(everywhere, rest, constant_values=-1)
    values, places, everywhere = (
        np.array(np.moveaxis(each, -1, axis), order="C") for each in (values, places, everywhere)
    )
    return (values, places, everywhere.reshape(-1))[: len(context.outputs)]


@operator("TopKGradient")
def top_k_gradient(dy: Array, places: Array, x: Array, *, axis: int = -1) -> Array:
    """The gradient of X: dY where the largest elements were, else 0. Caffe2: TopKGradient."""
    gradient = np.zeros(x.shape, dy.dtype)
    there = min(x.shape[axis], places.shape[axis])
    first = tuple(slice(there) if each == axis % x.ndim else slice(None) for each in range(x.ndim))
    np.put_along_axis(gradient, places[first], dy[first], axis)
    return gradient


def _lengths_top_k_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [emit("LengthsTopKGradient", "I1 O1 GO0", "GI0")]


@operator("LengthsTopK", outputs=2, gradient=_lengths_top_k_rules)
def lengths_top_k(data: Array, lengths: Array, *, k: int = -1) -> tuple[Array, Array]:
    """The k largest elements of each segment, and their places in it (int32).

    Caffe2: LengthsTopK. Where a segment has less than k, the values are 0 and the places -1.

    Raises:
        ValueError: k is not positive, or the lengths do not add up to the number of elements.
    """
    if k < 1 or data.ndim != 1:
        raise ValueError(f"LengthsTopK: k={k} for data {data.shape}: at least 1, and a vector")
    each = checked_lengths(lengths, data.size)
    values = np.zeros((each.size, k), data.dtype)
    places = np.full((each.size, k), -1, np.int32)
    segment = np.repeat(np.arange(each.size), each)
    order = np.lexsort((np.arange(data.size)[::-1], data))[::-1]
    order = order[np.argsort(segment[order], kind="stable")]
    starts = np.repeat(np.cumsum(each) - each, each)
    rank = np.arange(data.size) - starts
    kept = rank < k
    values[segment[kept], rank[kept]] = data[order[kept]]
    places[segment[kept], rank[kept]] = (order - starts)[kept]
    return values, places


@operator("LengthsTopKGradient")
def lengths_top_k_gradient(lengths: Array, places: Array, dy: Array, *, k: int = -1) -> Array:
    """The gradient of the data: dY where the largest elements were, else 0.

    Caffe2: LengthsTopKGradient.
    """
    each = lengths.astype(np.int64)
    gradient = np.zeros(int(each.sum()), dy.dtype)
    there = places >= 0
    starts = (np.cumsum(each) - each)[:, np.newaxis] + places
    gradient[starts[there]] = dy[there]
    return gradient


@operator("Unique", outputs=(1, 2))
def unique(x: Array, *, context: Context) -> Any:
    """The different elements of a vector, sorted. Caffe2: Unique.

    The second output says for each element where it is among them, int32.

    Raises:
        ValueError: X is no vector.
    """
    if x.ndim != 1:
        raise ValueError(f"Unique: X is {x.shape}, and should be a vector")
    if len(context.outputs) == 1:
        return np.unique(x)
    values, places = np.unique(x, return_inverse=True)
    return values, places.reshape(x.shape).astype(np.int32)


@operator("Find")
def find(index: Array, query: Array, *, missing_value: int = -1) -> Array:
    """Where each element of the query is in the index; the last place if there are several.

    Caffe2: Find. The places are of the data type of the query.

    Args:
        missing_value: What stands for elements that are not there.

    Raises:
        TypeError: The inputs do not hold integers of one data type.
    """
    if index.dtype != query.dtype or index.dtype.kind not in "iu":
        raise TypeError(f"Find takes integers of one type, not {index.dtype} and {query.dtype}")
    flat = index.reshape(-1)
    if not flat.size:
        return np.full(query.shape, missing_value, query.dtype)
    order = np.argsort(flat, kind="stable")
    # The last of equal elements: one before where larger ones begin.
    place = order[np.maximum(np.searchsorted(flat, query, side="right", sorter=order) - 1, 0)]
    return np.where(flat[place] == query, place, missing_value).astype(query.dtype)


@operator("FindDuplicateElements")
def find_duplicate_elements(x: Array) -> Array:
    """The places of all elements of a vector that occurred before, int64.

    Caffe2: FindDuplicateElements.

    Raises:
        ValueError: X is no vector.
    """
    if x.ndim != 1:
        raise ValueError(f"FindDuplicateElements: X is {x.shape}, and should be a vector")
    _, first = np.unique(x, return_index=True)
    again = np.ones(x.size, np.bool_)
    again[first] = False
    return np.flatnonzero(again).astype(np.int64)
