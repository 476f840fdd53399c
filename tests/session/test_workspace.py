"""Workspace: blobs in place, nets made ready, running without a session."""

from __future__ import annotations

import numpy as np
import pytest

from procession import (
    BlobNotFoundError,
    LocalSession,
    Net,
    Plan,
    Workspace,
    WorkspaceError,
    core,
    execution_step,
)
from procession.graph.proto import NetDef
from procession.operators.datatype import DataType


def doubling(name: str = "double") -> Net:
    net = Net(name)
    net.Add(["x", "x"], "y")
    return net


@pytest.fixture
def workspace() -> Workspace:
    made = Workspace()
    made.feed_blob("x", np.arange(3, dtype=np.float32))
    return made


def value(workspace: Workspace, name: str = "y") -> list[float]:
    return workspace.fetch_blob(name).tolist()


def test_runs_nets_steps_plans_and_their_messages(workspace: Workspace) -> None:
    net = doubling()
    plan = Plan("plan")
    plan.AddStep(execution_step("step", net))
    for runnable in (net, plan.Steps()[0], plan, net.Proto(), plan.Proto(), net.Proto().op[0]):
        workspace.run(runnable)
        assert value(workspace) == [0, 2, 4]
        workspace.remove_blob("y")
    workspace.run_net(net.Proto().SerializeToString())
    workspace.run_plan(plan.Proto().SerializeToString())
    workspace.run_operator(net.Proto().op[0].SerializeToString())
    assert value(workspace) == [0, 2, 4]


def test_a_plan_of_a_message_loops_and_stops(workspace: Workspace) -> None:
    net = Net("count")
    net.Add(["x", net.Const(1.0)], "x")
    plan = Plan("plan")
    plan.AddStep(execution_step("step", execution_step("inner", net, num_iter=3), num_iter=2))
    workspace.run(plan.Proto())
    assert value(workspace, "x") == [6, 7, 8]


def test_what_is_nothing_to_run_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="of type int"):
        workspace.run(42)
    with pytest.raises(WorkspaceError, match="no NetDef"):
        workspace.run_net(b"\xff\xff")


def test_a_net_is_made_ready_once(workspace: Workspace) -> None:
    net = doubling("ready")
    made = workspace.create_net(net)
    assert list(workspace.nets) == [net.Name()] == [made.name]
    assert workspace.has_blob("y")
    assert workspace.fetch_blob("y") is None
    with pytest.raises(WorkspaceError, match="overwrite"):
        workspace.create_net(net)
    workspace.nets[net.Name()].run()
    assert value(workspace) == [0, 2, 4]
    workspace.create_net(net, overwrite=True).run()
    workspace.delete_net(net.Name())
    with pytest.raises(WorkspaceError, match="no net"):
        workspace.net(net.Name())


def test_a_net_goes_on_with_its_random_numbers(workspace: Workspace) -> None:
    net = Net("random")
    net.UniformFill([], "y", shape=[3])
    net.set_rand_seed(5)
    made = workspace.create_net(net)
    made.run()
    first = value(workspace)
    made.run()
    assert value(workspace) != first
    workspace.create_net(net, overwrite=True).run()
    assert value(workspace) == first


def test_create_net_names_what_is_missing() -> None:
    with pytest.raises(BlobNotFoundError, match="'x'"):
        Workspace().create_net(doubling())
    with pytest.raises(TypeError, match="create_net"):
        Workspace().create_net("double")  # type: ignore[arg-type]


def test_create_net_takes_messages_and_bytes(workspace: Workspace) -> None:
    message = NetDef(name="bare", op=[core.CreateOperator("Add", ["x", "x"], "y")])
    workspace.create_net(message).run()
    workspace.create_net(message.SerializeToString(), overwrite=True).run()
    assert value(workspace) == [0, 2, 4]


