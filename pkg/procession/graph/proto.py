"""The graph as plain data, with Caffe2's field names: NetDef, OperatorDef, Argument, PlanDef, ...

Scripts can read and change these messages as they did with protocol buffers (see `message`).

One thing is more than in Caffe2: an `Argument` keeps the Python value it was made of (`value`),
a NumPy array or a function included. `i`, `f`, `s`, `ints`, ... are views of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from procession.graph.message import CHECKS, Field, Message, Repeated, field
from procession.operators.datatype import DataType

DATA_TYPES = {each.value: each.name for each in DataType}
STORAGE_TYPES = {1: "TYPED", 2: "RAW", 3: "EXTERNAL", 4: "NO_CONTENT"}


class TensorShape(Message):
    """Dimensions and type of a tensor."""

    dims = field(1, ["int64"])
    data_type = field(2, "enum", 1, names=DATA_TYPES)
    unknown_dims = field(3, ["int32"])
    unknown_shape = field(4, "bool")
    name = field(5, "string")


class TensorShapes(Message):
    """Those of several."""

    shapes = field(1, [TensorShape])


class DeviceOption(Message):
    """Where an operator is to run. Here that is the CPU, `device_type` 0."""

    device_type = field(1, "int32")
    device_id = field(2, "int32")
    random_seed = field(3, "uint32")
    node_name = field(4, "string")
    numa_node_id = field(5, "int32")
    extra_info = field(6, ["string"])


class Segment(Message):
    """Which part of a tensor a message holds."""

    begin = field(1, "int64")
    end = field(2, "int64")


class TensorProto(Message):
    """A tensor with its values."""

    UNDEFINED, FLOAT, INT32, BYTE, STRING, BOOL, UINT8, INT8 = range(8)
    UINT16, INT16, INT64, FLOAT16, DOUBLE, ZERO_COLLISION_HASH = 8, 9, 10, 12, 13, 14

    dims = field(1, ["int64"])
    data_type = field(2, "enum", 1, names=DATA_TYPES)
    float_data = field(3, ["float"], packed=True)
    int32_data = field(4, ["int32"], packed=True)
    byte_data = field(5, "bytes")
    string_data = field(6, ["bytes"])
    name = field(7, "string")
    device_detail = field(8, DeviceOption)
    double_data = field(9, ["double"], packed=True)
    int64_data = field(10, ["int64"], packed=True)
    segment = field(11, Segment)
    storage_type = field(12, "enum", 1, names=STORAGE_TYPES)
    raw_data = field(13, "bytes")


class TensorProtos(Message):
    """Tensors with their values."""

    protos = field(1, [TensorProto])


class BlobProto(Message):
    """A blob with its value."""

    name = field(1, "string")
    type = field(2, "string")
    tensor = field(3, TensorProto)
    content = field(4, "bytes")
    content_num_chunks = field(6, "int32")
    content_chunk_id = field(7, "int32")


class QTensorProto(Message):
    """A quantized tensor. Only so that messages that hold one can be read."""

    dims = field(1, ["int64"])
    precision = field(2, "int32")
    scale = field(3, "double")
    bias = field(4, "double")
    is_signed = field(5, "bool")
    data = field(6, ["int32"], packed=True)
    name = field(7, "string")
    data_type = field(8, "enum", 2, names=DATA_TYPES)
    scales = field(9, ["double"])
    biases = field(10, ["double"])
    axis = field(11, "int32")
    is_multiparam = field(12, "bool")


_tokens: dict[str, Any] = {}
_numbers = count(1)


def _token_of(value: Any) -> str:
    """A name for an object that no message can hold, good within this process."""
    token = f"object {next(_numbers)}: {getattr(value, '__name__', type(value).__name__)}"
    _tokens[token] = value
    return token


_NOTHING: Any = object()
_SINGLE = {"f": "float", "i": "int64", "s": "bytes"}
_MANY = {"floats": "float", "ints": "int64", "strings": "bytes"}


def _is_integer(value: Any) -> bool:
    return isinstance(value, (bool, int, np.integer, np.bool_))


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, bytes)) or hasattr(type(value), "GetUnscopedName")


def field_of(value: Any) -> str | None:
    """The field of an `Argument` that a Python value goes to; None for nothing and for objects.

    An empty list goes nowhere: that is how Caffe2 tells it from a list of numbers.
    """
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return field_of(value.item())
        kind = value.dtype.kind
        if value.size == 0 or kind not in "biufOSU":
            return None
        return "floats" if kind == "f" else "ints" if kind in "biu" else "strings"
    if _is_integer(value):
        return "i"
    if isinstance(value, (float, np.floating)):
        return "f"
    if _is_text(value):
        return "s"
    if isinstance(value, NetDef):
        return "n"
    if isinstance(value, TensorProto):
        return "t"
    if isinstance(value, (list, tuple, Repeated)) and value:
        if all(map(_is_integer, value)):
            return "ints"
        if all(_is_integer(each) or isinstance(each, (float, np.floating)) for each in value):
            return "floats"
        if all(map(_is_text, value)):
            return "strings"
        if all(isinstance(each, NetDef) for each in value):
            return "nets"
        if all(isinstance(each, TensorProto) for each in value):
            return "tensors"
    return None


def _encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


class Argument(Message):
    """One argument of an operator or a net: a name and a value.

    `value` is what it was made of; the fields of Caffe2 (`f`, `i`, `s`, `n`, `floats`, ...) are
    views of it, each the default when the value is of another kind.
    """

    name = field(1, "string")
    f = field(2, "float")
    i = field(3, "int64")
    s = field(4, "bytes")
    floats = field(5, ["float"])
    ints = field(6, ["int64"])
    strings = field(7, ["bytes"])
    # n and nets (8, 9) hold NetDefs, which hold these: added below.
    t = field(10, TensorProto)
    tensors = field(11, [TensorProto])
    qtensors = field(12, [QTensorProto])

    @classmethod
    def of(cls, name: str, value: Any) -> Argument:
        """An argument of a Python value, which is kept, not copied."""
        made = cls.__new__(cls)
        made.__dict__.update(name=name, _value=value)
        return made

    def set_value(self, value: Any) -> None:
        """Have this Python value, which is kept, not copied."""
        self.__dict__["_value"] = value

    @property
    def value(self) -> Any:
        """The Python value; None when nothing is set."""
        value = self.__dict__.get("_value", _NOTHING)
        if value is not _NOTHING:
            return value
        # What was read before it was set may have been written to since.
        for name, made in self.__dict__.items():
            declared = type(self).FIELDS.get(name)
            if declared is not None and name != "name" and self._lazily(declared, made):
                return made
        return None

    @staticmethod
    def _lazily(declared: Field, made: Any) -> bool:
        if declared.repeated:
            return bool(made)
        return bool(made._marked or made.ListFields())

    def _view(self, name: str) -> Any:
        """What a field is, the value being of its kind."""
        value = self.value
        if name == "i":
            return int(value)
        if name == "f":
            return float(np.float32(value))
        if name == "s":
            return _encoded(value)
        if name in ("n", "t"):
            return value
        if not isinstance(value, Repeated):
            kind: Any = self.FIELDS[name].kind
            listed = value.ravel().tolist() if isinstance(value, np.ndarray) else value
            make: Any = {"floats": float, "ints": int, "strings": _encoded}.get(name)
            value = Repeated(kind, listed if make is None else map(make, listed))
            if name == "strings":
                return value
            # From here on this list is the value: it may be changed in place.
            self.__dict__["_value"] = value
        if name == "floats":
            return Repeated("float", map(float, value)) if value.kind != "float" else value
        return value

    def __getattribute__(self, name: str) -> Any:
        if name in _VIEWS:
            if field_of(self.value) == name:
                return self._view(name)
            declared = type(self).FIELDS[name]
            if not declared.repeated and isinstance(declared.kind, str):
                return declared.default
            return self.__dict__.get(name) or self.__getattr__(name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = _SINGLE.get(name)
        if kind is None:
            super().__setattr__(name, value)
            return
        checked = CHECKS[kind](value)
        self.__dict__["_value"] = checked

    def _is_set(self, declared: Field) -> bool:
        if declared.name == "name":
            return "name" in self.__dict__
        return field_of(self.value) == declared.name

    def _set(self) -> Iterator[tuple[Field, Any]]:
        if "name" in self.__dict__:
            yield self.FIELDS["name"], self.name
        value = self.value
        name = field_of(value)
        if name is not None:
            yield self.FIELDS[name], self._view(name)
        elif value is not None and not isinstance(value, (list, tuple, np.ndarray)):
            yield self.FIELDS["s"], _Held(value)

    def MergeFrom(self, other: Any) -> None:
        """Take over the name and the value of another argument; lists and messages are copied."""
        self._check_same(other)
        if "name" in other.__dict__:
            self.__dict__["name"] = other.__dict__["name"]
        value = other.value
        if isinstance(value, Message):
            copied = type(value)()
            copied.CopyFrom(value)
            value = copied
        elif isinstance(value, Repeated):
            value = Repeated(value.kind, map(value._checked, value))
        elif isinstance(value, list):
            value = list(value)
        if value is not None or "_value" in other.__dict__:
            self.__dict__["_value"] = value

    def ClearField(self, name: str) -> None:
        """Unset a field: the value, when it is of that field's kind."""
        if name != "name" and name in type(self).FIELDS:
            if field_of(self.value) == name:
                self.__dict__.pop("_value", None)
            self.__dict__.pop(name, None)
            return
        super().ClearField(name)


