"""What all sides measure with."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

MOST = 4000
"""Figures in one answer."""


@contextmanager
def without_collector() -> Iterator[None]:
    """The garbage collector runs before, and not in the middle."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def timed(
    function: Callable[[], Any],
    budget: float,
    *,
    before: Callable[[], Any] | None = None,
    least: int = 3,
) -> list[float]:
    """Seconds of each call for as long as the budget lasts, after some that do not count.

    Args:
        function: What is measured. What it returns is kept until the call after it.
        budget: Seconds for all of it.
        before: What is done before each call, unmeasured.
        least: How many calls there are however long they take.
    """
    clock = time.perf_counter
    seconds: list[float] = []
    kept = None
    with without_collector():
        begin = clock()
        calls = 0
        while calls < least or clock() - begin < budget / 4:
            if before is not None:
                before()
            kept = function()
            calls += 1
        begin = clock()
        while len(seconds) < least or (clock() - begin < budget and len(seconds) < MOST):
            if before is not None:
                before()
            start = clock()
            value = function()
            seconds.append(clock() - start)
            kept, value = value, None
    del kept
    return seconds


def rate(function: Callable[[int], Any], budget: float, step: int = 8) -> list[float]:
    """How often per second something is done that `function(n)` does n times: step, or more."""
    clock = time.perf_counter
    number, rates = step, []
    with without_collector():
        while True:
            begin = clock()
            function(number)
            seconds = clock() - begin
            if seconds > budget / 8 or number >= 1 << 20:
                break
            number *= min(8, max(2, int(budget / 6 / seconds)))
        begin = clock()
        while len(rates) < 3 or clock() - begin < budget / 2:
            start = clock()
            function(number)
            rates.append(number / (clock() - start))
    return rates


def per_turn(turns: Callable[[int], float], budget: float) -> list[float]:
    """Seconds of one turn of a loop that somebody else goes through.

    Args:
        turns: Has so many turns taken, and returns the seconds of all of them.
        budget: Seconds for all of it.
    """
    number, figures = 1, []
    with without_collector():
        while (seconds := turns(number)) < budget / 8 and number < 1 << 20:
            number *= min(8, max(2, int(budget / 6 / seconds)))
        spent = 0.0
        while len(figures) < 3 or spent < budget / 2:
            seconds = turns(number)
            spent += seconds
            figures.append(seconds / number)
    return figures


def array_of(size: int) -> np.ndarray:
    """An array of so many bytes, each page of it written."""
    return np.arange(size // 4, dtype=np.float32)


def noop() -> None:
    """What is called in a worker that is to do nothing."""


def add(a: float, b: float) -> float:
    """The small task."""
    return a + b


class Startup:
    """Seconds of a start: of the first worker, and of each further one."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: list[float] = []

    def lap(self) -> None:
        """One more worker has answered."""
        moment = time.perf_counter()
        self.seconds.append(moment - self._last)
        self._last = moment

    def figures(self, further: int) -> list[float]:
        """Those of the further workers, or that of the first."""
        return self.seconds[1:] if further else self.seconds[:1]
