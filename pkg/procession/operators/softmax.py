"""The two halves of a softmax: numbers less the largest of their row, and what becomes of those.

Between the two, a loss looks at what belongs to its label. Both keep memory from call to call, for
those who need them again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from procession.operators.arrays import Array

MANY = 32
"""From so many short rows on, their largest numbers are found faster the other way round."""
_LARGEST: Any = np.maximum.reduce
_SUM: Any = np.add.reduce


def shifting(count: int, classes: int, dtype: np.dtype[Any]) -> Callable[[Array, Array], object]:
    """What makes rows less their largest numbers, neither of which are none, of a matrix.

    The second argument is the result, and may be the first.
    """
    subtract, largest = np.subtract, np.empty(count, dtype)
    if count == 1:
        top = largest.reshape(())

        def shift_one(x: Array, made: Array) -> None:
            # Less work than a reduction.
            top.fill(x.item(x.argmax()))
            subtract(x, top, made)

        return shift_one
    tops = largest.reshape(count, 1)
    if not classes <= MANY <= count:

        def shift(x: Array, made: Array) -> None:
            _LARGEST(x, 1, None, largest)
            subtract(x, tops, made)

        return shift
    turned = np.empty((classes, count), dtype)

    def shift_many(x: Array, made: Array) -> None:
        turned[...] = x.T
        _LARGEST(turned, 0, None, largest)
        subtract(x, tops, made)

    return shift_many


def normalizing(count: int, classes: int, dtype: np.dtype[Any]) -> Callable[[Array], Array]:
    """What makes probabilities of what was shifted, in place, and returns what it divided by.

    That is a vector, whose memory is written again in the next call.
    """
    exp, divide, dot = np.exp, np.divide, np.dot
    # A product of a matrix and a vector is a faster sum of rows than a reduction.
    sums, ones = np.empty(count, dtype), np.ones(classes, dtype)
    if dtype.kind == "f" and dtype.itemsize < 4:
        # Of such numbers there is no fast product.
        sums = np.empty((count, 1), dtype)

        def normalize_short(made: Array) -> Array:
            exp(made, made)
            _SUM(made, 1, None, sums, True)
            divide(made, sums, made)
            return sums.reshape(count)

        return normalize_short
    # NumPy is quicker with a number than with a tensor that it has to broadcast.
    divisor = sums.reshape(()) if count == 1 else sums.reshape(count, 1)

    def normalize(made: Array) -> Array:
        dot(exp(made, made), ones, sums)
        divide(made, divisor, made)
        return sums

    return normalize
