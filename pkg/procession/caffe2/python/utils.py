"""`caffe2.python.utils`: arguments, arrays and messages, as far as graphs need them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from procession.errors import WorkspaceError
from procession.graph.device import DeviceOption, DeviceType
from procession.graph.message import Message
from procession.graph.proto import Argument, NetDef, TensorProto
from procession.session import serialize

OPTIMIZER_ITERATION_NAME = "optimizer_iteration"
ITERATION_MUTEX_NAME = "iteration_mutex"


_KINDS = (int, float, (str, bytes), Message)


def MakeArgument(key: str, value: Any) -> Argument:
    """An argument of a value: a number, text, a message, or a list or array of one kind.

    Raises:
        ValueError: Nothing that an argument could be.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.ravel().tolist() if isinstance(value, np.ndarray) else value.item()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        value = [each.item() if isinstance(each, np.generic) else each for each in value]
        fits = any(all(isinstance(each, kind) for each in value) for kind in _KINDS)
    else:
        fits = isinstance(value, _KINDS)
    if not fits:
        raise ValueError(
            f"argument {key!r} cannot be {value!r}: it is a number, text, a message, or a list of "
            f"one kind of these"
        )
    return Argument.of(key, value)


def ArgsToDict(args: Iterable[Argument]) -> dict[str, Any]:
    """Name -> value; text is bytes.

    Raises:
        ValueError: An argument has no value.
    """
    found: dict[str, Any] = {}
    for each in args:
        for name in ("f", "i", "s", "n", "floats", "ints", "strings", "nets"):
            value = getattr(each, name)
            if each._is_set(Argument.FIELDS[name]):
                found[each.name] = list(value) if Argument.FIELDS[name].repeated else value
                break
        else:
            raise ValueError(f"argument {each.name!r} has no value")
    return found


def NumpyArrayToCaffe2Tensor(arr: Any, name: str | None = None) -> TensorProto:
    """An array as a message."""
    return serialize.tensor_proto(arr, name)


def Caffe2TensorToNumpyArray(tensor: TensorProto) -> Any:
    """The array in a message."""
    if not tensor.dims:
        # A message that does not say its shape is a list of values.
        known = TensorProto()
        known.CopyFrom(tensor)
        fields = ("float_data", "double_data", "int64_data", "int32_data", "string_data")
        count = max(len(getattr(tensor, field)) for field in fields)
        if count != 1:
            known.dims.append(count)
        return serialize.tensor_value(known)
    return serialize.tensor_value(tensor)


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


def BuildUniqueMutexIter(
    init_net: Any, net: Any, iter: Any = None, iter_mutex: Any = None, iter_val: int = 0
) -> Any:
    """Have a net count its runs in one blob, under a mutex; returns that blob.

    Args:
        init_net: The net that makes counter and mutex.
        net: The net that counts.
        iter: The counter; left out, `OPTIMIZER_ITERATION_NAME`.
        iter_mutex: The mutex; left out, `ITERATION_MUTEX_NAME`.
        iter_val: Where the counter begins.
    """
    counter = OPTIMIZER_ITERATION_NAME if iter is None else iter
    mutex = ITERATION_MUTEX_NAME if iter_mutex is None else iter_mutex
    if not init_net.BlobIsDefined(counter):
        option = DeviceOption(DeviceType.CPU)
        counter = init_net.ConstantFill(
            [],
            counter,
            shape=[1],
            value=iter_val,
            dtype=TensorProto.INT64,
            device_option=option,
        )
        mutex = init_net.CreateMutex([], [mutex], device_option=option)
        net.AtomicIter([mutex, counter], [counter])
    else:
        counter = init_net.GetBlobRef(counter)
    return counter


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
