"""Tensors with channels, as kernels look at them: what belongs to a channel, and sums over it.

A tensor is seen as (images, channels, pixels), or, where the channels come last, as a matrix with a
column for each of them. What is done to all of it is done piece by piece, and a piece is
still in the cache when the next step wants it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from procession.operators.arrays import Array, floats, text

PIECE = 1 << 18
"""About how many bytes are done at a time."""


def by_channel(operator: str, x: Array, order: str | bytes) -> Array:
    """X as (images, channels, pixels), or as a matrix whose columns are the channels.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: X has fewer than two dimensions, or there is no such order.
    """
    floats(operator, x)
    if x.ndim < 2:
        raise ValueError(f"{operator}: X is {x.shape}, and has no dimension of channels")
    if channels_last(operator, order) or x.ndim == 2:
        return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, x.shape[-1])
    pixels = x.size // (x.shape[0] * x.shape[1]) if x.size else 0
    return x.reshape(x.shape[0], x.shape[1], pixels)


def channels_last(operator: str, order: str | bytes) -> bool:
    """Whether the channels are the last dimension, and not the second one."""
    named = text(order)
    if named not in ("NCHW", "NHWC"):
        raise ValueError(f"{operator}: order={named!r} is neither 'NCHW' nor 'NHWC'")
    return named == "NHWC"


def spread(values: Array, x: Array) -> Array:
    """One value for each channel, to be broadcast over what `by_channel` made."""
    return values if x.ndim == 2 else values[:, np.newaxis]


def pieces(x: Array) -> Iterator[slice]:
    """Slices of the first dimension, each about as large as is handy."""
    count = len(x)
    step = max(1, PIECE * count // max(x.nbytes, 1))
    for start in range(0, count, step):
        yield slice(start, start + step)


def sums(x: Array) -> Array:
    """The sum of each channel."""
    if x.ndim == 2:
        return np.asarray(np.ones(len(x), x.dtype) @ x)
    images, channels, pixels = x.shape
    each = x.reshape(images * channels, pixels) @ np.ones(pixels, x.dtype)
    return np.asarray(np.add.reduce(each.reshape(images, channels), axis=0))


def products(a: Array, b: Array) -> Array:
    """The sum of a * b of each channel."""
    if a.ndim == 2:
        return np.asarray(np.einsum("ij,ij->j", a, b))
    images, channels, pixels = a.shape
    rows = (images * channels, pixels)
    each = np.einsum("ij,ij->i", a.reshape(rows), b.reshape(rows))
    return np.asarray(np.add.reduce(each.reshape(images, channels), axis=0))


def checked(operator: str, name: str, values: Array, channels: int, like: Array) -> Array:
    """A vector with one value for each channel, in the type of X.

    Raises:
        ValueError: There is another number of values.
    """
    if values.size != channels:
        raise ValueError(f"{operator}: {name} is {values.shape}, for {channels} channels")
    return values.reshape(channels).astype(like.dtype, copy=False)
