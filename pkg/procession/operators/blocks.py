"""Updates of parameters as a few passes over pieces that stay in the cache.

An update reads a parameter, its gradient and some state, and writes most of them again. NumPy
needs several passes for that, and each over all of a large tensor would be one through main memory:
so a step is a function of vectors that says what is done to one piece, and `by_blocks` calls it for
piece after piece. `rows` does the same for the rows of a table that a sparse gradient names.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
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


_STEPS = 64
"""How many steps of a running mean are one product of matrices."""


@lru_cache(maxsize=64)
def _shares(dtype: np.dtype[Any], stays: float, rest: float) -> tuple[Array, Array]:
    """What part each value, and what was there before, has in a running mean after each step."""
    step = np.arange(_STEPS)
    since = step[:, np.newaxis] - step
    part = np.where(since >= 0, rest * stays ** np.maximum(since, 0), 0)
    return part.astype(dtype), (stays ** (step + 1.0))[:, np.newaxis].astype(dtype)


def running(values: Array, moment: Array, stays: float, rest: float) -> Array:
    """What a moment is after each of some values; the last is kept in it.

    Args:
        values: A row for each step.
        moment: What it was; written over.
        stays: How much of it stays in each step.
        rest: How much of the value is added.
    """
    part, old = _shares(values.dtype, stays, rest)
    made = np.empty_like(values)
    for start in range(0, len(values), _STEPS):
        some = values[start : start + _STEPS]
        after = np.matmul(part[: len(some), : len(some)], some, made[start : start + len(some)])
        after += old[: len(some)] * moment
        moment[...] = after[-1]
    return made


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
        TypeError: It is no number at all.
    """
    if value.size != 1:
        raise ValueError(
            f"{operator}: the {name} must be a single number, not of shape {value.shape}"
        )
    if value.dtype != dtype:
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{operator}: the {name} must be a number, not {value.dtype}")
        value = value.astype(dtype)
    return cast(Array, value.reshape(()))
