"""Mistakes of one who trains on several nodes: each is refused, and told what to do instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.train.parallel import SESSIONS, feed, fetched, mlp, names, points, state

from procession import BlobNotFoundError, GraphError, LocalSession, OperatorError
from procession.train import (
    DataParallel,
    GradientClipping,
    ModelHelper,
    SgdOptimizer,
    UseOptimizer,
    add_weight_decay,
    brew,
    build_adagrad,
    build_adam,
    build_sgd,
    data_parallel,
    load,
    save,
    state_blobs,
)


def sgd(model: ModelHelper) -> None:
    build_sgd(model, 0.1, momentum=0.9)


def clip(model: ModelHelper) -> None:
    GradientClipping("by_norm", clip_threshold=0.1)(model.net, grad_map=model.param_to_grad)


def begun(session: Any, training: DataParallel) -> None:
    session.run(training.init)
    feed(session, training, points(1, 36))


# Losses, and what tells when to stop.


def both_outputs(model: ModelHelper) -> Any:
    scores = brew.fc(model, "x", "scores", 4, 3)
    return model.net.SoftmaxWithLoss([scores, "label"], ["p", "loss"])


def by_example(model: ModelHelper) -> Any:
    scores = brew.fc(model, "x", "scores", 4, 3)
    return model.net.SquaredL2Distance([scores, scores], "p")


@pytest.mark.parametrize(
    ("build", "size", "shape"),
    [(both_outputs, 1, "36, 3"), (both_outputs, 2, "18, 3"), (by_example, 2, "18,")],
)
def test_a_loss_of_many_numbers(build: Any, size: int, shape: str) -> None:
    training = data_parallel(build, names(size), sgd)
    with LocalSession(isolate=True) as session:
        begun(session, training)
        message = rf"a loss is one number: 'p' on node 'n.' has the shape \({shape}\).*AveragedLoss"
        with pytest.raises(OperatorError, match=message):
            session.run(training.step)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(("stop", "told"), [("loss", r"float32.*\(\)"), ("many", r"bool.*\(3,\)")])
def test_what_stops_is_one_bool(stop: str, told: str, size: int) -> None:
    def build(model: ModelHelper) -> Any:
        loss = mlp(model)
        model.net.LT([model.net.Const([1.0, 2, 3]), model.net.Const([2.0, 2, 2])], "many")
        return loss

    training = data_parallel(build, names(size), sgd, steps=3, stop=stop)
    with LocalSession(isolate=True) as session:
        begun(session, training)
        with pytest.raises(OperatorError, match=rf"{stop}' on node 'n.' is {told}.*Compare it"):
            session.run(training.step)


# Optimizers.


def clip_late(model: ModelHelper) -> None:
    sgd(model)
    clip(model)


def decay_late(model: ModelHelper) -> None:
    build_adam(model, 0.1)
    add_weight_decay(model, 0.1)


def twice(model: ModelHelper) -> None:
    build_sgd(model, 0.1)
    build_adagrad(model, 0.1)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("optimize", "message"),
    [
        (clip_late, "ClipTensorByScaling comes behind MomentumSGDUpdate, and does nothing"),
        (decay_late, "'hidden_w'.*WeightedSum comes behind Adam, .*before build_"),
        (twice, "2 optimizers built that update 'hidden_w'"),
        (lambda model: None, "added nothing that updates a parameter"),
        (clip, "added nothing that updates a parameter"),
        (lambda model: build_sgd(model, 0.0), "a rate above 0"),
    ],
)
def test_an_optimizer_that_does_not_do_what_was_meant(
    optimize: Callable[[ModelHelper], Any], message: str, size: int
) -> None:
    with pytest.raises(GraphError, match=message):
        data_parallel(mlp, names(size), optimize)


def test_what_optimizers_may_do() -> None:
    def build(model: ModelHelper) -> Any:
        with UseOptimizer({"BIAS": SgdOptimizer(0.5, momentum=0.9)}):
            return mlp(model)

    def some(model: ModelHelper) -> None:
        clip(model)
        add_weight_decay(model, 0.1)
        build_adagrad(model, 0.1, parameters=model.params[:2], max_gradient_norm=1.0)
        # Looking at a gradient is no change of it.
        gradient = model.param_to_grad[model.params[0]]
        model.net.Scale(gradient, "seen", scale=2.0)

    assert data_parallel(build, names(2), some).nodes == ("n0", "n1")


# The order of runs.


@pytest.mark.parametrize("kind", SESSIONS)
def test_without_init(kind: str, tmp_path: Path) -> None:
    training = data_parallel(mlp, names(2), sgd)
    with SESSIONS[kind]() as session:
        begun(session, training)
        save(tmp_path / "state.npz", session.workspace("n0"), training.model)
    with SESSIONS[kind]() as session:
        feed(session, training, points(1, 36))
        with pytest.raises(
            BlobNotFoundError, match=r"`init` of 'data_parallel.*' has not been run"
        ):
            session.run(training.step)
        load(tmp_path / "state.npz", session.workspace("n0"), training.model)
        with pytest.raises(BlobNotFoundError, match=r"Run `init` of 'data_parallel.*' before"):
            session.run(training.sync)


def failing(rank: int, fatal: str) -> Callable[[Any, Any], None]:
    def look(inputs: Any, outputs: Any) -> None:
        if rank == 1 and Path(fatal).exists():
            Path(fatal).unlink()
            raise RuntimeError("disk on fire")

    return look


@pytest.mark.parametrize("kind", SESSIONS)
def test_behind_an_error_of_a_reader(kind: str, tmp_path: Path) -> None:
    fatal = tmp_path / "fatal"

    def read(model: ModelHelper, shard: int, shards: int) -> None:
        model.net.Python((failing, (shard, str(fatal)), {}))([], [])

    training = data_parallel(mlp, names(2), sgd, read=read)
    with SESSIONS[kind]() as session:
        begun(session, training)
        fatal.touch()
        with pytest.raises(OperatorError, match="disk on fire"):
            session.run(training.step)
        for _ in range(2):
            with pytest.raises(
                OperatorError, match=re.compile("off.*run `sync`", re.DOTALL | re.I)
            ):
                session.run(training.step)
        session.run(training.sync)
        session.run(training.step)
        state(session, training, state_blobs(training.model))


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_file_that_was_given_to_another_node_than_the_first(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    training = data_parallel(mlp, names(3), sgd)
    with SESSIONS[kind]() as session:
        begun(session, training)
        session.run(training.step)
        save(path, session.workspace("n0"), training.model)
        saved = fetched(session, training, "hidden_w")[0]
        for runs in ([], [training.step, training.step]):
            # Behind where the others are, and before.
            for run in (training.init, *runs):
                session.run(run)
            load(path, session.workspace("n1"), training.model)
            for _ in range(2):
                with pytest.raises(OperatorError, match=r"into 'n1' \(step 1\)") as raised:
                    session.run(training.sync)
                assert f"'n0' (step {len(runs)}), to all" in str(raised.value)
                assert "Load it into the first node, 'n0'" in str(raised.value)
            load(path, session.workspace("n0"), training.model)
            session.run(training.sync)
            now = state(session, training, state_blobs(training.model))
            np.testing.assert_array_equal(now["hidden_w"], saved)
        session.run(training.step)
        session.run(training.sync)
