"""Starting worker processes, and seeing them end.

    start_worker("procession.cluster.worker:main", argument, environment={...})
      |-- "forkserver"   a fork of a server that has NumPy loaded   (see `forkserver`)
      |-- "spawn"        a new interpreter                          (see `child`)

In the worker, `main(connection, argument)` is called. The user's `__main__` is imported by
neither, so scripts need no `if __name__ == "__main__"`.

Either way the worker's parent is a *keeper* (see `keeper`): the fork server, or a process of its
own. It sees how the worker ends, and then ends whatever the worker has started.

A worker's connection is its lifeline: the other end only the coordinator has. When the
coordinator dies, however that happens, the connection hangs up, and a thread of the worker,
which waits for that and nothing else, ends the worker. Its keeper's file hangs up as well, and the
keeper kills a worker that lets no thread run, or is stopped. When the keeper dies, the system
kills the worker.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import math
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from procession.cluster import forkserver, handover
from procession.cluster.keeper import GIVE_UP_AFTER
from procession.errors import did_you_mean

# macOS has system libraries that do not survive a fork, and may lose a file descriptor that
# is closed here before the fork server has received its copy.
_CAN_FORK = hasattr(os, "fork") and hasattr(socket, "send_fds") and sys.platform != "darwin"
METHODS = ("forkserver", "spawn") if _CAN_FORK else ("spawn",)
DEFAULT_METHOD = METHODS[0]

# What `WorkerProcess.exitcode` gives when nobody saw how the worker ended, because its
# keeper died before it. As in multiprocessing.
UNKNOWN_EXITCODE = 255

# Passes on to a started process: control, packed, connection.
_Start = Callable[[socket.socket, int, int], None]


class WorkerProcess:
    """A running worker, or one that has ended; from `start_worker`.

    `pid` is its process id and `connection` our end of its connection. `sentinel` is a
    file descriptor that becomes readable when the process has ended and has been reaped,
    and then stays so: wait for `[connection, sentinel]` together. If its keeper has died, it
    becomes readable too: nobody sees that worker end any more, so `exitcode` kills it.
    """

    def __init__(
        self,
        pid: int,
        connection: Connection,
        control: socket.socket,
        pidfd: int | None,
        files: contextlib.ExitStack,
    ) -> None:
        self.pid = pid
        self.connection = connection
        self.sentinel = control.fileno()
        self._control = control
        self._pidfd = pidfd
        self._files = files
        self._exitcode: int | None = None
        self._lost = False
        self._gone = False
        self._closed = False
        self._lock = threading.RLock()
        _open_workers.add(self)

    def __repr__(self) -> str:
        state = "running" if self._exitcode is None else f"exit code {self._exitcode}"
        return f"<WorkerProcess {self.pid}, {'closed' if self._closed else state}>"

    def exitcode(self) -> int | None:
        """How it ended, as in `subprocess`: negative for a signal. None while it runs.

        Never waits. UNKNOWN_EXITCODE if its keeper died first; the worker is killed
        then. After `close` it is what was known before.
        """
        with self._lock:
            if self._exitcode is None and not self._closed and wait([self._control], 0):
                # Left unread: the sentinel stays readable.
                self._exitcode = handover.read_exitcode(self._control)
                if self._exitcode is None:
                    self._kill()
                    self._lost = True
                    self._exitcode = UNKNOWN_EXITCODE
            return self._exitcode

    @property
    def lost(self) -> bool:
        """Whether nobody saw how it ended, as its keeper had died."""
        return self._lost

    def kill(self) -> None:
        """End it by SIGKILL. Nothing happens if it is gone, or closed."""
        with self._lock:
            if self.exitcode() is None and not self._closed:
                self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                # Never hits another process that was given the same pid later.
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it is gone; whether it is, after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._closed:
            wait([self._control], timeout)
        ended = self.exitcode() is not None
        if self._lost and self._pidfd is not None and not self._closed:
            # Killed, but nobody has told us that it is gone.
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return bool(wait([self._pidfd], left))
        return ended

    def gone(self, timeout: float | None = None) -> bool:
        """Wait until it is gone, and all processes that it started; whether they are in that time.

        When it ends they get SIGTERM, and SIGKILL after `keeper.GRACE`, whether anybody waits here
        or not. If its keeper has died, nobody knows of them; then this is about the worker alone.
        After `close` it is what was known before.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._closed and self.join(timeout) and not self._gone:
            hang_up = select.poll()
            try:
                # No event is asked for: a hang-up is told all the same.
                hang_up.register(self._control, 0)
            except ValueError:
                return self._gone  # another thread has closed it meanwhile
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._gone = bool(hang_up.poll(None if left is None else math.ceil(left * 1000)))
        return self._gone

    def close(self) -> None:
        """Close every file. A worker that still runs loses its connection, and ends."""
        with self._lock:
            self.gone(0)
            self._forget()
        _open_workers.discard(self)

    def close_too(self, file: io.IOBase) -> None:
        """Have another file closed together with its own, and in forked copies of this process."""
        with self._lock:
            self._files.callback(file.close)

    def _forget(self) -> None:
        self._closed = True
        self._files.close()


# Those not closed yet.
_open_workers: set[WorkerProcess] = set()


