"""The messages between the coordinator and a worker, and the board they share.

The coordinator asks, the worker answers, one question at a time:

    Run         -> Ran            run a program; ship it along if it is new
    Fetch       -> Value          a blob's value
    Reserve     -> Reserved       memory to write a blob's next value into
    Commit      -> Done           it is written
    Feed        -> Done           a small value, or an object
    Remove      -> Done
    Stop                          and the worker ends

All but Run and Stop may be answered by Failed. In the middle of a question the worker may
itself ask, once or several times, for NeedSegment, which is answered by Granted or Failed.
A worker begins with Ready.

Every question carries `ended`: the leases whose arrays have become garbage since the last.

The board is a page of shared memory per node, of 8-byte words, each with one writer:

    word 0                 coordinator   the number of the run to be called off
    word 1                 worker        the number of the run it is in, or was in last
    word FIRST_TASK + t    worker        the operation that task t is in, 0 for none

The worker reads word 0 before each operation. The coordinator reads the others only when the
worker is dead. A word is written in one store, so a death leaves the old one or the new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from procession.cluster.serial import Report
from procession.runtime.workspace import Workspace

BOARD_SIZE = 4096
CANCEL = 0
RUN = 1
FIRST_TASK = 8
TASKS = BOARD_SIZE // 8 - FIRST_TASK


def task_word(task: int) -> int:
    """The word of a task. Beyond the board's end tasks share words: better than none."""
    return FIRST_TASK + task % TASKS


# Values.


@dataclass(frozen=True)
class Located:
    """A tensor in shared memory, leased."""

    segment: str
    offset: int
    shape: tuple[int, ...]
    dtype: Any
    lease: int


@dataclass(frozen=True)
class Inline:
    """A small tensor."""

    data: bytes
    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True)
class Pickled:
    """An object."""

    data: bytes


Payload = Located | Inline | Pickled


# What the worker is started with.


@dataclass(frozen=True)
class Start:
    """What a worker is told on its command line, so to speak."""

    node: str
    board: str
    threads: int | None
    """The cap on BLAS threads; None leaves them alone."""
    workspace: type[Workspace]
    """Of what kind its workspace is."""


# From the coordinator.


@dataclass(frozen=True)
class Run:
    """Run a program."""

    run: int
    plan: int
    program: bytes | None
    """The plan's program by cloudpickle, the first time."""
    forgotten: tuple[int, ...]
    """Plans that will not be run again."""
    threads: int | None
    """The cap on BLAS threads from here on; None leaves them alone."""
    ended: tuple[int, ...]


@dataclass(frozen=True)
class Fetch:
    """Lease and describe a blob's value."""

    name: str
    ended: tuple[int, ...]


@dataclass(frozen=True)
class Reserve:
    """Find memory for a blob's next value, to be written by the coordinator."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    ended: tuple[int, ...]


@dataclass(frozen=True)
class Commit:
    """Only after Reserved, and the next question after it; any other gives the memory back."""

    ended: tuple[int, ...]


@dataclass(frozen=True)
class Feed:
    """Give a blob a value that travels in the message."""

    name: str
    value: Payload
    ended: tuple[int, ...]


@dataclass(frozen=True)
class Remove:
    """Remove a blob."""

    name: str
    ended: tuple[int, ...]


@dataclass(frozen=True)
class Stop:
    """End."""

    ended: tuple[int, ...]


@dataclass(frozen=True)
class Granted:
    """A segment to map."""

    name: str
    size: int


# From the worker.


@dataclass(frozen=True)
class Ready:
    """The worker listens."""

    pid: int


@dataclass(frozen=True)
class Ran:
    """How a run went."""

    run: int
    outputs: tuple[Payload, ...]
    """In the order of the program's `outputs`."""
    failure: Report | None
    cancelled: bool
    loaded: bool
    """Whether the worker has the plan and can run it again by its number."""
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A blob's value."""

    value: Payload


@dataclass(frozen=True)
class Reserved:
    """Where to write."""

    segment: str
    offset: int


@dataclass(frozen=True)
class Done:
    """It is done. What appeared and vanished are blobs of the global workspace."""

    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """It could not be done."""

    report: Report


@dataclass(frozen=True)
class NeedSegment:
    """The worker has no memory left; what it hands back can be unlinked."""

    least: int
    preferred: int
    returned: tuple[str, ...]
