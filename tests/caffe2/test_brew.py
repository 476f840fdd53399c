"""Models: two nets and their parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from caffe2.python import brew, core, workspace
from caffe2.python.model_helper import ModelHelper


def test_a_model_is_initialised_and_trained() -> None:
    workspace.ResetWorkspace()
    model = ModelHelper(name="model")
    with core.NameScope("first"):
        hidden = brew.fc(model, "x", "hidden", 3, 4, weight_init=("ConstantFill", {"value": 0.5}))
    hidden = brew.tanh(model, brew.relu(model, hidden, hidden), "squashed")
    out = brew.fc(model, hidden, "out", 4, 2, bias_init=("ConstantFill", {"value": 1.0}))
    both = brew.concat(model, [out, brew.sub(model, [out, out], "zeros")], "both", axis=1)
    total = brew.sum(model, [both, brew.softmax(model, both)], "total")
    loss = model.AveragedLoss(total, "loss")
    model.AddGradientOperators([loss])
    assert list(map(str, model.params)) == ["first/hidden_w", "first/hidden_b", "out_w", "out_b"]
    assert list(map(str, model.GetParams("first"))) == ["first/hidden_w", "first/hidden_b"]
    with core.NameScope("first"):
        assert model.GetParams() == model.GetParams("first/")
    assert set(model.param_to_grad) == set(model.params)
    workspace.FeedBlob("first/x", np.ones((2, 3), np.float32))
    workspace.RunNetOnce(model.param_init_net)
    workspace.RunNetOnce(model.net)
    assert workspace.FetchBlob("first/hidden_w").tolist() == [[0.5] * 3] * 4
    assert workspace.FetchBlob("out_b").tolist() == [1, 1]
    assert workspace.FetchBlob("both").shape == (2, 4)
    for parameter, gradient in model.param_to_grad.items():
        assert workspace.FetchBlob(gradient).shape == workspace.FetchBlob(parameter).shape
    assert [operator.type for operator in model.InitProto().op].count("ConstantFill") == 3
    with pytest.raises(RuntimeError, match="'model' has its gradient operators already"):
        model.AddGradientOperators([loss])


def test_parameters_can_come_from_elsewhere() -> None:
    workspace.ResetWorkspace()
    model = ModelHelper(name="model", init_params=False)
    brew.fc(model, "x", "y", 2, 1)
    brew.mat_mul(model, ["x", "y"], "z")
    brew.accuracy(model, ["y", "label"], "right")
    assert not model.param_init_net.Proto().op
    assert list(map(str, model.params)) == ["y_w", "y_b"]
    assert list(model.Proto().external_input) == ["x", "y_w", "y_b", "label"]


@pytest.fixture
def tripled() -> Iterator[None]:
    def tripled(model: ModelHelper, x: object, times: int = 3, **more: object) -> object:
        return times, more

    brew.Register(tripled)
    yield
    del brew._helpers["tripled"]


def test_a_helper_is_registered_once(tripled: None) -> None:
    assert brew.tripled(ModelHelper("m"), "x") == (3, {})
    assert brew.has_helper("tripled")
    assert brew.has_helper(brew.tripled)
    assert brew.has_helper(brew.fc)
    assert not brew.has_helper("conv")
    with pytest.raises(AttributeError, match=r"no helper 'triple'.*tripled"):
        _ = brew.triple
    with pytest.raises(ValueError, match="has a helper 'tripled' already"):
        brew.Register(brew.tripled)


def test_helpers_get_the_arguments_of_the_scopes_they_are_in(tripled: None) -> None:
    model = ModelHelper("m")
    with brew.arg_scope([brew.tripled, brew.fc], times=1):
        with brew.arg_scope(brew.tripled, order="NHWC"):
            assert brew.tripled(model, "x") == (1, {"order": "NHWC"})
            assert brew.tripled(model, "x", times=2, order="") == (2, {"order": ""})
        assert brew.tripled(model, "x") == (1, {})
    assert brew.tripled(model, "x") == (3, {})
    with pytest.raises(RuntimeError), brew.arg_scope(brew.tripled, times=1):
        raise RuntimeError
    assert brew.tripled(model, "x") == (3, {})
    with brew.arg_scope(brew.fc, weight_init=("ConstantFill", {})):
        brew.fc(model, "x", "y", 2, 1)
    assert [operator.type for operator in model.InitProto().op] == ["ConstantFill"] * 2
    with pytest.raises(ValueError, match=r"takes helpers, such as .*, not 'fc'"):
        brew.arg_scope(["fc"], times=1).__enter__()


def test_parameters_have_tags() -> None:
    model = ModelHelper("m")
    with core.NameScope("s"):
        brew.fc(model, "x", "y", 2, 1)
        mean = model.param_init_net.ConstantFill([], "mean", shape=[1])
    model.AddParameter(mean, ["COMPUTED_PARAM"])
    assert model.get_name() == "m"
    assert list(map(str, model.weights)) == ["s/y_w"]
    assert list(map(str, model.biases)) == ["s/y_b"]
    assert model.GetComputedParams() == [mean]
    assert model.GetComputedParams("t") == []
    assert model.GetAllParams("s") == [*model.GetParams("s/"), mean]
    with pytest.raises(ValueError, match="BlobReference, not 'x'"):
        model.AddParameter("x")
    other = ModelHelper("other", param_model=model)
    assert other.params is model.params
    assert other.GetComputedParams() == [mean]
    model.AddParameter(model.weights[0])
    with pytest.raises(AssertionError, match=r"twice: \['s/y_w'\]"):
        model.Validate()


def test_a_model_is_one_net_and_two_again() -> None:
    model = ModelHelper("m")
    y = brew.fc(model, "x", "y", 2, 1)
    with pytest.raises(RuntimeError, match="AddGradientOperators first"):
        model.get_param_to_grad(model.params)
    gradients = model.AddGradientOperators([model.AveragedLoss(y, "loss")])
    assert model.grad_map == gradients
    assert model.get_param_to_grad(model.biases) == {"y_b": "y_b_grad"}
    whole = model.GetCompleteNet()
    assert whole.Name() == "m_complete_net"
    assert list(whole.Proto().external_input) == ["x"]
    parts = ModelHelper("parts")
    parts.ConstructInitTrainNetfromNet(whole)
    for part, original in ((parts.InitProto(), model.InitProto()), (parts.Proto(), model.Proto())):
        assert [op.type for op in part.op] == [op.type for op in original.op]
    assert {*map(str, parts.net.external_inputs)} == {"x", "y_w", "y_b"}
    with pytest.raises(AttributeError, match=r"no 'Rleu'.*Relu"):
        model.Rleu("x")