@pytest.mark.parametrize("size", [3, 5000])
def test_what_is_written_in_place_is_what_runs_read(size: int) -> None:
    workspace = Workspace()
    workspace.feed_blob("x", np.zeros(size, np.float32))
    before = workspace.fetch_blob("x")
    data = workspace.blobs["x"].tensor().data
    data[1] = 7
    between = workspace.fetch_blob("x")
    data[2] = 9
    workspace.run(doubling())
    assert value(workspace)[:3] == [0, 14, 18]
    assert before[:3].tolist() == [0, 0, 0]
    assert between[:3].tolist() == [0, 7, 0]


def test_a_tensor_is_made_reshaped_and_fed(workspace: Workspace) -> None:
    tensor = workspace.create_blob("t").tensor()
    assert tensor.shape == (0,)
    tensor.init([2, 3], DataType.INT32)
    tensor.data[1, 1] = 100
    assert workspace.fetch_blob("t").tolist() == [[0, 0, 0], [0, 100, 0]]
    tensor.reshape([3, 2])
    assert tensor.fetch().tolist() == [[0, 0], [0, 0], [100, 0]]
    tensor.reshape([4])
    assert tensor.fetch().tolist() == [0, 0, 0, 0]
    tensor.feed(np.array([[1.5]]))
    assert (tensor.shape, tensor.fetch().dtype) == ((1, 1), np.float64)
    with pytest.raises(WorkspaceError, match="strings"):
        tensor.init([1], DataType.STRING)


def test_blobs_that_hold_no_tensor_say_so(workspace: Workspace) -> None:
    workspace.feed_blob("text", "hello")
    assert not workspace.blobs["text"].is_tensor()
    with pytest.raises(WorkspaceError, match="no tensor"):
        workspace.blobs["text"].tensor()


@pytest.mark.parametrize(
    "value",
    [
        np.array([[1, 2]], dtype)
        for dtype in ("f2", "f4", "f8", "?", "i1", "i2", "i4", "i8", "u1", "u2")
    ]
    + [np.array(2.5), np.zeros((0, 2), np.float32), np.array(["a", b"b\xff"], object)],
    ids=str,
)
def test_tensors_survive_serialization(value: np.ndarray) -> None:
    workspace = Workspace()
    workspace.feed_blob("x", value)
    workspace.create_blob("copy").deserialize(workspace.blobs["x"].serialize("x"))
    copied = workspace.fetch_blob("copy")
    assert (copied.dtype, copied.shape) == (value.dtype, value.shape)
    expected = [each.encode() if isinstance(each, str) else each for each in value.ravel()]
    assert copied.ravel().tolist() == expected


def test_texts_survive_serialization_and_objects_are_refused() -> None:
    workspace = Workspace()
    workspace.feed_blob("text", "ä")
    workspace.feed_blob("object", {1: 2})
    workspace.blobs["object"].deserialize(workspace.blobs["text"].serialize())
    assert workspace.fetch_blob("object") == "ä".encode()
    with pytest.raises(WorkspaceError, match="no value"):
        workspace.create_blob("empty").serialize()
    with pytest.raises(WorkspaceError, match="no BlobProto"):
        workspace.blobs["text"].deserialize(b"\xff\xff")


def test_a_tensor_is_written_as_caffe2_writes_it() -> None:
    workspace = Workspace()
    workspace.feed_blob("x", np.ones(2, np.float32))
    assert workspace.blobs["x"].serialize("x") == (
        b"\n\x01x\x12\x06Tensor\x1a\x1b\x08\x02\x10\x01\x1a\x08\x00\x00\x80?\x00\x00\x80?"
        b":\x01xB\x02\x08\x00Z\x04\x08\x00\x10\x02"
    )


def test_a_child_sees_its_parent(workspace: Workspace) -> None:
    child = Workspace(workspace)
    child.run(doubling())
    assert value(child) == [0, 2, 4]
    assert not workspace.has_blob("y")
    with pytest.raises(TypeError, match="parent"):
        Workspace(5)  # type: ignore[arg-type]


def test_a_session_runs_in_it(workspace: Workspace) -> None:
    with LocalSession(workspace) as session:
        session.run(doubling())
    assert value(workspace) == [0, 2, 4]
