"""Regularizers: as parts of a loss, and as steps after the optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import BlobReference, GraphError, Net, Workspace
from procession.core import GradientSlice
from procession.train import (
    BoundedGradientProjection,
    ElasticNet,
    GroupL1Norm,
    Initializer,
    L0ApproxNorm,
    L1Norm,
    L1NormTrimmed,
    L2Norm,
    LogBarrier,
    LpNorm,
    MaxNorm,
    ModelHelper,
    Regularizer,
    SparseLpNorm,
    UseRegularizer,
    apply_regularizers_after_optimizer,
    apply_regularizers_on_loss,
    brew,
    build_sgd,
)

MATRIX = np.array([[0.5, -2.0, 0.3, 1.0], [1.5, 0.5, 0.4, -1.0]], np.float32)
COLUMNS = np.linalg.norm(MATRIX, axis=0)


def model_with(regularizer: Any) -> tuple[ModelHelper, Any]:
    model = ModelHelper("m")
    with UseRegularizer({"WEIGHT": regularizer}):
        out = brew.fc(model, "x", "y", 4, 2)
    return model, model.net.AveragedLoss(out, "loss")


def regularized(regularizer: Any) -> tuple[float, Any]:
    """By how much the loss becomes larger, and the gradient."""
    model, loss = model_with(regularizer)
    total = apply_regularizers_on_loss(model, loss)
    gradients = model.AddGradientOperators([total])
    workspace = Workspace()
    workspace.feed_blob("x", np.ones((3, 4), np.float32))
    workspace.run(model.param_init_net)
    workspace.feed_blob("y_w", MATRIX)
    workspace.run(model.net)
    losses = [float(np.ravel(workspace.fetch_blob(str(each)))[0]) for each in (loss, total)]
    return losses[1] - losses[0], np.array(workspace.fetch_blob(gradients["y_w"])) - 0.5


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (L1Norm(0.1), 0.1 * np.abs(MATRIX).sum()),
        (L2Norm(0.1), 0.1 * (MATRIX**2).sum()),
        (ElasticNet(0.1, 0.2), 0.1 * np.abs(MATRIX).sum() + 0.2 * (MATRIX**2).sum()),
        (LpNorm(0.1, 1.0), 0.1 * COLUMNS.sum()),
        (L0ApproxNorm(0.1, alpha=0.5), 0.1 * 4),
        (L0ApproxNorm(0.1, alpha=0.5, budget=2), 0.2),
        (
            GroupL1Norm(0.1, [1, 3]),
            0.1 * (COLUMNS[0] + np.sqrt(3) * np.linalg.norm(COLUMNS[1:])),
        ),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Regularizer) else "",
)
def test_terms_of_the_loss(regularizer: Any, expected: float) -> None:
    assert regularized(regularizer)[0] == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_a_term() -> None:
    np.testing.assert_allclose(regularized(L2Norm(0.1))[1], 0.2 * MATRIX, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        regularized(L1Norm(0.1))[1], 0.1 * np.sign(MATRIX), rtol=1e-4, atol=1e-6
    )


def test_a_loss_without_terms_is_as_it_was() -> None:
    model, loss = model_with(None)
    assert apply_regularizers_on_loss(model, loss) is loss
    model, loss = model_with(MaxNorm())
    assert apply_regularizers_on_loss(model, loss) is loss


def test_parameters_stay_within_bounds() -> None:
    model, loss = model_with(BoundedGradientProjection(lb=-0.25, ub=0.5))
    model.AddGradientOperators([loss])
    build_sgd(model, 1.0)
    apply_regularizers_after_optimizer(model)
    workspace = Workspace()
    workspace.feed_blob("x", np.array([[1, -1, 0, 0]], np.float32))
    workspace.run(model.param_init_net)
    for _ in range(3):
        workspace.run(model.net)
    weight = workspace.fetch_blob("y_w")
    np.testing.assert_allclose(weight[:, :2], [[-0.25, 0.5]] * 2)
    assert float(workspace.fetch_blob("y_b")[0]) < -1


def test_a_barrier_keeps_parameters_above_zero() -> None:
    model = ModelHelper("m")
    with UseRegularizer(LogBarrier(1.0)):
        param = model.create_param("w", [2], Initializer("ConstantFill", value=1.0))
    loss = model.net.SumElements(param, "loss")
    total = apply_regularizers_on_loss(model, loss)
    model.AddGradientOperators([total])
    build_sgd(model, 0.1)
    apply_regularizers_after_optimizer(model)
    workspace = Workspace()
    workspace.run(model.param_init_net)
    for _ in range(60):
        workspace.run(model.net)
        assert (workspace.fetch_blob("w") > 0).all()
    assert workspace.fetch_blob("optimizer_iteration").tolist() == [60]


def test_rows_that_were_updated_get_smaller() -> None:
    model = ModelHelper("m")
    with UseRegularizer(MaxNorm(1.0)):
        table = model.create_param("t", [3, 2], Initializer("ConstantFill", value=3.0))
    rows = model.net.Gather([table, "ids"])
    model.AddGradientOperators([model.net.SumElements(rows)])
    build_sgd(model, 1.0)
    apply_regularizers_after_optimizer(model)
    workspace = Workspace()
    workspace.feed_blob("ids", np.array([0, 2], np.int64))
    workspace.run(model.param_init_net)
    workspace.run(model.net)
    found = np.linalg.norm(workspace.fetch_blob("t"), axis=1)
    np.testing.assert_allclose(found, [1, np.sqrt(18), 1], rtol=1e-5)


def test_mistakes() -> None:
    for wrong, text in [
        (lambda: L1Norm(-1), "reg_lambda cannot be below 0"),
        (lambda: LpNorm(0), "reg_lambda has to be above 0"),
        (lambda: LpNorm(1, 0), "p_value has to be above 0"),
        (lambda: L0ApproxNorm(1, budget=-1), "budget cannot be below 0"),
        (lambda: L1NormTrimmed(1, 0), "k is a whole number"),
        (lambda: GroupL1Norm(1, 3), "groups is a list"),
        (lambda: SparseLpNorm(3, 1), "p is 1 or 2"),
        (lambda: MaxNorm(0), "norm has to be above 0"),
        (lambda: BoundedGradientProjection(1, 0), "nothing is between the bounds"),
        (lambda: BoundedGradientProjection(0, 1, epsilon=0), "epsilon has to be above 0"),
        (lambda: L1Norm(1)(Net("net"), Net("init"), "w", by="on_loss"), "not 'w'"),
        (lambda: L1Norm(1)(Net("net"), Net("init"), BlobReference("w"), by="now"), "not 'now'"),
        (
            lambda: MaxNorm()(
                Net("net"), Net("init"), BlobReference("w"), "g", by="after_optimizer"
            ),
            "MaxNorm is for sparse gradients, which 'w' has not",
        ),
    ]:
        with pytest.raises(GraphError, match=text):
            wrong()


def test_one_of_ones_own() -> None:
    class Zero(Regularizer):
        def _run_after_optimizer(self, net: Any, init: Any, param: Any, grad: Any) -> None:
            net.Scale(param, param, scale=0.0)

    init, net = Net("init"), Net("net")
    param = BlobReference("w")
    slices = GradientSlice(BlobReference("i"), BlobReference("v"))
    assert Zero()(net, init, param, slices, by="on_loss") is None
    Zero()(net, init, param, slices, by="after_optimizer")
    assert [op.type for op in net.Proto().op] == ["Scale"]
