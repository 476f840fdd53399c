"""Rows that the members of a common world have, put one behind the other: for sparse gradients.

How many rows there are differs from member to member, and from call to call. So the members tell
each other first, and then exchange blocks that are long enough for whoever has the most.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any
from zlib import crc32

import numpy as np

from procession.errors import CollectiveError
from procession.operators.arrays import Array, Shape
from procession.operators.handles import expect
from procession.operators.plans import look_of
from procession.operators.registry import Context, operator
from procession.operators.world import World


@operator("AllgatherRows", outputs=(1, None))
def allgather_rows(comm_world: Any, *xs: Any, context: Context) -> tuple[Array, ...]:
    """The members' rows, those of rank 0 first; members may have different numbers of them.

    All tensors of a member have the same number of rows, be they indices and what belongs to them.
    Each output has the rows of the input in its place. (Caffe2 has no such operator.)

    Raises:
        TypeError: The first input is not a common world, or another not a tensor.
        ValueError: Tensors of different lengths, or no dimension; not as many outputs as tensors.
        CollectiveError: The members' rows are not alike; or see `procession.errors`.
    """
    world: World = expect(comm_world, World, "CreateCommonWorld")
    ins = _checked(xs, len(context.outputs))
    check = (lambda: None) if context.workspace is None else context.check
    kinds, number = _kinds(tuple([(x.dtype, x.shape[1:]) for x in ins]))
    own = np.array([len(ins[0]), number], np.int64)
    told = np.empty((world.size, 2), own.dtype)
    world.allgather([own], told, check)
    counts = told[:, 0].tolist()
    if (told[:, 1] != own[1]).any():
        others = [rank for rank, kind in enumerate(told[:, 1]) if kind != own[1]]
        raise CollectiveError(
            f"common world {world.name!r}, rank {world.rank} of {world.size} "
            f"(node {world.members[world.rank]!r}): its rows are of {kinds} "
            f"(0 is any number), which those of rank {others[0]} "
            f"(node {world.members[others[0]]!r}) are not",
            world=world.name,
            rank=world.rank,
            node=world.members[world.rank],
            others=tuple(world.members[other] for other in others),
        )
    outs = [np.empty((sum(counts), *x.shape[1:]), x.dtype) for x in ins]
    room = _room(max(counts))
    widths = [x.itemsize * prod(x.shape[1:]) for x in ins]
    if not room * sum(widths):
        return tuple(outs)
    block = np.zeros(room * sum(widths), np.uint8)
    blocks = np.empty((world.size, block.size), np.uint8)
    at = 0
    for x, width in zip(ins, widths, strict=True):
        _put(block[at:], x)
        at += room * width
    world.allgather([block], blocks, check)
    at = 0
    for out, width in zip(outs, widths, strict=True):
        data, first = _bytes(out), 0
        for count, row in zip(counts, blocks, strict=True):
            data[first : first + count * width] = row[at : at + count * width]
            first += count * width
        at += room * width
    return tuple(outs)


@lru_cache(maxsize=256)
def _kinds(looks: tuple[tuple[np.dtype[Any], Shape], ...]) -> tuple[str, int]:
    """What rows of tensors look like, and a number for that."""
    text = ", ".join([look_of(np.empty((0, *shape), dtype)) for dtype, shape in looks])
    return text, crc32(text.encode())


def _checked(xs: Sequence[Any], outputs: int) -> list[Array]:
    if not xs or len(xs) != outputs:
        raise ValueError(f"as many outputs as tensors are wanted: {len(xs)}, not {outputs}")
    for x in xs:
        if not isinstance(x, np.ndarray) or x.dtype.hasobject:
            raise TypeError(f"only tensors go from node to node, not a {type(x).__name__}")
        if not x.ndim or len(x) != len(xs[0]):
            shapes = ", ".join(str(x.shape) for x in xs)
            raise ValueError(f"tensors of one call have the same number of rows: not {shapes}")
    return [np.ascontiguousarray(x) for x in xs]


def _room(rows: int) -> int:
    """A little more, so that calls with about as many rows look alike to the world."""
    step = 1 << max(0, rows.bit_length() - 3)
    return -(-rows // step) * step


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)


def _put(area: Array, array: Array) -> None:
    data = _bytes(array)
    area[: len(data)] = data
