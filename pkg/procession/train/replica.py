"""One node's part of a training on several: its model, and what keeps that equal to the others.

Every replica makes the same calls of the common world in the same order. What they have in common
is what `state_blobs` tells, but for what the input keeps.

A run that is broken off between two calls of the world leaves that as it was, but one node may have
made a step that another has not, or half of it. So each node has a blob that says whether something
is under way there, which only the end of it clears, and a run begins with a call in which all tell
each other that, and how many steps they have made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from procession import GraphError, Net, Node, Task, execution_step
from procession.core import DataType
from procession.train.checkpoint import state_blobs
from procession.train.gradient_reduction import FLOATS, World
from procession.train.model import ModelHelper
from procession.train.optimizer import OPTIMIZER_ITERATION_NAME


def made_by(net: Net) -> set[str]:
    """The blobs that a net writes."""
    return {blob for operator in net.message.op for blob in operator.output}


class Replica:
    """The model of one node, and the nets around it.

    Args:
        model: The model, with gradients that are reduced, and its optimizer.
        nodes: The nodes, by rank.
        base: What blobs and tasks of all replicas begin with.
        world: The node's seat in the common world.
        own: Blobs that are this replica's alone.
        types: Parameter -> its `DataType`, as far as that is known.
        timeout_sec: How long a node waits for another one.
        losses: What the model is trained on.
    """

    def __init__(
        self,
        model: ModelHelper,
        nodes: Sequence[Node],
        base: str,
        world: World,
        own: frozenset[str],
        types: Mapping[str, int],
        timeout_sec: float,
        losses: Sequence[str],
    ) -> None:
        self.model = model
        self.node = nodes[world.rank]
        self.base = base
        self._world = world
        self._own = own
        self._types = types
        self._timeout = timeout_sec
        self._losses = list(losses)
        self._nodes = tuple(map(str, nodes))
        self._name = base if world.rank == 0 else f"{base}/{self.node}"
        self._under_way = f"{base}/under_way"

    def begin(self) -> Task:
        """Join the world, and fill the parameters, alike on all nodes."""
        nets = [self.model.param_init_net]
        if self._world.size > 1:
            join = Net(f"{self._name}/join")
            self._mark(join, True)
            self._join(join)
            nets = [join, *nets, self._broadcast()]
        return Task(name=f"{self.base}/init", step=execution_step(f"{self.base}/init", nets))

    def sync(self) -> Task:
        """Take over the state of rank 0, in a world that is made anew: the old one may be lost."""
        nets = [self._broadcast()]
        if self._world.size > 1:
            join = Net(f"{self._name}/join")
            self._join(join)
            self._see_that_the_first_is_meant(join)
            self._mark(join, True)
            nets = [join, *nets]
        return Task(name=f"{self.base}/sync", step=execution_step(f"{self.base}/sync", nets))

    def _join(self, net: Net) -> None:
        world, mine = self._world, f"{self.base}/rank"
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

    def _broadcast(self) -> Net:
        net = Net(f"{self._name}/broadcast")
        if self._world.size > 1:
            for blob in state_blobs(self.model):
                if blob not in self._own:
                    net.Broadcast([self._world.blob, blob], blob)
            self._settle(net)
        return net

    def _mark(self, net: Net, under_way: bool) -> None:
        """Have the node know whether something is under way that all have to end together."""
        net.ConstantFill(
            [], self._under_way, shape=[1], value=int(under_way), dtype=int(DataType.INT64)
        )

    def _settle(self, net: Net) -> None:
        """The same, when it has ended; and how many steps there had been then."""
        self._mark(net, False)
        for counter, settled in self._counters().items():
            net.Copy(counter, settled)

    def _counters(self) -> dict[str, str]:
        """Counter of steps -> what keeps its value from the end of a run to the next one."""
        found = [
            operator.output[0]
            for operator in self.model.param_init_net.message.op
            if operator.arguments.get("dtype") == int(DataType.INT64)
            and operator.output[0].rpartition("/")[2] == OPTIMIZER_ITERATION_NAME
        ]
        return {counter: f"{self.base}/settled_{at}" for at, counter in enumerate(found)}

    def _see_that_all_are_alike(self, net: Net) -> None:
        told = f"{self.base}/told"
        net.Allgather(
            [self._world.blob, self._under_way, *self._counters()],
            told,
            debug_info=f"If `init` of {self.base!r} has not been run, or a node has died: run "
            f"`init` (and load a checkpoint into {self._nodes[0]!r}, and run `sync`). If a run was "
            f"broken off: run `sync`, all go on from the state of {self._nodes[0]!r}",
        )
        net.Python((_alike, (self.base, self._nodes), {}))([told], [])

    def _see_that_the_first_is_meant(self, net: Net) -> None:
        told, counters = f"{self.base}/told", self._counters()
        net.Allgather(
            [self._world.blob, self._under_way, *counters, *counters.values()],
            told,
            debug_info=f"Run `init` of {self.base!r} before; then load, and run `sync`",
        )
        net.Python((_first_is_meant, (self.base, self._nodes), {}))([told], [])

    def run(self, steps: int, metrics: list[str], stop: str | None) -> Task:
        """Some steps; the task hands back the metrics, and whether it was stopped."""
        net, made = self.model.net, made_by(self.model.net)
        for blob in [*metrics, *([] if stop is None else [stop])]:
            if blob not in made:
                raise GraphError(f"the model on node {str(self.node)!r} does not make {blob!r}")
        begin, end = Net(f"{self._name}/begin"), Net(f"{self._name}/end")
        if self._world.size > 1:
            self._see_that_all_are_alike(begin)
            self._mark(begin, True)
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
        told = [*(("loss", each) for each in self._losses), *(("metric", each) for each in metrics)]
        numbers = [*self._losses, *outputs[: len(metrics)]]
        end.Python((_numbers, (str(self.node), told), {}))(numbers, [])
        self._average(end)
        if self._world.size > 1:
            self._settle(end)
        parts = [execution_step(begin.Name(), begin), loop, execution_step(end.Name(), end)]
        whole = execution_step(f"{self.base}/step", parts)
        return Task(name=f"{self.base}/step", step=whole, outputs=outputs)

    def _agreed(self, stop: str) -> str:
        """A blob: whether it is time to stop, on any node."""
        net, agreed = self.model.net, f"{self.base}/stopped"
        net.Python((_truth, (str(self.node), stop), {}))([stop], [agreed])
        if self._world.size > 1:
            net.Allreduce([self._world.blob, agreed], agreed, op="max")
        return agreed

    def _average(self, net: Net) -> None:
        """Average what models compute on the way: that is linear in what the batches had."""
        if self._world.size == 1:
            return
        changed = made_by(self.model.net)
        by_type: dict[Any, list[str]] = {}
        for param in map(str, self.model.GetComputedParams("")):
            kind = self._types.get(param)
            if param in changed and (kind is None or kind in FLOATS):
                # What is reduced at once is of one type.
                by_type.setdefault(param if kind is None else kind, []).append(param)
        for params in by_type.values():
            net.Allreduce([self._world.blob, *params], params, op="mean")


def _apart(rank: int, name: str) -> Callable[[Any, Any], None]:
    """A function that looks whether another rank has written into this one's blob."""

    def look(inputs: Any, outputs: Any) -> None:
        if int(inputs[0].data) != rank:
            raise GraphError(
                f"the nodes of {name!r} share one workspace, and would overwrite each other's "
                f"parameters: run it in a ProcessSession, or in a LocalSession(isolate=True)"
            )

    return look


