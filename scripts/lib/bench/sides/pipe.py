"""`multiprocessing.Pipe`, as it is: a message of 16 bytes there, and one back."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

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
        self._connections: list[Connection] = []
        self._processes: list[multiprocessing.context.ForkProcess] = []

    def _opened(self, nodes: int) -> list[Connection]:
        while len(self._connections) < nodes:
            here, there = self._context.Pipe()
            process = self._context.Process(target=echo, args=(there,), daemon=True)
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)
        return self._connections[:nodes]

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """To all of them, then from all of them."""
        connections = self._opened(nodes)

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
        for connection in self._connections:
            connection.send_bytes(b"")
        for process in self._processes:
            process.join()
