"""When memory or files run out: an error that says how much and what to do, and then it goes on.

Each limit is met wherever something is made: in a feed, in a kernel, in a `new_blob`, and by a node
that is to be started. Then the limit is raised, or something is let go of, and the same session
goes on with the same processes: nobody died of a page that was not there.

The limits are those of a script of its own, so that the process of the tests keeps its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import procession

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits, and /dev/shm, of Linux")

PACKAGES = str(Path(procession.__file__).parents[1])
MIB = 1 << 20
LARGE = 3 * MIB

PRELUDE = """
import json, os, resource, sys
import numpy as np
from procession import Net, Node, ProcessSession
from procession.errors import ProcessionError

MIB, LARGE, PAGE = 1 << 20, 3 << 20, 4096
net = Net("net")
net.Add(["x", "x"], "z")


def feed(session):
    session.workspace("a").feed_blob("y", np.full(LARGE, 7, np.uint8))

def kernel(session):
    with Node("a"):
        session.run(net)

def new_blob(session):
    with session.workspace("a").new_blob("n", (LARGE,), np.uint8) as array:
        array[:] = 9

def node(session, started=[]):
    started.append(f"node{len(started)}")
    session.workspace(started[-1]).feed_blob("small", 1)

WAYS = (feed, kernel, new_blob, node)

def outcome(way, session):
    try:
        way(session)
    except ProcessionError as error:
        told = {name: getattr(error, name, None) for name in ("needed", "limit", "node")}
        return {"error": type(error).__name__, "text": str(error), **told}
    return {}

def outcomes(session, ways=WAYS):
    return {way.__name__: outcome(way, session) for way in ways}

def intact(session):
    # Every page is read, and every page of what was made is written.
    workspace = session.workspace("a")
    values = {"x": 3, "y": 7, "z": 6, "n": 9}
    right = {name: bool((workspace.fetch_blob(name) == value).all())
             for name, value in values.items() if workspace.has_blob(name)}
    assert all(right.values()), right
    return sorted(right)

def pid(session):
    return session.stats()["a"].pid

def say(**what):
    print(json.dumps(what), flush=True)

session = ProcessSession(["a"])
session.workspace("a").feed_blob("x", np.full(LARGE, 3, np.uint8))
pid_before = pid(session)
"""

RAISED = """
say(again=outcomes(session), intact=intact(session), same=pid(session) == pid_before)
session.close()
"""


def run(*scripts: str, within: tuple[str, ...] = (), **environment: str) -> dict[str, Any]:
    """What a script says, and nothing else: no warning, no end by a signal, nothing left."""
    script = "\n".join(map(textwrap.dedent, (PRELUDE, *scripts)))
    done = subprocess.run(
        [*within, sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": PACKAGES, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        said.update(json.loads(line))
    return said


def check_it_went_on(said: dict[str, Any]) -> None:
    assert said["again"] == {"feed": {}, "kernel": {}, "new_blob": {}, "node": {}}
    assert said["intact"] == ["n", "x", "y", "z"]
    assert said["same"]


def check_refused(
    found: dict[str, Any], texts: str, kind: str = "OutOfSharedMemoryError", **told: Any
) -> None:
    assert found.get("error") == kind, found
    for text in texts.split(" | "):
        assert text in found["text"], found
    for name, value in told.items():
        assert found[name] == value, found


# RLIMIT_FSIZE: shared memory counts as files.


def test_the_size_of_files() -> None:
    said = run(
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, -1))
        say(found=outcomes(session, WAYS[:3]), kept=intact(session))
        resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, -1))
        say(no_node=outcome(node, session), none=outcome(feed, session), kept=intact(session))
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        """,
        RAISED,
    )
    for way in ("feed", "kernel", "new_blob"):
        check_refused(said["found"][way], "2,097,152 | ulimit -f", limit=2 * MIB, node="a")
        assert said["found"][way]["needed"] >= LARGE
    assert "operator Add(x, x) -> z" in said["found"]["kernel"]["text"]
    check_refused(said["no_node"], "4,096 bytes | ulimit -f", limit=4096, node="node0")
    check_refused(said["none"], "4,096 bytes | ulimit -f", limit=4096, node="a")
    assert said["kept"] == ["x"]
    check_it_went_on(said)


def test_the_size_of_files_and_a_large_environment() -> None:
    """What a new process is told goes through memory, too."""
    said = run(
        """
        for n in range(30):
            os.environ[f"LARGE_{n}"] = "-" * 10_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
        say(no_node=outcome(node, session), kept=intact(session))
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        """,
        RAISED,
    )
    check_refused(said["no_node"], "100,000 bytes | ulimit -f", limit=100_000, node="node0")
    assert said["no_node"]["needed"] > 300_000
    check_it_went_on(said)


