"""LocalSession, in the process itself."""

from __future__ import annotations

import statistics

from bench.sides.plans import tanh_plan, trained
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

    def step(
        self, budget: float, batch: int, model: str = "mlp", check: bool = False, steps: int = 1
    ) -> list[float]:
        """One step of SGD: a net that is compiled once, or a plan of so many steps."""
        workspace = self._session.workspace()
        return trained(self._session, workspace, budget, batch, model, check, steps)

    def operators_of_a_millisecond(self, budget: float) -> int:
        """How many operators make a plan of one millisecond."""
        few, many = (statistics.median(self.plan(budget, operators)) for operators in (4, 24))
        return max(1, round(0.001 / ((many - few) / 20)))

    def close(self) -> None:
        """Close the session."""
        self._session.close()
