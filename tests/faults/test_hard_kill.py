"""When all who would clean up are killed at once: what stays, and who removes it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.faults.moments import until

import procession
from procession import ProcessSession
from procession.blobs import owner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm")

PACKAGES = str(Path(procession.__file__).parents[1])
WITHIN = 15

SCRIPT = """
import ctypes, os, sys
import numpy as np
from procession import ProcessSession
from procession.blobs import owner

session = ProcessSession(["a", "b"], start_method=sys.argv[1])
session.workspace("a").feed_blob("x", np.ones(1 << 20, np.uint8))
# A copy that Python knows nothing of holds the lock for as long as it lives: it keeps other
# sessions of this machine from cleaning up before this test has looked.
libc = ctypes.CDLL(None)
holder = libc.fork()
while holder == 0:
    libc.pause()
print(owner.prefix(), holder, flush=True)
sys.stdin.read()
"""


class Coordinator:
    """A process with a session of two nodes and some shared memory."""

    def __init__(self, method: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, method],
            env={**os.environ, "PYTHONPATH": PACKAGES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.prefix, holder = self.process.stdout.readline().split()
        everybody = psutil.Process(self.process.pid).children(recursive=True)
        self.others = [one for one in everybody if one.pid != int(holder)]
        self.holder = psutil.Process(int(holder))

    def kill_all(self) -> None:
        """The coordinator, its resource tracker, its fork server and its workers, at once."""
        everybody = [psutil.Process(self.process.pid), *self.others]
        # Stopped first, so that none of them sees another die.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in everybody:
                one.send_signal(number)
        self.process.wait(WITHIN)
        self.see_all_gone()

    def see_all_gone(self) -> None:
        """But the holder. They may still wait to be reaped, by whoever has inherited them."""
        until(lambda: not any(owner.process_exists(one.pid) for one in self.others), WITHIN)

    def let_go(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.holder.kill()
        until(lambda: not owner.process_exists(self.holder.pid), WITHIN)

    def left(self) -> list[str]:
        return sorted(owner.left_by(self.prefix))

    def end(self) -> None:
        for one in (self.holder, *self.others):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait(WITHIN)
        self.let_go()
        self.see_all_gone()
        owner.sweep(self.prefix)


@pytest.fixture(params=["forkserver"])
def coordinator(request: pytest.FixtureRequest) -> Iterator[Coordinator]:
    made = Coordinator(request.param)
    yield made
    made.end()


def test_the_next_session_removes_what_is_left(coordinator: Coordinator) -> None:
    before = coordinator.left()
    # The lock file, two boards, and the tensor.
    assert len(before) == 4
    coordinator.kill_all()
    assert coordinator.left() == before
    with ProcessSession():
        # As if the owner were in another container: no process here has his id.
        assert not owner.process_exists(coordinator.process.pid)
        assert coordinator.left() == before
    coordinator.let_go()
    with ProcessSession(["a"]) as session:
        # Another session of this machine may have begun with it, and be about to end it.
        until(lambda: coordinator.left() == [])
        session.workspace("a").feed_blob("x", np.ones(1 << 20))
        with ProcessSession(["a"]):
            assert session.workspace("a").fetch_blob("x").all()


def test_a_living_session_is_left_alone(coordinator: Coordinator) -> None:
    before = coordinator.left()
    with ProcessSession(["a"]) as session:
        session.workspace("a").feed_blob("x", np.ones(1 << 20))
    assert coordinator.left() == before


def test_so_does_the_command(coordinator: Coordinator) -> None:
    """python -m procession clean"""
    coordinator.kill_all()
    dead = coordinator.left()[0]
    kept = clean()
    (line,) = [line for line in kept.splitlines() if dead in line]
    assert line.startswith(f"  {dead}: process {coordinator.process.pid} lives; 3 segments, ")
    coordinator.let_go()
    while f"  {dead}: " in (said := clean()):
        pass  # another session of this machine is looking at it just then
    # It may also have been faster.
    assert f"{dead}: process {coordinator.process.pid} is dead; 3 segments, " in said or (
        dead not in said
    )
    until(lambda: coordinator.left() == [])


def clean() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "procession", "clean"],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_fork_server_alone_cleans_up(coordinator: Coordinator) -> None:
    """The coordinator and its tracker are killed, as when a process group is."""
    (tracker,) = (one for one in coordinator.others if "resource_tracker" in one.cmdline()[-1])
    coordinator.holder.kill()
    for one in (tracker, coordinator.process):
        one.send_signal(signal.SIGKILL)
    coordinator.process.wait(WITHIN)
    coordinator.see_all_gone()
    assert coordinator.left() == []
