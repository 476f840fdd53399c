"""The checkers of gradients and devices, and the base of Caffe2's property tests."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, device_checker, gradient_checker, workspace
from caffe2.python import hypothesis_test_util as hu
from hypothesis import given, settings

X = np.array([[0.5, -1.0, 2.0, 1.5], [0.1, 0.7, -0.4, 1.0]], np.float32)


def wrong(inputs: list, outputs: list) -> None:
    outputs[0].feed(inputs[0].data ** 2)


def wrong_gradient(inputs: list, outputs: list) -> None:
    outputs[0].feed(inputs[2].data * inputs[0].data)


def test_a_right_gradient_passes() -> None:
    checker = gradient_checker.GradientChecker(0.01, 0.01)
    workspace.FeedBlob("mine", X)
    good, gradient, estimate = checker.CheckSimple(
        core.CreateOperator("Mul", ["a", "b"], "ab"), [X.copy(), X + 1], 0, [0]
    )
    assert good
    np.testing.assert_allclose(gradient, X * (X + 1) ** 2, rtol=1e-5)
    assert gradient.shape == estimate.shape
    assert workspace.CurrentWorkspace() == "default"
    assert not workspace.HasBlob("a")


def test_a_wrong_gradient_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    operator = core.CreatePythonOperator(wrong, ["x"], ["y"], grad_f=wrong_gradient)
    checker = gradient_checker.GradientChecker(0.01, 0.01)
    good, _, _ = checker.CheckSimple(operator, [X.copy()], 0, [0])
    assert not good
    assert "the gradient is" in capsys.readouterr().out


def test_a_sparse_gradient_passes() -> None:
    net = core.Net("gather")
    net.Gather(["table", "rows"], "y")
    values = {"table": X.copy(), "rows": np.array([1, 1, 0])}
    gradient_checker.NetGradientChecker.Check(net, ["y"], values, "table")


def test_nets_are_compared() -> None:
    nets = [core.Net("one"), core.Net("other")]
    nets[0].Mul(["x", "x"], "y")
    nets[1].Sqr("x", "y")
    check = gradient_checker.NetGradientChecker.CompareNets
    check(nets, [["y"], ["y"]], [0], ["x"], {"x": X.copy()}, threshold=1e-6)
    nets[1].Scale("y", "y", scale=1.01)
    with pytest.raises(AssertionError):
        check(nets, [["y"], ["y"]], [0], ["x"], {"x": X.copy()}, threshold=1e-6)


def test_a_wrong_gradient_of_a_net_is_found() -> None:
    net = core.Net("wrong")
    net.Python(wrong, wrong_gradient)("x", "y")
    with pytest.raises(AssertionError, match="wrong"):
        gradient_checker.NetGradientChecker.Check(net, ["y"], {"x": X.copy()}, "x")


def test_devices_agree() -> None:
    checker = device_checker.DeviceChecker(0.01, [core.DeviceOption(0), core.DeviceOption(0, 1)])
    assert checker.CheckSimple(core.CreateOperator("Relu", "x", "y"), [X], [0])
    net = core.Net("net")
    net.Relu("x", "y")
    assert checker.CheckNet(net.Proto(), {"x": X})
    random = core.CreateOperator("UniformFill", [], "y", shape=[5])
    assert not checker.CheckSimple(random, [], [0])


class TestProperties(hu.HypothesisTestCase):
    @given(inputs=hu.tensors(n=2), **hu.gcs)
    @settings(max_examples=5, deadline=None)
    def test_sum(self, inputs: list, gc: object, dc: list) -> None:
        operator = core.CreateOperator("Sum", ["a", "b"], "sum")
        self.assertReferenceChecks(
            gc,
            operator,
            inputs,
            lambda a, b: [a + b],
            output_to_grad="sum",
            grad_reference=lambda grad, outputs, given: (grad, grad),
            ensure_outputs_are_inferred=True,
        )
        self.assertDeviceChecks(dc, operator, inputs, [0])
        self.assertGradientChecks(gc, operator, inputs, 0, [0])
        with pytest.raises(AssertionError):
            self.assertReferenceChecks(gc, operator, inputs, lambda a, b: [a + b + 1])

    def test_what_is_raised_and_validated(self) -> None:
        split = core.CreateOperator("Split", ["x"], ["a", "b"], axis=1)
        self.assertRunOpRaises(hu.cpu_do, split, [X[:, :3]], exception=RuntimeError)
        seen = []
        self.assertValidationChecks(hu.cpu_do, split, [X], lambda x, a, b: seen.append(a))
        assert seen[0].shape == (2, 2)
        assert [each.shape for each in hu.runOpOnInput(hu.cpu_do, split, [X])] == [(2, 2)] * 2
        assert len(hu.runOpBenchmark(hu.cpu_do, split, [X], iterations=1)) == 2
