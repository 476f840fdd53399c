"""What `build` and `optimize` add is the same on all nodes, but for names and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from tests.train.parallel import feed, fetched, mlp, names, points, state

from procession import BlobReference, GraphError, LocalSession, Net, NetBuilder, ops
from procession.train import (
    DataParallel,
    Initializer,
    ModelHelper,
    brew,
    build_adam,
    build_rms_prop,
    build_sgd,
    data_parallel,
)

Change = Callable[[ModelHelper, int], Any]


def sgd(model: ModelHelper) -> None:
    build_sgd(model, 0.1)


def model_of(change: Change) -> DataParallel:
    """One whose build knows for which node it is called."""
    ranks: Iterator[int] = count()

    def build(model: ModelHelper) -> Any:
        loss = mlp(model)
        change(model, next(ranks))
        return loss

    return data_parallel(build, names(3), sgd)


def last_different(change: Change) -> Change:
    return lambda model, rank: change(model, rank // 2)


CHANGES: dict[str, tuple[Change, str]] = {
    "type": (
        lambda model, other: (model.net.Sigmoid if other else model.net.Relu)("x", "y"),
        r"two types\n.*node 'n0': Relu \['x'\] -> \['y'\]\n.*node 'n2': Sigmoid \['x'\] -> \['y'\]",
    ),
    "argument": (
        lambda model, other: model.net.Scale("x", "y", scale=1.0 + other),
        r"scale=1.0 on node 'n0' and scale=2.0 on node 'n2'\n.*Scale",
    ),
    "argument left out": (
        lambda model, other: model.net.Scale("x", "y", **({} if other else {"scale": 1.0})),
        "scale=1.0 on node 'n0' and scale=None on",
    ),
    "list": (
        lambda model, other: model.net.ReduceSum("x", "y", axes=[0, 1][: 1 + other]),
        r"axes=\[0\] on node 'n0' and axes=\[0, 1\] on",
    ),
    "fed": (
        lambda model, other: model.net.Relu("label" if other else "x", "y"),
        r"other inputs\n.*\['x'\] -> .*\n.*\['label'\] ->",
    ),
    "made": (
        lambda model, other: model.net.Relu("scores" if other else "hidden", "y"),
        "other inputs",
    ),
    "parameter": (
        lambda model, other: model.net.Relu("scores_w" if other else "hidden_w", "y"),
        "other inputs",
    ),
    "how many inputs": (
        lambda model, other: model.net.Sum(["x"] * (1 + other), "y"),
        "other inputs",
    ),
    "more": (
        lambda model, other: [model.net.Relu("x", "y") for _ in range(1 + other)],
        "node 'n0': ConstantFill",
    ),
    "constant": (
        lambda model, other: model.param_init_net.ConstantFill([], "c", shape=[1], value=other / 2),
        r"value=0.0 on node 'n0' and value=0.5 on node 'n2'\n  net 'data_parallel_init.*-> \['c'\]",
    ),
    "within a branch": (
        lambda model, other: branching(model, 2.0 + other),
        r"in the else_net of these, here there is scale=2.0 .* scale=3.0 .*Scale.*\n.*: If ",
    ),
}


def branching(model: ModelHelper, scale: float) -> None:
    model.net.Python(lambda inputs, outputs: outputs[0].feed(np.bool_(True)))([], ["is_so"])
    one, other = Net("one"), Net("other")
    one.Scale("x", "y", scale=2.0)
    other.Scale("x", one.NextName("scaled"), scale=scale)
    model.net.If(["is_so", "x"], ["y"], then_net=one.Proto(), else_net=other.Proto())


@pytest.mark.parametrize("what", CHANGES)
def test_operators_that_differ(what: str) -> None:
    change, message = CHANGES[what]
    with pytest.raises(GraphError, match=message) as raised:
        model_of(last_different(change))
    assert "the same operators on all nodes" in str(raised.value)
    model_of(lambda model, rank: change(model, 0))


@pytest.mark.parametrize(
    "optimize",
    [
        lambda model, rank: (build_rms_prop if rank else build_adam)(model, 0.01),
        lambda model, rank: build_adam(model, 0.01 * (1 + rank)),
        lambda model, rank: build_sgd(model, 0.01, momentum=0.9 if rank else 0.0),
    ],
)
def test_optimizers_that_differ(optimize: Change) -> None:
    for ranks, differs in ((count(), True), (iter([0, 0]), False)):

        def optimizer(model: ModelHelper, ranks: Iterator[int] = ranks) -> None:
            optimize(model, next(ranks))

        if differs:
            with pytest.raises(GraphError, match="build and optimize have to add the same"):
                data_parallel(mlp, names(2), optimizer)
        else:
            data_parallel(mlp, names(2), optimizer)


def test_names_that_are_those_of_nets() -> None:
    """A name that is left to a net begins with the net's, and so is another one on each node."""

    def change(model: ModelHelper, rank: int) -> None:
        hidden = model.net.Relu("x")
        assert isinstance(hidden, BlobReference)
        known = model.param_init_net.ConstantFill([], shape=[1], value=2.0)
        model.net.Mul([model.net.Tanh(hidden), known], broadcast=1)
        with NetBuilder("looping", initial_scope=["x"], _use_control_ops=True) as builder:
            total, step = ops.Copy("x"), ops.Const([0])
            with ops.WhileNet():
                with ops.Condition():
                    ops.LT([step, ops.Const([3])])
                ops.Add([total, total], [total])
                ops.Add([step, ops.Const([1])], [step])
        model.net.AppendNet(builder.get()[0])

    training = model_of(change)
    made = [{str(blob) for blob in model.net.UsedBlobNames()} for model in training.models]
    assert made[0] != made[1]


