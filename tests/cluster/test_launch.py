from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import psutil
import pytest

import procession
from procession.cluster import forkserver, handover, launch
from procession.cluster.launch import METHODS, UNKNOWN_EXITCODE, WorkerProcess, start_worker

HERE = Path(__file__).parent
PACKAGES = Path(procession.__file__).parents[1]
DEADLINE = 30

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Starts a worker, and sees to its end."""
    monkeypatch.syspath_prepend(str(HERE))
    with contextlib.ExitStack() as workers:

        def start(
            target: str, argument: bytes = b"", method: str | None = None, **environment: str
        ) -> WorkerProcess:
            worker = start_worker(
                f"targets:{target}", argument, method=method, environment=environment
            )
            workers.callback(end, worker)
            return worker

        yield start


def end(worker: WorkerProcess) -> None:
    worker.kill()
    gone = worker.join(DEADLINE)
    worker.close()
    assert gone or worker.exitcode() is None


def receive(worker: WorkerProcess) -> object:
    assert worker.connection.poll(DEADLINE), "the worker does not answer"
    return worker.connection.recv()


def code(worker: WorkerProcess) -> int | None:
    assert worker.join(DEADLINE), "the worker does not end"
    return worker.exitcode()


def files() -> set[str]:
    for thread in threading.enumerate():
        if thread.name.startswith("procession-wait"):
            thread.join(DEADLINE)
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE)
    # A container may have nobody who reaps what is left behind.
    return all(
        not process.is_running() or process.status() == psutil.STATUS_ZOMBIE for process in alive
    )


@contextlib.contextmanager
def script(
    tmp_path: Path, text: str, *options: str, **keywords: object
) -> Iterator[subprocess.Popen[str]]:
    """A coordinator of its own, without an `if __name__` guard."""
    path = tmp_path / "script.py"
    path.write_text(
        "from procession.cluster import forkserver\n"
        "from procession.cluster.launch import METHODS, start_worker\n" + textwrap.dedent(text)
    )
    paths = [str(HERE), str(PACKAGES)]
    process = subprocess.Popen(
        [sys.executable, *options, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        **keywords,
    )
    try:
        with process:
            try:
                yield process
            finally:
                process.stdin.close()
                if process.poll() is None and sys.exc_info()[0] is not None:
                    process.kill()
    finally:
        assert process.poll() is not None


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=DEADLINE)
    assert (err, process.returncode) == ("", 0)
    return out


class TestMethods:
    def test_default(self) -> None:
        assert launch.resolve_method(None) == launch.DEFAULT_METHOD
        assert [launch.resolve_method(name) for name in METHODS] == list(METHODS)

    def test_fork_is_refused_with_the_reason(self) -> None:
        with pytest.raises(ValueError, match=r"locks.*'spawn'"):
            launch.resolve_method("fork")

    def test_unknown_gets_the_list(self) -> None:
        with pytest.raises(ValueError, match=r"there are .*'spawn'\. Did you mean 'spawn'\?"):
            launch.resolve_method("spam")

    def test_target_without_function(self) -> None:
        with pytest.raises(ValueError, match="module:function"):
            start_worker("targets", b"")


class TestStart:
    def test_an_interpreter_that_ends_at_once(self, start, monkeypatch) -> None:
        monkeypatch.setattr(handover, "get_executable", lambda: "/bin/false")
        with pytest.raises(RuntimeError, match="new interpreter ended"):
            start("echo", method="spawn")

    def test_an_interpreter_that_does_not_begin(self, monkeypatch, tmp_path) -> None:
        path = tmp_path / "python"
        path.write_text("#!/bin/sh\nexec sleep 1000\n")
        path.chmod(0o700)
        monkeypatch.setattr(handover, "get_executable", lambda: str(path))
        before = files()
        with pytest.raises(TimeoutError, match="too long"):
            start_worker("targets:echo", b"", method="spawn", timeout=0.1)
        assert files() - before == set()

    @pytest.mark.skipif("forkserver" not in METHODS, reason="not on this system")
    def test_a_server_that_stands_still(self, start) -> None:
        server = forkserver.running_server().pid
        os.kill(server, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError, match="too long"):
                start_worker("targets:echo", b"", method="forkserver", timeout=0.1)
        finally:
            os.kill(server, signal.SIGCONT)
        # That one is forked, and given up, before this one.
        assert receive(start("echo", b"next", "forkserver")) == b"next"


class TestConversation:
    def test_echo(self, start, method) -> None:
        worker = start("echo", b"argument", method)
        assert receive(worker) == b"argument"
        worker.connection.send({"a": 1})
        assert receive(worker) == {"a": 1}
        assert psutil.Process(worker.pid).is_running()
        assert worker.exitcode() is None
        assert not worker.join(0)
        worker.connection.send(None)
        assert code(worker) == 0

    def test_an_argument_larger_than_any_pipe(self, start, method) -> None:
        assert receive(start("size", bytes(5_000_000), method)) == 5_000_000

    def test_without_what_only_linux_has(self, start, method, monkeypatch) -> None:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        forkserver.shut_down()  # the next is packed into an ordinary file
        worker = start("echo", b"argument", method)
        assert receive(worker) == b"argument"
        worker.kill()
        assert code(worker) == -signal.SIGKILL

    def test_many_at_once(self, start, method) -> None:
        workers = [start("echo", b"%d" % i, method) for i in range(4)]
        assert [receive(worker) for worker in workers] == [b"0", b"1", b"2", b"3"]
        assert len({worker.pid for worker in workers}) == 4

    def test_from_many_threads(self, start, method) -> None:
        workers: list[WorkerProcess] = []
        starters = [
            threading.Thread(target=lambda: workers.append(start("echo", method=method)))
            for _ in range(4)
        ]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join(DEADLINE)
        assert [receive(worker) for worker in workers] == [b""] * 4


class TestEnd:
    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            (b"return", 0),
            (b"exit 0", 0),
            (b"exit 3", 3),
            (b"message goodbye", 1),
            (b"raise goodbye", 1),
            (b"signal %d" % signal.SIGKILL, -signal.SIGKILL),
            (b"signal %d" % signal.SIGSEGV, -signal.SIGSEGV),
        ],
    )
    def test_exitcode(self, start, method, how, expected, capfd) -> None:
        worker = start("leave", how, method)
        assert code(worker) == expected
        assert worker.exitcode() == expected
        out, err = capfd.readouterr()
        assert ("goodbye" in err) == (expected == 1)
        assert ("Traceback" in err) == (how == b"raise goodbye")
        assert out == ("on my way" if expected >= 0 else "")
        worker.close()
        assert worker.exitcode() == expected

    def test_what_cannot_be_imported(self, method, capfd) -> None:
        worker = start_worker("not_there:main", b"", method=method)
        assert code(worker) == 1
        worker.close()
        assert "No module named 'not_there'" in capfd.readouterr().err

    def test_sentinel_tells_of_a_process_that_is_reaped(self, start, method) -> None:
        worker = start("echo", method=method)
        receive(worker)
        assert wait([worker.sentinel], 0) == []
        worker.connection.send(None)
        # The connection's end may be the first to be seen.
        assert wait([worker.sentinel], DEADLINE) == [worker.sentinel]
        assert not psutil.pid_exists(worker.pid)
        assert worker.exitcode() == 0
        assert wait([worker.sentinel], 0) == [worker.sentinel]

    def test_kill(self, start, method) -> None:
        worker = start("busy", b"loop", method)
        receive(worker)
        worker.kill()
        assert code(worker) == -signal.SIGKILL
        worker.kill()
        worker.close()
        worker.close()
        worker.kill()
        assert worker.join(0)

    @pytest.mark.parametrize("work", [b"loop", b"sleep"])
    def test_closing_ends_a_running_worker(self, start, method, work) -> None:
        worker = start("busy", work, method)
        receive(worker)
        process = psutil.Process(worker.pid)
        worker.close()
        assert worker.exitcode() is None
        assert not worker.join(0)
        assert all_gone([process])

    def test_a_worker_ends_with_its_connection(self, start, method) -> None:
        worker = start("share_the_connection", method=method)
        child = psutil.Process(receive(worker))
        # Unread, and that changes nothing. Neither does the child, which holds the other end, too.
        worker.connection.send("a message")
        worker.connection.close()
        assert code(worker) == 1
        assert all_gone([child])

    def test_a_connection_that_nobody_holds_stays(self, start, method) -> None:
        assert code(start("drop_the_connection", method=method)) == 7

    @linux
    def test_its_keeper_ends_a_worker_that_lets_no_thread_run(self, start, method) -> None:
        worker = start("busy", b"holding the GIL", method)
        receive(worker)
        process = psutil.Process(worker.pid)
        worker.close()
        assert all_gone([process])

    @linux
    def test_no_file_is_left_open(self, start, method) -> None:
        code(start("leave", b"return", method))  # makes the server
        end(start("echo", method=method))
        before = files()
        for how in (b"return", b"exit 3", b"signal 9", b"raise x"):
            worker = start("leave", how, method)
            code(worker)
            worker.close()
        killed = start("busy", b"sleep", method)
        end(killed)
        with pytest.raises(ValueError, match="method"):
            start("echo", method="nonsense")
        assert files() - before == set()


class TestWhatArrives:
    @linux
    def test_surroundings(self, start, method, tmp_path, monkeypatch) -> None:
        receive(start("describe", method=method))  # a server that knows older ones
        (tmp_path / "unheard_of.py").write_text("")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(".")
        monkeypatch.setenv("PROCESSION_TEST", "of the coordinator")
        monkeypatch.setenv("PROCESSION_OTHER", "\udcff")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(sys, "argv", ["a", "b c"])
        worker = start("describe", b"import", method, PROCESSION_TEST="of the request")
        seen = receive(worker)
        assert seen["environ"] == {**os.environ, "PROCESSION_TEST": "of the request"}
        assert seen["cwd"] == str(tmp_path.resolve())
        assert seen["path"] == sys.path
        assert seen["argv"] == ["a", "b c"]
        assert Path(seen["found"]).resolve() == (tmp_path / "unheard_of.py").resolve()
        assert seen["null"][0]
        assert seen["stdin"] == ""
        assert seen["group"] == worker.pid

    @linux
    def test_no_file_of_others(self, start, method) -> None:
        sibling = start("echo", method=method)
        seen = receive(start("describe", method=method))
        assert seen["inheritable"] == []
        kinds = sorted(name.partition(":")[0] for name in seen["files"])
        # The connection; and the directory that is being read.
        assert [kind for kind in kinds if not kind.startswith("/proc")] == ["socket"]
        assert receive(sibling) == b""

    def test_output_goes_where_the_coordinators_goes_at_that_time(
        self, start, method, tmp_path
    ) -> None:
        saved = os.dup(1), os.dup(2)
        workers = []
        try:
            for name in ("first", "second"):
                for fd, stream in ((1, "out"), (2, "err")):
                    with open(tmp_path / f"{name}.{stream}", "wb") as file:
                        os.dup2(file.fileno(), fd)
                workers.append(start("say", name.encode(), method))
        finally:
            for fd, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, fd)
                os.close(copy)
        for worker in workers:
            worker.connection.send("now")
            assert code(worker) == 0
        for name in ("first", "second"):
            out = (tmp_path / f"{name}.out").read_text()
            assert out == f"{name} from print 1\nfrom a child\n"
            assert (tmp_path / f"{name}.err").read_text() == f"{name} from stderr\n"

    def test_one_print_is_one_write(self, start, method) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        saved = os.dup(1)
        with ours, theirs:
            os.dup2(theirs.fileno(), 1)
            try:
                worker = start("long_line", method=method)
            finally:
                os.dup2(saved, 1)
                os.close(saved)
            assert code(worker) == 0
            ours.settimeout(DEADLINE)
            # Two prints, two datagrams.
            assert ours.recv(100_000) == b"a b 3\n"
            assert len(ours.recv(100_000)) == 30_001

    def test_closed_standard_files_become_null(self, tmp_path) -> None:
        result = tmp_path / "result"
        text = f"""
            import json, os
            for fd in (0, 1, 2):
                os.close(fd)
            workers = [
                start_worker("targets:describe", b"", method=m) for m in METHODS for _ in "ab"
            ]
            seen = [worker.connection.recv()["null"] for worker in workers]
            codes = [worker.join(20) and worker.exitcode() for worker in workers]
            with open({str(result)!r}, "w") as file:
                json.dump([seen, codes], file)
        """
        with script(tmp_path, text) as process:
            process.wait(DEADLINE)
        assert json.loads(result.read_text()) == [
            [[True] * 3] * 2 * len(METHODS),
            [0] * 2 * len(METHODS),
        ]

    def test_main_is_not_imported_again(self, tmp_path) -> None:
        text = """
            print("main", flush=True)
            for method in METHODS:
                worker = start_worker("targets:describe", b"", method=method)
                print(worker.connection.recv()["main"])
                worker.join(20)
                worker.close()
        """
        with script(tmp_path, text) as process:
            assert finish(process) == "main\n" + "None\n" * len(METHODS)

    def test_flags_and_no_warnings(self, tmp_path) -> None:
        text = """
            abandoned = []
            for method in METHODS:
                worker = start_worker("targets:describe", b"", method=method)
                print(worker.connection.recv()["flags"])
                print(worker.join(20), worker.exitcode())
                worker.close()
                abandoned.append(start_worker("targets:echo", b"", method=method))
        """
        options = ("-O", "-X", "dev", "-W", "error")
        with script(tmp_path, text, *options) as process:
            lines = finish(process).splitlines()
        assert len(lines) == 2 * len(METHODS)
        for flags, ended in zip(lines[::2], lines[1::2], strict=True):
            assert flags.startswith("(1, True, ")
            assert "'error']" in flags
            assert ended == "True 0"

    def test_isolated_mode(self, tmp_path) -> None:
        # -I ignores PYTHONPATH; the coordinator's own sys.path has to do.
        text = f"""
            import sys
            sys.path[:0] = {[str(HERE), str(PACKAGES)]!r}
            from procession.cluster.launch import METHODS, start_worker
            for method in METHODS:
                worker = start_worker("targets:echo", b"isolated", method=method)
                print(worker.connection.recv())
        """
        path = tmp_path / "isolated.py"
        path.write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-I", str(path)], capture_output=True, text=True, timeout=DEADLINE
        )
        assert (done.stdout, done.stderr) == ("b'isolated'\n" * len(METHODS), "")

    def test_siblings_draw_different_numbers(self, start, method) -> None:
        drawn = [receive(start("numbers", method=method)) for _ in range(3)]
        assert len({python for python, _ in drawn}) == 3
        assert len({numpy for _, numpy in drawn}) == 3


class TestDeathOfTheCoordinator:
    @pytest.mark.parametrize("forked_copy", [False, True])
    def test_killed_while_workers_are_busy(self, forked_copy, tmp_path) -> None:
        text = f"""
            import json, os, sys
            works = (b"loop", b"sleep", b"holding the GIL")
            jobs = [(method, work) for method in METHODS for work in works]
            workers = [start_worker("targets:busy", work, method=m) for m, work in jobs]
            for worker in workers:
                assert worker.connection.recv() == "ready"
            pids = [worker.pid for worker in workers] + [forkserver.running_server().pid]
            if {forked_copy} and os.fork() == 0:
                sys.stdin.read()  # outlives the coordinator
                os._exit(0)
            print(json.dumps(pids), flush=True)
            sys.stdin.read()
        """
        with script(tmp_path, text) as process:
            pids = json.loads(process.stdout.readline())
            processes = [psutil.Process(pid) for pid in pids]
            server = " ".join(processes[-1].cmdline())
            assert "procession" in server
            assert "forkserver" in server
            process.kill()
            assert all_gone(processes)

    def test_nothing_is_left_after_a_normal_end(self, tmp_path) -> None:
        text = """
            workers = [start_worker("targets:busy", b"loop", method=m) for m in METHODS]
            print(*[worker.pid for worker in workers], forkserver.running_server().pid)
        """
        with script(tmp_path, text, "-X", "dev", "-W", "error") as process:
            pids = finish(process).split()
        assert len(pids) == len(METHODS) + 1
        assert not any(psutil.pid_exists(int(pid)) for pid in pids)


@pytest.mark.skipif("forkserver" not in METHODS, reason="not on this system")
class TestForkServer:
    def test_is_shared_and_without_threads(self, start) -> None:
        start("echo", method="forkserver")
        server = forkserver.running_server()
        receive(start("echo", method="forkserver"))
        assert forkserver.running_server() is server
        assert psutil.Process(server.pid).num_threads() == 1

    @linux
    def test_a_worker_costs_little_memory_of_its_own(self, start) -> None:
        worker = start("echo", method="forkserver")
        receive(worker)
        # Else it would keep what it then imports, in each worker, to itself.
        assert psutil.Process(worker.pid).memory_full_info().uss < 6 << 20

    def test_a_worker_imports_nothing_by_itself(self) -> None:
        net = procession.Net("net")
        net.MatMul(["x", "x"], "y")
        net.UniformFill([], "z", shape=[3])
        listing = procession.Net("listing")
        listing.Python(lambda _, outputs: outputs[0].feed(" ".join(sys.modules)))(
            ["y"], ["modules"]
        )
        group = procession.TaskGroup(procession.WorkspaceType.GLOBAL)
        with group, procession.Node("n"):
            procession.Task(step=[net, listing])
        with procession.ProcessSession(start_method="forkserver") as session:
            workspace = session.workspace("n")
            workspace.feed_blob("x", np.ones((100, 100)))
            session.run(group)
            assert workspace.fetch_blob("y").shape == (100, 100)
            modules = set(str(workspace.fetch_blob("modules")).split())
        text = (
            f"import sys; [__import__(name) for name in {forkserver.PRELOAD}]; print(*sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
        assert modules - set(done.stdout.split()) == set()

    def test_killed_with_a_worker_running(self, start) -> None:
        worker = start("busy", b"sleep", "forkserver")
        receive(worker)
        process = psutil.Process(worker.pid)
        first = forkserver.running_server()
        os.kill(first.pid, signal.SIGKILL)
        assert wait([worker.sentinel], DEADLINE)
        assert worker.exitcode() == UNKNOWN_EXITCODE
        assert worker.join(DEADLINE)
        assert all_gone([process])
        assert receive(start("echo", b"next", "forkserver")) == b"next"
        assert forkserver.running_server().pid != first.pid

    def test_killed_at_any_time(self, start) -> None:
        for _ in range(5):
            os.kill(forkserver.running_server().pid, signal.SIGKILL)
            worker = start("echo", b"next", "forkserver")
            assert receive(worker) == b"next"
        os.kill(forkserver.running_server().pid, signal.SIGKILL)
        worker.kill()
        assert code(worker) in (-signal.SIGKILL, UNKNOWN_EXITCODE)

    def test_that_cannot_start(self, start, monkeypatch) -> None:
        forkserver.shut_down()
        with monkeypatch.context() as patch:
            patch.setattr("procession.cluster.handover.get_executable", lambda: "/bin/false")
            with pytest.raises(RuntimeError, match="'spawn' does without"):
                start("echo", method="forkserver")
        assert receive(start("echo", method="forkserver")) == b""

    @linux
    def test_short_of_files(self, start, monkeypatch) -> None:
        # What goes unanswered is waited for, as the server might be ending.
        monkeypatch.setattr(launch, "GIVE_UP_AFTER", 0)
        receive(start("echo", method="forkserver"))
        server = forkserver.running_server().pid
        limit = resource.prlimit(server, resource.RLIMIT_NOFILE)
        used = {int(fd.name) for fd in Path(f"/proc/{server}/fd").iterdir()}
        free = [fd for fd in range(100) if fd not in used]
        for spare in (0, 1, 3):
            resource.prlimit(server, resource.RLIMIT_NOFILE, (free[spare], limit[1]))
            with pytest.raises(OSError, match="file") as caught:
                start("echo", method="forkserver")
            assert caught.value.errno in (errno.EMFILE, None)
        resource.prlimit(server, resource.RLIMIT_NOFILE, limit)
        assert receive(start("echo", b"again", "forkserver")) == b"again"
        assert forkserver.running_server().pid == server

    def test_a_forked_copy_of_the_coordinator_makes_its_own(self, tmp_path) -> None:
        text = """
            import os, sys, threading
            mine = [start_worker("targets:echo", b"mine", method=m) for m in METHODS]
            for worker in mine:
                assert worker.connection.recv() == b"mine"
            server = forkserver.running_server().pid
            copy = os.fork()
            if copy == 0:
                for worker in mine:
                    worker.kill()  # not ours: nothing happens
                    worker.close()
                worker = start_worker("targets:echo", b"copy", method="forkserver")
                assert worker.connection.recv() == b"copy"
                assert forkserver.running_server().pid != server
                sys.exit(7)  # with all of atexit
            assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 7
            for worker in mine:
                worker.connection.send("still there")
                print(worker.connection.recv())
            assert forkserver.running_server().pid == server
        """
        with script(tmp_path, text, "-X", "dev") as process:
            out, err = process.communicate(timeout=DEADLINE)
        assert out == "still there\nstill there\n"
        # The copy was made of a process with threads, which newer Pythons warn of.
        assert [line for line in err.splitlines() if "Error" in line or "Resource" in line] == []


class TestInterrupts:
    def test_of_the_whole_group_leave_workers_alone(self, tmp_path) -> None:
        text = """
            import os, signal
            signal.signal(signal.SIGINT, lambda number, frame: print("interrupted", flush=True))
            workers = [start_worker("targets:echo", b"", method=m) for m in METHODS]
            for worker in workers:
                worker.connection.recv()
            server = forkserver.running_server().pid
            print("ready", flush=True)
            input()
            for worker in workers:
                worker.connection.send("alive")
                print(worker.connection.recv())
            assert forkserver.running_server().pid == server
        """
        with script(tmp_path, text, start_new_session=True) as process:
            assert process.stdout.readline() == "ready\n"
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            process.stdin.write("\n")
            assert finish(process) == "alive\nalive\n"

    def test_while_processes_start(self, method, tmp_path) -> None:
        text = f"""
            import os, signal, threading
            signal.signal(signal.SIGINT, lambda number, frame: None)
            def start():
                worker = start_worker("targets:echo", b"started", method={method!r})
                print(worker.connection.recv())
            starter = threading.Thread(target=start)
            starter.start()
            while starter.is_alive():
                os.killpg(0, signal.SIGINT)
                starter.join(0.001)
        """
        with script(tmp_path, text, start_new_session=True) as process:
            assert finish(process) == "b'started'\n"

    def test_children_of_workers_are_interrupted_as_usual(self, start, method) -> None:
        worker = start("interrupt_a_child", method=method)
        assert receive(worker) == (-signal.SIGINT, b"")
