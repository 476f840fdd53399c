"""What a session runs, and what it refuses to."""

from __future__ import annotations

import gc
import inspect
import weakref
from typing import Any

import pytest

from procession.compiler.compiled import CompiledRunnable
from procession.errors import (
    GraphError,
    RunnableTypeError,
)
from procession.graph.net import Net
from procession.graph.step import Plan, execution_step
from procession.graph.task import (
    Node,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
)
from procession.session.base import Session
from procession.testing.session_contract.base import ContractBase, constant


class Runnables(ContractBase):
    """Nets, steps, plans, tasks, groups, and what compile returned."""

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

    def test_an_empty_task_group_runs(self, own_session: Session) -> None:
        with TaskGroup() as group:
            pass
        own_session.run(group)
        assert own_session.nodes == []

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
