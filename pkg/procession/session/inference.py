"""Shapes and types of what nets make, found by running them, operator by operator, aside.

Values are not known when only shapes are given. Operators then run on several made-up values, and
what has another shape with each stays unknown, with all that is made of it. So does what an
operator makes that has effects beyond its outputs. Nothing that can be seen is run: workspaces and
nets are as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from procession.errors import ProcessionError, WorkspaceError
from procession.graph.net import Net
from procession.graph.proto import NetDef, OperatorDef, TensorShape, TensorShapes
from procession.operators import REGISTRY
from procession.operators.datatype import numpy_dtype
from procession.operators.handles import Counter
from procession.session import serialize
from procession.session.workspace import Workspace

_Kind = tuple[tuple[int, ...], "np.dtype[Any]"]
"""Shape and type."""


def _counted(shape: Sequence[int], dtype: Any) -> Any:
    return np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape).astype(dtype)


_MADE_UP: tuple[Callable[[Sequence[int], Any], Any], ...] = (np.zeros, np.ones, _counted)
"""What stands in for values that are not known."""

_APART = {"Free", "GetAllBlobNames", "Python", "PythonGradient"}
"""Operators that do more, or look at more, than inputs and outputs."""


def of_shapes(dimensions: Mapping[Any, Any], types: Mapping[Any, int]) -> dict[str, _Kind]:
    """Blob -> shape and type; the type is float32 where none is given.

    Raises:
        WorkspaceError: A dimension is negative.
    """
    kinds = {str(blob): numpy_dtype(number) for blob, number in types.items()}
    found: dict[str, _Kind] = {}
    for blob, dims in dimensions.items():
        shape = tuple(int(length) for length in dims)
        if any(length < 0 for length in shape):
            raise WorkspaceError(f"blob {str(blob)!r} cannot have the shape {list(shape)}")
        found[str(blob)] = shape, kinds.get(str(blob), np.dtype(np.float32))
    return found


class _Inference:
    """Workspaces that differ in the values that are not known."""

    def __init__(self, ways: int) -> None:
        self.workspaces = [Workspace() for _ in range(ways)]

    def know(self, blob: str, shape: Sequence[int], dtype: Any) -> None:
        """A blob has this shape and type."""
        for workspace, made_up in zip(self.workspaces, _MADE_UP, strict=False):
            workspace.feed_blob(blob, made_up(tuple(shape), dtype))

    def value(self, blob: str) -> Any:
        """What stands in for a blob's value; None when nothing is known of it."""
        first = self.workspaces[0]
        return first.peek(blob) if first.has_blob(blob) else None

    def forget(self, blob: str) -> None:
        """Nothing is known of a blob."""
        for workspace in self.workspaces:
            if workspace.has_blob(blob):
                workspace.remove_blob(blob)

    def add(self, operator: OperatorDef) -> None:
        """Learn what an operator makes."""
        if not operator.output:
            return
        inputs = [self.value(blob) for blob in operator.input]
        told = _by_lengths(operator, inputs)
        if told is None and self._can_be_tried(operator, inputs):
            self._try(operator)
            return
        for blob in operator.output:
            self.forget(blob)
        if told is not None:
            self.know(operator.output[0], *told)

    @staticmethod
    def _can_be_tried(operator: OperatorDef, inputs: Sequence[Any]) -> bool:
        if operator.type not in REGISTRY or operator.type in _APART:
            return False
        if any(isinstance(value, NetDef) for value in operator.arguments.values()):
            return False
        return all(isinstance(value, (np.ndarray, str, bytes, Counter)) for value in inputs)

    def _try(self, operator: OperatorDef) -> None:
        done = []
        for workspace in self.workspaces:
            try:
                workspace.run(operator)
                done.append(workspace)
            except ProcessionError:
                continue
        # With values that only one of several ways has got right, the shape may hang on them.
        sure = len(done) > 1 or len(self.workspaces) == 1
        for blob in operator.output:
            kinds = {_kind(workspace.peek(blob)) for workspace in done if workspace.has_blob(blob)}
            if not sure or len(kinds) != 1:
                self.forget(blob)
                continue
            (kind,) = kinds
            if kind is not None and len(done) < len(self.workspaces):
                self.know(blob, *kind)


def _kind(value: Any) -> _Kind | None:
    return (value.shape, value.dtype) if isinstance(value, np.ndarray) else None


