"""`scripts/bench startup`: the first worker in a fresh interpreter, and further ones."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

STARTERS = ("torch", "loky", "futures", "ray", "dask")


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """From the call to the first answer; imports are not counted, on any side."""
    server = "a child of a forkserver with NumPy"
    first = {"further": 0}
    yield pairs.measure(
        Case(
            "first",
            "start: the first node, to its first answer",
            {
                "procession": Ask("procession", "startup", first, fresh=True),
                "forkserver": Ask("limit", "startup", first, server, True, fresh=True),
                **{name: Ask(name, "startup", first, fresh=True) for name in STARTERS},
            },
            (Goal(0.35),),
            note="in a fresh interpreter, after the imports; a pool forks where Python does",
        )
    )
    further = {"further": 2 if quick else 8}
    asks = {
        "procession": Ask("procession", "startup", further, fresh=True),
        "together": Ask(
            "procession", "startup_together", further, "ProcessSession, all at once", fresh=True
        ),
        "forkserver": Ask("limit", "startup", further, server, True, fresh=True),
    }
    for name in STARTERS:
        if name != "torch":  # its groups are of one size
            asks[name] = Ask(name, "startup", {"further": 2}, fresh=True)
    yield pairs.measure(
        Case("further", "start: each further node, to its first answer", asks, (Goal(0.02),))
    )
