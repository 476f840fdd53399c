"""Models: two nets and their parameters."""

from __future__ import annotations

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