class _Held(bytes):
    """A token for an object, equal for the same object."""

    held: Any

    def __new__(cls, value: Any) -> _Held:
        made = super().__new__(cls, b"?")
        made.held = value
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and bool(self.held is other.held or self.held == other.held)

    __hash__ = bytes.__hash__


def held_token(value: bytes) -> bytes:
    """What is written for the text of an argument: itself, or a token for the object it holds."""
    return _token_of(value.held).encode() if isinstance(value, _Held) else value


def held_object(text: bytes) -> Any:
    """What an argument's written text stands for: text, bytes, or the object of a token."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return text
    return _tokens.get(decoded, decoded)


class OperatorDef(Message):
    """One line of a net."""

    input = field(1, ["string"])
    output = field(2, ["string"])
    name = field(3, "string")
    type = field(4, "string")
    arg = field(5, [Argument])
    device_option = field(6, DeviceOption)
    engine = field(7, "string")
    control_input = field(8, ["string"])
    is_gradient_op = field(9, "bool")
    debug_info = field(10, "string")
    domain = field(11, "string")
    op_version = field(12, "int64")

    source: tuple[str, int, str] | None = None
    """(file, line, function) of the user's script that made it; no field, and not compared."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Argument name -> Python value."""
        return {each.name: each.value for each in self.arg}

    def CopyFrom(self, other: Any) -> None:
        """Be a copy of another operator, made at the same line of the script."""
        super().CopyFrom(other)
        self.__dict__["source"] = other.source

    def __deepcopy__(self, memo: Any) -> OperatorDef:
        made = OperatorDef()
        made.CopyFrom(self)
        return made


