"""The functions of caffe2.python.workspace: what they return, and what they raise."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from caffe2.proto import caffe2_pb2
from caffe2.python import core, workspace


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    workspace.SwitchWorkspace("default")
    workspace.ResetWorkspace()
    yield
    workspace.SwitchWorkspace("default")
    workspace.ResetWorkspace()


@pytest.fixture
def net() -> core.Net:
    made = core.Net("fill")
    made.ConstantFill([], "filled", shape=[1, 2], value=1.0)
    return made


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "?", "i1", "i2", "i4", "i8", "u1", "u2"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3), ()])
def test_arrays_keep_type_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    value = np.ones(shape, dtype)
    assert workspace.FeedBlob("x", value) is True
    fetched = workspace.FetchBlob("x")
    assert (fetched.dtype, fetched.shape) == (value.dtype, shape)
    np.testing.assert_array_equal(fetched, value)


def test_what_is_fetched_is_the_callers() -> None:
    workspace.FeedBlob("x", np.zeros(5000))
    fetched = workspace.FetchBlob("x")
    fetched[:] = 2
    assert workspace.FetchBlob("x").sum() == 0
    workspace.blobs["x"] = fetched
    assert workspace.blobs["x"].sum() == 10000


@pytest.mark.parametrize("value", ["a", b"a"])
def test_texts_come_back_as_bytes(value: str | bytes) -> None:
    workspace.FeedBlob("text", value)
    assert workspace.FetchBlob("text") == b"a"


@pytest.mark.parametrize("array", [np.array(["a", "bcd"]), np.array([b"a", b"bcd"], object)])
def test_tensors_of_strings_come_back_as_bytes(array: np.ndarray) -> None:
    workspace.FeedBlob("texts", array)
    fetched = workspace.FetchBlob("texts")
    assert (fetched.dtype, fetched.tolist()) == (object, [b"a", b"bcd"])


@pytest.mark.parametrize(
    "value",
    [5, 5.0, [1], None, np.float32(1), np.array([1j]), np.array([1, None], object)],
    ids=repr,
)
def test_nothing_else_can_be_fed(value: object) -> None:
    with pytest.raises(RuntimeError, match="enforce fail"):
        workspace.FeedBlob("x", value)
    assert not workspace.HasBlob("x")


def test_tensor_protos_can_be_fed() -> None:
    workspace.FeedBlob("x", caffe2_pb2.TensorProto(dims=[2], float_data=[1, 2]))
    assert workspace.FetchBlob("x").tolist() == [1, 2]


def test_names_are_strings_or_references(net: core.Net) -> None:
    workspace.RunNetOnce(net)
    assert workspace.FetchBlob(net.GetBlobRef("filled")).shape == (1, 2)
    with pytest.raises(AssertionError):
        workspace.FetchBlob(5)
    with pytest.raises(AssertionError):
        workspace.FeedBlob(5, np.zeros(1))


def test_a_blob_that_is_not_there_is_a_runtime_error() -> None:
    for ask in (workspace.FetchBlob, workspace.SerializeBlob, workspace.ResetBlob):
        with pytest.raises(RuntimeError, match="nope"):
            ask("nope")
    with pytest.raises(RuntimeError):
        workspace.blobs["nope"]
    with pytest.raises(KeyError):
        workspace.C.Workspace.current.blobs["nope"]


def test_blobs_without_values_are_there() -> None:
    assert workspace.CreateBlob("e") is True
    assert workspace.HasBlob("e")
    assert b"uninitialized" in workspace.FetchBlob("e")
    workspace.FeedBlob("e", np.ones(1))
    workspace.ResetBlob("e")
    assert b"uninitialized" in workspace.FetchBlob("e")
    assert workspace.GetBlobSizeBytes("e") == 0


def test_sizes_of_blobs() -> None:
    workspace.FeedBlob("x", np.ones((2, 3), np.float16))
    assert workspace.GetBlobSizeBytes("x") == 12
    workspace.FeedBlob("a", np.array([b"Hello", b"you"]))
    workspace.FeedBlob("b", np.array([b"Hell", b""]))
    assert workspace.GetBlobSizeBytes("a") - workspace.GetBlobSizeBytes("b") == 4


def test_the_dict_of_blobs(net: core.Net) -> None:
    workspace.RunNetOnce(net)
    assert list(workspace.blobs) == workspace.Blobs() == ["filled"]
    assert len(workspace.blobs) == 1
    assert "filled" in workspace.blobs
    assert workspace.FetchBlobs(["filled"])[0].tolist() == [[1, 1]]


def test_running_takes_nets_messages_and_bytes(net: core.Net) -> None:
    step = core.ExecutionStep("step", net)
    plan = core.Plan("plan")
    plan.AddStep(step)
    operator = net.Proto().op[0]
    for run, obj in [
        (workspace.RunNetOnce, net),
        (workspace.RunNetOnce, net.Proto()),
        (workspace.RunNetOnce, net.Proto().SerializeToString()),
        (workspace.RunOperatorOnce, operator),
        (workspace.RunOperatorOnce, operator.SerializeToString()),
        (workspace.RunPlan, step),
        (workspace.RunPlan, plan),
        (workspace.RunPlan, plan.Proto().SerializeToString()),
    ]:
        assert run(obj) is True
        assert workspace.FetchBlob("filled").tolist() == [[1, 1]]
        workspace.ResetWorkspace()
    assert workspace.RunOperatorsOnce([operator, operator]) is True
    assert workspace.RunOperatorMultiple(operator, 3) is True


def test_what_cannot_be_run_is_told_by_type(net: core.Net) -> None:
    with pytest.raises(TypeError):
        workspace.RunNetOnce("fill")
    with pytest.raises(TypeError):
        workspace.RunOperatorOnce("abc")
    with pytest.raises(ValueError, match="int"):
        workspace.RunOperatorOnce(5)
    with pytest.raises(AssertionError):
        workspace.RunNet(net.Proto())
    with pytest.raises(RuntimeError, match="no net"):
        workspace.RunNet("nope")
    with pytest.raises(TypeError):
        workspace.C.Workspace().create_net("...")


@pytest.mark.parametrize(
    ("operator", "inputs"), [("Relu", "nope"), ("Foo", []), ("Relu", ["x", "x"])]
)
def test_operators_that_make_no_sense_are_runtime_errors(operator: str, inputs: object) -> None:
    workspace.FeedBlob("x", np.ones(1, np.float32))
    with pytest.raises(RuntimeError, match="enforce fail"):
        workspace.RunOperatorOnce(core.CreateOperator(operator, inputs, "y"))


def test_other_devices_are_runtime_errors() -> None:
    gpu = core.DeviceOption(workspace.GpuDeviceType, 0)
    workspace.FeedBlob("x", np.ones(1, np.float32))
    with pytest.raises(RuntimeError, match="CPU"):
        workspace.FeedBlob("y", np.ones(1), gpu)
    with pytest.raises(RuntimeError, match="CPU"):
        workspace.RunOperatorOnce(core.CreateOperator("Relu", "x", "y", device_option=gpu))
    net = core.Net("gpu")
    net.Relu("x", "y")
    net.RunAllOnGPU()
    with pytest.raises(RuntimeError, match="CPU"):
        workspace.RunNetOnce(net)
    assert not workspace.has_gpu_support
    assert workspace.NumCudaDevices() == workspace.NumGpuDevices() == 0


def test_nets_are_created_once_and_run_by_name(net: core.Net) -> None:
    assert workspace.CreateNet(net, input_blobs=["unused"]) is True
    assert workspace.Blobs() == ["filled", "unused"]
    with pytest.raises(RuntimeError):
        workspace.CreateNet(net)
    assert workspace.CreateNet(net, overwrite=True) is True
    assert workspace.RunNet(net) is True
    assert workspace.RunNet(net.Name(), 3) is True
    assert workspace.C.nets() == [net.Name()]
    assert workspace.C.delete_net(net.Name()) is True
    assert workspace.C.delete_net(net.Name()) is False


def test_a_failure_can_be_allowed() -> None:
    net = core.Net("split")
    net.Split("x", ["a", "b"], axis=0)
    workspace.FeedBlob("x", np.ones(3, np.float32))
    workspace.CreateNet(net)
    assert workspace.RunNet(net, allow_fail=True) is False
    with pytest.raises(RuntimeError, match="enforce fail"):
        workspace.RunNet(net)


def test_a_plan_runs_in_the_background(net: core.Net) -> None:
    plan = workspace.RunPlanInBackground(core.ExecutionStep("step", net))
    assert plan.is_succeeded() is True
    assert plan.is_done() is True
    assert workspace.HasBlob("filled")


def test_workspaces_have_names() -> None:
    workspace.FeedBlob("x", np.ones(1))
    with pytest.raises(RuntimeError, match="'other'"):
        workspace.SwitchWorkspace("other")
    assert workspace.SwitchWorkspace("other", True) is None
    assert not workspace.HasBlob("x")
    assert workspace.CurrentWorkspace() == "other"
    assert {"default", "other"} <= set(workspace.Workspaces())
    workspace.SwitchWorkspace("default")
    assert workspace.HasBlob("x")


def test_a_guard_returns_after_an_error() -> None:
    own = workspace.C.Workspace()

    def fail() -> None:
        with workspace.WorkspaceGuard(own):
            workspace.FeedBlob("x", np.ones(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert workspace.C.Workspace.current is not own
    assert "x" in own.blobs
    assert not workspace.HasBlob("x")


def test_the_root_folder(tmp_path: object) -> None:
    assert workspace.RootFolder() == "."
    assert workspace.ResetWorkspace(f"{tmp_path}/made") is True
    assert workspace.RootFolder() == f"{tmp_path}/made"
    assert os.path.isdir(f"{tmp_path}/made")
    workspace.ResetWorkspace()
    assert workspace.RootFolder() == f"{tmp_path}/made"
    workspace.ResetWorkspace(".")


def test_workspace_objects(net: core.Net) -> None:
    ws = workspace.C.Workspace()
    assert ws.nets == {}
    assert ws.blobs == {}
    ws.create_net(net)
    assert len(ws.nets) == 1
    ws.nets[net.Name()].run()
    assert ws.blobs["filled"].fetch().tolist() == [[1, 1]]
    assert ws.create_blob("x").feed(np.zeros(2), device_option=core.DeviceOption(0)) is True
    assert ws.feed_blob("x", np.ones(2)) is True
    ws.remove_blob("x")
    ws.remove_blob("x")
    assert not ws.has_blob("x")
    ws._run_net(net.Proto().SerializeToString())
    with pytest.raises(TypeError):
        ws._run_net("fill")
    with pytest.raises(ValueError, match="nets, steps"):
        ws.run(5)


def test_blobs_are_serialized() -> None:
    workspace.FeedBlob("x", np.arange(3))
    workspace.DeserializeBlob("y", workspace.SerializeBlob("x"))
    assert workspace.FetchBlob("y").tolist() == [0, 1, 2]
    message = caffe2_pb2.BlobProto.FromString(workspace.SerializeBlob("x"))
    assert (message.name, message.type) == ("x", "Tensor")


def test_immediate_mode_is_a_world_of_its_own() -> None:
    workspace.StartImmediate(i_know=True)
    try:
        folder = workspace._immediate_root_folder
        assert workspace.IsImmediate()
        assert os.path.isdir(folder)
        net = core.Net("now")
        net.ConstantFill([], "x", shape=[2], value=1.0)
        core.CreateOperator("Add", ["x", "x"], "y")
        assert workspace.ImmediateBlobs() == ["x", "y"]
        assert workspace.FetchImmediate("y").tolist() == [2, 2]
        assert workspace.FeedImmediate("x", np.zeros(1)) is True
        with pytest.raises(RuntimeError):
            workspace.FetchBlob("x")
    finally:
        workspace.StopImmediate()
    assert not workspace.IsImmediate()
    assert not os.path.exists(folder)
    with pytest.raises(RuntimeError):
        workspace.FetchImmediate("x")


def test_shapes_and_types_are_inferred(net: core.Net) -> None:
    net.Cast("filled", "whole", to=core.DataType.INT64)
    net.MatMul(["a", "b"], "ab")
    net.Python(lambda inputs, outputs: 1 / 0)("a", "unknown")
    net.Relu("unknown", "unknown too")
    known = {"a": [4, 3], "b": [3, 5]}
    shapes, types = workspace.InferShapesAndTypes([net], known, blob_types={"a": 1})
    assert shapes == {"a": [4, 3], "b": [3, 5], "ab": [4, 5], "filled": [1, 2], "whole": [1, 2]}
    assert (types["whole"], types["ab"]) == (core.DataType.INT64, core.DataType.FLOAT)
    workspace.FeedBlob("a", np.ones((2, 2), np.float32))
    shapes, _ = workspace.InferShapesAndTypes([net.Proto()], nets_proto=True)
    assert shapes["a"] == [2, 2]
    assert "ab" not in shapes
    assert workspace.Blobs() == ["a"]


def test_a_net_is_timed(net: core.Net, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.CreateNet(net)
    whole, *each = workspace.BenchmarkNet(net.Name(), 1, 2, True)
    assert whole > 0
    assert [time > 0 for time in each] == [True]
    assert workspace.BenchmarkNet(net.Name(), 0, 1, False)[1:] == [0.0]


def test_what_is_not_there_is_refused_by_name() -> None:
    for call in (workspace.Predictor, workspace.GetOperatorCost):
        with pytest.raises(RuntimeError):
            call(None, None)


def test_what_is_refused(net: core.Net) -> None:
    operator = net.Proto().op[0]
    for ask in (
        lambda: workspace.ApplyTransform("Some", net.Proto()),
        lambda: workspace.ApplyTransformIfFaster("Some", net.Proto(), net.Proto(), main_runs=1),
        lambda: workspace.GetOperatorCost(operator, []),
        lambda: workspace.Predictor(net.Proto(), net.Proto()),
    ):
        with pytest.raises(RuntimeError, match="Procession"):
            ask()


def test_a_missing_blob_is_missing_in_the_workspace_of_that_name() -> None:
    made = core.Net("reads")
    made.Copy("x", "y")
    workspace.SwitchWorkspace("other", True)
    for use in (
        lambda: workspace.FetchBlob("x"),
        lambda: workspace.CreateNet(made),
        lambda: workspace.RunNetOnce(made),
    ):
        with pytest.raises(RuntimeError, match=r"no blob 'x' in workspace 'other'\."):
            use()
    workspace.ResetWorkspace()
    with pytest.raises(RuntimeError, match=r"no blob 'x' in workspace 'other'\."):
        workspace.FetchBlob("x")
    with pytest.raises(RuntimeError, match=r"no blob 'x' in this workspace\."):
        workspace.C.Workspace().run(made)
