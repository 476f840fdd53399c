"""Updates of parameters as a few passes over pieces that stay in the cache.

An update reads a parameter, its gradient and some state, and writes most of them again. NumPy
needs several passes for that, and each over all of a large tensor would be one through main memory:
so a step is a function of vectors that says what is done to one piece, and `by_blocks` calls it for
piece after piece. `by_rows` does the same for the rows of a table that a sparse gradient names.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np

from procession.operators.arrays import Array, Outs
from procession.operators.indexing import positions

BLOCK = 64 * 1024
"""Elements in a piece: a few of them fit into the second level of a cache, as float32."""

SMALL = 4 * 1024
"""Up to so many elements, new memory costs less than kept memory cut to size."""

Step = Callable[..., Any]
"""Called with the constants, the inputs, the results, and the scratch, as positional arguments.

All but the constants are arrays of one shape. An input may be the same memory as the result that
it becomes. Scratch may be None: as the third argument of a ufunc it stands for a new array.
"""


class _Kept(threading.local):
    """Scratch memory that outlives a call, for each thread its own."""

    def __init__(self) -> None:
        self.vectors: dict[str, list[Array]] = {}


_KEPT = _Kept()


def _scratch(dtype: np.dtype[Any], count: int) -> list[Array]:
    vectors = _KEPT.vectors.setdefault(dtype.char, [])
    while len(vectors) < count:
        vectors.append(np.empty(BLOCK, dtype))
    return vectors[:count]


def by_blocks(
    step: Step,
    constants: Sequence[Any],
    inputs: Sequence[Array],
    results: Sequence[Array],
    scratch: int,
) -> None:
    """Run a step on tensors of one size and dtype, piece by piece.

    Args:
        step: What is done to a piece.
        constants: What it is given first.
        inputs: Tensors that it reads.
        results: Tensors that it writes, C-contiguous.
        scratch: How many vectors it needs besides.
    """
    size = results[0].size
    if size <= SMALL and results[0].ndim:
        step(*constants, *inputs, *results, *(None,) * scratch)
        return
    spare = _scratch(results[0].dtype, scratch)
    vectors = [each if each.ndim == 1 else each.reshape(-1) for each in (*inputs, *results)]
    if size <= BLOCK:
        step(*constants, *vectors, *[each[:size] for each in spare])
        return
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        pieces = [each[start:end] for each in vectors]
        step(*constants, *pieces, *[each[: end - start] for each in spare])


def _once(indices: Array) -> Iterator[Any]:
    """Selections of all places, in order, in none of which an index occurs twice."""
    # To sort numbers takes a tenth of the time that it takes to find their order.
    ordered = np.sort(indices)
    new = np.ones(indices.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    if new.all():
        yield slice(None)
        return
    order = np.argsort(indices, kind="stable")
    starts = np.flatnonzero(new)
    place = np.arange(indices.size)
    rank = place - np.repeat(starts, np.diff(starts, append=indices.size))
    by_rank = order[np.argsort(rank, kind="stable")]
    yield from np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])


def by_rows(
    update: Callable[..., Array | None],
    tables: Sequence[Array],
    indices: Array,
    gradients: Array,
    changes: Array | None = None,
) -> None:
    """Update the rows that indices name, one after the other where an index occurs again.

    Args:
        update: Called with the gradients of some rows, then those rows of each table, which it
            changes. It may return an array with a row for each of them, for `changes`.
        tables: Tensors of as many rows, C-contiguous, of any shape.
        indices: For each row of the gradients, the number of its row.
        gradients: The gradients, as a matrix.
        changes: A matrix for what `update` returns.
    """
    if not gradients.size:
        return
    rows = [each.reshape(each.shape[0], math.prod(each.shape[1:])) for each in tables]
    # A row as one opaque item: that is put in its place at once.
    kinds = [np.dtype((np.void, each.shape[1] * each.itemsize)) for each in rows]
    items = [each.view(kind).reshape(-1) for each, kind in zip(rows, kinds, strict=True)]
    most = max(1, BLOCK // max(1, gradients.shape[1]))
    for places in _once(indices):
        numbers, chosen = indices[places], gradients[places]
        for start in range(0, numbers.size, most):
            part = slice(start, start + most)
            which = numbers[part]
            pieces = [np.take(each, which, axis=0) for each in rows]
            change = update(chosen[part], *pieces)
            for item, piece in zip(items, pieces, strict=True):
                np.put(item, which, piece.view(item.dtype).reshape(-1))
            if changes is not None:
                if isinstance(places, slice):
                    changes[part] = change
                else:
                    changes[places[part]] = change


def results(outs: Outs, count: int, *like: Array) -> list[Array]:
    """What a kernel writes its results to: as `outs` has them, else new.

    Args:
        outs: What the kernel was given.
        count: How many outputs there are if it was given nothing.
        *like: For each output that there may be, a tensor of its shape and dtype.
    """
    if outs is None:
        outs = (None,) * count
    made = [out for out in outs if out is not None]
    if len(made) == len(outs):
        return made
    return [
        np.empty(model.shape, model.dtype) if out is None else out
        for model, out in zip(like, outs, strict=False)
    ]


def tables(outs: Outs, *like: Array) -> list[Array]:
    """`results` that hold the values of `like`, for a kernel that changes some rows of them."""
    made = results(outs, len(like), *like)
    for model, target in zip(like, made, strict=False):
        if not np.may_share_memory(model, target):
            np.copyto(target, model)
    return made


def alike(operator: str, names: str, *tensors: Array) -> None:
    """Refuse tensors that are not all of the shape and dtype of the first one.

    Args:
        operator: Who asks.
        names: What the tensors are, with commas between.

    Raises:
        ValueError: Their shapes differ.
        TypeError: Their dtypes do, or are not floating-point ones.
    """
    shape, dtype = tensors[0].shape, tensors[0].dtype
    for each in tensors:
        if each.shape != shape or each.dtype != dtype:
            break
    else:
        if dtype.kind == "f":
            return
    called = [name.strip() for name in names.split(",")]
    said = ", ".join(
        f"the {name} is {each.dtype} of shape {each.shape}"
        for name, each in zip(called, tensors, strict=True)
    )
    if any(each.shape != shape for each in tensors):
        raise ValueError(f"{operator}: the shapes must be the same, but {said}")
    raise TypeError(
        f"{operator}: the dtypes must be the same, of floating-point numbers, but {said}"
    )


def sparse_rows(
    operator: str, parameter: Array, indices: Array, gradient: Array
) -> tuple[Array, Array]:
    """The indices as a vector and the gradient as a matrix with a row for each of them.

    Raises:
        IndexError: The parameter has no such row.
        TypeError: The indices are no integers, or the gradient has another dtype.
        ValueError: The parameter has no rows, or the gradient not one of their shape for each
            index.
    """
    if not parameter.ndim:
        raise ValueError(f"{operator}: the parameter has no rows, it is of shape ()")
    alike(operator, "parameter", parameter)
    width = math.prod(parameter.shape[1:])
    rows = gradient.shape[indices.ndim :]
    fits = gradient.size == indices.size * width
    if not fits or math.prod(rows) != width:
        raise ValueError(
            f"{operator}: the gradient is {gradient.shape}, but there are indices "
            f"{indices.shape} of rows of a parameter {parameter.shape}"
        )
    if gradient.dtype != parameter.dtype:
        raise TypeError(
            f"{operator}: the gradient is {gradient.dtype}, the parameter {parameter.dtype}"
        )
    chosen = positions(indices, parameter.shape[0]).reshape(-1)
    return chosen, gradient.reshape(chosen.size, width)


@lru_cache(maxsize=256)
def constants(dtype: np.dtype[Any], *values: float) -> tuple[Array, ...]:
    """Numbers in that dtype, as arrays of shape (): what NumPy multiplies with fastest."""
    made = tuple(np.array(value, dtype) for value in values)
    for each in made:
        each.flags.writeable = False
    return made


def scalar(operator: str, name: str, value: Array, dtype: np.dtype[Any]) -> Array:
    """The one number in an input, in that dtype, as an array of shape ().

    Raises:
        ValueError: It is not one number.
    """
    if value.size != 1:
        raise ValueError(
            f"{operator}: the {name} must be a single number, not of shape {value.shape}"
        )
    if value.dtype != dtype:
        value = value.astype(dtype)
    return cast(Array, value.reshape(()))
