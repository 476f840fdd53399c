"""What NumPy does not do as fast as it could: products of two vectors, and sums with multiples.

To add a multiple of one tensor to another, NumPy makes the multiple first, and adds it in a second
pass through memory. Most BLAS libraries have a function for both at once. It is asked of the very
library that NumPy has loaded. Where that has no such function, or it is not found, NumPy does it.

There is another one, axpy, that OpenBLAS runs in several threads, and whose last bits depend on how
many there are. With this one parameters stay equal on nodes that have different numbers of them.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from procession.operators.arrays import Array

LEAST = 64
"""Fewer elements are not worth the call."""
_WIDE = 512
"""From so many columns on, and so many rows, `outer` has NumPy write each row by itself."""
_BUFFER = 2048
"""Elements. With its usual buffers of 8192, NumPy copies rows to have more of them at once."""
_mine = threading.local()
_BUFFERS_ROWS = np.lib.NumpyVersion(np.__version__) >= "2.3.0"
"""Whether it keeps from that when buffers are small; before, its BLAS was faster in any case."""
_PATTERNS = (
    # What the function is called, and the integer that it counts with. Wheels of NumPy have a
    # library with a prefix, to live beside others.
    ("scipy_cblas_{}axpby64_", ctypes.c_int64),
    ("cblas_{}axpby64_", ctypes.c_int64),
    ("scipy_cblas_{}axpby", ctypes.c_int),
    ("cblas_{}axpby", ctypes.c_int),
)
_KINDS = {"f": ("s", ctypes.c_float), "d": ("d", ctypes.c_double)}


@lru_cache(maxsize=8)
def _axpby(char: str) -> Callable[..., Any] | None:
    """The function for a dtype; None if there is none, or it does not do what it should."""
    if char not in _KINDS:
        return None
    letter, number = _KINDS[char]
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        try:
            # Found through what is linked with it, whatever that is called and wherever it lies.
            library = ctypes.CDLL(str(import_module(name).__file__))
            break
        except (ImportError, OSError):
            continue
    else:
        return None
    for pattern, integer in _PATTERNS:
        function = getattr(library, pattern.format(letter), None)
        if function is not None:
            function.restype = None
            pointer = ctypes.c_void_p
            x, y = [number, pointer, integer], [number, pointer, integer]
            function.argtypes = [integer, *x, *y]
            return function if _right(function, np.dtype(char)) else None
    return None


def _right(function: Callable[..., Any], dtype: np.dtype[Any]) -> bool:
    x, y = np.arange(5, dtype=dtype), np.arange(5, dtype=dtype)
    function(4, 2.0, _address(x), 1, 1.0, _address(y), 1)
    return bool((y == np.array([0, 3, 6, 9, 4], dtype)).all())


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def outer(column: Array, row: Array, out: Array | None = None) -> Any:
    """The product of a column (M, 1) and a row (1, N): (M, N).

    A product of matrices would write the result twice, and np.matmul takes ten times as long.
    """
    if not is_wide(column.size, row.size):
        return np.dot(column, row, out)
    return outer_of_wide(column, row, out)


def is_wide(rows: int, columns: int) -> bool:
    """Whether a product of two vectors is one for `outer_of_wide`, and NumPy is fit for it."""
    return _BUFFERS_ROWS and columns >= _WIDE and rows >= _WIDE // 4


def outer_of_wide(column: Array, row: Array, out: Array | None = None) -> Any:
    """What `outer` does if it `is_wide`."""
    context = getattr(_mine, "context", None)
    if context is None:
        # Of a thread. It is quicker to go into than to change the present one and change it back.
        context = _mine.context = contextvars.Context()
        context.run(np.setbufsize, _BUFFER)
        # No product of matrices complains of numbers.
        context.run(partial(np.seterr, all="ignore"))
    return context.run(np.multiply, column, row, out)


def adder(size: int, dtype: np.dtype[Any]) -> Callable[[Array, Array, float], bool] | None:
    """As `add_multiple` with total and source the same, for C-contiguous tensors of that size.

    It keeps in mind where they lie, and so takes a third of the time of what it calls for little.
    None if there is no such function, or it would not pay.
    """
    function: Any = _axpby(dtype.char) if size >= LEAST else None
    if function is None:
        return None
    integer, number = function.argtypes[:2]
    count, stride, one = integer(size), integer(1), number(1)
    # Replaced as one, for threads that use it at once.
    known: tuple[Any, Any, Any, Any] = (_nothing, None, _nothing, None)

    def add(total: Array, term: Array, factor: float) -> bool:
        nonlocal known
        if not factor:
            # Its answer for an infinite number would be another than NumPy's.
            return False
        first, here, second, there = known
        if first() is not total or second() is not term:
            if abs(_address(total) - _address(term)) < total.nbytes:
                return False
            here, there = ctypes.c_void_p(_address(total)), ctypes.c_void_p(_address(term))
            known = weakref.ref(total), here, weakref.ref(term), there
        function(count, factor, there, stride, one, here, stride)
        return True

    return add


def _nothing() -> None:
    """A reference to no array."""


def add_multiple(total: Array, term: Array, factor: float, source: Array) -> bool:
    """Make `total` the sum of `source` and `factor` times `term`, if that can be done in one pass.

    It can for large C-contiguous tensors of one shape, of float32 or float64, if `source` is the
    memory of `total`, and `term` is not.

    Returns:
        Whether it was done; otherwise nothing was.
    """
    dtype = total.dtype
    if total.size < LEAST or dtype is not term.dtype or dtype is not source.dtype or not factor:
        return False
    if not (total.flags.c_contiguous and term.flags.c_contiguous and source.flags.c_contiguous):
        return False
    function = _axpby(dtype.char)
    if function is None:
        return False
    here, there = _address(total), _address(term)
    if _address(source) != here or abs(here - there) < total.nbytes:
        return False
    function(total.size, factor, there, 1, 1.0, here, 1)
    return True
