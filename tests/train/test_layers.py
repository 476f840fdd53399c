"""Layers: each is built with its parameters, and runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from procession import GraphError, OperatorSignatureError
from procession.errors import UnknownArgumentError
from procession.train import Initializer, ModelHelper, arg_scope, brew

IMAGES, NHWC = (2, 4, 6, 6), (2, 6, 6, 4)
Layer = Callable[[ModelHelper], Any]
LAYERS: list[tuple[str, Layer, tuple[int, ...], tuple[int, ...]]] = [
    ("fc", lambda m: brew.fc(m, "x", "y", 3, 2), (5, 3), (5, 2)),
    ("elementwise_linear", lambda m: brew.elementwise_linear(m, "x", "y", 3), (5, 3), (5, 3)),
    ("mat_mul", lambda m: brew.mat_mul(m, ["x", "x"], "y", trans_b=1), (5, 3), (5, 5)),
    ("batch_mat_mul", lambda m: brew.batch_mat_mul(m, ["x", "x"], "y"), (2, 3, 3), (2, 3, 3)),
    ("conv", lambda m: brew.conv(m, "x", "y", 4, 8, 3, pad=1, stride=2), IMAGES, (2, 8, 3, 3)),
    ("conv, a list", lambda m: brew.conv(m, "x", "y", 4, 8, [1, 3]), IMAGES, (2, 8, 6, 4)),
    ("conv, no bias", lambda m: brew.conv(m, "x", "y", 4, 8, 3, no_bias=1), IMAGES, (2, 8, 4, 4)),
    ("conv NHWC", lambda m: brew.conv(m, "x", "y", 4, 8, 3, order="NHWC"), NHWC, (2, 4, 4, 8)),
    ("conv_nd", lambda m: brew.conv_nd(m, "x", "y", 4, 8, [3]), (2, 4, 6), (2, 8, 4)),
    ("group_conv", lambda m: brew.group_conv(m, "x", "y", 4, 8, 3, group=2), IMAGES, (2, 8, 4, 4)),
    (
        "group_conv_deprecated",
        lambda m: brew.group_conv_deprecated(m, "x", "y", 4, 8, 3, group=2),
        IMAGES,
        (2, 8, 4, 4),
    ),
    ("conv_transpose", lambda m: brew.conv_transpose(m, "x", "y", 4, 8, 3), IMAGES, (2, 8, 8, 8)),
    ("max_pool", lambda m: brew.max_pool(m, "x", "y", kernel=2, stride=2), IMAGES, (2, 4, 3, 3)),
    ("average_pool", lambda m: brew.average_pool(m, "x", "y", kernel=3), IMAGES, (2, 4, 4, 4)),
    ("spatial_bn", lambda m: brew.spatial_bn(m, "x", "y", 4, is_test=False), IMAGES, IMAGES),
    ("spatial_bn, test", lambda m: brew.spatial_bn(m, "x", "y", 4, is_test=True), IMAGES, IMAGES),
    ("spatial_gn", lambda m: brew.spatial_gn(m, "x", "y", 4, group=2), IMAGES, IMAGES),
    (
        "spatial_gn NHWC",
        lambda m: brew.spatial_gn(m, "x", "y", 4, group=2, order="NHWC"),
        NHWC,
        NHWC,
    ),
    ("instance_norm", lambda m: brew.instance_norm(m, "x", "y", 4), IMAGES, IMAGES),
    ("layer_norm", lambda m: brew.layer_norm(m, "x", "y", 3), (5, 3), (5, 3)),
    ("lrn", lambda m: brew.lrn(m, "x", "y", size=3, alpha=1e-3, beta=0.5), IMAGES, IMAGES),
    ("softmax", lambda m: brew.softmax(m, "x", "y"), (5, 3), (5, 3)),
    ("dropout", lambda m: brew.dropout(m, "x", "y", is_test=False), (5, 3), (5, 3)),
    ("relu", lambda m: brew.relu(m, "x", "y"), (5, 3), (5, 3)),
    ("tanh", lambda m: brew.tanh(m, "x", "y"), (5, 3), (5, 3)),
    ("sigmoid", lambda m: brew.sigmoid(m, "x", "y"), (5, 3), (5, 3)),
    ("prelu", lambda m: brew.prelu(m, "x", "y", num_channels=4), IMAGES, IMAGES),
    ("sum", lambda m: brew.sum(m, ["x", "x"], "y"), (5, 3), (5, 3)),
    ("sub", lambda m: brew.sub(m, ["x", "x"], "y"), (5, 3), (5, 3)),
    ("reduce_sum", lambda m: brew.reduce_sum(m, "x", "y", axes=[1], keepdims=0), (5, 3), (5,)),
    ("arg_min", lambda m: brew.arg_min(m, "x", "y", axis=1, keepdims=0), (5, 3), (5,)),
    ("transpose", lambda m: brew.transpose(m, "x", "y"), (5, 3), (3, 5)),
    ("concat", lambda m: brew.concat(m, ["x", "x"], "y"), IMAGES, (2, 8, 6, 6)),
    ("concat along", lambda m: brew.concat(m, ["x", "x"], "y", axis=0), IMAGES, (4, 4, 6, 6)),
    (
        "depth_concat NHWC",
        lambda m: brew.depth_concat(m, ["x", "x"], "y", order="NHWC"),
        NHWC,
        (2, 6, 6, 8),
    ),
]


@pytest.mark.parametrize(
    ("add", "shape", "made"), [pytest.param(*rest, id=name) for name, *rest in LAYERS]
)
def test_layers_run(
    add: Layer, shape: tuple[int, ...], made: tuple[int, ...], run: Callable[..., Any]
) -> None:
    model = ModelHelper("m")
    returned = add(model)
    assert (returned[0] if isinstance(returned, tuple) else returned) == "y"
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params = model.GetAllParams()
    y, *values = run(model, ["y", *params], x=x)
    assert y.shape == made
    for param, value in zip(params, values, strict=True):
        assert list(value.shape) == model.get_param_info(param).shape


def test_every_helper_is_tried() -> None:
    tried = {name.split(",")[0].split(" ")[0] for name, *_ in LAYERS}
    elsewhere = {"accuracy", "iter", "add_weight_decay", "moments_with_running_stats", "lstm"}
    assert tried | elsewhere == set(brew.HELPERS.known)


def test_measuring(run: Callable[..., Any]) -> None:
    model = ModelHelper("m")
    brew.accuracy(model, ["x", "label"], "right")
    brew.accuracy(model, ["x", "label"], "nearly", top_k=2)
    brew.iter(model, "steps")
    scores = np.array([[3, 2, 1], [2, 3, 1], [1, 2, 3], [1, 2, 3]], np.float32)
    labels = np.array([0, 0, 0, 2], np.int32)
    right, nearly, steps = run(model, ["right", "nearly", "steps"], x=scores, label=labels)
    assert (float(right), float(nearly), steps.tolist()) == (0.5, 0.75, [1])


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_moments(order: str, run: Callable[..., Any]) -> None:
    model = ModelHelper("m", arg_scope={"order": order})
    mean, variance = brew.moments_with_running_stats(model, "x", "y", 4)
    assert model.GetComputedParams() == ["y_rm", "y_riv"]
    shape = IMAGES if order == "NCHW" else NHWC
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    axes = (0, 2, 3) if order == "NCHW" else (0, 1, 2)
    found = run(model, [mean, variance], x=x)
    np.testing.assert_allclose(found[0], x.mean(axes), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], x.var(axes), rtol=1e-4)
    with pytest.raises(GraphError, match="not 'CHW'"):
        brew.moments_with_running_stats(model, "x", "z", 4, order="CHW")


def test_weight_decay_by_brew(training: Any) -> None:
    model = training.model()
    brew.add_weight_decay(model, 0)
    before = len(model.Proto().op)
    brew.add_weight_decay(model, 0.5)
    added = model.Proto().op[before:]
    assert [(op.type, list(op.output)) for op in added] == [
        ("WeightedSum", ["hidden_w_grad"]),
        ("WeightedSum", ["out_w_grad"]),
    ]


def test_mistakes() -> None:
    model = ModelHelper("m")
    for wrong, text in [
        (lambda: brew.conv(model, "x", "y", 4, 6, 3, group=3), "dim_in=4 cannot be divided into 3"),
        (lambda: brew.conv(model, "x", "y", 4, 6, [1, 2, 3]), "use conv_nd"),
        (lambda: brew.conv(model, "x", "y", 4, 6, 3, order="CHW"), "not 'CHW'"),
        (lambda: brew.conv(model, "x", "y", 4, 6, 3, engine="CUDNN"), "use_cudnn=False"),
        (lambda: brew.conv_nd(model, "x", "y", 4, 6, 3, order="NHWC"), "not 'NHWC'"),
        (lambda: brew.dropout(model, "x", "y"), "needs is_test"),
    ]:
        with pytest.raises(GraphError, match=text):
            wrong()
    assert not model.params
    with pytest.raises(UnknownArgumentError, match="'stride'"):
        brew.fc(model, "x", "y", 3, 2, stride=2)
    with pytest.raises(UnknownArgumentError, match=r"brew.fc has no .* 'weight_init'") as caught:
        brew.fc(model, "x", "typo", 3, 2, wieght_init=("XavierFill", {}))
    assert (caught.value.operator, caught.value.argument) == ("FC", "wieght_init")
    with pytest.raises(UnknownArgumentError, match=r"brew.lstm has no .* mean 'dim_in'"):
        brew.lstm(model, "x", "memory", dim_on=3, dim_out=2)
    with pytest.raises(OperatorSignatureError):
        brew.relu(model, 3, "y")


# By name, with arguments from around.


def test_arguments_come_from_around() -> None:
    model = ModelHelper("m", arg_scope={"order": "NHWC", "is_test": True})
    ones = ("ConstantFill", {"value": 1.0})
    with arg_scope([brew.conv, brew.fc], weight_init=ones), arg_scope(brew.conv, pad=1):
        brew.conv(model, "x", "a", 2, 4, 3)
        brew.conv(model, "x", "b", 2, 4, 3, order="NCHW", pad=2)
    brew.fc(model, "b", "c", 3, 2)
    brew.dropout(model, "c", "d")
    conv, other, _, dropout = model.Proto().op
    assert conv.arguments == {"kernel": 3, "order": "NHWC", "pad": 1}
    assert other.arguments == {"kernel": 3, "order": "NCHW", "pad": 2}
    assert dropout.arguments == {"is_test": True}
    types = [op.type for op in model.InitProto().op]
    assert types == ["ConstantFill"] * 4 + ["XavierFill", "ConstantFill"]


def test_fills_and_initializers() -> None:
    model = ModelHelper("m")
    brew.fc(
        model,
        "x",
        "y",
        3,
        2,
        WeightInitializer=Initializer("GaussianFill", std=2.0),
        bias_init=("ConstantFill", {"value": 3.0}),
    )
    weight, bias = model.InitProto().op
    assert (weight.type, weight.arguments["std"]) == ("GaussianFill", 2.0)
    assert bias.arguments["value"] == 3.0


@pytest.fixture
def twice() -> Any:
    def twice(model: ModelHelper, x: Any, factor: float = 2.0) -> Any:
        return model.net.Scale(x, scale=factor)

    brew.Register(twice)
    yield
    del brew.HELPERS.known["twice"]


def test_a_helper_of_ones_own(twice: None) -> None:
    model = ModelHelper("m")
    with arg_scope(brew.twice, factor=3.0):
        brew.twice(model, "x")
    assert model.Proto().op[0].arguments == {"scale": 3.0}
    assert brew.has_helper("twice")
    with pytest.raises(GraphError, match="'twice' already"):
        brew.Register(brew.twice)
    with pytest.raises(AttributeError, match=r"no helper 'twise'. Did you mean 'twice'"):
        _ = brew.twise
    with pytest.raises(GraphError, match=r"first argument of brew.twice is a model, not 'x'"):
        brew.twice("x")
    with pytest.raises(GraphError, match="takes helpers"):
        arg_scope(["fc"], axis=1).__enter__()
