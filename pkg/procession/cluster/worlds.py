"""The memory of common worlds, seen from the coordinator: making it, and who has died.

Each world that a run creates gets a segment, the name of which only its members are told, along
with the run. When the run has ended they have mapped it, or never will: then the name is taken
away. The coordinator keeps a mapping of its own for as long as somebody sits there, to write down
who has died.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from procession.blobs.exchange import Seats, block_size
from procession.blobs.segment import Segment
from procession.cluster.errand import Errand
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


class Offering:
    """The worlds that a run creates, from when they are made until the run has ended.

    Ctrl-C may come at any moment. What it leaves in the middle is done by another thread (see
    `procession.cluster.errand`), and what nobody ends is ended when this is garbage.

    Args:
        worlds: Which.
        handles: The nodes of the run, whose `seats` are added to.
    """

    def __init__(self, worlds: Sequence[CommonWorld], handles: Iterable[Seated]) -> None:
        self._making = _Making(worlds, handles)

    def make(self) -> None:
        """Make the memory, and have the members' handles know their seats.

        Raises:
            OutOfSharedMemoryError: There is none left.
        """
        self._making.errand.run()

    def to(self, node: str) -> tuple[tuple[object, ...], ...]:
        """What a node is told of them."""
        return tuple(tuple(each.offer) for each in self._making.made if node in each.offer.members)

    def over(self) -> None:
        """The run has ended: who has not joined does not any more."""
        self._making.over()

    def __del__(self) -> None:
        making = self.__dict__.get("_making")
        if making is not None and not making.is_over:
            making.over()


class _Making:
    """What is done for an `Offering`, by whichever thread."""

    def __init__(self, worlds: Sequence[CommonWorld], handles: Iterable[Seated]) -> None:
        self._worlds = worlds
        self._handles = {handle.name: handle for handle in handles}
        self._unwanted = self.is_over = False
        self.made: list[Made] = []
        self.errand = Errand(self._make)

    def over(self) -> None:
        """Make nothing any more, and take the names of what was made away; twice is fine."""
        self._unwanted = True
        if not self.is_over:
            Errand(self._end).run()

    def _end(self) -> None:
        with contextlib.suppress(OutOfSharedMemoryError, OSError):
            # It may be under way. If it has not begun it makes nothing.
            self.errand.run()
        for each in self.made:
            each.segment.unlink()
            for rank in range(len(each.offer.members)):
                each.seats.never_came(rank)
        self.is_over = True

    def _make(self) -> None:
        for world in self._worlds:
            if self._unwanted:
                return
            size = len(world.members)
            nbytes = block_size(size, world.lanes)
            try:
                segment = Segment.create(nbytes)
            except OutOfSharedMemoryError as error:
                error.message += f"\n  wanted for common world {world.name!r} of {size}"
                raise
            seats = Seats(segment.memory, size, world.lanes)
            offer = Offer(world.name, world.members, world.lanes, segment.name, nbytes)
            self.made.append(Made(offer, segment, seats))
            with _seating:
                for handle in {self._handles[node] for node in world.members}:
                    # Those that nobody uses any more need not be told of.
                    handle.seats = [seat for seat in handle.seats if not seat.seats.deserted()]
                for rank, node in enumerate(world.members):
                    self._handles[node].seats.append(Seat(seats, rank))


_seating = threading.Lock()
"""Held while handles get seats: what is made for a run that was interrupted may still be under way
when the next begins."""


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
        shelf: dict[tuple[int, int], Any] | None = {} if here == len(offer.members) else None
        found.append(Venue(offer.name, offer.members, offer.lanes, memory, bell, shelf))
    return found
