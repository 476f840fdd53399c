"""Recurrences: long short-term memories, and others, as loops and step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import BlobReference, GraphError, NameScope, NetBuilder, Workspace, ops
from procession.testing.gradients import check_net_gradient
from procession.train import Initializer, ModelHelper, ParameterSharing, brew, build_adam

RANDOM = np.random.default_rng(6)
STEPS, COUNT, WIDTH = 3, 2, 2
FED = {
    "x": RANDOM.normal(size=(STEPS, COUNT, 1)).astype(np.float32),
    "hidden": RANDOM.normal(size=(1, COUNT, WIDTH)).astype(np.float32),
    "cell": RANDOM.normal(size=WIDTH).astype(np.float32),
    "lengths": np.array([3, 2], np.int32),
}
_WHICH = ("all", "last")
PARAMS = ["lstm/i2h_w", "lstm/i2h_b", "lstm/gates_t_w", "lstm/gates_t_b"]


def begun(asked: list[int], **arguments: Any) -> tuple[ModelHelper, Workspace, Any]:
    """A model whose loss looks at some of the outputs."""
    model, workspace = ModelHelper("model"), Workspace()
    for name, value in FED.items():
        workspace.feed_blob(name, value)
    model.param_init_net.set_rand_seed(3)
    made = brew.lstm(
        model, "x", "lstm", 1, WIDTH, **{"initial_states": ["hidden", "cell"], **arguments}
    )
    loss = model.net.Sum([model.net.SumSqrElements(made[index]) for index in asked], "loss")
    workspace.run(model.param_init_net)
    return model, workspace, loss


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"steps": STEPS},
        {"seq_lengths": "lengths", "forget_bias": 1.0},
        {"seq_lengths": "lengths", "drop_states": True, "steps": STEPS},
    ],
    ids=["loop", "steps", "loop_of_lengths", "steps_of_lengths"],
)
@pytest.mark.parametrize("asked", [[1], [3], [0, 2]], ids=["hidden", "cell", "all"])
def test_gradients(arguments: dict[str, Any], asked: list[int]) -> None:
    model, workspace, loss = begun(asked, **arguments)
    assert list(map(str, model.params)) == PARAMS
    inputs = dict(FED)
    for param in PARAMS:
        inputs[param] = np.array(workspace.fetch_blob(param))
    for name in ("lstm/gates_t_w", "lstm/i2h_b", "x", "hidden"):
        check_net_gradient(workspace, model.net, [str(loss)], inputs, name, threshold=0.01)


@pytest.mark.parametrize("lengths", [None, "lengths"])
def test_a_loop_is_what_its_steps_are(lengths: str | None) -> None:
    found = []
    for steps in (None, STEPS):
        model, workspace, loss = begun([0, 1, 2, 3], seq_lengths=lengths, steps=steps)
        model.AddGradientOperators([loss])
        workspace.run(model.net)
        blobs = [f"lstm/{kind}_state_{which}" for kind in ("hidden", "cell") for which in _WHICH]
        blobs += [str(model.param_to_grad[param]) for param in model.params]
        found.append([np.array(workspace.fetch_blob(blob)) for blob in blobs])
    assert [each.shape[0] for each in found[0][:4]] == [STEPS, 1, STEPS, 1]
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
        assert first.any()


def test_it_begins_with_zeros_and_takes_series_of_any_length() -> None:
    model, workspace = ModelHelper("model"), Workspace()
    made = brew.lstm(model, "x", "lstm", 1, WIDTH)
    workspace.run(model.param_init_net)
    for steps in (4, 1):
        workspace.feed_blob("x", np.zeros((steps, 5, 1), np.float32))
        workspace.run(model.net)
        every = workspace.fetch_blob(made.hidden_all)
        assert every.shape == (steps, 5, WIDTH)
        assert not every.any()
        assert (workspace.fetch_blob(made.cell_last) == 0).all()


def test_names_and_shared_parameters() -> None:
    model, workspace = ModelHelper("model"), Workspace()
    with NameScope("top"), ParameterSharing({"b": "a"}):
        for scope in ("a", "b"):
            with NameScope(scope):
                made = brew.lstm(model, BlobReference("x"), "lstm", 1, WIDTH)
        unnamed = brew.lstm(model, BlobReference("x"), "", 1, WIDTH)
    assert str(made.cell_last) == "top/b/lstm/cell_state_last"
    assert str(unnamed.hidden_all) == "top/hidden_state_all"
    assert list(map(str, model.params))[:4] == [f"top/a/{name}" for name in PARAMS]
    assert len(model.params) == 8
    workspace.feed_blob("x", FED["x"])
    workspace.run(model.param_init_net)
    workspace.run(model.net)
    both = [workspace.fetch_blob(f"top/{scope}/lstm/hidden_state_all") for scope in ("a", "b")]
    assert (both[0] == both[1]).all()


def test_what_cannot_be_is_refused() -> None:
    model = ModelHelper("model")
    with pytest.raises(GraphError, match="'lstm': initial states are a hidden state and a cell"):
        brew.lstm(model, "x", "lstm", 1, WIDTH, initial_states=["hidden"])
    with pytest.raises(GraphError, match="'lstm': a recurrent layer has at least one step, not 0"):
        brew.lstm(model, "x", "lstm", 1, WIDTH, steps=0)


def test_it_learns_to_remember() -> None:
    """Whether the first of up to four numbers was above 0."""
    model, workspace = ModelHelper("model"), Workspace()
    model.param_init_net.set_rand_seed(1)
    made = brew.lstm(model, "x", "lstm", 1, 8)
    scores = brew.fc(model, made.hidden_last, "answer", 8, 2, axis=2)
    scores = model.net.Squeeze(scores, "scores", dims=[0])
    _, loss = model.net.SoftmaxWithLoss([scores, "first"], ["probabilities", "loss"])
    model.AddGradientOperators([loss])
    build_adam(model, 0.03, max_gradient_norm=1.0)
    random = np.random.default_rng(2)
    workspace.run(model.param_init_net)
    losses = []
    for _ in range(150):
        series = random.normal(size=(random.integers(2, 5), 32, 1)).astype(np.float32)
        workspace.feed_blob("x", series)
        workspace.feed_blob("first", (series[0, :, 0] > 0).astype(np.int32))
        workspace.run(model.net)
        losses.append(float(workspace.fetch_blob("loss")))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_the_gradient_of_a_recurrence_of_ones_own() -> None:
    """state = tanh(weight * state + row), of all rows."""
    model, workspace = ModelHelper("model"), Workspace()
    weight = model.create_param("weight", [2, 2], Initializer("ConstantFill", value=0.5))
    with NetBuilder("own", initial_scope=["rows", weight], _use_control_ops=True) as builder:
        state = ops.ConstantFill([], shape=[1, 2], value=0.0)
        step, count = ops.Const([0]), ops.Shape("rows", axes=[0])
        with ops.WhileNet():
            with ops.Condition():
                ops.LT([step, count])
            before, now = ops.Copy(state), ops.Copy(step)
            row = ops.Gather(["rows", now], dense_gradient=True)
            ops.Tanh(ops.Add([ops.MatMul([before, weight]), row]), [state])
            ops.Add([step, ops.Const([1])], [step])
    model.net.AppendNet(builder.get()[0])
    rows = RANDOM.normal(size=(4, 2)).astype(np.float32)
    workspace.run(model.param_init_net)
    inputs = {"rows": rows, "weight": np.array(workspace.fetch_blob("weight"))}
    workspace.feed_blob("rows", rows)
    for name in inputs:
        check_net_gradient(workspace, model.net, [str(state)], inputs, name, threshold=0.01)
