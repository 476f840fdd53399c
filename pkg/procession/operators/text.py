"""Strings: their beginnings and ends, and putting them together.

A tensor of strings is an array of objects, which are all `str` or all `bytes`; what is made of them
is of the same kind. NumPy's arrays of strings with a fixed length will do as well, and one string
is a tensor of shape (). Arguments may be of either kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.registry import operator

String = str | bytes


def _strings(operator: str, x: Any) -> Array:
    array = np.asarray(x)
    if array.dtype.kind not in "OUS":
        raise TypeError(f"{operator} takes strings, not {array.dtype}")
    strings = array.astype(object)
    for each in strings.flat:
        if not isinstance(each, (str, bytes)):
            raise TypeError(f"{operator} takes strings, not a {type(each).__name__}: {each!r}")
    return np.asarray(strings)


def _like(text: Any, value: String) -> Any:
    """The text of an argument, as the kind of string that `value` is."""
    if isinstance(value, bytes):
        return text.encode() if isinstance(text, str) else text
    return text.decode() if isinstance(text, bytes) else text


def _map(x: Array, function: Callable[[Any], Any], dtype: Any) -> Array:
    result = np.empty(x.shape, dtype)
    flat = result.reshape(-1)
    for index, each in enumerate(x.flat):
        flat[index] = function(each)
    return result


def _size(operator: str, length: int) -> int:
    if length < 0:
        raise ValueError(f"{operator}: length={length} is negative")
    return length


@operator("StringPrefix")
def string_prefix(x: Any, *, length: int = 3) -> Array:
    """The first characters of each string (of bytes: the first bytes). Caffe2: StringPrefix.

    Args:
        length: How many; a shorter string stays as it is.

    Raises:
        TypeError: X does not hold strings.
        ValueError: `length` is negative.
    """
    size = _size("StringPrefix", length)
    return _map(_strings("StringPrefix", x), lambda each: each[:size], object)


@operator("StringSuffix")
def string_suffix(x: Any, *, length: int = 3) -> Array:
    """The last characters of each string (of bytes: the last bytes). Caffe2: StringSuffix.

    Args:
        length: How many; a shorter string stays as it is.

    Raises:
        TypeError: X does not hold strings.
        ValueError: `length` is negative.
    """
    size = _size("StringSuffix", length)
    return _map(_strings("StringSuffix", x), lambda each: each[max(len(each) - size, 0) :], object)


@operator("StringStartsWith")
def string_starts_with(x: Any, *, prefix: str | bytes = "") -> Array:
    """Whether each string begins with `prefix`. Caffe2: StringStartsWith.

    Raises:
        TypeError: X does not hold strings.
    """
    strings = _strings("StringStartsWith", x)
    return _map(strings, lambda each: each.startswith(_like(prefix, each)), np.bool_)


@operator("StringEndsWith")
def string_ends_with(x: Any, *, suffix: str | bytes = "") -> Array:
    """Whether each string ends with `suffix`. Caffe2: StringEndsWith.

    Raises:
        TypeError: X does not hold strings.
    """
    strings = _strings("StringEndsWith", x)
    return _map(strings, lambda each: each.endswith(_like(suffix, each)), np.bool_)


@operator("StringEquals")
def string_equals(x: Any, *, text: str | bytes = "") -> Array:
    """Whether each string is `text`. Caffe2: StringEquals.

    Raises:
        TypeError: X does not hold strings.
    """
    strings = _strings("StringEquals", x)
    return _map(strings, lambda each: each == _like(text, each), np.bool_)


def _number(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:g}"
    return str(int(value))


@operator("StringJoin")
def string_join(x: Any, *, delimiter: str | bytes = ",", axis: int = 0) -> Array:
    """One string for each row, with `delimiter` behind every element. Caffe2: StringJoin.

    Numbers are written out, floats with six digits. What is written out is `str`.

    Args:
        delimiter: What stands behind every element, the last one included.
        axis: 1 to join columns instead.

    Raises:
        ValueError: X is neither a vector nor a matrix, or has no such dimension.
    """
    array = np.asarray(x)
    if array.dtype.kind in "OUS":
        array = _strings("StringJoin", array)
    else:
        array = _map(array, _number, object)
    if array.ndim not in (1, 2) or not 0 <= axis < array.ndim:
        raise ValueError(f"StringJoin: axis={axis} for X {array.shape}: a vector or a matrix")
    rows = array.reshape(-1, 1) if array.ndim == 1 else array if axis == 0 else array.T
    joined = np.empty(rows.shape[0], object)
    for index, row in enumerate(rows):
        empty: Any = b"" if row.size and isinstance(row[0], bytes) else ""
        joined[index] = empty.join(each + _like(delimiter, each) for each in row)
    return joined
