"""ProcessSession: a worker that dies or will not stop ends the run, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    Net,
    Node,
    NodeDiedError,
    OperatorError,
    Plan,
    ProcessSession,
    RunTimeoutError,
    SessionClosedError,
    Task,
    TaskGroup,
    WorkspaceType,
    execution_step,
)
from procession.cluster import forkserver
from procession.cluster.launch import DEFAULT_METHOD
from procession.testing.session_contract import constant

MIB = 1 << 20


class TestDeath:
    @pytest.mark.parametrize(
        ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")]
    )
    def test_by_a_signal(self, session, number, name):
        def die(inputs, outputs):
            signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
            os.kill(os.getpid(), number)

        net = Net("net")
        net.Python(die)([], [])
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("a"):
            task = Task(step=net)
        with pytest.raises(NodeDiedError) as caught:
            session.run(group)
        error = caught.value
        assert isinstance(error, RuntimeError)
        assert (error.node, error.signal, error.exitcode) == ("a", name, -number)
        assert (error.task, error.operator) == (task.name, "Python")
        assert error.pid == session.stats()["a"].pid
        for part in ("'a'", name, str(error.pid), task.name, "Python", "test_process_failures.py"):
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

        with pytest.raises(NodeDiedError, match="was lost, because its parent") as caught:
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


class TestNodesThatAreLeft:
    def test_do_the_calls_of_one_that_died(self):
        with ProcessSession(["a", "b"]) as session:
            with pytest.raises(NodeDiedError, match="in function"):
                session.submit(lambda: os.kill(os.getpid(), signal.SIGKILL), node="a").result(30)
            assert list(session.map(abs, range(-20, 0))) == list(range(20, 0, -1))
            with pytest.raises(NodeDiedError, match="that was earlier"):
                session.submit(abs, 1, node="a").result(30)

    def test_none_are_left(self):
        with ProcessSession(["a"]) as session:
            futures = [session.submit(os._exit, 3) for _ in range(3)]
            for future in futures:
                with pytest.raises(NodeDiedError):
                    future.result(30)

    def test_map_takes_a_list_of_nodes(self, session):
        with pytest.raises(ValueError, match="list of nodes"):
            session.map(abs, [1], nodes="n1")


def test_too_few_files(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import resource
from procession import OutOfFilesError, ProcessSession
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
with ProcessSession(["first"]) as session:
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
    try:
        ProcessSession([f"n{n}" for n in range(20)])
    except OutOfFilesError as error:
        assert isinstance(error, OSError) and error.limit == 60, vars(error)
        print(error)
    session.workspace("first").feed_blob("x", 1)
    assert session.workspace("first").fetch_blob("x") == 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    session.workspace("second").feed_blob("x", 1)
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ulimit -n" in done.stdout
