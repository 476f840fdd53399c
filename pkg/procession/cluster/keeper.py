"""The parent of workers: reaps them, tells how they ended, and ends what they leave behind.

There are two kinds. The fork server (see `forkserver`) keeps all workers that it forks. A
spawned worker has a keeper of its own: the new interpreter, which forks once, before it has
imported anything, and whose copy becomes the worker (see `spawn`). For that the text of this file
is run by itself, so it imports nothing but the standard library.

Who is ended with a worker
--------------------------

A keeper is a *child subreaper*: whoever loses his parent, somewhere below it, becomes its own
child, also those who have left their session to live in the background. So its children are
workers and orphans. To tell whose orphans they are, each worker bears a mark, which goes down to
whatever it starts: the soft limit of a resource that Linux does not limit (`RLIMIT_LOCKS`).
A keeper leaves the orphans of a living worker alone, and reaps them when they end; the worker
itself never sees a child that it has not started. When a worker ends, however that happens,

    at once          its exit code is sent, then its orphans get SIGTERM, so that those which have
                     something to clean up do so (a resource tracker of `multiprocessing`, say)
    within `GRACE`   they are gone, or get SIGKILL, and so do their own children, which become
                     orphans at that moment, and so on
    then             the worker's control is closed

What has no mark of ours, because a keeper in between was killed, is ended when no worker is left.

A worker has a process group of its own, so that one who signals his whole group, as scripts for
shells do, hits no others. Where there are no subreapers (macOS), that group is killed.

The other way round, a worker gets SIGKILL from the system when its keeper dies, whatever it is
doing; its orphans are nobody's then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

GRACE = 0.25
"""Seconds that orphans have from SIGTERM to SIGKILL."""
GIVE_UP_AFTER = 5.0
"""Seconds in which a keeper that ends waits for what SIGKILL does not seem to reach."""
# How often somebody who was sent SIGKILL, or whose parent was, is looked for again.
_AGAIN = 0.02
# What a resource tracker needs to see that its process has died, and to unlink what that left.
_TRACKED_WITHIN = 0.5

NUMBER = struct.Struct("=q")
# A coordinator may have given SIGPIPE back its default, which is death.
NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# The module `resource` has no name for it.
_RLIMIT_LOCKS = 10
_LIMIT_OF_LOCKS = "Max file locks"


def _find_prctl() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    try:
        function: Callable[..., int] = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return function


_libc_prctl = _find_prctl()


def _prctl(option: int, value: int) -> bool:
    words = map(ctypes.c_ulong, (value, 0, 0, 0))
    return _libc_prctl is not None and _libc_prctl(option, *words) == 0


def adopt_orphans() -> bool:
    """Become the parent of all orphans below this process; whether that is possible here."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent dies, which had that pid.

    The parent's thread that forked counts, so it must be one that lives as long.
    """
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) and os.getppid() != parent:
        os._exit(1)  # it died before


def bear(mark: int) -> None:
    """Bear the mark of a worker, in this process and in all that it starts."""
    if sys.platform == "linux":
        # Where that is refused its orphans live until the last worker has ended.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(_RLIMIT_LOCKS, (mark, resource.getrlimit(_RLIMIT_LOCKS)[1]))


def mark_of(pid: int) -> int | None:
    """The mark that a process bears, or None."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/limits") as limits:
        for line in limits:
            if line.startswith(_LIMIT_OF_LOCKS):
                return int(line[len(_LIMIT_OF_LOCKS) :].split()[0])
    return None


def children() -> set[int]:
    """The children of this process, which has no other thread; also those that have ended."""
    me = os.getpid()
    with contextlib.suppress(OSError), open(f"/proc/self/task/{me}/children") as file:
        return set(map(int, file.read().split()))
    # A kernel without that list.
    found = set()
    with contextlib.suppress(OSError):
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # The name of the program, in parentheses, may have any character.
                if int(stat.read().rpartition(b")")[2].split()[1]) == me:
                    found.add(int(name))
    return found


class _Worker:
    """A child of a keeper's; also after its end, until its orphans are gone."""

    def __init__(self, pid: int, mark: int, control: socket.socket) -> None:
        self.pid = pid
        self.mark = mark
        self.control = control
        self.deadline = 0.0
        """Until when its orphans have time."""


