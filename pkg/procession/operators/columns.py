"""Convolutions as products of matrices.

What a window sees at all its places is laid out as a matrix, with one column for each place and
each image. With W the kernels as a matrix, one row for each, there are three products:

    gather      small = W columns(big)
    scatter     big = the sum of what W' small says of each place, the way back of `columns`
    slopes      dW = small columns(big)'

Conv gathers, and its gradient needs the two others; ConvTranspose scatters, and has the rest for
its gradient. `big` and `small` are views with the channels in front, (N, C, ...); the targets that
are written are such views, too. Kernels are (M, C / group, ...) and contiguous.

The columns are made for some images at a time, in memory that the thread keeps, so that they are
still in a cache when they are multiplied. Where rows are short and images many, the images are the
last dimension of the columns: what is copied is then long runs of numbers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape
from procession.operators.windows import Window

CHUNK = 1 << 22
"""How many bytes the columns of some images may have; those of one image may have more."""

_local = threading.local()


def _scratch(name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Memory that the thread keeps, if it is not too much; nobody else has `name` meanwhile."""
    size = math.prod(shape) * dtype.itemsize
    if size > 2 * CHUNK:
        return np.empty(shape, dtype)
    kept: dict[str, Array] = _local.__dict__
    memory = kept.get(name)
    if memory is None or memory.size < size:
        memory = kept[name] = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)


