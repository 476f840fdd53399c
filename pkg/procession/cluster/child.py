"""A worker process from its birth to the first line of its own code, and its end.

- `spawned` is called in a new interpreter, which has the right environment, working
  directory and standard files already, and has left its keeper behind (see `keeper.spawn`);
- `forked` is called in a copy of the fork server, where all of that has to be put right.

From there on they are the same: the target is called, and the process ends with it.

`__main__` in a worker is one line (see `handover.command`); the user's is never imported.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
import os
import random
import select
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from procession.cluster import blas, handover

# Long lines of output still leave in one write, as far as the file takes them.
_OUTPUT_BUFFER = 1 << 16


def spawned(connection: int, description: Mapping[str, Any], argument: bytes) -> NoReturn:
    """Be a worker, in a new interpreter."""
    os.set_inheritable(connection, False)
    _run(connection, description, argument)


def forked(packed: int, connection: int, stdout: int, stderr: int) -> NoReturn:
    """Be a worker, in a fresh copy of the fork server."""
    try:
        for fd, standard in ((stdout, 1), (stderr, 2)):
            os.dup2(fd, standard)
            os.close(fd)
        description, argument = handover.unpack(packed)
        _set_environment(description["environ"])
        if description["directory"] is not None:
            os.chdir(description["directory"])
        if description["affinity"] is not None:
            os.sched_setaffinity(0, description["affinity"])
        sys.path[:] = description["path"]
        # What the server's importer knows may be old, or be of another directory.
        sys.path_importer_cache.clear()
        _reseed()
        # As many as NumPy's BLAS would have, had it been loaded in this environment.
        cores = blas.cores()
        blas.limit_threads(min(blas.user_threads(os.environ) or cores, cores))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    _run(connection, description, argument)


def _set_environment(environ: Mapping[str, str]) -> None:
    # What is right already is left alone: every string that is freed or made anew is in memory
    # that is no longer shared with the server.
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _run(connection_fd: int, description: Mapping[str, Any], argument: bytes) -> NoReturn:
    # Ctrl-C goes to every process of the terminal; the coordinator says what it means for
    # us. A handler that does nothing, because SIG_IGN would be inherited by exec.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    code: object = 1
    # Held until the end of the process: what is garbage is closed, and that looks like a hang-up.
    connection = Connection(connection_fd)
    try:
        threading.Thread(
            target=_die_with, args=(connection_fd,), name="procession-lifeline", daemon=True
        ).start()
        sys.argv[:] = description["argv"]
        multiprocessing.current_process().authkey = description["authkey"]
        sys.stdout = sys.__stdout__ = _output(1, description["stdout"])  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _output(2, description["stderr"])  # type: ignore[misc]
        module, function = description["target"]
        getattr(importlib.import_module(module), function)(connection, argument)
        code = None
    except SystemExit as leave:
        code = leave.code
    except BaseException:
        traceback.print_exc()
    finally:
        _exit(code)


def _die_with(connection: int) -> None:
    """Waits for the end of the coordinator, which holds the other end of the connection."""
    hang_up = select.poll()
    # No event is asked for. A hang-up is told all the same, and messages wake nobody here.
    hang_up.register(connection, 0)
    hang_up.poll()
    os._exit(1)


def _exit(code: object) -> NoReturn:
    """As the interpreter would for SystemExit(code), but at once."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        # Closed, or nobody reads: there is nobody left to tell.
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def _reseed() -> None:
    """Siblings are copies of one server; their random numbers must not be."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _output(fd: int, text_format: tuple[str, str]) -> io.TextIOWrapper:
    encoding, errors = text_format
    stream = open(  # noqa: SIM115 - open for as long as the process lives
        fd, "w", buffering=_OUTPUT_BUFFER, encoding=encoding, errors=errors, closefd=False
    )
    stream.reconfigure(line_buffering=True)
    return stream
