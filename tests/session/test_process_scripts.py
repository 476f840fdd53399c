"""ProcessSession in scripts of a user's: what they print, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from procession.blobs.segment import PREFIX


def script(tmp_path: Path, text: str, *arguments: str, **options: Any) -> subprocess.Popen:
    """A script of the user's, running. It has no guard around anything."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    _scripts.append(process)
    return process


_scripts: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def no_script_is_left(no_leaks):
    """One that a failed test did not see to the end is ended here."""
    yield
    while _scripts:
        process = _scripts.pop()
        process.kill()
        process.communicate(timeout=30)


def wait_gone(pids: list[int], within: float = 10) -> list[int]:
    """Those of the processes that are still there when time is up."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        alive = [pid for pid in pids if psutil.pid_exists(pid)]
        if not alive:
            return []
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            psutil.Process(alive[0]).wait(timeout=0.05)
    return [pid for pid in pids if psutil.pid_exists(pid)]


EXAMPLE = """
from procession import core, Net, Node, Task, TaskGroup, WorkspaceType, LocalSession, ProcessSession

net = Net('test1')
net.Add([net.Const(1), net.Const(2)])

net2 = net.Clone()
step = core.execution_step('step1', [net2])

with TaskGroup(WorkspaceType.GLOBAL) as init_tg:
    with Node('node1'):
        n1setup = net.Net('n1setup')
        n1msg = n1setup.Const('Hello from node 1.')
        Task(step=n1setup)

with TaskGroup() as private_tg:
    with Node('node1'):
        n1 = net.Net('n1')
        n1.Print(n1msg, 0)
        Task(step=n1)
    with Node('node2'):
        n2 = net.Net('n2')
        n2.Print(n2.Const('Hello from node 2.'), 0)
        Task(step=n2)

session = SESSION()
session.run(net)
session.run(step)
session.run(init_tg)
session.run(private_tg)
"""


class TestScripts:
    @pytest.mark.parametrize("kind", ["ProcessSession", "LocalSession"])
    def test_the_documented_example(self, tmp_path, kind):
        process = script(tmp_path, EXAMPLE.replace("SESSION", kind))
        out, err = process.communicate(timeout=60)
        assert (err, process.returncode) == ("", 0)
        prefixes = ("[node1] ", "[node2] ") if kind == "ProcessSession" else ("", "")
        wanted = [f"{prefix}Hello from node {n}." for n, prefix in enumerate(prefixes, 1)]
        assert sorted(out.splitlines()) == wanted

    @pytest.mark.parametrize("prefix", [True, False])
    def test_prints_keep_their_order(self, tmp_path, prefix):
        process = script(
            tmp_path,
            f"""
            from procession import Net, ProcessSession
            net = Net("net")
            net.Print(net.Const("there"), 0)
            with ProcessSession(log_prefix={prefix}) as session:
                for number in range(3):
                    print("here", number)
                    session.run(net)
            """,
        )
        out, err = process.communicate(timeout=60)
        assert (err, process.returncode) == ("", 0)
        assert out.splitlines() == [
            line
            for number in range(3)
            for line in (f"here {number}", "[local] there" if prefix else "there")
        ]

    def test_ctrl_c_calls_the_run_off_and_the_session_goes_on(self, tmp_path):
        process = script(
            tmp_path,
            """
            import signal
            from procession import Net, Node, ProcessSession, execution_step
            # Whoever runs the tests in the background may have it ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            session = ProcessSession()
            net = Net("net")
            net.Const(False, "stop")
            begin = Net("begin")
            begin.Print(begin.Const("running"), 0)
            loop = execution_step("loop", net, should_stop_blob="stop")
            try:
                session.run(execution_step("all", [execution_step("b", begin), loop]))
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            session.run(begin)
            session.close()
            """,
            start_new_session=True,
        )
        assert process.stdout.readline() == "[local] running\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (out, err, process.returncode) == ("interrupted\n[local] running\n", "", 0)

    @pytest.mark.parametrize(
        ("method", "group"), [("forkserver", False), ("spawn", False), ("forkserver", True)]
    )
    def test_a_coordinator_that_is_killed_leaves_nothing(self, tmp_path, method, group):
        process = script(
            tmp_path,
            f"""
            import numpy as np
            from procession import Net, Node, ProcessSession, Task, TaskGroup
            def busy(inputs, outputs):
                while True:
                    pass
            session = ProcessSession(["a", "b"], start_method="{method}")
            session.workspace("a").feed_blob("x", np.zeros(1 << 20))
            print(*(stats.pid for stats in session.stats().values()), flush=True)
            net = Net("net")
            net.Print(net.Const("busy"), 0)
            net.Python(busy)([], [])
            with Node("b"):
                session.run(net)
            """,
            start_new_session=True,
        )
        pids = [int(word) for word in process.stdout.readline().split()]
        assert process.stdout.readline() == "[b] busy\n"
        me = psutil.Process(process.pid)
        pids += [child.pid for child in me.children(recursive=True)]
        own = f"{PREFIX}{process.pid}-"
        assert any(name.startswith(own) for name in os.listdir("/dev/shm"))
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate(timeout=30)
        assert wait_gone(pids) == []
        assert not any(name.startswith(own) for name in os.listdir("/dev/shm"))

    def test_an_exception_in_the_script_leaves_nothing(self, tmp_path):
        process = script(
            tmp_path,
            """
            import numpy as np
            from procession import ProcessSession
            session = ProcessSession(["a"])
            session.workspace("a").feed_blob("x", np.zeros(1 << 20))
            x = session.workspace("a").fetch_blob("x")
            print(session.stats()["a"].pid, flush=True)
            raise SystemExit(7)
            """,
        )
        out, err = process.communicate(timeout=60)
        assert (err, process.returncode) == ("", 7)
        assert wait_gone([int(out)]) == []
        assert not any(
            name.startswith(f"{PREFIX}{process.pid}-") for name in os.listdir("/dev/shm")
        )

    def test_a_forked_copy_does_not_end_the_session(self, tmp_path):
        process = script(
            tmp_path,
            """
            import gc, os
            from procession import ProcessSession
            session = ProcessSession(["a"])
            session.workspace("a").feed_blob("x", 3)
            child = os.fork()
            if child == 0:
                session.close()
                del session
                gc.collect()
                os._exit(0)
            os.waitpid(child, 0)
            print(session.workspace("a").fetch_blob("x"))
            session.close()
            """,
        )
        out, err = process.communicate(timeout=60)
        assert (out, err, process.returncode) == ("3\n", "", 0)