def test_what_may_differ() -> None:
    def change(model: ModelHelper, rank: int) -> None:
        # What all get from rank 0.
        initial = Initializer("GivenTensorFill", values=np.full(3, float(rank)))
        model.create_param("start", [3], initial)
        # What a function does.
        model.net.Python((lambda at: lambda inputs, outputs: None, (rank,), {}))(["x"], [])

    def read(model: ModelHelper, shard: int, shards: int) -> None:
        model.param_init_net.ConstantFill([], "turn", shape=[1], value=float(shard))
        for _ in range(shard):
            model.net.Relu("turn", "turn")

    ranks = count()

    def build(model: ModelHelper) -> Any:
        loss = mlp(model)
        change(model, next(ranks))
        return loss

    training = data_parallel(build, names(2), sgd, read=read)
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        assert state(session, training, ["start"])["start"].tolist() == [0, 0, 0]


# Chance.


def dropping(model: ModelHelper) -> Any:
    model.net.set_rand_seed(7)
    hidden = brew.dropout(model, brew.fc(model, "x", "hidden", 4, 64), "some", ratio=0.5, is_test=0)
    scores = brew.fc(model, hidden, "scores", 64, 3)
    return model.net.SoftmaxWithLoss([scores, "label"], ["p", "loss"])[1]


def noisy(model: ModelHelper) -> None:
    build_sgd(model, 0.1)
    for param in model.params:
        noise = model.net.GaussianFill(param, f"{param}_noise", std=0.1)
        model.net.Add([param, noise], param)


def masks(size: int) -> tuple[list[Any], list[Any]]:
    def read(model: ModelHelper, shard: int, shards: int) -> None:
        model.net.UniformFill([], "drawn", shape=[8])

    training = data_parallel(dropping, names(size), noisy, read=read)
    batch = points(1, 8)
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        feed(session, training, {name: [value] * size for name, value in batch.items()})
        session.run(training.step)
        state(session, training, [str(param) for param in training.model.params])
        dropped = [value == 0 for value in fetched(session, training, "some")]
        return dropped, fetched(session, training, "drawn")


def test_a_seeded_dropout_is_another_one_on_each_node() -> None:
    """And what an optimizer draws is the same, so that nodes stay equal."""
    found, _ = masks(3)
    assert len({mask.tobytes() for mask in found}) == 3
    assert all(0.3 < mask.mean() < 0.7 for mask in found)
    again, _ = masks(3)
    assert [mask.tobytes() for mask in found] == [mask.tobytes() for mask in again]
    alone, _ = masks(1)
    assert alone[0].tobytes() == found[0].tobytes()


def test_what_the_input_draws_is_left_to_it() -> None:
    _, drawn = masks(2)
    assert drawn[0].tobytes() == drawn[1].tobytes()