class BackendOptions(Message):
    """Only so that messages that hold them can be read."""

    backend_name = field(1, "string")


class PartitionInfo(Message):
    """Only so that messages that hold one can be read."""

    name = field(1, "string")
    device_id = field(2, ["int32"])
    extra_info = field(3, "string")
    backend_options = field(4, [BackendOptions])


class NetDef(Message):
    """A net."""

    name = field(1, "string")
    op = field(2, [OperatorDef])
    type = field(3, "string")
    num_workers = field(4, "int32")
    device_option = field(5, DeviceOption)
    arg = field(6, [Argument])
    external_input = field(7, ["string"])
    external_output = field(8, ["string"])
    partition_info = field(9, [PartitionInfo])


Argument._set_fields(
    {
        **Argument.FIELDS,
        "n": Field("n", 8, NetDef, False, None),
        "nets": Field("nets", 9, NetDef, True, None),
    }
)
_VIEWS = frozenset(Argument.FIELDS) - {"name"}


class ExecutionStep(Message):
    """A step of a plan; nets are named."""

    name = field(1, "string")
    substep = field(2, ["ExecutionStep"])
    network = field(3, ["string"])
    num_iter = field(4, "int64")
    criteria_network = field(5, "string")
    concurrent_substeps = field(6, "bool")
    report_net = field(7, "string")
    report_interval = field(8, "int32")
    should_stop_blob = field(9, "string")
    only_once = field(10, "bool")
    run_every_ms = field(11, "int64")
    create_workspace = field(12, "bool")
    num_concurrent_instances = field(13, "int32")


ExecutionStep._set_fields(
    {**ExecutionStep.FIELDS, "substep": Field("substep", 2, ExecutionStep, True, None)}
)


class PlanDef(Message):
    """Steps, and the nets that they name."""

    name = field(1, "string")
    network = field(2, [NetDef])
    execution_step = field(3, [ExecutionStep])


class MapFieldEntry(Message):
    """A key and a value."""

    key = field(1, "string")
    val = field(2, "string")


class DBReaderProto(Message):
    """Where a reader of records stands."""

    name = field(1, "string")
    source = field(2, "string")
    db_type = field(3, "string")
    key = field(4, "string")