def test_the_size_of_files_of_a_worker_is_not_asked_for() -> None:
    """It makes none."""
    said = run("resource.prlimit(pid_before, resource.RLIMIT_FSIZE, (0, 0))", RAISED)
    check_it_went_on(said)


# RLIMIT_NOFILE.


FILL = """
files = []
def fill():
    # There is no number left below the limit.
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            files.append(os.dup(0))
    except OSError:
        pass
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
fill()
say(found=outcomes(session), kept=intact(session))
"""


@pytest.mark.parametrize("way_out", ["files are closed", "the limit is raised"])
def test_open_files(way_out: str) -> None:
    closes = "[os.close(file) for file in files]; resource.setrlimit(resource.RLIMIT_NOFILE, "
    closes += "(resource.getrlimit(resource.RLIMIT_NOFILE)[0] + 20, hard))"
    raises = "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))"
    said = run(FILL, (closes if way_out == "files are closed" else raises), RAISED)
    for way in ("feed", "kernel", "new_blob"):
        check_refused(said["found"][way], "open files | ulimit -n", node="a")
        assert said["found"][way]["needed"] >= LARGE
    check_refused(said["found"]["node"], "node 'node0' | ulimit -n", "OutOfFilesError")
    assert said["found"]["node"]["limit"] > 0
    assert said["kept"] == ["x"]
    check_it_went_on(said)


def test_open_files_of_a_worker() -> None:
    """The coordinator makes the memory, but the worker cannot map it: it is given back."""
    said = run(
        """
        limits = resource.prlimit(pid_before, resource.RLIMIT_NOFILE)
        resource.prlimit(pid_before, resource.RLIMIT_NOFILE, (1, limits[1]))
        say(found=outcomes(session, WAYS[:3]), kept=intact(session))
        before = session.stats()["a"].shared_bytes
        for _ in range(5):
            assert outcome(feed, session)
        say(grown=session.stats()["a"].shared_bytes - before)
        resource.prlimit(pid_before, resource.RLIMIT_NOFILE, limits)
        """,
        RAISED,
    )
    for way in ("feed", "kernel", "new_blob"):
        check_refused(said["found"][way], "open files | have 1: | ulimit -n", node="a")
        assert said["found"][way]["needed"] >= LARGE
    assert said["kept"] == ["x"]
    assert said["grown"] <= 0
    check_it_went_on(said)


# RLIMIT_AS.


@pytest.mark.parametrize("whose", ["the coordinator", "the worker"])
def test_address_space(whose: str) -> None:
    said = run(
        f"whose = {'os.getpid()' if whose == 'the coordinator' else 'pid_before'}",
        """
        with open(f"/proc/{whose}/statm") as file:
            limit = int(file.read().split()[0]) * PAGE + 2 * MIB
        limits = resource.prlimit(whose, resource.RLIMIT_AS)
        resource.prlimit(whose, resource.RLIMIT_AS, (limit, limits[1]))
        say(limit=limit, found=outcome(new_blob, session))
        resource.prlimit(whose, resource.RLIMIT_AS, limits)
        say(kept=intact(session))
        """,
        RAISED,
    )
    check_refused(said["found"], f"{said['limit']:,} bytes | ulimit -v", limit=said["limit"])
    assert said["found"]["needed"] >= LARGE
    assert said["kept"] == ["x"]
    check_it_went_on(said)


# memory_limit; feeds and kernels are in tests/session/test_process_memory.py.


def test_the_memory_limit_of_a_session() -> None:
    said = run(
        """
        session.close()
        session = ProcessSession(["a"], memory_limit=5 * MIB)
        workspace = session.workspace("a")
        workspace.feed_blob("x", np.full(LARGE, 3, np.uint8))
        held = workspace.fetch_blob("x")
        pid_before = pid(session)
        say(found=outcomes(session, WAYS[:3]), other=outcome(node, session))
        workspace.remove_blob("x")
        say(still=outcome(new_blob, session), held=bool((held == 3).all()))
        del held
        say(freed=outcome(new_blob, session), kept=intact(session),
            same=pid(session) == pid_before)
        session.close()
        """
    )
    for found in (*said["found"].values(), said["still"]):
        check_refused(found, "memory limit | 5,242,880 taken", limit=5 * MIB, node="a")
        assert found["needed"] >= LARGE
    assert (said["other"], said["held"], said["freed"]) == ({}, True, {})
    assert (said["kept"], said["same"]) == (["n"], True)


# /dev/shm is too small.


