"""Images unfolded into what a window sees at each place, and folded together again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape, floats
from procession.operators.registry import emit, operator
from procession.operators.windows import DILATION, WINDOW, Window, key, own, takes, window


def _laid(operator: str, x: Array, given: dict[str, Any]) -> Window:
    floats(operator, x)
    return window(operator, x.shape, key(given))


def _unfolded(laid: Window, shape: Shape) -> tuple[Shape, Shape]:
    """The shape of unfolded images; and the same with a dimension for each of the window's."""
    if laid.last:
        count, channels = shape[0], shape[-1]
        each = (*laid.kernel, channels)
        return (count, *laid.places, math.prod(each)), (count, *laid.places, *each)
    count, channels = shape[:2]
    each = (channels, *laid.kernel)
    return (count, math.prod(each), *laid.places), (count, *each, *laid.places)


def _within(laid: Window, region: tuple[slice, ...]) -> tuple[slice, ...]:
    """That region of images."""
    return (*(slice(None),) * (1 if laid.last else 2), *region)


def _bordered(laid: Window, x: Array, dtype: np.dtype[Any]) -> Array:
    """Zeros for images with their border."""
    channels = x.shape[-1 if laid.last else 1]
    return np.zeros(laid.shape(len(x), channels, laid.reach), dtype)


@operator("Im2Col", gradient=[emit("Col2Im", "GO0 ~I0", "GI0")])
@takes(WINDOW, DILATION)
def im2col(x: Array, *, out: Array | None = None, **given: Any) -> Array:
    """For each place of a window on images, all that it sees. Caffe2: Im2Col.

    Images are (N, C, ...), and the result is (N, C * the window's size, *places): the numbers of a
    channel lie next to each other. In the order NHWC images are (N, ..., C), the result is
    (N, *places, the window's size * C), and the channels of a place lie next to each other.

    Raises:
        TypeError: The images do not hold floating-point numbers.
        ValueError: The shape and the arguments do not go together.
    """
    laid = _laid("Im2Col", x, given)
    shape, taken = _unfolded(laid, x.shape)
    y = own(out, shape, x.dtype, x)
    seen = x[_within(laid, laid.seen)]
    if laid.bordered:
        bordered = _bordered(laid, x, x.dtype)
        bordered[_within(laid, laid.inner)] = seen
        seen = bordered
    if not y.size:
        return y
    axes = len(laid.places)
    first = 1 if laid.last else 2
    along = seen.strides[first : first + axes] * 2
    along = tuple(stride * step for stride, step in zip(along, laid.steps, strict=True))
    inside, places = along[:axes], along[axes:]
    order = (*places, *inside, *seen.strides[-1:]) if laid.last else (*inside, *places)
    strides = (*seen.strides[: 1 if laid.last else 2], *order)
    view = np.lib.stride_tricks.as_strided(seen, taken, strides, writeable=False)
    np.copyto(y.reshape(taken), view)
    return y


@operator("Col2Im", gradient=[emit("Im2Col", "GO0", "GI0")])
@takes(WINDOW, DILATION)
def col2im(col: Array, x: Array, *, out: Array | None = None, **given: Any) -> Array:
    """The way back of Im2Col: for each number of an image the sum of all that it became.

    Of the second input, an image, only the shape matters. Caffe2: Col2Im.

    Raises:
        TypeError: The inputs do not hold floating-point numbers.
        ValueError: The shapes and the arguments do not go together.
    """
    floats("Col2Im", col)
    laid = _laid("Col2Im", x, given)
    shape, taken = _unfolded(laid, x.shape)
    if col.shape != shape:
        raise ValueError(f"Col2Im: of images {x.shape} Im2Col makes {shape}, not {col.shape}")
    parts = col.reshape(taken)
    bordered = _bordered(laid, x, col.dtype)
    everything = slice(None)
    places = (everything,) * len(laid.places)
    for place, one, two in laid.offsets:
        into = bordered[one if laid.last else two]
        part = parts[(*places, *place)] if laid.last else parts[(everything, *place)]
        np.add(into, part, out=into)
    y = own(out, x.shape, col.dtype, col, x)
    if not laid.covering:
        y[...] = 0
    y[_within(laid, laid.seen)] = bordered[_within(laid, laid.inner)]
    return y
