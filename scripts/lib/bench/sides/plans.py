"""What the sessions run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.sides import models
from procession import Net, Node, Plan, Task, TaskGroup, WorkspaceType, execution_step

FLOATS = 20_000
"""In each blob of the plan of one millisecond: much more than a call, less than a cache."""


def noop_group(nodes: Sequence[str]) -> TaskGroup:
    """A task on each node that does nothing."""
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for node in nodes:
            with Node(node):
                Task(step=Net("nothing"))
    return group


def small_task(node: str) -> Task:
    """A task that adds two numbers."""
    net = Net("small")
    net.Add([net.Const(1.0), net.Const(2.0)])
    with Node(node):
        return Task(step=net)


def small_group(nodes: Sequence[str]) -> TaskGroup:
    """That task on each of the nodes."""
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for node in nodes:
            small_task(node)
    return group


def tanh_plan(operators: int) -> tuple[Net, Plan]:
    """What is to be run before, and a plan of so many operators on arrays."""
    begin, work = Net("begin"), Net("work")
    begin.ConstantFill([], "x", shape=[FLOATS], value=0.5)
    for number in range(operators):
        work.Tanh("x", f"y{number % 4}")
    return begin, _plan(work)


def scaling_plan(parameters: int) -> tuple[Net, Plan]:
    """What is to be run before, and a plan that changes so many parameters."""
    begin, train = Net("begin"), Net("train")
    for number in range(parameters):
        begin.ConstantFill([], f"w{number}", shape=[32, 32], value=1.0)
        train.Scale(f"w{number}", f"w{number}", scale=0.5)
    return begin, _plan(train)


def _plan(net: Net) -> Plan:
    plan = Plan(net.Name())
    plan.AddStep(execution_step("once", net))
    return plan


def trained(
    session: Any, workspace: Any, budget: float, batch: int, model: str, check: bool, steps: int
) -> list[float]:
    """Steps of training in a session: seconds of each, so many to a run of what is compiled."""
    net = Net("step")
    models.add_step(model, net, wanted=list(models.parameters(model)))
    for name, value in models.blobs(model, batch).items():
        workspace.feed_blob(name, value)
    plan = Plan("training")
    plan.AddStep(execution_step("steps", net, num_iter=steps))
    compiled = session.compile(net if steps == 1 else plan)
    seconds = models.figures(
        lambda: session.run(compiled), lambda: workspace.fetch_blob("loss"), budget, check
    )
    return seconds if check else [each / steps for each in seconds]
