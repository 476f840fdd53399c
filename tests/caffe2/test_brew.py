"""Models: two nets and their parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from caffe2.python import brew, core, optimizer, workspace
from caffe2.python.cnn import CNNModelHelper
from caffe2.python.model_helper import ExtractPredictorNet, ModelHelper


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
    del brew._HELPERS.known["tripled"]


SCOPE = {"order": "NCHW", "use_cudnn": True, "cudnn_exhaustive_search": False}
"""What a model gives to helpers that take any argument."""


def test_a_helper_is_registered_once(tripled: None) -> None:
    assert brew.tripled(ModelHelper("m"), "x") == (3, SCOPE)
    assert brew.has_helper("tripled")
    assert brew.has_helper(brew.tripled)
    assert brew.has_helper(brew.fc)
    assert brew.has_helper("conv")
    assert not brew.has_helper("sigmoidal")
    with pytest.raises(AttributeError, match=r"no helper 'triple'.*tripled"):
        _ = brew.triple
    with pytest.raises(ValueError, match="has a helper 'tripled' already"):
        brew.Register(brew.tripled)


def test_helpers_get_the_arguments_of_the_scopes_they_are_in(tripled: None) -> None:
    model = ModelHelper("m")
    with brew.arg_scope([brew.tripled, brew.fc], times=1):
        with brew.arg_scope(brew.tripled, order="NHWC"):
            assert brew.tripled(model, "x") == (1, {**SCOPE, "order": "NHWC"})
            assert brew.tripled(model, "x", times=2, order="") == (2, {**SCOPE, "order": ""})
        assert brew.tripled(model, "x") == (1, SCOPE)
    assert brew.tripled(model, "x") == (3, SCOPE)
    with pytest.raises(RuntimeError), brew.arg_scope(brew.tripled, times=1):
        raise RuntimeError
    assert brew.tripled(model, "x") == (3, SCOPE)
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


def test_branches_and_loops_are_models() -> None:
    workspace.ResetWorkspace()
    model, then, body, condition = (
        ModelHelper(each) for each in ("m", "then", "body", "condition")
    )
    then.net.ConstantFill([], "y", shape=[], value=2.0)
    body.net.Add(["x", "one"], "x")
    condition.net.LT(["x", "limit"], "go_on")
    x, one, limit = (
        model.net.ConstantFill([], name, shape=[], value=value)
        for name, value in (("x", 0.0), ("one", 1.0), ("limit", 5.0))
    )
    y = model.net.ConstantFill([], "y", shape=[], value=1.0)
    yes = model.net.ConstantFill([], "yes", shape=[], value=True)
    go_on = model.net.ConstantFill([], "go_on", shape=[], value=True)
    brew.cond(model, yes, [y], then)
    brew.loop(model, go_on, [x, one, limit, go_on], body, condition)
    workspace.RunNetOnce(model.net)
    assert (workspace.FetchBlob("y"), workspace.FetchBlob("x")) == (2, 5)


def test_parameters_that_are_added_in_the_old_way() -> None:
    model = ModelHelper("m")
    weight = model.param_init_net.ConstantFill([], "w", shape=[2, 3])
    info = model.add_param_DEPRECATED(weight, key="k", length=2)
    assert (info.param_id, info.key, info.shape, info.length) == (0, "k", [2, 3], 2)
    assert model.params == [weight]
    assert model.get_param_info(weight) is info


def test_the_part_that_predicts() -> None:
    model = ModelHelper("m")
    hidden = brew.relu(model, brew.fc(model, "x", "h", 3, 4), "h")
    out = brew.fc(model, hidden, "y", 4, 2)
    model.AddGradientOperators([model.net.AveragedLoss(out, "loss")])
    net, more = ExtractPredictorNet(
        model.net.Proto(), ["x"], [out], core.DeviceOption(0, 1), renames={"x": "z"}
    )
    assert [op.type for op in net.Proto().op] == ["FC", "Relu", "FC"]
    assert sorted(more) == ["h_b", "h_w", "y_b", "y_w"]
    assert list(net.Proto().external_output) == ["y"]
    assert net.Proto().name == "m_predict"
    assert (net.Proto().op[0].input[0], net.Proto().op[0].device_option.device_id) == ("z", 1)


def test_a_model_may_take_known_operators_only() -> None:
    model = ModelHelper("m", allow_not_known_ops=False)
    assert str(model.Sigmoid("x", "y")) == "y"
    with pytest.raises(AttributeError, match="no operators like 'Sqr'"):
        model.Sqr("x", "y")


def test_arguments_of_scopes_are_told() -> None:
    with brew.arg_scope([brew.fc, brew.conv], axis=1), brew.arg_scope(brew.fc, axis=2):
        told = brew.get_current_scope()
    assert told == {"fc": {"axis": 2}, "conv": {"axis": 1}}
    told["fc"]["axis"] = 3
    assert brew.get_current_scope() == {}


def test_rates_are_multiplied_in_the_current_workspace() -> None:
    workspace.ResetWorkspace()
    model = ModelHelper("m")
    model.AddGradientOperators([model.net.AveragedLoss(brew.fc(model, "x", "y", 1, 1), "loss")])
    optimizer.build_sgd(model, 1.0, allow_lr_injection=True)
    workspace.FeedBlob("x", np.ones((1, 1), np.float32))
    workspace.RunNetOnce(model.param_init_net)
    assert optimizer.get_lr_injection().tolist() == [1]
    optimizer.set_lr_injection(0.25)
    workspace.RunNetOnce(model.net)
    assert workspace.FetchBlob("y_b").tolist() == [-0.25]


def test_layers_as_methods() -> None:
    model = CNNModelHelper("NHWC", name="m", ws_nbytes_limit=100)
    model.Conv("x", "y", 2, 4, 3, model.XavierInit, model.ZeroInit)
    model.LRN("y", "z", size=3, alpha=1.0, beta=0.5)
    conv, lrn = model.Proto().op
    assert conv.engine == "CUDNN"
    assert [(each.name, each.s or each.i) for each in conv.arg] == [
        ("order", b"NHWC"),
        ("kernel", 3),
        ("exhaustive_search", 0),
        ("ws_nbytes_limit", 100),
    ]
    assert list(lrn.output) == ["z", "_z_scale"]
    assert model.MSRAInit == ("MSRAFill", {})
    assert model.CPU.device_type == 0
    assert core.DeviceOption(workspace.GpuDeviceType, 0) == model.GPU
    with pytest.raises(ValueError, match="not 'CHW'"):
        CNNModelHelper("CHW")
    with pytest.raises(AttributeError, match="no 'Convolve'"):
        model.Convolve("x")
