"""What goes wrong is told, and the session works on."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import pytest

from procession.errors import (
    BlobNotFoundError,
    OperatorError,
    ProcessionError,
    RunTimeoutError,
)
from procession.graph.net import Net
from procession.graph.step import execution_step
from procession.graph.task import (
    Node,
    Task,
    TaskGroup,
    WorkspaceType,
)
from procession.operators import REGISTRY, emit, operator
from procession.session.base import Session
from procession.testing.session_contract.base import ContractBase, constant


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


class Failures(ContractBase):
    """Errors of the user's, and operators of the user's."""

    def test_an_input_that_is_not_there(self, session: Session) -> None:
        session.workspace().feed_blob("weights", 1)
        net = Net("net")
        net.Relu("weight", "y")
        with pytest.raises(BlobNotFoundError, match="'weights'") as caught:
            session.run(net)
        assert "Relu(weight)" in str(caught.value)
        assert "failures.py" in str(caught.value)
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


def _removes_x(inputs: Any, outputs: Any, workspace: Any) -> None:
    workspace.remove_blob("x")
