"""Messages: plain data that behaves as Python's protocol buffers do.

Unset fields read as their defaults, repeated fields are lists with `add`, sub-messages come into
being when they are written to, `==` compares contents, `CopyFrom`, `HasField` and
`SerializeToString` are there. A message is an object with a `__dict__`, nothing else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, ClassVar, TypeVar

import numpy as np

Self = TypeVar("Self", bound="Message")
T = TypeVar("T")


@dataclass(frozen=True)
class Field:
    """One field of a message, as declared."""

    name: str
    number: int
    kind: str | type[Message]
    """A scalar kind of protocol buffers, e.g. "int64", or a message class."""
    repeated: bool
    default: Any
    packed: bool = False
    """How repeated numbers are written."""
    names: Mapping[int, str] = dataclass_field(default_factory=dict)
    """What the text has in the place of an enum's numbers."""

    @property
    def is_message(self) -> bool:
        """Whether it holds messages."""
        return not isinstance(self.kind, str)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is of type {type(value).__name__}, and a str is wanted")


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TypeError(f"{value!r} is of type {type(value).__name__}, and bytes are wanted")


def _integer(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        if isinstance(value, np.bool_):
            return int(value)
        raise TypeError(
            f"{value!r} is of type {type(value).__name__}, and a whole number is wanted"
        ) from None


def _real(value: Any) -> float:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{value!r} is of type {type(value).__name__}, and a number is wanted")
    return float(value)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "string": _text,
    "bytes": _bytes,
    "int32": _integer,
    "int64": _integer,
    "uint32": _integer,
    "uint64": _integer,
    "enum": _integer,
    "bool": lambda value: bool(_integer(value)),
    "float": _real,
    "double": _real,
}
"""Scalar kind -> what makes a value of it, or raises TypeError."""

_EMPTY = {"string": "", "bytes": b"", "bool": False, "float": 0.0, "double": 0.0}


class Repeated(list[Any]):
    """A repeated field: a list whose elements are all of one kind."""

    __slots__ = ("kind",)

    def __init__(self, kind: str | type[Message], values: Iterable[Any] = ()) -> None:
        super().__init__(values)
        self.kind = kind

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Repeated, (self.kind, list(self))

    def _checked(self, value: Any) -> Any:
        if isinstance(self.kind, str):
            return CHECKS[self.kind](value)
        if not isinstance(value, self.kind):
            raise TypeError(f"{value!r} is no {self.kind.__name__}")
        copied = type(value)()
        copied.CopyFrom(value)
        return copied

    def add(self, **values: Any) -> Any:
        """Append a new message, and return it."""
        if isinstance(self.kind, str):
            raise AttributeError("only a list of messages has `add`; this takes `append`")
        made = self.kind(**values)
        super().append(made)
        return made

    def append(self, value: Any) -> None:
        """Append a value; a message is copied."""
        super().append(self._checked(value))

    def extend(self, values: Iterable[Any]) -> None:
        """Append values; messages are copied."""
        super().extend([self._checked(value) for value in values])

    def insert(self, index: Any, value: Any) -> None:
        """Insert a value; a message is copied."""
        super().insert(index, self._checked(value))

    def MergeFrom(self, other: Iterable[Any]) -> None:
        """`extend`, as protocol buffers call it."""
        self.extend(other)

    def CopyFrom(self, other: Iterable[Any]) -> None:
        """Have just these values."""
        self[:] = [self._checked(value) for value in other]

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            super().__setitem__(index, list(value))
        else:
            super().__setitem__(index, self._checked(value))


def _declared(name: str, number: int, kind: Any, default: Any, packed: bool, names: Any) -> Field:
    repeated = isinstance(kind, list)
    kind = kind[0] if repeated else kind
    if default is None and isinstance(kind, str):
        default = _EMPTY.get(kind, 0)
    return Field(name, number, kind, repeated, default, packed, names or {})


def field(
    number: int,
    kind: Any,
    default: Any = None,
    *,
    packed: bool = False,
    names: Mapping[int, str] | None = None,
) -> Any:
    """Declare a field in a message's class body; `kind` in a list: repeated.

    `names` are what the text has in the place of an enum's numbers.
    """
    return number, kind, default, packed, names


