"""Processes that a worker has started end with it, however it ends, and not before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.faults import offspring
from tests.faults.offspring import KINDS
from tests.session.process_nodes import python_net, run_on

import procession
from procession import ProcessSession
from procession.cluster.launch import METHODS, UNKNOWN_EXITCODE, WorkerProcess, start_worker

HERE = Path(__file__).parent
WITHIN = 1.0
"""Seconds in which everything is promised to be gone."""
DEADLINE = 15

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans over")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start(method: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a worker of offspring.py, and sees to its end."""
    monkeypatch.syspath_prepend(str(HERE))
    with contextlib.ExitStack() as workers:

        def start(target: str, argument: bytes = b"") -> WorkerProcess:
            worker = start_worker(f"offspring:{target}", argument, method=method)
            workers.callback(end, worker)
            return worker

        yield start


def end(worker: WorkerProcess) -> None:
    worker.kill()
    worker.gone(DEADLINE)
    worker.close()


def receive(worker: WorkerProcess) -> Any:
    assert worker.connection.poll(DEADLINE), "the worker does not answer"
    return worker.connection.recv()


def family(start: Any, *kinds: str) -> tuple[WorkerProcess, list[psutil.Process]]:
    """A worker with children, and these."""
    worker = start("family", json.dumps(kinds).encode())
    found = [psutil.Process(pid) for pids in receive(worker).values() for pid in pids]
    assert all(process.is_running() for process in found)
    return worker, found


def alive(processes: list[psutil.Process], within: float = WITHIN) -> list[psutil.Process]:
    """Those that are still there when time is up; zombies, too."""
    return psutil.wait_procs(processes, timeout=within)[1]


class TestAWorkerEnds:
    @pytest.mark.parametrize("how", ["killed", "segfault", "os._exit", "returns"])
    def test_and_so_do_its_children(self, start, how) -> None:
        worker, children = family(start, *KINDS)
        codes = {"killed": -signal.SIGKILL, "segfault": -signal.SIGSEGV, "os._exit": 3}
        if how in ("killed", "segfault"):
            os.kill(worker.pid, -codes[how])
        else:
            worker.connection.send("exit" if how == "os._exit" else "return")
        assert worker.join(DEADLINE)
        assert worker.exitcode() == codes.get(how, 0)
        assert worker.gone(WITHIN)
        # Nobody but the worker's keeper reaps them, and he has.
        assert alive(children, 0) == []

    def test_as_it_is_given_up(self, start) -> None:
        worker, children = family(start, "fork", "daemon", "tree")
        process = psutil.Process(worker.pid)
        worker.close()
        assert alive([process, *children]) == []

    def test_while_it_is_stopped(self, start) -> None:
        worker, children = family(start, "fork", "deaf")
        os.kill(worker.pid, signal.SIGSTOP)
        worker.kill()
        assert worker.gone(WITHIN)
        assert worker.exitcode() == -signal.SIGKILL
        assert alive(children, 0) == []

    def test_and_a_tracker_of_its_own_still_does_its_work(self, start) -> None:
        worker = start("pool")
        pids, name = receive(worker)
        processes = [psutil.Process(pid) for pid in pids]
        path = Path("/dev/shm", name)
        assert path.exists()
        worker.kill()
        assert worker.gone(DEADLINE)
        assert alive(processes, 0) == []
        assert not path.exists()

    def test_without_children(self, start) -> None:
        worker, _ = family(start)
        assert not worker.gone(0)
        worker.connection.send("return")
        assert worker.gone(DEADLINE)
        worker.close()
        assert worker.gone(0)

    def test_as_its_session_is_closed(self, method) -> None:
        def start_some(inputs: Any, outputs: Any) -> None:
            pids = [pid for kind in ("fork", "daemon", "tree") for pid in offspring.start(kind)]
            outputs[0].feed(pids)

        with ProcessSession(["a"], start_method=method) as session:
            run_on(session, "a", python_net(start_some, outputs=["pids"]))
            children = [psutil.Process(pid) for pid in session.workspace("a").fetch_blob("pids")]
            run_on(session, "a", python_net(start_some, outputs=["more"]))
            assert all(child.is_running() for child in children)
            children += [psutil.Process(pid) for pid in session.workspace("a").fetch_blob("more")]
        assert alive(children) == []


