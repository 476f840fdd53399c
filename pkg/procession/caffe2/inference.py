"""Shapes and types of what nets make, found by running them, operator by operator, aside.

What has effects beyond its outputs, or needs what is not known, is passed over; what it would
make, and what is made of that, stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import procession
from procession.compiler.compiled import CompiledRunnable
from procession.errors import ProcessionError
from procession.graph.proto import NetDef, OperatorDef, TensorShape, TensorShapes
from procession.operators import REGISTRY
from procession.operators.datatype import numpy_dtype
from procession.runtime.program import (
    NetProgram,
    NodeProgram,
    Operation,
    StepProgram,
    TaskProgram,
)
from procession.session import serialize


def of_shapes(dimensions: Mapping[Any, Any], types: Mapping[Any, int]) -> dict[str, Any]:
    """Blob -> an array of that shape and type, all 0; the type is float32 where none is given."""
    kinds = {str(blob): numpy_dtype(number) for blob, number in types.items()}
    return {
        str(blob): np.zeros(tuple(shape), kinds.get(str(blob), np.float32))
        for blob, shape in dimensions.items()
    }


def _can_be_tried(operator: OperatorDef, workspace: procession.Workspace) -> bool:
    if operator.type not in REGISTRY or "context" in REGISTRY[operator.type].requests:
        return False
    return all(
        workspace.has_blob(blob) and isinstance(workspace.peek(blob), (np.ndarray, str, bytes))
        for blob in operator.input
    )


def infer(nets: Iterable[NetDef], known: Mapping[str, Any]) -> TensorShapes:
    """Shapes and types of blobs, given the values of some.

    Args:
        nets: The nets, in order.
        known: Blob -> a value of its shape and type.
    """
    workspace = procession.Workspace()
    for blob, value in known.items():
        if isinstance(value, np.ndarray):
            workspace.feed_blob(blob, value)
    for net in nets:
        for operator in net.op:
            try:
                done = _can_be_tried(operator, workspace)
                if done:
                    workspace.run(operator)
            except ProcessionError:
                done = False
            if not done:
                for blob in set(operator.output) & set(workspace.names()):
                    workspace.remove_blob(blob)
    found = TensorShapes()
    for blob in workspace.names():
        value = workspace.peek(blob)
        if isinstance(value, np.ndarray):
            found.shapes.append(
                TensorShape(name=blob, dims=value.shape, data_type=int(serialize.data_type(value)))
            )
    return found


def alone(compiled: CompiledRunnable, operation: Operation) -> CompiledRunnable:
    """One operator of something compiled, by itself."""
    whole = compiled.merged
    step = StepProgram(compiled.name, (NetProgram(compiled.name, (operation,)),))
    program = NodeProgram(
        node=whole.node,
        private=False,
        tasks=(TaskProgram(compiled.name, step),),
        outputs=(),
        definitions=whole.definitions,
    )
    return CompiledRunnable(compiled.name, (program,), ())