class Message:
    """Base of all messages. Keywords set fields: scalars, lists, or messages to be copied."""

    FIELDS: ClassVar[Mapping[str, Field]] = {}
    _marked = False
    """A sub-message that was set, even to nothing."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        fields = dict(cls.FIELDS)
        for name, value in list(vars(cls).items()):
            if isinstance(value, tuple) and len(value) == 5 and not name.startswith("_"):
                fields[name] = _declared(name, *value)
                delattr(cls, name)
        cls._set_fields(fields)

    @classmethod
    def _set_fields(cls, fields: dict[str, Field]) -> None:
        cls.FIELDS = fields
        for name, declared in fields.items():
            # Unset scalars read as the class's; lists and messages are made when first asked for.
            if not declared.repeated and not declared.is_message:
                setattr(cls, name, declared.default)

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            declared = self.FIELDS.get(name)
            if declared is None:
                raise ValueError(f"{type(self).__name__} has no field {name!r}")
            if value is None:
                continue
            if declared.repeated:
                getattr(self, name).extend(value)
            elif declared.is_message:
                getattr(self, name).CopyFrom(value)
            else:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        declared = type(self).FIELDS.get(name)
        if declared is None:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        value: Any
        if declared.repeated:
            value = Repeated(declared.kind)
        else:
            assert not isinstance(declared.kind, str)
            value = declared.kind()
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        declared = type(self).FIELDS.get(name)
        if declared is None:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        if declared.repeated or not isinstance(declared.kind, str):
            raise AttributeError(
                f"{type(self).__name__}.{name} cannot be assigned to: change it in place "
                f"({'extend, del x[:]' if declared.repeated else 'CopyFrom'})"
            )
        try:
            self.__dict__[name] = CHECKS[declared.kind](value)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}.{name}: {error}") from None

    def _is_set(self, declared: Field) -> bool:
        value = self.__dict__.get(declared.name)
        if value is None:
            return False
        if declared.repeated:
            return bool(value)
        if declared.is_message:
            return value._marked or any(True for _ in value._set())
        return True

    def _set(self) -> Iterator[tuple[Field, Any]]:
        for declared in type(self).FIELDS.values():
            if self._is_set(declared):
                yield declared, self.__dict__[declared.name]

    def ListFields(self) -> list[tuple[Field, Any]]:
        """(field, value) for all fields that are set."""
        return list(self._set())

    def HasField(self, name: str) -> bool:
        """Whether a field is set.

        Raises:
            ValueError: There is no such field, or it is a repeated one.
        """
        declared = type(self).FIELDS.get(name)
        if declared is None or declared.repeated:
            raise ValueError(f"{type(self).__name__} has no single field {name!r}")
        return self._is_set(declared)

    def ClearField(self, name: str) -> None:
        """Unset a field."""
        if name not in type(self).FIELDS:
            raise ValueError(f"{type(self).__name__} has no field {name!r}")
        self.__dict__.pop(name, None)

    def Clear(self) -> None:
        """Unset all fields."""
        self.__dict__.clear()

    def SetInParent(self) -> None:
        """Count as set in the message it is in."""
        self.__dict__["_marked"] = True

    def IsInitialized(self) -> bool:
        """Always: no field is required."""
        return True

    def CopyFrom(self, other: Any) -> None:
        """Be a copy of another message of this type."""
        if other is self:
            return
        self._check_same(other)
        self.Clear()
        self.MergeFrom(other)
        self.SetInParent()

    def MergeFrom(self, other: Any) -> None:
        """Take over what is set in another message; lists are appended."""
        self._check_same(other)
        for declared, value in other._set():
            if declared.repeated:
                getattr(self, declared.name).extend(value)
            elif declared.is_message:
                mine = getattr(self, declared.name)
                mine.MergeFrom(value)
                mine.SetInParent()
            else:
                self.__dict__[declared.name] = value

    def _check_same(self, other: Any) -> None:
        if not isinstance(other, type(self)) and not isinstance(self, type(other)):
            raise TypeError(f"a {type(self).__name__} is wanted, not {type(other).__name__}")

    def __deepcopy__(self: Self, memo: Any) -> Self:
        made = type(self)()
        made.MergeFrom(self)
        return made

    def __copy__(self: Self) -> Self:
        return self.__deepcopy__({})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message) or type(self).FIELDS is not type(other).FIELDS:
            return NotImplemented
        return list(self._set()) == list(other._set())

    __hash__ = None  # type: ignore[assignment]

    def SerializeToString(self, deterministic: bool = True) -> bytes:
        """The bytes that protocol buffers would write. Caffe2 can read them, and so can this."""
        from procession.graph import wire

        return wire.encode(self)

    def ParseFromString(self, data: bytes) -> int:
        """Be what `SerializeToString` wrote; returns how many bytes that were.

        Raises:
            ValueError: The bytes are no such message.
        """
        self.Clear()
        return self.MergeFromString(data)

    def MergeFromString(self, data: bytes) -> int:
        """`MergeFrom` what `SerializeToString` wrote."""
        from procession.graph import wire

        wire.decode(self, data)
        return len(data)

    @classmethod
    def FromString(cls: type[Self], data: bytes) -> Self:
        """A new message of bytes that `SerializeToString` wrote."""
        made = cls()
        made.ParseFromString(data)
        return made

    def ByteSize(self) -> int:
        """How many bytes `SerializeToString` writes."""
        return len(self.SerializeToString())

    def __str__(self) -> str:
        from procession.graph import wire

        return wire.to_text(self)

    def __repr__(self) -> str:
        return str(self)
