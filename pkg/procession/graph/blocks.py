"""What `ops` has `with` blocks for: loops, conditions, setup, reports. All are builders."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.errors import ContextError, GraphError
from procession.graph.blob import BlobReference
from procession.graph.builder import NetBuilder
from procession.graph.control_ops import add_if_op, add_while_op
from procession.graph.net import Net
from procession.graph.setup import REPORT_STEP
from procession.graph.step import ExecutionStep, to_execution_step
from procession.graph.task import TaskGroup


def _here() -> Net:
    """The net that the block being made is put behind."""
    return NetBuilder.current().current_net()


class Once(NetBuilder):
    """Runs once, or until it is stopped."""

    def _finish(self) -> None:
        if self._stop_blob is not None:
            # A step with a stop blob would begin anew.
            self.stop_if(self.current_net().Const(True))


class StopGuard(Once):
    """`ops.stop_guard`: knows afterwards whether it was stopped."""

    def __init__(self, has_stopped_blob: Any = None, name: str | None = None) -> None:
        super().__init__(name)
        self._stopped: Any = has_stopped_blob
        self._complete = False

    def __enter__(self) -> StopGuard:
        super().__enter__()
        self._stopped = self.current_net().Const(True, blob_out=self._stopped)
        return self

    def _finish(self) -> None:
        self.current_net().Const(False, blob_out=self._stopped)
        self._complete = True
        super()._finish()

    def has_stopped(self) -> BlobReference:
        """A blob that is true after the block has run if that was stopped early.

        Raises:
            GraphError: The block has not ended yet.
        """
        if not self._complete:
            raise GraphError("has_stopped() is known after the `with` block of the stop_guard only")
        assert isinstance(self._stopped, BlobReference)
        return self._stopped


def _rounds(iters: Any) -> Any:
    """The number that `ops.loop` was given.

    Raises:
        GraphError: It is not one whole number, or below 0.
    """
    array = np.asarray(iters)
    if array.dtype.kind not in "iu" or array.size != 1:
        hint = " A blob is given as a BlobReference." if isinstance(iters, (str, bytes)) else ""
        raise GraphError(
            f"ops.loop takes a whole number, or a blob that holds one, not {iters!r}.{hint}"
        )
    if array.item() < 0:
        raise GraphError(f"ops.loop cannot go around {iters} times")
    return iters


class Loop(NetBuilder):
    """`ops.loop`: runs a number of times, or until it is stopped."""

    written = "ops.loop"

    def __init__(self, iters: Any = None, name: str | None = None) -> None:
        super().__init__(name, _stop_blob_required=True)
        rounds = iters if iters is None or isinstance(iters, BlobReference) else _rounds(iters)
        self._iter: BlobReference | None = None
        if rounds is not None:
            net = _here()
            self._one = net.Const(1)
            self._iter = net.Const(0)
            self._iters = rounds if isinstance(rounds, BlobReference) else net.Const(rounds)

    def iter(self) -> BlobReference:
        """The blob with the number of the round, from 0.

        Raises:
            GraphError: The loop has no number of rounds.
        """
        if self._iter is None:
            raise GraphError("this loop does not count: make it with a number, ops.loop(n)")
        return self._iter

    def __enter__(self) -> Loop:
        super().__enter__()
        if self._iter is not None:
            self.stop_if(self.current_net().GE([self._iter, self._iters]))
        return self

    def _finish(self) -> None:
        if self._iter is not None:
            self.current_net().Add([self._iter, self._one], [self._iter])


class Branch(Once):
    """`ops.If`, and its `Elif` and `Else`: runs once, or not at all."""

    def __init__(self, cond: Any = None, name: str | None = None, _already_ran: Any = None) -> None:
        super().__init__(name)
        if cond is None and _already_ran is None:
            raise GraphError("ops.If takes a blob with a truth value")
        self._is_else = cond is None
        # The blob by which the branch stops at once.
        self._skip = _already_ran
        if cond is not None:
            net = _here()
            self._skip = net.Not(cond)
            if _already_ran is None:
                _already_ran = net.Const(False)
            else:
                self._skip = net.Or([_already_ran, self._skip])
        self._already_ran = _already_ran

    def __enter__(self) -> Branch:
        super().__enter__()
        self.stop_if(self._skip)
        self.current_net().Const(True, blob_out=self._already_ran)
        return self

    def _next(self, cond: Any, name: str | None, what: str) -> Branch:
        if self._is_else:
            raise GraphError(f"{what} after Else: nothing can follow that")
        made: Branch = NetBuilder.current().add(
            Branch(cond, name or self.name, _already_ran=self._already_ran)
        )
        return made

    def Elif(self, cond: Any, name: str | None = None) -> Branch:
        """A block that runs if none before it did, and `cond` is true."""
        return self._next(cond, name, "Elif")

    def Else(self, name: str | None = None) -> Branch:
        """A block that runs if none before it did."""
        return self._next(None, name, "Else")


class IfNet(NetBuilder):
    """`ops.IfNet`: a net with an If operator."""

    def __init__(self, cond_blob: Any, name: str | None = None) -> None:
        super().__init__(name, _use_control_ops=True)
        if cond_blob is None:
            raise GraphError("ops.IfNet takes a blob with a truth value")
        self._cond_blob = cond_blob
        self._then_net: Net | None = None

    def _finish(self) -> None:
        self._then_net = self._merged() or self.net_type("empty_then_net")
        net = self.net_type(f"{self.name}/if_net")
        add_if_op(net, self._cond_blob, self._initial_scope, self._then_net)
        self._children = [net]


class ElseNet(NetBuilder):
    """`ops.Else`: the other branch of the `IfNet` right before it."""

    def __init__(self, name: str | None = None) -> None:
        parent = NetBuilder.current()
        before = parent._children[-1] if parent._children else None
        if not isinstance(before, IfNet):
            raise ContextError(
                "ops.Else belongs right behind an IfNet; the Else of an `If` block is "
                "a method of that: `with ops.If(c) as branch: ...`, `with branch.Else(): ...`"
            )
        super().__init__(name, _use_control_ops=True)
        self._if = before

    def _finish(self) -> None:
        branch = self._merged()
        if branch is not None:
            net = self.net_type(f"{self.name}/if_else_net")
            assert self._if._then_net is not None
            add_if_op(net, self._if._cond_blob, self._initial_scope, self._if._then_net, branch)
            self._if._children = [net]


class WhileNet(NetBuilder):
    """`ops.WhileNet`: a net with a While operator."""

    written = "ops.WhileNet"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name, _use_control_ops=True)
        self._condition: Condition | None = None

    def _finish(self) -> None:
        if self._condition is None or self._condition.net is None:
            raise GraphError(
                f"{self.called} has no condition: begin its block with `with ops.Condition(): ...`"
            )
        body = self._merged() or self.net_type("empty_loop_body_net")
        net = self.net_type(f"{self.name}/while_net")
        add_while_op(net, self._condition.blob, self._initial_scope, body, self._condition.net)
        self._children = [net]


class Condition(NetBuilder):
    """`ops.Condition`: what a `WhileNet` computes before each round."""

    written = "ops.Condition"

    def __init__(self, name: str | None = None) -> None:
        loop = NetBuilder.current(required=False)
        if not isinstance(loop, WhileNet):
            raise ContextError("ops.Condition belongs in the `with` block of an ops.WhileNet")
        if loop._condition is not None:
            raise GraphError(f"{loop.called} has a condition already")
        if loop._children:
            raise GraphError(
                f"the condition of {loop.called} comes before everything else in its block"
            )
        super().__init__(name, _use_control_ops=True)
        loop._condition = self
        self.blob: BlobReference | None = None
        self.net: Net | None = None

    def _finish(self) -> None:
        net = self._merged()
        if net is None or not net.operators or len(net.operators[-1].output) != 1:
            raise GraphError(
                f"{self.called}: the condition is the one output of the last operator in its "
                f"`with` block: {net!r}"
            )
        self.net, self.blob = net, BlobReference(net.operators[-1].output[0])
        self._children = [net]


class SetupBlock(NetBuilder):
    """`ops.task_init` and its like: hung on a net, it runs before or after something."""

    def __init__(self, when: str, name: str | None = None) -> None:
        super().__init__(name)
        self._when = when

    def setup(self, net: Net) -> ExecutionStep | None:
        """What runs before."""
        return to_execution_step(self) if self._when == "init" else None

    def exit(self, net: Net) -> ExecutionStep | None:
        """What runs after."""
        return to_execution_step(self) if self._when == "exit" else None


class ReporterBlock(NetBuilder):
    """`ops.task_reporter` and `ops.local_reporter`: runs again and again beside others.

    Args:
        interval_ms: Every so many milliseconds.
        net: Runs beside the tasks that run this net; left out, beside all of the current group.
        name: What it is called.
    """

    def __init__(self, interval_ms: int, net: Net | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self._beside = net
        self._interval_ms = interval_ms

    def _finish(self) -> None:
        step = to_execution_step(self)
        if self._beside is None:
            TaskGroup.current().report_step(step, interval_ms=self._interval_ms)
        else:
            step.RunEveryMillis(self._interval_ms)
            self._beside.add_attribute(REPORT_STEP, step)
