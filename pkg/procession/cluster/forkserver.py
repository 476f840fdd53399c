"""The fork server: a process that has imported everything, and forks a worker on request.

A new interpreter takes 150 ms and more to import NumPy; a fork of one that has done so
takes a few. One server belongs to one coordinator. It is started when first needed, is
used by all sessions, and never imports the user's `__main__`.

Who sends what
--------------

The coordinator holds one end of a socket pair, the server the other: `requests`. For each
worker there is another pair, `control`: the coordinator keeps one end and passes the other.

    coordinator -> server   on requests: one byte, and with it five file descriptors:
                            control, packed (see `handover.pack`), the worker's end of its
                            connection, stdout, stderr
    server -> coordinator   on control: the worker's pid, and with it a pidfd where there
                            are any; or minus an errno when the worker could not be forked
    server -> coordinator   on control: the worker's exit code, when it has been reaped;
                            then the server closes it

Numbers are eight bytes. A request is one byte so that it is sent entirely or not at all,
whatever interrupts the coordinator; the server reads nothing else, so it never waits for
anybody.

Who holds which file
--------------------

    coordinator   requests; of each worker: control, pidfd, and its end of the connection, of
                  which there is no other copy (forked copies of the coordinator close theirs)
    server        requests; of each worker: control
    worker        its end of the connection, 0, 1, 2

Who dies
--------

    a worker         The server reaps it, and sends the code. The pid is free by then.
    the coordinator  Each connection hangs up, and a thread of each worker ends it.
                     `requests` reaches its end as well: the server kills all workers (one
                     may sit in C code that lets no thread run), reaps them, unlinks the
                     coordinator's segments if its resource tracker does not, and ends.
                     It is in a session of its own, so that it is not killed with the
                     coordinator's process group.
                     A request half made is dropped: its control is at its end, see next.
    control closes   The coordinator has given this worker up: the server kills it.
    the server       Its ends of all controls are closed: the coordinator reads an end
                     without an exit code, kills that worker, and calls its code unknown.
                     A request that got no answer is made once more, to a new server and
                     with new files: the first may have forked before it died.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from procession.blobs import segment
from procession.cluster import blas, child, handover

CLEAN_UP_AFTER = 2.0
"""Seconds that a dead coordinator's resource tracker has to unlink what the coordinator left."""
PRELOAD = ("numpy", "numpy.ma", "numpy.random", "cloudpickle", "procession.cluster.worker")

# Held while a worker or a server is being started, and while the coordinator forks, so
# that a forked copy knows of every file that it has to close.
starting = threading.RLock()


# ---- in the coordinator


