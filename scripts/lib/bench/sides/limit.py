"""What the machine can do, with nothing in between."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import statistics
import time
from functools import partial
from multiprocessing import shared_memory
from multiprocessing.connection import Connection

import numpy as np
import psutil

from bench.process import end_with_parent
from bench.sides.meeting import Meeting
from bench.sides.pipe import MESSAGE, echo
from bench.sides.timing import Startup, array_of, timed

HERE, THERE = 0, 8
"""The words, in a cache line each."""
STOP = 2**64 - 1
PATIENCE = 2_000
"""Turns of a spin before it lets others run: there may be no second core free."""


class Side:
    """A process to spin with, and memory to copy into."""

    def __init__(self) -> None:
        self._start: int | None = None
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._words = memoryview(self._memory).cast("Q")

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """A word that two processes spin on: a number there, and the same number back."""
        if self._start is None:
            self._start = self._spinner()
        os.write(self._start, b"x")
        words, number = self._words, 0

        def run() -> None:
            nonlocal number
            number += 1
            words[HERE] = number
            turns = 0
            while words[THERE] != number:
                turns += 1
                if turns > PATIENCE:
                    os.sched_yield()

        try:
            return timed(run, budget)
        finally:
            words[HERE] = STOP
            while words[THERE] != STOP:
                os.sched_yield()
            words[HERE] = 0

    def _spinner(self) -> int:
        """A process that answers each number from when it is told to, until it is to stop."""
        wait, start = os.pipe()
        if os.fork() == 0:
            end_with_parent()
            os.close(start)
            while os.read(wait, 1):
                self._answer()
            os._exit(0)
        os.close(wait)
        return start

    def _answer(self) -> None:
        words, last, turns = self._words, 0, 0
        while last != STOP:
            number = words[HERE]
            if number != last:
                words[THERE] = last = number
                turns = 0
            else:
                turns += 1
                if turns > PATIENCE:
                    os.sched_yield()

    def barrier(self, budget: float) -> list[float]:
        """Two processes that meet in a loop."""
        return self.allreduce(budget, 0)

    def allreduce(self, budget: float, size: int) -> list[float]:
        """Two processes that add what they share."""
        meeting = Meeting(size)
        try:
            return meeting.measured(budget)
        finally:
            meeting.close()

    def copy(self, budget: float, size: int) -> list[float]:
        """`np.copyto` into shared memory that was written before."""
        memory = shared_memory.SharedMemory(create=True, size=size)
        try:
            source = array_of(size)
            target = np.ndarray(source.shape, source.dtype, memory.buf)
            try:
                return timed(partial(np.copyto, target, source), budget)
            finally:
                del target
        finally:
            memory.close()
            memory.unlink()

    def map(self, budget: float, size: int) -> list[float]:
        """Mapping shared memory that was written before, and a look at it."""
        file = os.memfd_create("bench")
        os.truncate(file, size)
        with mmap.mmap(file, size) as memory:
            np.frombuffer(memory, np.uint8).fill(1)

        def look() -> mmap.mmap:
            memory = mmap.mmap(file, size)
            memory[0]
            return memory

        try:
            return timed(look, budget)
        finally:
            os.close(file)

    def fill(self, budget: float, size: int) -> list[float]:
        """Filling a private array that was written before."""
        array = array_of(size)
        return timed(lambda: array.fill(2.5), budget)

    def fill_shared(self, budget: float, size: int) -> list[float]:
        """Filling shared memory that was written before."""
        memory = shared_memory.SharedMemory(create=True, size=size)
        try:
            array = np.ndarray((size // 4,), np.float32, memory.buf)
            try:
                return timed(partial(array.fill, 2.5), budget)
            finally:
                del array
        finally:
            memory.close()
            memory.unlink()

    def fill_new(self, budget: float, size: int) -> list[float]:
        """Filling a new private array each time."""

        def fill() -> np.ndarray:
            array = np.empty(size // 4, np.float32)
            array.fill(2.5)
            return array

        return timed(fill, budget)

    def startup(self, budget: float, further: int) -> list[float]:
        """A child of a forkserver that has NumPy loaded, from nothing to its first answer."""
        laps, children = Startup(), Children()
        for _ in range(1 + further):
            children.add()
            children.ask(children.connections[-1:])
            laps.lap()
        children.close()
        return laps.figures(further)

    def scale(self, budget: float, nodes: int) -> dict[str, float]:
        """So many of them, with a pipe each: open, a message to all and back, close, idle."""
        start, children = time.perf_counter(), Children()
        for _ in range(nodes):
            children.add()
        children.ask(children.connections)
        opened = time.perf_counter() - start
        seconds = timed(lambda: children.ask(children.connections), budget)
        private = [psutil.Process(pid).memory_full_info().uss for pid in children.pids()]
        start = time.perf_counter()
        children.close()
        return {
            "open": opened,
            "run": statistics.median(seconds),
            "close": time.perf_counter() - start,
            "uss": statistics.median(private),
        }

    def close(self) -> None:
        """End the process that spins."""
        if self._start is not None:
            os.close(self._start)
            os.wait()


class Children:
    """Children of a forkserver, with a pipe to each."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["numpy", "bench.sides.pipe"])
        self.connections: list[Connection] = []
        self._processes: list[multiprocessing.context.ForkServerProcess] = []

    def add(self) -> None:
        """Start one more."""
        here, there = self._context.Pipe()
        process = self._context.Process(target=echo, args=(there,), daemon=True)
        process.start()
        there.close()
        self.connections.append(here)
        self._processes.append(process)

    def pids(self) -> list[int]:
        """Their processes."""
        return [process.pid or 0 for process in self._processes]

    def ask(self, connections: list[Connection]) -> None:
        """A message to each of them, then one from each."""
        for connection in connections:
            connection.send_bytes(MESSAGE)
        for connection in connections:
            connection.recv_bytes()

    def close(self) -> None:
        """End them."""
        for connection in self.connections:
            connection.send_bytes(b"")
        for process in self._processes:
            process.join()
            process.close()
        for connection in self.connections:
            connection.close()
