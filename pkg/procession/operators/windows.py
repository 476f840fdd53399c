"""How a window moves over images: the geometry that convolutions and pooling share.

Images have one dimension or more: (N, C, ...) in the order NCHW, (N, ..., C) in the order NHWC,
whatever the number of dimensions. An operator takes the arguments of its window from one table,
and hands on those that it was given; what comes out is a `Window`, which is worked out once per
shape.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from procession.operators.arrays import Array, Shape, result, text

Function = TypeVar("Function", bound=Callable[..., Any])
Given = tuple[tuple[str, Any], ...]
"""Arguments that a use of an operator was given, as a key."""

VALID, SAME, CAFFE = 1, 2, 3


class Argument(NamedTuple):
    """An argument as the reference of an operator tells of it."""

    annotation: str
    default: Any
    text: str


_SEVERAL = "Sequence[int]"
WINDOW: Mapping[str, Argument] = {
    "kernel": Argument("int", 0, "How far the window reaches along every dimension."),
    "kernels": Argument(_SEVERAL, (), "The same, one for each dimension."),
    "kernel_h": Argument("int", 0, "The same for images of two dimensions: the height,"),
    "kernel_w": Argument("int", 0, "and the width."),
    "stride": Argument("int", 1, "How far the window moves on."),
    "strides": Argument(_SEVERAL, (), "The same, one for each dimension."),
    "stride_h": Argument("int", 0, "The same for images of two dimensions: downward,"),
    "stride_w": Argument("int", 0, "and to the right."),
    "pad": Argument("int", 0, "How wide the border is that is put around an image."),
    "pads": Argument(_SEVERAL, (), "The same: where each dimension begins, then where each ends."),
    "pad_t": Argument("int", 0, "The same for images of two dimensions: at the top,"),
    "pad_l": Argument("int", 0, "at the left,"),
    "pad_b": Argument("int", 0, "at the bottom,"),
    "pad_r": Argument("int", 0, "and at the right."),
    "order": Argument("str", "NCHW", 'Or "NHWC": the channels are the last dimension.'),
}
LEGACY: Mapping[str, Argument] = {
    "legacy_pad": Argument(
        "int",
        0,
        "Other ways to say how wide the border is. 1 (VALID): there is none. 2 (SAME): so wide "
        "that the result is as large as the image, divided by the stride and rounded up. 3: as "
        "Caffe's pooling does it, where the result's size is rounded up.",
    ),
}
DILATION: Mapping[str, Argument] = {
    "dilation": Argument("int", 1, "How far apart the places are that the window looks at."),
    "dilations": Argument(_SEVERAL, (), "The same, one for each dimension."),
    "dilation_h": Argument("int", 0, "The same for images of two dimensions: downward,"),
    "dilation_w": Argument("int", 0, "and to the right."),
}
GROUP: Mapping[str, Argument] = {
    "group": Argument("int", 1, "In how many parts the channels are, which do not see each other."),
}
ADJUSTMENT: Mapping[str, Argument] = {
    "adj": Argument("int", 0, "How much larger the result is at its ends, at most the stride."),
    "adjs": Argument(_SEVERAL, (), "The same, one for each dimension."),
    "adj_h": Argument("int", 0, "The same for images of two dimensions: at the bottom,"),
    "adj_w": Argument("int", 0, "and at the right."),
}

GLOBAL: Mapping[str, Argument] = {
    "global_pooling": Argument("int", 0, "1 if the window is as large as the images."),
}
_KNOWN = frozenset().union(WINDOW, LEGACY, DILATION, GROUP, ADJUSTMENT, GLOBAL)


def takes(*tables: Mapping[str, Argument]) -> Callable[[Function], Function]:
    """Give a kernel, in the place of its `**given`, the arguments of the tables.

    They become part of its signature and of its documentation, which has the part `Args:` by that.
    It stands below `operator`, which reads both.
    """

    def take(kernel: Function) -> Function:
        signature = inspect.signature(kernel)
        known = list(signature.parameters.values())[:-1]
        arguments = {name: each for table in tables for name, each in table.items()}
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=each.annotation,
            )
            for name, each in arguments.items()
        ]
        kernel.__signature__ = signature.replace(parameters=known + added)  # type: ignore[attr-defined]
        first, _, raises = inspect.cleandoc(kernel.__doc__ or "").partition("\n\nRaises:")
        lines = [f"    {name}: {each.text}" for name, each in arguments.items()]
        raises = f"\n\nRaises:{raises}" if raises else ""
        kernel.__doc__ = "\n".join([f"{first}\n\nArgs:", *lines]) + raises
        return kernel

    return take


def key(given: Mapping[str, Any]) -> Given:
    """The arguments that were given, as `window` and `transposed_window` take them."""
    plain = tuple(given.items())
    try:
        hash(plain)
    except TypeError:  # there are lists among them
        pass
    else:
        return plain
    return tuple(
        (name, value if isinstance(value, (int, str, bytes)) else tuple(value))
        for name, value in given.items()
    )


def check_dimensions(operator: str, x: Array, dimensions: int) -> None:
    """Raise unless images have that many dimensions; 0: any number."""
    if dimensions and x.ndim != dimensions + 2:
        raise ValueError(
            f"{operator} is for images of {dimensions} dimensions (with those of images and"
            f" channels {dimensions + 2}), not for {x.shape}"
        )


def own(out: Array | None, shape: Shape, dtype: np.dtype[Any], *read: Array) -> Array:
    """`out` if it can be written to while the inputs are still being read, else a new array."""
    target = result(out, shape, dtype)
    if target is out and any(np.may_share_memory(target, each) for each in read):
        return np.empty(shape, dtype)
    return target


class Window:
    """A window laid on images of one size. All tuples have a number per dimension of the image.

    A *bordered* image is one with its border, as far as the window gets.
    """

    __slots__ = (
        "apart",
        "bordered",
        "covering",
        "group",
        "head",
        "image",
        "inner",
        "kernel",
        "last",
        "offsets",
        "places",
        "pointwise",
        "reach",
        "seen",
        "steps",
        "tail",
    )

    def __init__(
        self,
        kernel: Shape,
        stride: Shape,
        dilation: Shape,
        borders: tuple[Shape, Shape],
        image: Shape,
        places: Shape,
        group: int,
        last: bool,
    ) -> None:
        self.kernel, self.image, self.group = kernel, image, group
        self.last = last
        """Whether the channels are the last dimension."""
        self.places = places
        """How many places the window takes."""
        self.head, self.tail = borders
        """How wide the border is, in front and behind. Below 0: that much is not looked at."""
        self.steps = (*dilation, *stride)
        """How far apart the numbers are that are next to each other in a window; and windows."""
        extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        self.reach = tuple((o - 1) * s + e for o, s, e in zip(places, stride, extent, strict=True))
        """The size of a bordered image."""
        inner, seen = [], []
        for head, size, reach in zip(self.head, image, self.reach, strict=True):
            start, skipped = max(head, 0), max(-head, 0)
            length = max(min(size - skipped, reach - start), 0)
            inner.append(slice(start, start + length))
            seen.append(slice(skipped, skipped + length))
        self.inner, self.seen = tuple(inner), tuple(seen)
        """Where in a bordered image the image is, and which part of the image that is."""
        lengths = tuple(each.stop - each.start for each in inner)
        self.bordered = lengths != self.reach
        """Whether a bordered image has more than there is in the image."""
        self.covering = lengths == image
        """Whether all of the image is seen."""
        self.apart = all(s >= e for s, e in zip(stride, extent, strict=True))
        """Whether no place is seen twice."""
        self.pointwise = math.prod(kernel) == 1 and self.reach == image == places
        """Whether each place of an image is a window."""
        everything = slice(None)
        self.offsets = []
        """For each place in the window: where it is in columns, (C, *kernel, ...), and what it
        sees of bordered images with one dimension in front, and with two."""
        for index in np.ndindex(*kernel):
            seen_by = tuple(
                slice(i * d, i * d + (o - 1) * s + 1, s)
                for i, d, o, s in zip(index, dilation, places, stride, strict=True)
            )
            place: tuple[Any, ...] = (everything, *index)
            regions = (everything, *seen_by), (everything, everything, *seen_by)
            self.offsets.append((place, *regions))

    def strip(self, start: int, stop: int) -> Window:
        """The window at some of its places along the first dimension."""
        axes = len(self.places)
        dilation, stride = self.steps[:axes], self.steps[axes:]
        borders = (self.head[0] - start * stride[0], *self.head[1:]), self.tail
        places = (stop - start, *self.places[1:])
        return Window(
            self.kernel, stride, dilation, borders, self.image, places, self.group, self.last
        )

    def first(self, x: Array) -> Array:
        """A view of images or kernels that has the channels in front of the dimensions."""
        return x.transpose(0, -1, *range(1, x.ndim - 1)) if self.last else x

    def shape(self, count: int, channels: int, size: Shape) -> Shape:
        """The shape of images of that size."""
        return (count, *size, channels) if self.last else (count, channels, *size)


class _Reader:
    """Reads what the arguments of one operator say of its window."""

    def __init__(self, operator: str, count: int, given: Given) -> None:
        self.operator, self.count, self.given = operator, count, dict(given)
        for name in self.given:
            if name not in _KNOWN:
                raise TypeError(f"{operator} has no argument {name!r}")

    def fail(self, message: str) -> ValueError:
        return ValueError(f"{self.operator}: {message}")

    def numbers(self, one: str, sides: Sequence[str], default: int, least: int) -> Shape:
        """What an argument, the one for each dimension, or those of two dimensions say."""
        count = 2 * self.count if one == "pad" else self.count
        several = f"{one}s"
        said = {}
        if several in self.given and len(self.given[several]):
            said[several] = tuple(int(each) for each in self.given[several])
        if self.given.get(one, default) != default:
            said[one] = (self.given[one],) * count
        by_side = tuple(self.given.get(side, 0) for side in sides)
        if any(by_side):
            said[", ".join(sides)] = by_side
        if len(set(said.values())) > 1:
            told = " and ".join(f"{name} ({', '.join(map(str, v))})" for name, v in said.items())
            raise self.fail(f"{told} contradict each other: give one of them")
        name, values = next(iter(said.items()), (several, (default,) * count))
        if len(values) != count or min(values) < least:
            raise self.fail(
                f"{name} of {values} are not {count} numbers from {least} on, as images of"
                f" {self.count} dimensions ask for"
            )
        return values

    def steps(self) -> tuple[Shape, Shape]:
        """Stride and dilation."""
        return (
            self.numbers("stride", ("stride_h", "stride_w"), 1, 1),
            self.numbers("dilation", ("dilation_h", "dilation_w"), 1, 1),
        )

    def kernel(self) -> Shape:
        return self.numbers("kernel", ("kernel_h", "kernel_w"), 0, 1)

    def pads(self) -> tuple[Shape, Shape]:
        both = self.numbers("pad", ("pad_t", "pad_l", "pad_b", "pad_r"), 0, 0)
        return both[: self.count], both[self.count :]

    def last(self) -> bool:
        order = text(self.given.get("order", "NCHW"))
        if order not in ("NCHW", "NHWC"):
            raise self.fail(f"order={order!r} is neither 'NCHW' nor 'NHWC'")
        return order == "NHWC"

    def group(self) -> int:
        group = self.given.get("group", 1)
        if group < 1:
            raise self.fail(f"group={group} is not a number from 1 on")
        return int(group)

    def legacy(self) -> int:
        legacy = self.given.get("legacy_pad", 0)
        if legacy not in (0, VALID, SAME, CAFFE):
            raise self.fail(
                f"legacy_pad={legacy} is none of 0, 1 (VALID), 2 (SAME) and 3 (Caffe's)"
            )
        if legacy in (VALID, SAME) and any(map(any, self.pads())):
            raise self.fail(f"legacy_pad={legacy} says how wide the border is, and so do pads")
        return int(legacy)

    def size(self, shape: Shape) -> Shape:
        return shape[1:-1] if self.last() else shape[2:]


def _along(
    legacy: int, size: int, kernel: int, stride: int, extent: int, head: int, tail: int
) -> tuple[int, int, int]:
    """Along one dimension: how many places there are (below 1: none), and the border."""
    if legacy == SAME:
        places = -(-size // stride)
        needed = (places - 1) * stride + kernel - size
        # Where strides skip more than the kernel sees there is less than no border.
        head = int(needed / 2)
        return places, head, needed - head
    if legacy == CAFFE:
        room = size + 2 * head - kernel
        places = -(-room // stride) + 1
        if head > 0 and (places - 1) * stride >= size + head:
            places -= 1  # the last window would begin in the border
        return places, head, head + stride * (places - room // stride - 1)
    return (size + head + tail - extent) // stride + 1, head, tail


@lru_cache(maxsize=512)
def window(operator: str, shape: Shape, given: Given) -> Window:
    """The window that the arguments lay on images of that shape.

    Raises:
        ValueError: The arguments contradict each other or the shape.
    """
    count = len(shape) - 2
    read = _Reader(operator, count, given)
    if count < 1:
        raise read.fail(f"images are of one dimension at least, (N, C, size), not {shape}")
    size = read.size(shape)
    stride, dilation = read.steps()
    if read.given.get("global_pooling"):
        head, tail = read.pads()
        if any(head + tail) or set(stride + dilation) != {1}:
            raise read.fail("global_pooling is without pads, strides and dilations")
        return Window(size, stride, dilation, (head, tail), size, (1,) * count, 1, read.last())
    kernel, (head, tail), legacy = read.kernel(), read.pads(), read.legacy()
    if legacy in (SAME, CAFFE) and set(dilation) != {1}:
        raise read.fail(f"legacy_pad={legacy} is without dilations, which are {dilation}")
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    found = [
        _along(legacy, *each) for each in zip(size, kernel, stride, extent, head, tail, strict=True)
    ]
    places, head, tail = (tuple(each[i] for each in found) for i in range(3))
    if min(places) < 1:
        raise read.fail(
            f"images of {size} with pads of {head} and {tail} are smaller than the kernel, which"
            f" reaches over {extent}"
        )
    borders = head, tail
    return Window(kernel, stride, dilation, borders, size, places, read.group(), read.last())


@lru_cache(maxsize=512)
def transposed_window(operator: str, shape: Shape, given: Given) -> Window:
    """The window whose places are the images of that shape: those that ConvTranspose reads.

    Raises:
        ValueError: The arguments contradict each other or the shape.
    """
    count = len(shape) - 2
    read = _Reader(operator, count, given)
    if count < 1:
        raise read.fail(f"images are of one dimension at least, (N, C, size), not {shape}")
    places = read.size(shape)
    (stride, dilation), kernel, (head, tail) = read.steps(), read.kernel(), read.pads()
    adjustments = read.numbers("adj", ("adj_h", "adj_w"), 0, 0)
    if any(a > s for a, s in zip(adjustments, stride, strict=True)):
        raise read.fail(f"adjs of {adjustments} are larger than strides of {stride}")
    size = tuple(
        (p - 1) * s + k + a - h - t
        for p, s, k, a, h, t in zip(places, stride, kernel, adjustments, head, tail, strict=True)
    )
    if min(size) < 1:
        raise read.fail(
            f"with pads of {head} and {tail}, nothing is left of the result: its size is {size}"
        )
    borders = head, tail
    return Window(kernel, stride, dilation, borders, size, places, read.group(), read.last())
