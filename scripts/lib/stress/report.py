"""What a soak did, what was wrong, and how long an error took to come; for people and for programs.

Time from kill to error: from right before the signal is sent, by the clock of whoever sends it, to
the moment in which the caller has the exception. That can be measured only where a call was waiting
for that very worker. Where none was, the death is found by the next call, and the time counts from
the beginning of that. The two are kept apart.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from procession.version import __version__

PROBLEMS = (
    "hangs",
    "wrong bytes",
    "wrong errors",
    "wrong ends of coordinators",
    "leaked processes",
    "leaked segments",
    "leaked descriptors",
    "leaked threads",
    "leaked bytes",
)
PHASES = ("starting", "idle", "unpickling", "computing", "writing", "replying", "closing")
PERCENTILES = (("p50", 50.0), ("p99", 99.0), ("max", 100.0))
MOST_SHOWN = 20


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least so many percent of them do not exceed."""
    if not values:
        raise ValueError("no values have no percentiles")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def rate_bound(trials: int) -> float:
    """With 95% confidence, at most this part of such trials goes wrong, after none has: 3/N."""
    return min(1.0, 3 / trials)


class Report:
    """Counts, times and problems of a soak.

    Args:
        options: What it was asked for, as far as it can be asked for again.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.operations: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        """Errors that came, and were the right ones."""
        self.values = 0
        """Values that were compared with the model."""
        self.sessions = 0
        self.restarts = 0
        self.kills: Counter[str] = Counter()
        """By what the worker was doing."""
        self.signals: Counter[str] = Counter()
        self.stops = 0
        """Workers that were ended by a timeout because they had been stopped."""
        self.coordinators: Counter[str] = Counter()
        """Coordinators that were killed, by signal."""
        self.coordinators_gone: list[float] = []
        """Seconds from a coordinator's end to that of the last of its workers."""
        self.waiting: list[float] = []
        """Seconds from kill to error when a call was waiting."""
        self.next_call: list[float] = []
        """Seconds from the beginning of the next call to the error."""
        self.slowest: list[tuple[float, str]] = []
        self.problems: list[tuple[str, str]] = []
        self.seconds = 0.0
        self.interrupted = False

    def wrong(self, kind: str, what: str) -> None:
        """Something is wrong.

        Args:
            kind: One of PROBLEMS.
            what: What, for people.
        """
        assert kind in PROBLEMS
        self.problems.append((kind, what))

    def took(self, seconds: float, what: str, waiting: bool) -> None:
        """An error has come, so long after the kill (waiting), or after the call that found it."""
        (self.waiting if waiting else self.next_call).append(seconds)
        self.slowest = sorted([*self.slowest, (seconds, what)], reverse=True)[:5]

    @property
    def killed(self) -> int:
        """How many workers were killed."""
        return sum(self.kills.values())

    @property
    def exit_code(self) -> int:
        """0 when nothing was wrong."""
        if self.problems:
            return 1
        return 130 if self.interrupted else 0

    def counts(self) -> dict[str, int]:
        """How many problems there were, of each kind."""
        found = Counter(kind for kind, _ in self.problems)
        return {kind: found[kind] for kind in PROBLEMS}

    def plain(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "options": self.options,
            "machine": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "procession": __version__,
                "system": f"{platform.system()} {platform.release()}",
                "cores": os.cpu_count(),
                "load": os.getloadavg()[0],
            },
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "operations": dict(self.operations),
            "values_compared": self.values,
            "sessions": self.sessions,
            "kills": dict(self.kills),
            "signals": dict(self.signals),
            "stops": self.stops,
            "restarts": self.restarts,
            "expected_errors": dict(self.outcomes),
            "coordinator_kills": dict(self.coordinators),
            "seconds_from_kill_to_error": _spread(self.waiting),
            "seconds_from_next_call_to_error": _spread(self.next_call),
            "seconds_from_coordinator_to_last_worker": _spread(self.coordinators_gone),
            "slowest": [{"seconds": seconds, "what": what} for seconds, what in self.slowest],
            "problems": self.counts(),
            "what": [f"{kind}: {what}" for kind, what in self.problems],
            "exit_code": self.exit_code,
        }

    def write(self, file: Path) -> None:
        """Write all of it as JSON."""
        file.write_text(json.dumps(self.plain(), indent=1) + "\n", encoding="utf-8")

    def lines(self) -> list[str]:
        """All of it, for people."""
        lines = [""]
        if self.operations:
            lines += [
                f"operations    {sum(self.operations.values()):,}: {_listed(self.operations)}",
                f"compared      {self.values:,} values, in {self.sessions:,} sessions",
                f"right errors  {_listed(self.outcomes) or 'none'}",
                f"kills         {self.killed:,}: {_listed(self._by_phase())}",
            ]
            if self.killed:
                lines.append(f"  by          {_listed(self.signals)}")
                lines.append(f"  restarts    {self.restarts:,}")
            lines.append(f"stopped       {self.stops:,} workers, ended by a timeout")
        if self.coordinators:
            total = sum(self.coordinators.values())
            lines.append(f"coordinators  {total:,} killed: {_listed(self.coordinators)}")
        lines += _times("kill to error, a call waiting", self.waiting)
        lines += _times("next call to error, none waiting", self.next_call)
        lines += _times("coordinator's end to its last worker's", self.coordinators_gone)
        if self.slowest:
            seconds, what = self.slowest[0]
            lines.append(f"  the slowest, {1000 * seconds:.1f} ms: {what}")
        lines += [f"{kind:28}{count:6,}" for kind, count in self.counts().items()]
        for kind, what in self.problems[:MOST_SHOWN]:
            lines += ["", f"{kind}: {what}"]
        if len(self.problems) > MOST_SHOWN:
            lines.append(f"... and {len(self.problems) - MOST_SHOWN} more")
        return [*lines, "", self.verdict()]

    def verdict(self) -> str:
        """The last line."""
        took = f"in {self.seconds:.0f} s"
        if self.problems:
            return f"FAILED: {len(self.problems)} problems {took}"
        text = "interrupted; all right so far" if self.interrupted else "all right"
        for what, trials in (
            ("kills of workers", self.killed),
            ("of coordinators", sum(self.coordinators.values())),
        ):
            if trials:
                bound = rate_bound(trials)
                text += f"; {trials:,} {what}: fewer than {bound:.3g} of them go wrong (95%)"
        return f"{text}, {took}"

    def _by_phase(self) -> dict[str, int]:
        first = {phase: self.kills[phase] for phase in PHASES}
        return first | {phase: n for phase, n in self.kills.most_common() if phase not in first}


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    return {"count": len(values)} | {name: percentile(values, p) for name, p in PERCENTILES}


def _times(what: str, values: Sequence[float]) -> list[str]:
    if not values:
        return []
    shown = ", ".join(f"{name} {1000 * percentile(values, p):.1f} ms" for name, p in PERCENTILES)
    return [f"{what} ({len(values):,}): {shown}"]


def _listed(counts: dict[str, int]) -> str:
    pairs = counts.most_common() if isinstance(counts, Counter) else counts.items()
    return ", ".join(f"{name} {count:,}" for name, count in pairs)
