"""torch RPC: this process, and two more on the loopback."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from functools import lru_cache
from typing import Any

import torch
import torch.distributed.rpc as rpc

from bench.sides import models, torch_models
from bench.sides.timing import Startup, noop, rate, timed


@lru_cache
def held(size: int) -> torch.Tensor:
    """The tensor that a worker has."""
    return torch.ones(size // 4)


def take(tensor: torch.Tensor) -> float:
    """A tensor, into the worker."""
    return float(tensor[-1])


def add(a: float, b: float) -> float:
    """The small task."""
    return a + b


def join(rank: int, workers: int, file: str) -> None:
    """Be one of the group until all of it ends."""
    os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    rpc.init_rpc(
        f"w{rank}",
        rank=rank,
        world_size=workers + 1,
        rpc_backend_options=rpc.TensorPipeRpcBackendOptions(init_method=f"file://{file}"),
    )
    if rank:
        rpc.shutdown()


class Side:
    """The group, once it is needed; it is of one size for ever."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._workers: list[Any] = []

    def _opened(self, workers: int = 2) -> None:
        if self._workers:
            return
        context, file = multiprocessing.get_context("spawn"), f"{self._folder.name}/group"
        for rank in range(1, workers + 1):
            worker = context.Process(target=join, args=(rank, workers, file), daemon=True)
            worker.start()
            self._workers.append(worker)
        join(0, workers, file)

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """`rpc_sync` to one, `rpc_async` to two."""
        self._opened()
        if nodes == 1:
            return timed(lambda: rpc.rpc_sync("w1", noop), budget)

        def run() -> None:
            futures = [rpc.rpc_async(f"w{rank}", noop) for rank in (1, 2)]
            for future in futures:
                future.wait()

        return timed(run, budget)

    def throughput(self, budget: float, waiting: bool) -> list[float]:
        """Small tasks per second on two workers."""
        self._opened()

        def run(number: int) -> None:
            for size in [2] * (number // 2) if waiting else [number]:
                futures = [
                    rpc.rpc_async(f"w{1 + index % 2}", add, (1.0, 2.0)) for index in range(size)
                ]
                for future in futures:
                    future.wait()

        return rate(run, budget)

    def feed(self, budget: float, size: int) -> list[float]:
        """A tensor as argument."""
        self._opened()
        tensor = torch.ones(size // 4)
        return timed(lambda: rpc.rpc_sync("w1", take, (tensor,)), budget)

    def fetch(self, budget: float, size: int) -> list[float]:
        """A tensor as result."""
        self._opened()
        return timed(lambda: rpc.rpc_sync("w1", held, (size,)), budget)

    def startup(self, budget: float, further: int) -> list[float]:
        """A group with one worker, from nothing to its first answer; more it does not take."""
        laps = Startup()
        self._opened(1)
        rpc.rpc_sync("w1", noop)
        laps.lap()
        return laps.figures(further)

    def step(
        self, budget: float, batch: int, model: str = "mlp", check: bool = False
    ) -> list[float]:
        """One step of SGD, eager."""
        x, label = torch_models.batch_of(model, batch)
        module = torch_models.module(model)
        optimizer = torch.optim.SGD(module.parameters(), lr=models.RATE)
        lost = torch.zeros(())

        def run() -> None:
            nonlocal lost
            optimizer.zero_grad()
            lost = torch.nn.functional.cross_entropy(module(x), label)
            lost.backward()
            optimizer.step()

        return models.figures(run, lambda: lost.detach(), budget, check)

    def close(self) -> None:
        """End the group."""
        if self._workers:
            rpc.shutdown()
            for worker in self._workers:
                worker.join()
        self._folder.cleanup()
