"""Images made larger or smaller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape, floats
from procession.operators.channels import channels_last
from procession.operators.registry import Rules, emit, operator


def _scales(
    operator: str, height_scale: float, width_scale: float, scales: Array | None
) -> tuple[float, float]:
    if scales is not None:
        if scales.shape != (2,):
            raise ValueError(
                f"{operator}: scales are {scales.shape}: they are a height and a width"
            )
        height_scale, width_scale = float(scales[0]), float(scales[1])
    if not (height_scale > 0 and width_scale > 0):
        raise ValueError(f"{operator}: scales of {height_scale} and {width_scale} are not positive")
    return height_scale, width_scale


def _images(operator: str, x: Array, order: str) -> int:
    """Which dimension is the height; the width follows."""
    floats(operator, x)
    last = channels_last(operator, order)
    if x.ndim != 4:
        raise ValueError(f"{operator}: X is {x.shape}, images have four dimensions")
    return 1 if last else 2


def _sized(lengths: Shape, scales: tuple[float, float]) -> Shape:
    return tuple(
        math.floor(np.float32(length) * np.float32(scale))
        for length, scale in zip(lengths, scales, strict=True)
    )


def _nearest(length: int, longer: int, scale: float) -> Array:
    """For each place of the result, which one of X it is."""
    places = np.arange(longer, dtype=np.float32) / np.float32(scale)
    return np.minimum(places.astype(np.intp), length - 1)


def _rules(name: str) -> Any:
    def rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
        return [emit(name, "GO0 ~I0" + (" I1" if inputs == 2 else ""), "GI0")]

    return rules


@operator("ResizeNearest", gradient=_rules("ResizeNearestGradient"))
def resize_nearest(
    x: Array,
    scales: Array | None = None,
    *,
    width_scale: float = 1.0,
    height_scale: float = 1.0,
    order: str = "NCHW",
) -> Array:
    """Images in another size, made of the numbers that are nearest. Caffe2: ResizeNearest.

    Args:
        width_scale: How much wider they become.
        height_scale: How much higher they become. A second input is the one for the height
            and the one for the width, instead.
        order: Where the channels are, "NCHW" or "NHWC".

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X does not have four dimensions, a scale is not positive, or no such order.
    """
    axis = _images("ResizeNearest", x, order)
    by = _scales("ResizeNearest", height_scale, width_scale, scales)
    lengths = x.shape[axis : axis + 2]
    height, width = _sized(lengths, by)
    narrow = np.take(x, _nearest(lengths[1], width, by[1]), axis=axis + 1)
    return np.take(narrow, _nearest(lengths[0], height, by[0]), axis=axis)


def _gathered(dy: Array, axis: int, length: int, scale: float) -> Array:
    """What flows back along one dimension into `length` places of X."""
    sources = _nearest(length, dy.shape[axis], scale)
    dx = np.zeros((*dy.shape[:axis], length, *dy.shape[axis + 1 :]), dy.dtype)
    if dy.size:
        starts = np.flatnonzero(np.diff(sources, prepend=-1))
        total = np.add.reduceat(dy, starts, axis=axis, dtype=dy.dtype)
        where: Any = (*(slice(None),) * axis, sources[starts])
        dx[where] = total
    return dx


def _back_from(operator: str, x: Array, dy: Array, axis: int, by: tuple[float, float]) -> None:
    wanted = (*x.shape[:axis], *_sized(x.shape[axis : axis + 2], by), *x.shape[axis + 2 :])
    if dy.shape != wanted:
        raise ValueError(f"{operator}: dY is {dy.shape}, and of X {x.shape} it would be {wanted}")


@operator("ResizeNearestGradient")
def resize_nearest_gradient(
    dy: Array,
    x: Array,
    scales: Array | None = None,
    *,
    width_scale: float = 1.0,
    height_scale: float = 1.0,
    order: str = "NCHW",
) -> Array:
    """The gradient of X: that of all that each number became. Caffe2: ResizeNearestGradient.

    Raises:
        TypeError, ValueError: As ResizeNearest; or dY has another shape.
    """
    axis = _images("ResizeNearestGradient", x, order)
    by = _scales("ResizeNearestGradient", height_scale, width_scale, scales)
    _back_from("ResizeNearestGradient", x, dy, axis, by)
    lengths = x.shape[axis : axis + 2]
    return _gathered(_gathered(dy, axis, lengths[0], by[0]), axis + 1, lengths[1], by[1])


def _between(length: int, longer: int, dtype: np.dtype[Any]) -> Array:
    """The matrix of what each place of the result has of those of X; corners lie on corners."""
    step = np.float32(length - 1) / np.float32(longer - 1) if longer > 1 else np.float32(0)
    places = np.arange(longer, dtype=np.float32) * step
    first = np.minimum(places.astype(np.intp), length - 1)
    after = np.minimum(first + 1, length - 1)
    part = places - first
    shares = np.zeros((longer, length), dtype)
    rows = np.arange(longer)
    shares[rows, first] = 1 - part
    shares[rows, after] += part
    return shares


def _along(shares: Array, x: Array, axis: int) -> Array:
    """The matrix applied along one dimension."""
    if axis == x.ndim - 1:
        return np.asarray(x @ shares.T)
    flat = x.reshape(*x.shape[: axis + 1], math.prod(x.shape[axis + 1 :]))
    return np.asarray(shares @ flat).reshape(*x.shape[:axis], len(shares), *x.shape[axis + 1 :])


@operator("UpsampleBilinear", gradient=_rules("UpsampleBilinearGradient"))
def upsample_bilinear(
    x: Array,
    scales: Array | None = None,
    *,
    width_scale: float = 1.0,
    height_scale: float = 1.0,
    order: str = "NCHW",
) -> Array:
    """Images in another size, made of what lies between the four nearest numbers.

    The outermost numbers stay where they are. Caffe2: UpsampleBilinear.

    Args:
        width_scale: How much wider they become.
        height_scale: How much higher they become. A second input is the one for the height
            and the one for the width, instead.
        order: Where the channels are, "NCHW" or "NHWC".

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X does not have four dimensions, a scale is not positive, or no such order.
    """
    axis = _images("UpsampleBilinear", x, order)
    by = _scales("UpsampleBilinear", height_scale, width_scale, scales)
    lengths = x.shape[axis : axis + 2]
    height, width = _sized(lengths, by)
    wide = _along(_between(lengths[1], width, x.dtype), x, axis + 1)
    return _along(_between(lengths[0], height, x.dtype), wide, axis)


@operator("UpsampleBilinearGradient")
def upsample_bilinear_gradient(
    dy: Array,
    x: Array,
    scales: Array | None = None,
    *,
    width_scale: float = 1.0,
    height_scale: float = 1.0,
    order: str = "NCHW",
) -> Array:
    """The gradient of X: its shares of that of the result. Caffe2: UpsampleBilinearGradient.

    Raises:
        TypeError, ValueError: As UpsampleBilinear; or dY has another shape.
    """
    axis = _images("UpsampleBilinearGradient", x, order)
    by = _scales("UpsampleBilinearGradient", height_scale, width_scale, scales)
    _back_from("UpsampleBilinearGradient", x, dy, axis, by)
    height, width = x.shape[axis : axis + 2]
    narrow = _along(_between(width, dy.shape[axis + 1], dy.dtype).T, dy, axis + 1)
    return _along(_between(height, dy.shape[axis], dy.dtype).T, narrow, axis)
