"""Copies, and tensors in another shape: the same elements, otherwise arranged.

Caffe2's operators that move a blob between devices, or give its storage a second name, are
copies here: everything is on the CPU, and a blob's memory is its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from procession.operators.arithmetic import copy_
from procession.operators.arrays import Array, Outs, Shape, fits
from procession.operators.registry import REQUIRED, STOPS, Rules, alias, emit, operator


def reshaped(x: Array, shape: Shape, out: Array | None = None) -> Array:
    """A copy of X, its elements in row-major order, in another shape of the same size."""
    if out is None:
        return np.array(x, order="C").reshape(shape)
    np.copyto(out, x if x.shape == shape else x.reshape(shape))
    return out


def integers(values: Any, what: str) -> tuple[int, ...]:
    """The numbers of an argument or of an input that holds a shape, axes or lengths."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, not {array.dtype}")
    return tuple(int(value) for value in array.reshape(-1))


@operator("Alias", gradient=[alias("GO0", "GI0")])
def alias_(x: Any, *, out: Array | None = None) -> Any:
    """A copy of any blob: what is written to the one does not show in the other.

    Caffe2: Alias, where both are one storage.
    """
    return copy_(x, out=out)


@operator("NegateGradient", gradient=[emit("Negative", "GO0", "GI0")])
def negate_gradient(x: Any, *, out: Array | None = None) -> Any:
    """A copy of X, whose gradient is negated on its way back. Caffe2: NegateGradient."""
    return copy_(x, out=out)


@operator("CopyFromCPUInput")
def copy_from_cpu_input(x: Any, *, out: Array | None = None) -> Any:
    """A copy of any blob. Caffe2: CopyFromCPUInput."""
    return copy_(x, out=out)


@operator("CopyOnDeviceLike")
def copy_on_device_like(x: Any, like: Any, *, out: Array | None = None) -> Any:
    """A copy of the first blob, where the second one is: on the CPU. Caffe2: CopyOnDeviceLike."""
    return copy_(x, out=out)


@operator("EnsureCPUOutput", gradient=STOPS)
def ensure_cpu_output(x: Any, *, out: Array | None = None) -> Any:
    """A copy of any blob, on the CPU. Caffe2: EnsureCPUOutput."""
    return copy_(x, out=out)


@operator("EnsureDense", gradient=[alias("GO0", "GI0")])
def ensure_dense(x: Any, *, out: Array | None = None) -> Any:
    """A copy of X, whose gradient is made dense if it is sparse. Caffe2: EnsureDense."""
    return copy_(x, out=out)


@operator("Shape")
def shape(x: Array, *, axes: Sequence[int] = ()) -> Array:
    """The shape of X, a vector of int64. Caffe2: Shape.

    Args:
        axes: Only the lengths of these dimensions, in this order.

    Raises:
        ValueError: X has no such dimension.
    """
    chosen = integers(axes, "axes")
    for axis in chosen:
        if not 0 <= axis < x.ndim:
            raise ValueError(f"Shape: axes={list(chosen)}, but X is {x.shape}")
    return np.array([x.shape[axis] for axis in chosen] if chosen else x.shape, np.int64)


@operator("Size", gradient=STOPS)
def size(x: Array) -> Array:
    """How many elements X has, an int64 of shape (). Caffe2: Size."""
    return np.array(x.size, np.int64)


def _new_shape(x: Array, asked: tuple[int, ...]) -> Shape:
    lengths = list(asked)
    for axis, length in enumerate(lengths):
        if length == 0 and axis < x.ndim:
            lengths[axis] = x.shape[axis]
        elif length < -1:
            raise ValueError(f"Reshape: a length of {length} in shape={list(asked)}")
    open_axes = [axis for axis, length in enumerate(lengths) if length == -1]
    if len(open_axes) > 1:
        raise ValueError(f"Reshape: shape={list(asked)} leaves more than one length open")
    if open_axes:
        known = math.prod(length for length in lengths if length != -1)
        lengths[open_axes[0]] = x.size // known if known else 0
    if math.prod(lengths) != x.size:
        raise ValueError(f"Reshape: X {x.shape} does not fit into shape={list(asked)}")
    return tuple(lengths)