class Server:
    """The coordinator's end of one fork server."""

    def __init__(self) -> None:
        description = handover.describe(f"{__name__}:serve", {}) | {"coordinator": os.getpid()}
        with contextlib.ExitStack() as theirs, handover.standard_files():
            packed = handover.pack(description, "\n".join(PRELOAD).encode())
            theirs.callback(os.close, packed)
            self._requests, requests = socket.socketpair()
            theirs.enter_context(requests)
            command = handover.command(f"{__name__}.serve", packed, requests.fileno())
            try:
                with handover.interrupts_held():
                    self._process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=2,
                        pass_fds=(packed, requests.fileno()),
                        # Who kills our process group leaves somebody to clean up.
                        start_new_session=True,
                        # A BLAS that has threads cannot be forked safely.
                        env={**os.environ, **blas.thread_environment(1)},
                    )
            except BaseException:
                self._requests.close()
                raise

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def fork(
        self, stdout: int, stderr: int, control: socket.socket, packed: int, connection: int
    ) -> None:
        """Ask for a worker that writes to these two; the answer comes by the control."""
        # If the server is gone, the lack of an answer says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(
                self._requests,
                [b"+"],
                [control.fileno(), packed, connection, stdout, stderr],
                handover.NO_SIGNAL,
            )

    def ended(self, timeout: float = 0) -> bool:
        """Whether the process is gone, or is within so many seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """End the server, and with it all of its workers."""
        self._requests.close()
        if not self.ended(timeout=5):
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """Let go of a server that belongs to the process which we were forked from."""
        self._requests.close()
        self._process.returncode = 0  # not ours to wait for


_server: Server | None = None


def running_server() -> Server:
    """The server of this process; started if there is none, or none any more."""
    global _server
    with starting:
        if _server is not None and _server.ended():
            _server.close()
            _server = None
        if _server is None:
            _server = Server()
        return _server


@atexit.register
def shut_down() -> None:
    """End the server of this process, if it has one, with all workers of it."""
    global _server
    with starting:
        server, _server = _server, None
        if server is not None:
            server.close()


def _forget_server() -> None:
    global _server
    if _server is not None:
        _server.forget()
        _server = None
    starting.release()


os.register_at_fork(
    before=starting.acquire, after_in_parent=starting.release, after_in_child=_forget_server
)


# ---- in the server


def serve(requests_fd: int, description: Mapping[str, Any], preload: bytes) -> NoReturn:
    """Be the fork server. `description` has done its work: sys.path is set."""
    wakeup, wakeup_write = os.pipe()
    for fd in (wakeup, wakeup_write):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, signal.SIGINT})
    os.set_inheritable(requests_fd, False)
    # No collection here, and none that touches our objects in the workers: the pages that
    # they lie in stay shared.
    gc.disable()
    for module in preload.decode().splitlines():
        # The worker imports it again, and tells whoever asked for it what is wrong.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    blas.blas_threads()  # looks up the library, once for all workers
    # Each worker has to forget what was in these directories. It is cheaper done once.
    sys.path_importer_cache.clear()
    gc.freeze()
    workers = _Workers(requests_fd, wakeup, wakeup_write)
    try:
        while workers.serve_some():
            pass
    finally:
        workers.kill_all()
        _clean_up_after(description["coordinator"])
    os._exit(0)


def _clean_up_after(coordinator: int) -> None:
    """Unlink the segments that a coordinator left which is dead, and its resource tracker, too."""
    deadline = time.monotonic() + CLEAN_UP_AFTER
    # A coordinator that lives unlinks its own, and so does a tracker that does.
    while segment.left_by(coordinator) and os.getppid() == coordinator:
        if time.monotonic() > deadline:
            return
        select.select([], [], [], 0.05)
    while segment.left_by(coordinator) and time.monotonic() < deadline:
        select.select([], [], [], 0.05)
    segment.unlink_left_by(coordinator)


class _Workers:
    """The server's children, by pid, and the files of the server."""

    def __init__(self, requests: int, wakeup: int, wakeup_write: int) -> None:
        self._controls: dict[int, socket.socket] = {}
        self._requests = socket.socket(fileno=requests)
        self._wakeup = wakeup
        self._files = (wakeup, wakeup_write)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._requests, selectors.EVENT_READ)
        self._selector.register(wakeup, selectors.EVENT_READ)

    def serve_some(self) -> bool:
        """Wait until something happens, and see to it. False when the coordinator is gone."""
        for key, _ in self._selector.select():
            if key.fileobj is self._requests:
                if not self._serve_request():
                    return False
            elif key.fileobj == self._wakeup:
                # A signal each; what they announce may be fewer or more than that.
                os.read(self._wakeup, 4096)
                self._reap()
            elif key.data in self._controls:
                # The coordinator sends nothing: this is the end. It wants that worker gone.
                self._selector.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)
        return True

    def _serve_request(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._requests, 1, 5, handover.CLOSE_ON_EXEC)
        for fd in fds:
            os.set_inheritable(fd, False)
        if fds:
            control = socket.socket(fileno=fds[0])
            if len(fds) == 5:
                self._fork(control, fds[1:])
            else:
                # The rest went over our limit of open files.
                handover.send_number(control, -errno.EMFILE)
                control.close()
            for fd in fds[1:]:
                os.close(fd)
        return bool(data)

    def _fork(self, control: socket.socket, fds: Sequence[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            handover.send_number(control, -(error.errno or errno.EAGAIN))
            control.close()
            return
        if pid == 0:
            self._leave(control)
            child.forked(*fds)
        self._controls[pid] = control
        self._selector.register(control, selectors.EVENT_READ, pid)
        handover.send_pid(control, pid)

    def _leave(self, control: socket.socket) -> None:
        """In a new worker: close all that is the server's, and be no server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for server_socket in (self._requests, control, *self._controls.values()):
            server_socket.close()
        for fd in self._files:
            os.close(fd)
        gc.enable()

    def _reap(self, options: int = os.WNOHANG) -> None:
        while self._controls:
            pid, status = os.waitpid(-1, options)
            if pid == 0:
                return
            # None: a process that a preloaded module started.
            control = self._controls.pop(pid, None)
            if control is not None:
                if control in self._selector.get_map():
                    self._selector.unregister(control)
                handover.send_number(control, os.waitstatus_to_exitcode(status))
                control.close()

    def kill_all(self) -> None:
        """Kill every worker, and wait until they are gone."""
        for pid in self._controls:
            os.kill(pid, signal.SIGKILL)
        self._reap(options=0)