def own_shm(options: str) -> tuple[str, ...]:
    """The beginning of a command that runs in a place where /dev/shm is small."""
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    if unshare is None or mount is None:
        pytest.skip("there is no unshare, or no mount")
    script = f'{mount} -t tmpfs -o {options} none /dev/shm && exec "$@"'
    flags = "-m" if os.geteuid() == 0 else "-rm"
    within = (unshare, flags, "sh", "-c", script, "sh")
    tried = subprocess.run([*within, "true"], capture_output=True, text=True, timeout=60)
    if tried.returncode:
        pytest.skip(f"no /dev/shm of its own can be mounted here: {tried.stderr.strip()}")
    return within


def test_shared_memory_is_too_small() -> None:
    said = run(
        """
        def fill():
            status = os.statvfs("/dev/shm")
            with open("/dev/shm/other", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, (status.f_bavail - 2) * status.f_frsize)

        workspace = session.workspace("a")
        workspace.feed_blob("other", np.full(LARGE, 1, np.uint8))
        say(found=outcomes(session, WAYS[:3]), node_with_room=outcome(node, session))
        fill()
        say(no_node=outcome(node, session), kept=intact(session))
        os.unlink("/dev/shm/other")
        workspace.remove_blob("other")
        say(again={"feed": outcome(feed, session)}, still=outcome(kernel, session))
        workspace.remove_blob("y")
        say(freed=outcome(kernel, session), intact=intact(session),
            same=pid(session) == pid_before)
        session.close()
        say(left=os.listdir("/dev/shm"))
        """,
        within=own_shm(f"size={8 * MIB}"),
    )
    for found in (*said["found"].values(), said["still"]):
        check_refused(found, "shared memory is full | free in /dev/shm | --shm-size", node="a")
        assert found["needed"] >= LARGE
    assert said["node_with_room"] == {}
    check_refused(said["no_node"], "shared memory is full | 8,192 free", node="node1")
    assert said["kept"] == ["x"]
    assert (said["again"], said["freed"]) == ({"feed": {}}, {})
    assert (said["intact"], said["same"], said["left"]) == (["x", "z"], True, [])


def test_shared_memory_has_no_room_for_more_names() -> None:
    said = run(
        """
        names = iter(range(1000))
        def fill():
            try:
                while True:
                    open(f"/dev/shm/other{next(names)}", "x").close()
            except OSError:
                pass

        fill()
        say(found=outcomes(session), kept=intact(session))
        for name in os.listdir("/dev/shm"):
            if name.startswith("other"):
                os.unlink(f"/dev/shm/{name}")
        """,
        RAISED,
        within=own_shm("size=64m,nr_inodes=30"),
    )
    for found in said["found"].values():
        check_refused(found, "no more files can be made there")
    assert said["kept"] == ["x"]
    check_it_went_on(said)


OTHERS = """
import os, random
chance, parent = random.Random(2), os.getppid()
while os.getppid() == parent:
    with open("/dev/shm/other", "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, chance.randrange(4096, 16 << 20))
        except OSError:
            pass
"""


def test_shared_memory_that_others_take_and_give_back() -> None:
    """Whatever they do in between, an answer is right or a refusal, and nobody dies."""
    said = run(
        f"OTHERS = {OTHERS!r}",
        """
        import random, subprocess
        chance = random.Random(1)
        others = subprocess.Popen([sys.executable, "-c", OTHERS], stdout=subprocess.DEVNULL)
        workspace, counts = session.workspace("a"), {"right": 0, "refused": 0}
        for n in range(60):
            size = chance.randrange(PAGE, 4 * MIB)
            try:
                workspace.feed_blob("y", np.full(size, n % 251, np.uint8))
            except ProcessionError as error:
                assert "shared memory is full" in str(error), error
                counts["refused"] += 1
                if workspace.has_blob("y"):
                    workspace.remove_blob("y")
            else:
                array = workspace.fetch_blob("y")
                assert array.size == size and (array == n % 251).all()
                counts["right"] += 1
            array = None
        others.kill()
        others.wait()
        os.unlink("/dev/shm/other")
        say(counts=counts)
        """,
        RAISED,
        within=own_shm(f"size={16 * MIB}"),
    )
    assert sum(said["counts"].values()) == 60
    check_it_went_on(said)


def test_more_than_the_machine_has() -> None:
    """Where no small /dev/shm can be had; a feed is in tests/session/test_process_memory.py."""
    said = run(
        """
        status = os.statvfs("/dev/shm")
        whole = status.f_blocks * status.f_frsize
        def too_large(session):
            with session.workspace("a").new_blob("n", (whole + PAGE,), np.uint8):
                pass
        say(limited=bool(whole), found=outcome(too_large, session), whole=whole)
        """,
        RAISED,
    )
    if not said["limited"]:
        pytest.skip("/dev/shm has no limit here")
    check_refused(said["found"], "shared memory is full | --shm-size", node="a")
    assert said["found"]["needed"] > said["whole"]
    check_it_went_on(said)
