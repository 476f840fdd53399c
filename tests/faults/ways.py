"""Ways for a worker to end, and what ends it at a certain moment.

Workers import this, so it stands on the standard library and the package alone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from procession.cluster import inside


def kill() -> None:
    """As the kernel does when the machine is out of memory, or somebody with `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    """Native code that reads where nothing is."""
    ctypes.string_at(0)


def abort() -> None:
    """Native code that finds itself in a state that cannot be."""
    os.abort()


def leave() -> None:
    """What calls `_exit` in the middle of things."""
    os._exit(3)


def run_out_of_memory() -> None:
    """Native code that gets no memory and gives up, as C++ does for an uncaught bad_alloc.

    The kernel's own way, SIGKILL, is `kill`: to have the kernel do it, the machine would have to
    run out of memory.
    """
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    malloc = ctypes.CDLL(None).malloc
    malloc.argtypes, malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    if malloc(limit) is None:
        os.abort()
    raise AssertionError("there was memory")


def overflow_the_stack() -> None:
    """Native code that calls itself until the stack is full: glibc's parser of expressions."""
    deep = 200_000
    pattern = ctypes.create_string_buffer(4096)
    ctypes.CDLL(None).regcomp(pattern, b"(" * deep + b"x" + b")" * deep, 1)
    raise AssertionError("there was stack")


def exit_by_exception() -> None:
    """What leaves by the exception that scripts leave by."""
    sys.exit(4)


WAYS: dict[str, tuple[Callable[[], None], int]] = {
    "SIGKILL": (kill, -signal.SIGKILL),
    "SIGSEGV": (segfault, -signal.SIGSEGV),
    "SIGABRT": (abort, -signal.SIGABRT),
    "_exit": (leave, 3),
    "out of memory": (run_out_of_memory, -signal.SIGABRT),
    "stack overflow": (overflow_the_stack, -signal.SIGSEGV),
    "sys.exit": (exit_by_exception, 4),
}
"""By name: what to call in a worker, and its exit code then, as in `subprocess`."""
FROM_OUTSIDE = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM")
"""Signals that somebody may send to a worker."""


def die(way: str) -> None:
    """End this worker."""
    assert inside._node is not None, "this is no worker"
    print("last words", flush=True)
    WAYS[way][0]()


class OnArrival:
    """Ends the worker in which it is unpickled."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __getstate__(self) -> dict[str, Any]:
        return {"way": self.way}

    def __setstate__(self, state: dict[str, Any]) -> None:
        die(state["way"])

    def __call__(self, inputs: Any, outputs: Any) -> None:
        """An operator that is never called, since it does not arrive."""


class OnLeaving:
    """Ends the worker in which it is pickled."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __deepcopy__(self, memo: Any) -> OnLeaving:
        return self

    def __reduce__(self) -> Any:
        die(self.way)
        raise AssertionError


class OnDropping:
    """Ends the worker when it becomes garbage."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __deepcopy__(self, memo: Any) -> OnDropping:
        return self

    def __del__(self) -> None:
        die(self.way)
