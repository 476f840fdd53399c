"""What a soak, or a coordinator that was killed, left behind."""

from __future__ import annotations

import gc
import os
import select
import time
from pathlib import Path

import psutil

from procession.blobs.segment import PREFIX
from procession.testing import leaks
from stress.report import Report

SEGMENTS = Path("/dev/shm")
MARK = "PROCESSION_STRESS"
"""A variable in the environment of a coordinator that is going to be killed, and of all below."""


def mapped() -> int:
    """Bytes of segments of sessions that this process has mapped, be they unlinked or not."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if f"{SEGMENTS}/{PREFIX}" in line:
            start, end = line.split()[0].split("-")
            total += int(end, 16) - int(start, 16)
    return total


def look(report: Report, before: leaks.Belongings, mapped_before: int) -> None:
    """Report what this process has and had not before, once it had time to go."""
    leaks.wait_for_none_left(before)
    if mapped() > mapped_before:
        # Where a mapping takes no file, nothing of the above tells of garbage in a cycle.
        gc.collect()
    after = leaks.Belongings.now()
    for pid in sorted(after.processes - before.processes):
        report.wrong("leaked processes", f"process {pid}, {_command(pid)}")
    for name in sorted(after.segments - before.segments):
        report.wrong("leaked segments", name)
    if len(after.descriptors) > len(before.descriptors):
        for fd, to in after.descriptors.items():
            if before.descriptors.get(fd) != to:
                report.wrong("leaked descriptors", f"{fd} -> {to}")
    for name in sorted(after.threads - before.threads):
        report.wrong("leaked threads", name)
    if mapped() > mapped_before:
        report.wrong("leaked bytes", f"{mapped() - mapped_before:,} bytes are still mapped")


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:120]
    except psutil.Error:
        return "which has just ended"


def segments_of(pid: int) -> list[str]:
    """The names of the segments that a process made."""
    if not SEGMENTS.is_dir():
        return []
    return sorted(n for n in os.listdir(SEGMENTS) if n.startswith(f"{PREFIX}{pid}-"))


def marked(mark: str) -> set[int]:
    """All processes with that mark in the environment that they were started with."""
    found, wanted = set(), f"{MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.add(int(name))
            except OSError:
                continue  # it has ended, or is somebody else's
    return found


def wait_for_end(mark: str, but: set[int], until: float) -> set[int]:
    """Wait until no marked processes are left but some.

    Args:
        mark: The mark.
        but: Processes that may stay.
        until: When to wait no more, by `time.monotonic`.

    Returns:
        What is still there.
    """
    while True:
        # Again and again: what was being forked when one looked is there when one looks again.
        left = marked(mark) - but
        if not left or time.monotonic() >= until:
            return left
        for pid in left:
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            finally:
                os.close(descriptor)


def wait_for_segments(pid: int, until: float) -> list[str]:
    """Wait until a process has no segments; the names of those that are still there."""
    while segments_of(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return segments_of(pid)