class TestAWorkerLives:
    def test_while_others_end_with_theirs(self, start) -> None:
        kept, children = family(start, "fork", "daemon", "deaf", "tree")
        for _ in range(2):
            other, others = family(start, "fork", "daemon")
            other.kill()
            assert other.gone(WITHIN)
            assert alive(others, 0) == []
        assert len(alive(children, 0)) == len(children)
        assert kept.exitcode() is None
        kept.kill()
        assert kept.gone(WITHIN)
        assert alive(children, 0) == []

    def test_and_gets_no_strangers_to_wait_for(self, start) -> None:
        worker = start("wait_for_anybody")
        orphan = psutil.Process(receive(worker))
        assert not worker.connection.poll(0)
        worker.connection.send("go")
        assert receive(worker) == "nobody else"
        # That one ends before its worker does, and is reaped all the same.
        assert alive([orphan], DEADLINE) == []
        assert worker.exitcode() is None

    def test_when_the_group_of_another_is_signalled(self, start) -> None:
        first, second = start("signal_the_group"), family(start, "fork")
        first.connection.send("go")
        assert first.join(DEADLINE)
        assert first.exitcode() == -signal.SIGTERM
        assert second[0].exitcode() is None
        assert len(alive(second[1], 0)) == 1


class TestAKeeperDies:
    """A worker's parent: the fork server, or a process of its own."""

    @pytest.mark.parametrize("work", [b"native", b"stopped"])
    def test_and_so_does_the_worker_whatever_it_is_doing(self, start, work) -> None:
        worker = start("busy", work)
        receive(worker)
        process = psutil.Process(worker.pid)
        process.parent().kill()
        assert worker.join(DEADLINE)
        assert worker.exitcode() == UNKNOWN_EXITCODE
        assert worker.lost
        assert gone_or_zombie(process)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_in_an_orderly_way(self, start, number) -> None:
        worker, children = family(start, "fork", "daemon", "deaf", "tree")
        keeper = psutil.Process(worker.pid).parent()
        keeper.send_signal(number)
        assert worker.gone(WITHIN)
        assert worker.exitcode() == -signal.SIGKILL
        assert alive(children, 0) == []
        again, _ = family(start)
        assert again.exitcode() is None


def gone_or_zombie(process: psutil.Process) -> bool:
    """Of one whose parent is dead: a container may have nobody who reaps it."""
    return alive([process]) == [] or process.status() == psutil.STATUS_ZOMBIE


SCRIPT = """
import json, os, sys
from procession.cluster.launch import start_worker
workers = []
for kinds in {families}:
    workers.append(start_worker("offspring:family", json.dumps(kinds).encode(), method={method!r}))
for work in {works}:
    workers.append(start_worker("offspring:busy", work, method={method!r}))
pids = []
for worker in workers:
    answer = worker.connection.recv()
    pids.append(worker.pid)
    pids += [] if answer == "ready" else sum(answer.values(), [])
print(json.dumps(pids), flush=True)
sys.stdin.readline()
{end}
"""


class TestTheCoordinatorEnds:
    @pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "sys.exit()"])
    def test_and_so_does_everybody(self, method, how, tmp_path) -> None:
        families = [["fork", "daemon", "deaf", "tree"], ["subprocess", "stopped"]]
        works = [b"native", b"stopped"]
        path = tmp_path / "script.py"
        path.write_text(SCRIPT.format(families=families, works=works, method=method, end=how))
        packages = Path(procession.__file__).parents[1]
        with subprocess.Popen(
            [sys.executable, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(packages)])},
        ) as process:
            processes = [psutil.Process(pid) for pid in json.loads(process.stdout.readline())]
            assert len(processes) == 2 + 2 + 6 + 2
            keepers = [each.parent() for each in processes if each.parent() not in processes]
            process.stdin.write("\n")
            process.stdin.flush()
            process.wait(DEADLINE)
            assert alive(processes) == []
        assert all(map(gone_or_zombie, keepers))
