"""The command line of `scripts/bench`."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import peers, plot, report
from bench.case import Result
from bench.pairs import Pairs
from bench.process import SideError

SUBCOMMANDS = {
    "roundtrip": "what a call costs when there is nothing to do",
    "fetch": "an array out of a worker",
    "feed": "an array into a worker",
    "startup": "the first worker in a fresh interpreter, and further ones",
    "throughput": "how many small tasks two workers do in a second",
    "scale": "hundreds of nodes, and what each costs",
    "training": "a step of small networks",
    "collectives": "nodes that make calls together, and train together",
    "language": "nets, loops and building, without processes (options of its own: --help)",
}
ROUNDS, BUDGET = 5, 0.4
QUICK_ROUNDS, QUICK_BUDGET = 2, 0.02
DESCRIPTION = """\
Measure Procession beside what one would take instead, in pairs within one run.

Each side has an interpreter of its own, and the sides take turns. Shown are the median of the
rounds' medians, their spread, and ours as a multiple of the others', beside the goals.
"""


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = argparse.ArgumentParser(
        prog="scripts/bench",
        description=DESCRIPTION,
        epilog="\n".join(
            ["subcommands:", *(f"  {name:11} {what}" for name, what in SUBCOMMANDS.items())]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("subcommands", nargs="+", choices=SUBCOMMANDS, metavar="SUBCOMMAND")
    found.add_argument(
        "--peers",
        metavar="NAMES",
        help=f"of {','.join(peers.PEERS)}, or none; left out, all that are installed",
    )
    found.add_argument("--rounds", type=int, help=f"how often sides take turns ({ROUNDS})")
    found.add_argument(
        "--quick", action="store_true", help="few rounds, and small: shows that it works"
    )
    found.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    found.add_argument("--plot", type=Path, metavar="FILE.png", help="draw them (extra: bench)")
    return found


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    if arguments[:1] == ["language"]:
        from bench import language

        return language.main(arguments[1:])
    found = parser()
    options = found.parse_args(arguments)
    if "language" in options.subcommands:
        found.error("language is measured by itself: scripts/bench language")
    if options.rounds is not None and options.rounds < 1:
        found.error("--rounds is at least 1")
    try:
        wanted = peers.chosen(options.peers)
        if options.plot:
            plot.check()
        for file in filter(None, (options.json, options.plot)):
            # Not when all has been measured.
            file.touch()
    except (ValueError, ModuleNotFoundError, OSError) as error:
        found.error(str(error))
    here, missing = peers.split(wanted)
    machine = report.machine(here)
    print(report.header(machine))
    for name in missing:
        print(f"skipped: {name} ({peers.PEERS[name].way(sys.executable)})")
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    pairs = Pairs(here, rounds, QUICK_BUDGET if options.quick else BUDGET)
    command = " ".join(options.subcommands)
    results: list[Result] = []
    failed = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for subcommand in dict.fromkeys(options.subcommands):
            cases = importlib.import_module(f"bench.{subcommand}")
            for result in cases.results(pairs, options.quick):
                print("", *report.table(result), sep="\n", flush=True)
                results.append(result)
                failed |= any(result.case.asks[name].side in peers.ALWAYS for name in result.failed)
    except SideError as error:
        print(f"scripts/bench {command}: {error}", file=sys.stderr)
        return 1
    finally:
        pairs.close()
        # What was measured before a side failed is not lost.
        if options.json:
            document = {
                "command": command,
                "rounds": rounds,
                "quick": options.quick,
                "machine": machine,
                "skipped": missing,
                "cases": [report.plain(result) for result in results],
            }
            options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot.plot([result for result in results if result.figures], options.plot)
    return int(failed)
