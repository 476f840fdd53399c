"""`scripts/bench fetch`: an array out of a worker."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

KIB, MIB = 1 << 10, 1 << 20
SIZES = {
    "64 KiB": 64 * KIB,
    "1 MiB": MIB,
    "16 MiB": 16 * MIB,
    "64 MiB": 64 * MIB,
    "256 MiB": 256 * MIB,
}
COPIERS = ("torch", "mpi", "loky", "futures", "ray", "dask")


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """All sizes beside each other, and one of them beside what others do."""
    sizes = {label: size for label, size in SIZES.items() if not quick or size <= 16 * MIB}
    asks = {
        label: Ask("procession", "fetch", {"size": size}, f"fetch of {label}")
        for label, size in sizes.items()
    }
    smallest, *_, largest = sizes
    for after, words in (("write", "right after the run"), ("again", "once more")):
        asks[after] = Ask(
            "procession",
            "fetch",
            {"size": sizes[largest], "after": after},
            f"fetch of {largest}, {words}",
        )
    asks["map"] = Ask(
        "limit",
        "map",
        {"size": sizes[largest]},
        f"mapping {largest} of shared memory",
        limit=True,
        ours=largest,
    )
    goals = (
        Goal(100e-6, ours=smallest),
        Goal(100e-6, ours=largest),
        Goal(2.0, smallest, ours=largest),
    )
    yield pairs.measure(
        Case(
            "sizes",
            "fetch_blob of what a run has written",
            asks,
            () if quick else goals,
            note="as a snapshot, while the one before is held; another blob is fetched in between",
        )
    )
    label = "1 MiB" if quick else "64 MiB"
    size = {"size": sizes[label]}
    yield pairs.measure(
        Case(
            "peers",
            f"{label} out of a worker",
            {
                "procession": Ask("procession", "fetch", size),
                "copy": Ask("limit", "copy", size, "one np.copyto of it", True),
                **{name: Ask(name, "fetch", size) for name in COPIERS},
            },
        )
    )
