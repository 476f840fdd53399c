"""A case: one thing that several sides do, and the goals for it.

What a side answers is a list of figures: seconds, or what the case's unit says. The figure of a
round is the median of that list; the figure of a side is the median of its rounds, and a ratio is
the median of the ratios of the rounds, in which both sides were measured one right after the other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OURS = "procession"


@dataclass(frozen=True)
class Ask:
    """What to ask of a side.

    Attributes:
        side: A key of `peers.SIDES`.
        what: The method of the side's class.
        options: Its arguments.
        title: What the table calls it, when that is not the side's title.
        limit: Whether it is a limit of the machine, not something that one could take instead.
        fresh: Whether it needs an interpreter in which nothing has happened.
        threads: How many threads its BLAS and its OpenMP are held to; None leaves them alone.
        ranks: Of how many processes it is made, if it is started by a launcher.
        ours: Which of Procession's asks it is compared with.
    """

    side: str
    what: str
    options: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    limit: bool = False
    fresh: bool = False
    threads: int | None = None
    ranks: int = 2
    ours: str = OURS


@dataclass(frozen=True)
class Goal:
    """What Procession's figure is to be: at most, or for rates at least, so much.

    Attributes:
        bound: The number that is to be kept.
        against: The ask whose figure the bound is a multiple of; None when it is a figure itself.
        ours: Which of Procession's asks it holds for.
    """

    bound: float
    against: str | None = None
    ours: str = OURS


@dataclass(frozen=True)
class Case:
    """One thing that several sides do.

    Attributes:
        key: Its name in the JSON.
        what: The same for people.
        asks: What to ask of whom, ours first.
        goals: What is to come out.
        unit: "seconds", "rate", "bytes".
        note: What a reader has to know about it.
        rounds: How often at most, for what takes long or never differs.
    """

    key: str
    what: str
    asks: Mapping[str, Ask]
    goals: tuple[Goal, ...] = ()
    unit: str = "seconds"
    note: str = ""
    rounds: int | None = None


Rounds = list[list[float]]


@dataclass
class Result:
    """What came out of a case: the figures of each ask, and who failed, with the reason."""

    case: Case
    figures: dict[str, Rounds] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def medians(self, name: str) -> list[float]:
        """The figure of each round."""
        return [statistics.median(figures) for figures in self.figures[name]]

    def median(self, name: str) -> float:
        """The figure."""
        return statistics.median(self.medians(name))

    def ratio(self, ours: str, name: str) -> float | None:
        """Our figure as a multiple of another; None when there is nothing to compare."""
        if name not in self.figures or ours not in self.figures:
            return None
        pairs = zip(self.medians(ours), self.medians(name), strict=False)
        return statistics.median(mine / other if other else math.inf for mine, other in pairs)

    def multiple(self, name: str) -> float | None:
        """Our figure as a multiple of that of somebody else; None for our own."""
        ask = self.case.asks[name]
        return None if ask.side == OURS else self.ratio(ask.ours, name)

    def judged(self, goal: Goal) -> tuple[float, bool] | None:
        """The number that a goal is about and whether it is met; None when it was not measured."""
        if goal.against is None:
            value = self.median(goal.ours) if goal.ours in self.figures else None
        else:
            value = self.ratio(goal.ours, goal.against)
        if value is None:
            return None
        return value, value >= goal.bound if self.case.unit == "rate" else value <= goal.bound
