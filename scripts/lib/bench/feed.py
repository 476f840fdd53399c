"""`scripts/bench feed`: an array into a worker."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

COPIERS = ("torch", "mpi", "loky", "futures", "ray", "dask")


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """An array that is there, and one that is made in place."""
    label, bytes_ = ("1 MiB", 1 << 20) if quick else ("64 MiB", 64 << 20)
    size = {"size": bytes_}
    yield pairs.measure(
        Case(
            "feed",
            f"feed_blob of {label}",
            {
                "procession": Ask("procession", "feed", size),
                "copy": Ask("limit", "copy", size, "np.copyto into warm shared memory", True),
                **{name: Ask(name, "feed", size) for name in COPIERS},
            },
            () if quick else (Goal(1.2, "copy"),),
        )
    )
    yield pairs.measure(
        Case(
            "fill",
            f"new_blob of {label}, filled in place",
            {
                "procession": Ask("procession", "fill", size),
                "fill": Ask("limit", "fill", size, "filling a private array, warm", True),
                "shared": Ask("limit", "fill_shared", size, "filling shared memory, warm", True),
                "new": Ask("limit", "fill_new", size, "filling a private array, new each time"),
            },
            () if quick else (Goal(1.05, "fill"),),
        )
    )
