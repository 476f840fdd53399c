"""The coordinator ends, in whatever way and at whatever moment: nothing of it stays behind.

Each test runs a script of its own, with workers of all start methods. All processes that a script
brings about have a token in their environment, by which they are found.
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
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.faults.moments import after, stop

import procession
from procession.blobs.owner import PREFIX
from procession.cluster.launch import METHODS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

HERE = Path(__file__).parent
WITHIN = 1.0
"""Seconds in which all workers, and what they have started, are promised to be gone."""
CLEAN_WITHIN = 5.0
"""Seconds in which helpers have cleaned up, and are gone, too."""
DEADLINE = 15

COMMON = """
import ctypes, json, os, signal, sys, threading
import numpy as np
import offspring
from procession import Net, Node, ProcessSession, SessionClosedError, execution_step

METHODS = {methods}
nodes = ["a", "b"]

# Workers inherit no file of the coordinator's: by this one they say that they have begun.
FIFO = os.path.join(os.path.dirname(__file__), "begun")
os.mkfifo(FIFO)
fifo = os.open(FIFO, os.O_RDWR)

def begun():
    file = os.open(FIFO, os.O_WRONLY)
    os.write(file, b"+")
    os.close(file)

def open_all():
    # By a thread that ends, which is the end of nothing else.
    sessions = []
    def open_each():
        for node, method in zip(nodes, METHODS):
            sessions.append(ProcessSession([node], start_method=method))
    starter = threading.Thread(target=open_each)
    starter.start()
    starter.join()
    return sessions

def operator(function, outputs=()):
    net = Net(function.__name__)
    net.Python(function)([], list(outputs))
    return net

def children(inputs, outputs):
    for kind in ("fork", "daemon", "deaf"):
        offspring.start(kind)

def native(inputs, outputs):
    begun()
    ctypes.PyDLL(None).sleep(1000)

def forever(inputs, outputs):
    begun()
    while True:
        pass

