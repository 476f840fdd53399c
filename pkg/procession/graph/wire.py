"""Messages as bytes and as text, in the formats of protocol buffers.

A message that Caffe2 wrote can be read, and the other way round. What a reader does not know
it skips.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from procession.graph.message import CHECKS, Field, Message
from procession.graph.proto import Argument, held_object, held_token

_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_WIRE = {"float": _FOUR_BYTES, "double": _EIGHT_BYTES, "string": _SIZED, "bytes": _SIZED}


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # negative numbers go as 64 bits of two's complement
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _scalar(kind: str, value: Any) -> bytes:
    """A number as it stands behind its key."""
    if kind == "float":
        return struct.pack("<f", value)
    if kind == "double":
        return struct.pack("<d", value)
    return _varint(int(value))


def _key(field: Field, wire: int) -> bytes:
    return _varint(field.number << 3 | wire)


def _sized(field: Field, data: bytes) -> bytes:
    return _key(field, _SIZED) + _varint(len(data)) + data


def _one(field: Field, value: Any) -> bytes:
    if isinstance(value, Message):
        return _sized(field, encode(value))
    if isinstance(value, bytes):
        return _sized(field, held_token(value))
    if isinstance(value, str):
        return _sized(field, value.encode())
    assert isinstance(field.kind, str)
    return _key(field, _WIRE.get(field.kind, _VARINT)) + _scalar(field.kind, value)


def encode(message: Message) -> bytes:
    """The message as bytes."""
    parts = []
    for field, value in sorted(message.ListFields(), key=lambda each: each[0].number):
        if not field.repeated:
            parts.append(_one(field, value))
        elif field.packed:
            assert isinstance(field.kind, str)
            parts.append(_sized(field, b"".join(_scalar(field.kind, each) for each in value)))
        else:
            parts += [_one(field, each) for each in value]
    return b"".join(parts)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = bytes(data)
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError("the bytes end in the middle of a message")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number & ((1 << 64) - 1)
            shift += 7
            if shift > 63:
                raise ValueError("a number in the bytes is too long")

    def fields(self) -> Iterator[tuple[int, int, Any]]:
        """(number, wire type, raw value) of all fields."""
        while self.at < len(self.data):
            key = self.varint()
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                yield number, wire, self.varint()
            elif wire == _SIZED:
                yield number, wire, self.take(self.varint())
            elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
                yield number, wire, self.take(8 if wire == _EIGHT_BYTES else 4)
            else:
                raise ValueError(f"the bytes hold a field of unknown kind {wire}")


def _number(kind: str, raw: Any) -> Any:
    """A number of what was read."""
    if kind == "float":
        return struct.unpack("<f", raw)[0]
    if kind == "double":
        return struct.unpack("<d", raw)[0]
    if kind == "bool":
        return bool(raw)
    if kind.startswith("uint"):
        return raw
    return raw - (1 << 64) if raw >> 63 else raw


def _numbers(kind: str, wire: int, raw: Any) -> list[Any]:
    """Repeated numbers: one, or many packed into one field."""
    if wire != _SIZED:
        return [_number(kind, raw)]
    reader = _Reader(raw)
    found = []
    while reader.at < len(reader.data):
        width = {"float": 4, "double": 8}.get(kind)
        found.append(_number(kind, reader.varint() if width is None else reader.take(width)))
    return found


def decode(message: Message, data: bytes) -> None:
    """Take over what the bytes say.

    Raises:
        ValueError: They are no such message.
    """
    by_number = {field.number: field for field in type(message).FIELDS.values()}
    try:
        for number, wire, raw in _Reader(data).fields():
            field = by_number.get(number)
            if field is not None:
                _store(message, field, wire, raw)
    except (struct.error, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"the bytes are no {type(message).__name__}: {error}") from None


def _store(message: Message, field: Field, wire: int, raw: Any) -> None:
    if field.is_message:
        if field.repeated:
            getattr(message, field.name).add().MergeFromString(raw)
        else:
            inner = getattr(message, field.name)
            inner.MergeFromString(raw)
            inner.SetInParent()
        return
    assert isinstance(field.kind, str)
    if isinstance(message, Argument) and field.name == "s":
        message.set_value(held_object(raw))
    elif field.kind in ("string", "bytes"):
        if field.repeated:
            getattr(message, field.name).append(raw)
        else:
            setattr(message, field.name, raw)
    elif field.repeated:
        getattr(message, field.name).extend(_numbers(field.kind, wire, raw))
    else:
        setattr(message, field.name, CHECKS[field.kind](_number(field.kind, raw)))


def _quoted(value: str | bytes) -> str:
    data = value if isinstance(value, bytes) else value.encode()
    escaped = "".join(
        {34: '\\"', 92: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t"}.get(byte)
        or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
        for byte in data
    )
    return f'"{escaped}"'


def _shown(value: Any, field: Field) -> str:
    held = getattr(value, "held", None)
    if held is not None:
        return _quoted(repr(held))
    if isinstance(value, (str, bytes)):
        return _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # As it will be read back: a `float` has four bytes.
        return repr(float(np.float32(value)) if field.kind == "float" else value)
    return field.names.get(value, str(value))


def to_text(message: Message, indent: str = "") -> str:
    """The message in the text format: a field a line, `name: value` or `name { ... }`."""
    lines = []
    for field, value in message.ListFields():
        for each in value if field.repeated else [value]:
            if isinstance(each, Message):
                lines.append(f"{indent}{field.name} {{\n{to_text(each, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{field.name}: {_shown(each, field)}\n")
    return "".join(lines)
