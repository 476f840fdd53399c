"""Direct calls: members of a common world read each other's large tensors where they lie.

The protocol is told in `procession.blobs.exchange`. Here is which elements are read by whom, in
which order (`Direct`), and how a member comes by the others' arrays (`Sight`).
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from procession.blobs import segment
from procession.blobs.exchange import AGAIN, EXCHANGED, NEWLY, NOT, PART
from procession.operators.arrays import Array
from procession.operators.plans import Span, fold, parts_of

ROUND = 2 << 20
"""Bytes that are reduced, by all together, before the results of the round before are copied."""
AT_ONCE = 1 << 16
"""With more than two members: bytes up to which a tensor goes through the areas."""
AT_ONCE_OF_TWO = PART
"""The same with two."""
_CACHE_LINE = 64

Place = tuple[str, int, int]
"""Segment, its size, and where in it an array begins."""
Places = Callable[[Sequence[int], bool], "list[Place] | None"]
"""Where the inputs of these numbers lie, and then, if so wanted, the results in their places; None
if the others may not look at one of them."""
Lent = tuple[Sequence[Array], Sequence[Array]]
"""A member's large inputs and results, each as a row."""


class Fold(NamedTuple):
    """Something to be reduced."""

    values: Sequence[Array]
    """By rank."""
    out: Array
    """Where to; it may be one of the values."""
    first: Array
    """Where to as long as `out` has not been read."""


class Copy(NamedTuple):
    """Something to be copied."""

    out: Array
    value: Array


Round = tuple[Sequence[Fold], Sequence[Copy]]
"""What is reduced before a meeting, and what is copied behind it."""


class Way(NamedTuple):
    """What a member does between the first meeting and the last."""

    rounds: Sequence[Round]
    meets: bool
    """Whether there is a meeting in each round. Without, all is read that was there before."""


