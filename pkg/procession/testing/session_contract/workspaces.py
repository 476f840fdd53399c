"""Workspaces: global, private, fed, fetched."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from procession.errors import (
    BlobNotFoundError,
)
from procession.graph.net import Net
from procession.graph.task import (
    Node,
    Task,
    TaskGroup,
    WorkspaceType,
)
from procession.session.base import Session
from procession.testing.session_contract.base import LARGE, ContractBase, constant


class Workspaces(ContractBase):
    """What is in a node's workspace, when, and for whom."""

    def test_global_blobs_live_as_long_as_the_session(self, session: Session) -> None:
        with TaskGroup(WorkspaceType.GLOBAL) as first, Node("n"):
            Task(step=constant("first", "x", 4))
        use = Net("use")
        use.Add(["x", "x"], ["y"])
        with TaskGroup(WorkspaceType.GLOBAL) as second, Node("n"):
            Task(step=use)
        session.run(first)
        session.run(second)
        assert session.workspace("n").fetch_blob("y") == 8

    def test_private_blobs_are_gone_after_the_run(self, session: Session) -> None:
        with TaskGroup(WorkspaceType.PRIVATE) as group, Node("n"):
            Task(step=constant("net", "x", np.zeros(LARGE)))
        session.run(group)
        assert not session.workspace("n").has_blob("x")
        with pytest.raises(BlobNotFoundError):
            session.workspace("n").fetch_blob("x")

    def test_a_group_is_private_unless_it_says_otherwise(self, session: Session) -> None:
        with TaskGroup() as group:
            Task(step=constant("net", "x", 1))
        session.run(group)
        assert not session.workspace().has_blob("x")

    def test_a_private_run_sees_and_writes_global_blobs(self, session: Session) -> None:
        session.run(constant("init", "x", 1))
        net = Net("net")
        net.Add(["x", "x"], ["x"])
        with TaskGroup(WorkspaceType.PRIVATE) as group:
            Task(step=net)
        session.run(group)
        assert session.workspace().fetch_blob("x") == 2

    def test_each_private_run_begins_anew(self, session: Session) -> None:
        net = Net("net")
        net.Python(_fails_if_there, pass_workspace=True)([], [])
        net.Const(1, "x")
        with TaskGroup() as group:
            Task(step=net)
        session.run(group)
        session.run(group)

    def test_tasks_of_a_node_share_a_workspace_within_a_run(self, session: Session) -> None:
        first, second = Net("first"), Net("second")
        first.Python(_make_and_meet, pass_workspace=True)([], [])
        second.Python(_meet_and_read, pass_workspace=True)([], ["seen"])
        with TaskGroup() as group, Node("n"):
            Task(step=first)
            task = Task(step=second, outputs=["seen"])
        session.run(group, timeout=60)
        assert task.outputs()[0].fetch() == 11

    def test_feed_and_fetch(self, session: Session) -> None:
        workspace = session.workspace("n")
        for value in (
            np.arange(6, dtype=np.int32).reshape(2, 3),
            np.arange(5000, dtype=np.float64),
            np.asfortranarray(np.arange(3000.0).reshape(50, 60)),
            np.zeros((0, 3), np.float32),
            np.array(True),
            np.arange(4000)[::-2],
            np.array(["a", "bcd"]),
            np.array(["a", None, 3], dtype=object),
            np.zeros(700, [("a", np.int64), ("b", np.float32)]),
            np.arange("2020-01", "2060-01", dtype="datetime64[D]"),
            np.arange(3000, dtype=">i4"),
        ):
            workspace.feed_blob("x", value)
            fetched = workspace.fetch_blob("x")
            np.testing.assert_array_equal(fetched, value)
            assert fetched.dtype == value.dtype
            assert fetched.shape == value.shape

    @pytest.mark.parametrize(
        ("value", "dtype"), [(3, np.int64), (2.5, np.float32), (True, np.bool_)]
    )
    def test_numbers_become_tensors(self, session: Session, value: Any, dtype: Any) -> None:
        workspace = session.workspace()
        workspace.feed_blob("x", value)
        fetched = workspace.fetch_blob("x")
        assert fetched.shape == ()
        assert fetched.dtype == dtype
        assert fetched == value

    @pytest.mark.parametrize("value", ["text", b"bytes", {"a": [1, 2]}, None, (1, "x")], ids=repr)
    def test_objects_stay_what_they_are(self, session: Session, value: Any) -> None:
        session.workspace().feed_blob("x", value)
        assert session.workspace().fetch_blob("x") == value

    def test_fed_objects_are_copies(self, session: Session) -> None:
        value = {"list": [1]}
        session.workspace().feed_blob("x", value)
        value["list"].append(2)
        fetched = session.workspace().fetch_blob("x")
        assert fetched == {"list": [1]}
        fetched["list"].append(3)
        assert session.workspace().fetch_blob("x") == {"list": [1]}

    def test_blobs_are_a_mapping_of_handles(self, session: Session) -> None:
        workspace = session.workspace("n")
        assert len(workspace.blobs) == 0
        workspace.feed_blob("x", 1)
        workspace.feed_blob("y", 2)
        assert sorted(workspace.blobs) == ["x", "y"]
        assert "x" in workspace.blobs
        assert "z" not in workspace.blobs
        workspace.blobs["x"].feed(5)
        assert workspace.blobs["x"].fetch() == 5
        assert {name: blob.fetch() for name, blob in workspace.blobs.items()} == {"x": 5, "y": 2}
        with pytest.raises(KeyError):
            workspace.blobs["z"]

    def test_remove_blob(self, session: Session) -> None:
        workspace = session.workspace("n")
        workspace.feed_blob("x", np.zeros(LARGE))
        workspace.remove_blob("x")
        assert not workspace.has_blob("x")
        with pytest.raises(BlobNotFoundError):
            workspace.remove_blob("x")
        with pytest.raises(BlobNotFoundError):
            workspace.fetch_blob("x")

    def test_a_blob_reference_is_a_name(self, session: Session) -> None:
        net = Net("net")
        one = net.Const(1)
        session.run(net)
        workspace = session.workspace()
        assert workspace.has_blob(one)
        workspace.feed_blob(one, 2)
        assert workspace.fetch_blob(one) == 2
        workspace.remove_blob(one)
        assert not workspace.has_blob(one)

    def test_a_missing_blob_is_named_with_its_like(self, session: Session) -> None:
        session.workspace("n").feed_blob("weights", 1)
        with pytest.raises(BlobNotFoundError, match="Did you mean 'weights'") as e:
            session.workspace("n").fetch_blob("weight")
        assert isinstance(e.value, KeyError)
        assert f"no blob 'weight' in the workspace of node {self.name_of('n')!r}" in str(e.value)
        assert (e.value.blob, e.value.node) == ("weight", self.name_of("n"))


def _fails_if_there(inputs: Any, outputs: Any, workspace: Any) -> None:
    if workspace.has_blob("x"):
        raise AssertionError("the blob of an earlier private run is still there")


_meeting = threading.Event()


def _make_and_meet(inputs: Any, outputs: Any, workspace: Any) -> None:
    workspace.feed_blob("between", 11)
    _meeting.set()


def _meet_and_read(inputs: Any, outputs: Any, workspace: Any) -> None:
    if not _meeting.wait(30):
        raise TimeoutError("the two tasks did not run at once")
    _meeting.clear()
    outputs[0].feed(workspace.fetch_blob("between"))