class _Columns:
    """Makes the columns of some images at a time, in one of two orders."""

    def __init__(
        self, window: Window, channels: int, count: int, dtype: np.dtype[Any], row: int
    ) -> None:
        """For `count` images in all. Rows of `row` numbers are short, if there are some images."""
        self.window, self.channels, self.dtype = window, channels, dtype
        self.places = math.prod(window.places)
        self.rows = channels * math.prod(window.kernel)
        self.last = window.last or (count >= 16 and window.places[-1] <= row)
        self.chunk = max(1, CHUNK // max(1, self.rows * self.places * dtype.itemsize))
        self.axes = len(window.places)

    def chunks(self, count: int) -> Iterator[slice]:
        for start in range(0, count, self.chunk):
            yield slice(start, min(start + self.chunk, count))

    def turned(self, x: Array) -> Array:
        """A view of images (N, C, ...) with N where the columns have it."""
        if self.last:
            return x.transpose(*range(1, x.ndim), 0)
        return x.swapaxes(0, 1)

    def order(self, count: int, size: Shape) -> Shape:
        return (*size, count) if self.last else (count, *size)

    def memory(self, name: str, count: int, channels: int, size: Shape) -> Array:
        return _scratch(name, (channels, *self.order(count, size)), self.dtype)

    def beside(self, small: Array) -> Array:
        """Images, contiguous, with the places and N in the order of the columns."""
        turned = self.turned(small)
        if turned.flags.c_contiguous:
            return turned
        memory = self.memory("small", len(small), small.shape[1], self.window.places)
        np.copyto(memory, turned)
        return memory

    def empty(self, count: int) -> Array:
        """Columns: (C, *kernel, *places, N), or with N before the places."""
        window = self.window
        shape = (self.channels, *window.kernel, *self.order(count, window.places))
        return _scratch("columns", shape, self.dtype)

    def matrices(self, columns: Array) -> Array:
        """Columns as a matrix for each group."""
        group = self.window.group
        return columns.reshape(group, self.rows // group, -1)

    def within(self, region: tuple[slice, ...]) -> tuple[slice, ...]:
        """That region of turned images."""
        skipped = 1 if self.last else 2
        return (*(slice(None),) * skipped, *region)

    def read(self, big: Array) -> Array:
        """The columns of images."""
        window, turned = self.window, self.turned(big)
        if self.last or window.bordered:
            bordered = self.memory("big", len(big), self.channels, window.reach)
            if window.bordered:
                bordered.fill(0)
            bordered[self.within(window.inner)] = turned[self.within(window.seen)]
        else:
            bordered = turned[self.within(window.seen)]
        first = 1 if self.last else 2
        along = bordered.strides[first : first + self.axes] * 2
        along = tuple(stride * step for stride, step in zip(along, window.steps, strict=True))
        inside, places = along[: self.axes], along[self.axes :]
        each = bordered.strides[-1:] if self.last else bordered.strides[1:2]
        order = (*places, *each) if self.last else (*each, *places)
        columns = self.empty(len(big))
        view = np.lib.stride_tricks.as_strided(
            bordered, columns.shape, (bordered.strides[0], *inside, *order), writeable=False
        )
        np.copyto(columns, view)
        return columns

    def write(self, columns: Array, big: Array, bias: Array | None) -> None:
        """What columns say, added up in images, plus a bias per channel."""
        window, turned = self.window, self.turned(big)
        if bias is not None:
            bias = _bias(bias, turned.ndim - 1)
        direct = not self.last and not window.bordered
        if direct or not window.covering:
            turned[...] = 0 if bias is None else bias
        if direct:
            bordered = turned[self.within(window.seen)]
        else:
            bordered = self.memory("big", len(big), self.channels, window.reach)
            bordered.fill(0)
        for place, after_one, after_two in window.offsets:
            target = bordered[after_one if self.last else after_two]
            np.add(target, columns[place], target)
        if not direct:
            inner, seen = bordered[self.within(window.inner)], turned[self.within(window.seen)]
            if bias is None:
                np.copyto(seen, inner)
            else:
                np.add(inner, bias, out=seen)


def _bias(bias: Array, axes: int) -> Array:
    return bias.reshape(-1, *(1,) * axes)


def _flat(x: Array, group: int) -> Array | None:
    """Images (N, C, ...) as matrices (N, group, C / group, places), if that takes no copy."""
    if not x.flags.c_contiguous:
        return None
    return x.reshape(len(x), group, x.shape[1] // group, -1)


def _rows(x: Array, group: int) -> Array | None:
    """Images whose channels are the last as a matrix (N * places, C), if that takes no copy."""
    turned = x.transpose(0, *range(2, x.ndim), 1)
    if group > 1 or not turned.flags.c_contiguous:
        return None
    return turned.reshape(-1, x.shape[1])


def _pointwise(window: Window, source: Array, w: Array, bias: Array | None, target: Array) -> bool:
    """Multiply each place with W, (M, C) for each group, if images are such that it takes no copy.

    Says whether it is done.
    """
    group = window.group
    if not (window.pointwise and source.size):
        return False
    rows, made = _rows(source, group), _rows(target, group)
    if rows is not None and made is not None:
        np.matmul(rows, w[0].T, out=made)
    else:
        rows, made = _flat(source, group), _flat(target, group)
        if rows is None or made is None:
            return False
        np.matmul(w, rows, out=made)
    if bias is not None:
        np.add(target, _bias(bias, target.ndim - 2), out=target)
    return True


def _matrices(w: Array, group: int) -> Array:
    return w.reshape(group, len(w) // group, -1)


def gather(window: Window, big: Array, w: Array, bias: Array | None, small: Array) -> None:
    """Convolve: `small` is W times the columns of `big`, plus a bias per channel."""
    group = window.group
    kernels = _matrices(w, group)
    if not small.size:
        return
    if _pointwise(window, big, kernels, bias, small):
        return
    made = _Columns(window, big.shape[1], len(big), small.dtype, 16)
    for chunk in made.chunks(len(big)):
        matrices = made.matrices(made.read(big[chunk]))
        part = small[chunk]
        turned = made.turned(part)
        whole = len(part) == 1 and part.flags.c_contiguous
        product = turned if whole else made.memory("small", len(part), len(w), window.places)
        np.matmul(kernels, matrices, out=product.reshape(group, len(w) // group, -1))
        if bias is not None:
            np.add(product, _bias(bias, turned.ndim - 1), out=turned)
        elif not whole:
            np.copyto(turned, product)


def scatter(window: Window, small: Array, w: Array, bias: Array | None, big: Array) -> None:
    """Add up in `big` what W' times `small` says of each place, plus a bias per channel."""
    group = window.group
    kernels = _matrices(w, group).swapaxes(1, 2)
    if not big.size:
        return
    if _pointwise(window, small, kernels, bias, big):
        return
    made = _Columns(window, big.shape[1], len(big), big.dtype, 32)
    for chunk in made.chunks(len(big)):
        columns = made.empty(len(big[chunk]))
        right = _matrices(made.beside(small[chunk]), group)
        np.matmul(kernels, right, out=made.matrices(columns))
        made.write(columns, big[chunk], bias)


def slopes(
    window: Window,
    big: Array,
    small: Array,
    dw: Array,
    db: Array | None = None,
    w: Array | None = None,
    dbig: Array | None = None,
) -> None:
    """The gradient of W, from `big` and the gradient of `small` or the other way round.

    With `w` and `dbig` also what `scatter` makes of `small`, and with `db` its sum per channel.
    """
    group = window.group
    into = _matrices(dw, group)
    dw.fill(0)
    if db is not None:
        db.fill(0)
    if dbig is not None and not small.size:
        dbig[...] = 0
    if not small.size or not big.size:
        return
    left, right = _rows(small, group), _rows(big, group)
    if window.pointwise and left is not None and right is not None:
        np.matmul(left.T, right, out=into[0])
        if db is not None:
            np.add.reduce(left, axis=0, out=db)
        if w is not None and dbig is not None:
            scatter(window, small, w, None, dbig)
        return
    made = _Columns(window, big.shape[1], len(big), dw.dtype, 16 if dbig is None else 32)
    for chunk in made.chunks(len(big)):
        turned = made.beside(small[chunk])
        columns = made.read(big[chunk])
        matrices, slope = made.matrices(columns), _matrices(turned, group)
        if not chunk.start:
            np.matmul(slope, matrices.swapaxes(1, 2), out=into)
        else:
            into += np.matmul(slope, matrices.swapaxes(1, 2))
        if db is not None:
            db += np.add.reduce(turned.reshape(len(turned), -1), axis=1)
        if w is not None and dbig is not None:
            np.matmul(_matrices(w, group).swapaxes(1, 2), slope, out=matrices)
            made.write(columns, dbig[chunk], None)
