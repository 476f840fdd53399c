"""One model on several nodes: each steps on a batch of its own, and all stay equal, bit for bit.

training = data_parallel(build, ["n1", "n2"], optimize, read=read, metrics=["loss"])
session.run(training.init)
session.run(training.step)

The nodes meet in a common world. Each goes forward and back on its part of the batch; gradients
become their mean over the nodes (`gradient_reduction`); and all make the same update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from procession import (
    BlobNotFoundError,
    BlobReference,
    GraphError,
    Node,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
    infer_shapes_and_types,
)
from procession.core import EmptyNameScope
from procession.errors import did_you_mean
from procession.train.gradient_reduction import World, reduce_gradients, shares
from procession.train.likeness import Additions
from procession.train.model import ModelHelper
from procession.train.replica import Replica, made_by
from procession.train.updates import see_that_it_trains

BUCKET_BYTES = 1 << 20
"""How large buckets may become unless that is said."""


@dataclass(frozen=True)
class DataParallel:
    """What `data_parallel` makes: what to run, and what that is made of."""

    nodes: tuple[str, ...]
    """The nodes; the place of a node is its rank."""
    models: tuple[ModelHelper, ...]
    """The model of each, by rank."""
    init: TaskGroup
    """Makes the common world, fills the parameters, and gives those of rank 0 to all."""
    step: TaskGroup
    """Some steps of training."""
    sync: TaskGroup
    """Gives rank 0's state to all: for when that was loaded from a file, or a run was broken off.
    The common world is made anew. Refused if another node was given a state, and rank 0 was not."""
    metrics: Mapping[str, tuple[TaskOutput, ...]]
    """Metric -> its mean over the steps of the latest run, by rank."""
    stopped: TaskOutput | None
    """Whether the latest run ended early; None if nothing was to stop it."""

    @property
    def model(self) -> ModelHelper:
        """The model of rank 0: to be saved and loaded, and to share parameters with others."""
        return self.models[0]

    def mean(self, metric: str | BlobReference) -> float:
        """The mean of a metric over the nodes, and over the steps of the latest run.

        Raises:
            BlobNotFoundError: It is not among `metrics`; a KeyError, too.
            OutputNotReadyError: `step` has not been run.
        """
        name = str(metric)
        if name not in self.metrics:
            raise BlobNotFoundError(
                f"{name!r} is no metric of this training."
                f"{did_you_mean(name, self.metrics)} Its metrics are: "
                f"{', '.join(self.metrics) or 'none'}; they are given to data_parallel",
                blob=name,
            )
        return float(np.mean([np.mean(output.fetch()) for output in self.metrics[name]]))


def data_parallel(
    build: Callable[[ModelHelper], Any],
    nodes: Iterable[str | Node],
    optimize: Callable[[ModelHelper], Any],
    *,
    name: str = "data_parallel",
    read: Callable[[ModelHelper, int, int], Any] | None = None,
    steps: int = 1,
    metrics: str | BlobReference | Iterable[str | BlobReference] = (),
    stop: str | BlobReference | None = None,
    bucket_bytes: int = BUCKET_BYTES,
    arg_scope: Mapping[str, Any] | None = None,
    timeout_sec: float = 30.0,
) -> DataParallel:
    """Task groups that train one model on several nodes.

    The functions are called for each node, in the order `read`, `build`, `optimize`, with a model
    that is this node's own. Each time they have to do the same. Blobs are called the same on all
    nodes, which do not see each other's: run this in a `ProcessSession`, or in a
    `LocalSession(isolate=True)`. On one node there is no common world, and nothing is reduced.

    Gradients become their mean over the nodes. So with losses that are means over a batch, and
    batches of one length on all nodes, a step is that of one node on the joined batch, to rounding.

    Computed parameters, such as running means, are the node's own within a run of `step`; its end
    makes them their mean over the nodes.

    Args:
        build: Adds the forward pass, and returns the loss, or a list of losses: blobs of one
            number each.
        nodes: The nodes, by rank.
        optimize: Has an optimizer update the model: `lambda model: build_adam(model, 0.01)`. The
            gradients are reduced before.
        name: What the first node's model, tasks and the common world are called; the models of
            other nodes have the node's name behind it.
        read: Adds to `model.net` what makes a batch, given the model, the node's shard of the data,
            and how many shards there are. What it keeps from step to step is the node's own. Left
            out, batches are fed.
        steps: How many steps a run of `step` takes.
        metrics: Blobs of one number each that the models make in a step, or one of them.
        stop: A blob of one bool of the models, such as a comparison makes: once it is true on any
            node, the run ends on all of them behind that step. The next run begins as ever.
        bucket_bytes: How many bytes of gradients are reduced at once; a larger one goes alone.
        arg_scope: Of the models; see `ModelHelper`.
        timeout_sec: How many seconds a node waits for the others in a step.

    Raises:
        GraphError: A function that takes other arguments; no nodes, or one of them twice; a model
            without a loss, or with gradients already, or with other parameters or operators than
            that of the first node; an `optimize` that updates nothing, or a parameter twice, or
            changes a gradient behind its update; a metric, or a `stop`, that the model does not
            make; less than one step in a run, or one byte in a bucket; a `timeout_sec` that is no
            time. When run, in an OperatorError: a loss or a metric of many numbers, a `stop` that
            is not one bool.
    """
    places = _places(nodes)
    _see_what_it_takes(build, "build", "model")
    _see_what_it_takes(optimize, "optimize", "model")
    if read is not None:
        _see_what_it_takes(read, "read", "model, shard, shards")
    if steps < 1:
        raise GraphError(f"a run of data_parallel takes at least one step, not {steps}")
    if bucket_bytes < 1:
        raise GraphError(f"a bucket has room for at least one byte, not {bucket_bytes}")
    if not isinstance(timeout_sec, Real) or not isfinite(timeout_sec) or timeout_sec <= 0:
        raise GraphError(f"timeout_sec is a number of seconds above 0, not {timeout_sec!r}")
    wanted = [metrics] if isinstance(metrics, (str, BlobReference)) else metrics
    shapes: Mapping[str, Any] = {}
    types: Mapping[str, int] = {}
    members: list[Replica] = []
    first: Additions | None = None
    for rank, node in enumerate(places):
        with node:
            called = f"{members[0].base}/{node}" if members else name
            model = ModelHelper(called, arg_scope=dict(arg_scope or {}))
            own = _read(read, model, rank, len(places))
            skip = len(model.net.message.op)
            base = members[0].base if members else model.net.Name()
            world = World(f"{base}/world_{rank}", len(places), rank)
            additions = Additions(model, str(node), world)
            losses = _losses(build(model), model, node)
            if members:
                _compare(members[0].model, model, places[0], node)
            else:
                shapes, types = infer_shapes_and_types(model.param_init_net)
            additions.mix_seeds()
            model.AddGradientOperators(shares(model, world, losses), skip)
            with EmptyNameScope():
                reduce_gradients(model, world, bucket_bytes, shapes, types)
            since = len(model.net.message.op)
            optimize(model)
            see_that_it_trains(model, since)
            if first is not None:
                first.compare(additions)
            first = first or additions
            of_run = [str(loss) for loss in losses]
            members.append(Replica(model, places, base, world, own, types, timeout_sec, of_run))
    with EmptyNameScope():
        return _groups(members, steps, [*dict.fromkeys(map(str, wanted))], stop)


def _groups(
    members: Sequence[Replica], steps: int, metrics: list[str], stop: str | BlobReference | None
) -> DataParallel:
    wanted = None if stop is None else str(stop)
    tasks: list[Task] = []
    step = _group(members, lambda member: tasks.append(member.run(steps, metrics, wanted)))
    outputs = [task.outputs() for task in tasks]
    return DataParallel(
        nodes=tuple(str(member.node) for member in members),
        models=tuple(member.model for member in members),
        init=_group(members, Replica.begin),
        step=step,
        sync=_group(members, Replica.sync),
        metrics={metric: tuple(outs[at] for outs in outputs) for at, metric in enumerate(metrics)},
        stopped=None if stop is None else outputs[0][-1],
    )


def _group(members: Sequence[Replica], task: Callable[[Replica], Any]) -> TaskGroup:
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for member in members:
            with member.node:
                task(member)
    return group


# What is looked at before.


def _places(nodes: Iterable[str | Node]) -> list[Node]:
    if isinstance(nodes, (str, Node)):
        nodes = [nodes]
    if not isinstance(nodes, Iterable):
        raise GraphError(
            f"data_parallel is given nodes, by name, not {nodes!r}: "
            f'["n1", "n2"], or [f"n{{i}}" for i in range(2)]'
        )
    places = [node if isinstance(node, Node) else Node(node) for node in nodes]
    names = [str(place) for place in places]
    if not names:
        raise GraphError("data_parallel needs at least one node")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GraphError(
            f"data_parallel has one model on each node: {', '.join(map(repr, twice))} "
            f"cannot be there twice"
        )
    return places


def _see_what_it_takes(function: Any, called: str, takes: str) -> None:
    """Refuse, by its name, what cannot be called with these arguments."""
    needed = f"{called} is a function that data_parallel calls as {called}({takes})"
    if not callable(function):
        raise GraphError(f"{needed}, not {function!r}")
    try:
        parameters = signature(function)
    except (TypeError, ValueError):  # Some functions of C do not tell.
        return
    try:
        parameters.bind(*takes.split(", "))
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        own = ", ".join(parameters.parameters)
        raise GraphError(f"{needed}, which {name}({own}) cannot be: {error}") from None


def _read(read: Any, model: ModelHelper, rank: int, size: int) -> frozenset[str]:
    """Let the input be added; what that keeps from step to step."""
    if read is not None:
        read(model, rank, size)
    return frozenset(made_by(model.param_init_net))


def _losses(built: Any, model: ModelHelper, node: Node) -> list[Any]:
    if model.gradient_ops_added:
        raise GraphError(
            f"the model on node {str(node)!r} has its gradients already: build returns the loss, "
            f"and leaves AddGradientOperators to data_parallel"
        )
    losses = list(built) if isinstance(built, (list, tuple)) else [built]
    made = made_by(model.net)
    for loss in losses or [None]:
        if not isinstance(loss, (str, BlobReference)) or str(loss) not in made:
            raise GraphError(
                f"build returns the loss, a blob that the model's net makes, or a list of such: "
                f"on node {str(node)!r} it has returned {built!r}"
            )
    return losses


def _parameters(model: ModelHelper) -> dict[str, Any]:
    found = {}
    for param in [*model.params, *model.GetComputedParams("")]:
        info = model.get_param_info(param)
        shape = None if info is None or info.shape is None else list(info.shape)
        found[str(param)] = shape
    return found


def _compare(first: ModelHelper, other: ModelHelper, its: Node, node: Node) -> None:
    expected, found = _parameters(first), _parameters(other)
    if list(expected) == list(found) and expected == found:
        return
    names = dict.fromkeys([*expected, *found])
    differing = [name for name in names if expected.get(name, "") != found.get(name, "")]
    told = [
        f"\n  {name!r}: {_shape(expected, name)} on node {str(its)!r}, "
        f"{_shape(found, name)} on node {str(node)!r}"
        for name in differing
    ]
    raise GraphError(
        "build has to make the same parameters on all nodes, in the same order; there are"
        + ("".join(told) or f"\n  {list(expected)} on {str(its)!r}, {list(found)} on {str(node)!r}")
    )


def _shape(parameters: Mapping[str, Any], name: str) -> str:
    if name not in parameters:
        return "none"
    return f"shape {parameters[name]}" if parameters[name] is not None else "one"
