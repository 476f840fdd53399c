"""The first layers of models, in the names of Caffe2."""

import numpy as np
import pytest

from procession.caffe2.python import brew, core, gradient_checker, model_helper, workspace


@pytest.fixture
def model():
    workspace.ResetWorkspace()
    made = model_helper.ModelHelper(name="m")
    brew.fc(made, "x", "y", dim_in=3, dim_out=2)
    return made


def test_a_layer_and_its_parameters(model):
    assert model.GetParams() == ["y_w", "y_b"]
    assert (model.weights, model.biases) == (["y_w"], ["y_b"])
    assert [op.type for op in model.InitProto().op] == ["XavierFill", "ConstantFill"]
    assert model.net.external_inputs == ["x", "y_w", "y_b"]
    workspace.RunNetOnce(model.param_init_net)
    workspace.FeedBlob("x", np.ones((4, 3), np.float32))
    workspace.RunNetOnce(model.net)
    weight = workspace.FetchBlob("y_w")
    assert weight.shape == (2, 3)
    np.testing.assert_allclose(
        workspace.FetchBlob("y"), np.ones((4, 3)) @ weight.T, rtol=1e-5, atol=1e-6
    )


def test_gradients_of_parameters(model):
    loss = model.net.AveragedLoss("y", "loss")
    model.AddGradientOperators([loss])
    assert model.param_to_grad == {"y_w": "y_w_grad", "y_b": "y_b_grad"}
    workspace.RunNetOnce(model.param_init_net)
    values = {"x": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)}
    net = model_helper.ModelHelper(name="again")
    y = brew.fc(net, "x", "y", dim_in=3, dim_out=2)
    gradient_checker.NetGradientChecker.Check(
        net.net,
        outputs_with_grad=[net.net.AveragedLoss(y)],
        input_values=values,
        input_to_check="x",
    )


def test_scopes_and_other_initializers():
    made = model_helper.ModelHelper(name="m", arg_scope={"order": "NCHW"})
    with core.NameScope("s"):
        made_out = brew.fc(
            made, "x", "y", 3, 2, weight_init=("ConstantFill", {"value": 2.0}), axis=1
        )
    assert made_out == "s/y"
    assert made.GetParams("s") == ["s/y_w", "s/y_b"]
    assert made.GetParams("") == []
    assert model_helper.ModelHelper(name="n", init_params=False).InitProto().op == []


def test_what_is_not_there_says_so():
    assert brew.has_helper("fc")
    assert not brew.has_helper("conv")
    with pytest.raises(AttributeError, match="brew has no layer 'conv' in Procession"):
        brew.conv  # noqa: B018
