"""One node's part of a training on several: its model, and what keeps that equal to the others.

Every replica makes the same calls of the common world in the same order. What they have in common
is what `state_blobs` tells, but for what the input keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from procession import GraphError, Net, Node, Task, execution_step
from procession.core import DataType
from procession.train.checkpoint import state_blobs
from procession.train.gradient_reduction import FLOATS, World
from procession.train.model import ModelHelper


def made_by(net: Net) -> set[str]:
    """The blobs that a net writes."""
    return {blob for operator in net.message.op for blob in operator.output}


class Replica:
    """The model of one node, and the nets around it.

    Args:
        model: The model, with gradients that are reduced, and its optimizer.
        node: The node.
        base: What blobs and tasks of all replicas begin with.
        world: The node's seat in the common world.
        own: Blobs that are this replica's alone.
        types: Parameter -> its `DataType`, as far as that is known.
        timeout_sec: How long a node waits for another one.
    """

    def __init__(
        self,
        model: ModelHelper,
        node: Node,
        base: str,
        world: World,
        own: frozenset[str],
        types: Mapping[str, int],
        timeout_sec: float,
    ) -> None:
        self.model = model
        self.node = node
        self.base = base
        self._world = world
        self._own = own
        self._types = types
        self._timeout = timeout_sec

    def begin(self) -> Task:
        """Join the world, and fill the parameters, alike on all nodes."""
        nets = [self.model.param_init_net]
        if self._world.size > 1:
            nets = [self._join(), *nets, self._broadcast()]
        return Task(name=f"{self.base}/init", step=execution_step(f"{self.base}/init", nets))

    def sync(self) -> Task:
        """Take over the state of rank 0."""
        nets = [self._broadcast()]
        return Task(name=f"{self.base}/sync", step=execution_step(f"{self.base}/sync", nets))

    def _join(self) -> Net:
        world, net = self._world, Net(f"{self.base}/join")
        mine = f"{self.base}/rank"
        net.CreateCommonWorld(
            [],
            world.blob,
            size=world.size,
            rank=world.rank,
            name=self.base,
            timeout_sec=self._timeout,
        )
        # What sees to it that no two ranks share their blobs.
        net.ConstantFill([], mine, shape=[], value=world.rank, dtype=int(DataType.INT32))
        net.Barrier([world.blob], [])
        net.Python((_apart, (world.rank, self.base), {}))([mine], [])
        return net

    def _broadcast(self) -> Net:
        net = Net(f"{self.base}/broadcast")
        if self._world.size > 1:
            for blob in state_blobs(self.model):
                if blob not in self._own:
                    net.Broadcast([self._world.blob, blob], blob)
        return net

    def run(self, steps: int, metrics: list[str], stop: str | None) -> Task:
        """Some steps; the task hands back the metrics, and whether it was stopped."""
        net, made = self.model.net, made_by(self.model.net)
        for blob in [*metrics, *([] if stop is None else [stop])]:
            if blob not in made:
                raise GraphError(f"the model on node {str(self.node)!r} does not make {blob!r}")
        begin, end = Net(f"{self.base}/begin"), Net(f"{self.base}/end")
        outputs, taken = list(metrics), f"{self.base}/steps"
        if steps > 1:
            outputs = [f"{self.base}/{metric}" for metric in metrics]
            for total, metric in zip(outputs, metrics, strict=True):
                begin.ConstantFill([], total, shape=[1], value=0.0)
                net.Add([total, metric], total)
        if stop is None:
            for total in outputs if steps > 1 else []:
                end.Scale(total, total, scale=1.0 / steps)
            loop = execution_step(f"{self.base}/steps", net, num_iter=steps)
        else:
            agreed, over = self._agreed(stop), f"{self.base}/over"
            one, limit = f"{self.base}/one", f"{self.base}/limit"
            for number, value in ((taken, 0.0), (one, 1.0), (limit, float(steps))):
                begin.ConstantFill([], number, shape=[], value=value)
            net.Add([taken, one], taken)
            net.Or([agreed, net.GE([taken, limit], f"{self.base}/last")], over)
            for total in outputs if steps > 1 else []:
                end.Div([total, taken], total)
            loop = execution_step(f"{self.base}/steps", net, should_stop_blob=over)
            outputs.append(agreed)
        self._average(end)
        parts = [execution_step(begin.Name(), begin), loop, execution_step(end.Name(), end)]
        whole = execution_step(f"{self.base}/step", parts)
        return Task(name=f"{self.base}/step", step=whole, outputs=outputs)

    def _agreed(self, stop: str) -> str:
        """A blob: whether it is time to stop, on any node."""
        net, agreed = self.model.net, f"{self.base}/stopped"
        net.Cast(stop, agreed, to=int(DataType.BOOL))
        net.Reshape(agreed, [agreed, f"{agreed}_shape"], shape=[])
        if self._world.size > 1:
            net.Allreduce([self._world.blob, agreed], agreed, op="max")
        return agreed

    def _average(self, net: Net) -> None:
        """Average what models compute on the way: that is linear in what the batches had."""
        changed = made_by(self.model.net)
        for param in map(str, self.model.GetComputedParams("")):
            is_float = self._types.get(param, int(DataType.FLOAT)) in FLOATS
            if self._world.size > 1 and param in changed and is_float:
                net.Allreduce([self._world.blob, param], param, op="mean")


def _apart(rank: int, name: str) -> Callable[[Any, Any], None]:
    """A function that looks whether another rank has written into this one's blob."""

    def look(inputs: Any, outputs: Any) -> None:
        if int(inputs[0].data) != rank:
            raise GraphError(
                f"the nodes of {name!r} share one workspace, and would overwrite each other's "
                f"parameters: run it in a ProcessSession, or in a LocalSession(isolate=True)"
            )

    return look
