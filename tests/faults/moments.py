"""What tests of faults have in common: seeded moments, deadlines, killers, and witnesses.

A moment is chosen at random, and the seed is printed. Whatever the moment is, the outcome must be
one of those that are allowed; PROCESSION_FAULTS_SEED repeats the choice.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tests.session.process_nodes import run_on

from procession import (
    Net,
    Node,
    ProcessSession,
    Session,
    Task,
    TaskGroup,
    WorkspaceType,
    execution_step,
)

SEED = int(os.environ.get("PROCESSION_FAULTS_SEED") or secrets.randbelow(1 << 31))
WITHIN = 25.0
"""Seconds in which whatever is waited for has to happen, however busy the machine is."""
MIB = 1 << 20


def chance_for(name: str) -> random.Random:
    """A test's own random numbers."""
    print(f"PROCESSION_FAULTS_SEED={SEED}")
    return random.Random(f"{SEED} {name}")


def until(condition: Callable[[], object], within: float = WITHIN) -> None:
    """Wait until something is so."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


@contextlib.contextmanager
def after(seconds: float, action: Callable[[], object]) -> Iterator[threading.Thread]:
    """Do something so much later, beside the block. It has been done when the block ends."""

    def do() -> None:
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            time.sleep(left if left < 0.0005 else left / 2)
        action()

    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(WITHIN)
        assert not thread.is_alive()


def send(pid: int, number: int | str) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.Signals[number] if isinstance(number, str) else number)


def gone(pids: list[int], within: float = WITHIN) -> bool:
    """Whether the processes end in time."""
    with contextlib.suppress(AssertionError):
        until(lambda: not any(map(psutil.pid_exists, pids)), within)
        return True
    return False


def stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"


def stop(pid: int) -> None:
    """Stop a process, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stopped(pid))


def bytes_moved(pid: int) -> tuple[int, int]:
    """(how many bytes a process has read so far, how many it has written)."""
    found = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(found["rchar"]), int(found["wchar"])


def pid_of(session: ProcessSession, node: str) -> int:
    """The process of a node."""
    return session.stats()[node].pid


# What runs.


def endless(name: str = "n") -> Any:
    """A step that counts in a blob for ever, and can be stopped between operators."""
    begin, turn = Net("begin"), Net("turn")
    begin.Const(0.0, name)
    begin.Const(1.0, "one")
    turn.Add([name, "one"], name)
    loop = execution_step("loop", turn, num_iter=1 << 40)
    return execution_step("all", [execution_step("begin", begin), loop])


def adding(name: str = "x", size: int = 1) -> Net:
    """A net that adds one to each number of a blob, in place."""
    net = Net("adding")
    one = net.Const(np.ones(size), blob_out="ones")
    net.Add([name, one], name)
    return net


def beside_endless(node: str, net: Any, other: str, outputs: list[str] | None = None) -> TaskGroup:
    """A net on a node, while the other node counts in `n` for ever."""
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        with Node(node):
            Task(step=net, outputs=outputs)
        with Node(other):
            Task(step=endless())
    return group


class Witness:
    """What nodes hold, and what was fetched from them, to be compared afterwards."""

    def __init__(self, session: Session, *nodes: str, chance: random.Random | None = None) -> None:
        self.session = session
        generator = np.random.default_rng((chance or random.Random(1)).randrange(1 << 30))
        self.values: dict[str, Any] = {}
        self.views: dict[str, Any] = {}
        for node in nodes:
            workspace = session.workspace(node)
            for name, size in (("kept large", 100_000), ("kept small", 10)):
                value = generator.random(size)
                workspace.feed_blob(name, value)
                self.values[f"{node} {name}"] = value
                self.views[f"{node} {name}"] = workspace.fetch_blob(name)

    def check_views(self) -> None:
        """All that was fetched is as it was."""
        for place, value in self.values.items():
            np.testing.assert_array_equal(self.views[place], value, place)

    def check_node(self, node: str) -> None:
        """The node holds what it held, and does what it is asked."""
        workspace = self.session.workspace(node)
        for name in ("kept large", "kept small"):
            np.testing.assert_array_equal(workspace.fetch_blob(name), self.values[f"{node} {name}"])
        number = np.arange(3.0)
        workspace.feed_blob("asked", number)
        run_on(self.session, node, adding("asked", 3))
        np.testing.assert_array_equal(workspace.fetch_blob("asked"), number + 1)


# Scripts.


def script(folder: Path, text: str, **options: Any) -> subprocess.Popen[str]:
    """A script of a user's, running, for which every warning is an error."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_script(folder: Path, text: str, code: int = 0) -> str:
    """What a script prints. It has to end in time, with that code, and to complain of nothing."""
    process = script(folder, text)
    try:
        out, complaints = process.communicate(timeout=WITHIN)
    finally:
        process.kill()
        process.wait()
    assert (complaints, process.returncode) == ("", code), (out, complaints, process.returncode)
    return out
