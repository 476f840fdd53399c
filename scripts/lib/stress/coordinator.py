"""Whole coordinators, killed from outside at random moments: what must be gone, and how soon.

Each is an interpreter of its own, which soaks a session, kills of workers and all, until it is
killed itself. Whatever it had started carries a mark in its environment, by which it is found even
if it was forked at the very moment of the kill.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from procession.cluster import forkserver
from stress import leftovers
from stress.killer import Killer
from stress.report import Report
from stress.soak import Soak
from stress.watchdog import Watchdog

MAIN = Path(__file__).parent
READY_WITHIN = 60.0
WORKERS_GONE_WITHIN = 1.0
HELPERS_GONE_WITHIN = 5.0
"""Seconds for the fork server and the resource tracker, which clean up, and for segments."""
SIGNALS = ["SIGKILL", "SIGKILL", "SIGTERM"]
EARLY = 0.1
"""How many are killed while they are starting."""


class _Coordinator:
    """One that is to be killed."""

    def __init__(self, seed: int, nodes: int, policies: Sequence[str]) -> None:
        self.mark = secrets.token_hex(8)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed in `close`
        command = [sys.executable, str(MAIN), "inner", str(seed), str(nodes), *policies]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {leftovers.MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def helpers(self) -> set[int]:
        """Wait until it soaks; the processes of it that clean up behind it."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], READY_WITHIN)[0]:
            return set()
        line = self.process.stdout.readline()
        return set(json.loads(line)) if line else set()

    def said(self) -> str:
        """What it, and what belongs to it, wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def close(self) -> None:
        """Leave nothing of it."""
        assert self.process.stdout is not None
        for pid in leftovers.marked(self.mark):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self._errors.close()


def kill_coordinators(
    report: Report,
    count: int,
    seed: int,
    nodes: int,
    policies: Sequence[str],
    watchdog: Watchdog,
    progress: Callable[[], object],
) -> None:
    """Start coordinators, one after the other, kill each, and look what is left.

    Args:
        report: Told of everything.
        count: How many.
        seed: For how they soak, and when they are killed.
        nodes: How many each has.
        policies: As for `Soak`.
        watchdog: Told of each.
        progress: Called after each.
    """
    chance = random.Random(seed)
    for number in range(count):
        watchdog.begin(f"coordinator {number}")
        own = chance.randrange(10**9)
        coordinator = _Coordinator(own, nodes, policies)
        try:
            _kill(report, coordinator, chance, own)
        finally:
            coordinator.close()
            watchdog.end()
        progress()


def _kill(report: Report, coordinator: _Coordinator, chance: random.Random, seed: int) -> None:
    process, name = coordinator.process, chance.choice(SIGNALS)
    early = chance.random() < EARLY
    delay = chance.choice([0.003, 0.03, 0.3]) * chance.random()
    helpers: set[int] = set()
    if early:
        delay = chance.random()
    else:
        helpers = coordinator.helpers()
    time.sleep(delay)
    where = f"seed {seed}, {name} after {delay:.4f} s{' from its start' if early else ''}"
    if process.poll() is not None:
        what = f"it ended by itself, with {process.returncode} ({where})\n{coordinator.said()}"
        report.wrong("wrong ends of coordinators", what)
        return
    process.send_signal(signal.Signals[name])
    process.wait()
    killed = time.monotonic()
    report.coordinators[name] += 1
    if process.returncode != -signal.Signals[name]:
        report.wrong("wrong ends of coordinators", f"it ended with {process.returncode} ({where})")
    if not early:
        left = leftovers.wait_for_end(coordinator.mark, helpers, killed + WORKERS_GONE_WITHIN)
        for pid in left:
            what = f"worker {pid} outlived its coordinator by {WORKERS_GONE_WITHIN:g} s ({where})"
            report.wrong("leaked processes", what)
        if not left:
            report.coordinators_gone.append(time.monotonic() - killed)
    until = killed + HELPERS_GONE_WITHIN
    for pid in leftovers.wait_for_end(coordinator.mark, set(), until):
        what = f"process {pid} outlived its coordinator by {HELPERS_GONE_WITHIN:g} s ({where})"
        report.wrong("leaked processes", what)
    for segment in leftovers.wait_for_segments(process.pid, until):
        report.wrong("leaked segments", f"{segment} of a coordinator ({where})")
    said = coordinator.said()
    if "Traceback" in said:
        report.wrong("wrong ends of coordinators", f"it said ({where}):\n{said[-2000:]}")


# ---- in the coordinator


def soak_until_killed(arguments: Sequence[str]) -> int:
    """Be a coordinator: say which processes clean up, and soak until the end comes."""
    seed, nodes, *policies = arguments
    report = Report()

    def hung(what: str) -> None:
        report.wrong("hangs", what)

    watchdog, killer = Watchdog(20, hung), Killer()
    soak = Soak(int(seed), int(nodes), policies, report, killer, watchdog)
    tracker: Any = resource_tracker._resource_tracker
    helpers = [forkserver.running_server().pid, tracker._pid, killer.pid]
    print(json.dumps(helpers), flush=True)
    soak.go_on(None, None, time.monotonic() + 3600, lambda: None)
    print(*report.lines(), sep="\n", file=sys.stderr, flush=True)
    return 1
