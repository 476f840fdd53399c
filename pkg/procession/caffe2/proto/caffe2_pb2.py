"""The messages and numbers of caffe2.proto. See `procession.graph.proto`."""

from __future__ import annotations

from collections.abc import Iterator

from procession.graph.device import DeviceType
from procession.graph.proto import (
    Argument,
    BackendOptions,
    BlobProto,
    DBReaderProto,
    DeviceOption,
    ExecutionStep,
    MapFieldEntry,
    NetDef,
    OperatorDef,
    PartitionInfo,
    PlanDef,
    QTensorProto,
    TensorProto,
    TensorProtos,
    TensorShape,
    TensorShapes,
)

__all__ = [
    "CPU",
    "CUDA",
    "HIP",
    "IDEEP",
    "MKLDNN",
    "OPENCL",
    "OPENGL",
    "Argument",
    "BackendOptions",
    "BlobProto",
    "DBReaderProto",
    "DataType",
    "DeviceOption",
    "DeviceTypeProto",
    "ExecutionStep",
    "MapFieldEntry",
    "NetDef",
    "OperatorDef",
    "PartitionInfo",
    "PlanDef",
    "QTensorProto",
    "TensorProto",
    "TensorProtos",
    "TensorShape",
    "TensorShapes",
]

CPU, CUDA, MKLDNN, OPENGL, OPENCL, IDEEP, HIP = range(7)
COMPILE_TIME_MAX_DEVICE_TYPES = 10
PROTO_CPU, PROTO_CUDA, PROTO_MKLDNN, PROTO_OPENGL, PROTO_OPENCL = range(5)
PROTO_IDEEP, PROTO_HIP, PROTO_FPGA, PROTO_MSNPU, PROTO_XLA = range(5, 10)
PROTO_COMPILE_TIME_MAX_DEVICE_TYPES = 10


class Enum:
    """Names and numbers, as protocol buffers hand them out."""

    def __init__(self, **values: int) -> None:
        self._values = values

    def items(self) -> list[tuple[str, int]]:
        """(name, number) of all."""
        return list(self._values.items())

    def keys(self) -> list[str]:
        """The names."""
        return list(self._values)

    def values(self) -> list[int]:
        """The numbers."""
        return list(self._values.values())

    def Name(self, number: int) -> str:
        """The name of a number.

        Raises:
            ValueError: No name has it.
        """
        for name, value in self._values.items():
            if value == number:
                return name
        raise ValueError(f"no name has the number {number!r}; there are {self._values}")

    def Value(self, name: str) -> int:
        """The number of a name.

        Raises:
            ValueError: There is no such name.
        """
        if name not in self._values:
            raise ValueError(f"no number has the name {name!r}; there are {self._values}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __getattr__(self, name: str) -> int:
        try:
            return self.__dict__["_values"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None


DataType = Enum(
    UNDEFINED=0,
    FLOAT=1,
    INT32=2,
    BYTE=3,
    STRING=4,
    BOOL=5,
    UINT8=6,
    INT8=7,
    UINT16=8,
    INT16=9,
    INT64=10,
    FLOAT16=12,
    DOUBLE=13,
    ZERO_COLLISION_HASH=14,
)
DeviceTypeProto = Enum(**{f"PROTO_{kind.name}": int(kind) for kind in DeviceType})

TensorProto.DataType = DataType  # type: ignore[attr-defined]
