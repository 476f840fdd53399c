"""Convolutions as products of matrices.

What a window sees at all its places is laid out as a matrix, with one column for each place and
each image. With W the kernels as a matrix, one row for each, there are three products:

    gather      small = W columns(big)
    scatter     big = the sum of what W' small says of each place, the way back of `columns`
    slopes      dW = small columns(big)'

Conv gathers, and its gradient needs the two others; ConvTranspose scatters, and has the rest for
its gradient. `big` and `small` are views with the channels in front, (N, C, ...); the targets that
are written are such views, too. Kernels are (M, C / group, ...) and contiguous.

The columns are made for some images at a time, or for some rows of places of one, in memory that
the thread keeps, so that they are still in a cache when they are multiplied. What is copied should
be long runs of numbers. Where rows are short and images several, the images are the last dimension
of the columns. Otherwise the columns come about in two stages, where that pays: what the window
sees of each row of an image, and then, which is whole rows of that, of all of it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Shape
from procession.operators.windows import Window

CHUNK = 1 << 22
"""How many bytes columns may have; those of one row of places may have more."""
PAGE, LINE = 4096, 64
"""How far apart in memory things compete for the same place in a cache, and how long those are."""
PLACES = 64
"""From so many places on, an image is worth a product of its own."""
SEVERAL = 4
"""From so many images on, that are taken at a time, they may be the last dimension."""

_local = threading.local()


def scratch(name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Memory that the thread keeps, if it is not too much; nobody else has `name` meanwhile."""
    size = math.prod(shape) * dtype.itemsize
    if size > 2 * CHUNK:
        return np.empty(shape, dtype)
    kept: dict[str, Array] = _local.__dict__
    memory = kept.get(name)
    if memory is None or memory.size < size:
        memory = kept[name] = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)


def _view(x: Array, shape: Shape, strides: Shape) -> Array:
    """X with that shape and those strides. Its numbers are there more than once: not to write."""
    if x.flags.c_contiguous:
        return np.ndarray(shape, x.dtype, x, 0, strides)  # a tenth of the time
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


