"""Convolutions: Conv, for images of any number of dimensions, and its names for one to three."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, floats, promote, result
from procession.operators.columns import gather, slopes
from procession.operators.registry import Rules, described, emit, operator
from procession.operators.windows import (
    DILATION,
    GROUP,
    LEGACY,
    WINDOW,
    Argument,
    Window,
    check_dimensions,
    key,
    own,
    takes,
    window,
)

QUIET: Mapping[str, Argument] = {
    "no_gradient_to_input": Argument(
        "int", 0, "1 if nobody wants the gradient of the images, as in front of a network."
    ),
}

UNBIASED: Mapping[str, Argument] = {
    "no_bias": Argument("int", 0, "1 if there was no bias, and its gradient is left out."),
}


def kernels(laid: Window, w: Array) -> Array:
    """Kernels, contiguous and with the channels in front."""
    return np.ascontiguousarray(laid.first(w))


def _laid(operator: str, x: Array, w: Array, given: Mapping[str, Any]) -> Window:
    """The window of kernels on images; all is checked but the bias."""
    floats(operator, x, w)
    laid = window(operator, x.shape, key(given))
    group, channels = laid.group, x.shape[-1 if laid.last else 1]
    if w.ndim != x.ndim:
        raise ValueError(
            f"{operator}: images {x.shape} have {x.ndim} dimensions, kernels {w.shape} {w.ndim}"
        )
    if channels % group or len(w) % group:
        raise ValueError(
            f"{operator}: {channels} channels and {len(w)} kernels are not to be divided into"
            f" {group} groups"
        )
    wanted = laid.shape(len(w), channels // group, laid.kernel)
    if w.shape != wanted:
        raise ValueError(
            f"{operator}: kernels for {channels} channels in {group} groups are {wanted}, not"
            f" {w.shape}"
        )
    return laid


def _conv(
    name: str,
    dimensions: int,
    x: Array,
    w: Array,
    b: Array | None,
    out: Array | None,
    given: Mapping[str, Any],
) -> Array:
    check_dimensions(name, x, dimensions)
    laid = _laid(name, x, w, given)
    if b is None:
        x, w = promote(x, w)
    else:
        if b.shape != (len(w),):
            raise ValueError(
                f"{name}: the bias is {b.shape}, for {len(w)} kernels it is {(len(w),)}"
            )
        x, w, b = promote(x, w, b)
    read = (x, w) if b is None else (x, w, b)
    y = own(out, laid.shape(len(x), len(w), laid.places), x.dtype, *read)
    gather(laid, laid.first(x), kernels(laid, w), b, laid.first(y))
    return y


def _conv_gradient(
    name: str,
    x: Array,
    w: Array,
    dy: Array,
    outs: Outs,
    given: dict[str, Any],
) -> tuple[Array, ...]:
    quiet, no_bias = given.pop("no_gradient_to_input", 0), given.pop("no_bias", 0)
    laid = _laid(name, x, w, given)
    wanted = laid.shape(len(x), len(w), laid.places)
    if dy.shape != wanted:
        raise ValueError(f"{name}: the gradient of the result is {wanted}, not {dy.shape}")
    x, w, dy = promote(x, w, dy)
    dw, db, dx = made = results(outs, w, len(w), x, no_bias, quiet)
    target = np.empty(laid.first(dw).shape, dw.dtype) if laid.last else dw
    to_x = None if dx is None else laid.first(dx)
    slopes(laid, laid.first(x), laid.first(dy), target, db, kernels(laid, w), to_x)
    if target is not dw:
        np.copyto(laid.first(dw), target)
    return tuple(each for each in made if each is not None)


def results(
    outs: Outs, w: Array, channels: int, x: Array, no_bias: int, quiet: int
) -> tuple[Array, Array | None, Array | None]:
    """What the gradients of kernels, bias and images are written to; None: nobody wants it.

    They are outputs in that order. The last ones are wanted if there are as many outputs.
    """
    places = list(outs) if outs else [None] * 3
    dw = result(places.pop(0), w.shape, w.dtype)
    db = dx = None
    if places and not no_bias:
        db = result(places.pop(0), (channels,), w.dtype)
    if places and not quiet:
        dx = result(places.pop(0), x.shape, x.dtype)
    return dw, db, dx


def rules(gradient: str, inputs: int, arguments: Mapping[str, Any]) -> Rules:
    """The gradients of kernels, bias and images."""
    given = {name: value for name, value in arguments.items() if name != "n_outputs"}
    wanted = ["GI1", "GI2", "GI0"]
    if arguments["no_gradient_to_input"]:
        wanted.remove("GI0")
    if inputs == 2:
        wanted.remove("GI2")
        given["no_bias"] = 1
    return [emit(gradient, "I0 I1 GO0", " ".join(wanted), **given)]


def _declare(dimensions: int) -> None:
    name = f"Conv{dimensions}D" if dimensions else "Conv"
    about = f" of {dimensions} dimension{'s' * (dimensions > 1)}" if dimensions else ""

    @operator(name, gradient=partial(rules, f"{name}Gradient"))
    @takes(WINDOW, DILATION, GROUP, LEGACY, QUIET)
    @described(
        name.lower(),
        f"Images{about} convolved with kernels, plus a bias for each of these. Caffe2: {name}.\n\n"
        "Images are (N, C, ...), kernels are (M, C / group, ...), the bias is (M,), and the result "
        "is (N, M, ...). In the order NHWC the channels of all three are last.\n\n"
        "Raises:\n"
        "    TypeError: The inputs do not hold floating-point numbers.\n"
        "    ValueError: The shapes and the arguments do not go together.",
    )
    def conv(
        x: Array, w: Array, b: Array | None = None, *, out: Array | None = None, **given: Any
    ) -> Array:
        given.pop("no_gradient_to_input", None)
        return _conv(name, dimensions, x, w, b, out, given)

    @operator(f"{name}Gradient", outputs=(1, 3), spare_last=True)
    @takes(WINDOW, DILATION, GROUP, LEGACY, QUIET, UNBIASED)
    @described(
        f"{name.lower()}_gradient",
        f"The gradients of kernels, bias and images{about}. Caffe2: {name}Gradient.\n\n"
        "They are as many as there are outputs: that of the images, the last one, is not computed "
        "where it is left out.",
    )
    def gradient(
        x: Array,
        w: Array,
        dy: Array,
        *,
        outs: Outs = None,
        **given: Any,
    ) -> tuple[Array, ...]:
        check_dimensions(f"{name}Gradient", x, dimensions)
        return _conv_gradient(f"{name}Gradient", x, w, dy, outs, given)


for _dimensions in (0, 1, 2, 3):
    _declare(_dimensions)
