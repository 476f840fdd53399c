"""InferShapesAndTypes: leads to `procession.infer_shapes_and_types`, for the current workspace."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from caffe2.python import core, workspace

from procession import infer_shapes_and_types


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    workspace.ResetWorkspace()
    yield
    workspace.ResetWorkspace()


def net() -> core.Net:
    made = core.Net("net")
    made.Cast("x", "y", to=core.DataType.INT64)
    made.ConstantFill("shape", "z", value=1.0, input_as_shape=True)
    return made


def test_of_shapes() -> None:
    given = {"x": [2, 3], "shape": [2]}, {"shape": core.DataType.INT64}
    found = workspace.InferShapesAndTypes([net()], given[0], blob_types=given[1])
    assert found == infer_shapes_and_types([net()], *given)
    assert found[0] == {"x": [2, 3], "shape": [2], "y": [2, 3]}
    messages = [net().Proto()]
    assert workspace.InferShapesAndTypes(messages, given[0], True, given[1]) == found


def test_of_the_current_workspace() -> None:
    workspace.FeedBlob("x", np.ones((2, 3)))
    workspace.FeedBlob("shape", np.array([4, 5]))
    shapes, types = workspace.InferShapesAndTypes([net()])
    assert shapes == {"x": [2, 3], "shape": [2], "y": [2, 3], "z": [4, 5]}
    assert types["x"] == core.DataType.DOUBLE
    assert workspace.Blobs() == ["shape", "x"]


def test_what_makes_no_sense_is_refused_as_in_caffe2() -> None:
    with pytest.raises(RuntimeError, match="'x'"):
        workspace.InferShapesAndTypes([net()], {"x": [-1, 2]})
    with pytest.raises(AssertionError, match="blob_types"):
        workspace.InferShapesAndTypes([net()], blob_types={"x": core.DataType.FLOAT})
