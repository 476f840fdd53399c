"""LocalSession: the contract, and what is its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import numpy as np
import pytest

from procession import (
    BlobIsolationError,
    LocalSession,
    Net,
    Node,
    Plan,
    Session,
    SessionClosedError,
    Task,
    TaskGroup,
    Workspace,
    WorkspaceType,
    execution_step,
)
from procession.testing.session_contract import SessionContract, constant


class TestLocalSession(SessionContract):
    isolates = False

    def make(self, **options: Any) -> Session:
        return LocalSession(**options)

    def name_of(self, node: str) -> str:
        return "local"


class TestIsolatedLocalSession(SessionContract):
    def make(self, **options: Any) -> Session:
        return LocalSession(isolate=True, **options)


def test_all_nodes_share_one_workspace():
    with LocalSession() as session:
        with Node("a"):
            session.run(constant("net", "x", 1))
        assert session.workspace("b").fetch_blob("x") == 1
        assert session.workspace().fetch_blob("x") == 1


def test_tasks_of_different_nodes_share_a_private_workspace_as_in_caffe2():
    first, second = Net("first"), Net("second")
    with TaskGroup(WorkspaceType.PRIVATE) as group:
        with Node("a"):
            Task(step=first)
        with Node("b"):
            Task(step=second)
    with LocalSession() as session:
        session.run(group)
        assert session.workspace().names() == []


def test_a_given_workspace_is_used_and_left_alone():
    workspace = Workspace()
    workspace.feed_blob("x", 2)
    net = Net("net")
    net.Add(["x", "x"], "y")
    with LocalSession(workspace) as session:
        session.run(net)
    assert workspace.fetch_blob("y") == 4
    with LocalSession(ws=workspace, isolate=True) as session:
        assert session.workspace().fetch_blob("y") == 4
        assert not session.workspace("other").has_blob("y")


def test_a_workspace_has_to_be_one():
    with pytest.raises(TypeError, match="Workspace"):
        LocalSession({"x": 1})  # type: ignore[arg-type]


def test_isolation_is_of_the_class_so_that_compile_knows():
    make, read = Net("make"), Net("read")
    read.Relu(make.Const(1.0, "x"), "y")
    with TaskGroup() as group:
        with Node("a"):
            Task(step=make)
        with Node("b"):
            Task(step=read)
    session = LocalSession(isolate=True)
    assert isinstance(session, LocalSession)
    with pytest.raises(BlobIsolationError):
        type(session).compile(group)
    compiled = LocalSession.compile(group)
    with pytest.raises(BlobIsolationError):
        session.run(compiled)
    session.close()


def test_fetching_large_tensors_copies_nothing():
    with LocalSession() as session:
        session.workspace().feed_blob("x", np.zeros(100_000))
        first = session.workspace().fetch_blob("x")
        second = session.workspace().fetch_blob("x")
        assert np.shares_memory(first, second)


def test_others_wait_while_something_runs():
    began, go_on = threading.Event(), threading.Event()

    def hold(inputs, outputs):
        began.set()
        assert go_on.wait(30)

    net = Net("net")
    net.Python(hold)([], [])
    net.Const(1, "x")
    with LocalSession() as session:
        runner = threading.Thread(target=session.run, args=(net,))
        runner.start()
        assert began.wait(30)
        found = []
        other = threading.Thread(target=lambda: found.append(session.workspace().fetch_blob("x")))
        other.start()
        go_on.set()
        runner.join(30)
        other.join(30)
        assert found == [1]


@pytest.mark.parametrize("tasks", [1, 2])
def test_what_a_run_calls_may_use_the_session(tasks):
    with LocalSession() as session:

        def look(inputs, outputs):
            session.workspace().feed_blob("y", session.workspace().fetch_blob("x") + 1)

        session.workspace().feed_blob("x", 1)
        with TaskGroup() as group:
            for number in range(tasks):
                net = Net(f"net{number}")
                net.Python(look)([], [])
                Task(step=net)
        session.run(group, timeout=30)
        assert session.workspace().fetch_blob("y") == 2


def test_closing_calls_off_a_run_in_another_thread():
    began = threading.Event()

    def begin(inputs, outputs):
        began.set()

    first, again = Net("first"), Net("again")
    first.Python(begin)([], [])
    again.Const(False, "stop")
    plan = Plan("plan")
    plan.AddStep(execution_step("first", first))
    plan.AddStep(execution_step("loop", again, should_stop_blob="stop"))
    session = LocalSession()
    errors = []

    def run():
        try:
            session.run(plan)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(30)
    session.close()
    thread.join(30)
    assert [type(error) for error in errors] == [SessionClosedError]


def test_ctrl_c_ends_all_tasks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import signal
            from procession import LocalSession, Net, Task, TaskGroup, execution_step
            # Whoever runs the tests in the background may have it ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with TaskGroup() as group:
                for number in range(2):
                    net = Net(f"net{number}")
                    net.Const(False, f"stop{number}")
                    begin = Net(f"begin{number}")
                    begin.Print(begin.Const("running"), 0)
                    loop = execution_step("loop", net, should_stop_blob=f"stop{number}")
                    Task(step=execution_step("all", [execution_step("begin", begin), loop]))
            with LocalSession() as session:
                try:
                    session.run(group)
                except KeyboardInterrupt:
                    print("interrupted")
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-u", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out.splitlines()[-1], err, process.returncode) == ("interrupted", "", 0)


def test_a_reader_with_a_blob_of_its_own_is_not_refused():
    make, use = Net("make"), Net("use")
    make.Const(1, "x")
    use.Copy("x", "y")
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        with Node("a"):
            Task(step=make)
        with Node("b"):
            Task(step=use)
    with LocalSession(isolate=True) as session:
        with pytest.raises(BlobIsolationError):
            session.run(group)
        session.workspace("b").feed_blob("x", 7)
        session.run(group)
        assert session.workspace("b").fetch_blob("y") == 7


def test_fetched_object_arrays_are_read_only():
    with LocalSession() as session:
        session.workspace().feed_blob("x", np.array(["a", None], dtype=object))
        assert not session.workspace().fetch_blob("x").flags.writeable
