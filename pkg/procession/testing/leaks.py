"""What a test left behind: processes, segments of shared memory, file descriptors, threads.

As a pytest plugin it looks after every test:

    # conftest.py
    pytest_plugins = ["procession.testing.leaks"]

A test that means to leave something is marked `@pytest.mark.leaks`. Two helpers of a process
stay as long as it does, and do not count: multiprocessing's resource tracker and the fork
server. They are started before the first look.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

from procession.blobs.segment import PREFIX
from procession.cluster import forkserver, launch

_FDS = Path("/proc/self/fd")
_SEGMENTS = Path("/dev/shm")
WITHIN = 5.0
"""Seconds in which what is on its way out must have gone."""


@dataclass(frozen=True)
class Belongings:
    """What this process has at a moment."""

    processes: frozenset[int]
    segments: frozenset[str]
    descriptors: dict[int, str]
    threads: frozenset[str]

    @classmethod
    def now(cls) -> Belongings:
        """Take stock."""
        segments: set[str] = set()
        if _SEGMENTS.is_dir():
            own = f"{PREFIX}{os.getpid()}-"
            segments = {name for name in os.listdir(_SEGMENTS) if name.startswith(own)}
        return cls(
            processes=frozenset(_descendants(os.getpid())),
            segments=frozenset(segments),
            descriptors=_descriptors(),
            threads=frozenset(t.name for t in threading.enumerate() if not t.daemon),
        )

    def left_since(self, before: Belongings) -> list[str]:
        """What there is that was not there before, in words."""
        left = []
        for pid in self.processes - before.processes:
            try:
                line = " ".join(psutil.Process(pid).cmdline())
            except psutil.Error:
                continue
            left.append(f"process {pid}: {line[:120]}")
        left += [f"segment {name}" for name in sorted(self.segments - before.segments)]
        new = {fd: to for fd, to in self.descriptors.items() if before.descriptors.get(fd) != to}
        if len(self.descriptors) > len(before.descriptors):
            left += [f"file descriptor {fd} -> {to}" for fd, to in new.items()]
        left += [f"thread {name}" for name in sorted(self.threads - before.threads)]
        return left


def _has_forkserver() -> bool:
    return launch.DEFAULT_METHOD == "forkserver"


def _helpers() -> set[int]:
    """The processes that stay for as long as this one."""
    tracker: int | None = getattr(resource_tracker._resource_tracker, "_pid", None)
    helpers = set() if tracker is None else {tracker}
    return helpers | ({forkserver.running_server().pid} if _has_forkserver() else set())


def _descendants(pid: int) -> set[int]:
    """All processes below this one, without the helpers (but with what is below those)."""
    try:
        # The kernel's own list: going through all processes for each test would take too long.
        tasks = [Path(task, "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        children = {int(child) for line in tasks for child in line.split()}
    except OSError:
        try:
            children = {child.pid for child in psutil.Process(pid).children()}
        except psutil.Error:
            return set()
    below = set().union(*map(_descendants, children))
    return (children | below) - _helpers()


def _descriptors() -> dict[int, str]:
    found = {}
    if _FDS.is_dir():
        for name in os.listdir(_FDS):
            try:
                found[int(name)] = os.readlink(_FDS / name)
            except OSError:
                continue  # the one that lists the directory
    return found


def warm_up() -> None:
    """Start the helpers that stay, so that they are not taken for leaks."""
    resource_tracker.ensure_running()
    if _has_forkserver():
        forkserver.running_server()


def wait_for_none_left(before: Belongings, within: float = WITHIN) -> list[str]:
    """What is still left since `before` after giving it some time to go."""
    deadline = time.monotonic() + within
    left = Belongings.now().left_since(before)
    while left and time.monotonic() < deadline:
        gc.collect()
        # Ends of processes can be waited for; the rest is looked at again.
        psutil.wait_procs(psutil.Process().children(recursive=True), timeout=0.05)
        left = Belongings.now().left_since(before)
    return left


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "leaks: the test leaves something behind, and means to")


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a segment, a file descriptor or a thread behind."""
    warm_up()
    before = Belongings.now()
    yield
    if request.node.get_closest_marker("leaks") is not None:
        return
    left = wait_for_none_left(before)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
