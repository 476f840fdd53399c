"""LocalSession, in the process itself."""

from __future__ import annotations

import statistics

from bench.sides.plans import tanh_plan
from bench.sides.timing import timed
from procession import LocalSession


class Side:
    """One session."""

    def __init__(self) -> None:
        self._session = LocalSession()

    def plan(self, budget: float, operators: int) -> list[float]:
        """A plan of so many operators."""
        begin, plan = tanh_plan(operators)
        self._session.run(begin)
        compiled = self._session.compile(plan)
        return timed(lambda: self._session.run(compiled), budget)

    def operators_of_a_millisecond(self, budget: float) -> int:
        """How many operators make a plan of one millisecond."""
        few, many = (statistics.median(self.plan(budget, operators)) for operators in (4, 24))
        return max(1, round(0.001 / ((many - few) / 20)))

    def close(self) -> None:
        """Close the session."""
        self._session.close()
