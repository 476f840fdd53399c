"""Convolutions of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from procession.operators.arrays import Array, floats, text
from procession.operators.registry import Rules, emit, operator


class _Window(NamedTuple):
    """How the kernel is laid on images; pairs are of height and width."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""
    group: int
    last: bool
    """Whether the channels are the last dimension."""

    def first(self, x: Array) -> Array:
        """Images or a kernel with the channels before height and width."""
        return np.moveaxis(x, -1, 1) if self.last else x

    def back(self, x: Array) -> Array:
        """What `first` made of it, undone."""
        return np.ascontiguousarray(np.moveaxis(x, 1, -1) if self.last else x)

    def padded(self, x: Array) -> Array:
        """Images with their borders."""
        top, left, bottom, right = self.pads
        return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))

    def patches(self, padded: Array) -> Array:
        """What the kernel covers: (N, group, C / group, height, width of kernel, rows, columns)."""
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        if padded.shape[2] < reach[0] or padded.shape[3] < reach[1]:
            raise ValueError(
                f"Conv: images of {padded.shape[2:]} with their pads are smaller than the "
                f"kernel, which reaches over {tuple(reach)}"
            )
        view = np.lib.stride_tricks.sliding_window_view(
            padded, (reach[0], reach[1]), axis=(2, 3), writeable=padded.flags.writeable
        )
        view = view[:, :, :: self.stride[0], :: self.stride[1]]
        view = view[..., :: self.dilation[0], :: self.dilation[1]]
        n, c = view.shape[:2]
        grouped = view.reshape(n, self.group, c // self.group, *view.shape[2:])
        return grouped.transpose(0, 1, 2, 5, 6, 3, 4)


def _pair(name: str, one: int, several: Sequence[int], least: int) -> tuple[int, int]:
    pair = tuple(several) or (one, one)
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"Conv: {name} of {pair} is not of two numbers from {least} on")
    return pair[0], pair[1]