def at_once(job):
    pairs = zip(sessions, nodes)
    threads = [threading.Thread(target=job, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    return threads

def run_on(session, node, net):
    with Node(node):
        session.run(net)

def fill(session, node):
    session.workspace(node).feed_blob("x", np.ones(1 << 18))
    run_on(session, node, operator(children))

def ready():
    print("ready", flush=True)
"""


class Script:
    """A coordinator."""

    def __init__(self, folder: Path, text: str) -> None:
        self.token = f"of-{secrets.token_hex(8)}"
        path = folder / "script.py"
        common = COMMON.format(methods=METHODS)
        path.write_text(common + textwrap.dedent(text))
        packages = Path(procession.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(HERE), str(packages)]),
                "PROCESSION_TEST_TOKEN": self.token,
            },
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def until_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line != "ready\n":
            self.process.kill()
            raise AssertionError(line + self.process.communicate()[1])

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def processes(self) -> list[psutil.Process]:
        """All that live and were started by the script, directly or not."""
        token, found = self.token.encode(), []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if token in Path("/proc", name, "environ").read_bytes():
                    found.append(psutil.Process(int(name)))
        return [process for process in found if process.pid != self.pid]

    def workers(self) -> list[psutil.Process]:
        """All of these but the helpers, which are the coordinator's own children."""
        found = []
        for process in self.processes():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                # A fork server, and a keeper, are the first of their session.
                helper = os.getsid(process.pid) == process.pid and "procession" in line
                if not helper and "resource_tracker" not in line:
                    found.append(process)
        return found

    def left(self, find: object, within: float) -> list[psutil.Process]:
        """Those that `find` still finds when time is up."""
        deadline = time.monotonic() + within
        assert callable(find)
        while (found := find()) and (left := deadline - time.monotonic()) > 0:
            psutil.wait_procs(found, timeout=left)
        return list(found)

    def segments(self) -> list[str]:
        return [name for name in os.listdir("/dev/shm") if name.startswith(f"{PREFIX}{self.pid}-")]

    def nothing_is_left(self) -> None:
        """Everything ends in time once the coordinator has ended."""
        assert self.left(self.workers, WITHIN) == []
        assert self.left(self.processes, CLEAN_WITHIN) == []
        assert self.segments() == []


@pytest.fixture
def script(tmp_path: Path) -> Iterator[type]:
    """Starts one; what a failed test leaves is ended."""
    started: list[Script] = []

    def start(text: str) -> Script:
        started.append(Script(tmp_path, text))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        # Its pipes are theirs as well.
        for process in each.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        each.process.communicate()


ENDS = {
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); signal.pause()", -signal.SIGTERM),
    "SIGKILL of its group": ("os.killpg(0, signal.SIGKILL)", -signal.SIGKILL),
    "segmentation fault": ("ctypes.string_at(0)", -signal.SIGSEGV),
    "exception": ("raise LookupError('of the script')", 1),
    "os._exit": ("os._exit(5)", 5),
    "sys.exit": ("sys.exit(6)", 6),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_way_to_end(script, end) -> None:
    text = f"""
    sessions = open_all()
    for pair in zip(sessions, nodes):
        fill(*pair)
    x = sessions[0].workspace("a").fetch_blob("x")
    ready()
    sys.stdin.readline()
    {ENDS[end][0]}
    """
    coordinator = script(text)
    coordinator.until_ready()
    assert len(coordinator.workers()) == 4 * len(METHODS)
    assert coordinator.segments()
    coordinator.go_on()
    assert coordinator.process.wait(DEADLINE) == ENDS[end][1]
    coordinator.nothing_is_left()
    error = coordinator.process.communicate()[1]
    assert ("Traceback" in error) == (end == "exception")
    if end in ("exception", "sys.exit"):
        # Otherwise its resource tracker has something to complain of.
        assert "leaked" not in error


# What is under way when it is killed. All begin again and again, or never end.
DOING = {
    "running": "run(forever)",
    "native code that keeps the GIL": "run(native)",
    "feeding and fetching": "at_once(feed_and_fetch); ready()",
    "closing": "run(native, close=True)",
    "opening and closing": "at_once(open_and_close); ready()",
}

JOBS = """
def feed_and_fetch(session, node):
    workspace = session.workspace(node)
    while True:
        workspace.feed_blob("large", np.ones(1 << 20))
        workspace.feed_blob("small", 1)
        workspace.feed_blob("letter", ["x" * 100_000])
        workspace.fetch_blob("large")
        workspace.fetch_blob("letter")

def open_and_close(session, node):
    while True:
        session.close()
        session = ProcessSession([node], start_method=METHODS[nodes.index(node)])
        fill(session, node)

def run(function, close=False):
    threads = at_once(lambda session, node: run_on(session, node, operator(function)))
    for _ in nodes:
        os.read(fifo, 1)
    ready()
    if close:
        at_once(lambda session, node: session.close())
    threads[0].join()
"""


@pytest.mark.parametrize("doing", DOING)
def test_killed_in_the_middle_of(script, doing, chance: random.Random) -> None:
    text = f"""
    sessions = open_all()
    for pair in zip(sessions, nodes):
        fill(*pair)
    {DOING[doing]}
    sys.stdin.readline()
    """
    coordinator = script(JOBS + textwrap.dedent(text))
    coordinator.until_ready()
    with after(chance.uniform(0, 0.5), coordinator.process.kill):
        coordinator.process.wait(DEADLINE)
    coordinator.nothing_is_left()


def test_killed_while_its_workers_are_stopped(script) -> None:
    text = """
    sessions = open_all()
    for pair in zip(sessions, nodes):
        fill(*pair)
    ready()
    sys.stdin.readline()
    """
    coordinator = script(text)
    coordinator.until_ready()
    for worker in coordinator.workers():
        stop(worker.pid)
    coordinator.process.kill()
    coordinator.process.wait(DEADLINE)
    coordinator.nothing_is_left()


FORKS = """
sessions = open_all()
for session, node in zip(sessions, nodes):
    session.workspace(node).feed_blob("x", np.arange(1000.0))
    session.workspace(node).feed_blob("small", 1)
views = [session.workspace(node).fetch_blob("x") for session, node in zip(sessions, nodes)]

def refuses(session, node):
    for use in (
        lambda: session.workspace(node).fetch_blob("x"),
        lambda: session.workspace(node).feed_blob("x", np.ones(1000)),
        lambda: run_on(session, node, Net("net")),
        lambda: session.submit(abs, -1),
        lambda: session.stats(),
    ):
        try:
            use()
        except SessionClosedError as error:
            assert str(os.getppid()) in str(error), error
        else:
            raise AssertionError("it does not refuse")
    # What was fetched is still there.
    assert views[0].sum() == 999 * 500

def check():
    for session, node in zip(sessions, nodes):
        np.testing.assert_array_equal(session.workspace(node).fetch_blob("x"), np.arange(1000.0))
        session.workspace(node).feed_blob("x", np.arange(1000.0))
        assert session.submit(abs, -1, node=node).result(10) == 1

def fork(end):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for pair in zip(sessions, nodes):
        refuses(*pair)
    if end == "os._exit":
        os._exit(5)
    if end == "sys.exit":
        sys.exit(6)
    if end == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "close":
        for session in sessions:
            session.close()
        os._exit(7)
    if end == "a session of its own":
        with ProcessSession(["c"]) as own:
            own.workspace("c").feed_blob("x", np.ones(1000))
            assert own.workspace("c").fetch_blob("x").sum() == 1000
        sys.exit(8)
    raise LookupError("of the child")

CODES = {
    "os._exit": 5, "sys.exit": 6, "SIGKILL": -9, "exception": 1, "close": 7,
    "a session of its own": 8,
}
"""


@pytest.mark.parametrize("running", [False, True], ids=["idle", "in a run"])
def test_a_forked_copy_leaves_the_session_alone(script, running) -> None:
    text = f"""
    loop = Net("loop")
    loop.Const(False, "stop")
    endless = execution_step("endless", loop, should_stop_blob="stop")

    def begin(session, node):
        with Node(node):
            future = session.run_async(endless)
        return future

    for end, code in list(CODES.items())[:{4 if running else 6}]:
        futures = [begin(*pair) for pair in zip(sessions, nodes)] if {running} else []
        got = fork(end)
        assert got == code, (end, got)
        for future in futures:
            assert not future.done()
            future.cancel()
        check()
    for session in sessions:
        session.close()
    ready()
    """
    coordinator = script(FORKS + textwrap.dedent(text))
    coordinator.until_ready()
    assert coordinator.process.wait(DEADLINE) == 0
    error = coordinator.process.communicate()[1]
    assert error.count("Traceback") == 1
    assert "LookupError: of the child" in error
    assert "Exception ignored" not in error
    coordinator.nothing_is_left()
