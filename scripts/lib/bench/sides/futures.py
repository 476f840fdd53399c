"""`concurrent.futures.ProcessPoolExecutor`, as Python sets it up."""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor

from bench.sides.pools import PoolSide


class Side(PoolSide):
    """The standard library's pool."""

    def make(self, workers: int) -> Executor:
        """An executor with so many workers."""
        return ProcessPoolExecutor(workers)
