"""torch.distributed over gloo: this process is rank 0, and another one is rank 1."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed

from bench.sides import models, torch_models
from bench.sides.timing import per_turn

RANKS = 2


def join(rank: int, file: str) -> None:
    """Be a member of the group."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // RANKS))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=RANKS
    )


def turns(what: str, size: int, number: int) -> float:
    """Do so many of them, together with the other rank; seconds for all."""
    act = {"barrier": _barrier, "allreduce": _allreduce, "parallel": _parallel}[what](size)
    act()
    torch.distributed.barrier()
    begin = time.perf_counter()
    for _ in range(number):
        act()
    return time.perf_counter() - begin


def _barrier(size: int) -> Callable[[], Any]:
    return torch.distributed.barrier


def _allreduce(size: int) -> Callable[[], Any]:
    tensor = torch.zeros(size // 4)
    return lambda: torch.distributed.all_reduce(tensor)


def _parallel(batch: int) -> Callable[[], Any]:
    x, label = torch_models.batch_of("mlp", batch)
    model = torch.nn.parallel.DistributedDataParallel(torch_models.module("mlp"))
    optimizer = torch.optim.SGD(model.parameters(), lr=models.RATE)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), label).backward()
        optimizer.step()

    return step


def serve(file: str, orders: Connection) -> None:
    """Be rank 1 until there are no more orders."""
    join(1, file)
    while order := orders.recv():
        turns(*order)
    torch.distributed.destroy_process_group()


class Side:
    """The rank that measures."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("spawn")
        self._orders, orders = context.Pipe()
        file = f"{self._folder.name}/group"
        self._other = context.Process(target=serve, args=(file, orders), daemon=True)
        self._other.start()
        join(0, file)

    def barrier(self, budget: float) -> list[float]:
        """`barrier`."""
        return self._measured("barrier", 0, budget)

    def allreduce(self, budget: float, size: int) -> list[float]:
        """`all_reduce` of a tensor."""
        return self._measured("allreduce", size, budget)

    def parallel(self, budget: float, batch: int) -> list[float]:
        """Examples per second of DistributedDataParallel, with one thread per core in all."""
        seconds = self._measured("parallel", batch, budget)
        return [RANKS * batch / each for each in seconds]

    def _measured(self, what: str, size: int, budget: float) -> list[float]:
        def measured(number: int) -> float:
            self._orders.send((what, size, number))
            return turns(what, size, number)

        return per_turn(measured, budget)

    def close(self) -> None:
        """End both."""
        self._orders.send(None)
        self._other.join()
        torch.distributed.destroy_process_group()
        self._folder.cleanup()
