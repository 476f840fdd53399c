"""The command line of `scripts/stress`."""

from __future__ import annotations

import argparse
import os
import random
import resource
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from procession.testing import leaks
from stress import coordinator, leftovers
from stress.killer import Killer
from stress.report import Report
from stress.soak import POLICIES, Soak
from stress.watchdog import Watchdog

HANG_AFTER = 20.0
COORDINATOR_HANGS_AFTER = 120.0
FOREVER = 10.0**9
PROGRESS_EVERY = 10.0
LEAST = {"kills": 0, "minutes": 0, "operations": 0, "coordinators": 0, "nodes": 1}
DESCRIPTION = """\
Soak sessions: feed, run, fetch, drop, cancel, time out, and kill workers at random moments.

Every byte that comes back is compared with a NumPy model, and so is what was fetched from workers
that are dead. The exit code is 1 if anything was wrong, hung, or was left behind.
"""


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = argparse.ArgumentParser(
        prog="scripts/stress",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "--minutes", type=float, help="for how long at most (1, unless it ends otherwise)"
    )
    found.add_argument("--kills", type=int, help="until so many workers were killed")
    found.add_argument("--operations", type=int, help="until so many operations were done")
    found.add_argument("--coordinators", type=int, default=0, help="kill so many of those, too (0)")
    found.add_argument("--nodes", type=int, default=3, help="how many nodes (3)")
    found.add_argument("--seed", type=int, help="for all choices; left out, another each time")
    found.add_argument(
        "--on-node-failure",
        choices=[*POLICIES, "both"],
        default="both",
        help="what sessions do when a worker died (both: some this, some that)",
    )
    found.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    return found


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    # Workers are going to die of signals that write a core.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if arguments[:1] == ["inner"]:
        return coordinator.soak_until_killed(arguments[1:])
    found = parser()
    options = found.parse_args(arguments)
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and value < least:
            found.error(f"--{name} is at least {least}")
    if options.json:
        try:
            # Not when all has been done.
            options.json.touch()
        except OSError as error:
            found.error(str(error))
    if options.seed is None:
        options.seed = random.randrange(10**6)
    report = Report(
        kills=options.kills,
        minutes=options.minutes,
        operations=options.operations,
        coordinators=options.coordinators,
        nodes=options.nodes,
        seed=options.seed,
        on_node_failure=options.on_node_failure,
    )
    print(" ".join(f"{k}={v}" for k, v in report.options.items() if v is not None), flush=True)
    policies = POLICIES if options.on_node_failure == "both" else (options.on_node_failure,)
    began = time.monotonic()

    def finish() -> None:
        report.seconds = time.monotonic() - began
        print(*report.lines(), sep="\n", flush=True)
        if options.json:
            report.write(options.json)

    def hung(what: str) -> None:
        report.wrong("hangs", what)
        finish()

    progress = _progress(report, began)
    try:
        _soak(report, options, policies, hung, progress)
        if options.coordinators:
            watchdog = Watchdog(COORDINATOR_HANGS_AFTER, hung)
            coordinator.kill_coordinators(
                report,
                options.coordinators,
                options.seed,
                options.nodes,
                policies,
                watchdog,
                progress,
            )
            watchdog.close()
    except KeyboardInterrupt:
        report.interrupted = True
    finish()
    return report.exit_code


def _soak(
    report: Report,
    options: argparse.Namespace,
    policies: Sequence[str],
    hung: Callable[[str], object],
    progress: Callable[[], object],
) -> None:
    """Soak sessions in this process, and look what is left."""
    until = FOREVER
    if options.minutes is not None or not (options.kills or options.operations):
        until = time.monotonic() + 60 * (1 if options.minutes is None else options.minutes)
    # Before the fork server is started, so that all that it starts has it.
    mark = os.environ[leftovers.MARK] = secrets.token_hex(8)
    killer = Killer()
    watchdog = Watchdog(HANG_AFTER, hung)
    try:
        leaks.warm_up()
        before, mapped, helpers = leaks.Belongings.now(), leftovers.mapped(), leftovers.marked(mark)
        soak = Soak(options.seed, options.nodes, policies, report, killer, watchdog)
        soak.go_on(options.kills, options.operations, until, progress)
        del soak
        leftovers.look(report, before, mapped)
        left = leftovers.wait_for_end(mark, helpers, time.monotonic() + leaks.WITHIN)
        for pid in left - leaks.Belongings.now().processes:
            report.wrong("leaked processes", f"process {pid}, which nobody is the parent of")
    finally:
        watchdog.close()
        killer.close()
        del os.environ[leftovers.MARK]


def _progress(report: Report, began: float) -> Callable[[], None]:
    shown = time.monotonic()

    def progress() -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= PROGRESS_EVERY:
            shown = now
            done = f"{sum(report.operations.values()):,} operations, {report.killed:,} kills"
            if report.coordinators:
                done += f", {sum(report.coordinators.values()):,} of coordinators"
            done += f", {len(report.problems):,} problems"
            print(f"  {now - began:4.0f} s: {done}", file=sys.stderr, flush=True)

    return progress