def shares_of(part: Sequence[Span], size: int, itemsize: int) -> list[list[tuple[int, int, int]]]:
    """A part, cut into as many shares as there are members: (array, start, stop), by rank."""
    count = sum([stop - start for _, start, stop, _ in part])
    even = max(1, _CACHE_LINE // itemsize)
    cuts = [min(count, -(-(rank * count // size) // even) * even) for rank in range(size)]
    shares = []
    for first, last in zip(cuts, [*cuts[1:], count], strict=True):
        share = []
        for array, start, stop, at in part:
            begin, end = max(start, start + first - at), min(stop, start + last - at)
            if begin < end:
                share.append((array, begin, end))
        shares.append(share)
    return shares


def rounds_of(lengths: Sequence[int], size: int, itemsize: int) -> list[list[list[Any]]]:
    """Arrays of these lengths, cut into rounds, and each round into shares."""
    room = max(1, ROUND // itemsize)
    return [shares_of(part, size, itemsize) for part in parts_of(lengths, room)]


class Direct:
    """What is known of calls that look alike and have large tensors.

    Args:
        xs: The tensors.
        size: How many members there are.
    """

    __slots__ = ("large", "places", "refused", "rounds", "seen", "sight", "small", "spans")

    def __init__(self, xs: Sequence[Array], size: int) -> None:
        self.large = [index for index, x in enumerate(xs) if x.nbytes >= EXCHANGED]
        self.small = [index for index, x in enumerate(xs) if x.nbytes < EXCHANGED]
        spans = parts_of([xs[index].size for index in self.small], PART // xs[0].itemsize)[0]
        self.spans = [Span(self.small[span.array], *span[1:]) for span in spans]
        """Where the small ones are in an area."""
        lengths = [xs[index].size for index in self.large]
        self.rounds = rounds_of(lengths, size, xs[0].itemsize)
        self.seen = False
        """Whether there was such a call before."""
        self.refused = False
        """Whether somebody could not map something."""
        self.sight: Sight | None = None
        self.places: list[Place] | None = None
        """Where they lie in this call, if that is new."""


class Sight(NamedTuple):
    """What a member sees of the others in calls that look alike, until something moves."""

    xs: Sequence[Array]
    outs: Sequence[Array]
    """Its own, by which it knows that they are where they were."""
    places: Sequence[Place]
    """Where that is."""
    names: frozenset[str]
    """The others' segments."""
    way: Way


def are_large(xs: Sequence[Array], size: int) -> bool:
    """Whether a call of such tensors is worth being direct.

    Args:
        xs: The tensors.
        size: How many members there are.
    """
    large = small = 0
    for x in xs:
        nbytes = x.nbytes
        if nbytes >= EXCHANGED:
            large += nbytes
        else:
            small += nbytes
    at_once = AT_ONCE_OF_TWO if size <= 2 else AT_ONCE
    return large > at_once and small <= at_once


def offer_of(
    direct: Direct, xs: Sequence[Array], outs: Sequence[Array], places: Places | None, results: bool
) -> int:
    """What a member offers the others; see `procession.blobs.exchange`."""
    sight = direct.sight
    if sight is not None and _are(xs, sight.xs) and _are(outs, sight.outs):
        return AGAIN
    if not direct.seen:
        # It may be the only one.
        direct.seen = True
        return NOT
    if direct.refused or places is None:
        return NOT
    direct.places = places(direct.large, results)
    if direct.places is None or len(_list(direct.places)) > PART:
        return NOT
    return NEWLY


def _are(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return len(some) == len(others) and all(map(_is, some, others))


def _is(one: Array, other: Array) -> bool:
    return one is other


def _list(places: Sequence[Place]) -> bytes:
    text = marshal.dumps(list(places))
    return len(text).to_bytes(8, "little") + text


def write_places(area: memoryview, places: Sequence[Place]) -> None:
    """Tell the others where one's tensors lie."""
    text = _list(places)
    area[: len(text)] = text


def read_places(area: memoryview) -> list[Place]:
    """Where another's tensors lie."""
    length = int.from_bytes(area[:8], "little")
    found: list[Place] = marshal.loads(area[8 : 8 + length])
    return found


class Maps:
    """The segments of others that a member has mapped, each for as long as it has its name."""

    __slots__ = ("_maps",)

    def __init__(self) -> None:
        self._maps: dict[str, Any] = {}

    def arrays(
        self, places: Sequence[Place], lengths: Sequence[int], dtype: np.dtype[Any]
    ) -> list[Array]:
        """Read-only arrays over these places.

        Raises:
            OSError, ValueError: One of them cannot be mapped.
        """
        found = []
        for (name, nbytes, offset), length in zip(places, lengths, strict=True):
            memory = self._maps.get(name)
            if memory is None:
                memory = self._maps[name] = segment.look(name, nbytes)
            found.append(np.frombuffer(memory, dtype, length, offset))
        return found

    def tidy(self) -> set[str]:
        """Let go of those that their node has given back; their names."""
        gone = {name for name in self._maps if not segment.is_there(name)}
        for name in gone:
            del self._maps[name]
        return gone

    def clear(self) -> None:
        """Let go of all."""
        self._maps.clear()


# The ways.


def allreduce_way(direct: Direct, lent: Sequence[Lent], rank: int) -> Way:
    """All get what is reduced of all inputs."""
    ins, outs = [each[0] for each in lent], [each[1] for each in lent]
    own = outs[rank]
    scratch = _Scratch(own[0].dtype)
    rounds = []
    for shares in direct.rounds:
        folds = [
            scratch.fold([each[i][start:stop] for each in ins], own[i][start:stop], rank)
            for i, start, stop in shares[rank]
        ]
        copies = [
            Copy(own[i][start:stop], outs[other][i][start:stop])
            for other, share in enumerate(shares)
            if other != rank
            for i, start, stop in share
        ]
        rounds.append((folds, copies))
    return Way(rounds, True)


def reduce_way(direct: Direct, lent: Sequence[Lent], rank: int) -> Way:
    """The root alone, who has results, gets what is reduced of all inputs."""
    ins, own = [each[0] for each in lent], lent[rank][1]
    scratch = _Scratch(ins[0][0].dtype)
    rounds: list[Round] = [
        (
            [
                scratch.fold([each[i][start:stop] for each in ins], own[i][start:stop], rank)
                for share in shares
                for i, start, stop in share
            ],
            (),
        )
        for shares in direct.rounds
        if own
    ]
    return Way(rounds, False)


def broadcast_way(direct: Direct, lent: Sequence[Lent], rank: int, root: int) -> Way:
    """All get the inputs of one."""
    copies = [
        Copy(out, x)
        for out, x in zip(lent[rank][1], lent[root][0], strict=True)
        if rank != root or _begin(out) != _begin(x)
    ]
    return Way([((), copies)], False)


def allgather_way(direct: Direct, lent: Sequence[Lent], rank: int, offsets: Sequence[int]) -> Way:
    """All get all inputs, one behind the other; `offsets` has an end for each tensor."""
    (out,) = lent[rank][1]
    copies = []
    for other, (ins, _) in enumerate(lent):
        for index, x in zip(direct.large, ins, strict=True):
            first = other * offsets[-1] + offsets[index]
            copies.append(Copy(out[first : first + x.size], x))
    return Way([((), copies)], False)


def reduce_scatter_way(direct: Direct, lent: Sequence[Lent], rank: int) -> Way:
    """Each gets a part of what is reduced of all inputs."""
    size, scratch = len(lent), _Scratch(lent[rank][0][0].dtype)
    folds = []
    for i, out in enumerate(lent[rank][1]):
        parts = [ins[i].reshape(size, -1)[rank] for ins, _ in lent]
        room = max(1, ROUND // size // out.itemsize)
        for start in range(0, out.size, room):
            piece = slice(start, start + room)
            folds.append(scratch.fold([part[piece] for part in parts], out[piece], rank))
    return Way([(folds, ())], False)


class _Scratch:
    """Where values are reduced to as long as what lies at their end is not read."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._array: Array = np.empty(0, dtype)

    def fold(self, values: Sequence[Array], out: Array, rank: int) -> Fold:
        first = out
        if rank > 1 and _begin(values[rank]) == _begin(out):
            if self._array.size < out.size:
                self._array = np.empty(out.size, out.dtype)
            first = self._array[: out.size]
        return Fold(values, out, first)


def _begin(array: Array) -> int:
    begin: int = array.__array_interface__["data"][0]
    return begin


def do_folds(folds: Iterable[Fold], op: str, rank: int) -> None:
    """Reduce."""
    for values, out, first in folds:
        fold(values, out, op, first, rank)


def do_copies(copies: Iterable[Copy]) -> None:
    """Copy."""
    for out, value in copies:
        np.copyto(out, value)
