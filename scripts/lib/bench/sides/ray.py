"""Ray: an actor per worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

from bench.sides.timing import Startup, array_of, rate, timed


@ray.remote(num_cpus=0)
class Worker:
    """Does what the workers of all sides do."""

    def __init__(self) -> None:
        self._held: dict[int, np.ndarray] = {}

    def noop(self) -> None:
        """Nothing."""

    def add(self, a: float, b: float) -> float:
        """The small task."""
        return a + b

    def take(self, array: np.ndarray) -> float:
        """An array, into the worker."""
        return float(array[-1])

    def give(self, size: int) -> np.ndarray:
        """An array, out of the worker."""
        if size not in self._held:
            self._held[size] = array_of(size)
        return self._held[size]


class Side:
    """Ray on this machine, and actors."""

    def __init__(self) -> None:
        self._actors: list[Any] = []

    def _opened(self, workers: int) -> list[Any]:
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        while len(self._actors) < workers:
            actor = Worker.remote()
            ray.get(actor.noop.remote())
            self._actors.append(actor)
        return self._actors[:workers]

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """A no-op of each of the actors."""
        actors = self._opened(nodes)
        return timed(lambda: ray.get([actor.noop.remote() for actor in actors]), budget)

    def throughput(self, budget: float, waiting: bool) -> list[float]:
        """Small tasks per second on two actors."""
        actors = self._opened(2)

        def run(number: int) -> None:
            for size in [2] * (number // 2) if waiting else [number]:
                ray.get([actors[index % 2].add.remote(1.0, 2.0) for index in range(size)])

        return rate(run, budget)

    def feed(self, budget: float, size: int) -> list[float]:
        """An array as argument."""
        [actor] = self._opened(1)
        array = array_of(size)
        return timed(lambda: ray.get(actor.take.remote(array)), budget)

    def fetch(self, budget: float, size: int) -> list[float]:
        """An array as result."""
        [actor] = self._opened(1)
        return timed(lambda: ray.get(actor.give.remote(size)), budget)

    def startup(self, budget: float, further: int) -> list[float]:
        """Ray and an actor, and further actors, each from nothing to its first answer."""
        laps = Startup()
        for workers in range(1, further + 2):
            self._opened(workers)
            laps.lap()
        return laps.figures(further)

    def close(self) -> None:
        """End Ray."""
        ray.shutdown()
