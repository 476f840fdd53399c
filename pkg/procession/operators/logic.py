"""Comparisons, logic, and choices by it. Nothing flows back through any of them.

They broadcast as the operators of `arithmetic` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, align, floats, promote, store, text
from procession.operators.datatype import numpy_dtype
from procession.operators.registry import REQUIRED, STOPS, described, operator

_BOOL = np.dtype(np.bool_)


def _check_bool(operator: str, *inputs: Any) -> None:
    for place, value in enumerate(inputs):
        kind = getattr(value, "dtype", type(value).__name__)
        if kind != _BOOL:
            raise TypeError(
                f"{operator} takes truth values (bool), and its input {place} is {kind}: compare "
                f"it with something first (NE with 0, say), or Cast it to bool"
            )


@operator("Not", ufunc=np.logical_not, gradient=STOPS)
def not_(x: Array, *, out: Array | None = None) -> Any:
    """True where X is false. Caffe2: Not.

    Raises:
        TypeError: X is not of bool.
    """
    if x.dtype is not _BOOL:
        _check_bool("Not", x)
    return np.logical_not(x, out=out)


def _declare(name: str, function: np.ufunc, text: str) -> None:
    """Make an operator of a NumPy function of two operands, which broadcast."""

    @operator(name, ufunc=function, gradient=STOPS)
    @described(name, f"{text} Caffe2: {name}.")
    def kernel(
        a: Array,
        b: Array,
        *,
        broadcast: int = 0,
        axis: int = -1,
        axis_str: str = "",
        order: str = "NCHW",
        out: Array | None = None,
    ) -> Any:
        if broadcast or a.dtype is not b.dtype:
            a, b = align(a, b, broadcast, axis, axis_str, order)
        return function(a, b, out=out)


_declare("EQ", np.equal, "True where A equals B; arguments and errors as for Add.")
_declare("NE", np.not_equal, "True where A does not equal B; arguments and errors as for Add.")
_declare("LT", np.less, "True where A is less than B; arguments and errors as for Add.")
_declare("LE", np.less_equal, "True where A is B or less than B; arguments and errors as for Add.")
_declare("GT", np.greater, "True where A is greater than B; arguments and errors as for Add.")
_declare(
    "GE", np.greater_equal, "True where A is B or greater than B; arguments and errors as for Add."
)


def _declare_logic(name: str, function: np.ufunc, text: str) -> None:
    """Make an operator of a NumPy function of two truth values."""
    raises = (
        "Raises:\n    TypeError: A or B is not of bool.\n"
        "    ValueError: The shapes do not fit together, see Add."
    )

    @operator(name, ufunc=function, gradient=STOPS)
    @described(name, f"{text} Caffe2: {name}.\n\n{raises}")
    def kernel(
        a: Array,
        b: Array,
        *,
        broadcast: int = 0,
        axis: int = -1,
        axis_str: str = "",
        order: str = "NCHW",
        out: Array | None = None,
    ) -> Any:
        if broadcast or a.dtype is not _BOOL or b.dtype is not _BOOL:
            _check_bool(name, a, b)
            a, b = align(a, b, broadcast, axis, axis_str, order)
        return function(a, b, out=out)


_declare_logic("And", np.logical_and, "True where both A and B are; arguments as for Add.")
_declare_logic("Or", np.logical_or, "True where A or B is, or both; arguments as for Add.")
_declare_logic(
    "Xor", np.logical_xor, "True where one of A and B is, but not both; arguments as for Add."
)

_declare(
    "BitwiseAnd",
    np.bitwise_and,
    "The bits that both A and B have; integers or bools, otherwise as Add.",
)
_declare(
    "BitwiseOr",
    np.bitwise_or,
    "The bits that A or B has, or both; integers or bools, otherwise as Add.",
)
_declare(
    "BitwiseXor",
    np.bitwise_xor,
    "The bits that one of A and B has; integers or bools, otherwise as Add.",
)


@operator("IsNaN", gradient=STOPS)
def is_nan(x: Array, *, out: Array | None = None) -> Array:
    """1 where X is NaN, else 0; uint8. Caffe2: IsNaN.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("IsNaN", x)
    return store(np.isnan(x).view(np.uint8), np.dtype(np.uint8), out)


@operator("IsMemberOf", gradient=STOPS)
def is_member_of(x: Array, *, value: Sequence[Any] = REQUIRED, dtype: Any = None) -> Array:
    """True where an element of X is one of the given values. Caffe2: IsMemberOf.

    Args:
        value: The values: integers, bools or strings, as X has them. A string and its UTF-8 are
            the same.
        dtype: The type of the values, where it is not that of X.

    Raises:
        TypeError: X holds floating-point numbers, which are hardly ever equal.
        ValueError: A value does not fit into the data type.
    """
    if x.dtype.kind not in "biuO":
        raise TypeError(f"IsMemberOf is for integers, bools and strings, not for {x.dtype}")
    if x.dtype.kind == "O":
        known = {text(each) for each in value}
        found = np.fromiter((text(each) in known for each in x.flat), np.bool_, x.size)
        return found.reshape(x.shape)
    given = np.asarray(value)
    values = given.astype(x.dtype if dtype is None else numpy_dtype(dtype))
    if not np.array_equal(given, values):
        raise ValueError(f"IsMemberOf: value={value!r} does not fit into {values.dtype}")
    return np.isin(x, values)


def _rows(condition: Array, like: Array) -> Array:
    """The condition with a dimension for each of the tensor's, to choose whole rows."""
    if condition.ndim != 1 or condition.shape != like.shape[:1]:
        raise ValueError(f"the condition is {condition.shape}, there are {like.shape[:1]} rows")
    return condition.reshape(condition.shape + (1,) * (like.ndim - 1))


def _choose(condition: Array, a: Array, b: Array) -> Array:
    if condition.dtype.kind != "b":
        raise TypeError(f"the condition holds {condition.dtype}, and bools are wanted")
    if a.shape != b.shape:
        raise ValueError(f"the choice is between {a.shape} and {b.shape}: they have one shape")
    a, b = promote(a, b)
    return np.where(condition, a, b)


@operator("Where")
def where(condition: Array, a: Array, b: Array, *, broadcast_on_rows: int = 0) -> Array:
    """A where the condition is true, else B; all of one shape. Caffe2: Where.

    Args:
        broadcast_on_rows: 1 for a condition with one bool per row of A and B.

    Raises:
        TypeError: The condition does not hold bools.
        ValueError: The shapes do not match.
    """
    if broadcast_on_rows:
        return _choose(_rows(condition, a), a, b)
    if condition.shape != a.shape:
        raise ValueError(
            f"the condition is {condition.shape}, the choice {a.shape}"
            " (broadcast_on_rows=1 chooses whole rows)"
        )
    return _choose(condition, a, b)


@operator("Conditional", gradient=STOPS)
def conditional(condition: Array, a: Array, b: Array) -> Array:
    """The row of A where the condition is true, else the row of B. Caffe2: Conditional.

    Raises:
        TypeError: The condition does not hold bools.
        ValueError: The condition does not have one bool per row, or A and B differ in shape.
    """
    return _choose(_rows(condition, a), a, b)
