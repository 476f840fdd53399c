"""Dask: a LocalCluster of processes, an actor on each."""

from __future__ import annotations

from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from bench.sides.timing import Startup, array_of, rate, timed


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
    """A cluster, and an actor on each of its workers."""

    def __init__(self) -> None:
        self._cluster: Any = None
        self._client: Any = None
        self._actors: list[Any] = []

    def _opened(self, workers: int) -> list[Any]:
        if self._cluster is None:
            self._cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            )
            self._client = Client(self._cluster)
        if len(self._actors) < workers:
            self._cluster.scale(workers)
            self._client.wait_for_workers(workers)
            for address in list(self._client.scheduler_info(n_workers=-1)["workers"]):
                if all(actor._address != address for actor in self._actors):
                    future = self._client.submit(Worker, actor=True, workers=[address], pure=False)
                    self._actors.append(future.result())
            self._actors[-1].noop().result()
        return self._actors[:workers]

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """A no-op of each of the actors."""
        actors = self._opened(nodes)

        def run() -> None:
            futures = [actor.noop() for actor in actors]
            for future in futures:
                future.result()

        return timed(run, budget)

    def throughput(self, budget: float, waiting: bool) -> list[float]:
        """Small tasks per second on two actors."""
        actors = self._opened(2)

        def run(number: int) -> None:
            for size in [2] * (number // 2) if waiting else [number]:
                futures = [actors[index % 2].add(1.0, 2.0) for index in range(size)]
                for future in futures:
                    future.result()

        return rate(run, budget)

    def feed(self, budget: float, size: int) -> list[float]:
        """An array as argument."""
        [actor] = self._opened(1)
        array = array_of(size)
        return timed(lambda: actor.take(array).result(), budget)

    def fetch(self, budget: float, size: int) -> list[float]:
        """An array as result."""
        [actor] = self._opened(1)
        return timed(lambda: actor.give(size).result(), budget)

    def startup(self, budget: float, further: int) -> list[float]:
        """A cluster of one worker, and further workers, each from nothing to its first answer."""
        laps = Startup()
        for workers in range(1, further + 2):
            self._opened(workers)
            laps.lap()
        return laps.figures(further)

    def close(self) -> None:
        """End the cluster."""
        if self._cluster is not None:
            self._client.close()
            self._cluster.close()
