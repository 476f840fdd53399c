"""loky: joblib's executor."""

from __future__ import annotations

from concurrent.futures import Executor

import loky

from bench.sides.pools import PoolSide


class Side(PoolSide):
    """A pool of its own, not the one that all share."""

    def make(self, workers: int) -> Executor:
        """An executor with so many workers."""
        return loky.ProcessPoolExecutor(workers)
