"""Replicas of a model in one net: as Caffe2 has them (`parallel_cases.py`), and beyond it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe2.python import brew, core, optimizer, workspace
from caffe2.python import data_parallel_model as parallel
from caffe2.python.model_helper import ModelHelper
from caffe2.python.modeling.initializers import Initializer

from procession.errors import GraphError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
try:
    import parallel_cases as cases
finally:
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def told() -> Any:
    return json.loads((HERE / "recorded" / "parallel.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def arrays() -> Any:
    with np.load(HERE / "recorded" / "parallel.npz", allow_pickle=False) as stored:
        return dict(stored)


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


# As Caffe2 has it.


@pytest.mark.parametrize("name", cases.CASES)
def test_what_is_added(name: str, told: Any) -> None:
    made, expected = plain(cases.told(name)), dict(told["cases"][name])
    if "shared" in name:
        # Gradients of shared parameters are added up as those of any parameter are.
        del made["operators"], expected["operators"]
    assert made == expected


@pytest.mark.parametrize("name", cases.CASES)
def test_trained_round_by_round(name: str, arrays: Any) -> None:
    trained = cases.trained(name)
    assert {f"{name}/{blob}" for blob in trained} == {
        key for key in arrays if key.startswith(f"{name}/")
    }
    for blob, values in trained.items():
        np.testing.assert_allclose(values, arrays[f"{name}/{blob}"], rtol=2e-4, atol=2e-6)


def test_a_predictor(told: Any) -> None:
    assert plain(cases.predictor()) == told["predictor"]


def test_signatures(told: Any) -> None:
    assert plain(cases.signatures()) == told["signatures"]


# What it comes to.


def alone(forward: Any, update: Any, batch: dict[str, Any], steps: int = 3) -> ModelHelper:
    workspace.ResetWorkspace()
    model = ModelHelper(name="alone")
    model.AddGradientOperators(forward(model, 1.0))
    update(model)
    for blob, value in batch.items():
        workspace.FeedBlob(blob, value)
    workspace.RunNetOnce(model.param_init_net)
    workspace.CreateNet(model.net)
    workspace.RunNet(model.net, steps)
    return model


WHOLE_BATCH = {"x": cases.EXAMPLES, "images": cases.IMAGES, "label": cases.LABELS}


@pytest.mark.parametrize("name", ["two", "momentum", "shared_adam", "combined"])
def test_a_step_is_that_of_one_on_the_joined_batch(name: str) -> None:
    _, forward, (_, arguments) = cases.CASES[name]
    update = arguments.get("param_update_builder_fun") or arguments["optimizer_builder_fun"]
    trained = cases.trained(name)
    model = alone(forward, update, WHOLE_BATCH, cases.STEPS * cases.ROUNDS)
    for param in map(str, model.params):
        np.testing.assert_allclose(
            trained[f"cpu_0/{param}"][-1], workspace.FetchBlob(param), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("shared_model", [False, True])
@pytest.mark.parametrize(
    "update",
    [
        lambda model: optimizer.build_sgd(model, 0.01),
        lambda model: optimizer.build_sgd(model, 0.01, momentum=0.9, sparse_dedup_aggregator="sum"),
        lambda model: optimizer.build_adagrad(model, 0.1, sparse_dedup_aggregator="sum"),
    ],
)
def test_sparse_gradients_are_those_of_the_joined_batch(update: Any, shared_model: bool) -> None:
    table = np.random.default_rng(3).normal(size=(9, 2)).astype(np.float32)
    rows, lengths = np.array([1, 3, 3, 7, 2, 1]), np.array([2, 1, 3], np.int32)
    target = np.arange(6, dtype=np.float32).reshape(3, 2)

    def forward(model: ModelHelper, scale: float) -> list[Any]:
        param = model.create_param("table", [9, 2], Initializer("GivenTensorFill", values=table))
        sums = model.net.SparseLengthsSum([param, "rows", "lengths"], "sums")
        return [model.net.SumElements(model.net.SquaredL2Distance([sums, "target"]), "loss")]

    workspace.ResetWorkspace()
    model = ModelHelper(name="sparse")
    parallel.Parallelize_CPU(
        model,
        cases.nothing,
        forward,
        optimizer_builder_fun=update,
        devices=[0, 1],
        shared_model=shared_model,
    )
    for blob, parts in {
        "rows": (rows[:2], rows[2:]),
        "lengths": (lengths[:1], lengths[1:]),
        "target": (target[:1], target[1:]),
    }.items():
        for device, part in enumerate(parts):
            workspace.FeedBlob(f"cpu_{device}/{blob}", part)
    parallel.RunInitNet(model)
    parallel.RunNet(model, 3)
    trained = [workspace.FetchBlob(param) for param in model.params]
    assert workspace.FetchBlob("cpu_1/rows").tolist() == rows[2:].tolist()
    alone(forward, update, {"rows": rows, "lengths": lengths, "target": target})
    expected = workspace.FetchBlob("table")
    assert len(trained) == (1 if shared_model else 2)
    assert (expected != table).any()
    for found in trained:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_replicas_begin_alike_and_follow_what_is_loaded() -> None:
    workspace.ResetWorkspace()
    model = ModelHelper(name="model")

    def forward(model: ModelHelper, scale: float) -> list[Any]:
        return [brew.fc(model, "x", "y", 5, 2).SumElements([], "loss")]

    called: list[Any] = []

    def synced(model: ModelHelper) -> None:
        called.append(core.CurrentNameScope())
        model.param_init_net.Scale("y_w", "twice", scale=2.0)

    parallel.Parallelize_CPU(
        model,
        cases.nothing,
        forward,
        optimizer_builder_fun=lambda model: optimizer.build_adam(model, 0.1),
        post_sync_builder_fun=synced,
        pre_grad_net_transformer_fun=lambda model: called.append(model.gradient_ops_added),
        net_transformer_fun=lambda model, *told: called.append((model.gradient_ops_added, *told)),
        devices=[4, 2],
    )
    assert called == [False, (True, 2, "cpu", 0), "cpu_4/", "cpu_2/"]
    assert model.GetDevices() == [4, 2]
    for device in (4, 2):
        workspace.FeedBlob(f"cpu_{device}/x", np.zeros((1, 5), np.float32))
    parallel.RunInitNet(model)
    first, second = (workspace.FetchBlob(f"cpu_{device}/y_w") for device in (4, 2))
    assert (first == second).all()
    assert len(np.unique(first)) == 10
    assert (workspace.FetchBlob("cpu_2/twice") == 2 * first).all()
    assert parallel.GetLearningRateBlobNames(model) == [model._optimizer.get_cpu_blob_name("lr")]
    saved = parallel.GetCheckpointParams(model)
    assert {"cpu_4/y_w", "cpu_4/y_b_first_moment", "optimizer_iteration"} <= set(map(str, saved))
    workspace.FeedBlob("cpu_4/y_w", np.zeros((2, 5), np.float32))
    workspace.FeedBlob("cpu_4/y_w_first_moment", np.ones((2, 5), np.float32))
    parallel.FinalizeAfterCheckpoint(model, ["cpu_4/y_w_first_moment"])
    assert workspace.FetchBlob("cpu_2/y_w_first_moment").all()
    assert workspace.FetchBlob("cpu_2/y_w").all()
    parallel.FinalizeAfterCheckpoint(model)
    assert not workspace.FetchBlob("cpu_2/y_w").any()
    net = core.Net("share")
    parallel.AddBlobSync(model, ["x"], net)
    workspace.FeedBlob("cpu_4/x", np.arange(3))
    workspace.RunNetOnce(net)
    assert workspace.FetchBlob("cpu_2/x").tolist() == [0, 1, 2]
    parallel.Synchronize(model)


def test_a_model_for_tests_has_no_gradients(caplog: pytest.LogCaptureFixture) -> None:
    model = cases.built("two")
    parallel.RunInitNet(model)
    parallel.RunNet(model, 1)
    test = ModelHelper(name="test", init_params=False)
    parallel.Parallelize_CPU(test, cases.nothing, cases.layers, devices=[0, 1])
    assert not test.gradient_ops_added
    assert not caplog.records
    parallel.RunInitNet(test)
    parallel.RunNet(test, 1)
    assert workspace.FetchBlob("cpu_1/loss") > 0
    sharing = ModelHelper(name="test", init_params=False)
    parallel.Parallelize_CPU(
        sharing, cases.nothing, cases.layers, devices=[0, 1], shared_model=True
    )
    assert str(sharing.params[0]) == "cpu_0/hidden_w"
    assert not any("cpu_1" in str(param) for param in sharing.params)
    expected = workspace.FetchBlob("cpu_1/loss")
    workspace.FeedBlob("cpu_1/hidden_w", np.zeros((4, 5), np.float32))
    workspace.RunNetOnce(sharing.net)
    assert workspace.FetchBlob("cpu_1/loss") == expected
    filling = ModelHelper(name="test")
    parallel.Parallelize_CPU(filling, cases.nothing, cases.layers, devices=[0])
    assert "model 'test' has no updates" in caplog.text


def test_one_replica_for_each_core_is_the_default() -> None:
    model = ModelHelper(name="model", init_params=False)
    parallel.Parallelize_CPU(model, cases.nothing, cases.layers)
    assert len(model.GetDevices()) >= 1
    with pytest.raises(GraphError, match="has no replicas"):
        ModelHelper(name="none").GetDevices()


def test_a_net_that_there_is_can_become_part_of_replicas() -> None:
    workspace.ResetWorkspace()
    there = core.Net("there")
    there.Scale("x", "y", scale=3.0)

    def forward(model: ModelHelper, scale: float) -> list[Any]:
        model.net.AppendNet(parallel.ConvertNetForDevice(there))
        return []

    model = ModelHelper(name="model", init_params=False)
    parallel.Parallelize_CPU(model, cases.nothing, forward, devices=[0, 1])
    assert list(there.Proto().external_input) == ["x"]
    workspace.FeedBlob("cpu_0/x", np.array(1.0))
    workspace.FeedBlob("cpu_1/x", np.array(2.0))
    parallel.RunInitNet(model)
    parallel.RunNet(model, 1)
    assert workspace.FetchBlob("cpu_1/y") == 6
    inside = core.Net("inside")
    inside.If("condition", [], then_net=there.Proto())
    with pytest.raises(GraphError, match="If runs nets"):
        parallel.ConvertNetForDevice(inside, core.DeviceOption(0, 1))
    with pytest.raises(GraphError, match="not on None"):
        parallel.ConvertNetForDevice(there)
    assert parallel.stripBlobName("cpu_0/a/b") == "a/b"
    pair = core.GradientSlice(core.BlobReference("cpu_0/rows"), core.BlobReference("cpu_0/values"))
    assert parallel.stripBlobName(pair) == "rows:values"
    with pytest.raises(GraphError, match="in no name scope"):
        parallel.stripBlobName("a")


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpu_device": False}, "no GPUs here: Parallelize_CPU"),
        ({"devices": []}, "one or more different numbers"),
        ({"devices": [1, 1]}, "one or more different numbers"),
        ({"rendezvous": {"num_shards": 2}}, "no rendezvous of several machines"),
        ({"ideep": True}, "ideep does not exist here"),
        ({"use_nccl": True}, "use_nccl does not exist here"),
        ({"optimize_gradient_memory": True}, "optimize_gradient_memory does not exist here"),
        ({"dynamic_memory_management": True}, "dynamic_memory_management does not exist here"),
        ({"blobs_to_keep": ["x"]}, "blobs_to_keep does not exist here"),
        ({"optimizer_builder_fun": cases.adam}, "not both"),
        ({"param_update_builder_fun": None, "combine_spatial_bn": True}, "that are trained"),
        ({"forward_pass_builder_fun": lambda model, scale: "loss"}, "returns a list of losses"),
        ({"forward_pass_builder_fun": lambda model, scale: ["loss"]}, "returns a list of losses"),
        ({"model_helper_obj": core.Net("net")}, "a ModelHelper is to be filled"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "model_helper_obj": ModelHelper(name="model"),
        "input_builder_fun": cases.nothing,
        "forward_pass_builder_fun": cases.layers,
        "param_update_builder_fun": cases.descend,
        "devices": [0, 1],
        "cpu_device": True,
        **arguments,
    }
    with pytest.raises(GraphError, match=message):
        parallel.Parallelize(**given)


def test_replicas_that_differ_are_refused() -> None:
    def forward(model: ModelHelper, scale: float) -> list[Any]:
        name = "fc" if core.CurrentNameScope() == "cpu_0/" else "other"
        return [brew.fc(model, "x", name, 5, 2).SumElements([], "loss")]

    def longer(model: ModelHelper, scale: float) -> list[Any]:
        if core.CurrentNameScope() == "cpu_0/":
            model.net.Copy("x", "y")
        return cases.normalised(model, scale)

    for build, message in ((forward, "missing in cpu_1"), (longer, "not made of the same")):
        with pytest.raises(GraphError, match=message):
            parallel.Parallelize_CPU(
                ModelHelper(name="model"),
                cases.nothing,
                build,
                cases.descend,
                devices=[0, 1],
                combine_spatial_bn=True,
            )


def test_where_replicas_cannot_be_added() -> None:
    arguments = (ModelHelper(name="model"), cases.nothing, cases.layers, cases.descend)
    with core.NameScope("scope"), pytest.raises(GraphError, match="leave 'scope/' before"):
        parallel.Parallelize_CPU(*arguments, devices=[0])
    with (
        core.DeviceScope(core.DeviceOption(1, 0)),
        pytest.raises(GraphError, match="replicas are on the CPU"),
    ):
        parallel.Parallelize_CPU(*arguments, devices=[0])
    with pytest.raises(GraphError, match=r"the first of \[0, 1\], not 1"):
        parallel.Parallelize_CPU_BMUF(*arguments, devices=[0, 1], master_device=1)
    for function in (parallel.RunInitNet, parallel.GetCheckpointParams):
        with pytest.raises(GraphError, match="has no replicas"):
            function(ModelHelper(name="none"))
    with pytest.raises(GraphError, match="was not given"):
        parallel.RunWarmup(cases.built("blocks"))
    with pytest.raises(GraphError, match="begins with none: 'cpu_0/x'"):
        parallel.AddBlobSync(cases.built("two"), ["cpu_0/x"])
