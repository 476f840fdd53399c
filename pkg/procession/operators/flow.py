"""Operators that compute nothing: they stop gradients or runs, show, ask, make and free blobs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from procession.operators.arithmetic import copy_
from procession.operators.arrays import Array
from procession.operators.registry import STOPS, WRITTEN, Context, emit, operator

LIMIT = 1000
"""How many values Print shows unless it is told."""


@operator("StopGradient", gradient=STOPS)
def stop_gradient(x: Any, *, out: Array | None = None) -> Any:
    """A copy of any blob, through which no gradient flows back. Caffe2: StopGradient."""
    return copy_(x, out=out)


@operator("ZeroGradient", outputs=0, gradient=[emit("ConstantFill", "~I0", "GI0", value=0.0)])
def zero_gradient(x: Any) -> None:
    """Nothing; but X has a gradient then, of zeros if of nothing else. Caffe2: ZeroGradient."""


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


@operator("Summarize", outputs=(0, 1), gradient=STOPS)
def summarize(x: Array, *, to_file: int = 0, context: Context) -> Any:
    """The least and the largest number of X, their mean, and their standard deviation.

    The output, if there is one, is a vector of these four. The deviation is that of a sample, and
    0 of one number. Caffe2: Summarize.

    Args:
        to_file: 1 to write them to the file NAME.summary in the working directory as well, a line
            for each run. The first line starts the file anew. A "/" in the name becomes "_".

    Raises:
        TypeError: X does not hold numbers.
        ValueError: X is empty.
    """
    if not isinstance(x, (np.ndarray, np.generic)) or x.dtype.kind not in "biuf":
        raise TypeError(f"Summarize: X holds numbers, not {getattr(x, 'dtype', type(x).__name__)}")
    if not x.size:
        raise ValueError("Summarize: X is empty")
    wide = np.asarray(x, np.float64)
    deviation = wide.std(ddof=1) if x.size > 1 else 0.0
    told = np.array([wide.min(), wide.max(), wide.mean(), deviation])
    if to_file:
        runs = context.state.get("runs", 0)
        context.state["runs"] = runs + 1
        name = context.inputs[0].replace("/", "_")
        with open(f"{name}.summary", "a" if runs else "w", encoding="utf-8") as file:
            file.write(" ".join(f"{number:g}" for number in told) + "\n")
    if not context.outputs:
        return None
    return told.astype(x.dtype if x.dtype.kind == "f" else np.float32)


def _empty(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size == 0


@operator("IsEmpty")
def is_empty(x: Any) -> Any:
    """Whether X has no elements. Caffe2: IsEmpty."""
    return np.bool_(_empty(x))


@operator("HasElements")
def has_elements(first: Any, *others: Any) -> Any:
    """Whether any of the inputs has elements. Caffe2: HasElements."""
    return np.bool_(not all(_empty(x) for x in (first, *others)))


@operator("FeedBlob")
def feed_blob(*, value: str | bytes = "") -> Any:
    """A blob that holds a string, as it is. Caffe2: FeedBlob."""
    return value


@operator("Free", outputs=(1, None))
def free(first: Any, *others: Any, context: Context) -> Any:
    """Remove blobs from the workspace, and give their memory back. Caffe2: Free.

    Raises:
        ValueError: The outputs are not the inputs, one by one.
    """
    if context.inputs != context.outputs:
        raise ValueError(
            f"Free: the outputs must be the inputs, {list(context.inputs)}, "
            f"not {list(context.outputs)}"
        )
    for name in dict.fromkeys(context.inputs):
        context.workspace.remove_blob(name)
    return WRITTEN


@operator("GetAllBlobNames")
def get_all_blob_names(*, include_shared: bool = True, context: Context) -> Array:
    """The names of all blobs of the workspace, sorted. Caffe2: GetAllBlobNames.

    Args:
        include_shared: Those of its parents as well.
    """
    workspace = context.workspace
    found = workspace.names() if include_shared else sorted(workspace.own_names())
    names = np.empty(len(found), object)
    names[:] = found
    return names


@operator("Assert", outputs=0)
def assert_(x: Array, *, error_msg: str = "") -> None:
    """Fail unless all elements of X are true. Caffe2: Assert.

    Args:
        error_msg: What the error says.

    Raises:
        AssertionError: An element is false or 0.
    """
    if not np.all(x):
        wrong = int(np.asarray(x == 0).reshape(-1).argmax())
        raise AssertionError(error_msg or f"element {wrong} of the condition is false")


@operator("Fail", outputs=0)
def fail() -> None:
    """Fail. Caffe2: Fail.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError("an operator Fail was run")


@operator("ThrowException", outputs=0)
def throw_exception() -> None:
    """Raise an exception, as an operator with an error in it would. Caffe2: ThrowException.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError("an operator ThrowException was run")