@operator("Reshape", outputs=2, gradient=[emit("ReshapeGradient", "GO0 O1", "GI0")])
def reshape(
    x: Array,
    new_shape: Array | None = None,
    *,
    shape: Sequence[int] | None = None,
    outs: Outs = None,
) -> tuple[Array, Array]:
    """X in another shape, and the shape that it had, int64. Caffe2: Reshape.

    Args:
        shape: The new shape, unless a second input holds it. 0 stands for the length
            that X has there, one -1 for the length that makes the sizes agree.

    Raises:
        ValueError: No shape is given, or X does not fit into it.
    """
    if new_shape is None and shape is None:
        raise ValueError("Reshape takes a second input or the argument `shape`")
    asked = integers(shape if new_shape is None else new_shape, "shape")
    dtype = np.int64 if new_shape is None else new_shape.dtype
    wanted = _new_shape(x, asked)
    out = outs[0] if outs else None
    kept = out if fits(out, wanted, x.dtype) else None
    return reshaped(x, wanted, kept), np.array(x.shape, dtype)


@operator("ReshapeGradient")
def reshape_gradient(dy: Array, shape: Array, *, out: Array | None = None) -> Array:
    """The gradient of X: dY in the shape that X had, which is the second input."""
    return reshaped(dy, integers(shape, "shape"), out)


@operator("ResizeLike")
def resize_like(x: Array, like: Array, *, out: Array | None = None) -> Array:
    """The elements of the first input in the shape of the second. Caffe2: ResizeLike.

    Raises:
        ValueError: The inputs have not as many elements.
    """
    if x.size != like.size:
        raise ValueError(f"ResizeLike: {x.shape} does not fit into {like.shape}")
    return reshaped(x, like.shape, out)


@operator("Flatten", gradient=[emit("ResizeLike", "GO0 I0", "GI0")])
def flatten(x: Array, *, axis: int = 1, out: Array | None = None) -> Array:
    """X as a matrix: the dimensions before `axis` become rows, the others columns.

    Caffe2: Flatten.

    Raises:
        ValueError: X has fewer than `axis` dimensions.
    """
    if not 0 <= axis <= x.ndim:
        raise ValueError(f"Flatten: axis={axis}, but X is {x.shape}")
    return reshaped(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), out)


@operator("FlattenToVec", gradient=[emit("ResizeLike", "GO0 I0", "GI0")])
def flatten_to_vec(x: Array, *, out: Array | None = None) -> Array:
    """X as a vector. Caffe2: FlattenToVec.

    Raises:
        ValueError: X has no dimension.
    """
    if not x.ndim:
        raise ValueError("FlattenToVec: X has no dimension")
    return reshaped(x, (x.size,), out)


def _dims(operator: str, dims: Sequence[int], rank: int) -> list[int]:
    chosen = sorted(set(integers(dims, "dims")))
    if not chosen or chosen[0] < 0 or chosen[-1] >= rank:
        raise ValueError(
            f"{operator}: dims={list(dims)} must be dimensions from 0 to {rank - 1}, at least one"
        )
    return chosen


@operator("ExpandDims", gradient=[emit("Squeeze", "GO0", "GI0")])
def expand_dims(x: Array, *, dims: Sequence[int] = REQUIRED, out: Array | None = None) -> Array:
    """X with further dimensions, of length 1. Caffe2: ExpandDims.

    Args:
        dims: Where they are in the result.

    Raises:
        ValueError: The result has no such dimension.
    """
    lengths = list(x.shape)
    for axis in _dims("ExpandDims", dims, x.ndim + len(set(dims))):
        lengths.insert(axis, 1)
    return reshaped(x, tuple(lengths), out)


