"""The table on the terminal, and the same for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.case import OURS, Goal, Result
from bench.peers import PEERS, SIDES
from procession.version import __version__

HEEDED = (
    "OPENBLAS_",
    "MKL_",
    "BLIS_",
    "OMP_",
    "KMP_",
    "ONEDNN_",
    "ATEN_",
    "NPY_",
    "MPIR_",
    "MPICH_",
)
"""What variables begin with by which the libraries of some side do something else."""


def shown(value: float, unit: str) -> str:
    """A figure for people."""
    if unit == "rate":
        return f"{value:,.0f}/s"
    if unit == "bytes":
        return f"{value:,.0f} B" if value < 100_000 else f"{value / (1 << 20):,.2f} MiB"
    for scale, name in ((1e-6, "us"), (1e-3, "ms")):
        if value < 1000 * scale:
            return f"{value / scale:,.{0 if value >= 100 * scale else 1}f} {name}"
    return f"{value:,.2f} s"


def times(multiple: float) -> str:
    """A ratio for people: two digits that count."""
    return f"{multiple:.2f}x" if multiple >= 0.1 else f"{multiple:.2g}x"


def goal_text(goal: Goal, unit: str) -> str:
    """What is to come out."""
    words = "at least" if unit == "rate" else "at most"
    return f"{words} {f'{goal.bound:g}x' if goal.against else shown(goal.bound, unit)}"


def verdicts(result: Result, name: str) -> list[str]:
    """What is to come out, and whether it did: the goals that belong in a side's line."""
    case, found = result.case, []
    for goal in case.goals:
        judged = result.judged(goal)
        against = goal.against and case.asks[goal.against]
        # Beside whom it is measured against; but one of our own figures against another beside it.
        place = goal.against if against and against.side != OURS else goal.ours
        if judged is None or place != name:
            continue
        text = f"goal {goal_text(goal, case.unit)}"
        if against and against.side == OURS:
            text += f" of {title(result, goal.against or '')}, is {times(judged[0])}"
        found.append(f"{text}: {'met' if judged[1] else 'MISSED'}")
    return found


def title(result: Result, name: str) -> str:
    """What the table calls who was asked."""
    ask = result.case.asks[name]
    return (ask.title or SIDES[ask.side].title) + (" (limit)" if ask.limit else "")


def table(result: Result) -> list[str]:
    """A case's lines: each side's figure, its spread, ours as a multiple of it, and the goals."""
    case = result.case
    lines = [case.what + (f" ({case.note})" if case.note else "")]
    width = max(len(title(result, name)) for name in case.asks)
    for name in result.figures:
        medians = result.medians(name)
        spread = f"{shown(min(medians), case.unit)} - {shown(max(medians), case.unit)}"
        line = f"  {title(result, name):{width}} {shown(result.median(name), case.unit):>12}"
        line += f"  {spread if len(medians) > 1 else '':28}"
        multiple = result.multiple(name)
        line += f" {'' if multiple is None else times(multiple):>8}  "
        line += "; ".join(verdicts(result, name))
        lines.append(line.rstrip())
    for name, reason in result.failed.items():
        lines.append(f"  {title(result, name):{width}} failed: {reason}")
    return lines


def machine(peers: Sequence[str]) -> dict[str, Any]:
    """Where this was measured, and with what."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "procession": __version__,
        "system": f"{platform.system()} {platform.release()}",
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "variables": {name: os.environ[name] for name in sorted(os.environ) if heeded(name)},
        "peers": {name: PEERS[name].version() for name in peers},
    }


def heeded(variable: str) -> bool:
    """Whether a library may do something else because of an environment variable."""
    return variable.startswith(HEEDED)


def header(found: dict[str, Any]) -> str:
    """The same in a line, and in a second one if a variable may have had a say in it."""
    variables = " ".join(f"{name}={value}" for name, value in found["variables"].items())
    peers = [f"{name} {version or ''}".strip() for name, version in found["peers"].items()]
    return (
        f"Python {found['python']}, NumPy {found['numpy']}, {found['system']}, {found['cores']} "
        f"cores, load {found['load']:.1f}; peers: {', '.join(peers) or 'none'}"
        + (f"\nset: {variables}" if variables else "")
    )


def plain(result: Result) -> dict[str, Any]:
    """A case for JSON."""
    case = result.case
    return {
        "case": case.key,
        "what": case.what,
        "unit": case.unit,
        "sides": {
            name: {
                "title": title(result, name),
                "median": result.median(name),
                "rounds": result.medians(name),
                "ours_as_multiple": result.multiple(name),
                "limit": case.asks[name].limit,
            }
            for name in result.figures
        },
        "failed": result.failed,
        "goals": [
            {
                "goal": goal_text(goal, case.unit),
                "of": goal.ours,
                "against": goal.against,
                "value": judged[0],
                "met": judged[1],
            }
            for goal in case.goals
            if (judged := result.judged(goal)) is not None
        ],
    }
