"""`scripts/bench throughput`: how many small tasks two workers do in a second."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

CALLERS = ("torch", "loky", "futures", "ray", "dask")


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """Waiting for both each time; handing all out at once; functions in place of nets."""
    goals = (Goal(20, "ray"), Goal(3, "futures"))
    for key, what, waiting in (
        ("waiting", "small tasks on 2 nodes, waiting for both each time: run(group)", True),
        ("at_once", "small tasks on 2 nodes, handed out at once: run_async(task)", False),
    ):
        options = {"waiting": waiting}
        yield pairs.measure(
            Case(
                key,
                what,
                {
                    "procession": Ask("procession", "throughput", options),
                    "pipe": Ask("pipe", "throughput", options, "two raw Pipes"),
                    **{name: Ask(name, "throughput", options) for name in CALLERS},
                },
                goals,
                unit="rate",
            )
        )
    at_once = {"waiting": False}
    yield pairs.measure(
        Case(
            "functions",
            "small Python functions on 2 nodes",
            {
                "procession": Ask("procession", "submit", {}, "ProcessSession.submit"),
                "map": Ask("procession", "map", {}, "ProcessSession.map"),
                "executor": Ask("procession", "executor", {}, "ProcessExecutor.submit"),
                **{name: Ask(name, "throughput", at_once) for name in CALLERS},
                "futures_map": Ask("futures", "map", {}, "concurrent.futures, map", ours="map"),
            },
            (Goal(20, "ray"), Goal(3, "futures"), Goal(3, "futures_map", ours="map")),
            unit="rate",
        )
    )