def _window(x: Array, w: Array, arguments: Mapping[str, Any]) -> tuple[_Window, Array, Array]:
    """How the kernel is laid, and images and kernel with the channels first; all checked."""
    floats("Conv", x, w)
    order = text(arguments["order"])
    if order not in ("NCHW", "NHWC"):
        raise ValueError(f"Conv: order={order!r} is neither 'NCHW' nor 'NHWC'")
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"Conv: images and kernels have four dimensions, not {x.shape}, {w.shape}")
    pads = tuple(arguments["pads"]) or (arguments["pad"],) * 4
    if len(pads) != 4 or min(pads) < 0:
        raise ValueError(f"Conv: pads of {pads} are not four numbers from 0 on")
    made = _Window(
        _pair("a kernel", arguments["kernel"], arguments["kernels"], 1),
        _pair("a stride", arguments["stride"], arguments["strides"], 1),
        _pair("a dilation", arguments["dilation"], arguments["dilations"], 1),
        (pads[0], pads[1], pads[2], pads[3]),
        arguments["group"],
        order == "NHWC",
    )
    x, w = made.first(x), made.first(w)
    if made.group < 1 or x.shape[1] % made.group or w.shape[0] % made.group:
        raise ValueError(f"Conv: {x.shape[1]} and {w.shape[0]} channels in {made.group} groups")
    if w.shape[1:] != (x.shape[1] // made.group, *made.kernel):
        raise ValueError(
            f"Conv: a kernel for {x.shape[1]} channels in {made.group} groups is "
            f"{(w.shape[0], x.shape[1] // made.group, *made.kernel)}, not {w.shape}"
        )
    return made, x, w


def _grouped(w: Array, group: int) -> Array:
    return w.reshape(group, w.shape[0] // group, *w.shape[1:])


def _rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if inputs == 2:
        return [emit("ConvGradient", "I0 I1 GO0", "GI1 GI0", **arguments, no_bias=True)]
    return [emit("ConvGradient", "I0 I1 GO0", "GI1 GI2 GI0")]


@operator("Conv", gradient=_rules)
def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    kernel: int = 0,
    kernels: Sequence[int] = (),
    stride: int = 1,
    strides: Sequence[int] = (),
    pad: int = 0,
    pads: Sequence[int] = (),
    dilation: int = 1,
    dilations: Sequence[int] = (),
    group: int = 1,
    order: str = "NCHW",
) -> Array:
    """Images convolved with a kernel per output channel, plus a bias per output channel.

    Images are (N, C, height, width), kernels (M, C / group, height, width), the bias is (M,).
    Caffe2: Conv, of which these are the cases with two dimensions.

    Args:
        kernel: Height and width of a kernel.
        kernels: The two, if they differ.
        stride: How far the kernel moves on.
        strides: Down and to the right, if they differ.
        pad: How many zeros are put around an image.
        pads: Those at its top, left, bottom and right, if they differ.
        dilation: How far apart the places lie that the kernel looks at.
        dilations: Down and to the right, if they differ.
        group: In how many parts the channels are divided, which do not see each other.
        order: "NCHW", or "NHWC": the channels are last, in kernels as well.

    Raises:
        TypeError: The inputs do not hold floating-point numbers.
        ValueError: The shapes and the arguments do not go together.
    """
    window, images, kernel_first = _window(x, w, locals())
    patches = window.patches(window.padded(images))
    y = np.einsum("ngcijhw,gmcij->ngmhw", patches, _grouped(kernel_first, group), optimize=True)
    y = y.reshape(len(y), len(w), *y.shape[3:])
    if b is not None:
        if b.shape != (len(w),):
            raise ValueError(f"Conv: the bias is {b.shape}, not {(len(w),)}")
        y = y + b[:, np.newaxis, np.newaxis]
    return window.back(y.astype(x.dtype))


@operator("ConvGradient", outputs=(2, 3))
def conv_gradient(
    x: Array,
    w: Array,
    dy: Array,
    *,
    kernel: int = 0,
    kernels: Sequence[int] = (),
    stride: int = 1,
    strides: Sequence[int] = (),
    pad: int = 0,
    pads: Sequence[int] = (),
    dilation: int = 1,
    dilations: Sequence[int] = (),
    group: int = 1,
    order: str = "NCHW",
    no_bias: bool = False,
) -> tuple[Array, ...]:
    """The gradients of kernels, bias and images. Caffe2: ConvGradient.

    Args:
        kernel: As for Conv; so are the others.
        kernels: See there.
        stride: See there.
        strides: See there.
        pad: See there.
        pads: See there.
        dilation: See there.
        dilations: See there.
        group: See there.
        order: See there.
        no_bias: Whether there was no bias, and its gradient is left out.
    """
    window, images, kernel_first = _window(x, w, locals())
    padded = window.padded(images)
    patches = window.patches(padded)
    gradient = window.first(dy)
    split = gradient.reshape(len(x), group, -1, *gradient.shape[2:])
    dw = np.einsum("ngcijhw,ngmhw->gmcij", patches, split, optimize=True)
    parts = np.einsum("gmcij,ngmhw->ngcijhw", _grouped(kernel_first, group), split, optimize=True)
    parts = parts.reshape(len(x), -1, *parts.shape[3:])
    dpadded = np.zeros_like(padded)
    rows, columns = gradient.shape[2:]
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            top, left = i * window.dilation[0], j * window.dilation[1]
            down = slice(top, top + rows * window.stride[0], window.stride[0])
            right = slice(left, left + columns * window.stride[1], window.stride[1])
            dpadded[:, :, down, right] += parts[:, :, i, j]
    top, left = window.pads[:2]
    dx = dpadded[:, :, top : top + images.shape[2], left : left + images.shape[3]]
    made = [window.back(dw.reshape(kernel_first.shape)), window.back(dx)]
    if not no_bias:
        made.insert(1, gradient.sum(axis=(0, 2, 3)))
    return tuple(each.astype(x.dtype) for each in made)
