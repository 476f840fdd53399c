"""Measure the language itself: nets, loops, sessions and building, without processes.

    scripts/bench language [--caffe2 PYTHON] [--rounds N] [--json FILE]

Each case runs in an interpreter of its own, and the sides take turns: Procession, the same
NumPy calls by hand where there are any, and real Caffe2, when an interpreter that has it is
named (or in the environment as PROCESSION_CAFFE2_PYTHON). Shown is the median of all repetitions of
all rounds, the spread of the rounds' medians, and Procession's share of the others' time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CASES = {
    "adds": "net of 1,000 Adds of one float",
    "loop": "ops.loop of 10,000 Consts and Adds",
    "steps": "loops in a loop with ops.If, 2,000 in all",
    "if_net": "ops.IfNet in a loop of 2,000",
    "while_net": "ops.WhileNet, 2,000 times around",
    "small": "LocalSession.run of 3 operators",
    "build_tenth": "build a net of 1,000 operators",
    "build": "build a net of 10,000 operators",
    "gradient_tenth": "gradient of 1,000 operators",
    "gradient": "gradient of 10,000 operators",
}
FILE = Path(__file__).with_name("language_cases.py")


def measure(python: str, side: str, case: str) -> list[float]:
    """Seconds of each repetition of a case, in an interpreter of its own."""
    done = subprocess.run(
        [python, str(FILE), side, case], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{side} {case} failed:\n{done.stderr}")
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def shown(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds * 1e6:,.0f} us" if seconds < 0.01 else f"{seconds * 1e3:,.1f} ms"


def main(arguments: Sequence[str]) -> int:
    """Measure all cases and print the table; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench language", description=__doc__)
    parser.add_argument("--caffe2", default=os.environ.get("PROCESSION_CAFFE2_PYTHON"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    pythons = {"procession": sys.executable, "numpy": sys.executable}
    if options.caffe2:
        pythons["caffe2"] = options.caffe2
    else:
        print("real Caffe2 is left out: name an interpreter that has it with --caffe2")
    rounds: dict[str, dict[str, list[list[float]]]] = {}
    for _ in range(options.rounds):
        for case in CASES:
            for side, python in pythons.items():
                if side == "numpy" and case != "adds":
                    continue
                done = measure(python, side, case)
                rounds.setdefault(case, {}).setdefault(side, []).append(done)
    results: dict[str, dict[str, float]] = {}
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.rounds} rounds")
    print(f"{'':42} {'Procession':>22} {'by hand':>10} {'ratio':>6} {'Caffe2':>10} {'ratio':>6}")
    for case, what in CASES.items():
        medians = {
            side: statistics.median([one for done in each for one in done])
            for side, each in rounds[case].items()
        }
        results[case] = medians
        own = [statistics.median(done) for done in rounds[case]["procession"]]
        line = f"{what:42} {shown(medians['procession']):>10} ({shown(min(own))})".ljust(65)
        for side in ("numpy", "caffe2"):
            if side in medians:
                ratio = medians["procession"] / medians[side]
                line += f" {shown(medians[side]):>10} {ratio:6.2f}"
            else:
                line += f" {'':>10} {'':>6}"
        print(line.rstrip())
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0
