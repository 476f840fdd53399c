"""Worlds over plain memory, whose members are threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from procession.blobs.exchange import block_size
from procession.operators.member import Clock, Venue
from procession.operators.world import World

WITHIN = 20.0
RUN = 7


def venue(size: int, *, bell: bool = True, lanes: int = 1) -> Venue:
    """A world called "all" on the nodes n0, n1, ..."""
    memory = bytearray(block_size(size, lanes))
    nodes = tuple(f"n{rank}" for rank in range(size))
    return Venue("all", nodes, lanes, memory, *((threading.Condition(), {}) if bell else ()))


def together(
    size: int,
    job: Callable[[World], Any],
    *,
    timeout: float = WITHIN,
    bell: bool = True,
    lanes: int = 1,
) -> list[Any]:
    """What a job returns, or raises, that each member does in a thread of its own."""
    place = venue(size, bell=bell, lanes=lanes)
    worlds = [World(place, rank, timeout, Clock(RUN)) for rank in range(size)]
    results: list[Any] = [None] * size

    def do(rank: int) -> None:
        try:
            results[rank] = job(worlds[rank])
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=do, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN)
        assert not thread.is_alive()
    return results


def fine(results: list[Any]) -> list[Any]:
    """The results, when nothing was raised."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def go_on() -> None:
    """What is asked now and then whether the run was called off: it was not."""
