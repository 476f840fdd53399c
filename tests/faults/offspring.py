"""Workers with children of all kinds: the targets of test_children.py, and what operators start."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import get_context, shared_memory
from multiprocessing.connection import Connection
from typing import NoReturn

KINDS = ("fork", "subprocess", "shell", "daemon", "deaf", "stopped", "tree", "pool")


def start(kind: str) -> list[int]:
    """Start children of that kind; the pids of all processes that have come about."""
    if kind == "subprocess":
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        _kept.append(child)
        return [child.pid]
    if kind == "shell":
        shell = subprocess.Popen(
            ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True
        )
        _kept.append(shell)
        assert shell.stdout is not None
        return [shell.pid, int(shell.stdout.readline())]
    if kind == "pool":
        return _pool()
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        _be(kind, write)
    os.close(write)
    with open(read) as pids:
        # To the end, which comes when all of them have closed it.
        return [int(line) for line in pids]


_kept: list[object] = []


def _be(kind: str, write: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if kind == "daemon":
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
    if kind in ("deaf", "tree"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind == "tree":
        for _ in range(2):
            _tell(write)
            if os.fork() > 0:
                os.close(write)
                _wait()
    _tell(write)
    os.close(write)
    if kind == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    _wait()


def _tell(write: int) -> None:
    os.write(write, b"%d\n" % os.getpid())


def _wait() -> NoReturn:
    while True:
        signal.pause()


def _pool() -> list[int]:
    """A process of multiprocessing's, and its resource tracker."""
    from multiprocessing import resource_tracker

    child = get_context("fork").Process(target=_wait, daemon=True)
    child.start()
    memory = shared_memory.SharedMemory(create=True, size=100)
    _kept.extend((child, memory))
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    assert child.pid is not None
    return [child.pid, tracker]


def segment() -> str:
    """The name of the segment that the pool has made."""
    (memory,) = (each for each in _kept if isinstance(each, shared_memory.SharedMemory))
    return memory.name


# ---- targets


def family(connection: Connection, argument: bytes) -> None:
    """Start children of the kinds that `argument` names; then do as is told."""
    connection.send({kind: start(kind) for kind in json.loads(argument)})
    # Who is given up may be told by the end of the connection first.
    with contextlib.suppress(EOFError):
        if connection.recv() == "exit":
            os._exit(3)


def pool(connection: Connection, argument: bytes) -> None:
    """With a segment of shared memory of its own, which somebody else has to unlink."""
    connection.send((start("pool"), segment()))
    connection.recv()


def wait_for_anybody(connection: Connection, argument: bytes) -> None:
    """Who uses os.wait() gets what he has started, and nobody else."""
    read, write = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(read)
        if os.fork() == 0:
            # Ends when the worker lets it, as a child of whoever takes orphans.
            os.write(write, b"%d\n" % os.getpid())
            os.read(connection.fileno(), 1)
            os._exit(0)
        os._exit(5)
    os.close(write)
    with open(read) as file:
        connection.send(int(file.readline()))
        file.read()
    assert os.wait() == (first, 5 << 8)
    try:
        os.wait()
    except ChildProcessError:
        connection.send("nobody else")
    threading.Event().wait()


def signal_the_group(connection: Connection, argument: bytes) -> None:
    """As a shell script does at its end."""
    connection.recv()
    subprocess.run(["sh", "-c", "kill 0"])
    threading.Event().wait()


def busy(connection: Connection, argument: bytes) -> None:
    """In native code that lets no thread run, or stopped."""
    connection.send("ready")
    ways: dict[bytes, Callable[[], object]] = {
        b"loop": lambda: all(iter(int, 1)),
        b"native": lambda: ctypes.PyDLL(None).sleep(1000),
        b"stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    }
    ways[argument]()
    sys.exit(4)
