"""Optimizers: they make losses smaller, and say what they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from procession import BlobReference, GraphError, NameScope, Net, Workspace
from procession.core import GradientSlice
from procession.train import (
    AdagradOptimizer,
    AdamOptimizer,
    GradientClipping,
    Initializer,
    ModelHelper,
    Optimizer,
    RmsPropOptimizer,
    SgdOptimizer,
    UseOptimizer,
    WeightScale,
    YellowFinOptimizer,
    add_weight_decay,
    build,
    build_adadelta,
    build_adagrad,
    build_adam,
    build_ftrl,
    build_gftrl,
    build_rms_prop,
    build_sgd,
    build_storm,
    build_wngrad,
    build_yellowfin,
)

Build = Callable[[ModelHelper], Any]
DENSE: dict[str, Build] = {
    "sgd": lambda m: build_sgd(m, 0.5),
    "momentum": lambda m: build_sgd(m, 0.1, momentum=0.9),
    "lars": lambda m: build_sgd(m, 2.0, lars=1.0),
    "adagrad": lambda m: build_adagrad(m, 0.2),
    "adadelta": lambda m: build_adadelta(m, 2.0),
    "adam": lambda m: build_adam(m, 0.05),
    "rms_prop": lambda m: build_rms_prop(m, 0.02),
    "ftrl": lambda m: build_ftrl(m, alpha=0.3),
    "gftrl": lambda m: build_gftrl(m, alpha=0.3),
    "wngrad": lambda m: build_wngrad(m, 1.0, moment_init=1.0),
    "storm": lambda m: build_storm(m, 0.2),
    "yellowfin": lambda m: build_yellowfin(m, 0.1),
}
SPARSE: dict[str, Build] = {
    "sgd": lambda m: build_sgd(m, 0.5),
    "momentum": lambda m: build_sgd(m, 0.1, momentum=0.9, sparse_dedup_aggregator="sum"),
    "adagrad": lambda m: build_adagrad(m, 0.3),
    "adagrad by row": lambda m: build_adagrad(m, 0.3, rowWise=True),
    "adadelta": lambda m: build_adadelta(m, 2.0, sparse_dedup_aggregator="mean"),
    "adam": lambda m: build_adam(m, 0.1, sparse_dedup_aggregator="sum"),
    "adam by row": lambda m: build_adam(m, 0.1, rowWise=True, sparse_dedup_aggregator="sum"),
    "ftrl": lambda m: build_ftrl(m, alpha=0.3, sparse_dedup_aggregator="sum"),
    "wngrad": lambda m: build_wngrad(m, 1.0, moment_init=1.0),
    "storm": lambda m: build_storm(m, 0.2),
}


@pytest.mark.parametrize("build_it", DENSE.values(), ids=DENSE)
def test_they_learn(build_it: Build, training: Any) -> None:
    model = training.model()
    made = build_it(model)
    training.begin(model)
    losses = training.steps(model, 60)
    assert losses[-1] < 0.5 * losses[0]
    assert np.isfinite(losses).all()
    for blob in made.get_auxiliary_parameters().local:
        assert model.param_init_net.BlobIsDefined(blob)


def table_model() -> ModelHelper:
    model = ModelHelper("table")
    table = model.create_param(
        "table", [6, 2], Initializer("ConstantFill", value=1.0), tags="WEIGHT"
    )
    rows = model.net.Gather([table, "ids"], "rows")
    distance = model.net.SquaredL2Distance([rows, "target"], "distance")
    model.AddGradientOperators([model.net.AveragedLoss(distance, "loss")])
    return model


@pytest.mark.parametrize("build_it", SPARSE.values(), ids=SPARSE)
def test_they_learn_from_sparse_gradients(build_it: Build) -> None:
    model = table_model()
    build_it(model)
    workspace = Workspace()
    workspace.feed_blob("ids", np.array([0, 2, 5, 2], np.int64))
    workspace.feed_blob("target", np.array([[2, 0], [3, 1], [0, 0], [3, 1]], np.float32))
    workspace.run(model.param_init_net)
    losses = []
    for _ in range(40):
        workspace.run(model.net)
        losses.append(float(np.ravel(workspace.fetch_blob("loss"))[0]))
    assert losses[-1] < 0.5 * losses[0]
    table = workspace.fetch_blob("table")
    assert table[[1, 3, 4]].tolist() == [[1, 1]] * 3


def test_names_have_class_and_number_in_them(training: Any) -> None:
    model = training.model()
    first, second = build_sgd(model, 0.1), SgdOptimizer(0.1)
    assert second._instance_num == first._instance_num + 1
    assert model.net.BlobIsDefined(f"SgdOptimizer_{first._instance_num}_lr_cpu")
    attributes = first.attributes
    assert attributes["base_learning_rate"] == 0.1
    assert "_instance_num" not in attributes


def test_a_counter_and_a_rate_for_all_parameters(training: Any) -> None:
    model = training.model()
    with NameScope("part"):
        build_adam(model, 0.05, policy="step", gamma=0.5, stepsize=2)
    types = [op.type for op in model.Proto().op]
    assert (types.count("AtomicIter"), types.count("LearningRate"), types.count("Adam")) == (
        1,
        1,
        4,
    )
    training.begin(model)
    training.steps(model, 5)
    assert training.fetch("part/optimizer_iteration").tolist() == [5]


def test_only_some_parameters(training: Any) -> None:
    model = training.model()
    build_adagrad(model, 0.1, parameters=[BlobReference("out_w"), BlobReference("out_b")])
    training.begin(model)
    before = training.fetch("hidden_w"), training.fetch("out_w")
    training.steps(model, 2)
    assert (training.fetch("hidden_w") == before[0]).all()
    assert (training.fetch("out_w") != before[1]).any()


def test_weight_decay(training: Any) -> None:
    model = training.model()
    add_weight_decay(model, 0.25)
    build_sgd(model, 1.0)
    training.begin(model)
    before = {str(param): training.fetch(param) for param in model.params}
    training.steps(model, 1)
    for name, value in before.items():
        # The gradient has the decay in it already.
        np.testing.assert_allclose(
            training.fetch(name), value - training.fetch(f"{name}_grad"), rtol=1e-5, atol=1e-6
        )
    other = training.model()
    training.workspace.run(other.param_init_net)
    for name, value in before.items():
        training.workspace.feed_blob(name, value)
    decayed = training.fetch("out_w_grad"), training.fetch("out_b_grad")
    training.steps(other, 1)
    expected = training.fetch("out_w_grad") + 0.25 * before["out_w"]
    np.testing.assert_allclose(decayed[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decayed[1], training.fetch("out_b_grad"), rtol=1e-5, atol=1e-6)


def norm_of_step(training: Any, model: ModelHelper) -> float:
    before = [training.fetch(param) for param in model.params]
    training.steps(model, 1)
    after = [training.fetch(param) for param in model.params]
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(after, before, strict=True))))


def test_the_norm_of_all_gradients_is_limited(training: Any) -> None:
    model = training.model()
    build_sgd(model, 1.0, max_gradient_norm=0.01)
    training.begin(model)
    assert norm_of_step(training, model) == pytest.approx(0.01, rel=1e-3)


def test_parameters_with_an_optimizer_of_their_own_are_limited_too(training: Any) -> None:
    with UseOptimizer(SgdOptimizer(1.0)):
        model = training.model()
    build_sgd(model, 0.0, max_gradient_norm=0.01)
    training.begin(model)
    assert norm_of_step(training, model) == pytest.approx(0.01, rel=1e-3)


def test_rates_can_be_multiplied_from_outside(training: Any) -> None:
    model = training.model()
    build_sgd(model, 1.0, max_gradient_norm=0.01, allow_lr_injection=True)
    training.begin(model)
    assert training.fetch("lr_injection").tolist() == [1]
    training.workspace.feed_blob("lr_injection", np.array([0.5], np.float32))
    assert norm_of_step(training, model) == pytest.approx(0.005, rel=1e-3)


def test_rates_can_be_scaled_before_they_are_built(training: Any) -> None:
    for optimizer in (SgdOptimizer(0.2), AdamOptimizer(0.2), RmsPropOptimizer(0.2)):
        optimizer.scale_learning_rate(0.5)
        assert getattr(optimizer, optimizer._rate) == 0.1
    with pytest.raises(NotImplementedError, match="has no learning rate"):
        Optimizer().scale_learning_rate(2)


def test_a_rate_of_zero_leaves_parameters_alone(training: Any) -> None:
    model = training.model()
    before = len(model.Proto().op)
    for one in (build_sgd, build_adagrad, build_adam, build_adadelta, build_wngrad, build_storm):
        one(model, 0.0)
    build_ftrl(model, alpha=0.0)
    assert len(model.Proto().op) == before


def test_an_optimizer_by_itself() -> None:
    class Signs(Optimizer):
        def _run(self, net: Any, param_init_net: Any, param_info: Any) -> None:
            net.Sub([param_info.blob, net.Sign(param_info.grad)], param_info.blob)

    init, net = Net("init"), Net("net")
    param = init.ConstantFill([], "w", shape=[2], value=3.0)
    Signs()(net, init, param, BlobReference("g"))
    Signs()(net, init, "w", BlobReference("g"))
    workspace = Workspace()
    workspace.feed_blob("g", np.array([-2, 5], np.float32))
    workspace.run(init)
    workspace.run(net)
    assert workspace.fetch_blob("w").tolist() == [5, 1]
    with pytest.raises(GraphError, match="takes a ParameterInfo, or a gradient"):
        Signs()(net, init, param)
    with pytest.raises(NotImplementedError, match="does not say how"):
        Optimizer()(net, init, param, BlobReference("g"))


def test_weights_can_be_scaled(training: Any) -> None:
    model = training.model()
    scale = WeightScale(stepsize=3, upper_bound_iter=9, scale=0.0, to_aux=True)
    build_adagrad(model, 0.1, weight_scale=scale)
    training.begin(model)
    training.steps(model, 1)
    assert training.fetch("out_w").any()
    training.steps(model, 1)
    assert not training.fetch("out_w").any()
    assert not training.fetch("out_w_squared_sum").any()


def test_rows_that_nobody_says_how_many() -> None:
    init, net = Net("init"), Net("net")
    table = BlobReference("fed")
    slices = GradientSlice(BlobReference("rows"), BlobReference("values"))
    AdagradOptimizer(0.5, rowWise=True)(net, init, table, slices)
    workspace = Workspace()
    workspace.feed_blob("fed", np.ones((4, 2), np.float32))
    workspace.feed_blob("rows", np.array([1], np.int64))
    workspace.feed_blob("values", np.ones((1, 2), np.float32))
    workspace.run(init)
    assert workspace.fetch_blob("fed_avg_squared_sum").tolist() == [0] * 4
    workspace.run(net)
    assert workspace.fetch_blob("fed_avg_squared_sum").tolist() == [0, 1, 0, 0]


def test_what_they_cannot_do(training: Any) -> None:
    model, sparse = training.model(), table_model()
    for wrong, text in [
        (lambda: build_sgd(model, -1.0), "cannot be below 0"),
        (lambda: build_sgd(model, 1.0, lars=-1.0), "LARS cannot be below 0"),
        (lambda: build_sgd(model, 1.0, momentum=-0.5), "momentum cannot be below 0"),
        (lambda: build_rms_prop(model, 0.0), "has to be above 0"),
        (lambda: build_rms_prop(sparse, 0.1), "cannot update 'table': its gradient is sparse"),
        (lambda: build_yellowfin(sparse), "its gradient is sparse"),
        (lambda: build_gftrl(sparse), "its gradient is sparse"),
        (lambda: build_adagrad(model, 0.1, rowWise=True), r"UseOptimizer\(AdagradOptimizer\("),
        (lambda: build_adam(model, 0.1, rowWise=True), "rowWise is for sparse gradients"),
        (lambda: build_adagrad(sparse, 0.1, decay=0.5), "no decay but 1"),
        (lambda: build_adagrad(model, 0.1, lars=1.0, weight_decay=0.1), "not both"),
        (lambda: build_adagrad(model, 0.1, swa_options={"swa_avg_start_it": 1}), "not supported"),
        (lambda: build_adam(sparse, 0.1, rowWise=True, enableRAdam=True), "without enableRAdam"),
        (lambda: build_yellowfin(model, policy="step"), "by itself"),
        (lambda: add_weight_decay(sparse, 0.1), "cannot be sparse"),
        (
            lambda: YellowFinOptimizer(0.0)(model.net, Net("init"), "w", BlobReference("g")),
            "above 0",
        ),
        (lambda: Optimizer.dedup(model.net, "sum", "g"), "only sparse gradients"),
    ]:
        with pytest.raises(GraphError, match=text):
            wrong()
    with pytest.raises(GraphError, match="AddGradientOperators first"):
        build_sgd(ModelHelper("new"), 0.1)
    for options, text in (
        ({"policy": "stepp"}, "'stepp' is not a policy. Did you mean 'step'"),
        ({"policy": "step", "gamma": 0.5}, "SgdOptimizer has no such rate: .*'stepsize'"),
    ):
        fresh = training.model()
        with NameScope("part"), pytest.raises(GraphError, match=text):
            build_sgd(fresh, 0.1, **options)
    with pytest.raises(TypeError, match="polisy"):
        build(model, SgdOptimizer(0.1, polisy="fixed"))


# Gradients that are kept small, one by one.


@pytest.mark.parametrize(("norm", "order"), [("l2_norm", 2), ("l1_norm", 1)])
def test_clipping_by_norm(norm: str, order: int, training: Any) -> None:
    model = training.model()
    clip = GradientClipping("by_norm", norm, clip_threshold=0.01, blobs_to_exclude=["out_b"])
    clip(model.net, grad_map=model.param_to_grad)
    training.begin(model)
    training.steps(model, 1)
    for param in model.params:
        found = float(np.linalg.norm(training.fetch(f"{param}_grad").ravel(), order))
        if param == "out_b":
            assert found > 0.011
        else:
            assert found == pytest.approx(0.01, rel=1e-3)


def test_clipping_by_the_norm_of_the_parameter(training: Any) -> None:
    model = training.model()
    clip = GradientClipping(
        "by_norm",
        clip_threshold=0.001,
        use_parameter_norm=True,
        compute_norm_ratio=True,
        blobs_to_include=["out_w"],
    )
    clip(model.net, grad_map=model.param_to_grad)
    training.begin(model)
    training.steps(model, 1)
    weight = float(np.linalg.norm(training.fetch("out_w")))
    assert float(np.linalg.norm(training.fetch("out_w_grad"))) == pytest.approx(
        0.001 * weight, rel=1e-3
    )
    assert float(training.fetch("out_w_norm_ratio").ravel()[0]) > 0.001


def test_clipping_by_value(training: Any) -> None:
    model = training.model()
    GradientClipping("by_value", clip_max=0.01, clip_min=-0.02)(
        model.net, grad_map=model.param_to_grad
    )
    training.begin(model)
    training.steps(model, 1)
    found = training.fetch("out_w_grad")
    assert (found.min(), found.max()) == (np.float32(-0.02), np.float32(0.01))


def test_what_cannot_be_clipped(training: Any) -> None:
    model = training.model()
    with pytest.raises(GraphError, match="'by_norm' or 'by_value'"):
        GradientClipping("by_luck")
    with pytest.raises(GraphError, match="not 'l3_norm'"):
        GradientClipping("by_norm", "l3_norm")
    with pytest.raises(GraphError, match="which gradients"):
        GradientClipping("by_norm")(model.net)
    with pytest.raises(KeyError, match="no parameter 'w'"):
        GradientClipping("by_norm", blobs_to_include=["w"])(model.net, grad_map=model.param_to_grad)
    with pytest.raises(GraphError, match="'x' has no gradient"):
        GradientClipping("by_norm", blobs_to_include=["x"])(model.net, grad_map=model.param_to_grad)
