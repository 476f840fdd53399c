"""Gradients in a workspace held against differences: right ones pass, wrong ones are found."""

from __future__ import annotations

import numpy as np
import pytest

from procession import GradientError, Net, Workspace, core
from procession.graph.proto import OperatorDef
from procession.testing.gradients import (
    Comparison,
    check_net_gradient,
    compare_nets,
    gradient_of,
    loss_and_gradient,
    operator_gradient,
)

X = np.array([[0.5, -1.0, 2.0, 1.5], [0.1, 0.7, -0.4, 1.0]], np.float32)


def square(inputs: list, outputs: list) -> None:
    outputs[0].feed(inputs[0].data ** 2)


def half_of_it(inputs: list, outputs: list) -> None:
    outputs[0].feed(inputs[2].data * inputs[0].data)


def wrong() -> OperatorDef:
    net = Net("python")
    net.Python(square, half_of_it)("x", "y")
    return net.Proto().op[0]


@pytest.fixture
def workspace() -> Workspace:
    return Workspace()


def compared(workspace: Workspace, operator: OperatorDef, *inputs: object, **more: object):
    return operator_gradient(
        workspace, operator, list(inputs), 0, [0], stepsize=0.01, threshold=0.01, **more
    )


def test_a_right_gradient_of_an_operator(workspace: Workspace) -> None:
    found = compared(workspace, core.CreateOperator("Mul", ["a", "b"], "ab"), X, X + 1)
    assert found.good
    assert str(found) == ""
    np.testing.assert_allclose(found.gradient, X * (X + 1) ** 2, rtol=1e-5)
    assert found.gradient.shape == found.estimate.shape
    assert workspace.has_blob("ab")


@pytest.mark.parametrize(("everywhere", "count"), [(False, 6), (True, 8)])
def test_a_wrong_gradient_of_an_operator(
    workspace: Workspace, everywhere: bool, count: int
) -> None:
    found = compared(workspace, wrong(), X + 3, everywhere=everywhere)
    assert not found.good
    assert len(found.wrong) == count
    assert f"at 0 the gradient is {found.gradient.flat[0]}, not" in str(found)


def test_operators_given_as_the_gradient(workspace: Workspace) -> None:
    operator = core.CreateOperator("Sqr", "x", "y")
    right = [
        core.CreateOperator("Mul", ["x", "y_grad"], "x_grad"),
        core.CreateOperator("Scale", "x_grad", "x_grad", scale=2.0),
    ]
    assert compared(workspace, operator, X, grad_ops=right).good
    assert not compared(workspace, operator, X, grad_ops=right[:1]).good


def test_a_gradient_has_the_shape_of_its_input_and_a_shape_that_is_inferred(
    workspace: Workspace,
) -> None:
    operator = core.CreateOperator("Sqr", "x", "y")
    with pytest.raises(GradientError, match=r"\(8,\)"):
        compared(
            workspace,
            operator,
            X,
            grad_ops=[core.CreateOperator("FlattenToVec", "y_grad", "x_grad")],
        )
    assert compared(workspace, operator, X, ensure_outputs_are_inferred=True).good
    with pytest.raises(GradientError, match="is not inferred"):
        compared(workspace, wrong(), X, ensure_outputs_are_inferred=True)


def test_a_loss_is_half_the_sum_of_squares(workspace: Workspace) -> None:
    operator = core.CreateOperator("Scale", "x", "y", scale=3.0)
    operators, gradients = gradient_of(operator)
    loss, gradient = loss_and_gradient(
        workspace, operator, operators, [X], ["x"], 0, gradients[0], [0]
    )
    assert loss == pytest.approx(4.5 * (X**2).sum(), rel=1e-5)
    np.testing.assert_allclose(gradient, 9 * X, rtol=1e-5)


def test_a_nan_is_wrong() -> None:
    assert Comparison(np.array([1.0, np.nan]), np.array([1.0, 1.0]), 0.1).wrong == [1]


def test_dense_and_sparse_gradients_of_nets(workspace: Workspace) -> None:
    net = Net("gathers")
    net.Gather(["table", "rows"], "y")
    net.Mul(["y", "factor"], "z")
    values = {
        "table": X.copy(),
        "rows": np.array([1, 1, 0]),
        "factor": np.float32([[1, 2, 3, 4]] * 3),
    }
    for blob in ("table", "factor"):
        mean, largest = check_net_gradient(workspace, net, ["z"], values, blob, step_size=0.01)
        assert 0 <= mean <= largest < 0.05


def test_a_wrong_gradient_of_a_net(workspace: Workspace) -> None:
    net = Net("wrong")
    net.Python(square, half_of_it)("x", "y")
    with pytest.raises(AssertionError, match=r"net 'wrong' by x is wrong:(.|\n)*# net: wrong"):
        check_net_gradient(workspace, net, ["y"], {"x": X}, "x")
    with pytest.raises(GradientError, match="other has no gradient"):
        check_net_gradient(workspace, net, ["y"], {"x": X}, "other")


def test_nets_are_compared(workspace: Workspace) -> None:
    nets = [Net("one"), Net("other")]
    nets[0].Mul(["x", "x"], "y")
    nets[1].Sqr("x", "y")
    compare_nets(workspace, nets, [["y"], ["y"]], [0], ["x"], {"x": X}, threshold=1e-6)
    nets[1].Scale("y", "y", scale=1.01)
    with pytest.raises(AssertionError, match="output y differs"):
        compare_nets(workspace, nets, [["y"], ["y"]], [0], ["x"], {"x": X}, threshold=1e-6)
    alike = Net("alike")
    alike.StopGradient("x", "still")
    alike.Mul(["still", "x"], "y")
    with pytest.raises(AssertionError, match="gradients of x"):
        compare_nets(workspace, [nets[0], alike], [["y"], ["y"]], [0], ["x"], {"x": X})
