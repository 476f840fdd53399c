"""`scripts/bench roundtrip`: what a call costs when there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

PARAMETERS = 100
APART = {"apart": True}
CALLERS = ("torch", "mpi", "loky", "futures", "ray", "dask")


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """One node; two at once; a plan of a millisecond; the bytes of a run."""
    one, two = {"nodes": 1}, {"nodes": 2}
    yield pairs.measure(
        Case(
            "one_node",
            "run of a compiled no-op task, 1 node",
            {
                "procession": Ask("procession", "roundtrip", one),
                "spin": Ask("limit", "roundtrip", one, "a word that both sides spin on", True),
                "pipe": Ask("pipe", "roundtrip", one),
                "apart": Ask("pipe", "roundtrip", one | APART, "raw Pipe, the ends on two cores"),
                **{name: Ask(name, "roundtrip", one) for name in CALLERS},
            },
            (Goal(0.25, "pipe"), Goal(0.25, "apart"), Goal(0.1, "torch")),
        )
    )
    yield pairs.measure(
        Case(
            "two_nodes",
            "run of a compiled no-op task on each of 2 nodes at once",
            {
                "procession": Ask("procession", "roundtrip", two),
                "pipe": Ask("pipe", "roundtrip", two, "two raw Pipes in fan-out"),
                "apart": Ask("pipe", "roundtrip", two | APART, "the same, on other cores"),
                **{name: Ask(name, "roundtrip", two) for name in CALLERS if name != "mpi"},
            },
            (Goal(1.5, "pipe"), Goal(1.5, "apart")),
        )
    )
    yield pairs.measure(
        Case(
            "function",
            "call of a Python function that does nothing, 1 node: submit(function).result()",
            {
                "procession": Ask("procession", "call"),
                "pipe": Ask("pipe", "roundtrip", one),
                **{name: Ask(name, "roundtrip", one) for name in CALLERS if name != "mpi"},
            },
        )
    )
    operators = {"operators": pairs.ask("local", "operators_of_a_millisecond", budget=0.1)}
    yield pairs.measure(
        Case(
            "local",
            f"run of the same plan of about 1 ms ({operators['operators']} operators)",
            {
                "procession": Ask("procession", "plan", operators),
                "local": Ask("local", "plan", operators),
            },
            (Goal(1.05, "local"),),
        )
    )
    yield pairs.measure(
        Case(
            "message_bytes",
            f"later run of a plan with {PARAMETERS} parameters: bytes through the pipe",
            {"procession": Ask("procession", "message_bytes", {"parameters": PARAMETERS})},
            (Goal(200),),
            unit="bytes",
            rounds=1,
        )
    )
