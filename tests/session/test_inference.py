"""infer_shapes_and_types: what can be told of a net's blobs without running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from procession import (
    Net,
    Workspace,
    WorkspaceError,
    core,
    infer_shapes_and_types,
)

TYPES = core.DataType
ROWS = {"x": [6, 4], "ids": [6], "lengths": [3], "flags": [6], "one": []}
KINDS = {
    "x": TYPES.FLOAT,
    "ids": TYPES.INT32,
    "lengths": TYPES.INT32,
    "flags": TYPES.BOOL,
    "one": TYPES.INT64,
}


def inferred(build: Callable[[Any], Any]) -> tuple[dict[str, list[int]], dict[str, int]]:
    net = Net("net")
    build(net)
    shapes, types = infer_shapes_and_types([net], ROWS, KINDS)
    assert shapes.keys() == types.keys()
    assert {blob: shapes.pop(blob) for blob in ROWS} == ROWS
    assert {blob: types.pop(blob) for blob in ROWS} == KINDS
    return shapes, types


@pytest.mark.parametrize(
    ("build", "shapes", "kind"),
    [
        (lambda n: n.Split("x", ["y", "z"], axis=1), {"y": [6, 2], "z": [6, 2]}, TYPES.FLOAT),
        (lambda n: n.LengthsSum(["x", "lengths"], "y"), {"y": [3, 4]}, TYPES.FLOAT),
        (
            lambda n: n.SparseLengthsMean(["x", "ids", "lengths"], "y"),
            {"y": [3, 4]},
            TYPES.FLOAT,
        ),
        (lambda n: n.Gather(["x", "ids"], "y"), {"y": [6, 4]}, TYPES.FLOAT),
        (lambda n: n.Gather(["x", "lengths"], "y", axis=-1), {"y": [6, 3]}, TYPES.FLOAT),
        (lambda n: n.BatchGather(["x", "lengths"], "y"), {"y": [6, 3]}, TYPES.FLOAT),
        (lambda n: n.GT(["x", "x"], "y"), {"y": [6, 4]}, TYPES.BOOL),
        (lambda n: n.Cast("x", "y", to=TYPES.INT64), {"y": [6, 4]}, TYPES.INT64),
    ],
)
def test_what_follows_from_shapes(
    build: Callable[[Any], Any], shapes: dict[str, list[int]], kind: int
) -> None:
    found, types = inferred(build)
    assert found == shapes
    assert set(types.values()) == {kind}


@pytest.mark.parametrize(
    "build",
    [
        lambda n: n.Range("one", "y"),
        lambda n: n.LengthsRangeFill("lengths", "y"),
        lambda n: n.LengthsToSegmentIds("lengths", "y"),
        lambda n: n.SortedSegmentSum(["x", "ids"], "y"),
        lambda n: n.UnsortedSegmentSum(["x", "ids"], "y"),
        lambda n: n.Unique("ids", "y"),
        lambda n: n.BooleanMask(["x", "flags"], "y"),
        lambda n: n.OneHot(["ids", "one"], "y"),
        lambda n: n.ConstantFill("lengths", "y", input_as_shape=True),
        lambda n: n.Reshape(["x", "lengths"], ["y", "y"]),
        lambda n: n.Relu("elsewhere", "y"),
        lambda n: n.Python(lambda inputs, outputs: None)("x", "y"),
    ],
)
def test_what_hangs_on_values_stays_unknown(build: Callable[[Any], Any]) -> None:
    def and_more(net: Any) -> None:
        build(net)
        net.Copy("y", "z")
        net.Copy("x", "sure")

    assert inferred(and_more)[0] == {"sure": [6, 4]}


def test_outputs_are_told_apart() -> None:
    assert inferred(lambda n: n.Unique("ids", ["y", "places"]))[0] == {"places": [6]}


def test_values_that_a_net_makes_are_known() -> None:
    def build(net: Any) -> None:
        net.GivenTensorInt64Fill([], "shape", shape=[2], values=[3, 8])
        net.Reshape(["x", "shape"], ["y", "old"])
        net.CreateCounter([], "counter", init_count=3)
        net.RetrieveCount("counter", "count")

    shapes, types = inferred(build)
    assert shapes == {"shape": [2], "y": [3, 8], "old": [2], "count": []}
    assert types["count"] == TYPES.INT64


def test_of_a_workspace() -> None:
    workspace = Workspace()
    workspace.feed_blob("x", np.ones((2, 3)))
    workspace.feed_blob("shape", np.array([4, 5]))
    net = Net("net")
    net.Add(["x", "x"], "y")
    net.ConstantFill("shape", "z", value=1.0, input_as_shape=True)
    shapes, types = infer_shapes_and_types([net], workspace=workspace)
    assert shapes == {"x": [2, 3], "shape": [2], "y": [2, 3], "z": [4, 5]}
    assert types["y"] == TYPES.DOUBLE
    assert workspace.names() == ["shape", "x"]


def test_nets_follow_each_other_and_may_be_messages() -> None:
    first, second = Net("first"), Net("second")
    first.GivenTensorFill([], "a", shape=[2, 2], values=[1.0, 2.0, 3.0, 4.0])
    second.MatMul(["a", "a"], "b")
    shapes, types = infer_shapes_and_types([first, second.Proto()])
    assert shapes == {"a": [2, 2], "b": [2, 2]}
    assert set(types.values()) == {TYPES.FLOAT}
    assert infer_shapes_and_types([second]) == ({}, {})
    for alone in (first, first.Proto()):
        assert infer_shapes_and_types(alone) == ({"a": [2, 2]}, {"a": TYPES.FLOAT})


def test_nothing_is_run_that_can_be_seen(capfd: pytest.CaptureFixture[str]) -> None:
    body = Net("body")
    body.Print("x", [])
    body.ConstantFill([], "again", shape=[], value=True, dtype=TYPES.BOOL)

    def build(net: Any) -> None:
        net.Print("x", [])
        net.ConstantFill([], "again", shape=[], value=True, dtype=TYPES.BOOL)
        net.While("again", [], loop_net=body.Proto())

    assert inferred(build)[0] == {"again": []}
    assert capfd.readouterr().out == ""


def test_what_makes_no_sense_is_refused() -> None:
    net = Net("net")
    net.Relu("x", "y")
    with pytest.raises(WorkspaceError, match="'x'"):
        infer_shapes_and_types([net], {"x": [-1, 2]})
    with pytest.raises(TypeError, match="'net'"):
        infer_shapes_and_types(["net"])
    with pytest.raises(ValueError, match="not both"):
        infer_shapes_and_types([net], {"x": [1]}, workspace=Workspace())
    with pytest.raises(ValueError, match="blob_types"):
        infer_shapes_and_types([net], blob_types={"x": TYPES.FLOAT})
