"""`ops`: operators, loops, conditions and setup, added where one is building."""

from __future__ import annotations

from typing import Any

from procession.errors import GraphError
from procession.graph.blocks import (
    Branch,
    Condition,
    ElseNet,
    IfNet,
    Loop,
    ReporterBlock,
    SetupBlock,
    StopGuard,
    WhileNet,
)
from procession.graph.builder import NetBuilder
from procession.graph.cluster import LOCAL, Cluster, Node
from procession.graph.net import Net
from procession.graph.setup import LOCAL_SETUP, TASK_INSTANCE_SETUP, TASK_SETUP
from procession.graph.step import ExecutionStep, Steps, execution_step
from procession.graph.task import TaskGroup


class Operations:
    """Adds to the innermost `NetBuilder`, or `Task`, whose `with` block this is.

    Every method of a net is here: `ops.Relu(x)` is `ops.net().Relu(x)`. Caffe2: net_builder.ops.
    """

    def __getattr__(self, operator: str) -> Any:
        if operator.startswith("__"):
            raise AttributeError(operator)
        return getattr(NetBuilder.current().current_net(), operator)

    def net(self, net: Net | None = None, name: str | None = None) -> Net:
        """The current net; or a net that is to run as the next thing.

        Args:
            net: Run this one.
            name: Make a new one that is called so.

        Raises:
            GraphError: Both are given.
        """
        builder = NetBuilder.current()
        if net is None:
            return builder.current_net(name)
        if name is not None:
            raise GraphError(f"ops.net: give a net ({net}) or a name ({name!r}), not both")
        builder.add(net)
        return net

    def execution_step(
        self, default_name: str | None, steps_or_nets: Steps | None, **options: Any
    ) -> ExecutionStep:
        """Run a step as the next thing; see `core.execution_step` for the options."""
        step = execution_step(default_name, steps_or_nets, **options)
        NetBuilder.current().add(step)
        return step

    def task_group(self) -> TaskGroup:
        """A new task group, which runs, on this node, as the next thing."""
        builder = NetBuilder.current()
        with Cluster(), Node(LOCAL):
            group = TaskGroup()
            builder.add(group)
        return group

    # Stopping.

    def stop(self) -> None:
        """End the step that is being built here."""
        self.stop_if(self.net().Const(True))

    def stop_if(self, blob: Any) -> None:
        """End the step that is being built here if the blob, one truth value, is true.

        Inside a loop that is the loop; inside an `If`, that block.
        """
        NetBuilder.current().stop_if(blob)

    def stop_guard(self, has_stopped_blob: Any = None, name: str | None = None) -> StopGuard:
        """A block that runs once; afterwards `has_stopped()` is a blob that says how it ended.

            with ops.stop_guard() as guard:
                ops.stop_if(done)
                ...
            with ops.If(guard.has_stopped()):
                ...

        Args:
            has_stopped_blob: The blob to use for that; left out, a new one.
            name: What the block is called.
        """
        made: StopGuard = NetBuilder.current().add(StopGuard(has_stopped_blob, name))
        return made

    # Loops and conditions, as steps.

    def loop(self, iters: Any = None, name: str | None = None) -> Loop:
        """A block that runs again and again.

            with ops.loop(10) as loop:
                ops.Print(loop.iter())      # 0 to 9

        Args:
            iters: How often: a number, or a blob that holds one. Left out, until `ops.stop` or
                `ops.stop_if` ends it.
            name: What the block is called.

        Raises:
            GraphError: It is no whole number, or below 0.
        """
        made: Loop = NetBuilder.current().add(Loop(iters, name))
        return made

    def If(self, cond: Any, name: str | None = None) -> Branch:
        """A block that runs once if the blob `cond` is true.

        with ops.If(ops.GE([x, y])) as branch:
            ...
        with branch.Elif(ops.GE([x, z])) as branch:
            ...
        with branch.Else():
            ...
        """
        made: Branch = NetBuilder.current().add(Branch(cond, name))
        return made

    # Loops and conditions, as operators of a net.

    def IfNet(self, cond: Any, name: str | None = None) -> IfNet:
        """A block that becomes an If operator: it runs if the blob `cond` is true.

        What it writes to blobs that were there before is seen afterwards; its other blobs go with
        it. `ops.Else` is its other branch.
        """
        made: IfNet = NetBuilder.current().add(IfNet(cond, name))
        return made

    def Else(self, name: str | None = None) -> ElseNet:
        """The other branch of the `IfNet` right before it.

        Raises:
            ContextError: There is none.
        """
        return ElseNet(name)

    def WhileNet(self, name: str | None = None) -> WhileNet:
        """A block that becomes a While operator; it begins with its condition.

        with ops.WhileNet():
            with ops.Condition():
                ops.LT([x, limit])
            ops.Add([x, one], [x])
        """
        made: WhileNet = NetBuilder.current().add(WhileNet(name))
        return made

    def Condition(self, name: str | None = None) -> Condition:
        """What a `WhileNet` computes before each round; its last operator makes the truth value.

        Raises:
            ContextError: It is not in the block of a `WhileNet`.
            GraphError: It is not the first thing there.
        """
        return Condition(name)

    # Before, after and beside tasks.

    def _setup(self, key: str, when: str, name: str | None = None) -> SetupBlock:
        made = SetupBlock(when, name)
        self.net().add_attribute(key, made)
        return made

    def task_init(self) -> SetupBlock:
        """A block that runs once when the task begins, before all of its instances."""
        return self._setup(TASK_SETUP, "init")

    def task_exit(self) -> SetupBlock:
        """A block that runs once when the task ends, after all of its instances."""
        return self._setup(TASK_SETUP, "exit")

    def task_instance_init(self) -> SetupBlock:
        """A block that each instance of the task begins with, after all of `task_init`."""
        return self._setup(TASK_INSTANCE_SETUP, "init")

    def task_instance_exit(self) -> SetupBlock:
        """A block that each instance of the task ends with."""
        return self._setup(TASK_INSTANCE_SETUP, "exit")

    def local_init(self) -> SetupBlock:
        """A block that runs once on each node, before any task of the group there begins.

        Its blobs are there for all tasks of the node.
        """
        return self._setup(LOCAL_SETUP, "init")

    def local_exit(self, name: str | None = None) -> SetupBlock:
        """A block that runs once on each node, after the last task of the group there has ended."""
        return self._setup(LOCAL_SETUP, "exit", name)

    def task_reporter(self, interval_ms: int = 1000, name: str | None = None) -> ReporterBlock:
        """A block that runs every `interval_ms` milliseconds while the task does.

        It runs at least once, after everything else of the task's instance has ended.
        """
        return ReporterBlock(interval_ms, self.net(), name)

    def local_reporter(self, interval_ms: int = 1000, name: str | None = None) -> ReporterBlock:
        """A block that runs every `interval_ms` milliseconds while any task of the node does.

        It runs at least once, after the last of them has ended.
        """
        return ReporterBlock(interval_ms, None, name)


ops = Operations()
"""The one object of its kind."""
