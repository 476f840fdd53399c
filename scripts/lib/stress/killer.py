"""A process that kills another one some microseconds after it was asked to, and says when it did.

It is a process so that nothing that the coordinator does at that moment, such as holding the GIL,
keeps it from firing. It refers to processes by descriptors where the system has them, so that it
never hits one that was given the number of one that is gone.

Lines in:  MODE PID SIGNAL NANOSECONDS   kill it so much later; or, for the mode "newborn", kill its
                                         next new child, so much later than that was seen
Lines out: armed                         from here on the delay counts
           fired PID TIME                by the monotonic clock, from right before the signal
           missed 0 0                    there is no such process
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

NEWBORN_WITHIN = 5.0
"""Seconds for which a child is waited for."""


@dataclass(frozen=True)
class Shot:
    """What the killer did."""

    mode: str
    signal: str
    pid: int
    moment: int
    """By `time.monotonic_ns`, from right before the signal; 0 if there was nobody to kill."""


class Killer:
    """The killer, seen from the coordinator. One shot is under way at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._asked: tuple[str, str] | None = None
        self._read = b""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def armed(self) -> bool:
        """Whether a shot is under way that nobody has taken the answer of."""
        return self._asked is not None

    def arm(self, mode: str, pid: int, name: str, delay: float) -> None:
        """Have a signal sent.

        Args:
            mode: "kill", or "newborn" for the next child of that process.
            pid: The process.
            name: The signal's name.
            delay: Seconds.
        """
        if self._asked is not None:
            raise RuntimeError("a shot is under way")
        assert self._process.stdin is not None
        number = int(signal.Signals[name])
        self._process.stdin.write(f"{mode} {pid} {number} {int(delay * 1e9)}\n".encode())
        self._asked = mode, name
        self._line(10)

    def fired(self, timeout: float = 10) -> Shot | None:
        """What became of the shot; None when it was not fired within so many seconds."""
        if self._asked is None:
            return None
        line = self._line(timeout)
        if line is None:
            return None
        (mode, name), self._asked = self._asked, None
        _, pid, moment = line.split()
        return Shot(mode, name, int(pid), int(moment))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def _line(self, timeout: float) -> str | None:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._read:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                return None
            data = self._process.stdout.read(4096)
            if not data:
                raise RuntimeError("the killer is gone")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()


# ---- in the process


def _parent(pid: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])
    return 0


def _newborn(parent: int, known: set[str]) -> int:
    """The next child, or 0."""
    end, coordinator = time.monotonic() + NEWBORN_WITHIN, os.getppid()
    while time.monotonic() < end and os.getppid() == coordinator:
        processes = set(os.listdir("/proc"))
        for pid in processes - known:
            if pid.isdigit() and _parent(pid) == parent:
                return int(pid)
        # Those of our moment that have ended may come again.
        known &= processes
        time.sleep(0.0002)
    return 0


def _shoot(pid: int, descriptor: int | None, number: int, delay: int) -> int:
    time.sleep(delay / 1e9)
    moment = time.monotonic_ns()
    try:
        if descriptor is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return 0
    return moment


def _descriptor(pid: int) -> int | None:
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None


def _obey(mode: str, pid: int, number: int, delay: int) -> str:
    descriptor = None
    try:
        if mode == "kill":
            descriptor = _descriptor(pid)
        known = set(os.listdir("/proc")) if mode == "newborn" else set()
        print("armed", flush=True)
        if mode == "newborn":
            pid = _newborn(pid, known)
            if not pid:
                return "missed 0 0"
            descriptor = _descriptor(pid)
        moment = _shoot(pid, descriptor, number, delay)
    except ProcessLookupError:
        if mode == "kill" and descriptor is None:
            print("armed", flush=True)
        return "missed 0 0"
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return f"fired {pid} {moment}" if moment else "missed 0 0"


def main() -> None:
    """Obey, line by line, until there are no more."""
    # Ctrl-C is for the coordinator.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        mode, *numbers = line.split()
        pid, number, delay = map(int, numbers)
        print(_obey(mode, pid, number, delay), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)  # the coordinator is gone: there is nobody to tell
