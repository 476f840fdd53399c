"""Who has which memory, and which files: read from /proc, for workers that are at work.

| what | what is looked at |
| --- | --- |
| a worker's mappings and files | segments of its own node, and of no other session |
| segments | mode 0600; names with a random part that nobody guesses |
| coordinator, fork server, workers | no listening socket, none that has an address |
| a worker's sockets | no end of another worker's connection |
| what a worker sends | unpickled when it is asked for, and then only |
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.faults.moments import MIB, adding, gone, pid_of, send
from tests.session.process_nodes import python_net, run_on, segments

from procession import Node, NodeDiedError, ProcessSession, Task, TaskGroup, WorkspaceType
from procession.blobs.segment import PREFIX
from procession.testing.session_contract.worlds import allreduce, members, no_calls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
SHM = Path("/dev/shm")


@pytest.fixture(params=["forkserver", "spawn"], scope="module")
def sessions(request) -> Iterator[tuple[ProcessSession, ProcessSession]]:
    """Two sessions of two nodes, all of which have memory, some of it given back or fetched."""
    method = request.param
    with (
        ProcessSession(["a", "b"], start_method=method) as one,
        ProcessSession(["a", "b"], start_method=method) as other,
    ):
        work(one)
        work(other)
        yield one, other


def work(session: ProcessSession) -> list[Any]:
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for node in "ab":
            for size in (10, 5000, MIB):
                session.workspace(node).feed_blob(f"x{size}", np.ones(size))
            with Node(node):
                Task(step=adding("x5000", 5000), outputs=["x5000"])
    session.run(group)
    return [session.workspace(node).fetch_blob(f"x{size}") for node in "ab" for size in (5000, MIB)]


def mapped(pid: int) -> set[str]:
    """The names of the segments that a process has mapped."""
    text = Path(f"/proc/{pid}/maps").read_text()
    return set(re.findall(r"/dev/shm/(\S+)", text))


def opened(pid: int) -> dict[int, str]:
    """What a process has open."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except OSError:
            continue
    return found


def workers(*sessions: ProcessSession) -> dict[tuple[int, str], int]:
    return {
        (number, node): pid_of(session, node)
        for number, session in enumerate(sessions)
        for node in session.nodes
    }


