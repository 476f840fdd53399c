"""What every session promises, as tests.

Subclass it and say how to make one:

    class TestMySession(SessionContract):
        def make(self, **options):
            return MySession(**options)

`isolates` says whether nodes are kept apart.
"""

from __future__ import annotations

import gc
import inspect
import re
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from procession.compiler.compiled import CompiledRunnable
from procession.errors import (
    BlobIsolationError,
    BlobNotFoundError,
    GraphError,
    OperatorError,
    OutputNotReadyError,
    ProcessionError,
    RunnableTypeError,
    RunTimeoutError,
    SessionClosedError,
)
from procession.graph.net import Net
from procession.graph.step import Plan, execution_step
from procession.graph.task import (
    Node,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
    final_output,
)
from procession.operators import REGISTRY, emit, operator
from procession.session.base import Session

SMALL, LARGE = (3,), (2048,)
"""Shapes of float32 tensors below and above the size that goes to shared memory."""


def raises_and_tells(inputs: Any, outputs: Any) -> None:
    """A Python operator that raises an error of its own."""
    raise LookupError("the operator's own words")


class UnpicklableError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.lock = threading.Lock()


class UnloadableError(Exception):
    """An exception that can be pickled and not be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def constant(name: str, blob: str, value: Any) -> Net:
    """A net that writes one blob."""
    net = Net(name)
    net.Const(value, blob)
    return net


class SessionContract:
    """The tests. Those about nodes that see each other differ by `isolates`."""

    isolates = True

    def make(self, **options: Any) -> Session:
        """A new session."""
        raise NotImplementedError

    @pytest.fixture
    def session(self) -> Iterator[Session]:
        """A session that is closed after the test."""
        with self.make() as session:
            yield session

    # Runnables.

    def test_runs_a_net(self, session: Session) -> None:
        net = Net("net")
        total = net.Add([net.Const(1), net.Const(2)])
        session.run(net)
        assert session.workspace().fetch_blob(total) == 3

    def test_runs_a_step_as_often_as_it_says(self, session: Session) -> None:
        session.run(constant("init", "x", 0))
        net = Net("count")
        net.Add(["x", net.Const(1)], ["x"])
        session.run(execution_step("step", net, num_iter=5))
        assert session.workspace().fetch_blob("x") == 5

    def test_runs_a_plan_in_order(self, session: Session) -> None:
        double = Net("double")
        double.Add(["x", "x"], ["x"])
        plan = Plan("plan")
        plan.AddStep(execution_step("first", constant("init", "x", 3)))
        plan.AddStep(execution_step("then", double, num_iter=2))
        session.run(plan)
        assert session.workspace().fetch_blob("x") == 12

    def test_runs_a_task_globally(self, session: Session) -> None:
        with Node("n"):
            session.run(Task(step=constant("net", "x", 7)))
        assert session.workspace("n").fetch_blob("x") == 7

    def test_runs_a_task_group(self, session: Session) -> None:
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for number, name in enumerate(("a", "b")):
                with Node(name):
                    Task(step=constant(f"net_{name}", f"x_{name}", number))
        session.run(group)
        assert session.workspace("a").fetch_blob("x_a") == 0
        assert session.workspace("b").fetch_blob("x_b") == 1

    def test_runs_what_compile_returned(self, session: Session) -> None:
        net = Net("count")
        net.Add(["x", net.Const(1)], ["x"])
        session.run(constant("init", "x", 0))
        compiled = session.compile(net)
        assert isinstance(compiled, CompiledRunnable)
        assert type(session).compile(compiled) is compiled
        for _ in range(3):
            session.run(compiled)
        assert session.workspace().fetch_blob("x") == 3

    def test_compile_is_a_classmethod(self) -> None:
        assert isinstance(inspect.getattr_static(Session, "compile"), classmethod)

    def test_an_empty_task_group_runs(self, session: Session) -> None:
        with TaskGroup() as group:
            pass
        session.run(group)
        assert session.nodes == ()

    @pytest.mark.parametrize("wrong", [None, 42, "net", [], Net, TaskOutput("x")], ids=repr)
    def test_refuses_what_is_no_runnable(self, session: Session, wrong: Any) -> None:
        for use in (session.run, session.compile):
            with pytest.raises(RunnableTypeError, match="a session runs a Net") as caught:
                use(wrong)
            assert isinstance(caught.value, TypeError)

    def test_a_plan_without_steps_is_refused(self, session: Session) -> None:
        with pytest.raises(GraphError, match="no steps"):
            session.run(Plan("empty"))

    def test_a_changed_net_runs_as_changed(self, session: Session) -> None:
        net = constant("net", "x", 1)
        session.run(net)
        net.Const(2, "y")
        session.run(net)
        assert session.workspace().fetch_blob("y") == 2

    def test_a_net_deep_inside_a_group_runs_as_changed(self, session: Session) -> None:
        net = constant("net", "x", 1)
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            Task(step=execution_step("outer", [execution_step("inner", net)]))
        session.run(group)
        net.Const(2, "y")
        session.run(group)
        assert session.workspace().fetch_blob("y") == 2

    def test_a_compiled_net_is_a_picture_of_its_moment(self, session: Session) -> None:
        net = constant("net", "x", 1)
        compiled = session.compile(net)
        net.Const(2, "y")
        session.run(compiled)
        assert not session.workspace().has_blob("y")

    def test_what_was_run_cannot_be_added_to(self, session: Session) -> None:
        with TaskGroup() as group:
            task = Task(step=constant("net", "x", 1))
        session.run(group)
        with pytest.raises(GraphError):
            group.add(Task(step=constant("net", "y", 1)))
        with pytest.raises(GraphError):
            task.add_output("x")

    def test_the_cache_keeps_nothing_alive(self, session: Session) -> None:
        net = constant("net", "x", 1)
        session.run(net)
        gone = weakref.ref(net)
        del net
        gc.collect()
        assert gone() is None

    def test_many_runnables_come_and_go(self, session: Session) -> None:
        for number in range(20):
            session.run(constant("net", "x", number))
        assert session.workspace().fetch_blob("x") == 19

    def test_runs_on_the_current_node(self, session: Session) -> None:
        net = constant("net", "x", 1)
        with Node("elsewhere"):
            session.run(net)
        assert "elsewhere" in session.nodes
        assert session.workspace("elsewhere").has_blob("x")
        session.run(net)
        assert session.workspace("local").has_blob("x")

    # Workspaces.

    def test_global_blobs_live_as_long_as_the_session(self, session: Session) -> None:
        with TaskGroup(WorkspaceType.GLOBAL) as first, Node("n"):
            Task(step=constant("first", "x", 4))
        use = Net("use")
        use.Add(["x", "x"], ["y"])
        with TaskGroup(WorkspaceType.GLOBAL) as second, Node("n"):
            Task(step=use)
        session.run(first)
        session.run(second)
        assert session.workspace("n").fetch_blob("y") == 8

    def test_private_blobs_are_gone_after_the_run(self, session: Session) -> None:
        with TaskGroup(WorkspaceType.PRIVATE) as group, Node("n"):
            Task(step=constant("net", "x", np.zeros(LARGE)))
        session.run(group)
        assert not session.workspace("n").has_blob("x")
        with pytest.raises(BlobNotFoundError):
            session.workspace("n").fetch_blob("x")

    def test_a_group_is_private_unless_it_says_otherwise(self, session: Session) -> None:
        with TaskGroup() as group:
            Task(step=constant("net", "x", 1))
        session.run(group)
        assert not session.workspace().has_blob("x")

    def test_a_private_run_sees_and_writes_global_blobs(self, session: Session) -> None:
        session.run(constant("init", "x", 1))
        net = Net("net")
        net.Add(["x", "x"], ["x"])
        with TaskGroup(WorkspaceType.PRIVATE) as group:
            Task(step=net)
        session.run(group)
        assert session.workspace().fetch_blob("x") == 2

    def test_each_private_run_begins_anew(self, session: Session) -> None:
        net = Net("net")
        net.Python(_fails_if_there, pass_workspace=True)([], [])
        net.Const(1, "x")
        with TaskGroup() as group:
            Task(step=net)
        session.run(group)
        session.run(group)

    def test_tasks_of_a_node_share_a_workspace_within_a_run(self, session: Session) -> None:
        first, second = Net("first"), Net("second")
        first.Python(_make_and_meet, pass_workspace=True)([], [])
        second.Python(_meet_and_read, pass_workspace=True)([], ["seen"])
        with TaskGroup() as group, Node("n"):
            Task(step=first)
            task = Task(step=second, outputs=["seen"])
        session.run(group, timeout=60)
        assert task.outputs()[0].fetch() == 11

    def test_feed_and_fetch(self, session: Session) -> None:
        workspace = session.workspace("n")
        for value in (
            np.arange(6, dtype=np.int32).reshape(2, 3),
            np.arange(5000, dtype=np.float64),
            np.asfortranarray(np.arange(3000.0).reshape(50, 60)),
            np.zeros((0, 3), np.float32),
            np.array(True),
            np.arange(4000)[::-2],
            np.array(["a", "bcd"]),
            np.array(["a", None, 3], dtype=object),
            np.zeros(700, [("a", np.int64), ("b", np.float32)]),
            np.arange("2020-01", "2060-01", dtype="datetime64[D]"),
            np.arange(3000, dtype=">i4"),
        ):
            workspace.feed_blob("x", value)
            fetched = workspace.fetch_blob("x")
            np.testing.assert_array_equal(fetched, value)
            assert fetched.dtype == value.dtype
            assert fetched.shape == value.shape

    @pytest.mark.parametrize(
        ("value", "dtype"), [(3, np.int64), (2.5, np.float32), (True, np.bool_)]
    )
    def test_numbers_become_tensors(self, session: Session, value: Any, dtype: Any) -> None:
        workspace = session.workspace()
        workspace.feed_blob("x", value)
        fetched = workspace.fetch_blob("x")
        assert fetched.shape == ()
        assert fetched.dtype == dtype
        assert fetched == value

    @pytest.mark.parametrize("value", ["text", b"bytes", {"a": [1, 2]}, None, (1, "x")], ids=repr)
    def test_objects_stay_what_they_are(self, session: Session, value: Any) -> None:
        session.workspace().feed_blob("x", value)
        assert session.workspace().fetch_blob("x") == value

    def test_fed_objects_are_copies(self, session: Session) -> None:
        value = {"list": [1]}
        session.workspace().feed_blob("x", value)
        value["list"].append(2)
        fetched = session.workspace().fetch_blob("x")
        assert fetched == {"list": [1]}
        fetched["list"].append(3)
        assert session.workspace().fetch_blob("x") == {"list": [1]}

    def test_blobs_are_a_mapping_of_handles(self, session: Session) -> None:
        workspace = session.workspace("n")
        assert len(workspace.blobs) == 0
        workspace.feed_blob("x", 1)
        workspace.feed_blob("y", 2)
        assert sorted(workspace.blobs) == ["x", "y"]
        assert "x" in workspace.blobs
        assert "z" not in workspace.blobs
        workspace.blobs["x"].feed(5)
        assert workspace.blobs["x"].fetch() == 5
        assert {name: blob.fetch() for name, blob in workspace.blobs.items()} == {"x": 5, "y": 2}
        with pytest.raises(KeyError):
            workspace.blobs["z"]

    def test_remove_blob(self, session: Session) -> None:
        workspace = session.workspace("n")
        workspace.feed_blob("x", np.zeros(LARGE))
        workspace.remove_blob("x")
        assert not workspace.has_blob("x")
        with pytest.raises(BlobNotFoundError):
            workspace.remove_blob("x")
        with pytest.raises(BlobNotFoundError):
            workspace.fetch_blob("x")

    def test_a_blob_reference_is_a_name(self, session: Session) -> None:
        net = Net("net")
        one = net.Const(1)
        session.run(net)
        workspace = session.workspace()
        assert workspace.has_blob(one)
        workspace.feed_blob(one, 2)
        assert workspace.fetch_blob(one) == 2
        workspace.remove_blob(one)
        assert not workspace.has_blob(one)

    def test_a_missing_blob_is_named_with_its_like(self, session: Session) -> None:
        session.workspace("n").feed_blob("weights", 1)
        with pytest.raises(BlobNotFoundError, match="Did you mean 'weights'") as e:
            session.workspace("n").fetch_blob("weight")
        assert isinstance(e.value, KeyError)
        assert f"no blob 'weight' in the workspace of node {self.name_of('n')!r}" in str(e.value)
        assert (e.value.blob, e.value.node) == ("weight", self.name_of("n"))

    def name_of(self, node: str) -> str:
        """What that node is called in messages of this session."""
        return node

    # Snapshots.

    @pytest.mark.parametrize("shape", [SMALL, LARGE, (300, 40), ()], ids=str)
    def test_what_is_fetched_never_changes(self, session: Session, shape: Any) -> None:
        session.workspace().feed_blob("x", np.zeros(shape, np.float32))
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        fetched = []
        for _ in range(4):
            fetched.append(session.workspace().fetch_blob("x"))
            session.run(net)
        session.workspace().feed_blob("x", np.full(shape, 9, np.float32))
        for number, array in enumerate(fetched):
            np.testing.assert_array_equal(array, np.full(shape, number, np.float32))
        session.close()
        gc.collect()
        for number, array in enumerate(fetched):
            np.testing.assert_array_equal(array, np.full(shape, number, np.float32))

    @pytest.mark.parametrize("shape", [(), SMALL, LARGE, (0,)], ids=str)
    def test_what_is_fetched_cannot_be_written(self, session: Session, shape: Any) -> None:
        session.workspace().feed_blob("x", np.zeros(shape, np.float32))
        array = session.workspace().fetch_blob("x")
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1

    def test_what_was_fed_is_a_copy(self, session: Session) -> None:
        for shape in (SMALL, LARGE):
            value = np.zeros(shape, np.float32)
            session.workspace().feed_blob("x", value)
            value[...] = 1
            np.testing.assert_array_equal(session.workspace().fetch_blob("x"), np.zeros(shape))

    def test_a_view_of_a_fetched_array_is_enough_to_keep_it(self, session: Session) -> None:
        session.workspace().feed_blob("x", np.arange(5000, dtype=np.float32))
        part = session.workspace().fetch_blob("x")[100:110]
        gc.collect()
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        for _ in range(3):
            session.run(net)
        np.testing.assert_array_equal(part, np.arange(100, 110))

    def test_values_change_shape_and_kind(self, session: Session) -> None:
        workspace = session.workspace()
        net = Net("net")
        net.Add(["x", "x"], ["y"])
        for value in (
            np.ones(LARGE, np.float32),
            np.ones(SMALL, np.float32),
            np.ones((64, 64), np.float64),
            np.ones(LARGE, np.int64),
            np.ones((64, 64), np.float64),
        ):
            workspace.feed_blob("x", value)
            session.run(net)
            np.testing.assert_array_equal(workspace.fetch_blob("y"), 2 * value)
            assert workspace.fetch_blob("y").dtype == value.dtype
        workspace.feed_blob("x", "text")
        workspace.feed_blob("y", [1])
        assert workspace.fetch_blob("x") == "text"

    # Outputs.

    def test_outputs_can_be_fetched_after_the_run(self, session: Session) -> None:
        net = Net("net")
        one, two = net.Const(1), net.Const(np.arange(3000.0), "two")
        with TaskGroup() as group, Node("n"):
            task = Task(step=net, outputs=[one, [one, two]])
        session.run(group)
        single, both = task.outputs()
        assert single.fetch() == 1
        assert session.fetch_output(single) == 1
        first, second = both.fetch()
        assert first == 1
        np.testing.assert_array_equal(second, np.arange(3000.0))
        assert not second.flags.writeable
        np.testing.assert_array_equal(session.fetch_output(both)[1], second)

    def test_an_output_is_that_of_the_last_run(self, session: Session) -> None:
        session.workspace().feed_blob("x", np.zeros(LARGE, np.float32))
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        task = Task(step=net, outputs=["x"])
        session.run(task)
        first = task.outputs()[0].fetch()
        session.workspace().feed_blob("x", np.full(LARGE, 10, np.float32))
        assert task.outputs()[0].fetch()[0] == 1
        session.run(task)
        assert task.outputs()[0].fetch()[0] == 11
        assert first[0] == 1

    def test_outputs_of_nodes_are_told_apart(self, session: Session) -> None:
        tasks = []
        with TaskGroup() as group:
            for number in (1, 2):
                with Node(f"n{number}"):
                    net = Net(f"net{number}")
                    value = net.Const(number, f"x{number}")
                    tasks.append(Task(step=net, outputs=[value]))
        session.run(group)
        assert [task.outputs()[0].fetch() for task in tasks] == [1, 2]

    def test_final_output(self, session: Session) -> None:
        net = Net("net")
        one = net.Const(1)
        with TaskGroup() as group:
            Task(step=net)
            output = final_output(one)
        session.run(group)
        assert output.fetch() == 1

    def test_outputs_before_the_run(self, session: Session) -> None:
        task = Task(step=constant("net", "x", 1), outputs=["x"])
        with pytest.raises(OutputNotReadyError):
            task.outputs()[0].fetch()
        with pytest.raises(OutputNotReadyError):
            session.fetch_output(task.outputs()[0])
        with pytest.raises(RunnableTypeError):
            session.fetch_output("x")  # type: ignore[arg-type]

    def test_an_output_that_nothing_writes(self, session: Session) -> None:
        task = Task(step=constant("net", "x", 1), outputs=["nobody"])
        with pytest.raises(BlobNotFoundError, match="nobody"):
            session.run(task)

    def test_outputs_outlive_the_session(self, session: Session) -> None:
        net = Net("net")
        net.Const(np.arange(3000.0), "x")
        task = Task(step=net, outputs=["x"])
        session.run(task)
        session.close()
        np.testing.assert_array_equal(task.outputs()[0].fetch(), np.arange(3000.0))
        np.testing.assert_array_equal(session.fetch_output(task.outputs()[0]), np.arange(3000.0))

    # Isolation.

    def crossing(self) -> tuple[TaskGroup, str]:
        """A group in which node b reads what only node a makes."""
        make, read = Net("make"), Net("read")
        blob = make.Const(1, "x")
        read.Add([blob, blob], ["y"])
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            with Node("a"):
                Task(step=make)
            with Node("b"):
                task = Task(step=read)
        return group, task.name

    def test_a_group_that_crosses_nodes(self, session: Session) -> None:
        group, task = self.crossing()
        if not self.isolates:
            session.compile(group)
            return
        for use in (session.compile, session.run):
            with pytest.raises(BlobIsolationError, match="which only node 'a' has") as caught:
                use(group)
            error = caught.value
            assert isinstance(error, RuntimeError)
            assert (error.blob, error.task, error.reader, error.owner) == ("x", task, "b", "a")
        assert not session.nodes or not session.workspace("a").has_blob("x")

    def test_a_run_that_crosses_nodes(self, session: Session) -> None:
        session.workspace("a").feed_blob("x", 1)
        net = Net("net")
        net.Add(["x", "x"], ["y"])
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("b"):
            task = Task(step=net)
        if not self.isolates:
            session.run(group)
            assert session.workspace("a").fetch_blob("y") == 2
            return
        with pytest.raises(BlobIsolationError) as caught:
            session.run(group)
        error = caught.value
        assert (error.blob, error.task, error.reader, error.owner) == ("x", task.name, "b", "a")
        session.workspace("b").feed_blob("x", 4)
        session.run(group)
        assert session.workspace("b").fetch_blob("y") == 8

    def test_an_output_of_another_node(self, session: Session) -> None:
        session.workspace("a").feed_blob("x", 1)
        with TaskGroup() as group, Node("b"):
            output = final_output("x")
        if not self.isolates:
            session.run(group)
            assert output.fetch() == 1
            return
        with pytest.raises(BlobIsolationError):
            session.run(group)

    def test_a_crossing_that_shows_only_while_running(self, session: Session) -> None:
        session.workspace("a").feed_blob("x", 1)
        stop, use = Net("stop"), Net("use")
        stop.Const(False, "stop")
        use.Add(["x", "x"], ["y"])
        use.Const(True, "stop")
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("b"):
            Task(step=execution_step("loop", [stop, use], should_stop_blob="stop"))
        if not self.isolates:
            session.run(group)
            return
        with pytest.raises(BlobIsolationError, match="'x'") as caught:
            session.run(group)
        assert (caught.value.reader, caught.value.owner) == ("b", "a")

    def test_same_names_on_two_nodes(self, session: Session) -> None:
        if not self.isolates:
            pytest.skip("nodes share a workspace")
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for node, value in (("a", 1), ("b", 2)):
                with Node(node):
                    Task(step=constant(f"net_{node}", "x", value))
        session.run(group)
        update = []
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for node in ("a", "b"):
                net = Net(f"update_{node}")
                net.Add(["x", "x"], ["x"])
                with Node(node):
                    update.append(Task(step=net, outputs=["x"]))
        session.run(group)
        assert [task.outputs()[0].fetch() for task in update] == [2, 4]
        assert session.workspace("a").fetch_blob("x") == 2
        assert session.workspace("b").fetch_blob("x") == 4

    def test_a_missing_blob_says_who_has_one(self, session: Session) -> None:
        if not self.isolates:
            pytest.skip("nodes share a workspace")
        session.workspace("a").feed_blob("x", 1)
        session.workspace("b").feed_blob("z", 1)
        with pytest.raises(BlobNotFoundError, match="'a'") as caught:
            session.workspace("b").fetch_blob("x")
        assert caught.value.elsewhere == ("a",)

    # Errors. After each the session works on.

    def works_on(self, session: Session) -> None:
        """Run something small."""
        session.run(constant("on", "on", 5))
        assert session.workspace().fetch_blob("on") == 5

    def test_an_input_that_is_not_there(self, session: Session) -> None:
        session.workspace().feed_blob("weights", 1)
        net = Net("net")
        net.Relu("weight", "y")
        with pytest.raises(BlobNotFoundError, match="'weights'") as caught:
            session.run(net)
        assert "Relu(weight)" in str(caught.value)
        assert "session_contract.py" in str(caught.value)
        self.works_on(session)

    def test_an_input_that_turns_out_not_to_be_there(self, session: Session) -> None:
        net = Net("net")
        net.Python(_removes_x, pass_workspace=True)([], [])
        net.Relu("x", "y")
        session.workspace().feed_blob("x", 1.0)
        with pytest.raises(BlobNotFoundError, match="Relu") as caught:
            session.run(net)
        assert caught.value.blob == "x"
        assert not session.workspace().has_blob("x")
        self.works_on(session)

    def test_a_kernel_that_fails(self, session: Session) -> None:
        net = Net("bad")
        net.Const(np.ones((2, 3)), "x")
        net.Const(np.ones((4, 5)), "y")
        net.MatMul(["x", "y"], "z")  # this line
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("n"):
            task = Task(step=net)
        with pytest.raises(OperatorError) as caught:
            session.run(group)
        error = caught.value
        assert isinstance(error, RuntimeError)
        assert (error.net, error.operator) == ("bad", "MatMul")
        assert (error.node, error.task) == (self.name_of("n"), task.name)
        assert isinstance(error.__cause__, ValueError)
        assert "ValueError" in (error.remote_traceback or "")
        text = str(error)
        for part in ("float32(2, 3)", "float32(4, 5)", "MatMul", "'bad'", "# this line"):
            assert part in text
        self.works_on(session)

    def test_a_python_operator_that_fails(self, session: Session) -> None:
        net = Net("net")
        net.Python(raises_and_tells)([], [])
        with pytest.raises(OperatorError, match="the operator's own words") as caught:
            session.run(net)
        assert isinstance(caught.value.__cause__, LookupError)
        assert "raises_and_tells" in (caught.value.remote_traceback or "")
        self.works_on(session)

    @pytest.mark.parametrize("kind", [UnpicklableError, UnloadableError])
    def test_an_exception_that_does_not_travel(self, session: Session, kind: Any) -> None:
        def fail(inputs: Any, outputs: Any) -> None:
            raise kind("one", "two")

        net = Net("net")
        net.Python(fail)([], [])
        with pytest.raises(OperatorError, match=f"{kind.__name__}: one and two") as caught:
            session.run(net)
        assert "one and two" in str(caught.value.__cause__)
        assert kind.__name__ in repr(caught.value.__cause__)
        self.works_on(session)

    def test_what_calls_exit_does_not_end_the_session(self, session: Session) -> None:
        def leave(inputs: Any, outputs: Any) -> None:
            raise SystemExit(3)

        net = Net("net")
        net.Python(leave)([], [])
        with pytest.raises(OperatorError, match="SystemExit"):
            session.run(net)
        self.works_on(session)

    def test_one_task_fails_and_the_other_is_called_off(self, session: Session) -> None:
        forever = Net("forever")
        forever.Const(False, "stop")
        bad = Net("bad")
        bad.Python(raises_and_tells)([], [])
        with TaskGroup() as group:
            with Node("a"):
                Task(step=execution_step("loop", forever, should_stop_blob="stop"))
            with Node("b"):
                Task(step=bad)
        with pytest.raises(OperatorError, match="own words"):
            session.run(group)
        self.works_on(session)
        with Node("a"):
            session.run(constant("again", "x", 1))
        assert session.workspace("a").fetch_blob("x") == 1

    def test_a_run_that_takes_too_long(self, session: Session) -> None:
        net = Net("net")
        net.Const(False, "stop")
        forever = execution_step("loop", net, should_stop_blob="stop")
        with pytest.raises(RunTimeoutError, match=re.escape("0.2 s")) as caught:
            session.run(forever, timeout=0.2)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.timeout == 0.2
        self.works_on(session)

    def test_errors_are_all_of_one_tree(self, session: Session) -> None:
        net = Net("net")
        net.Python(raises_and_tells)([], [])
        with pytest.raises(ProcessionError):
            session.run(net)

    # Operators of the user's.

    def test_a_user_s_operator(self, session: Session) -> None:
        @operator("TimesSeven", gradient=[emit("TimesSeven", "GO0", "GI0")])
        def times_seven(x: Any, *, plus: float = 0.0) -> Any:
            """Seven times x, and something."""
            return 7 * x + plus

        try:
            net = Net("net")
            y = net.TimesSeven(net.Const(3), plus=1)
            session.run(net)
            assert session.workspace().fetch_blob(y) == 22
        finally:
            REGISTRY.remove("TimesSeven")

    def test_closures_travel(self, session: Session) -> None:
        offset = np.arange(3.0)

        def shift(inputs: Any, outputs: Any) -> None:
            outputs[0].feed(inputs[0].data + offset)

        net = Net("net")
        net.Python(shift)(["x"], ["y"])
        session.workspace().feed_blob("x", np.ones(3))
        session.run(net)
        np.testing.assert_array_equal(session.workspace().fetch_blob("y"), [1, 2, 3])

    def test_seeds_make_numbers_repeat(self, session: Session) -> None:
        seen = []
        for _ in range(2):
            net = Net("net")
            net.set_rand_seed(7)
            net.UniformFill([], "x", shape=[5])
            net.GaussianFill([], "y", shape=[2000])
            session.run(net)
            workspace = session.workspace()
            seen.append((workspace.fetch_blob("x"), workspace.fetch_blob("y")))
        np.testing.assert_array_equal(seen[0][0], seen[1][0])
        np.testing.assert_array_equal(seen[0][1], seen[1][1])
        assert seen[0][0][0] != seen[0][0][1]

    # The session itself.

    def test_nodes_are_named_in_order_of_start(self, session: Session) -> None:
        session.run(constant("net", "x", 1))
        with TaskGroup() as group:
            for node in ("b", "a"):
                with Node(node):
                    Task(step=constant(f"net_{node}", f"x_{node}", 1))
        session.run(group)
        session.run(group)
        assert session.nodes == ("local", "b", "a")

    def test_stats(self, session: Session) -> None:
        with Node("n"):
            for _ in range(3):
                session.run(constant("net", "x", 1))
        stats = session.stats()
        assert list(stats) == ["n"]
        assert stats["n"].runs == 3
        assert stats["n"].pid > 0
        assert stats["n"].rss_bytes > 1_000_000
        assert stats["n"].cpu_seconds >= 0
        assert stats["n"].shared_bytes >= 0
        assert stats["n"]["runs"] == 3
        assert dict(stats["n"]).keys() >= {"pid", "rss_bytes", "cpu_seconds", "shared_bytes"}

    def test_closing(self) -> None:
        session = self.make()
        assert session.is_open()
        session.run(constant("net", "x", 1))
        workspace = session.workspace()
        session.close()
        assert not session.is_open()
        session.close()
        for use in (
            lambda: session.run(constant("net", "x", 1)),
            lambda: session.workspace(),
            lambda: session.workspace().fetch_blob("x"),
            lambda: session.__enter__(),
        ):
            with pytest.raises(SessionClosedError):
                use()
        assert not workspace_is_usable(workspace)

    def test_it_closes_on_every_way_out(self) -> None:
        with self.make() as session:
            session.run(constant("net", "x", 1))
        assert not session.is_open()
        session = self.make()
        with pytest.raises(ZeroDivisionError), session:
            raise ZeroDivisionError
        assert not session.is_open()

    def test_it_can_be_dropped_without_closing(self) -> None:
        session = self.make()
        session.run(constant("net", "x", np.zeros(LARGE)))
        array = session.workspace().fetch_blob("x")
        del session
        gc.collect()
        np.testing.assert_array_equal(array, np.zeros(LARGE))

    def test_threads_may_share_it(self, session: Session) -> None:
        errors: list[BaseException] = []
        meet = threading.Barrier(4)

        def use(number: int) -> None:
            try:
                meet.wait(30)
                for _ in range(10):
                    with Node(f"n{number % 2}"):
                        net = Net(f"net{number}")
                        net.Const(np.full(LARGE, number), f"x{number}")
                        session.run(net)
                    array = session.workspace(f"n{number % 2}").fetch_blob(f"x{number}")
                    assert array[0] == number
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def test_two_sessions_know_nothing_of_each_other(self, session: Session) -> None:
        net = constant("net", "x", 1)
        with self.make() as other:
            session.run(net)
            assert not other.workspace().has_blob("x")
            other.run(net)
            other.workspace().feed_blob("x", 2)
            assert session.workspace().fetch_blob("x") == 1

    def test_what_one_session_compiled_another_runs(self, session: Session) -> None:
        net = constant("net", "x", 3)
        with self.make() as other:
            compiled = other.compile(net)
        session.run(compiled)
        assert session.workspace().fetch_blob("x") == 3


def workspace_is_usable(workspace: Any) -> bool:
    """Whether a workspace of a closed session still gives values."""
    try:
        workspace.fetch_blob("x")
    except (SessionClosedError, BlobNotFoundError):
        return False
    return True


# Python operators; they run where the node is, so what they share they find there.


def _fails_if_there(inputs: Any, outputs: Any, workspace: Any) -> None:
    if workspace.has_blob("x"):
        raise AssertionError("the blob of an earlier private run is still there")


def _removes_x(inputs: Any, outputs: Any, workspace: Any) -> None:
    workspace.remove_blob("x")


_meeting = threading.Event()


def _make_and_meet(inputs: Any, outputs: Any, workspace: Any) -> None:
    workspace.feed_blob("between", 11)
    _meeting.set()


def _meet_and_read(inputs: Any, outputs: Any, workspace: Any) -> None:
    if not _meeting.wait(30):
        raise TimeoutError("the two tasks did not run at once")
    _meeting.clear()
    outputs[0].feed(workspace.fetch_blob("between"))
