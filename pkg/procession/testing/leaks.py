"""What a test left behind: processes, segments of shared memory, file descriptors, threads.

As a pytest plugin it looks after every test. Either of these brings it in:

    pytest -p procession.testing.leaks

    pytest_plugins = ["procession.testing.leaks"]      # in conftest.py

A test that leaves something fails when it ends, with a list of what that is and what to do. Things
that are on their way out have five seconds to go; `leaks_within = 1.5`, in the section of pytest's
settings, makes that 1.5. A test that means to leave something is marked `@pytest.mark.leaks`.

A session that is open already when a test begins, and has a node by then, as that of a fixture of
the module, may have more nodes and memory when it ends.

Processes are those of the test's process, those that they have started, and so on: also when
whoever started them has ended since. Three things stay as long as the process does, and do not
count: multiprocessing's resource tracker, the fork server, and (as long as there are segments) the
lock file of their owner. The first two are started before the first look.
"""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

from procession.blobs import owner
from procession.blobs.segment import Segment
from procession.cluster import forkserver, launch
from procession.cluster.incarnation import FILES_PER_NODE
from procession.cluster.supervisor import Supervisor

_PROC = Path("/proc")
_FDS = "/proc/self/fd"
WITHIN = 5.0
"""Seconds in which what is on its way out must have gone."""
_HINTS = {
    "segment": "A ProcessSession was not closed: use it in a `with` block, or call its close().",
    "process": "End what you start, and wait for it: Popen.terminate() and wait(), Process.join().",
    "file descriptor": "Close files, sockets and pipes, best by a `with` block.",
    "thread": "Join threads, or make them daemons.",
}


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
        mine = owner.prefix()
        return cls(
            processes=frozenset(_descendants(os.getpid(), _helpers()) | _strays.found()),
            segments=frozenset(
                name for name in owner.left_by(mine) if not _is_lock_file(name, mine)
            ),
            descriptors=_descriptors(),
            threads=frozenset(t.name for t in threading.enumerate() if not t.daemon),
        )

    def left_since(self, before: Belongings) -> list[str]:
        """What there is that was not there before, in words."""
        left = []
        processes, segments = self.processes - before.processes, self.segments - before.segments
        started = bool(processes or segments)
        opened = len(self.descriptors) > len(before.descriptors)
        nodes = _Nodes(before.processes) if started or opened else None
        if nodes is not None:
            # A session that was open before may have more than it had.
            processes, segments = processes - nodes.old, segments - nodes.old
        for pid in sorted(processes):
            try:
                process = psutil.Process(pid)
                line = " ".join(process.cmdline()) or process.name()
            except psutil.Error:
                continue
            whose = "" if nodes is None else nodes.whose(pid)
            if pid in _strays.known:
                whose += ", started by a process that has ended"
            left.append(f"process {pid}{whose}: {line[:120]}")
        for name in sorted(segments):
            whose = "" if nodes is None else nodes.whose(name)
            left.append(f"segment {name}{whose}{_size(name)}")
        old, skipped = 0, set[int | str]()
        if nodes is not None:
            old, skipped = min(nodes.worlds, self._nameless_since(before)), nodes.old
            if started:
                old += nodes.files
        if len(self.descriptors) > len(before.descriptors) + old:
            left += [
                f"file descriptor {fd} -> {to}"
                for fd, to in self.descriptors.items()
                if before.descriptors.get(fd) != to and to.rpartition("/")[2] not in skipped
            ]
        left += [f"thread {name}" for name in sorted(self.threads - before.threads)]
        return left

    def _nameless_since(self, before: Belongings) -> int:
        """How many of the new files are segments of this process that have no name any more."""
        start = os.path.join(owner.DIRECTORY, owner.prefix())
        return sum(
            to.startswith(start) and to.endswith(" (deleted)")
            for fd, to in self.descriptors.items()
            if before.descriptors.get(fd) != to
        )


def _is_lock_file(name: str, prefix: str) -> bool:
    return "-" not in name.removeprefix(prefix)


def _size(name: str) -> str:
    try:
        return f" ({os.stat(os.path.join(owner.DIRECTORY, name)).st_size:,} bytes)"
    except OSError:
        return ""


class _Nodes:
    """Which process and which segment is of which node. Goes through all objects.

    Args:
        before: Processes. Nodes of a session that has one of them are old.
    """

    def __init__(self, before: frozenset[int]) -> None:
        self.old: set[int | str] = set()
        """Processes, and names of segments, of old nodes."""
        self.files = 0
        """As many descriptors as old nodes may have had since."""
        self._of: dict[int | str, str] = {}
        self.worlds = 0
        """In how many common worlds old nodes sit. Each is a segment without a name, and a file."""
        worlds = set()
        supervisors = [one for one in gc.get_objects() if type(one) is Supervisor]
        for supervisor in supervisors:
            handles = list(supervisor.nodes.values())
            old = any(handle.pid in before for handle in handles)
            for handle in handles:
                owns: set[int | str] = {handle.pid, *handle.memory._segments}
                owns |= _keeper(handle.pid)
                for one in gc.get_referents(handle.life):
                    if isinstance(one, Segment):
                        owns.add(one.name)
                self._of.update(dict.fromkeys(owns, handle.name))
                if old:
                    self.old |= owns
                    self.files += sum(isinstance(one, str) for one in owns)
                    worlds |= {seat.seats for seat in handle.seats}
                    if handle.pid not in before:
                        self.files += FILES_PER_NODE
        self.worlds = len(worlds)

    def whose(self, what: int | str) -> str:
        node = self._of.get(what)
        return "" if node is None else f" of node {node!r}"