def _by_lengths(operator: OperatorDef, inputs: Sequence[Any]) -> _Kind | None:
    """What operators make whose inputs have to fit each other, as no made-up values do."""
    kinds = [_kind(value) for value in inputs]
    if not kinds or None in kinds:
        return None
    shapes = [kind[0] for kind in kinds if kind is not None]
    data, dtype = shapes[0], inputs[0].dtype
    if operator.type in ("Gather", "BatchGather") and len(shapes) == 2:
        axis = operator.arguments.get("axis", 0) if operator.type == "Gather" else 1
        if -len(data) <= axis < len(data):
            axis %= len(data)
            return data[:axis] + shapes[1] + data[axis + 1 :], dtype
    if operator.type == "BatchOneHot" and len(shapes) == 3:
        return data[:1] + shapes[2], dtype
    kind = operator.type.removeprefix("Sparse")
    if kind in ("LengthsSum", "LengthsMean", "LengthsMax", "LengthsMin", "LengthsWeightedSum"):
        return shapes[-1] + data[1:], dtype
    return None


def infer(nets: Iterable[NetDef], known: Mapping[str, Any]) -> TensorShapes:
    """Shapes and types of blobs, given those, or the values, of some.

    Args:
        nets: The nets, in order.
        known: Blob -> its value, or its shape and type.
    """
    by_shape = any(isinstance(value, tuple) for value in known.values())
    inference = _Inference(len(_MADE_UP) if by_shape else 1)
    for blob, value in known.items():
        if isinstance(value, tuple):
            inference.know(blob, *value)
        elif isinstance(value, np.ndarray):
            for workspace in inference.workspaces:
                workspace.feed_blob(blob, value)
    for net in nets:
        for operator in net.op:
            inference.add(operator)
    found = TensorShapes()
    for blob in inference.workspaces[0].names():
        kind = _kind(inference.value(blob))
        if kind is not None:
            found.shapes.append(
                TensorShape(
                    name=blob,
                    dims=kind[0],
                    data_type=int(serialize.data_type(inference.value(blob))),
                )
            )
    return found


def of_workspace(workspace: Workspace) -> dict[str, Any]:
    """Blob -> value, of all blobs of a workspace."""
    return {name: workspace.peek(name) for name in workspace.names()}


def infer_shapes_and_types(
    nets: Net | NetDef | Iterable[Net | NetDef],
    blob_dimensions: Mapping[Any, Sequence[int]] | None = None,
    blob_types: Mapping[Any, int] | None = None,
    *,
    workspace: Workspace | None = None,
) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Shapes and types of what nets make, as far as they can be told without running the nets.

        infer_shapes_and_types([net], {"x": [32, 10]})
        infer_shapes_and_types([net], workspace=workspace)

    Args:
        nets: Nets, or their messages, in the order in which they are to run; or one alone.
        blob_dimensions: Blob -> shape, of what the nets read.
        blob_types: Blob -> `core.DataType`, of blobs in `blob_dimensions`; left out, FLOAT.
        workspace: Where what the nets read lies, instead of shapes. More can be told then, since
            the values are known.

    Returns:
        (blob -> shape, blob -> `core.DataType`): of the blobs that were given, and of what the nets
        make of them. What cannot be told is left out.

    Raises:
        TypeError: Something is no net.
        ValueError: Both shapes and a workspace are given; or types and no shapes.
        WorkspaceError: A dimension is negative.

    Caffe2: workspace.InferShapesAndTypes.
    """
    if workspace is not None and blob_dimensions is not None:
        raise ValueError("infer_shapes_and_types takes blob_dimensions or a workspace, not both")
    if blob_types is not None and blob_dimensions is None:
        raise ValueError("infer_shapes_and_types takes blob_types only with blob_dimensions")
    messages = []
    several: Iterable[Any] = [nets] if isinstance(nets, (Net, NetDef)) else nets
    for net in several:
        message = net.message if isinstance(net, Net) else net
        if not isinstance(message, NetDef):
            raise TypeError(f"infer_shapes_and_types takes nets, or their messages, not {net!r}")
        messages.append(message)
    known: Mapping[str, Any] = of_shapes(blob_dimensions or {}, blob_types or {})
    if workspace is not None:
        known = of_workspace(workspace)
    return as_dicts(infer(messages, known))


def as_dicts(found: TensorShapes) -> tuple[dict[str, list[int]], dict[str, int]]:
    """(blob -> shape, blob -> type), of a message of both."""
    return (
        {each.name: list(each.dims) for each in found.shapes},
        {each.name: each.data_type for each in found.shapes},
    )
