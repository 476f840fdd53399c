"""ProcessSession: the contract on both start methods, and what is its own."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from procession import (
    Net,
    Node,
    NodeDiedError,
    OperatorError,
    Plan,
    ProcessSession,
    RunTimeoutError,
    SerializationError,
    Session,
    SessionClosedError,
    SharedMemoryError,
    Task,
    TaskGroup,
    WorkspaceType,
    execution_step,
)
from procession.blobs.segment import PREFIX
from procession.cluster import blas, forkserver
from procession.cluster.launch import DEFAULT_METHOD
from procession.testing.session_contract import SessionContract, constant

MIB = 1 << 20


class TestProcessSession(SessionContract):
    def make(self, **options: Any) -> Session:
        return ProcessSession(**options)


class TestSpawnedProcessSession(SessionContract):
    def make(self, **options: Any) -> Session:
        return ProcessSession(start_method="spawn", **options)


@pytest.fixture
def session():
    with ProcessSession() as session:
        yield session


def python_net(function: Any, inputs: Any = (), outputs: Any = (), **options: Any) -> Net:
    net = Net(function.__name__)
    net.Python(function, **options)(list(inputs), list(outputs))
    return net


def run_on(session: Session, node: str, runnable: Any, **options: Any) -> None:
    with Node(node):
        session.run(runnable, **options)


def segments() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith(f"{PREFIX}{os.getpid()}-")}


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


class TestStarting:
    def test_named_nodes_are_started_at_once(self):
        with ProcessSession(["a", Node("b")]) as session:
            assert session.nodes == ["a", "b"]
            pids = [stats.pid for stats in session.stats().values()]
            assert len({*pids, os.getpid()}) == 3
            assert all(psutil.pid_exists(pid) for pid in pids)
        assert not any(psutil.pid_exists(pid) for pid in pids)

    def test_others_when_they_are_used(self, session):
        assert session.nodes == []
        assert not session.workspace("a").has_blob("x")
        assert session.nodes == []
        session.workspace("a").feed_blob("x", 1)
        assert session.nodes == ["a"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"nodes": "a"}, "list of names"),
            ({"start_method": "fork"}, "fork"),
            ({"start_method": "sprawn"}, "spawn"),
            ({"threads_per_node": 0}, "threads_per_node"),
            ({"memory_limit": -1}, "memory_limit"),
            ({"timeout": 0}, "timeout"),
        ],
    )
    def test_arguments_that_make_no_sense(self, options, message):
        with pytest.raises(ValueError, match=message):
            ProcessSession(**options)

    def test_a_worker_that_does_not_come_up(self, monkeypatch):
        monkeypatch.setattr("procession.cluster.node.WORKER", "procession.cluster.nowhere:main")
        with pytest.raises(NodeDiedError, match="before it was ready"):
            ProcessSession(["a", "b"])
        assert segments() == set()

    def test_workers_run_in_processes_of_their_own(self, session):
        def who(inputs, outputs):
            outputs[0].feed(np.array(os.getpid()))

        net = python_net(who, outputs=["pid"])
        for node in ("a", "b"):
            run_on(session, node, net)
        pids = {node: int(session.workspace(node).fetch_blob("pid")) for node in ("a", "b")}
        assert pids == {node: stats.pid for node, stats in session.stats().items()}
        assert os.getpid() not in pids.values()


class TestThreads:
    def threads(self, session: ProcessSession, *nodes: str) -> list[Any]:
        def ask(inputs, outputs):
            from procession.cluster import blas

            matrix = np.ones((400, 400))
            matrix @ matrix
            outputs[0].feed(np.array([blas.blas_threads() or 0]))

        net = python_net(ask, outputs=["threads"])
        for node in nodes:
            run_on(session, node, net)
        return [int(session.workspace(node).fetch_blob("threads")[0]) for node in nodes]

    @pytest.fixture(autouse=True)
    def no_choice(self, monkeypatch):
        if blas.blas_threads() is None:
            pytest.skip("NumPy's BLAS cannot be asked")
        for variable in blas.THREAD_VARIABLES:
            monkeypatch.delenv(variable, raising=False)

    def test_the_cores_are_shared_out(self):
        cores = blas.cores()
        with ProcessSession(["a"]) as session:
            assert self.threads(session, "a") == [cores]
            names = ["a", *(f"n{number}" for number in range(cores))]
            for name in names[1:]:
                session.workspace(name).feed_blob("x", 1)
            assert self.threads(session, *names) == [1] * len(names)

    def test_a_number_given(self):
        with ProcessSession(["a", "b"], threads_per_node=3) as session:
            assert self.threads(session, "a", "b") == [3, 3]

    def test_the_environment_wins(self, monkeypatch):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
        with ProcessSession(["a"]) as session:
            assert self.threads(session, "a") == [1]


class TestSharedMemory:
    def test_small_tensors_need_none(self, session):
        session.workspace("a").feed_blob("x", np.zeros(4095, np.uint8))
        assert session.stats()["a"].shared_bytes == 0

    def test_tensors_of_4_kib_and_more_live_there(self, session):
        session.workspace("a").feed_blob("x", np.zeros(4096, np.uint8))
        assert session.stats()["a"].shared_bytes >= 4096
        run_on(session, "b", constant("net", "x", np.zeros(2000)))
        assert session.stats()["b"].shared_bytes >= 8000

    def test_fetching_copies_nothing(self, session):
        session.workspace("a").feed_blob("x", np.arange(10_000))
        first = session.workspace("a").fetch_blob("x")
        second = session.workspace("a").fetch_blob("x")
        assert np.shares_memory(first, second)

    def test_memory_is_used_again(self, session):
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        session.workspace("a").feed_blob("x", np.zeros(MIB, np.float32))
        held = session.workspace("a").fetch_blob("x")
        run_on(session, "a", net)
        taken = session.stats()["a"].shared_bytes
        for _ in range(20):
            held = session.workspace("a").fetch_blob("x")
            run_on(session, "a", net)
        assert held[0] == 20
        assert session.stats()["a"].shared_bytes == taken

    def test_what_is_let_go_of_is_handed_back(self, session):
        workspace = session.workspace("a")
        for size in range(1, 12):
            workspace.feed_blob("x", np.zeros(size * MIB, np.uint8))
        assert session.stats()["a"].shared_bytes < 40 * MIB

    def test_a_memory_limit(self):
        with ProcessSession(memory_limit=3 * MIB) as session:
            workspace = session.workspace("a")
            workspace.feed_blob("x", np.zeros(2 * MIB, np.uint8))
            with pytest.raises(SharedMemoryError, match="memory limit") as caught:
                workspace.feed_blob("y", np.zeros(2 * MIB, np.uint8))
            assert isinstance(caught.value, MemoryError)
            assert (caught.value.limit, caught.value.node) == (3 * MIB, "a")
            net = Net("net")
            net.Add(["x", "x"], "z")
            with pytest.raises(SharedMemoryError, match=r"operator Add\(x, x\) -> z"):
                run_on(session, "a", net)
            assert not workspace.has_blob("z")
            session.workspace("b").feed_blob("y", np.zeros(2 * MIB, np.uint8))
            workspace.remove_blob("x")
            workspace.feed_blob("y", np.ones(2 * MIB, np.uint8))
            assert workspace.fetch_blob("y").all()

    def test_what_the_machine_has_not(self, session):
        status = os.statvfs("/dev/shm")
        too_much = status.f_blocks * status.f_frsize + MIB
        value = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (too_much,), (0,))
        before = segments()
        with pytest.raises(SharedMemoryError, match="shared memory is full") as caught:
            session.workspace("a").feed_blob("x", value)
        assert caught.value.needed >= too_much
        assert segments() - before == segments() - before
        run_on(session, "a", constant("net", "y", 1))
        assert session.workspace("a").names() == ["y"]

    def test_only_the_coordinator_has_names_to_clean_up(self, session):
        before = segments()
        session.workspace("a").feed_blob("x", np.zeros(MIB))
        array = session.workspace("a").fetch_blob("x")
        assert len(segments() - before) > 0
        session.close()
        assert segments() == before
        assert array.sum() == 0

    def test_a_fetched_array_outlives_its_worker(self, session):
        session.workspace("a").feed_blob("x", np.arange(10_000))
        array = session.workspace("a").fetch_blob("x")
        os.kill(session.stats()["a"].pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError):
            session.workspace("a").fetch_blob("x")
        np.testing.assert_array_equal(array, np.arange(10_000))


class TestShipping:
    def test_a_plan_travels_once(self, session):
        net = constant("net", "x", np.zeros(50_000))
        run_on(session, "a", net)
        shipped = session.stats()["a"].plan_bytes
        assert shipped > 100_000
        for _ in range(5):
            run_on(session, "a", net)
        assert session.stats()["a"].plan_bytes == shipped

    def test_what_cannot_be_pickled_is_named(self, session):
        lock = threading.Lock()

        def holds_a_lock(inputs, outputs):
            lock.acquire()

        net = python_net(holds_a_lock)
        with pytest.raises(SerializationError) as caught:
            run_on(session, "a", net)
        error = caught.value
        assert isinstance(error, TypeError)
        for part in ("holds_a_lock", "'lock'", "Python", "test_process.py"):
            assert part in str(error)
        run_on(session, "a", constant("on", "x", 1))

    def test_what_cannot_be_pickled_is_named_by_compile(self):
        lock = threading.Lock()
        net = python_net(lambda inputs, outputs: lock.acquire())
        with pytest.raises(SerializationError, match="'lock'"):
            ProcessSession.compile(net)

    def test_what_cannot_be_pickled_is_named_in_a_nested_net(self, session):
        lock = threading.Lock()

        def holds_a_lock(inputs, outputs):
            lock.acquire()

        inner = python_net(holds_a_lock)
        net = Net("outer")
        net.If([net.Const(True)], [], then_net=inner.Proto())
        with pytest.raises(SerializationError, match="argument 'func' of operator Python") as found:
            run_on(session, "a", net)
        assert str(found.value).startswith("<function")
        assert inner.Name() in str(found.value)

    def test_a_fed_value_that_cannot_be_pickled(self, session):
        with pytest.raises(SerializationError, match="'x'"):
            session.workspace("a").feed_blob("x", threading.Lock())
        session.workspace("a").feed_blob("x", 1)

    def test_a_blob_that_cannot_be_pickled(self, session):
        def make(inputs, outputs, workspace):
            workspace.feed_blob("x", threading.Lock())

        run_on(session, "a", python_net(make, pass_workspace=True))
        with pytest.raises(SerializationError, match="'x' of node 'a'"):
            session.workspace("a").fetch_blob("x")
        run_on(session, "a", constant("on", "y", 1))

    def test_what_cannot_be_loaded_there(self, session):
        class Sly:
            def __call__(self):
                raise AssertionError("it cannot be loaded")

            def __reduce__(self):
                return (_only_here, (os.getpid(),))

        net = Net("net")
        net.Python((Sly(), [], {}))([], [])
        with pytest.raises(SerializationError, match="not on this side"):
            run_on(session, "a", net)
        run_on(session, "a", constant("on", "y", 1))


def _only_here(pid: int) -> Any:
    if pid != os.getpid():
        raise ValueError("not on this side")
    return print


class TestDeath:
    @pytest.mark.parametrize(
        ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")]
    )
    def test_by_a_signal(self, session, number, name):
        def die(inputs, outputs):
            signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
            os.kill(os.getpid(), number)

        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("a"):
            task = Task(step=python_net(die))
        with pytest.raises(NodeDiedError) as caught:
            session.run(group)
        error = caught.value
        assert isinstance(error, RuntimeError)
        assert (error.node, error.signal, error.exitcode) == ("a", name, -number)
        assert (error.task, error.operator) == (task.name, "Python")
        assert error.pid == session.stats()["a"].pid
        for part in ("'a'", name, str(error.pid), task.name, "Python", "test_process.py"):
            assert part in str(error)

    def test_by_an_exit(self, session):
        def leave(inputs, outputs):
            os._exit(3)

        with pytest.raises(NodeDiedError, match="exit code 3") as caught:
            run_on(session, "a", python_net(leave))
        assert (caught.value.exitcode, caught.value.signal) == (3, None)

    @pytest.mark.parametrize("failed_before", [False, True])
    def test_of_an_idle_worker(self, session, failed_before):
        session.workspace("a").feed_blob("x", np.ones((2, 3)))
        if failed_before:
            bad = Net("bad")
            bad.MatMul(["x", "x"], "y")
            with pytest.raises(OperatorError):
                run_on(session, "a", bad)
        os.kill(session.stats()["a"].pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError, match="SIGKILL") as caught:
            session.workspace("a").fetch_blob("x")
        assert (caught.value.task, caught.value.operator) == (None, None)
        assert "MatMul" not in str(caught.value)

    @pytest.mark.skipif(DEFAULT_METHOD != "forkserver", reason="there is no fork server")
    def test_of_the_fork_server(self, session):
        session.workspace("a").feed_blob("x", 1)
        os.kill(forkserver.running_server().pid, signal.SIGKILL)

        def fetch_until_it_is_noticed():
            while True:
                session.workspace("a").fetch_blob("x")

        with pytest.raises(NodeDiedError, match="its fork server ended") as caught:
            fetch_until_it_is_noticed()
        assert caught.value.exitcode is None
        session.workspace("b").feed_blob("x", 2)
        assert session.workspace("b").fetch_blob("x") == 2

    def test_the_others_are_called_off_and_go_on(self, session):
        session.workspace("b").feed_blob("kept", np.arange(5000))
        forever = Net("forever")
        forever.Const(False, "stop")

        def die(inputs, outputs):
            os._exit(1)

        with TaskGroup(WorkspaceType.GLOBAL) as group:
            with Node("a"):
                Task(step=python_net(die))
            with Node("b"):
                Task(step=execution_step("loop", forever, should_stop_blob="stop"))
        with pytest.raises(NodeDiedError):
            session.run(group)
        run_on(session, "b", constant("net", "y", 2))
        assert session.workspace("b").fetch_blob("y") == 2
        np.testing.assert_array_equal(session.workspace("b").fetch_blob("kept"), np.arange(5000))
        for use in (
            lambda: run_on(session, "a", constant("net", "y", 2)),
            lambda: session.workspace("a").fetch_blob("y"),
            lambda: session.workspace("a").feed_blob("y", 1),
            lambda: session.run(group),
        ):
            with pytest.raises(NodeDiedError, match="that was earlier"):
                use()

    def test_its_memory_is_given_back_at_once(self, session):
        session.workspace("a").feed_blob("x", np.zeros(MIB))
        os.kill(session.stats()["a"].pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError):
            session.workspace("a").fetch_blob("x")
        assert segments() == set()

    def test_while_memory_is_being_asked_for(self, session):
        def die(inputs, outputs, workspace):
            workspace.feed_blob("big", np.zeros(3 * MIB, np.uint8))
            os._exit(4)

        with pytest.raises(NodeDiedError, match="exit code 4"):
            run_on(session, "a", python_net(die, pass_workspace=True))

    def test_in_the_middle_of_an_answer(self, session):
        class Killer:
            def __deepcopy__(self, memo):
                return self

            def __reduce__(self):
                os.kill(os.getpid(), signal.SIGKILL)
                return (int, ())

        def plant(inputs, outputs, workspace):
            workspace.feed_blob("x", Killer)

        def arm(inputs, outputs, workspace):
            workspace.feed_blob("x", [workspace.fetch_blob("x")()])

        run_on(session, "a", python_net(plant, pass_workspace=True))
        net = python_net(arm, pass_workspace=True)
        run_on(session, "a", net)
        with pytest.raises(NodeDiedError, match="SIGKILL"):
            session.workspace("a").fetch_blob("x")


class TestTime:
    def test_a_worker_that_will_not_stop_is_killed(self, session):
        session.workspace("b").feed_blob("kept", 1)

        def sleep(inputs, outputs):
            threading.Event().wait(600)

        with TaskGroup() as group:
            with Node("a"):
                Task(step=python_net(sleep))
            with Node("b"):
                Task(step=constant("net", "x", 1))
        began = time.monotonic()
        with pytest.raises(RunTimeoutError, match="'a'") as caught:
            session.run(group, timeout=0.3)
        assert time.monotonic() - began < 30
        assert caught.value.killed == ("a",)
        with pytest.raises(NodeDiedError):
            run_on(session, "a", constant("net", "x", 1))
        assert session.workspace("b").fetch_blob("kept") == 1

    def test_the_session_s_own_timeout(self):
        net = Net("net")
        net.Const(False, "stop")
        with ProcessSession(timeout=0.2) as session:
            with pytest.raises(RunTimeoutError):
                session.run(execution_step("loop", net, should_stop_blob="stop"))
            session.run(constant("net", "x", 1))

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
        assert process.stdout.readline() == "running\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (out, err, process.returncode) == ("interrupted\nrunning\n", "", 0)

    @pytest.mark.parametrize("stops", [True, False], ids=["between operators", "never"])
    def test_closing_ends_a_run_in_another_thread(self, session, tmp_path, stops):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "meet"))
        listener.listen()
        listener.settimeout(30)
        path = str(tmp_path / "meet")

        def meet(inputs, outputs):
            with socket.socket(socket.AF_UNIX) as there:
                there.connect(path)
            threading.Event().wait(0 if stops else 600)

        again = Net("again")
        again.Const(False, "stop")
        loop = execution_step("loop", again, should_stop_blob="stop")
        plan = Plan("plan")
        plan.AddStep(execution_step("meet", python_net(meet)))
        plan.AddStep(loop)
        errors = []

        def run():
            try:
                run_on(session, "a", plan)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        with listener:
            listener.accept()[0].close()
        session.close()
        thread.join(30)
        assert not thread.is_alive()
        assert [type(error) for error in errors] == [SessionClosedError]


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
        assert sorted(out.splitlines()) == ["Hello from node 1.", "Hello from node 2."]

    def test_prints_keep_their_order(self, tmp_path):
        process = script(
            tmp_path,
            """
            from procession import Net, ProcessSession
            net = Net("net")
            net.Print(net.Const("there"), 0)
            with ProcessSession() as session:
                for number in range(3):
                    print("here", number)
                    session.run(net)
            """,
        )
        out, err = process.communicate(timeout=60)
        assert (err, process.returncode) == ("", 0)
        assert out.splitlines() == [
            line for number in range(3) for line in (f"here {number}", "there")
        ]

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
        assert process.stdout.readline() == "busy\n"
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


def test_a_dropped_session_is_closed():
    session = ProcessSession(["a"])
    pid = session.stats()["a"].pid
    del session
    gc.collect()
    assert not psutil.pid_exists(pid)
