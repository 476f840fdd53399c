"""Images with a border around them, or without a part of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape, floats, result, text
from procession.operators.channels import channels_last
from procession.operators.registry import emit, operator

Borders = tuple[tuple[int, int], tuple[int, int]]
"""What is added above and below, left and right; taken away where it is negative."""


def _borders(
    pad: int,
    pads: Sequence[int],
    sides: tuple[int | None, int | None, int | None, int | None],
) -> Borders:
    top, left, bottom, right = (pad if side is None else side for side in sides)
    if len(pads):
        if len(pads) != 4:
            raise ValueError(f"PadImage: pads={list(pads)} is not top, left, bottom and right")
        top, left, bottom, right = (int(each) for each in pads)
    return (top, bottom), (left, right)


def _images(operator: str, x: Array, order: str) -> int:
    """Which dimension is the height; the width follows."""
    floats(operator, x)
    last = channels_last(operator, order)
    if x.ndim != 4:
        raise ValueError(f"{operator}: X is {x.shape}, images have four dimensions")
    return 1 if last else 2


def _sources(length: int, border: tuple[int, int], mode: str) -> Array:
    """For each place of the result, where in a row of X its number is from."""
    index = np.arange(-border[0], length + border[1])
    if mode == "edge":
        return np.clip(index, 0, length - 1)
    index = np.abs(index)
    return np.where(index < length, index, 2 * (length - 1) - index)


def _mode(mode: str, lengths: Shape, borders: Borders) -> str:
    """The mode, checked, for images whose height and width are given."""
    named = text(mode)
    if named not in ("constant", "reflect", "edge"):
        raise ValueError(f"PadImage: mode={named!r} is none of 'constant', 'reflect' and 'edge'")
    for length, border in zip(lengths, borders, strict=True):
        if length + sum(border) < 1 or length + min(border[0], 0) + min(border[1], 0) < 1:
            raise ValueError(f"PadImage: nothing is left of {length} with borders of {border}")
        if named == "reflect" and max(border) >= length:
            raise ValueError(
                f"PadImage: with mode='reflect' a border of {max(border)} needs a longer side "
                f"than {length}"
            )
    return named


def _middle(axis: int, lengths: Shape, borders: Borders) -> tuple[tuple[slice, ...], ...]:
    """What stays of X: where it is in X, and where in the result."""
    lead = (slice(None),) * axis
    old, new = [], []
    for length, (before, after) in zip(lengths, borders, strict=True):
        first, behind = max(-before, 0), length - max(-after, 0)
        old.append(slice(first, behind))
        new.append(slice(first + before, behind + before))
    return (*lead, *old), (*lead, *new)


@operator("PadImage", gradient=[emit("PadImageGradient", "GO0", "GI0")])
def pad_image(
    x: Array,
    *,
    pad: int = 0,
    pads: Sequence[int] = (),
    pad_t: int | None = None,
    pad_l: int | None = None,
    pad_b: int | None = None,
    pad_r: int | None = None,
    mode: str = "constant",
    value: float = 0.0,
    order: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """Images with a border on each of their four sides. Caffe2: PadImage.

    A negative border takes away from the image.

    Args:
        pad: How wide the borders are.
        pads: Instead, how wide they are at the top, left, bottom and right.
        pad_t: Instead, at the top.
        pad_l: Instead, at the left.
        pad_b: Instead, at the bottom.
        pad_r: Instead, at the right.
        mode: What is in them: "constant", a value; "reflect", the image mirrored at its outermost
            numbers; or "edge", these numbers again and again.
        value: For the mode "constant".
        order: Where the channels are, "NCHW" or "NHWC".

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X does not have four dimensions, there is no such mode or order, nothing is
            left of the image, or it is too small to be mirrored.
    """
    axis = _images("PadImage", x, order)
    borders = _borders(pad, pads, (pad_t, pad_l, pad_b, pad_r))
    lengths = x.shape[axis : axis + 2]
    mode = _mode(mode, lengths, borders)
    wide = tuple(length + sum(each) for length, each in zip(lengths, borders, strict=True))
    if out is not None and np.may_share_memory(out, x):
        out = None
    y = result(out, (*x.shape[:axis], *wide, *x.shape[axis + 2 :]), x.dtype)
    if mode == "constant":
        old, new = _middle(axis, lengths, borders)
        y.fill(value)
        y[new] = x[old]
        return y
    rows, columns = (_sources(*each, mode) for each in zip(lengths, borders, strict=True))
    return np.take(np.take(x, columns, axis=axis + 1), rows, axis=axis, out=y, mode="clip")


def _folded(dy: Array, axis: int, length: int, border: tuple[int, int], mode: str) -> Array:
    """What flows back along one dimension into `length` places of X."""
    sources = _sources(length, border, mode)
    # The longest run of places that follow each other is a slice; the rest are few.
    first, behind = max(border[0], 0), len(sources) - max(border[1], 0)
    lead: tuple[Any, ...] = (slice(None),) * axis
    dx = np.zeros((*dy.shape[:axis], length, *dy.shape[axis + 1 :]), dy.dtype)
    dx[(*lead, slice(int(sources[first]), int(sources[behind - 1]) + 1))] = dy[
        (*lead, slice(first, behind))
    ]
    for place in (*range(first), *range(behind, len(sources))):
        dx[(*lead, int(sources[place]))] += dy[(*lead, place)]
    return dx


@operator("PadImageGradient")
def pad_image_gradient(
    dy: Array,
    *,
    pad: int = 0,
    pads: Sequence[int] = (),
    pad_t: int | None = None,
    pad_l: int | None = None,
    pad_b: int | None = None,
    pad_r: int | None = None,
    mode: str = "constant",
    order: str = "NCHW",
    out: Array | None = None,
) -> Any:
    """The gradient of the images: that of each copy of a number, added up.

    Caffe2: PadImageGradient.

    Raises:
        TypeError, ValueError: As PadImage.
    """
    axis = _images("PadImageGradient", dy, order)
    borders = _borders(pad, pads, (pad_t, pad_l, pad_b, pad_r))
    lengths = tuple(
        length - sum(each) for length, each in zip(dy.shape[axis : axis + 2], borders, strict=True)
    )
    mode = _mode(mode, lengths, borders)
    if mode != "constant":
        folded = _folded(dy, axis + 1, lengths[1], borders[1], mode)
        folded = _folded(folded, axis, lengths[0], borders[0], mode)
        return folded if out is None else np.positive(folded, out=out)
    if out is not None and np.may_share_memory(out, dy):
        out = None
    dx = result(out, (*dy.shape[:axis], *lengths, *dy.shape[axis + 2 :]), dy.dtype)
    old, new = _middle(axis, lengths, borders)
    if min(*borders[0], *borders[1]) < 0:
        dx.fill(0)
    dx[old] = dy[new]
    return dx