class TestMemory:
    def test_a_worker_maps_what_is_its_node_s(self, sessions):
        maps = {place: mapped(pid) for place, pid in workers(*sessions).items()}
        for place, names in maps.items():
            # The board, and what the values are in.
            assert len(names) >= 2, place
            assert all(name.startswith(f"{PREFIX}{os.getpid()}-") for name in names)
            for other, others in maps.items():
                assert other == place or not names & others

    def test_a_worker_opens_what_is_its_node_s(self, sessions):
        maps = {place: mapped(pid) for place, pid in workers(*sessions).items()}
        for place, pid in workers(*sessions).items():
            for target in opened(pid).values():
                if target.startswith(f"{SHM}/"):
                    assert target.removeprefix(f"{SHM}/").split(" ")[0] in maps[place]

    def test_also_after_another_was_started_and_has_died(self, session):
        one = session
        work(one)
        with ProcessSession(["a", "b"]) as other:
            work(other)
            self.start_and_kill(one, other)

    def test_members_of_a_world_see_what_they_exchange_and_nothing_else(self):
        with ProcessSession(["n0", "n1", "apart"], on_node_failure="restart") as session:
            self.exchange(session)
            before = self.shown(session)
            session.workspace("n0").feed_blob("other", np.ones(MIB))
            session.workspace("n0").remove_blob("x 0")
            for size in (MIB // 20, MIB // 8, MIB):
                session.workspace("n0").feed_blob(f"more {size}", np.ones(size))
            assert self.shown(session) == before
            assert not self.in_use(session) & before
            # Nor when another process goes on with the memory.
            send(pid_of(session, "n0"), "SIGKILL")
            with pytest.raises(NodeDiedError):
                session.workspace("n0").fetch_blob("other")
            for size in (MIB // 20, MIB // 8, MIB):
                session.workspace("n0").feed_blob(f"yet more {size}", np.ones(size))
            assert not self.in_use(session) & before

    def exchange(self, session: ProcessSession) -> None:
        session.run(members(2, no_calls, create=True))
        for rank in range(2):
            session.workspace(f"n{rank}").feed_blob("secret", np.ones(MIB // 8))
            session.workspace(f"n{rank}").feed_blob(f"x {rank}", np.ones(MIB // 8))
        session.run(members(2, allreduce, turns=3))

    def shown(self, session: ProcessSession) -> set[str]:
        """The segments of n0 that n1 has mapped, which it may not write."""
        own = set(session._supervisor.nodes["n0"].memory.sizes())
        found = mapped(pid_of(session, "n1")) & own
        assert len(found) == 1
        lines = Path(f"/proc/{pid_of(session, 'n1')}/maps").read_text().splitlines()
        for line in lines:
            if any(name in line for name in found):
                assert line.split()[1] == "r--s"
        assert not mapped(pid_of(session, "apart")) & own
        return found

    def in_use(self, session: ProcessSession) -> set[str]:
        """Where the blobs of n0 lie."""
        workspace = session.workspace("n0")
        held = [workspace.fetch_blob(name) for name in workspace.blobs if name != "world 0"]
        assert len(held) >= 4
        return {lease.segment for lease in session._supervisor.nodes["n0"].memory.leases()}

    def start_and_kill(self, one: ProcessSession, other: ProcessSession) -> None:
        one.workspace("late").feed_blob("x", np.ones(MIB))
        before = mapped(pid_of(one, "late"))
        assert before
        for place, pid in workers(one, other).items():
            assert place == (0, "late") or not mapped(pid) & before
        pid = pid_of(one, "a")
        send(pid, "SIGKILL")
        assert gone([pid])
        other.workspace("later").feed_blob("x", np.ones(MIB))
        later = mapped(pid_of(other, "later"))
        assert not later & before

    def test_nobody_else_may_read_it(self, sessions):
        names = segments()
        assert names
        for name in names:
            status = (SHM / name).stat()
            assert stat.S_IMODE(status.st_mode) == 0o600, name
            assert status.st_uid == os.getuid()

    def test_its_names_cannot_be_guessed(self, sessions):
        """Each has 64 random bits or more that are its own."""
        # All but the lock file, which has nothing in it.
        names = [name for name in segments() if (SHM / name).stat().st_size]
        own = [name.rpartition("-")[2] for name in names]
        assert len(set(own)) == len(own)
        # In letters of which there are 64.
        assert all(6 * len(part) >= 64 for part in own), own
        random_part = "".join(own)
        # All letters come, if they are chosen from many.
        assert len(set(random_part)) > 0.6 * min(64, len(random_part) / math.log(64))


class TestSockets:
    def processes(self, sessions: tuple[ProcessSession, ...]) -> list[int]:
        pids = [os.getpid(), *workers(*sessions).values()]
        pids += [child.pid for child in psutil.Process().children(recursive=True)]
        return list(dict.fromkeys(pids))

    def test_nobody_listens(self, sessions):
        pids = self.processes(sessions)
        assert len(pids) >= 6
        for pid in pids:
            process = psutil.Process(pid)
            ask = getattr(process, "net_connections", None) or process.connections
            for connection in ask("all"):
                assert connection.status != psutil.CONN_LISTEN, (pid, connection)
                assert connection.family.name == "AF_UNIX", (pid, connection)
                # A pair that was made as one has no address at which it could be found.
                assert not connection.laddr, (pid, connection)

    def test_nobody_has_an_address(self, sessions):
        """What the kernel says of all sockets of the kind that the processes have."""
        inodes = set()
        for pid in self.processes(sessions):
            for target in opened(pid).values():
                if target.startswith("socket:["):
                    inodes.add(target[len("socket:[") : -1])
        assert inodes
        seen = 0
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[6] in inodes:
                seen += 1
                accepts = int(fields[3], 16) & 0x10000
                assert not accepts
                assert len(fields) == 7, line  # an eighth would be its address
        assert seen == len(inodes)

    def test_a_worker_has_no_end_of_another_s_connection(self, sessions):
        kinds = ("socket:[", "pipe:[")
        held = {
            place: {target for target in opened(pid).values() if target.startswith(kinds)}
            for place, pid in workers(*sessions).items()
        }
        ours = {target for target in opened(os.getpid()).values() if target.startswith("socket:[")}
        for place, targets in held.items():
            assert any(target.startswith("socket:[") for target in targets)
            for other, others in held.items():
                assert other == place or not targets & others, (place, other)
            # Nor the coordinator's ends.
            assert not targets & ours

    def test_what_a_worker_has_open_is_little(self, sessions):
        for pid in workers(*sessions).values():
            files = opened(pid)
            sockets = [target for target in files.values() if target.startswith("socket:[")]
            assert len(sockets) <= 2
            for number, target in files.items():
                known = ("socket:[", "pipe:[", "anon_inode:[", "/dev/null", f"{SHM}/{PREFIX}")
                assert target.startswith(known) or number < 3, (number, target)


class Note:
    """Leaves a folder behind where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __deepcopy__(self, memo: Any) -> Note:
        return self

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


class TestObjects:
    def test_are_unpickled_when_they_are_asked_for(self, session, tmp_path):
        left = tmp_path / "left"
        path = str(left)

        def make(inputs: Any, outputs: Any) -> None:
            outputs[0].feed([Note(path)])

        net = python_net(make, outputs=["x"])
        run_on(session, "a", net)
        assert session.workspace("a").has_blob("x")
        assert "x" in session.workspace("a").names()
        session.workspace("a").feed_blob("y", 1)
        session.stats()
        assert not left.exists()
        session.workspace("a").fetch_blob("x")
        assert left.exists()

    def test_of_another_s_private_run_are_not(self, session, tmp_path):
        left = tmp_path / "left"
        path = str(left)

        def make(inputs: Any, outputs: Any) -> None:
            outputs[0].feed([Note(path)])

        with TaskGroup() as group, Node("a"):
            Task(step=python_net(make, outputs=["x"]))
        session.run(group)
        session.close()
        assert not left.exists()
