"""Which common worlds a runnable creates, and who is in them.

That is all that nodes have in common, so it is declared: every member has an operator that creates
the world in the same runnable, and they have to agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from procession.errors import GraphError
from procession.operators.collective import MAKERS, seat_of, world_name
from procession.runtime.program import NodeProgram, Operation

_CREATE, _CLONE = MAKERS


@dataclass(frozen=True)
class CommonWorld:
    """A world that a runnable creates."""

    name: str
    members: tuple[str, ...]
    """The nodes, by rank."""
    lanes: int
    """One, and one more for each clone."""


class _Seat(NamedTuple):
    rank: int
    size: int
    node: str
    operation: Operation

    def __str__(self) -> str:
        text = f"\n  rank {self.rank} of {self.size}, on node {self.node!r}: operator "
        text += f"{self.operation} of net {self.operation.net!r}"
        if self.operation.source:
            text += f", added at {self.operation.source}"
        return text


def worlds_of(programs: Iterable[NodeProgram]) -> tuple[CommonWorld, ...]:
    """The common worlds that programs create which run together.

    Raises:
        GraphError: The operators that create one do not agree on its size, two have one rank, a
            rank is not below the size, or some are missing.
    """
    found: dict[str, dict[int, _Seat]] = {}
    clones: dict[tuple[str, int], int] = {}
    for program in programs:
        made: set[tuple[str, int]] = set()
        cloned = 0
        for _, net in program.nets():
            for operation in net.operations:
                if operation.type == _CREATE:
                    name, seat = _seat(operation, program.node)
                    _add(found.setdefault(name, {}), name, seat)
                    made.add((name, seat.rank))
                elif operation.type == _CLONE:
                    cloned += 1
        # Of which of them is not looked at: a lane too many does no harm.
        clones.update(dict.fromkeys(made, cloned))
    return tuple(_world(name, seats, clones) for name, seats in found.items())


def _seat(operation: Operation, node: str) -> tuple[str, _Seat]:
    arguments = operation.arguments
    name = world_name(str(arguments.get("name", "")), operation.outputs[0])
    try:
        size, rank = seat_of(arguments["size"], arguments["rank"])
    except (ValueError, TypeError) as error:
        where = _Seat(arguments["rank"], arguments["size"], node, operation)
        raise GraphError(f"common world {name!r}: {error}{where}") from None
    return name, _Seat(rank, size, node, operation)


def _add(seats: dict[int, _Seat], name: str, seat: _Seat) -> None:
    for other in seats.values():
        if other.size != seat.size:
            raise GraphError(
                f"common world {name!r}: its members do not agree on its size{other}{seat}"
            )
    known = seats.setdefault(seat.rank, seat)
    if known.operation is not seat.operation or known.node != seat.node:
        raise GraphError(
            f"common world {name!r}: two members have rank {seat.rank}. A world is called as the "
            f"blob, unless it is given a name{known}{seat}"
        )


def _world(name: str, seats: dict[int, _Seat], clones: dict[tuple[str, int], int]) -> CommonWorld:
    size = next(iter(seats.values())).size
    missing = [str(rank) for rank in range(size) if rank not in seats]
    if missing:
        raise GraphError(
            f"common world {name!r}: there is no CreateCommonWorld for rank {', '.join(missing)}. "
            f"All its members are created in one runnable, and each on its node. There "
            f"{'is' if len(seats) == 1 else 'are'}{''.join(map(str, seats.values()))}"
        )
    members = tuple(seats[rank].node for rank in range(size))
    lanes = 1 + max(clones.get((name, rank), 0) for rank in range(size))
    return CommonWorld(name, members, lanes)
