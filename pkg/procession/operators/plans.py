"""What a call of a common world's members is made of: which elements go through in which part."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from procession.blobs.exchange import PART, TEXT_ROOM
from procession.operators.arrays import Array

UFUNCS: dict[str, Callable[..., Any]] = {
    "sum": np.add,
    "mean": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "prod": np.multiply,
}
SHOWN = 6
"""So many of a call's tensors are shown."""


class Span(NamedTuple):
    """Elements of one array that lie in an area."""

    array: int
    start: int
    stop: int
    at: int
    """Where they begin in the area, in elements."""


Whole = tuple[Array, Sequence[Sequence[Array]]]
"""A member's own area, and for each tensor what is like it in each area."""


@dataclass
class Plan:
    """What is known of a call by what it looks like."""

    number: int
    text: bytes
    """A line each for what it is called, what else has to be the same, and each tensor."""
    parts: Sequence[Sequence[Span]]
    nbytes: int
    """Of all tensors."""
    whole: Sequence[Whole] | None = None
    """If they go through at once: where they lie then, by turn."""
    direct: Any = None
    """What is known of it if its tensors are large; see `procession.operators.direct`."""


def parts_of(lengths: Sequence[int], room: int) -> list[list[Span]]:
    """Arrays of these lengths, laid end to end and cut into parts of so many elements.

    There is always one part, if only an empty one.
    """
    parts: list[list[Span]] = [[]]
    left = room
    for array, length in enumerate(lengths):
        start = 0
        while start < length:
            if not left:
                parts.append([])
                left = room
            count = min(left, length - start)
            parts[-1].append(Span(array, start, start + count, room - left))
            start += count
            left -= count
    return parts


def look_of(array: Array) -> str:
    """`float32(2, 3)`."""
    return f"{array.dtype}{array.shape}".replace(",)", ")")


def flat(arrays: Sequence[Array]) -> list[Array]:
    """The arrays, each as a row."""
    return [array.reshape(-1) for array in arrays]


def putter(ins: Sequence[Array]) -> Callable[[Array, Sequence[Span]], None]:
    """What puts the elements of a part into an area."""

    def put(area: Array, part: Sequence[Span]) -> None:
        for array, start, stop, at in part:
            area[at : at + stop - start] = ins[array][start:stop]

    return put


def fold(
    values: Sequence[Array], out: Array, op: str, first: Array | None = None, rank: int = 0
) -> None:
    """Reduce arrays in their order; `out` may be the first or the second of them.

    It may be another one, that of `rank`, if there is a `first` place for what is reduced before
    that.
    """
    function, count = UFUNCS[op], len(values)
    if count == 2 and op != "mean":
        function(values[0], values[1], out=out)
        return
    if count == 1:
        np.copyto(out, values[0])
        return
    if op == "mean" and out.dtype.char in _WIDER:
        _wide_mean(values, out)
        return
    if first is None or first is out:
        function(values[0], values[1], out=out)
        for value in values[2:]:
            function(out, value, out=out)
    else:
        function(values[0], values[1], out=first)
        for value in values[2:rank]:
            function(first, value, out=first)
        function(first, values[rank], out=out)
        for value in values[rank + 1 :]:
            function(out, value, out=out)
    if op == "mean":
        if out.dtype.kind in "iu":
            np.floor_divide(out, out.dtype.type(count), out=out)
        elif count & (count - 1):
            np.divide(out, out.dtype.type(count), out=out)
        else:
            # The same to the bit, since 1 / count is exact, and faster.
            np.multiply(out, out.dtype.type(1 / count), out=out)


def _wide_mean(values: Sequence[Array], out: Array) -> None:
    """A mean of values of which the sum may have no place in their type."""
    wide = np.dtype(_WIDER[out.dtype.char]).type
    total = np.array(values[0], wide)
    for value in values[1:]:
        np.add(total, value, out=total)
    divide = np.divide if out.dtype.kind == "f" else np.floor_divide
    np.copyto(out, divide(total, wide(len(values)), out=total), casting="unsafe")


_WIDER = {"e": np.float32} | dict.fromkeys("bBhHiI", np.int64)


def packed(text: bytes) -> bytes:
    """A call's text so that it has room, if it is of hundreds of tensors."""
    return text if len(text) <= TEXT_ROOM else zlib.compress(text, 9)


def _lines(text: bytes) -> list[str]:
    """The lines of a call's text, or as many as there are of it."""
    if text[:1] == b"x":
        try:
            text = zlib.decompressobj().decompress(text)
        except zlib.error:
            # It is being written.
            return ["?", ""]
    return text.decode("utf-8", "replace").split("\n")


def shown(text: bytes) -> str:
    """A call's text for people: `Allreduce(sum, 2 tensors: float32(2, 3), float32(3))`."""
    kind, *lines = _lines(text)
    detail, looks = "".join(lines[:1]), lines[1:]
    dots = ["..."] if len(looks) > SHOWN else []
    tensors = ", ".join(looks[:SHOWN] + dots)
    if len(looks) > 1:
        tensors = f"{len(looks)} tensors: {tensors}"
    return f"{kind}({', '.join(filter(None, (detail, tensors)))})"


def difference(text: bytes, other: bytes, rank: int, whose: int) -> str:
    """In which tensor calls of one kind begin to differ, if it is not to be seen at once."""
    one, another = _lines(text), _lines(other)
    if one[:2] != another[:2] or len(one) != len(another) or len(one) < 4:
        return ""
    for index, (mine, its) in enumerate(zip(one[2:], another[2:], strict=True)):
        if mine != its:
            return f"\n  tensor {index} is {mine} on rank {rank}, and {its} on rank {whose}"
    return ""


def plan_of(kind: str, xs: Sequence[Array], detail: str, shares: int) -> Plan:
    """What is known of a call: its number, its text and its parts.

    Args:
        kind: What it is called.
        xs: The tensors.
        detail: What else has to be the same.
        shares: Each tensor is cut into so many, which lie side by side in an area.
    """
    text = "\n".join([kind, detail, *map(look_of, xs)]).encode()
    number = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
    parts: Sequence[Sequence[Span]] = [[]]
    if xs:
        room = PART // shares // xs[0].itemsize
        parts = parts_of([x.size // shares for x in xs], room)
    return Plan(number, packed(text), parts, sum([x.nbytes for x in xs]))
