"""What executors of `concurrent.futures`'s kind have in common."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import lru_cache

import numpy as np

from bench.sides.timing import Startup, add, array_of, noop, rate, timed


@lru_cache
def held(size: int) -> np.ndarray:
    """The array that a worker has."""
    return array_of(size)


def give(size: int) -> np.ndarray:
    """That array, out of the worker."""
    return held(size)


def take(array: np.ndarray) -> float:
    """An array, into the worker; its end shows that it is there."""
    return float(array[-1])


class PoolSide:
    """Executors by their number of workers."""

    def __init__(self) -> None:
        self._pools: dict[int, Executor] = {}

    def make(self, workers: int) -> Executor:
        """An executor with so many workers."""
        raise NotImplementedError

    def _pool(self, workers: int) -> Executor:
        if workers not in self._pools:
            self._pools[workers] = self.make(workers)
        return self._pools[workers]

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """Submit a no-op for each worker, and wait for all."""
        pool = self._pool(nodes)

        def run() -> None:
            futures = [pool.submit(noop) for _ in range(nodes)]
            for future in futures:
                future.result()

        return timed(run, budget)

    def throughput(self, budget: float, waiting: bool) -> list[float]:
        """Small tasks per second with two workers."""
        pool = self._pool(2)

        def run(number: int) -> None:
            for size in [2] * (number // 2) if waiting else [number]:
                futures = [pool.submit(add, 1.0, 2.0) for _ in range(size)]
                for future in futures:
                    future.result()

        return rate(run, budget)

    def map(self, budget: float) -> list[float]:
        """Small functions per second by `map`."""
        pool = self._pool(2)

        def run(number: int) -> None:
            for _ in pool.map(add, [1.0] * number, [2.0] * number):
                pass

        return rate(run, budget)

    def feed(self, budget: float, size: int) -> list[float]:
        """An array as argument."""
        pool, array = self._pool(1), array_of(size)
        return timed(lambda: pool.submit(take, array).result(), budget)

    def fetch(self, budget: float, size: int) -> list[float]:
        """An array as result."""
        pool = self._pool(1)
        return timed(lambda: pool.submit(give, size).result(), budget)

    def startup(self, budget: float, further: int) -> list[float]:
        """A pool of one, and pools of one more, each from nothing to its first result."""
        laps = Startup()
        for number in range(1 + further):
            self._pools[-number] = pool = self.make(1)
            pool.submit(noop).result()
            laps.lap()
        return laps.figures(further)

    def close(self) -> None:
        """End the workers."""
        for pool in self._pools.values():
            pool.shutdown()
