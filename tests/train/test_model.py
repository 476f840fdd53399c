"""Models: their nets, and their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import BlobReference, GradientError, GraphError, NameScope
from procession.train import (
    ExternalInitializer,
    Initializer,
    ModelHelper,
    ParameterInfo,
    ParameterSharing,
    ParameterTags,
    SgdOptimizer,
    UseOptimizer,
    UseRegularizer,
    brew,
)
from procession.train.initializers import update_initializer
from procession.train.modifiers import OptimizerContext, RegularizerContext
from procession.train.sharing import parameter_sharing_context

ONES = Initializer("ConstantFill", value=1.0)


def test_parameters_are_created_once() -> None:
    model = ModelHelper("m")
    with NameScope("s"):
        weight = model.create_param("w", [2, 3], ONES, tags=ParameterTags.WEIGHT)
        again = model.create_param("w", (2, 3), ONES)
        with pytest.raises(GraphError, match=r"'s/w' of model 'm' has the shape \[2, 3\].*\[3\]"):
            model.create_param("w", [3], ONES)
        exact = model.create_param(BlobReference("there"), [1], ONES, tags=["BIAS"])
    assert again is weight
    assert (weight, exact) == ("s/w", "there")
    assert len(model.param_init_net.Proto().op) == 2
    assert model.params == ["s/w", "there"]
    assert (model.weights, model.biases) == (["s/w"], ["there"])
    info = model.get_param_info(weight)
    assert (info.name, info.shape, info.size, info.blob) == ("s/w", [2, 3], 6, weight)
    assert model.get_param_info(BlobReference("other")) is None
    with pytest.raises(TypeError, match="a string or a blob, not 3"):
        model.create_param(3, [1], ONES)
    with pytest.raises(GraphError, match="BlobReference, not 's/w'"):
        model.get_param_info("s/w")


def test_what_is_computed_is_not_learned() -> None:
    model = ModelHelper("m")
    mean = model.create_param("mean", [2], ONES, tags=ParameterTags.COMPUTED_PARAM)
    model.create_param("w", [2], ONES, tags=[ParameterTags.WEIGHT])
    assert (model.params, model.GetComputedParams()) == (["w"], [mean])
    assert model.GetAllParams() == ["w", "mean"]


def test_gradients_are_known_to_parameters(training: Any) -> None:
    model = training.model()
    infos = model.GetOptimizationParamInfo()
    assert {info.name: info.grad for info in infos} == {
        name: f"{name}_grad" for name in ("hidden_w", "hidden_b", "out_w", "out_b")
    }
    [one] = model.GetOptimizationParamInfo([BlobReference("out_b")])
    assert one.shape == [3]
    with pytest.raises(GradientError, match="has its gradient operators already"):
        model.AddGradientOperators(["loss"])


def test_only_gradients_of_parameters_are_made(training: Any) -> None:
    model = training.model()
    assert "hidden_w" in model.grad_map
    assert "x" not in model.grad_map
    assert not model.net.BlobIsDefined("x_grad")
    model = ModelHelper("m")
    y = brew.fc(model, "x", "y", 2, 1)
    brew.fc(model, "x", "unused", 2, 1)
    stopped = brew.fc(model, "x", "stopped", 2, 1).StopGradient()
    gradients = model.AddGradientOperators([model.net.Sub([y, stopped]).SumElements()])
    assert set(model.param_to_grad) == {"y_w", "y_b"}
    assert set(gradients) > {"y_w", "y_b"}
    other = ModelHelper("m")
    total = brew.fc(other, "x", "y", 2, 1).SumElements()
    assert set(other.AddGradientOperators([total], wanted=["x"])) >= {"x"}


def test_a_parameter_that_was_added_by_hand_is_known_as_well() -> None:
    model = ModelHelper("m")
    weight = model.param_init_net.ConstantFill([], "w", shape=[2], value=1.0)
    model.AddParameter(weight, "WEIGHT")
    with pytest.raises(GradientError, match="AddGradientOperators first"):
        model.GetOptimizationParamInfo()
    loss = model.SumElements(model.Mul([weight, "x"]))
    model.AddGradientOperators([loss])
    [info] = model.GetOptimizationParamInfo()
    assert (info.shape, info.grad) == ([2], "w_grad")


def test_sparse_gradients_can_be_left_alone() -> None:
    for skip in (False, True):
        model = ModelHelper("m", skip_sparse_optim=skip)
        table = model.create_param("table", [5, 2], ONES)
        rows = model.net.Gather([table, "ids"], "rows")
        model.AddGradientOperators([brew.fc(model, rows, "y", 2, 1).SumElements()])
        names = [info.name for info in model.GetOptimizationParamInfo()]
        assert names == ["y_w", "y_b"] if skip else ["table", "y_w", "y_b"]


def test_a_model_takes_the_parameters_of_another(run: Any) -> None:
    model = ModelHelper("train")
    brew.fc(model, "x", "y", 2, 3)
    test = ModelHelper("test", param_model=model)
    brew.fc(test, "x", "y", 2, 3)
    assert test.param_init_net is model.param_init_net
    assert len(model.InitProto().op) == 2
    assert run(test, "y", x=np.ones((4, 2), np.float32)).shape == (4, 3)


def test_parameters_from_elsewhere() -> None:
    model = ModelHelper("m", init_params=False)
    brew.spatial_bn(model, "x", "y", 3, is_test=False)
    assert not model.InitProto().op
    assert list(model.Proto().external_input) == ["x", "y_s", "y_b", "y_rm", "y_riv"]
    assert model.get_param_info(model.params[0]).shape == [3]


def test_operators_are_methods() -> None:
    model = ModelHelper("m")
    assert model.Relu("x", "y") == "y"
    with pytest.raises(AttributeError, match=r"no 'Rleu'.*Did you mean 'Relu'"):
        model.Rleu("x")
    closed = ModelHelper("closed", allow_not_known_ops=False)
    with pytest.raises(AttributeError, match="allow_not_known_ops"):
        closed.Relu("x")
    assert closed.net.Relu("x", "y") == "y"


def test_information_about_a_parameter() -> None:
    info = ParameterInfo(1, BlobReference("w"), key="k", shape=[], length=0)
    assert (info.param_id, info.key, info.size, info.length, str(info)) == (1, "k", 1, 1, "w")
    assert info.parameter == info.blob == "w"
    info.optimizer = "mine"
    with pytest.raises(GraphError, match="'w' has an optimizer of its own already"):
        info.optimizer = "yours"
    with pytest.raises(GraphError, match="not 'w'"):
        ParameterInfo(1, "w")


# What parameters begin with.


def test_initializers() -> None:
    net = ModelHelper("m").param_init_net
    open_one = Initializer()
    with pytest.raises(GraphError, match="no operator to fill parameter 'w' with"):
        open_one.create_param("w", net, [1])
    open_one.update("ConstantFill", {"value": 2.0})
    with NameScope("s"):
        assert open_one.create_param("w", net, [2, 2]).name == "s/w"
        assert ExternalInitializer().create_param("v", net, [2]).name == "s/v"
        assert ExternalInitializer().create_param(BlobReference("v"), net, [2]).name == "v"
    with pytest.raises(GraphError, match="fills by ConstantFill; it cannot by XavierFill"):
        open_one.update("XavierFill", {})
    with pytest.raises(TypeError, match="not 3"):
        ExternalInitializer().create_param(3, net, [1])
    [fill] = net.Proto().op
    assert (fill.type, fill.arguments) == ("ConstantFill", {"shape": [2, 2], "value": 2.0})


def test_which_initializer_it_comes_to() -> None:
    class Mine(Initializer):
        pass

    default = ("XavierFill", {})
    assert update_initializer(ONES, None, default) is ONES
    made = update_initializer(Mine, ("GaussianFill", {"std": 2.0}), default)
    assert isinstance(made, Mine)
    assert (made.operator_name, made.operator_kwargs) == ("GaussianFill", {"std": 2.0})
    assert update_initializer(None, None, default).operator_name == "XavierFill"


# Sharing.


def test_scopes_share_parameters(run: Any) -> None:
    model = ModelHelper("m")
    with NameScope("top"), ParameterSharing({"b": "a", "c": "b"}):
        for scope in ("a", "b", "c", "b/more", "bb"):
            with NameScope(scope):
                brew.fc(model, "x", "y", 2, 2)
    assert model.weights == ["top/a/y_w", "top/a/more/y_w", "top/bb/y_w"]
    with NameScope("top/b"):
        assert parameter_sharing_context.get_parameter_name("w") == "top/b/w"
    [a, c] = run(
        model,
        ["top/a/y", "top/c/y"],
        **{
            f"top/{scope}/x": np.ones((1, 2), np.float32)
            for scope in ("a", "b", "c", "b/more", "bb")
        },
    )
    assert a.tolist() == c.tolist()


def test_scopes_that_cannot_be_shared() -> None:
    with (
        pytest.raises(GraphError, match="'a' cannot stand for 'a/b'"),
        ParameterSharing({"a": "a/b"}),
    ):
        pass
    with pytest.raises(TypeError, match="takes a dict"), ParameterSharing("a"):
        pass
    with (
        ParameterSharing({"a": "b", "b": "a"}),
        NameScope("a"),
        pytest.raises(GraphError, match="in a circle"),
    ):
        parameter_sharing_context.get_parameter_name("w")
    with NameScope("a"):
        assert parameter_sharing_context.get_parameter_name("w") == "a/w"
    with pytest.raises(GraphError, match="nothing to undo"):
        parameter_sharing_context.pop()


# Optimizers and regularizers of their own.


def test_parameters_get_what_is_in_force() -> None:
    model = ModelHelper("m")
    fast, slow, rule = SgdOptimizer(0.1), SgdOptimizer(0.01), object()
    with UseOptimizer({"BIAS": fast}), UseRegularizer({"WEIGHT": rule}):
        brew.fc(model, "x", "y", 2, 2)
        with UseOptimizer(slow):
            brew.fc(model, "y", "z", 2, 2)
        with UseOptimizer({"BIAS": slow}):
            brew.fc(model, "z", "v", 2, 2)
    brew.fc(model, "v", "u", 2, 2)
    found = {str(param): model.get_param_info(param) for param in model.params}
    chosen = {name: info.optimizer for name, info in found.items()}
    assert (chosen["y_w"], chosen["y_b"]) == (None, fast)
    assert (chosen["z_w"], chosen["z_b"]) == (slow, fast)
    assert (chosen["v_w"], chosen["v_b"]) == (None, slow)
    assert (chosen["u_w"], chosen["u_b"]) == (None, None)
    regularized = [name for name, info in found.items() if info.regularizer is rule]
    assert regularized == ["y_w", "z_w", "v_w"]


def test_contexts_can_be_asked() -> None:
    here = OptimizerContext.current()
    with UseOptimizer({"mine": 1}):
        assert here.has_optimizer("mine")
        assert here.get_optimizer("mine") == 1
        with (
            UseOptimizer({"BIAS": 2, "WEIGHT": 3}),
            pytest.raises(GraphError, match=r"each of the tags \['BIAS', 'WEIGHT'\]"),
        ):
            ModelHelper("m").create_param("w", [1], ONES, tags=["WEIGHT", "BIAS"])
    assert not here.has_optimizer("mine")
    with pytest.raises(GraphError, match="RegularizerContext has nothing called 'mine'"):
        RegularizerContext.current().get_regularizer("mine")
    with pytest.raises(GraphError, match="nothing was put"):
        here.pop_modifiers()
