"""The memory of common worlds, seen from the coordinator: making it, and who has died.

Each world that a run creates gets a segment, the name of which only its members are told, along
with the run. When the run has ended they have mapped it, or never will: then the name is taken
away. The coordinator keeps a mapping of its own for as long as somebody sits there, to write down
who has died.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from procession.blobs.exchange import Seats, block_size
from procession.blobs.segment import Segment
from procession.compiler.worlds import CommonWorld
from procession.errors import OutOfSharedMemoryError
from procession.operators.member import Venue


class Seat(NamedTuple):
    """The place of a node's rank in a world."""

    seats: Seats
    rank: int


class Seated(Protocol):
    """Who may have seats: what is known of a node."""

    name: str
    seats: list[Seat]


class Offer(NamedTuple):
    """A world, as a member is told of it with a run: plain values."""

    name: str
    members: tuple[str, ...]
    lanes: int
    segment: str
    nbytes: int


class Made(NamedTuple):
    """A world that was made for a run."""

    offer: Offer
    segment: Segment
    seats: Seats


def make(worlds: Sequence[CommonWorld], handles: Iterable[Seated]) -> list[Made]:
    """Make the memory of worlds, and have their members' handles know their seats.

    Raises:
        OutOfSharedMemoryError: There is none left.
    """
    made: list[Made] = []
    by_name = {handle.name: handle for handle in handles}
    try:
        for world in worlds:
            size = len(world.members)
            nbytes = block_size(size, world.lanes)
            try:
                segment = Segment.create(nbytes)
            except OutOfSharedMemoryError as error:
                error.message += f"\n  wanted for common world {world.name!r} of {size}"
                raise
            seats = Seats(segment.memory, size, world.lanes)
            offer = Offer(world.name, world.members, world.lanes, segment.name, nbytes)
            made.append(Made(offer, segment, seats))
            for handle in {by_name[node] for node in world.members}:
                # Those that nobody uses any more need not be told of.
                handle.seats = [seat for seat in handle.seats if not seat.seats.deserted()]
            for rank, node in enumerate(world.members):
                by_name[node].seats.append(Seat(seats, rank))
    except BaseException:
        over(made)
        raise
    return made


def offers(made: Iterable[Made], node: str) -> tuple[tuple[object, ...], ...]:
    """What a node is told of them."""
    return tuple(tuple(each.offer) for each in made if node in each.offer.members)


def over(made: Iterable[Made]) -> None:
    """The run has ended: who has not joined does not any more."""
    for each in made:
        each.segment.unlink()
        for rank in range(len(each.offer.members)):
            each.seats.never_came(rank)


def places(offered: Iterable[tuple[object, ...]], node: str) -> list[Venue]:
    """In a worker: map the worlds that it is told of.

    Raises:
        FileNotFoundError: The run is over.
        OutOfSharedMemoryError: This process may not map them.
    """
    found = []
    for each in offered:
        offer = Offer._make(each)
        memory = Segment.attach(offer.segment, offer.nbytes).memory
        here = offer.members.count(node)
        bell = threading.Condition() if here > 1 else None
        near = here == len(offer.members)
        found.append(Venue(offer.name, offer.members, offer.lanes, memory, bell, near))
    return found
