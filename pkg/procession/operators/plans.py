"""What a call of a common world's members is made of: which elements go through in which part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from procession.blobs.exchange import PART
from procession.operators.arrays import Array

UFUNCS: dict[str, Callable[..., Any]] = {
    "sum": np.add,
    "mean": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "prod": np.multiply,
}


class Span(NamedTuple):
    """Elements of one array that lie in an area."""

    array: int
    start: int
    stop: int
    at: int
    """Where they begin in the area, in elements."""


@dataclass
class Plan:
    """What is known of a call by what it looks like."""

    number: int
    text: bytes
    parts: Sequence[Sequence[Span]]
    whole: Sequence[Sequence[Array]] | None = None
    """For one tensor that goes through at once: each area's beginning, as an array like it."""
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
    function = UFUNCS[op]
    if len(values) == 1:
        np.copyto(out, values[0])
    elif first is None or first is out:
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
        count = len(values)
        if count & (count - 1):
            np.divide(out, out.dtype.type(count), out=out)
        else:
            # The same to the bit, since 1 / count is exact, and faster.
            np.multiply(out, out.dtype.type(1 / count), out=out)


def plan_of(kind: str, xs: Sequence[Array], detail: str, shares: int) -> Plan:
    """What is known of a call: its number, its text and its parts.

    Args:
        kind: What it is called.
        xs: The tensors.
        detail: What else has to be the same.
        shares: Each tensor is cut into so many, which lie side by side in an area.
    """
    told = ", ".join([*map(look_of, xs), *([detail] if detail else [])])
    text = f"{kind}({told})".encode()
    number = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
    parts: Sequence[Sequence[Span]] = [[]]
    if xs:
        room = PART // shares // xs[0].itemsize
        parts = parts_of([x.size // shares for x in xs], room)
    return Plan(number, text, parts)
