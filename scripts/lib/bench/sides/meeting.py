"""Two processes, words that both spin on, arrays that both write: the least there can be."""

from __future__ import annotations

import mmap
import os
import time

import numpy as np

from bench.process import end_with_parent
from bench.sides.timing import per_turn

WORDS = (0, 8)
"""How often each has arrived, in a cache line each."""
PATIENCE = 2_000
"""Looks before others may run: there may be no second core free."""


class Meeting:
    """A process and a fork of it.

    Args:
        size: Bytes of the array that each of them has; with none they only meet.
    """

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE + 2 * size)
        self._words = memoryview(self._memory).cast("Q")
        self._arrays = [
            np.frombuffer(self._memory, np.float32, size // 4, mmap.PAGESIZE + number * size)
            for number in range(2)
        ]
        self._arrived = 0
        orders, self._orders = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            end_with_parent()
            os.close(self._orders)
            while order := os.read(orders, 8):
                self._turns(1, int.from_bytes(order, "little"))
            os._exit(0)
        os.close(orders)

    def measured(self, budget: float) -> list[float]:
        """Seconds of a turn: both meet, each adds its half for both, and they meet again."""

        def turns(number: int) -> float:
            os.write(self._orders, number.to_bytes(8, "little"))
            return self._turns(0, number)

        return per_turn(turns, budget)

    def _turns(self, me: int, number: int) -> float:
        half = len(self._arrays[0]) // 2
        mine = slice(half) if me == 0 else slice(half, None)
        first, second = (array[mine] for array in self._arrays)
        self._meet(me)
        begin = time.perf_counter()
        for _ in range(number):
            self._meet(me)
            if half:
                np.add(first, second, out=first)
                np.copyto(second, first)
                self._meet(me)
        return time.perf_counter() - begin

    def _meet(self, me: int) -> None:
        words, there, looks = self._words, WORDS[1 - me], 0
        self._arrived += 1
        words[WORDS[me]] = arrived = self._arrived
        while words[there] < arrived:
            looks += 1
            if looks > PATIENCE:
                os.sched_yield()

    def close(self) -> None:
        """End the other process."""
        os.close(self._orders)
        os.waitpid(self._child, 0)