def _keeper(pid: int) -> set[int]:
    """The process of its own, if it has one, that looks after a worker."""
    try:
        parent = psutil.Process(pid).ppid()
    except psutil.Error:
        return set()
    return {parent} - _helpers() - {os.getpid(), 1}


def hints(left: list[str]) -> list[str]:
    """What to do about what was left."""
    told = [hint for kind, hint in _HINTS.items() if any(one.startswith(kind) for one in left)]
    return [*told, "A test that means to leave something is marked @pytest.mark.leaks."]


def _has_forkserver() -> bool:
    return launch.DEFAULT_METHOD == "forkserver"


def _tracker() -> int | None:
    pid: int | None = getattr(resource_tracker._resource_tracker, "_pid", None)
    return pid


def _helpers() -> set[int]:
    """The processes that stay for as long as this one."""
    tracker = _tracker()
    helpers = set() if tracker is None else {tracker}
    return helpers | ({forkserver.running_server().pid} if _has_forkserver() else set())


def _descendants(pid: int, helpers: set[int]) -> set[int]:
    """All processes below this one, without the helpers (but with what is below those)."""
    children: set[int] = set()
    tasks = f"/proc/{pid}/task"
    try:
        # The kernel's own list: going through all processes for each test would take too long.
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/children", "rb") as file:
                children.update(map(int, file.read().split()))
    except OSError:
        try:
            children = {child.pid for child in psutil.Process(pid).children()}
        except psutil.Error:
            return set()
    below = set().union(*(_descendants(child, helpers) for child in children))
    return (children | below) - helpers


class _Strays:
    """Processes that are no longer below this one, as whoever started them has ended.

    They are known by a variable of the environment, which they inherit. All processes are gone
    through for that, but only when some process has been waited for since the last time, here or
    by the fork server: only who ends leaves strays.
    """

    def __init__(self) -> None:
        self.known: set[int] = set()
        """Those that were found the last time."""
        self._ends: object = None

    def mark(self) -> None:
        """Have all processes inherit the variable that are started from here on."""
        os.environ[self._variable()] = "1"

    @staticmethod
    def _variable() -> str:
        return f"PROCESSION_LEAKS_{os.getpid()}"

    def found(self) -> set[int]:
        if not _PROC.is_dir():
            return set()
        ends = self._ends_so_far()
        if ends != self._ends:
            self._ends = ends
            self.known = self._look()
        self.known = set(filter(owner.process_exists, self.known))
        return self.known

    @staticmethod
    def _ends_so_far() -> object:
        """Something that changes when a process has been waited for."""
        server = None
        if _has_forkserver():
            pid = forkserver.running_server().pid
            try:
                fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b") ")[2].split()
                # Page faults of the children that it has waited for.
                server = pid, fields[8]
            except (OSError, IndexError):
                pass
        return os.getpid(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt, server

    def _look(self) -> set[int]:
        mark = f"{self._variable()}=1".encode()
        marked = set()
        for name in os.listdir(_PROC):
            if name.isdigit():
                try:
                    if mark in (_PROC / name / "environ").read_bytes().split(b"\0"):
                        marked.add(int(name))
                except OSError:
                    continue  # it has ended, or is of another user
        helpers = _helpers()
        return marked - _descendants(os.getpid(), helpers) - helpers - {os.getpid()}


_strays = _Strays()


def _descriptors() -> dict[int, str]:
    found = {}
    mine = owner.prefix()
    names = os.listdir(_FDS) if os.path.isdir(_FDS) else []
    for name in names:
        try:
            to = os.readlink(f"{_FDS}/{name}")
        except OSError:
            continue  # the one that lists the directory
        folder, _, file = to.rpartition("/")
        if not (folder == owner.DIRECTORY and file.startswith(mine) and _is_lock_file(file, mine)):
            found[int(name)] = to
    return found


def warm_up() -> None:
    """Start the helpers that stay, so that they are not taken for leaks."""
    _strays.mark()
    if _tracker() is None:
        resource_tracker.ensure_running()
    if _has_forkserver():
        forkserver.running_server()


def wait_for_none_left(before: Belongings, within: float = WITHIN) -> list[str]:
    """What is still left since `before` after giving it some time to go."""
    deadline = time.monotonic() + within
    left = Belongings.now().left_since(before)
    if left:
        gc.collect()
        left = Belongings.now().left_since(before)
    while left and time.monotonic() < deadline:
        gc.collect()
        # Ends of processes can be waited for; the rest is looked at again.
        psutil.wait_procs(psutil.Process().children(recursive=True), timeout=0.05)
        left = Belongings.now().left_since(before)
    return left


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the setting known."""
    parser.addini(
        "leaks_within",
        f"seconds in which what a test leaves must have gone (default: {WITHIN})",
        default=str(WITHIN),
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and see that the setting is a number."""
    config.addinivalue_line("markers", "leaks: the test leaves something behind, and means to")
    _within(config)
    _strays.mark()


def _within(config: pytest.Config) -> float:
    setting = config.getini("leaks_within")
    try:
        return float(setting)
    except ValueError:
        raise pytest.UsageError(f"leaks_within is a number of seconds, not {setting!r}") from None


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a segment, a file descriptor or a thread behind."""
    warm_up()
    before = Belongings.now()
    yield
    if request.node.get_closest_marker("leaks") is not None:
        return
    left = wait_for_none_left(before, _within(request.config))
    if left:
        lines = "\n  ".join(left)
        pytest.fail(f"left behind:\n  {lines}\n" + "\n".join(hints(left)), pytrace=False)
