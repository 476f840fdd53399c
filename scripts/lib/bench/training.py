"""`scripts/bench training`: a step of a small network, on one node."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

BATCHES = (1, 16, 64, 256)
LOOP = 20
"""Steps in a run."""


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """Forward, back and update, for batches of some sizes."""
    for batch in BATCHES:
        options = {"batch": batch}
        looped = options | {"steps": LOOP}
        yield pairs.measure(
            Case(
                f"step_{batch}",
                f"one step of an MLP 784-256-10 with SGD, batch {batch}",
                {
                    "local": Ask("local", "step", options),
                    "local_loop": Ask("local", "step", looped, f"LocalSession, {LOOP} a run"),
                    "procession": Ask("procession", "step", options, "ProcessSession, 1 node"),
                    "procession_loop": Ask(
                        "procession", "step", looped, f"ProcessSession, {LOOP} a run"
                    ),
                    "hand": Ask("hand", "step", options, ours="local"),
                    "caffe2": Ask("caffe2", "step", options, ours="local"),
                    "torch": Ask("torch", "step", options, "torch eager", ours="local"),
                },
                (
                    Goal(1.15, "hand", "local"),
                    Goal(1.15, "hand", "local_loop"),
                    Goal(1.0, "caffe2", "local"),
                    Goal(1.0, "torch", "local"),
                ),
            )
        )