@operator("Squeeze", gradient=[emit("ExpandDims", "GO0", "GI0")])
def squeeze(x: Array, *, dims: Sequence[int] = REQUIRED, out: Array | None = None) -> Array:
    """X without the dimensions `dims`, which have length 1. Caffe2: Squeeze.

    Raises:
        ValueError: X has no such dimension, or its length is not 1.
    """
    lengths = list(x.shape)
    for axis in reversed(_dims("Squeeze", dims, x.ndim)):
        if lengths.pop(axis) != 1:
            raise ValueError(f"Squeeze: dims={list(dims)}, but X is {x.shape}")
    return reshaped(x, tuple(lengths), out)


@operator("MergeDim")
def merge_dim(x: Array, *, out: Array | None = None) -> Array:
    """X with its first two dimensions made one. Caffe2: MergeDim.

    Raises:
        ValueError: X has fewer than two dimensions.
    """
    if x.ndim < 2:
        raise ValueError(f"MergeDim: X is {x.shape}, and should have two dimensions or more")
    return reshaped(x, (x.shape[0] * x.shape[1], *x.shape[2:]), out)


@operator("PrependDim", gradient=[emit("MergeDim", "GO0", "GI0")])
def prepend_dim(x: Array, *, dim_size: int = REQUIRED, out: Array | None = None) -> Array:
    """X with its first dimension cut into `dim_size` equal ones. Caffe2: PrependDim.

    Raises:
        ValueError: `dim_size` does not divide the length of that dimension.
    """
    if dim_size < 1 or not x.ndim or x.shape[0] % dim_size:
        raise ValueError(f"PrependDim: dim_size={dim_size} does not divide X {x.shape}")
    return reshaped(x, (dim_size, x.shape[0] // dim_size, *x.shape[1:]), out)


def _permuted(x: Array, axes: Sequence[int], out: Array | None) -> Array:
    turned = np.transpose(x, axes)
    if out is None:
        return np.array(turned, order="C")
    np.copyto(out, turned.copy() if np.may_share_memory(out, x) else turned)
    return out


def _transpose_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    axes = integers(arguments["axes"], "axes")
    if not axes:
        return [emit("Transpose", "GO0", "GI0")]
    back = tuple(axes.index(axis) if axis in axes else axis for axis in range(len(axes)))
    return [emit("Transpose", "GO0", "GI0", axes=back)]


@operator("Transpose", gradient=_transpose_rules)
def transpose(x: Array, *, axes: Sequence[int] = (), out: Array | None = None) -> Array:
    """X with its dimensions in another order. Caffe2: Transpose.

    Args:
        axes: The dimensions of X in the order in which the result has them; in reverse, if
            there is none.

    Raises:
        ValueError: `axes` is no permutation of the dimensions.
    """
    order = integers(axes, "axes") or tuple(reversed(range(x.ndim)))
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"Transpose: axes={list(order)} does not permute X {x.shape}")
    return _permuted(x, order, out)


def _images(operator: str, x: Array) -> Array:
    if x.ndim < 3:
        raise ValueError(f"{operator}: X is {x.shape}, and should have three dimensions or more")
    return x


@operator("NCHW2NHWC", gradient=[emit("NHWC2NCHW", "GO0", "GI0")])
def nchw_to_nhwc(x: Array, *, out: Array | None = None) -> Array:
    """X with its second dimension, the channels, moved to the end. Caffe2: NCHW2NHWC.

    Raises:
        ValueError: X has fewer than three dimensions.
    """
    return _permuted(_images("NCHW2NHWC", x), (0, *range(2, x.ndim), 1), out)


@operator("NHWC2NCHW", gradient=[emit("NCHW2NHWC", "GO0", "GI0")])
def nhwc_to_nchw(x: Array, *, out: Array | None = None) -> Array:
    """X with its last dimension, the channels, moved to the second place. Caffe2: NHWC2NCHW.

    Raises:
        ValueError: X has fewer than three dimensions.
    """
    return _permuted(_images("NHWC2NCHW", x), (0, x.ndim - 1, *range(1, x.ndim - 1)), out)
