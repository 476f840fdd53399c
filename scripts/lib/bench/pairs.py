"""Rounds in which the sides take turns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.case import Ask, Case, Result
from bench.peers import ALWAYS
from bench.process import SideError, SideProcess


class Pairs:
    """The sides of a command, each in its interpreter, and the rounds in which they are measured.

    Args:
        peers: The peers that take part.
        rounds: How often each side is measured.
        budget: Seconds that a side has for each measurement.
    """

    def __init__(self, peers: Sequence[str], rounds: int, budget: float) -> None:
        self._peers = peers
        self.rounds = rounds
        self.budget = budget
        self._sides: dict[tuple[str, int | None, int], SideProcess] = {}

    def measure(self, case: Case) -> Result:
        """Measure a case. Who fails is left out from there on."""
        result = Result(case)
        asks = {name: ask for name, ask in case.asks.items() if self.takes_part(ask)}
        rounds = min(self.rounds, case.rounds or self.rounds)
        for number in range(rounds):
            names = list(asks)
            if not names:
                break
            # Who comes first changes, so that nobody always follows the same neighbour.
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                tell(f"{case.what}: {name}, round {number + 1} of {rounds}")
                try:
                    figures = self._ask(asks[name])
                except SideError as error:
                    result.failed[name] = str(error)
                    del asks[name]
                    self._end(self._sides.pop(place(case.asks[name]), None))
                else:
                    result.figures.setdefault(name, []).append(figures)
        tell("")
        result.figures = {name: result.figures[name] for name in asks}
        return result

    def takes_part(self, ask: Ask) -> bool:
        """Whether it is ours, a limit, or a peer that was chosen."""
        return ask.side in ALWAYS or ask.side in self._peers

    def ask(self, side: str, what: str, **options: Any) -> Any:
        """Ask a side something that is no measurement."""
        return self._asked(Ask(side, what, options))

    def _ask(self, ask: Ask) -> list[float]:
        ask = replace(ask, options={"budget": self.budget, **ask.options})
        if not ask.fresh:
            return self._asked(ask)
        side = SideProcess(*place(ask))
        try:
            return side.ask(ask.what, **ask.options)
        finally:
            side.close()

    def _asked(self, ask: Ask) -> Any:
        key = place(ask)
        if key not in self._sides:
            self._sides[key] = SideProcess(*key)
        return self._sides[key].ask(ask.what, **ask.options)

    def _end(self, side: SideProcess | None) -> None:
        if side is not None:
            side.close()

    def close(self) -> None:
        """End all sides."""
        while self._sides:
            self._end(self._sides.popitem()[1])


def place(ask: Ask) -> tuple[str, int | None, int]:
    """What tells the interpreter in which it is answered: the arguments of `SideProcess`."""
    return ask.side, ask.threads, ask.ranks


def tell(text: str) -> None:
    """Show on a terminal what is going on, in one line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text[:100]}", end="", file=sys.stderr, flush=True)
