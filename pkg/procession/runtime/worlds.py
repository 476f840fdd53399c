"""Worlds: the common worlds of a node, as its workspace knows them.

Before a run in which worlds are created, whoever runs it offers the places: the memory of each, and
who is in it. Operators find them here by name. When a run has ended well, the members of this node
say so to those who may be waiting for them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable

from procession.blobs.exchange import Seats
from procession.errors import CollectiveError
from procession.operators.member import Clock, Venue
from procession.operators.world import World


class Worlds:
    """The worlds of a workspace that has no parent. Safe for the threads of a run."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._offered: dict[str, tuple[Venue, frozenset[str] | None]] = {}
        self._joined: weakref.WeakSet[World] = weakref.WeakSet()
        self._lock = threading.Lock()

    def begin(
        self, run: int, offered: Iterable[Venue] = (), nodes: Iterable[str] | None = None
    ) -> None:
        """A run begins.

        Args:
            run: Its number, above 0; the same on all nodes of the run, and of no other run.
            offered: The worlds that may be joined in it.
            nodes: The nodes that share this workspace; left out, all.
        """
        self.clock.run = run
        mine = None if nodes is None else frozenset(nodes)
        for place in offered:
            self._offered[place.name] = place, mine

    def join(self, name: str, size: int, rank: int, timeout: float) -> World:
        """A member's handle on a world that is offered.

        Raises:
            CollectiveError: There is none of that name and size, or that rank has joined it before.
        """
        place, _ = self._offered.get(name, (None, None))
        if place is None or len(place.members) != size:
            raise CollectiveError(
                f"common world {name!r} of {size} was not made for this run: its members' "
                f"CreateCommonWorld operators have to be compiled and run together",
                world=name,
                rank=rank,
            )
        with self._lock:
            world = World(place, rank, timeout, self.clock)
            self._joined.add(world)
        return world

    def add(self, world: World) -> None:
        """Know a clone."""
        with self._lock:
            self._joined.add(world)

    def ended(self, nodes: Iterable[str] | None = None) -> None:
        """The program of the run has ended well.

        Args:
            nodes: On these of the nodes that share this workspace; left out, on all.
        """
        only = None if nodes is None else frozenset(nodes)
        with self._lock:
            for world in list(self._joined):
                if only is None or world.members[world.rank] in only:
                    world.ended(self.clock.run)
            for place, mine in self._offered.values():
                for rank, node in enumerate(place.members):
                    if (mine is None or node in mine) and (only is None or node in only):
                        _unjoined(place, rank, self.clock.run)

    def close(self, offered: Iterable[Venue]) -> None:
        """The run has ended, well or not: what was offered cannot be joined any more."""
        for place in offered:
            known, mine = self._offered.pop(place.name, (None, None))
            if known is not place:
                continue
            seats = Seats(place.memory, len(place.members), place.lanes)
            for rank, node in enumerate(place.members):
                if mine is None or node in mine:
                    seats.never_came(rank)


def _unjoined(place: Venue, rank: int, run: int) -> None:
    Seats(place.memory, len(place.members), place.lanes).ended_without(rank, run)
    if place.bell is not None:
        with place.bell:
            place.bell.notify_all()
