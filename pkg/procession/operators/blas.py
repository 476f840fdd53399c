"""What NumPy's BLAS can do and NumPy does not offer: add a multiple of one tensor to another.

NumPy makes the multiple first, and adds it in a second pass through memory. Most BLAS libraries
have a function for both at once. It is asked of the very library that NumPy has loaded. Where that
has no such function, or it is not found, NumPy does it.

There is another one, axpy, that OpenBLAS runs in several threads, and whose last bits depend on how
many there are. With this one parameters stay equal on nodes that have different numbers of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from procession.operators.arrays import Array

LEAST = 8192
"""Fewer elements are not worth the call."""
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


def add_multiple(total: Array, term: Array, factor: float, source: Array) -> bool:
    """Make `total` the sum of `source` and `factor` times `term`, if that can be done in one pass.

    It can for large C-contiguous tensors of one shape, of float32 or float64, if `source` is the
    memory of `total`, and `term` is not.

    Returns:
        Whether it was done; otherwise nothing was.
    """
    dtype = total.dtype
    if total.size < LEAST or dtype is not term.dtype or dtype is not source.dtype:
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
