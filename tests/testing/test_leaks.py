"""The pytest plugin, as strangers use it: on test files of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import procession
from procession.cluster.launch import METHODS
from procession.testing import leaks

PACKAGES = str(Path(procession.__file__).parents[1])

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")


def run(folder: Path, tests: str, *options: str, settings: str = "") -> str:
    """What pytest says of these tests."""
    (folder / "test_theirs.py").write_text(textwrap.dedent(tests), encoding="utf-8")
    (folder / "pytest.ini").write_text(f"[pytest]\n{settings}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options, "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout


CLEAN = """
    import subprocess, sys, threading
    import numpy as np
    import pytest
    from procession import Net, Node, ProcessSession, Task, TaskGroup, WorkspaceType
    from procession.cluster.launch import METHODS

    def test_session():
        with ProcessSession(["a"]) as session:
            session.workspace("a").feed_blob("x", np.zeros(1 << 20))
            assert not session.workspace("a").fetch_blob("x").any()

    def test_session_that_only_becomes_garbage():
        ProcessSession(["a"]).workspace("a").feed_blob("x", np.zeros(1 << 20))

    @pytest.fixture(scope="module", params=METHODS)
    def session(request):
        with ProcessSession(["a"], start_method=request.param) as session:
            yield session

    @pytest.mark.parametrize("value", [1, 2])
    def test_session_of_the_module(session, value):
        session.workspace("a").feed_blob("x", np.full(1 << 20, value))
        session.workspace(f"b{value}").feed_blob("x", np.full(1 << 20, value))

    def test_common_world_of_the_module(session):
        net = Net("net")
        net.CreateCommonWorld([], "world", size=1, rank=0, name="all")
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            Task(step=net, node=Node("a"))
        session.run(group)

    def test_process():
        subprocess.run([sys.executable, "-c", ""], check=True)

    def test_thread_on_its_way_out():
        threading.Timer(0.2, int).start()
"""


def test_who_leaves_nothing_passes(tmp_path: Path) -> None:
    said = run(tmp_path, CLEAN, "-p", "procession.testing.leaks", "-W", "error")
    assert re.search(rf"= {4 + 3 * len(METHODS)} passed in ", said), said


def test_a_conftest_brings_it_in(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["procession.testing.leaks"]\n')
    tests = """
        import pytest

        @pytest.mark.leaks
        def test_of_any_kind(request):
            assert "no_leaks" in request.fixturenames
    """
    said = run(tmp_path, tests, "--strict-markers", "-W", "error")
    assert re.search(r"= 1 passed in ", said), said


LEAKING = """
    import os, subprocess, sys, threading
    import numpy as np
    import pytest
    from procession import ProcessSession

    kept = []

    def test_session():
        kept.append(ProcessSession(["first"]))
        kept[0].workspace("first").feed_blob("x", np.zeros(1 << 20, np.uint8))

    def test_process():
        kept.append(subprocess.Popen([sys.executable, "-c", "input('mine')"], stdin=-1, stdout=-3))

    def test_stray():
        code = "import os; os.fork() or os.execlp('sleep', 'sleep', '60')"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_file():
        kept.append(open("pytest.ini"))

    def test_thread():
        wait = threading.Event()
        kept.append(wait)
        threading.Thread(target=wait.wait, name="forgotten").start()

    @pytest.mark.leaks
    def test_on_purpose():
        kept.append(open("pytest.ini"))

    def test_nothing():
        pass

    @pytest.fixture(autouse=True, scope="module")
    def mend():
        yield
        kept[3].set()
"""


@linux
def test_who_leaves_something_is_told_what_it_is_and_what_to_do(tmp_path: Path) -> None:
    said = run(tmp_path, LEAKING, "-p", "procession.testing.leaks", settings="leaks_within = 0.2")
    stray = re.search(r"process (\d+), started by a process that has ended: sleep 60", said)
    assert stray, said
    os.kill(int(stray[1]), signal.SIGKILL)
    assert re.search(r"= 7 passed, 5 errors in ", said), said
    parts = re.split(r"_+ ERROR at teardown of (test_\w+) _+\n", said.partition("= PASSES =")[0])
    told = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(told) == {"test_session", "test_process", "test_stray", "test_file", "test_thread"}
    for name, patterns in {
        "test_session": [
            r"  process \d+ of node 'first': ",
            r"  segment procession-\d+-[\w.-]+ of node 'first' \(1,\d{3},\d{3} bytes\)\n",
            r"with` block, or call its close",
        ],
        "test_process": [r"  process \d+: .*input\('mine'\)", r"Popen.terminate"],
        "test_stray": [r"Popen.terminate"],
        "test_file": [r"  file descriptor \d+ -> .*pytest.ini\n", r"Close files"],
        "test_thread": [r"  thread forgotten\n", r"Join threads"],
    }.items():
        assert told[name].startswith("left behind:\n"), said
        for pattern in [*patterns, r"@pytest\.mark\.leaks"]:
            assert re.search(pattern, told[name]), (pattern, said)
        # Only what is the matter.
        assert ("Join threads" in told[name]) == (name == "test_thread")


def test_a_setting_that_is_no_number_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "procession.testing.leaks", "-o", "leaks_within=x"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "leaks_within is a number of seconds, not 'x'" in done.stderr


@linux
def test_the_lock_file_is_no_leak() -> None:
    from procession.blobs.segment import Segment

    before = leaks.Belongings.now()
    one = Segment.create(4096)
    left = leaks.Belongings.now().left_since(before)
    assert left[0] == f"segment {one.name} (4,096 bytes)"
    assert not any(line.rstrip().endswith(one.name.rpartition("-")[0]) for line in left)
    one.unlink()
    one.close()
