"""A workspace that moves into a worker process: it is used there as it was used here."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from procession import BlobNotFoundError, Net, Plan, WorkspaceError, execution_step
from procession.session.movable import MovableWorkspace
from procession.session.workspace import nets_run_in_place


def where() -> Net:
    net = Net("where")
    net.Python(lambda inputs, outputs: outputs[0].feed(np.array(os.getpid())))([], "pid")
    return net


@pytest.fixture(params=[False, True], ids=["here", "moved"])
def workspace(request: pytest.FixtureRequest) -> Iterator[MovableWorkspace]:
    made = MovableWorkspace()
    made.feed_blob("x", np.arange(3.0))
    made.create_blob("empty")
    if not request.param:
        yield made
        return
    session = made.move()
    assert made.move() is session
    with session:
        yield made


def test_blobs(workspace: MovableWorkspace) -> None:
    assert workspace.names() == ["empty", "x"]
    assert workspace.has_blob("empty")
    assert workspace.peek("empty") is None
    assert workspace.create_blob("other").name == "other"
    workspace.feed_blob("empty", np.ones(2))
    assert workspace.fetch_blob("empty").tolist() == [1, 1]
    assert workspace.writable("x").tolist() == [0, 1, 2]
    for name in ("empty", "other", "x"):
        workspace.remove_blob(name)
        with pytest.raises(BlobNotFoundError):
            workspace.remove_blob(name)
    assert workspace.names() == []


def test_only_tensors_are_written_in_place(workspace: MovableWorkspace) -> None:
    workspace.feed_blob("object", {"not": "a tensor"})
    with pytest.raises(WorkspaceError, match="'object'"):
        workspace.writable("object")


def test_nets(workspace: MovableWorkspace) -> None:
    net = workspace.create_net(where())
    for run in (lambda: workspace.run_created(net), lambda: workspace.run(where())):
        run()
        here = int(workspace.fetch_blob("pid")) == os.getpid()
        assert here == (workspace.session() is None)


def test_the_nets_that_a_plan_runs_in_the_workspace_itself() -> None:
    inside = execution_step("inside", [Net("a"), execution_step("deeper", Net("b"))])
    plan = Plan(
        execution_step("all", [inside, execution_step("c", Net("c"), create_workspace=True)])
    )
    assert sorted(net.name for net in nets_run_in_place(plan.Proto())) == ["a", "b"]
    assert list(nets_run_in_place(Net("alone").Proto())) == []
