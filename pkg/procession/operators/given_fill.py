"""Operators that make tensors of values which are given as an argument.

Their shape comes from the places that `fill` tells of. Nothing flows back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.datatype import numpy_dtype
from procession.operators.fill import fill_shape, typed
from procession.operators.registry import REQUIRED, STOPS, described, operator


def _given(
    x: Array | None,
    values: Any,
    dtype: Any,
    shape: Sequence[int],
    extra_shape: Sequence[int],
    input_as_shape: bool,
) -> Array:
    full = fill_shape(x, shape, extra_shape, input_as_shape)
    array = typed(values, numpy_dtype(dtype))
    if array.size != math.prod(full):
        raise ValueError(f"{array.size} values for the shape {full}, which has {math.prod(full)}")
    return array.reshape(full)


@operator("GivenTensorFill", constant=True, gradient=STOPS)
def given_tensor_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    dtype: Any = "float",
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The given `values`, in row-major order, as float32. Caffe2: GivenTensorFill.

    Args:
        values: A sequence or an array of numbers.
        dtype: Another data type than float32.
        shape: The shape, if there is no input.
        extra_shape: Appended to the shape of the input.
        input_as_shape: The input holds the shape.

    Raises:
        ValueError: More or fewer values than the shape has room for, a value that the data
            type cannot hold, or a shape that is given twice.
    """
    return _given(x, values, dtype, shape, extra_shape, input_as_shape)


def _declare(name: str, dtype: str, made: str) -> None:
    """Make an operator for one data type; `made` says in its text what it makes."""

    @operator(name, constant=True, gradient=STOPS)
    @described(name, f"The given {made}; otherwise as GivenTensorFill.\n\nCaffe2: {name}.")
    def kernel(
        x: Array | None = None,
        *,
        values: Any = REQUIRED,
        shape: Sequence[int] = (),
        extra_shape: Sequence[int] = (),
        input_as_shape: bool = False,
    ) -> Array:
        return _given(x, values, dtype, shape, extra_shape, input_as_shape)


_declare("GivenTensorDoubleFill", "double", "`values` as float64")
_declare("GivenTensorIntFill", "int32", "`values` as int32")
_declare("GivenTensorInt64Fill", "int64", "`values` as int64")
_declare("GivenTensorBoolFill", "bool", "`values` as bools")
_declare("GivenTensorStringFill", "string", "`values`, strings, in an array of objects")
_declare("GivenTensorInt16Fill", "int16", "`values` as int16")


@operator("GivenTensorByteStringToUInt8Fill", constant=True, gradient=STOPS)
def given_tensor_byte_string_to_uint8_fill(
    x: Array | None = None,
    *,
    values: Any = REQUIRED,
    shape: Sequence[int] = (),
    extra_shape: Sequence[int] = (),
    input_as_shape: bool = False,
) -> Array:
    """The bytes of the one given string as uint8; otherwise as GivenTensorFill.

    Caffe2: GivenTensorByteStringToUInt8Fill.

    Args:
        values: A list of one string (of which the UTF-8 is meant) or bytes, or that alone.
        shape: As for GivenTensorFill; so are the others.
        extra_shape: See `shape`.
        input_as_shape: See `shape`.

    Raises:
        ValueError: More or fewer bytes than the shape has room for, or not one string.
    """
    if isinstance(values, (str, bytes)):
        values = [values]
    if len(values) != 1:
        raise ValueError(f"one string is wanted, not {len(values)}")
    content = values[0].encode() if isinstance(values[0], str) else bytes(values[0])
    return _given(x, np.frombuffer(content, np.uint8), "uint8", shape, extra_shape, input_as_shape)
