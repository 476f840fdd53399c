"""Pooling: one number for all that a window sees, the largest, the average or the p-norm.

The window is laid along one dimension after the other, since what is the largest of the largest of
each row is the largest of all, and so for sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from procession.operators.arrays import Array, Shape, floats
from procession.operators.columns import scratch, take
from procession.operators.registry import described, emit, operator
from procession.operators.windows import (
    DILATION,
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

UNDILATED: Mapping[str, Argument] = {
    name: argument._replace(text="1: to pool what lies next to each other is all there is.")
    if name == "dilation"
    else argument
    for name, argument in DILATION.items()
}

SHORT = 32
"""Rows of so many numbers are short."""
PIECE = 1 << 20
"""About how many bytes of images are done at a time, where they are copied."""

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


Region = tuple[slice, ...]


class _Axis(NamedTuple):
    """What a window does along one dimension."""

    places: int
    whole: tuple[Region, ...]
    """What each number of the window sees of images, if it does so from all places."""
    partly: tuple[tuple[Region, Region], ...]
    """From which places the others see images, and what they see."""
    parts: tuple[Part, ...]


@lru_cache(maxsize=512)
def _axes(laid: Window) -> tuple[_Axis, ...]:
    """For each dimension of images what the window does there."""
    first = 1 if laid.last else 2
    stride = laid.steps[len(laid.places) :]
    made = []
    for axis, places in enumerate(laid.places):
        parts = _parts(laid.image[axis], places, laid.kernel[axis], stride[axis], laid.head[axis])
        lead = (slice(None),) * (first + axis)
        every = slice(0, places)
        whole = tuple((*lead, seen) for taken, seen in parts if taken == every)
        partly = (((*lead, taken), (*lead, seen)) for taken, seen in parts if taken != every)
        made.append(_Axis(places, whole, tuple(partly), parts))
    return tuple(made)


class _All(NamedTuple):
    """What a window does along all dimensions together."""

    pairs: tuple[tuple[Region, Region], ...]
    """For each place in the window: from which places it sees images, and what."""
    once: bool
    """Whether each place of an image is seen exactly once."""


@lru_cache(maxsize=512)
def _all(laid: Window) -> _All:
    lead = (slice(None),) * (1 if laid.last else 2)
    along = [axis.parts for axis in _axes(laid)]
    pairs = tuple(
        ((*lead, *(taken for taken, _ in parts)), (*lead, *(seen for _, seen in parts)))
        for parts in product(*along)
    )
    once = laid.apart and tuple(map(_lengths, along)) == laid.image
    return _All(pairs, once)


def _lengths(parts: tuple[Part, ...]) -> int:
    return sum(places.stop - places.start for places, _ in parts)


@lru_cache(maxsize=512)
def _window(operator: str, shape: Shape, given: Given) -> Window:
    laid, said = window(operator, shape, given), dict(given)
    if not math.prod(laid.image):
        raise ValueError(f"{operator}: images {shape} have no places")
    dilation = laid.steps[: len(laid.places)]
    if set(dilation) != {1}:
        raise ValueError(f"{operator}: pooling is without dilations, which are {dilation}")
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
    for number, axis in enumerate(_axes(laid), 1):
        # The last dimension, which is slow to be taken apart, has the least left to do.
        if number == count:
            target = y
        else:
            cut = first + number - 1
            shape = (*x.shape[:cut], axis.places, *x.shape[cut + 1 :])
            target = scratch(f"pool {number}", shape, x.dtype)
        whole = axis.whole
        if len(whole) > 1:
            function(x[whole[0]], x[whole[1]], out=target)
        elif whole:
            np.copyto(target, x[whole[0]])
        else:
            target.fill(start)
        for seen in whole[2:]:
            function(target, x[seen], out=target)
        for places, seen in axis.partly:
            into = target[places]
            function(into, x[seen], out=into)
        x = target


def _spread(laid: Window, dy: Array, dx: Array) -> None:
    """The way back of sums: in each place the sum over the windows that see it."""
    first = 1 if laid.last else 2
    if _sees_all(laid):
        dx[...] = dy
        return
    for number, axis in reversed(list(enumerate(_axes(laid)))):
        cut = first + number
        size = laid.image[number]
        shape = (*dy.shape[:cut], size, *dy.shape[cut + 1 :])
        target = scratch(f"pool {number}", shape, dy.dtype) if number else dx
        once = laid.apart and _lengths(axis.parts) == size
        if not once:
            target.fill(0)
        lead = (slice(None),) * cut
        for places, seen in axis.parts:
            into, part = target[(*lead, seen)], dy[(*lead, places)]
            if once:
                np.copyto(into, part)
            else:
                np.add(into, part, into)
        dy = target


def _average(laid: Window, y: Array, include: int, out: Array) -> None:
    """Divide by how many numbers each window sees."""
    if include or not laid.bordered:
        np.multiply(y, y.dtype.type(1 / math.prod(laid.kernel)), out=out)
        return
    shares = np.ones((1,) * len(laid.places))
    axes = _axes(laid)
    for axis, places in enumerate(laid.places):
        counts = np.zeros(places)
        for part, _ in axes[axis].parts:
            counts[part] += 1
        with np.errstate(divide="ignore"):  # what sees nothing has no average, which is NaN
            shares = shares / counts.reshape(-1, *(1,) * (len(laid.places) - 1 - axis))
    shares = shares.astype(y.dtype)
    with np.errstate(invalid="ignore"):
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
    if _sees_all(laid):
        np.multiply(dy, np.equal(x, y), dx)
        return
    pairs, once = _all(laid)
    if once:
        for places, seen in pairs:
            np.multiply(dy[places], np.equal(x[seen], y[places]), dx[seen])
        return
    short = not laid.last and laid.places[-1] <= SHORT
    if not (short and all(each.flags.c_contiguous for each in (x, y, dy, dx))):
        _add_slopes(pairs, x, y, dy, dx, scratch("pool part", dy.shape, dx.dtype))
        return
    # Channels as the last dimension make long runs of numbers of what is short rows.
    count = math.prod(x.shape[:2])
    within = tuple((places[2:], seen[2:]) for places, seen in pairs)
    step = max(1, PIECE // (math.prod(laid.image) * x.itemsize))
    flat = [
        each.reshape(count, *each.shape[2:]).transpose(*range(1, each.ndim - 1), 0)
        for each in (x, y, dy, dx)
    ]
    for start in range(0, count, step):
        pieces = [each[..., start : start + step] for each in flat]
        names = ("pool x", "pool y", "pool dy", "pool dx")
        turned = [
            scratch(name, each.shape, dx.dtype) for name, each in zip(names, pieces, strict=True)
        ]
        for piece, target in zip(pieces[:3], turned[:3], strict=True):
            take(piece, target)
        turned_x, turned_y, turned_dy, turned_dx = turned
        part = scratch("pool part", turned_y.shape, dx.dtype)
        _add_slopes(within, turned_x, turned_y, turned_dy, turned_dx, part)
        np.copyto(pieces[3], turned_dx)


def _add_slopes(
    pairs: tuple[tuple[Region, Region], ...], x: Array, y: Array, dy: Array, dx: Array, part: Array
) -> None:
    dx.fill(0)
    for places, seen in pairs:
        into, largest = dx[seen], np.equal(x[seen], y[places])
        # A product and a sum are faster than a sum of what is chosen.
        np.add(into, np.multiply(dy[places], largest, part[places]), into)


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
    @takes(WINDOW, UNDILATED, GLOBAL, LEGACY)
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
    @takes(WINDOW, UNDILATED, GLOBAL, LEGACY)
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
    @takes(WINDOW, UNDILATED, GLOBAL, PADS_COUNT, LEGACY)
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
    @takes(WINDOW, UNDILATED, GLOBAL, PADS_COUNT, LEGACY)
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
@takes(WINDOW, UNDILATED, GLOBAL, LEGACY, POWER)
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
@takes(WINDOW, UNDILATED, GLOBAL, LEGACY, POWER)
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
