"""Values as Caffe2's messages: `TensorProto` for tensors, `BlobProto` for blobs, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.blobs.blob import is_tensor
from procession.errors import WorkspaceError
from procession.graph.proto import BlobProto, TensorProto
from procession.operators.datatype import DataType, numpy_dtype

_TENSOR, _STRING = "Tensor", "std::string"

_FIELDS = {
    DataType.FLOAT: "float_data",
    DataType.DOUBLE: "double_data",
    DataType.INT64: "int64_data",
    DataType.STRING: "string_data",
    DataType.BYTE: "byte_data",
}
"""Where the values of a type go; all others are in `int32_data`, those of FLOAT16 by their bits."""

_NUMBERS = {
    numpy_dtype(number): number
    for number in (
        DataType.FLOAT,
        DataType.DOUBLE,
        DataType.FLOAT16,
        DataType.BOOL,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.UINT8,
        DataType.UINT16,
    )
}


def data_type(array: Any) -> DataType:
    """The number of an array's type.

    Raises:
        WorkspaceError: Caffe2 has no such type.
    """
    if array.dtype.kind in "OSU":
        return DataType.STRING
    if array.dtype in _NUMBERS:
        return _NUMBERS[array.dtype]
    raise WorkspaceError(f"Caffe2 has no type for tensors of {array.dtype}")


def as_bytes(text: Any) -> bytes:
    """A string of a tensor of strings, which are bytes in Caffe2."""
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return bytes(text)
    raise WorkspaceError(f"a tensor of strings holds a {type(text).__name__}: {text!r}")


def size_bytes(value: Any) -> int:
    """How many bytes a value has: those of a tensor with its strings, or a string's; else 0."""
    if isinstance(value, (str, bytes)):
        return len(as_bytes(value))
    if not isinstance(value, np.ndarray):
        return 0
    strings = sum(map(len, value.flat)) if value.dtype.hasobject else 0
    return int(value.nbytes) + strings


def tensor_proto(arr: Any, name: str | None = None) -> TensorProto:
    """An array as a message.

    Raises:
        WorkspaceError: Caffe2 has no such tensors.
    """
    array = np.asarray(arr)
    number = data_type(array)
    made = TensorProto(dims=array.shape, data_type=int(number), name=name)
    field = _FIELDS.get(number, "int32_data")
    if number == DataType.FLOAT16:
        array = np.ascontiguousarray(array).view(np.uint16)
    if field == "string_data":
        made.string_data.extend([as_bytes(each) for each in array.flat])
    else:
        getattr(made, field).extend(array.ravel().tolist())
    return made


def tensor_value(tensor: TensorProto) -> Any:
    """The array that a message holds.

    Raises:
        WorkspaceError: The message holds another number of values than its shape says.
    """
    shape = tuple(tensor.dims)
    number = DataType(tensor.data_type)
    field = _FIELDS.get(number, "int32_data")
    if field == "byte_data":
        flat = np.frombuffer(tensor.byte_data, np.uint8).copy()
    elif field == "string_data":
        flat = np.empty(len(tensor.string_data), object)
        flat[:] = list(tensor.string_data)
    elif number == DataType.FLOAT16:
        flat = np.array(list(tensor.int32_data), np.uint16).view(np.float16)
    else:
        flat = np.array(list(getattr(tensor, field)), numpy_dtype(number))
    if flat.size != np.prod(shape, dtype=np.int64):
        raise WorkspaceError(f"a tensor of shape {shape} holds {flat.size} values")
    return flat.reshape(shape)


def listed_value(tensor: TensorProto) -> Any:
    """`tensor_value`; a message that does not say its shape is a list of values.

    Raises:
        WorkspaceError: See `tensor_value`.
    """
    fields = (*_FIELDS.values(), "int32_data")
    count = max(len(getattr(tensor, field)) for field in fields)
    if tensor.dims or count == 1:
        return tensor_value(tensor)
    known = TensorProto()
    known.CopyFrom(tensor)
    known.dims.append(count)
    return tensor_value(known)


def dump(name: str, value: Any) -> bytes:
    """A blob's value as the bytes of a `BlobProto`.

    Raises:
        WorkspaceError: It is neither a tensor nor a string.
    """
    made = BlobProto(name=name)
    if isinstance(value, (str, bytes)):
        made.type = _STRING
        made.content = as_bytes(value)
    elif is_tensor(value) or isinstance(value, np.ndarray):
        made.type = _TENSOR
        made.tensor.CopyFrom(tensor_proto(value, name))
        made.tensor.device_detail.device_type = 0
        made.tensor.segment.begin = 0
        made.tensor.segment.end = value.size
    else:
        what = "has no value" if value is None else f"holds a {type(value).__name__}"
        raise WorkspaceError(
            f"blob {name!r} {what}: only tensors and strings can be made a message"
        )
    return made.SerializeToString()


def load(data: bytes) -> Any:
    """The value in the bytes of a `BlobProto`.

    Raises:
        WorkspaceError: They are none.
    """
    made = BlobProto()
    try:
        made.ParseFromString(data)
    except (ValueError, IndexError) as error:
        raise WorkspaceError(f"these {len(data)} bytes are no BlobProto: {error}") from error
    if made.HasField("tensor"):
        return tensor_value(made.tensor)
    if made.type == _STRING:
        return made.content
    raise WorkspaceError(f"a blob of type {made.type!r} cannot be made of a message")