class Keeper:
    """The workers of this process, which has one thread and does nothing else."""

    def __init__(self) -> None:
        self.stopped = False
        """Whether somebody has asked this process to end."""
        self._workers: dict[int, _Worker] = {}
        self._ended: list[_Worker] = []
        self._count = 0
        self._adopts = adopt_orphans()
        self._wakeup, self._wakeup_write = os.pipe()
        for fd in (self._wakeup, self._wakeup_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        self._before = {}
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            # Who ignores the end of a terminal, say, means it for helpers as well.
            if number == signal.SIGCHLD or signal.getsignal(number) == signal.SIG_DFL:
                self._before[number] = signal.signal(number, self._note)
        # What Ctrl-C means the coordinator says.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, *self._before})
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)
        self._controls: dict[int, int] = {}
        """The pids of workers, by the control's file descriptor."""
        self._watched: set[int] = set()
        self._terminated: set[int] = set()
        # What was started here before the first worker was; later also those whom we may not kill.
        self._left_alone = children()

    def _note(self, number: int, frame: object) -> None:
        if number != signal.SIGCHLD:
            self.stopped = True

    def watch(self, fd: int) -> None:
        """Have `wait` look after this file."""
        self._watched.add(fd)
        self._poll.register(fd, select.POLLIN)

    def fork(self, control: socket.socket) -> int:
        """Fork a worker: its pid; 0 in the worker, where nothing of the keeper's is left.

        The control is the keeper's from here on. The worker's pid is sent there, or minus an errno
        when it could not be forked; then the result is -1.
        """
        me = os.getpid()
        self._count += 1
        # No two keepers, of which one may be below the other, have the same.
        mark = me << 32 | self._count
        try:
            pid = os.fork()
        except OSError as error:
            send_number(control, -(error.errno or errno.EAGAIN))
            control.close()
            return -1
        if pid == 0:
            die_with(me)
            self._leave(control)
            bear(mark)
            os.setpgid(0, 0)
            return 0
        self._workers[pid] = _Worker(pid, mark, control)
        self._controls[control.fileno()] = pid
        self._poll.register(control, select.POLLIN)
        send_pid(control, pid)
        return pid

    def _leave(self, control: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for worker in (*self._workers.values(), *self._ended):
            worker.control.close()
        control.close()
        os.close(self._wakeup)
        os.close(self._wakeup_write)

    @property
    def idle(self) -> bool:
        """Whether there is no worker, and nothing of one."""
        return not self._workers and not self._ended

    def wait(self, within: float | None = None) -> bool:
        """Wait until something happens, and see to it; whether a file of `watch` can be read."""
        told = False
        seconds = self._end_orphans()
        if within is not None:
            seconds = within if seconds is None else min(seconds, within)
        for fd, _ in self._poll.poll(None if seconds is None else math.ceil(seconds * 1000)):
            if fd == self._wakeup:
                # A signal each; what they announce may be fewer or more than that.
                os.read(self._wakeup, 4096)
                self._reap()
            elif fd in self._controls:
                # The coordinator sends nothing: this is the end. It wants that worker gone.
                self._kill(self._unpolled(fd))
            else:
                told = told or fd in self._watched
        # Who asks next whether anything is left is told the truth.
        self._end_orphans()
        return told

    def end_all(self) -> None:
        """Kill every worker, and wait until they are gone, and what they have started, too."""
        deadline = time.monotonic() + GIVE_UP_AFTER
        for fd in list(self._controls):
            self._kill(self._unpolled(fd))
        self._reap()
        self._end_orphans()
        while not self.idle and (left := deadline - time.monotonic()) > 0:
            self.wait(left)

    def _kill(self, pid: int) -> None:
        # One that has become another user's may be beyond us; it has lost its connection.
        with contextlib.suppress(PermissionError):
            os.kill(pid, signal.SIGKILL)

    def _unpolled(self, fd: int) -> int:
        self._poll.unregister(fd)
        return self._controls.pop(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._terminated.discard(pid)
            self._left_alone.discard(pid)
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            send_number(worker.control, os.waitstatus_to_exitcode(status))
            if worker.control.fileno() in self._controls:
                self._unpolled(worker.control.fileno())
            if not self._adopts:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            worker.deadline = time.monotonic() + GRACE
            self._ended.append(worker)

    def _end_orphans(self) -> float | None:
        """End those whose workers have ended; in how many seconds to look again, None for never."""
        if not self._ended:
            return None
        now = time.monotonic()
        living = {worker.mark for worker in self._workers.values()}
        ended = {worker.mark: worker for worker in self._ended}
        waiting = set()
        for pid in children() - self._workers.keys() - self._left_alone:
            mark = mark_of(pid)
            if mark in living:
                continue
            if mark not in ended:
                if living:
                    continue
                mark = self._ended[-1].mark
            if self._end(pid, now >= ended[mark].deadline):
                waiting.add(mark)
        for worker in self._ended:
            if worker.mark not in waiting:
                worker.control.close()
        self._ended = [worker for worker in self._ended if worker.mark in waiting]
        return min((max(worker.deadline - now, _AGAIN) for worker in self._ended), default=None)

    def _end(self, pid: int, at_once: bool) -> bool:
        """Send the signal that is due; whether that is allowed."""
        try:
            if at_once:
                os.kill(pid, signal.SIGKILL)
            elif pid not in self._terminated:
                self._terminated.add(pid)
                os.kill(pid, signal.SIGTERM)
        except PermissionError:
            self._left_alone.add(pid)
            return False
        return True


# ---- a spawned worker's


def spawn(control_fd: int, connection_fd: int, coordinator: int, prefix: str) -> bool:
    """Fork this process, which is to become a worker: True in the worker.

    This process stays until the worker has ended, and all that it has started. It comes back, with
    False, only if the coordinator has died and left segments with that prefix, which its resource
    tracker does not take away.
    """
    os.set_inheritable(control_fd, False)
    keeper = Keeper()
    if keeper.fork(socket.socket(fileno=control_fd)) == 0:
        return True
    # These are the worker's: who reads what it writes waits for their end.
    os.close(connection_fd)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)
    while not keeper.idle and not keeper.stopped:
        keeper.wait()
    keeper.end_all()
    deadline = time.monotonic() + _TRACKED_WITHIN
    while os.getppid() != coordinator and _left(prefix):
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.05)
    os._exit(0)


def _left(prefix: str) -> bool:
    try:
        return any(name.startswith(prefix) for name in os.listdir("/dev/shm"))
    except OSError:
        return False


# ---- what goes over a control


def send_number(control: socket.socket, number: int, *fds: int) -> None:
    """Send a pid or an exit code; a coordinator that is gone, or has given up, is all right."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        socket.send_fds(control, [NUMBER.pack(number)], fds, NO_SIGNAL)


def send_pid(control: socket.socket, pid: int) -> None:
    """Send the pid of a process of ours, not reaped yet, so that the number is its own."""
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        send_number(control, pid)  # another system, an old kernel, or a sandbox
    else:
        send_number(control, pid, pidfd)
        os.close(pidfd)