def resolve_method(method: str | None = None) -> str:
    """The start method of that name; the default one for None."""
    if method is None:
        return DEFAULT_METHOD
    if method == "fork":
        raise ValueError(
            "start method 'fork' would copy this process as it stands: locks that other "
            "threads hold would stay locked for ever, and the threads of the BLAS would be "
            f"missing. Use one of {', '.join(map(repr, METHODS))}"
        )
    if method == "forkserver" and not _CAN_FORK:
        raise ValueError("start method 'forkserver' is not for this system; use 'spawn'")
    if method not in METHODS:
        raise ValueError(
            f"unknown start method {method!r}; there are {', '.join(map(repr, METHODS))}."
            + did_you_mean(str(method), METHODS)
        )
    return method


def start_worker(
    target: str,
    argument: bytes,
    *,
    method: str | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: int = 1,
    stderr: int = 2,
    timeout: float = 60.0,
) -> WorkerProcess:
    """Start a process that calls the target, "module:function", with a connection and `argument`.

    The process sees `os.environ` with `environment` on top, the working directory, the
    CPU affinity, `sys.path` and `sys.argv` as they are now, and writes to what our files
    `stdout` and `stderr` are now; its 0 is empty. They stay ours to close.
    Returns when the process exists, before it has done anything.

    Raises:
        TimeoutError: That took more than `timeout` seconds.
        RuntimeError, OSError: There is no such process; the text says why.
    """
    method = resolve_method(method)
    deadline = time.monotonic() + timeout
    environ = {**os.environ, **(environment or {})}
    description = handover.describe(target, environ, stdout, stderr)
    with forkserver.starting, handover.standard_files():
        if method == "forkserver":
            return _start_forked(description, argument, stdout, stderr, deadline)
        description |= forkserver.about_us() | {"keeper": handover.keeper_code()}
        spawn = _Spawn(environ, stdout, stderr)
        try:
            return _start(description, argument, spawn, deadline)
        except TimeoutError:
            spawn.give_up()
            raise
        except _NoAnswerError:
            raise RuntimeError(
                "a new interpreter ended before it could become a worker; standard error may have "
                "its last words"
            ) from None


class _NoAnswerError(Exception):
    pass


def _start(
    description: Mapping[str, Any], argument: bytes, start: _Start, deadline: float
) -> WorkerProcess:
    """Make the files, have the process started, and be left with our half of the files."""
    with contextlib.ExitStack() as ours:
        with contextlib.ExitStack() as theirs:
            connection, their_connection = multiprocessing.Pipe()
            ours.enter_context(connection)
            theirs.enter_context(their_connection)
            control, their_control = socket.socketpair()
            ours.enter_context(control)
            theirs.enter_context(their_control)
            packed = handover.pack(description, argument)
            theirs.callback(os.close, packed)
            start(their_control, packed, their_connection.fileno())
        # Their half is closed here: without an answer the control is now at its end.
        if not wait([control], max(0.0, deadline - time.monotonic())):
            raise TimeoutError("a worker process takes too long to start")
        pid, pidfds = handover.receive_pid(control)
        for pidfd in pidfds:
            ours.callback(os.close, pidfd)
        if pid is None:
            raise _NoAnswerError
        if pid < 0:
            raise OSError(-pid, f"cannot fork a worker: {os.strerror(-pid)}")
        return WorkerProcess(
            pid, connection, control, pidfds[0] if pidfds else None, ours.pop_all()
        )


def _start_forked(
    description: Mapping[str, Any], argument: bytes, stdout: int, stderr: int, deadline: float
) -> WorkerProcess:
    for _ in range(2):
        server = forkserver.running_server()
        try:
            return _start(description, argument, partial(server.fork, stdout, stderr), deadline)
        except _NoAnswerError:
            if not server.ended(timeout=GIVE_UP_AFTER + 1):
                raise OSError("the fork server dropped a request; is it short of files?") from None
    raise RuntimeError(
        "the fork server ended before it could fork a worker, twice; standard error may have "
        "its last words. The start method 'spawn' does without it"
    )


class _Spawn:
    """Has a new interpreter start, which divides itself into the worker and its keeper."""

    def __init__(self, environ: Mapping[str, str], stdout: int, stderr: int) -> None:
        self._environ = environ
        self._stdout = stdout
        self._stderr = stderr
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, control: socket.socket, packed: int, connection: int) -> None:
        command = handover.command_to_divide(
            "procession.cluster.child.spawned",
            packed,
            connection,
            control.fileno(),
            "procession.cluster.forkserver.clean_up",
        )
        with handover.interrupts_held():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._stdout,
                stderr=self._stderr,
                pass_fds=(packed, connection, control.fileno()),
                # Who kills our process group leaves somebody to clean up.
                start_new_session=True,
                env=self._environ,
            )
        self._process = process
        # It ends when the worker has ended, and all that the worker has started.
        threading.Thread(
            target=process.wait, name=f"procession-wait-{process.pid}", daemon=True
        ).start()

    def give_up(self) -> None:
        """End an interpreter that does not come to the point where it would do so by itself."""
        if self._process is not None:
            self._process.kill()


@atexit.register
def _end_workers() -> None:
    """Those that nobody closed. Runs before the fork server is shut down."""
    workers = list(_open_workers)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.gone(timeout=5)
        worker.close()


def _forget_workers() -> None:
    """In a forked copy of the coordinator: a second holder would keep the connections whole."""
    for worker in list(_open_workers):
        worker._lock = threading.RLock()  # a thread that is not here may hold it
        worker._forget()
    _open_workers.clear()


os.register_at_fork(after_in_child=_forget_workers)
