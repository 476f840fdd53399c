"""ConvTranspose: what Conv's gradient does to images, as an operator of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, floats, promote
from procession.operators.columns import gather, scatter, slopes
from procession.operators.convolution import QUIET, UNBIASED, kernels, results, rules
from procession.operators.registry import operator
from procession.operators.windows import (
    ADJUSTMENT,
    GROUP,
    WINDOW,
    Window,
    key,
    own,
    takes,
    transposed_window,
)


def _laid(operator: str, x: Array, w: Array, given: Mapping[str, Any]) -> tuple[Window, int]:
    """The window that looks at the result, and how many channels that has; all is checked."""
    floats(operator, x, w)
    laid = transposed_window(operator, x.shape, key(given))
    channels = x.shape[-1 if laid.last else 1]
    if w.ndim != x.ndim:
        raise ValueError(
            f"{operator}: images {x.shape} have {x.ndim} dimensions, kernels {w.shape} {w.ndim}"
        )
    if channels % laid.group:
        raise ValueError(
            f"{operator}: {channels} channels are not to be divided into {laid.group} groups"
        )
    width = w.shape[-1 if laid.last else 1]
    wanted = laid.shape(channels, width, laid.kernel)
    if w.shape != wanted:
        raise ValueError(
            f"{operator}: kernels for {channels} channels that make {width} per group are"
            f" {wanted}, not {w.shape}"
        )
    return laid, width * laid.group


@operator("ConvTranspose", gradient=partial(rules, "ConvTransposeGradient"))
@takes(WINDOW, ADJUSTMENT, GROUP, QUIET)
def conv_transpose(
    x: Array, w: Array, b: Array | None = None, *, out: Array | None = None, **given: Any
) -> Array:
    """Images put together from what kernels make of each place, plus a bias. Caffe2: ConvTranspose.

    Images are (N, M, ...), kernels are (M, C / group, ...), the bias is (C,), and the result is
    (N, C, ...). In the order NHWC the channels of all three are last. Along each dimension the
    result has the size (size - 1) * stride + kernel + adj - pads.

    Raises:
        TypeError: The inputs do not hold floating-point numbers.
        ValueError: The shapes and the arguments do not go together.
    """
    given.pop("no_gradient_to_input", None)
    laid, channels = _laid("ConvTranspose", x, w, given)
    if b is None:
        x, w = promote(x, w)
    else:
        if b.shape != (channels,):
            raise ValueError(
                f"ConvTranspose: the bias is {b.shape}, for {channels} channels it is {(channels,)}"
            )
        x, w, b = promote(x, w, b)
    read = (x, w) if b is None else (x, w, b)
    y = own(out, laid.shape(len(x), channels, laid.image), x.dtype, *read)
    scatter(laid, laid.first(x), kernels(laid, w), b, laid.first(y))
    return y


@operator("ConvTransposeGradient", outputs=(1, 3), spare_last=True)
@takes(WINDOW, ADJUSTMENT, GROUP, QUIET, UNBIASED)
def conv_transpose_gradient(
    x: Array, w: Array, dy: Array, *, outs: Outs = None, **given: Any
) -> tuple[Array, ...]:
    """The gradients of kernels, bias and images. Caffe2: ConvTransposeGradient.

    They are as many as there are outputs: that of the images, the last one, is not computed where
    it is left out.
    """
    quiet, no_bias = given.pop("no_gradient_to_input", 0), given.pop("no_bias", 0)
    laid, channels = _laid("ConvTransposeGradient", x, w, given)
    wanted = laid.shape(len(x), channels, laid.image)
    if dy.shape != wanted:
        raise ValueError(
            f"ConvTransposeGradient: the gradient of the result is {wanted}, not {dy.shape}"
        )
    x, w, dy = promote(x, w, dy)
    dw, db, dx = made = results(outs, w, channels, x, no_bias, quiet)
    small, big = laid.first(x), laid.first(dy)
    if db is not None:
        np.add.reduce(big, axis=(0, *range(2, big.ndim)), out=db)
    target = np.empty(laid.first(dw).shape, dw.dtype) if laid.last else dw
    slopes(laid, big, small, target)
    if target is not dw:
        np.copyto(laid.first(dw), target)
    if dx is not None:
        gather(laid, big, kernels(laid, w), None, laid.first(dx))
    return tuple(each for each in made if each is not None)
