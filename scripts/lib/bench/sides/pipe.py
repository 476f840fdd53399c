"""`multiprocessing.Pipe`, as it is: a message of 16 bytes there, and one back."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import psutil

from bench.sides.timing import rate, timed

MESSAGE = bytes(16)
WINDOW = 32
"""Messages under way in each pipe, when many are to be; all of them fit in its buffer."""


def echo(connection: Connection) -> None:
    """Send back whatever comes, until nothing does."""
    try:
        while message := connection.recv_bytes():
            connection.send_bytes(message)
    except EOFError:
        pass


class Side:
    """Processes that send back what they get."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("fork")
        self._connections: dict[bool, list[Connection]] = {False: [], True: []}
        self._processes: list[multiprocessing.context.ForkProcess] = []

    def _opened(self, nodes: int, apart: bool = False) -> list[Connection]:
        connections = self._connections[apart]
        while len(connections) < nodes:
            here, there = self._context.Pipe()
            process = self._context.Process(target=echo, args=(there,), daemon=True)
            process.start()
            there.close()
            if apart:
                psutil.Process(process.pid).cpu_affinity(psutil.Process().cpu_affinity()[1:])
            connections.append(here)
            self._processes.append(process)
        return connections[:nodes]

    def roundtrip(self, budget: float, nodes: int, apart: bool = False) -> list[float]:
        """To all of them, then from all of them.

        Args:
            budget: Seconds.
            nodes: How many there are.
            apart: Whether they are kept off the core of the one who asks. Otherwise the system
                decides, and may put both ends on one core, where they wake each other for less.
        """
        connections = self._opened(nodes, apart)
        here = psutil.Process()
        cpus = here.cpu_affinity()
        if apart:
            here.cpu_affinity(cpus[:1])
        try:
            return self._roundtrip(budget, connections)
        finally:
            here.cpu_affinity(cpus)

    def _roundtrip(self, budget: float, connections: list[Connection]) -> list[float]:

        def run() -> None:
            for connection in connections:
                connection.send_bytes(MESSAGE)
            for connection in connections:
                connection.recv_bytes()

        return timed(run, budget)

    def throughput(self, budget: float, waiting: bool) -> list[float]:
        """Messages per second to two of them and back: a pair at a time, or many at once."""
        connections, window = self._opened(2), 1 if waiting else WINDOW

        def run(number: int) -> None:
            for _ in range(number // (2 * window)):
                for _ in range(window):
                    for connection in connections:
                        connection.send_bytes(MESSAGE)
                for _ in range(window):
                    for connection in connections:
                        connection.recv_bytes()

        return rate(run, budget, 2 * window)

    def close(self) -> None:
        """End the processes."""
        for connection in [*self._connections[False], *self._connections[True]]:
            connection.send_bytes(b"")
        for process in self._processes:
            process.join()
