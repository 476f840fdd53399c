"""Pooling: one number for all that a window sees, the largest, the average or the p-norm.

The window is laid along one dimension after the other, since what is the largest of the largest of
each row is the largest of all, and so for sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape, floats
from procession.operators.registry import described, emit, operator
from procession.operators.windows import (
    GLOBAL,
    LEGACY,
    WINDOW,
    Argument,
    Given,
    Window,
    check_dimensions,
    key,
    own,
    takes,
    window,
)

PADS_COUNT: Mapping[str, Argument] = {
    "count_include_pad": Argument(
        "int", 0, "1 if the border counts: the zeros that it is made of."
    ),
}
POWER: Mapping[str, Argument] = {
    "p": Argument("float", 2.0, "Which norm."),
}

Part = tuple[slice, slice]
"""Places of the window along a dimension, and what these see there of the image."""


@lru_cache(maxsize=1024)
def _parts(size: int, places: int, kernel: int, stride: int, head: int) -> tuple[Part, ...]:
    """For each number of the window along one dimension, where it is inside of the image."""
    parts = []
    for index in range(kernel):
        start = index - head
        first = max(0, -(start // stride))
        end = min(places, (size - 1 - start) // stride + 1)
        if first < end:
            seen = slice(start + first * stride, start + (end - 1) * stride + 1, stride)
            parts.append((slice(first, end), seen))
    return tuple(parts)


def _along(laid: Window, axis: int) -> tuple[Part, ...]:
    stride = laid.steps[len(laid.places) :]
    return _parts(
        laid.image[axis], laid.places[axis], laid.kernel[axis], stride[axis], laid.head[axis]
    )


def _region(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, part)


@lru_cache(maxsize=512)
def _window(operator: str, shape: Shape, given: Given) -> Window:
    laid, said = window(operator, shape, given), dict(given)
    if not math.prod(laid.image):
        raise ValueError(f"{operator}: images {shape} have no places")
    if not said.get("global_pooling"):
        borders = laid.head if said.get("legacy_pad") else laid.head + laid.tail
        if any(border >= k for border, k in zip(borders, laid.kernel * 2, strict=False)):
            raise ValueError(
                f"{operator}: pads of {laid.head} and {laid.tail} are not smaller than the kernel"
                f" of {laid.kernel}: there would be windows that see nothing but the border"
            )
    return laid


def _laid(operator: str, x: Array, dimensions: int, given: Mapping[str, Any]) -> Window:
    floats(operator, x)
    check_dimensions(operator, x, dimensions)
    return _window(operator, x.shape, key(given))


def _result(laid: Window, x: Array, out: Array | None) -> Array:
    channels = x.shape[-1 if laid.last else 1]
    return own(out, laid.shape(len(x), channels, laid.places), x.dtype, x)


def _sees_all(laid: Window) -> bool:
    """Whether there is one window, as large as the image."""
    return laid.kernel == laid.image and laid.covering and math.prod(laid.places) == 1


def _reduce(laid: Window, x: Array, function: np.ufunc, start: float, y: Array) -> None:
    """`function` over all that each window sees, from `start` where it sees nothing."""
    first, count = 1 if laid.last else 2, len(laid.places)
    if _sees_all(laid):
        function.reduce(x, axis=tuple(range(first, first + count)), keepdims=True, out=y)
        return
    for axis in range(count):
        # The last dimension, which is slow to be taken apart, has the least left to do.
        shape = (*x.shape[: first + axis], laid.places[axis], *x.shape[first + axis + 1 :])
        target = y if axis == count - 1 else np.empty(shape, x.dtype)
        everywhere, partly = [], []
        for places, seen in _along(laid, axis):
            part = x[_region(first + axis, seen)]
            if part.shape == shape:
                everywhere.append(part)
            else:
                partly.append((target[_region(first + axis, places)], part))
        if len(everywhere) > 1:
            function(everywhere[0], everywhere[1], out=target)
        elif everywhere:
            np.copyto(target, everywhere[0])
        else:
            target.fill(start)
        for part in everywhere[2:]:
            function(target, part, out=target)
        for into, part in partly:
            function(into, part, out=into)
        x = target


def _spread(laid: Window, dy: Array, dx: Array) -> None:
    """The way back of sums: in each place the sum over the windows that see it."""
    first, count = 1 if laid.last else 2, len(laid.places)
    if _sees_all(laid):
        dx[...] = dy
        return
    for axis in reversed(range(count)):
        shape = (*dy.shape[: first + axis], laid.image[axis], *dy.shape[first + axis + 1 :])
        target = np.empty(shape, dy.dtype) if axis else dx
        parts = _along(laid, axis)
        once = _lengths(parts) == laid.image[axis] and laid.apart
        if not once:
            target.fill(0)
        for places, seen in parts:
            into, part = target[_region(first + axis, seen)], dy[_region(first + axis, places)]
            if once:
                np.copyto(into, part)
            else:
                np.add(into, part, out=into)
        dy = target


def _lengths(parts: tuple[Part, ...]) -> int:
    return sum(places.stop - places.start for places, _ in parts)


def _average(laid: Window, y: Array, include: int, out: Array) -> None:
    """Divide by how many numbers each window sees."""
    if include or not laid.bordered:
        np.multiply(y, y.dtype.type(1 / math.prod(laid.kernel)), out=out)
        return
    shares = np.ones((1,) * len(laid.places))
    for axis, places in enumerate(laid.places):
        counts = np.zeros(places)
        for part, _ in _along(laid, axis):
            counts[part] += 1
        shares = shares / counts.reshape(-1, *(1,) * (len(laid.places) - 1 - axis))
    shares = shares.astype(y.dtype)
    np.multiply(y, shares[..., np.newaxis] if laid.last else shares, out=out)


def _checked(operator: str, laid: Window, x: Array, y: Array, dy: Array) -> None:
    wanted = laid.shape(len(x), x.shape[-1 if laid.last else 1], laid.places)
    if y.shape != wanted or dy.shape != wanted:
        raise ValueError(
            f"{operator}: the result for images {x.shape} and its gradient are {wanted}, not"
            f" {y.shape} and {dy.shape}"
        )


def _max_gradient(laid: Window, x: Array, y: Array, dy: Array, dx: Array) -> None:
    """Where the image is the largest that a window sees, what that one hands back."""
    first = 1 if laid.last else 2
    along = [_along(laid, axis) for axis in range(len(laid.places))]
    once = laid.apart and all(
        _lengths(parts) == size for parts, size in zip(along, laid.image, strict=True)
    )
    if not once:
        dx.fill(0)
    for parts in product(*along):
        places = (*(slice(None),) * first, *(each[0] for each in parts))
        seen = (*(slice(None),) * first, *(each[1] for each in parts))
        largest = np.equal(x[seen], y[places])
        into = dx[seen]
        if once:
            np.multiply(dy[places], largest, out=into)
        else:
            np.add(into, dy[places], out=into, where=largest)


_RAISES = (
    "Raises:\n"
    "    TypeError: The images do not hold floating-point numbers.\n"
    "    ValueError: The shapes and the arguments do not go together."
)
_IMAGES = "Images are (N, C, ...), in the order NHWC (N, ..., C); so is the result."


def _texts(dimensions: int) -> tuple[str, str]:
    if not dimensions:
        return "", ""
    return f"{dimensions}D", f" of {dimensions} dimension{'s' * (dimensions > 1)}"


def _declare_max(dimensions: int) -> None:
    suffix, about = _texts(dimensions)
    name = f"MaxPool{suffix}"

    @operator(name, gradient=[emit(f"{name}Gradient", "I0 O0 GO0", "GI0")])
    @takes(WINDOW, GLOBAL, LEGACY)
    @described(
        name.lower(),
        f"The largest that a window sees of images{about}. Caffe2: {name}.\n\n"
        f"{_IMAGES} The border is never the largest.\n\n{_RAISES}",
    )
    def pool(x: Array, *, out: Array | None = None, **given: Any) -> Array:
        laid = _laid(name, x, dimensions, given)
        y = _result(laid, x, out)
        _reduce(laid, x, np.maximum, -np.inf, y)
        return y

    @operator(f"{name}Gradient")
    @takes(WINDOW, GLOBAL, LEGACY)
    @described(
        f"{name.lower()}_gradient",
        f"The gradient of images from that of {name}'s result. Caffe2: {name}Gradient.\n\n"
        "Where a window sees the largest more than once, all of them get its gradient.",
    )
    def gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None, **given: Any) -> Array:
        laid = _laid(f"{name}Gradient", x, dimensions, given)
        _checked(f"{name}Gradient", laid, x, y, dy)
        dx = own(out, x.shape, x.dtype, x, y, dy)
        _max_gradient(laid, x, y, dy.astype(x.dtype, copy=False), dx)
        return dx


def _declare_average(dimensions: int) -> None:
    suffix, about = _texts(dimensions)
    name = f"AveragePool{suffix}"

    @operator(name, gradient=[emit(f"{name}Gradient", "~I0 ~O0 GO0", "GI0")])
    @takes(WINDOW, GLOBAL, PADS_COUNT, LEGACY)
    @described(
        name.lower(),
        f"The average of what a window sees of images{about}. Caffe2: {name}.\n\n"
        f"{_IMAGES}\n\n{_RAISES}",
    )
    def pool(x: Array, *, out: Array | None = None, **given: Any) -> Array:
        include = given.pop("count_include_pad", 0)
        laid = _laid(name, x, dimensions, given)
        y = _result(laid, x, out)
        if _sees_all(laid) and not laid.last and x.flags.c_contiguous:
            # A product is faster than a sum.
            size = math.prod(laid.image)
            np.matmul(x.reshape(-1, size), np.full(size, 1 / size, x.dtype), out=y.reshape(-1))
            return y
        _reduce(laid, x, np.add, 0.0, y)
        _average(laid, y, include, y)
        return y

    @operator(f"{name}Gradient")
    @takes(WINDOW, GLOBAL, PADS_COUNT, LEGACY)
    @described(
        f"{name.lower()}_gradient",
        f"The gradient of images from that of {name}'s result. Caffe2: {name}Gradient.\n\n"
        "Of the images and of the result only the shape matters.",
    )
    def gradient(x: Array, y: Array, dy: Array, *, out: Array | None = None, **given: Any) -> Array:
        include = given.pop("count_include_pad", 0)
        laid = _laid(f"{name}Gradient", x, dimensions, given)
        _checked(f"{name}Gradient", laid, x, y, dy)
        dx = own(out, x.shape, x.dtype, dy)
        shared = np.empty(dy.shape, x.dtype)
        _average(laid, dy.astype(x.dtype, copy=False), include, shared)
        _spread(laid, shared, dx)
        return dx


for _dimensions in (0, 1, 2, 3):
    _declare_max(_dimensions)
    _declare_average(_dimensions)


def _power(operator: str, given: dict[str, Any]) -> float:
    p = float(given.pop("p", 2.0))
    if not p > 0:
        raise ValueError(f"{operator}: p={p} is not larger than 0")
    return p


@operator("LpPool", gradient=[emit("LpPoolGradient", "I0 O0 GO0", "GI0")])
@takes(WINDOW, GLOBAL, LEGACY, POWER)
def lp_pool(x: Array, *, out: Array | None = None, **given: Any) -> Array:
    """The p-norm of what a window sees of images. Caffe2: LpPool.

    Images are (N, C, ...), in the order NHWC (N, ..., C); so is the result.

    Raises:
        TypeError: The images do not hold floating-point numbers.
        ValueError: The shapes and the arguments do not go together.
    """
    p = _power("LpPool", given)
    laid = _laid("LpPool", x, 0, given)
    y = _result(laid, x, out)
    powers = np.multiply(x, x) if p == 2 else np.power(np.abs(x), x.dtype.type(p))
    _reduce(laid, powers, np.add, 0.0, y)
    return np.sqrt(y, out=y) if p == 2 else np.power(y, y.dtype.type(1 / p), out=y)


@operator("LpPoolGradient")
@takes(WINDOW, GLOBAL, LEGACY, POWER)
def lp_pool_gradient(
    x: Array, y: Array, dy: Array, *, out: Array | None = None, **given: Any
) -> Array:
    """The gradient of images from that of LpPool's result. Caffe2: LpPoolGradient.

    Where a window sees nothing but zeros it is 0.
    """
    p = _power("LpPoolGradient", given)
    laid = _laid("LpPoolGradient", x, 0, given)
    _checked("LpPoolGradient", laid, x, y, dy)
    dx = own(out, x.shape, x.dtype, x, y, dy)
    shared, seen = np.zeros(y.shape, x.dtype), y > 0
    np.power(y, x.dtype.type(1 - p), out=shared, where=seen)
    np.multiply(shared, dy, out=shared)
    _spread(laid, shared, dx)
    slope, size = np.zeros(x.shape, x.dtype), np.abs(x)
    np.power(size, x.dtype.type(p - 1), out=slope, where=size > 0)
    np.copysign(slope, x, out=slope)
    return np.multiply(dx, slope, out=dx)
