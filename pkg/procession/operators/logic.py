"""Comparisons and logic: bools out. Nothing flows back through any of them.

They broadcast as the operators of `arithmetic` do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.arrays import Array, align
from procession.operators.registry import STOPS, operator


@operator("Not", gradient=STOPS)
def not_(x: Array, *, out: Array | None = None) -> Any:
    """True where X is false or 0. Caffe2: Not."""
    return np.logical_not(x, out=out)


@operator("EQ", gradient=STOPS)
def eq(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where A equals B; arguments and errors as for Add. Caffe2: EQ."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.equal(a, b, out=out)


@operator("NE", gradient=STOPS)
def ne(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where A does not equal B; arguments and errors as for Add. Caffe2: NE."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.not_equal(a, b, out=out)


@operator("LT", gradient=STOPS)
def lt(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where A is less than B; arguments and errors as for Add. Caffe2: LT."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.less(a, b, out=out)


@operator("LE", gradient=STOPS)
def le(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where A is B or less than B; arguments and errors as for Add. Caffe2: LE."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.less_equal(a, b, out=out)


@operator("GT", gradient=STOPS)
def gt(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where A is greater than B; arguments and errors as for Add. Caffe2: GT."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.greater(a, b, out=out)


@operator("GE", gradient=STOPS)
def ge(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where A is B or greater than B; arguments and errors as for Add. Caffe2: GE."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.greater_equal(a, b, out=out)


@operator("And", gradient=STOPS)
def and_(
    a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None
) -> Any:
    """True where both A and B are; arguments and errors as for Add. Caffe2: And."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.logical_and(a, b, out=out)


@operator("Or", gradient=STOPS)
def or_(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where A or B is, or both; arguments and errors as for Add. Caffe2: Or."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.logical_or(a, b, out=out)


@operator("Xor", gradient=STOPS)
def xor(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """True where one of A and B is, but not both; arguments and errors as for Add. Caffe2: Xor."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.logical_xor(a, b, out=out)
