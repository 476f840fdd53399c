"""MPI: ranks of which the others answer the first. They always spin while they wait."""

from __future__ import annotations

import time

import numpy as np
from mpi4py import MPI

from bench.sides.timing import array_of, per_turn, timed

STOP, ECHO, TAKE, GIVE, BARRIER, ALLREDUCE = range(6)
PAUSE = 0.005
"""Seconds between two looks when nothing is measured: a rank that waits would take a core."""


class Side:
    """The rank that measures; the others stay in here until they are told to stop."""

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD
        if self._comm.Get_size() < 2:
            raise RuntimeError("this side is started by `mpiexec -n 2`, or with more of them")
        if self._comm.Get_rank() > 0:
            answer(self._comm)
            raise SystemExit

    def roundtrip(self, budget: float, nodes: int) -> list[float]:
        """A message of 16 bytes there, and one back."""
        message = np.zeros(16, np.uint8)
        return self._measured(ECHO, message, message, budget)

    def feed(self, budget: float, size: int) -> list[float]:
        """An array there, and a short message back."""
        return self._measured(TAKE, array_of(size), np.zeros(16, np.uint8), budget)

    def fetch(self, budget: float, size: int) -> list[float]:
        """A short message there, and an array back."""
        return self._measured(GIVE, np.zeros(16, np.uint8), array_of(size), budget)

    def barrier(self, budget: float) -> list[float]:
        """`Barrier`."""
        return self._together(BARRIER, 4, budget)

    def allreduce(self, budget: float, size: int) -> list[float]:
        """`Allreduce` in place."""
        return self._together(ALLREDUCE, size, budget)

    def _together(self, kind: int, size: int, budget: float) -> list[float]:
        def measured(number: int) -> float:
            self._tell(kind, size, number)
            return turns(self._comm, kind, size, number)

        return per_turn(measured, budget)

    def _tell(self, *order: int) -> None:
        for rank in range(1, self._comm.Get_size()):
            self._comm.send(order, dest=rank)

    def _measured(
        self, kind: int, there: np.ndarray, back: np.ndarray, budget: float
    ) -> list[float]:
        comm = self._comm
        comm.send((kind, there.nbytes, back.nbytes), dest=1)

        def run() -> None:
            comm.Send(there, dest=1, tag=1)
            comm.Recv(back, source=1)

        seconds = timed(run, budget)
        comm.Send(there, dest=1, tag=2)
        return seconds

    def close(self) -> None:
        """Stop the other ranks."""
        self._tell(STOP, 0, 0)


def turns(comm: MPI.Comm, kind: int, size: int, number: int) -> float:
    """Make a call so many times, together with the other ranks; seconds for all."""
    array = np.zeros(size // 4, np.float32)

    def call() -> None:
        if kind == BARRIER:
            comm.Barrier()
        else:
            comm.Allreduce(MPI.IN_PLACE, array)

    call()
    comm.Barrier()
    begin = time.perf_counter()
    for _ in range(number):
        call()
    return time.perf_counter() - begin


def answer(comm: MPI.Comm) -> None:
    """Be a rank that answers."""
    status = MPI.Status()
    while True:
        while not comm.iprobe(source=0):
            time.sleep(PAUSE)
        kind, there, back = comm.recv(source=0)
        if kind == STOP:
            return
        if kind in (BARRIER, ALLREDUCE):
            turns(comm, kind, there, back)
            continue
        incoming, outgoing = np.zeros(there, np.uint8), np.ones(back, np.uint8)
        while True:
            comm.Recv(incoming, source=0, status=status)
            if status.Get_tag() == 2:
                break
            comm.Send(outgoing, dest=0)
