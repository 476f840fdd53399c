"""ProcessSession, through its public names."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import psutil

import procession
from bench.sides.plans import (
    noop_group,
    scaling_plan,
    small_group,
    small_task,
    tanh_plan,
    trained,
)
from bench.sides.timing import Startup, add, array_of, noop, rate, timed
from bench.sides.together import Together
from procession import Net, Node, ProcessSession

OTHER = 64 << 10
"""Bytes of the blob that is fetched in between."""


class Side(Together):
    """A session for each set of nodes, kept open."""

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """A compiled no-op task on each of the nodes."""
        names = [f"n{number}" for number in range(nodes)]
        session = self._session(names)
        compiled = session.compile(noop_group(names))
        runs = sum(stats.runs for stats in session.stats().values())
        calls = 0

        def run() -> None:
            nonlocal calls
            calls += 1
            session.run(compiled)

        seconds = timed(run, budget)
        done = sum(stats.runs for stats in session.stats().values()) - runs
        if done != calls * nodes:
            raise RuntimeError(f"{calls} runs on {nodes} nodes, but the nodes ran {done} times")
        return seconds

    def plan(self, budget: float, operators: int) -> list[float]:
        """A plan of so many operators."""
        session = self._session(["n0"])
        with Node("n0"):
            begin, plan = tanh_plan(operators)
            session.run(begin)
            compiled = session.compile(plan)
        return timed(lambda: session.run(compiled), budget)

    def step(
        self, budget: float, batch: int, model: str = "mlp", check: bool = False, steps: int = 1
    ) -> list[float]:
        """One step of SGD: a net that is compiled once, or a plan of so many steps."""
        session = self._session(["n0"])
        with Node("n0"):
            workspace = session.workspace("n0")
            return trained(session, workspace, budget, batch, model, check, steps)

    def message_bytes(self, budget: float, parameters: int) -> list[float]:
        """Bytes in both directions for each later run of a plan with so many parameters."""
        session = self._session(["n0"])
        with Node("n0"):
            begin, plan = scaling_plan(parameters)
            session.run(begin)
            compiled = session.compile(plan)
        session.run(compiled)

        def total() -> int:
            stats = session.stats()["n0"]
            return int(stats.bytes_sent + stats.bytes_received)

        figures = []
        for _ in range(5):
            before = total()
            session.run(compiled)
            figures.append(float(total() - before))
        return figures

    def feed(self, budget: float, size: int) -> list[float]:
        """`feed_blob` of an array."""
        workspace, array = self._session(["n0"]).workspace("n0"), array_of(size)
        seconds = timed(lambda: workspace.feed_blob("fed", array), budget)
        self._check(workspace, "fed", array[-1])
        workspace.remove_blob("fed")
        return seconds

    def fill(self, budget: float, size: int) -> list[float]:
        """`new_blob`, filled in place."""
        workspace = self._session(["n0"]).workspace("n0")

        def fill() -> None:
            with workspace.new_blob("filled", (size // 4,), np.float32) as array:
                array.fill(2.5)

        seconds = timed(fill, budget)
        self._check(workspace, "filled", 2.5)
        workspace.remove_blob("filled")
        return seconds

    def fetch(self, budget: float, size: int, after: str = "other") -> list[float]:
        """`fetch_blob` of what a run has just written, while the one before is still held.

        Args:
            budget: Seconds to spend.
            size: Bytes of the array.
            after: What came last before the fetch. "write" is the run. "other" is a fetch of
                another blob after it: a processor that waited for a long run answers late, with
                empty caches, whatever it is asked, and this makes it the same for all sizes.
                "again" is one more fetch of what was fetched already.
        """
        session = self._session(["n0"])
        workspace, net = session.workspace("n0"), Net("write")
        net.Scale("x", "x", scale=1.0)
        with Node("n0"):
            write = session.compile(net)

        def before() -> None:
            if after != "again":
                session.run(write)
            if after == "other":
                workspace.fetch_blob("other")

        array = array_of(size)
        workspace.feed_blob("other", array_of(OTHER))
        workspace.feed_blob("x", array)
        session.run(write)
        seconds = timed(lambda: workspace.fetch_blob("x"), budget, before=before)
        self._check(workspace, "x", array[-1])
        workspace.remove_blob("x")
        return seconds

    def _check(self, workspace: Any, name: str, last: float) -> None:
        value = workspace.fetch_blob(name)
        if value[-1] != last:
            raise RuntimeError(f"blob {name!r} ends with {value[-1]}, not {last}")

    def throughput(self, budget: float, waiting: bool) -> list[float]:
        """Runs of a small task per second on two nodes, by `run` or by `run_async`."""
        names = ["n0", "n1"]
        session = self._session(names)
        if waiting:
            group = session.compile(small_group(names))

            def both(number: int) -> None:
                for _ in range(number // 2):
                    session.run(group)

            return rate(both, budget)
        tasks = [session.compile(small_task(name)) for name in names]

        def run(number: int) -> None:
            futures = [session.run_async(tasks[index % 2]) for index in range(number)]
            for future in futures:
                future.result()

        return rate(run, budget)

    def submit(self, budget: float) -> list[float]:
        """Small functions per second by `submit`, on two nodes."""
        names = ["n0", "n1"]
        session = self._session(names)

        def run(number: int) -> None:
            futures = [session.submit(add, 1.0, 2.0, node=names[i % 2]) for i in range(number)]
            for future in futures:
                future.result()

        return rate(run, budget)

    def executor(self, budget: float) -> list[float]:
        """Small functions per second by a `ProcessExecutor` of two workers."""
        with procession.ProcessExecutor(2) as executor:

            def run(number: int) -> None:
                futures = [executor.submit(add, 1.0, 2.0) for _ in range(number)]
                for future in futures:
                    future.result()

            return rate(run, budget)

    def call(self, budget: float) -> list[float]:
        """A function that does nothing, on one node."""
        session = self._session(["n0"])
        return timed(lambda: session.submit(noop, node="n0").result(), budget)

    def map(self, budget: float) -> list[float]:
        """Small functions per second by `map`, on two nodes."""
        session = self._session(["n0", "n1"])

        def run(number: int) -> None:
            for _ in session.map(add, [1.0] * number, [2.0] * number):
                pass

        return rate(run, budget)

    def startup(self, budget: float, further: int) -> list[float]:
        """The first node, and further ones, each from nothing to a fed blob."""
        laps = Startup()
        session = self._sessions["startup",] = ProcessSession()
        for number in range(1 + further):
            session.workspace(f"n{number}").feed_blob("x", 1.0)
            laps.lap()
        return laps.figures(further)

    def startup_together(self, budget: float, further: int) -> list[float]:
        """Further nodes that are named when the session is made: seconds of each."""
        self._session(["n0"])
        start = time.perf_counter()
        self._session([f"m{number}" for number in range(further)])
        return [(time.perf_counter() - start) / further]

    def scale(self, budget: float, nodes: int) -> dict[str, float]:
        """Seconds and bytes of a session with so many nodes: open, run on all, close, idle."""
        names = [f"n{number}" for number in range(nodes)]
        start = time.perf_counter()
        session = ProcessSession(names)
        opened = time.perf_counter() - start
        try:
            compiled = session.compile(noop_group(names))
            seconds = timed(lambda: session.run(compiled), budget)
            pids = [stats.pid for stats in session.stats().values()]
            private = [psutil.Process(pid).memory_full_info().uss for pid in pids]
            start = time.perf_counter()
            session.close()
            closed = time.perf_counter() - start
        finally:
            session.close()
        return {
            "open": opened,
            "run": float(np.median(seconds)),
            "close": closed,
            "uss": float(np.median(private)),
        }
