"""Operators that compute nothing: they stop gradients, or show what passes by."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from procession.operators.arithmetic import copy_
from procession.operators.arrays import Array
from procession.operators.registry import STOPS, Context, operator

LIMIT = 1000
"""How many values Print shows unless it is told."""


@operator("StopGradient", gradient=STOPS)
def stop_gradient(x: Any, *, out: Array | None = None) -> Any:
    """A copy of any blob, through which no gradient flows back. Caffe2: StopGradient."""
    return copy_(x, out=out)


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def show(name: str, value: Any, limit: int = LIMIT) -> str:
    """One line about a blob: a string as it is, a tensor as `NAME dtype(shape): values`."""
    if isinstance(value, (str, bytes)):
        return _text(value)
    if not isinstance(value, (np.ndarray, np.generic)):
        return f"{name} {type(value).__name__}: {value!r}"
    array = np.asarray(value)
    if array.ndim == 0 and isinstance(array[()], (str, bytes)):
        return _text(array[()])
    shown = " ".join(_text(each) for each in array.flat[:limit])
    more = f" ... ({array.size} in all)" if array.size > limit else ""
    return f"{name} {array.dtype}{array.shape}: {shown}{more}".rstrip()


@operator("Print", outputs=0, gradient=STOPS)
def print_(
    x: Any, *, to_file: int = 0, limit: int = LIMIT, every_n: int = 1, context: Context
) -> None:
    """Print a blob to the standard output, as one line. Caffe2: Print.

    A string is printed as it is. A tensor is printed as `NAME dtype(shape): v1 v2 v3`, in
    row-major order.

    Args:
        to_file: 1 to write to the file NAME.log in the working directory instead. The first
            line starts the file anew. A "/" in the name becomes "_".
        limit: How many values to show at most; 0 for the default.
        every_n: Print at the first run and then at every n-th one.

    Raises:
        ValueError: `every_n` is not positive, or `limit` is negative.
    """
    if every_n < 1 or limit < 0:
        raise ValueError(f"Print: every_n={every_n} must be positive, limit={limit} not negative")
    runs = context.state.get("runs", 0)
    context.state["runs"] = runs + 1
    if runs % every_n:
        return
    name = context.inputs[0]
    # One write: whatever else prints at the same time does not get in between.
    line = show(name, x, limit or LIMIT) + "\n"
    if not to_file:
        sys.stdout.write(line)
        return
    with open(f"{name.replace('/', '_')}.log", "a" if runs else "w", encoding="utf-8") as file:
        file.write(line)