@lru_cache(maxsize=512)
def _stages(window: Window) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Where the two stages of the way back read and write.

    First, for each place in the window but along the last dimension: where it is in columns,
    (C, *kernel, N, *places), and in what was seen of rows, (C, kernel, N, *reach, places). Then,
    for each place along the last dimension: where it is in that, and in bordered images.
    """
    everything = slice(None)
    axes = len(window.places)
    dilation, stride = window.steps[:axes], window.steps[axes:]
    seen_by = [
        [slice(i * d, i * d + (o - 1) * s + 1, s) for i in range(k)]
        for k, d, o, s in zip(window.kernel, dilation, window.places, stride, strict=True)
    ]
    rows = []
    for index in np.ndindex(*window.kernel[:-1]):
        region = (each[i] for each, i in zip(seen_by, index, strict=False))
        rows.append(((everything, *index), (everything, everything, everything, *region)))
    along = [((everything, i), (..., region)) for i, region in enumerate(seen_by[-1])]
    return rows, along


@lru_cache(maxsize=512)
def _strips(window: Window, size: int, most: int) -> tuple[tuple[slice, Window], ...]:
    """The window at some of its places at a time, as many as have columns of `most` bytes.

    `size` is how many bytes there are for one place. The slices say which places along the first
    dimension.
    """
    step = max(1, most // max(1, size * math.prod(window.places[1:])))
    count = window.places[0]
    if step >= count:
        return ((slice(0, count), window),)
    made = []
    for start in range(0, count, step):
        stop = min(start + step, count)
        made.append((slice(start, stop), window.strip(start, stop)))
    return tuple(made)


class _Columns:
    """Makes the columns of some images at a time, in one of two orders."""

    def __init__(
        self, window: Window, channels: int, count: int, dtype: np.dtype[Any], row: int
    ) -> None:
        """For `count` images in all. Up to `row` numbers are a short row, if images are several."""
        self.window, self.channels, self.dtype = window, channels, dtype
        self.places = math.prod(window.places)
        self.rows = channels * math.prod(window.kernel)
        self.chunk = max(1, CHUNK // max(1, self.rows * self.places * dtype.itemsize))
        several = min(self.chunk, count) >= SEVERAL
        self.last = window.last or (several and window.places[-1] <= row)
        axes = self.axes = len(window.places)
        self.staged = (
            not self.last
            and axes > 1
            and window.steps[2 * axes - 2] == 1
            and min(window.kernel[-1], math.prod(window.kernel[:-1])) > 1
        )

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
        return scratch(name, (channels, *self.order(count, size)), self.dtype)

    def beside(self, small: Array) -> Array:
        """Images, contiguous, with the places and N in the order of the columns."""
        turned = self.turned(small)
        if turned.flags.c_contiguous:
            return turned
        memory = self.memory("small", len(small), small.shape[1], self.window.places)
        take(turned, memory)
        return memory

    def empty(self, count: int) -> Array:
        """Columns: (C, *kernel, *places, N), or with N before the places."""
        window = self.window
        shape = (self.channels, *window.kernel, *self.order(count, window.places))
        return scratch("columns", shape, self.dtype)

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
            take(turned[self.within(window.seen)], bordered[self.within(window.inner)])
        else:
            bordered = turned[self.within(window.seen)]
        if self.staged:
            return self.read_in_stages(bordered)
        first = 1 if self.last else 2
        along = bordered.strides[first : first + self.axes] * 2
        along = tuple(stride * step for stride, step in zip(along, window.steps, strict=True))
        inside, places = along[: self.axes], along[self.axes :]
        each = bordered.strides[-1:] if self.last else bordered.strides[1:2]
        order = (*places, *each) if self.last else (*each, *places)
        columns = self.empty(len(big))
        view = _view(bordered, columns.shape, (bordered.strides[0], *inside, *order))
        np.copyto(columns, view)
        return columns

    def stage(self, count: int) -> Array:
        """What is seen of rows: (C, kernel, N, *reach, places)."""
        window = self.window
        size = (*window.reach[:-1], window.places[-1])
        return scratch("stage", (self.channels, window.kernel[-1], count, *size), self.dtype)

    def read_in_stages(self, bordered: Array) -> Array:
        axes, steps = self.axes, self.window.steps
        channel, image, *rows, along = bordered.strides
        stage, columns = self.stage(bordered.shape[1]), self.empty(bordered.shape[1])
        dilation, stride = steps[axes - 1], steps[-1]
        strides = (channel, along * dilation, image, *rows, along * stride)
        view = _view(bordered, stage.shape, strides)
        np.copyto(stage, view)
        channel, inside, image, *rows, along = stage.strides
        dilated = (row * step for row, step in zip(rows, steps, strict=False))
        strided = (row * step for row, step in zip(rows, steps[axes:], strict=False))
        strides = (channel, *dilated, inside, image, *strided, along)
        view = _view(stage, columns.shape, strides)
        np.copyto(columns, view)
        return columns

    def add_up(self, columns: Array, bordered: Array) -> None:
        """Add what columns say to bordered images."""
        if not self.staged:
            for place, after_one, after_two in self.window.offsets:
                target = bordered[after_one if self.last else after_two]
                np.add(target, columns[place], target)
            return
        rows, along = _stages(self.window)
        stage = self.stage(bordered.shape[1])
        stage.fill(0)
        for place, region in rows:
            target = stage[region]
            np.add(target, columns[place], target)
        for place, region in along:
            target = bordered[region]
            np.add(target, stage[place], target)

    def write(self, columns: Array, big: Array, bias: Array | None, more: bool = False) -> None:
        """What columns say, added up in images, plus a bias per channel.

        With `more` it is added to what is there already.
        """
        window, turned = self.window, self.turned(big)
        if bias is not None:
            bias = _bias(bias, turned.ndim - 1)
        direct = not self.last and not window.bordered
        if not more and (direct or not window.covering):
            turned[...] = 0 if bias is None else bias
        if direct:
            bordered = turned[self.within(window.seen)]
        else:
            bordered = self.memory("big", len(big), self.channels, window.reach)
            bordered.fill(0)
        self.add_up(columns, bordered)
        if not direct:
            inner, seen = bordered[self.within(window.inner)], turned[self.within(window.seen)]
            if more:
                np.add(seen, inner, seen)
            else:
                _put(inner, bias, seen)


def take(turned: Array, memory: Array) -> None:
    """Copy turned images to where N is the last dimension.

    Numbers that are a large power of two apart, as those of images often are, compete for few
    places in a cache. No more of them are taken at once than it is sure to hold.
    """
    apart = math.gcd(turned.strides[-1], PAGE)
    step = max(8 * PAGE // max(apart, LINE), 8)
    for start in range(0, turned.shape[-1], step):
        part = slice(start, start + step)
        np.copyto(memory[..., part], turned[..., part])


def _put(memory: Array, bias: Array | None, turned: Array) -> None:
    """The way back, plus a bias, which is added to what is copied."""
    if bias is not None:
        np.add(memory, bias, memory)
    if turned is not memory:
        np.copyto(turned, memory)


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
        _product(rows, w[0].T, made)
    else:
        rows, made = _flat(source, group), _flat(target, group)
        if rows is None or made is None:
            return False
        _product(w, rows, made)
    if bias is not None:
        np.add(target, _bias(bias, target.ndim - 2), out=target)
    return True


def _pointwise_slopes(
    window: Window, big: Array, small: Array, into: Array, db: Array | None
) -> bool:
    """What `slopes` makes but for images, if there is one number in a window and it takes no copy.

    Says whether it is done.
    """
    group = window.group
    if not window.pointwise:
        return False
    left, right = _rows(small, group), _rows(big, group)
    if left is not None and right is not None:
        _product(left.T, right, into[0])
        if db is not None:
            np.add.reduce(left, axis=0, out=db)
        return True
    left, right = _flat(small, group), _flat(big, group)
    if left is None or right is None or left.shape[3] < PLACES:
        return False
    step = max(1, CHUNK // into.nbytes)
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        each = scratch("slopes", (len(left[part]), *into.shape), into.dtype)
        _product(left[part], right[part].swapaxes(2, 3), each)
        if start:
            into += np.add.reduce(each, axis=0)
        else:
            np.add.reduce(each, axis=0, out=into)
    if db is not None:
        np.add.reduce(np.add.reduce(left, axis=3), axis=0, out=db.reshape(group, -1))
    return True


def _matrices(w: Array, group: int) -> Array:
    return w.reshape(group, len(w) // group, -1)


def _product(a: Array, b: Array, out: Array) -> Array:
    """The products of matrices. Of columns and rows np.matmul makes many times the work."""
    if a.shape[-1] == 1:
        return np.multiply(a, b, out)
    made: Array = np.matmul(a, b, out)
    return made


def _pieces(window: Window, big: Array, row: int) -> Iterator[tuple[_Columns, slice, slice, bool]]:
    """What is done at a time: what makes the columns, which images, which of the first places.

    Last: whether these images have been seen before, at other places.
    """
    channels = big.shape[1]
    size = channels * math.prod(window.kernel) * big.itemsize
    for places, strip in _strips(window, size, CHUNK):
        made = _Columns(strip, channels, len(big), big.dtype, row)
        for chunk in made.chunks(len(big)):
            yield made, chunk, places, bool(places.start)


def gather(window: Window, big: Array, w: Array, bias: Array | None, small: Array) -> None:
    """Convolve: `small` is W times the columns of `big`, plus a bias per channel."""
    group = window.group
    kernels = _matrices(w, group)
    if not small.size:
        return
    if _pointwise(window, big, kernels, bias, small):
        return
    for made, chunk, places, _ in _pieces(window, big, 16):
        matrices = made.matrices(made.read(big[chunk]))
        part = small[chunk][:, :, places]
        turned = made.turned(part)
        whole = len(part) == 1 and part.flags.c_contiguous
        product = turned if whole else made.memory("small", len(part), len(w), made.window.places)
        _product(kernels, matrices, product.reshape(group, len(w) // group, -1))
        _put(product, None if bias is None else _bias(bias, turned.ndim - 1), turned)


def scatter(window: Window, small: Array, w: Array, bias: Array | None, big: Array) -> None:
    """Add up in `big` what W' times `small` says of each place, plus a bias per channel."""
    group = window.group
    kernels = _matrices(w, group).swapaxes(1, 2)
    if not big.size:
        return
    if _pointwise(window, small, kernels, bias, big):
        return
    for made, chunk, places, more in _pieces(window, big, 32):
        columns = made.empty(len(big[chunk]))
        right = _matrices(made.beside(small[chunk][:, :, places]), group)
        _product(kernels, right, made.matrices(columns))
        made.write(columns, big[chunk], bias, more)


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
    if not small.size or not big.size:
        dw.fill(0)
        if db is not None:
            np.add.reduce(small, axis=(0, *range(2, small.ndim)), out=db)
        if dbig is not None:
            dbig[...] = 0
        return
    if _pointwise_slopes(window, big, small, into, db):
        if w is not None and dbig is not None:
            scatter(window, small, w, None, dbig)
        return
    started = False
    for made, chunk, places, more in _pieces(window, big, 16 if dbig is None else 32):
        turned = made.beside(small[chunk][:, :, places])
        columns = made.read(big[chunk])
        matrices, slope = made.matrices(columns), _matrices(turned, group)
        each = turned.reshape(len(turned), -1)
        if not started:
            _product(slope, matrices.swapaxes(1, 2), into)
            if db is not None:
                np.add.reduce(each, axis=1, out=db)
        else:
            into += _product(
                slope, matrices.swapaxes(1, 2), scratch("slopes", into.shape, into.dtype)
            )
            if db is not None:
                db += np.add.reduce(each, axis=1)
        started = True
        if w is not None and dbig is not None:
            _product(_matrices(w, group).swapaxes(1, 2), slope, matrices)
            made.write(columns, dbig[chunk], None, more)
