"""One model on several nodes is that of one node, and the same on all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests.train.parallel import (
    SESSIONS,
    close,
    feed,
    fetched,
    mlp,
    names,
    points,
    seeded,
    state,
    trained,
)

from procession import (
    BlobNotFoundError,
    BlobReference,
    GraphError,
    LocalSession,
    NameScope,
    Node,
    OperatorError,
)
from procession.train import (
    DataParallel,
    Initializer,
    L2Norm,
    ModelHelper,
    UseRegularizer,
    apply_regularizers_on_loss,
    brew,
    build_adagrad,
    build_adam,
    build_sgd,
    data_parallel,
    state_blobs,
)

OPTIMIZERS: dict[str, Callable[[ModelHelper], Any]] = {
    "sgd": lambda model: build_sgd(model, 0.1),
    "momentum": lambda model: build_sgd(
        model, 0.1, momentum=0.9, policy="step", stepsize=2, gamma=0.5
    ),
    "adam": lambda model: build_adam(model, 0.05),
    "clipped": lambda model: build_adagrad(model, 0.05, max_gradient_norm=0.1),
}


def everything(training: DataParallel) -> list[str]:
    return state_blobs(training.model)


def types(model: ModelHelper) -> list[str]:
    return [operator.type for operator in model.net.Proto().op]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_are_those_of_one_node(optimizer: str) -> None:
    batches = [points(seed) for seed in range(5)]
    runs = [
        trained(size, seeded(mlp), OPTIMIZERS[optimizer], batches, everything) for size in (1, 2, 4)
    ]
    close(runs[0], runs[1])
    close(runs[0], runs[2])
    assert not np.allclose(runs[0][0]["hidden_w"], runs[0][-1]["hidden_w"])


def test_both_kinds_of_sessions_give_the_same() -> None:
    batches = [points(seed) for seed in range(3)]
    local, process = (
        trained(2, seeded(mlp), OPTIMIZERS["adam"], batches, everything, kind=kind)
        for kind in SESSIONS
    )
    close(local, process)


def test_nodes_begin_with_the_parameters_of_rank_0() -> None:
    training = data_parallel(mlp, names(3), OPTIMIZERS["sgd"])
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        begun = state(session, training, ["hidden_w", "scores_w"])
        session.run(training.models[1].param_init_net)
        assert not np.allclose(begun["hidden_w"], session.workspace("local").fetch_blob("hidden_w"))


def reductions(model: ModelHelper) -> list[list[str]]:
    return [
        list(operator.output) for operator in model.net.Proto().op if operator.type == "Allreduce"
    ]


def test_buckets_are_reduced_as_soon_as_they_are_made() -> None:
    late, early = ["hidden_w_grad", "hidden_b_grad"], ["scores_w_grad", "scores_b_grad"]

    def buckets(size: int) -> list[list[str]]:
        model = data_parallel(mlp, names(2), OPTIMIZERS["sgd"], bucket_bytes=size).model
        operators = list(model.net.Proto().op)
        for before, operator in pairwise(operators):
            if operator.type == "Allreduce" and before.type != "Allreduce":
                assert set(operator.output) & set(before.output)
        return reductions(model)

    assert buckets(1 << 20) == [early + late]
    # Weights have 96 and 128 bytes, biases 12 and 32.
    assert buckets(1) == [[each] for each in early + late]
    assert buckets(140) == [early, [late[0]], [late[1]]]
    batches = [points(seed) for seed in range(3)]
    whole, single = (
        trained(2, seeded(mlp), OPTIMIZERS["adam"], batches, everything, bucket_bytes=size)
        for size in (1 << 20, 1)
    )
    for one, other in zip(whole, single, strict=True):
        assert all((one[blob] == other[blob]).all() for blob in one)


def test_one_node_reduces_nothing() -> None:
    training = data_parallel(mlp, "n0", OPTIMIZERS["sgd"])
    assert training.nodes == ("n0",)
    assert not {"Allreduce", "Broadcast"} & set(types(training.model))
    with LocalSession() as session:
        session.run(training.init)
        feed(session, training, points())
        session.run(training.step)
        session.run(training.sync)


@pytest.mark.parametrize("join", ["Add", "Sum"])
def test_a_gradient_that_is_read_later_is_not_reduced_in_place(join: str) -> None:
    def build(model: ModelHelper) -> Any:
        # The gradient of `shift` is that of the sum, which goes on to `scale` as well: by Sum, it
        # is the same blob.
        shape = [8, 4]
        scale = model.create_param("scale", shape, Initializer("ConstantFill", value=0.5))
        shift = model.create_param("shift", shape, Initializer("ConstantFill", value=0.1))
        scaled = model.net.Mul(["x", scale], "scaled")
        summed = getattr(model.net, join)([scaled, shift], "summed")
        squares = model.net.Mul([summed, summed], "squares")
        return model.net.SumElements(squares, "loss")

    random = np.random.default_rng(3)
    parts = [random.normal(size=(8, 4)).astype(np.float32) for _ in range(2)]
    training = data_parallel(build, names(2), OPTIMIZERS["sgd"], bucket_bytes=1)
    kept_apart = [["summed_grad_reduced"]] if join == "Sum" else [["shift_grad"]]
    assert reductions(training.model)[:1] == kept_apart
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        feed(session, training, {"x": parts})
        session.run(training.step)
        found = state(session, training, ["scale", "shift"])
    sums = [2 * (0.5 * part + 0.1) for part in parts]
    np.testing.assert_allclose(found["shift"], 0.1 - 0.1 * np.mean(sums, 0), rtol=1e-5)
    by_scale = np.mean([each * part for each, part in zip(sums, parts, strict=True)], 0)
    np.testing.assert_allclose(found["scale"], 0.5 - 0.1 * by_scale, rtol=1e-4, atol=1e-6)


def test_several_losses_and_regularizers() -> None:
    def build(model: ModelHelper) -> Any:
        with UseRegularizer({"WEIGHT": L2Norm(0.01)}):
            loss = mlp(model)
        far = model.net.SquaredL2Distance(["scores", "target"]).AveragedLoss([], "far")
        return [apply_regularizers_on_loss(model, loss), far]

    batches = [{**points(seed), "target": np.ones((32, 3), np.float32)} for seed in range(3)]
    runs = [
        trained(size, seeded(build), OPTIMIZERS["momentum"], batches, everything) for size in (1, 2)
    ]
    close(*runs)


# Sparse gradients.


def words(model: ModelHelper) -> Any:
    """Sums of rows of a table, and a second look at it."""
    table = model.create_param("table", [20, 3], Initializer("UniformFill", min=-1.0, max=1.0))
    sums = model.net.SparseLengthsSum([table, "ids", "lengths"], "sums")
    more = model.net.Gather([table, "one"], "more")
    scores = brew.fc(model, model.net.Add([sums, more], "both"), "scores", 3, 1)
    return model.net.SquaredL2Distance([scores, "target"]).AveragedLoss([], "loss")


def bags(seed: int, size: int) -> dict[str, Any]:
    """A batch in as many parts; how many ids there are is another number in each."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 4, 8).astype(np.int32)
    ids = random.integers(0, 20, int(lengths.sum())).astype(np.int64)
    ends = np.cumsum(lengths)[7 // size :: 8 // size]
    return {
        "ids": np.split(ids, ends[:-1]),
        "lengths": lengths,
        "one": random.integers(0, 20, 8).astype(np.int64),
        "target": random.normal(size=(8, 1)).astype(np.float32),
    }


SPARSE: dict[str, Callable[[ModelHelper], Any]] = {
    "sgd": lambda model: build_sgd(model, 0.1),
    "adagrad": lambda model: build_adagrad(model, 0.1, sparse_dedup_aggregator="sum"),
    "adam": lambda model: build_adam(model, 0.1, sparse_dedup_aggregator="sum"),
}


@pytest.mark.parametrize("optimizer", SPARSE)
def test_sparse_gradients(optimizer: str) -> None:
    runs = []
    for size in (1, 2, 4):
        batches = [bags(seed, size) for seed in range(4)]
        runs.append(trained(size, seeded(words), SPARSE[optimizer], batches, everything))
    close(runs[0], runs[1])
    close(runs[0], runs[2])


def test_a_node_without_rows() -> None:
    batch = bags(1, 2)
    nothing = {"lengths": np.zeros(4, np.int32), "ids": np.zeros(0, np.int64)}
    some = {"lengths": np.full(4, 2, np.int32), "ids": np.arange(8)}
    for parts in ([some, nothing], [nothing, nothing]):
        for blob in nothing:
            batch[blob] = [part[blob] for part in parts]
        single = {
            name: [np.concatenate(p) if isinstance(p, list) else p] for name, p in batch.items()
        }
        runs = [
            trained(size, seeded(words), SPARSE["adagrad"], [fed], everything)
            for size, fed in ((1, single), (2, batch))
        ]
        close(*runs)


# What is computed on the way.


def normalised(model: ModelHelper) -> Any:
    x = brew.conv(model, "images", "conv", 1, 2, kernel=3)
    x = brew.spatial_bn(model, x, "bn", 2, is_test=False, momentum=0.8)
    scores = brew.fc(model, x, "scores", 2 * 4 * 4, 3)
    return model.net.SoftmaxWithLoss([scores, "label"], ["p", "loss"])[1]


def test_running_means_become_their_mean_over_the_nodes() -> None:
    random = np.random.default_rng(2)
    batches = [
        {
            "images": random.normal(1, 2, (8, 1, 6, 6)).astype(np.float32),
            "label": random.integers(0, 3, 8).astype(np.int32),
        }
        for _ in range(3)
    ]
    assert "bn_riv" in everything(data_parallel(normalised, ["n0"], OPTIMIZERS["sgd"]))
    after = trained(2, seeded(normalised), OPTIMIZERS["sgd"], batches, everything)
    # By hand: a node's model by itself, for the first step.
    alone = []
    for rank in range(2):
        half = {name: np.split(value, 2)[rank] for name, value in batches[0].items()}
        alone += trained(1, seeded(normalised), OPTIMIZERS["sgd"], [half], everything)
    for blob in ("bn_rm", "bn_riv"):
        mean = (alone[0][blob] + alone[1][blob]) / 2
        np.testing.assert_allclose(after[0][blob], mean, rtol=1e-5)
        assert not np.allclose(alone[0][blob], alone[1][blob])


# Runs of several steps.


def counting(rank: int) -> Callable[[Any, Any], None]:
    """Made where it is run: batches of a shard, one after the other."""
    turn = 0

    def next_batch(inputs: Any, outputs: Any) -> None:
        nonlocal turn
        for output, value in zip(outputs, points(turn).values(), strict=True):
            output.feed(np.split(value, 2)[rank])
        turn += 1

    return next_batch


def read(model: ModelHelper, shard: int, shards: int) -> None:
    assert shards == 2
    model.net.Python((counting, (shard,), {}))([], ["x", "label"])


@pytest.mark.parametrize("kind", SESSIONS)
def test_several_steps_in_a_run(kind: str) -> None:
    batches = [points(seed) for seed in range(4)]
    expected = trained(2, seeded(mlp), OPTIMIZERS["adam"], batches, everything)
    training = data_parallel(
        seeded(mlp), names(2), OPTIMIZERS["adam"], read=read, steps=4, metrics=["loss", "accuracy"]
    )
    alone = data_parallel(seeded(mlp), names(1), OPTIMIZERS["adam"], metrics=["loss"])
    losses = []
    with SESSIONS[kind]() as session:
        session.run(training.init)
        session.run(training.step)
        close(expected[-1:], [state(session, training, everything(training))])
        assert [output.fetch().shape for output in training.metrics["loss"]] == [(1,), (1,)]
        session.run(alone.init)
        for batch in batches:
            feed(session, alone, batch)
            session.run(alone.step)
            losses.append(alone.mean("loss"))
    assert training.mean("loss") == pytest.approx(np.mean(losses), rel=1e-5)
    assert 0 < training.mean("accuracy") <= 1
    assert training.stopped is None


@pytest.mark.parametrize("size", [1, 2])
def test_all_stop_when_one_says_so(size: int) -> None:
    def build(model: ModelHelper) -> Any:
        loss = mlp(model)
        done = model.param_init_net.ConstantFill([], "done", shape=[1], value=0.0)
        one = model.param_init_net.ConstantFill([], "one", shape=[1], value=1.0)
        model.net.Add([done, one], done)
        model.net.GE([done, "enough"], "is_enough")
        return loss

    training = data_parallel(
        build, names(size), OPTIMIZERS["adam"], steps=5, stop="is_enough", metrics=["loss"]
    )
    assert training.stopped is not None
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        feed(session, training, points())
        feed(session, training, {"enough": [np.float32([8]), np.float32([100])][:size]})

        def steps() -> int:
            session.run(training.step)
            state(session, training, everything(training)[:4])
            counts = fetched(session, training, "optimizer_iteration")
            assert len({count.item() for count in counts}) == 1
            return int(counts[0].item())

        assert (steps(), bool(training.stopped.fetch())) == (5, False)
        before = training.mean("loss")
        assert (steps(), bool(training.stopped.fetch())) == (8, True)
        assert 0 < training.mean("loss") < before
        # From there on, each step is enough.
        assert (steps(), bool(training.stopped.fetch())) == (9, True)


@pytest.mark.parametrize("metrics", ["loss", BlobReference("loss"), ["loss", "loss"]])
def test_one_metric(metrics: Any) -> None:
    training, expected = (
        data_parallel(seeded(mlp), names(2), OPTIMIZERS["sgd"], steps=3, metrics=asked)
        for asked in (metrics, ["loss"])
    )
    assert list(training.metrics) == ["loss"]
    with LocalSession(isolate=True) as session:
        for each in (training, expected):
            session.run(each.init)
            feed(session, each, points())
            session.run(each.step)
    assert training.mean("loss") == expected.mean("loss") > 0


def test_names_are_those_of_the_scope_it_is_called_in() -> None:
    with NameScope("outer"):
        training = data_parallel(mlp, names(2), OPTIMIZERS["sgd"], metrics=["outer/loss"])
    assert str(training.model.params[0]) == "outer/hidden_w"
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        batch = {f"outer/{name}": value for name, value in points().items()}
        feed(session, training, batch)
        session.run(training.step)
        session.run(training.sync)
        state(session, training, everything(training))
    assert training.mean("outer/loss") > 0


def test_what_models_and_the_world_are_told() -> None:
    training = data_parallel(
        mlp, names(2), OPTIMIZERS["sgd"], name="mine", arg_scope={"order": "NHWC"}, timeout_sec=5.5
    )
    assert training.model.arg_scope == {"order": "NHWC"}
    assert training.model.name == "mine"
    found = [
        (operator.arguments["rank"], operator.arguments["timeout_sec"])
        for task in training.init.tasks()
        for net in task.get_step().Nets()
        for operator in net.Proto().op
        if operator.type == "CreateCommonWorld"
    ]
    assert found == [(0, 5.5), (1, 5.5)]


# What is wrong.


def test_nodes_that_share_a_workspace() -> None:
    training = data_parallel(mlp, names(2), OPTIMIZERS["sgd"])
    with LocalSession() as session, pytest.raises(OperatorError, match="share one workspace"):
        session.run(training.init)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "at least one node"),
        (["a", "b", Node("a")], "'a' cannot be"),
        (2, r"nodes, by name, not 2: \["),
    ],
)
def test_nodes(nodes: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        data_parallel(mlp, nodes, OPTIMIZERS["sgd"])


def test_functions_that_take_something_else() -> None:
    sgd = OPTIMIZERS["sgd"]
    with pytest.raises(GraphError, match=r"calls as read\(model, shard, shards\), which .*mlp\(m"):
        data_parallel(mlp, names(1), sgd, read=mlp)
    with pytest.raises(GraphError, match=r"as optimize\(model\), which build_sgd\(.*base_learning"):
        data_parallel(mlp, names(1), build_sgd)
    with pytest.raises(GraphError, match=r"as build\(model\), not None"):
        data_parallel(None, names(1), sgd)  # type: ignore[arg-type]


def test_the_mean_of_what_is_no_metric() -> None:
    training = data_parallel(mlp, names(1), OPTIMIZERS["sgd"], metrics="loss")
    with pytest.raises(BlobNotFoundError, match=r"'los' is no metric .* 'loss'.* metrics are: l"):
        training.mean("los")


@pytest.mark.parametrize("built", [None, [], ["x"], [None], 3, BlobReference("loss"), "loss"])
def test_a_build_without_a_loss(built: Any) -> None:
    with pytest.raises(GraphError, match="on node 'n0' it has returned"):
        data_parallel(lambda model: built, names(2), OPTIMIZERS["sgd"])


def test_a_build_that_differs() -> None:
    widths = iter([4, 4, 5])

    def build(model: ModelHelper) -> Any:
        return brew.fc(model, "x", "y", next(widths), 1).SumElements([], "loss")

    with pytest.raises(GraphError, match=r"'y_w': shape \[1, 4\] on node 'n0', shape \[1, 5\] on"):
        data_parallel(build, names(3), OPTIMIZERS["sgd"])
    layers = iter(["y", "z"])

    def build_other(model: ModelHelper) -> Any:
        return brew.fc(model, "x", next(layers), 4, 1).SumElements([], "loss")

    with pytest.raises(GraphError, match=r"'y_w': shape .*\n.*\n  'z_w': none on node 'n0'"):
        data_parallel(build_other, names(2), OPTIMIZERS["sgd"])


def test_gradients_of_ones_own() -> None:
    def build(model: ModelHelper) -> Any:
        loss = mlp(model)
        model.AddGradientOperators([loss])
        return loss

    with pytest.raises(GraphError, match="leaves AddGradientOperators to"):
        data_parallel(build, names(2), OPTIMIZERS["sgd"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["loss", "los"]}, "node 'n0' does not make 'los'"),
        ({"stop": "x"}, "does not make 'x'"),
        ({"steps": 0}, "at least one step"),
        ({"bucket_bytes": 0}, "at least one byte"),
        ({"timeout_sec": 0}, "seconds above 0, not 0"),
        ({"timeout_sec": float("nan")}, "seconds above 0, not nan"),
        ({"timeout_sec": "3"}, "seconds above 0, not '3'"),
    ],
)
def test_options(options: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        data_parallel(mlp, names(2), OPTIMIZERS["sgd"], **options)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_metric_of_many_numbers(steps: int) -> None:
    training = data_parallel(mlp, names(2), OPTIMIZERS["sgd"], steps=steps, metrics=["loss", "p"])
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        feed(session, training, points())
        with pytest.raises(OperatorError, match=r"'p' on node 'n.' has the shape \(16, 3\)"):
            session.run(training.step)


def test_parts_of_a_batch_of_two_types() -> None:
    training = data_parallel(mlp, names(2), OPTIMIZERS["sgd"])
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        feed(session, training, points())
        before = state(session, training, ["hidden_w"])
        session.workspace("n1").feed_blob("label", np.zeros(3, np.int32))
        with pytest.raises(OperatorError, match="label"):
            session.run(training.step)
        assert (state(session, training, ["hidden_w"])["hidden_w"] == before["hidden_w"]).all()
