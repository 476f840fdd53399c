"""`scripts/bench training`: a step of small networks, on one node."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs

BATCHES = (1, 16, 64, 256)
CNN_BATCH = 64
LOOP, QUICK_LOOP = 20, 4
"""Steps in a run of more than one."""


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """Forward, back and update, with as many threads as there are cores, and with one."""
    cores = len(os.sched_getaffinity(0))
    for suffix, threads in (("", cores), ("_one_thread", 1)):
        for batch in BATCHES:
            yield pairs.measure(_mlp(batch, threads, QUICK_LOOP if quick else LOOP, suffix))
    for suffix, threads in (("", cores), ("_one_thread", 1)):
        yield pairs.measure(_cnn(CNN_BATCH, threads, suffix))


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _mlp(batch: int, threads: int, loop: int, suffix: str) -> Case:
    def ask(side: str, title: str | None = None, **options: int) -> Ask:
        given = {"batch": batch, **options}
        return Ask(side, "step", given, title, ours="local", threads=threads)

    return Case(
        f"step_{batch}{suffix}",
        f"one step of an MLP 784-256-10 with SGD, batch {batch}, {_threads(threads)}",
        {
            "local": ask("local"),
            "local_loop": ask("local", f"LocalSession, {loop} a run", steps=loop),
            "procession": ask("procession", "ProcessSession, 1 node"),
            "procession_loop": ask("procession", f"ProcessSession, {loop} a run", steps=loop),
            "hand": ask("hand"),
            "caffe2": ask("caffe2"),
            "torch": ask("torch", "torch eager"),
        },
        (
            Goal(1.15, "hand", "local"),
            Goal(1.15, "hand", "local_loop"),
            Goal(1.0, "caffe2", "local"),
            Goal(1.0, "torch", "local"),
        ),
    )


def _cnn(batch: int, threads: int, suffix: str) -> Case:
    options = {"batch": batch, "model": "cnn"}

    def ask(side: str, title: str | None = None) -> Ask:
        return Ask(side, "step", options, title, ours="local", threads=threads)

    return Case(
        f"cnn_{batch}{suffix}",
        f"one step of a CNN like LeNet with SGD, batch {batch}, {_threads(threads)}",
        {
            "local": ask("local"),
            "procession": ask("procession", "ProcessSession, 1 node"),
            "caffe2": ask("caffe2"),
            "torch": ask("torch", "torch eager"),
        },
        (Goal(1.0, "caffe2", "local"),),
    )
