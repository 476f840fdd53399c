"""`caffe2.python.utils`: arguments, arrays and messages, as far as graphs need them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from procession.errors import WorkspaceError
from procession.graph.arguments import arguments_by_name as ArgsToDict
from procession.graph.arguments import make_argument as MakeArgument
from procession.graph.iteration import ITERATION_MUTEX_NAME, OPTIMIZER_ITERATION_NAME
from procession.graph.iteration import count_runs as BuildUniqueMutexIter
from procession.graph.proto import NetDef
from procession.session.serialize import listed_value as Caffe2TensorToNumpyArray
from procession.session.serialize import tensor_proto as NumpyArrayToCaffe2Tensor


def GetContentFromProto(obj: Any, function_map: Any) -> Any:
    """Call the function that is given for the message's class."""
    for kind, function in function_map.items():
        if type(obj) is kind:
            return function(obj)
    return None


def EnumClassKeyVals(cls: type) -> dict[str, Any]:
    """The texts among the class attributes in capital letters: name -> text.

    Raises:
        AssertionError: Two have the same text.
    """
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name in dir(cls):
        value = getattr(cls, name)
        if name == name.upper() and isinstance(value, str):
            if value in names:
                raise AssertionError(
                    f"{cls.__name__}: {names[value]} and {name} are both {value!r}"
                )
            found[name] = value
            names[value] = name
    return found


def OpAlmostEqual(op_a: Any, op_b: Any, ignore_fields: Any = None) -> bool:
    """Whether two operators are the same but for some fields."""
    ignored = [ignore_fields] if isinstance(ignore_fields, str) else list(ignore_fields or ())
    first, second = copy.deepcopy(op_a), copy.deepcopy(op_b)
    for field in ignored:
        first.ClearField(field)
        second.ClearField(field)
    return bool(first == second)


def raiseIfNotEqual(a: Any, b: Any, msg: str) -> None:
    """Refuse two values that differ."""
    if a != b:
        raise WorkspaceError(f"{msg}. {a} != {b}")


def NHWC2NCHW(tensor: Any) -> Any:
    """Have the last axis, that of channels, be the second."""
    if tensor.ndim < 1:
        raise AssertionError("NHWC2NCHW takes an array with dimensions")
    return np.moveaxis(tensor, -1, min(1, tensor.ndim - 1))


def NCHW2NHWC(tensor: Any) -> Any:
    """Have the second axis, that of channels, be the last."""
    if tensor.ndim < 2:
        raise AssertionError("NCHW2NHWC takes an array of two dimensions or more")
    return np.moveaxis(tensor, 1, -1)


def ResetBlobs(blobs: Iterable[Any]) -> None:
    """Take their values from blobs of the current workspace."""
    from procession.caffe2.python import _import_c_extension as C

    for blob in blobs:
        C.reset_blob(str(blob))


__all__ = [
    "ITERATION_MUTEX_NAME",
    "NCHW2NHWC",
    "NHWC2NCHW",
    "OPTIMIZER_ITERATION_NAME",
    "ArgsToDict",
    "BuildUniqueMutexIter",
    "Caffe2TensorToNumpyArray",
    "EnumClassKeyVals",
    "GetContentFromProto",
    "MakeArgument",
    "NetDef",
    "NumpyArrayToCaffe2Tensor",
    "OpAlmostEqual",
    "ResetBlobs",
    "raiseIfNotEqual",
]