def _alike(name: str, nodes: tuple[str, ...]) -> Callable[[Any, Any], None]:
    """A function that looks at what all nodes tell, those of rank 0 first."""

    def look(inputs: Any, outputs: Any) -> None:
        told = inputs[0].data.tolist()
        each = len(told) // len(nodes)
        if told[0] == 0 and told == told[:each] * len(nodes):
            return
        lines = []
        for rank, node in enumerate(nodes):
            under_way, *counts = told[rank * each : (rank + 1) * each]
            step = f"step {counts[0]}" if counts else "a step"
            broken_off = ", broken off in the middle" if under_way else ""
            lines.append(f"\n  node {node!r}: at {step}{broken_off}")
        raise GraphError(
            f"the nodes of {name!r} have not the same state: a run was broken off, or one of them "
            f"was given another state alone:{''.join(lines)}\n"
            f"Run `sync` of it: all go on from the state of {nodes[0]!r}, as it is. Or run `init`, "
            f"load a checkpoint on {nodes[0]!r}, and run `sync`"
        )

    return look


def _first_is_meant(name: str, nodes: tuple[str, ...]) -> Callable[[Any, Any], None]:
    """A function that looks whether a state was given to others than rank 0."""

    def look(inputs: Any, outputs: Any) -> None:
        under_way, *rest = np.split(inputs[0].data.reshape(len(nodes), -1), [1], axis=1)
        counts, settled = np.split(rest[0], 2, axis=1)
        given = (counts != settled).any(axis=1) & ~under_way.any(axis=1)
        if not given.any() or given[0] or under_way[0]:
            return
        others = ", ".join(
            f"{node!r} (step {count[0]})"
            for node, count, was in zip(nodes, counts, given, strict=True)
            if was
        )
        raise GraphError(
            f"`sync` of {name!r} gives the state of its first node, {nodes[0]!r} (step "
            f"{counts[0][0]}), to all; but a state was loaded into {others}, and would be lost. "
            f"Load it into the first node, {nodes[0]!r}, and run `sync` again"
        )

    return look


_MEAN = {"loss": "(AveragedLoss)", "metric": "(ReduceMean)"}


def _numbers(node: str, told: list[tuple[str, str]]) -> Callable[[Any, Any], None]:
    """A function that looks whether losses and metrics are one number each."""

    def look(inputs: Any, outputs: Any) -> None:
        for (what, blob), tensor in zip(told, inputs, strict=True):
            if tensor.data.size != 1:
                raise GraphError(
                    f"a {what} is one number: {blob!r} on node {node!r} has the shape "
                    f"{tensor.data.shape}. Have the model make its mean {_MEAN[what]}, say"
                )

    return look


def _truth(node: str, stop: str) -> Callable[[Any, Any], None]:
    """A function that looks whether it is time to stop."""

    def look(inputs: Any, outputs: Any) -> None:
        told = inputs[0].data
        if told.size != 1 or told.dtype != bool:
            raise GraphError(
                f"stop is one bool: {stop!r} on node {node!r} is {told.dtype} of the shape "
                f"{told.shape}. Compare it: model.net.LT([loss, limit], 'enough'), say"
            )
        outputs[0].feed(told.reshape(()))

    return look
