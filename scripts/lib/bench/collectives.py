"""`scripts/bench collectives`: nodes that make calls together, and train together."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

SIZES = {"4 KiB": 4 << 10, "256 KiB": 256 << 10, "4 MiB": 4 << 20, "64 MiB": 64 << 20}
SHORT = 16 << 10
"""Bytes up to which a call is mostly waiting."""
MANY = (4, 8, 16)
MANY_SIZE = 4 << 20
BATCHES = (16, 64, 256)


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """A barrier, reductions of some sizes, and a data-parallel step."""
    yield pairs.measure(
        Case(
            "barrier",
            "Barrier of 2 nodes, in a loop",
            {
                "procession": Ask("procession", "barrier"),
                "limit": Ask("limit", "barrier", title="words that both sides spin on", limit=True),
                "mpi": Ask("mpi", "barrier"),
                "gloo": Ask("gloo", "barrier"),
            },
            (Goal(3, "mpi"), Goal(0.2, "gloo")),
        )
    )
    for label, size in SIZES.items():
        options = {"size": size}
        yield pairs.measure(
            Case(
                f"allreduce_{size}",
                f"Allreduce of {label} of float32 in place, 2 nodes, in a loop",
                {
                    "procession": Ask("procession", "allreduce", options),
                    "limit": Ask(
                        "limit", "allreduce", options, "NumPy on memory that both share", True
                    ),
                    "mpi": Ask("mpi", "allreduce", options),
                    "gloo": Ask("gloo", "allreduce", options),
                },
                (Goal(3 if size <= SHORT else 0.5, "mpi"), Goal(0.2, "gloo")),
            )
        )
    cores = len(os.sched_getaffinity(0))
    for nodes in MANY:
        options = {"size": MANY_SIZE}
        yield pairs.measure(
            Case(
                f"allreduce_nodes_{nodes}",
                f"Allreduce of 4 MiB of float32 in place, {nodes} nodes on {cores} cores",
                {
                    "procession": Ask("procession", "allreduce", options | {"nodes": nodes}),
                    # Its ranks look about even when there is nothing to do.
                    "mpi": Ask("mpi", "allreduce", options, fresh=True, ranks=nodes),
                },
                (Goal(1, "mpi"),),
            )
        )
    for batch in BATCHES:
        options = {"batch": batch}
        yield pairs.measure(
            Case(
                f"parallel_{batch}",
                f"data-parallel SGD of an MLP 784-256-10 on 2 nodes, batch {batch} on each",
                {
                    "procession": Ask("procession", "parallel", options | {"nodes": 2}),
                    "apart": Ask(
                        "procession",
                        "parallel",
                        options | {"nodes": 2, "apart": True},
                        "2 nodes, each a model of its own",
                        limit=True,
                    ),
                    "alone": Ask(
                        "procession", "parallel", options | {"nodes": 1}, "1 node, 1 thread"
                    ),
                    "gloo": Ask("gloo", "parallel", options, "torch DDP (gloo)"),
                },
                (Goal(4, "gloo"), Goal(1, "alone")),
                unit="rate",
                note="examples",
            )
        )
