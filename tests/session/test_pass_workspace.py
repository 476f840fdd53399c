"""What a Python operator with `pass_workspace` can do with its workspace, wherever that is."""

import numpy as np
import pytest

from procession import (
    LocalSession,
    Net,
    NetBuilder,
    ProcessSession,
    Task,
    Workspace,
    core,
    execution_step,
    ops,
)


@pytest.fixture(params=[LocalSession, ProcessSession])
def session(request):
    with request.param() as session:
        yield session


def python_net(function, outputs=()):
    net = Net(function.__name__)
    net.Python(function, pass_workspace=True)([], list(outputs))
    return net


def test_it_makes_blobs_and_runs_nets(session):
    def double(inputs, outputs, workspace):
        workspace.create_blob("made").feed(np.float32([1, 2]))
        net = Net("inner")
        net.Add(["made", "made"], "doubled")
        workspace.run(net)
        child = Workspace(workspace)
        child.create_net(net.Clone("again", {"doubled": "own"})).run()
        outputs[0].feed(np.array(["own" in child.blobs, "own" in workspace.blobs]))

    session.run(python_net(double, ["where"]))
    workspace = session.workspace()
    assert workspace.fetch_blob("doubled").tolist() == [2, 4]
    assert workspace.fetch_blob("where").tolist() == [True, False]


def test_so_does_that_of_a_step_and_of_a_task_instance(session):
    def own(inputs, outputs, workspace):
        net = Net("inner")
        net.Const(np.float32(3), "own")
        workspace.create_net(net).run()
        workspace.feed_blob("seen", workspace.blobs["own"].fetch())

    session.workspace().feed_blob("seen", 0.0)
    session.run(execution_step("step", python_net(own), create_workspace=True))
    assert session.workspace().fetch_blob("seen") == 3
    assert not session.workspace().has_blob("own")
    session.run(Task(step=execution_step("step", python_net(own)), num_instances=2))
    assert not session.workspace().has_blob("own")


def test_so_does_that_of_a_scope(session):
    def own(inputs, outputs, workspace):
        net = Net("inner")
        net.Const(np.float32(3), "own")
        workspace.run(net)
        child = workspace.child()
        child.run(net.Clone("again", {"own": "child's"}))
        workspace.feed_blob("seen", np.float32([len(workspace.names()), len(child.names())]))

    with NetBuilder(_use_control_ops=True) as builder:
        ops.Const([0.0, 0.0], blob_out="seen")
        with ops.IfNet(ops.Const(True)):
            ops.Copy("seen", "seen")
            ops.Python(own, pass_workspace=True)([], [])
    session.run(core.to_execution_step(builder))
    few, more = session.workspace().fetch_blob("seen")
    assert more == few + 1
    assert not session.workspace().has_blob("own")


def test_a_snapshot_stays_when_the_memory_is_written_later(session):
    def write(inputs, outputs, workspace):
        kept = globals().setdefault("kept_tensor", [])
        if not kept:
            kept.append(workspace.blobs["x"].tensor().data)
        kept[0][:] += 1

    net = python_net(write)
    workspace = session.workspace()
    workspace.feed_blob("x", np.zeros(10_000, np.float32))
    session.run(net)
    first = workspace.fetch_blob("x")
    session.run(net)
    assert (first == 1).all()
    assert (workspace.fetch_blob("x") == 2).all()
    globals().pop("kept_tensor", None)
