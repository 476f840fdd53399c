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
                            the server closes it when all that the worker started is gone, too

Numbers are eight bytes. A request is one byte so that it is sent entirely or not at all,
whatever interrupts the coordinator; the server reads nothing else, so it never waits for
anybody. What goes over a control is the same for workers that are spawned (see `keeper`).

Who holds which file
--------------------

    coordinator   requests; of each worker: control, pidfd, and its end of the connection, of
                  which there is no other copy (forked copies of the coordinator close theirs)
    server        requests; of each worker: control
    worker        its end of the connection, 0, 1, 2

Who dies
--------

    a worker         The server reaps it, and sends the code. The pid is free by then. It then ends
                     what the worker has started: by SIGTERM, and by SIGKILL `keeper.GRACE` later.
    the coordinator  Each connection hangs up, and a thread of each worker ends it.
                     `requests` reaches its end as well: the server kills all workers (one may sit
                     in C code that lets no thread run, or be stopped), reaps them, ends what they
                     have started, unlinks the coordinator's segments if its resource tracker does
                     not, and ends.
                     It is in a session of its own, so that it is not killed with the
                     coordinator's process group.
                     A request half made is dropped: its control is at its end, see next.
    control closes   The coordinator has given this worker up: the server kills it, and ends what it
                     has started.
    the server       The system kills its workers, whatever they are doing. Its ends of all controls
                     are closed: the coordinator reads an end without an exit code, and calls the
                     code unknown. What those workers have started is nobody's then, and stays. But
                     SIGTERM and SIGHUP do not kill the server: it does as if the coordinator had
                     died, and ends.
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
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from procession.blobs import owner
from procession.cluster import blas, child, handover
from procession.cluster.keeper import NO_SIGNAL, Keeper, send_number

ENDING = 2.0
"""Seconds that a coordinator has to end which has hung up."""
TRACKER_FIRST = 0.3
"""Seconds that a dead coordinator's resource tracker has to unlink what the coordinator left."""
PRELOAD = ("numpy", "numpy.ma", "numpy.random", "cloudpickle", "procession.cluster.worker")

# Held while a worker or a server is being started, and while the coordinator forks, so
# that a forked copy knows of every file that it has to close.
starting = threading.RLock()


# ---- in the coordinator


def about_us() -> dict[str, Any]:
    """What a keeper has to know of this process, to clean up after it."""
    return {"coordinator": os.getpid(), "owner": owner.prefix()}


class Server:
    """The coordinator's end of one fork server."""

    def __init__(self) -> None:
        description = handover.describe(f"{__name__}:serve", {}) | about_us()
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
                NO_SIGNAL,
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
    keeper = Keeper()
    requests = socket.socket(fileno=requests_fd)
    keeper.watch(requests_fd)
    gc.freeze()
    try:
        while not keeper.stopped:
            if keeper.wait() and not _serve_request(requests, keeper):
                break
    finally:
        requests.close()
        keeper.end_all()
        # Who was asked to end leaves a living coordinator its segments.
        if not keeper.stopped or os.getppid() != description["coordinator"]:
            clean_up(requests_fd, description, preload)
    os._exit(0)


def _serve_request(requests: socket.socket, keeper: Keeper) -> bool:
    """Fork a worker; False when the coordinator is gone."""
    data, fds, _, _ = socket.recv_fds(requests, 1, 5, handover.CLOSE_ON_EXEC)
    for fd in fds:
        os.set_inheritable(fd, False)
    if fds:
        control = socket.socket(fileno=fds[0])
        if len(fds) < 5:
            # The rest went over our limit of open files.
            send_number(control, -errno.EMFILE)
            control.close()
        elif keeper.fork(control) == 0:
            requests.close()
            gc.enable()
            child.forked(*fds[1:])
        for fd in fds[1:]:
            os.close(fd)
    return bool(data)


def clean_up(fd: int, description: Mapping[str, Any], argument: bytes) -> None:
    """A keeper's last deed for a coordinator that died."""
    _clean_up_after(description["coordinator"], description["owner"])


def _clean_up_after(coordinator: int, prefix: str) -> None:
    """Unlink the segments that a coordinator left which is dead, and its resource tracker, too."""
    # A coordinator that lives unlinks its own, and so does a tracker that does.
    deadline = time.monotonic() + ENDING
    while owner.left_by(prefix) and os.getppid() == coordinator:
        if time.monotonic() > deadline:
            return
        select.select([], [], [], 0.02)
    deadline = time.monotonic() + TRACKER_FIRST
    while owner.left_by(prefix) and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    owner.sweep(prefix)
