"""C.Workspace, C.Blob, C.TensorCPU and C.Net: what they do besides what a Workspace does."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, workspace

from procession.session.observers import TimeObserver

C = workspace.C


def filling(name: str, blob: str) -> core.Net:
    net = core.Net(name)
    net.ConstantFill([], blob, shape=[1], value=1.0)
    return net


def test_a_workspace_keeps_the_nets_of_its_plans() -> None:
    steps = [
        core.execution_step("here", filling("first", "a")),
        core.execution_step("apart", filling("second", "b"), create_workspace=True),
        core.execution_step("not at all", filling("third", "c"), num_iter=0),
    ]
    plan = core.Plan("plan")
    plan.AddStep(core.execution_step("all", steps))
    plan.Proto().network.extend([filling("unused", "d").Proto()])
    ws = C.Workspace()
    for _ in range(2):
        ws.run(plan)
    assert {name.split("_")[0] for name in ws.nets} == {"first", "third"}
    (third,) = (net for name, net in ws.nets.items() if name.startswith("third"))
    third.run()
    assert ws.fetch_blob("c").tolist() == [1]


def test_a_net_that_runs_once_is_not_kept() -> None:
    ws = C.Workspace()
    ws.run(filling("once", "a"))
    assert ws.nets == {}


def test_what_is_made_has_the_classes_of_c() -> None:
    ws = C.Workspace()
    assert isinstance(ws.create_net(filling("net", "a")), C.Net)
    blob = ws.create_blob("b")
    assert isinstance(blob, C.Blob)
    assert isinstance(blob.tensor(), C.TensorCPU)


def test_a_tensor_in_place() -> None:
    tensor = C.Workspace().create_blob("x").tensor()
    tensor.feed(np.arange(6))
    tensor._reshape([2, 3])
    assert tensor.fetch().tolist() == [[0, 1, 2], [3, 4, 5]]
    for wrong in ("text", 3, [1, 2]):
        with pytest.raises(RuntimeError, match="only an array"):
            tensor.feed(wrong)
    assert tensor.shape == (2, 3)


def test_a_blob_that_cannot_be_fetched_says_so() -> None:
    ws = C.Workspace()
    with pytest.raises(RuntimeError, match=r"'x' holds nothing"):
        ws.create_blob("x").fetch()
    ws.run(core.CreateOperator("CreateCounter", [], "c", init_count=1))
    with pytest.raises(RuntimeError, match=r"'c' holds a Counter"):
        ws.blobs["c"].fetch()
    with pytest.raises(RuntimeError, match="no tensor"):
        ws.blobs["c"].tensor()


def test_names_may_be_bytes() -> None:
    workspace.ResetWorkspace()
    net = filling("named", "a")
    assert workspace.FeedBlob(b"x", np.ones(1)) is True
    assert workspace.FetchBlob(b"x").tolist() == [1]
    assert workspace.CreateNet(net.Proto().SerializeToString()) is True
    assert workspace.RunNet(net.Name().encode()) is True
    assert workspace.Blobs() == ["a", "x"]
    workspace.ResetWorkspace()


def test_a_created_net_can_be_observed() -> None:
    workspace.ResetWorkspace()
    workspace.FeedBlob("x", np.ones(3, np.float32))
    net = core.Net("observed")
    net.Add(["x", "x"], "y")
    net.Mul(["y", "y"], "z")
    with pytest.raises(RuntimeError, match=f"no net '{net.Name()}'"):
        net.AddObserver("TimeObserver")
    with pytest.raises(RuntimeError, match=f"no net '{net.Name()}'"):
        net.NumObservers()
    workspace.CreateNet(net)
    timing, counting = net.AddObserver("TimeObserver"), net.AddObserver("RunCountObserver")
    assert net.NumObservers() == 2
    assert np.isnan(timing.average_time())
    workspace.RunNet(net, 3)
    workspace.RunNetOnce(net)  # is another net
    assert counting.debug_info() == "operators run: 6"
    assert timing.average_time() > timing.average_time_children() > 0
    with pytest.raises(RuntimeError, match="no observer 'Foo'"):
        net.AddObserver("Foo")
    net.RemoveObserver(counting)
    workspace.ClearGlobalNetObserver()
    assert net.NumObservers() == 1
    workspace.RunNet(net)
    assert counting.count == 6
    workspace.CreateNet(net, overwrite=True)
    assert net.NumObservers() == 0


def test_a_net_in_a_worker_cannot_be_observed() -> None:
    place = workspace.C.Workspace()
    place.feed_blob("x", np.ones(3, np.float32))
    net = core.Net("far")
    net.Add(["x", "x"], "y")
    made = place.create_net(net)
    place.net(net.Name()).add_observer(TimeObserver())
    made.run()
    session = place.move()
    with session, pytest.raises(RuntimeError, match="has observers, which cannot"):
        made.run()
