"""Struct and List, which are made of other fields; Map and Tuple, which are made of those."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from procession.errors import (
    DuplicateFieldError,
    FieldNotFoundError,
    SchemaError,
    SchemaTypeError,
)
from procession.graph.schema.field import FIELD_SEPARATOR, Field, Scalar, normalized

Structs = TypeVar("Structs", bound="Struct")
Lists = TypeVar("Lists", bound="List")

# What is read of a container before it is made, as copy and pickle do, is no field of it.
_OWN = frozenset(Field.__slots__)


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith("__")


def _scalar(value: Any, dtype: Any, what: str) -> Scalar:
    """A column that a list has beside its values: given as a field, as a blob, or not."""
    if not isinstance(value, Field):
        return Scalar(dtype, value)
    if not isinstance(value, Scalar):
        raise SchemaTypeError(f"the {what} of a list are a Scalar, not a {type(value).__name__}")
    return value.clone()


class List(Field):
    """Rows that are lists: the values of all rows one after the other, and how many each row has.

    Its columns are `lengths`, of int32, and those of the values, as `values:...`. The fields
    of values that are a `Struct` are the list's attributes as well; other values are `items`.

    Args:
        values: The field (or type, or blob) of the values.
        lengths_blob: What the lengths hold, or a `Scalar` for them.

    Caffe2: List.
    """

    __slots__ = ()

    def __init__(self, values: Any, lengths_blob: Any = None) -> None:
        super().__init__(self._columns(values, lengths_blob))

    @staticmethod
    def _columns(values: Any, lengths_blob: Any) -> dict[str, Field]:
        lengths = _scalar(lengths_blob, np.int32, "lengths")
        return {"lengths": lengths, "values": normalized(values)}

    @property
    def lengths(self) -> Scalar:
        """How many values each row has."""
        return self._children["lengths"]  # type: ignore[return-value]

    @property
    def _items(self) -> Field:
        return self._children["values"]

    def clone(self: Lists, keep_blobs: bool = True) -> Lists:
        """A copy, of the same class."""
        # By position, as the parameters of a subclass may have other names.
        children = (self._children[name] for name in ("values", "lengths"))
        return type(self)(*(child.clone(keep_blobs=keep_blobs) for child in children))

    def __getattr__(self, name: str) -> Any:
        if _is_own(name):
            raise AttributeError(name)
        values = self._items
        if isinstance(values, Struct):
            return getattr(values, name)
        if name in ("items", "value"):
            return values
        raise self._missing(name)

    def __getitem__(self, path: str) -> Any:
        """The field at the end of a path that starts with `lengths` or `values`.

        Raises:
            FieldNotFoundError: There is none.
        """
        return self._at(path)

    def _labels(self) -> Iterator[tuple[str, Field]]:
        for name, child in self._children.items():
            yield "_items" if name == "values" else name, child


class ListWithEvicted(List):
    """A `List` with one more column, `_evicted_values`, of int64: what a hash table gave up.

    Args:
        values: The field (or type, or blob) of the values.
        lengths_blob: What the lengths hold, or a `Scalar` for them.
        evicted_values: What that column holds, or a `Scalar` for it.

    Caffe2: ListWithEvicted.
    """

    __slots__ = ()

    def __init__(self, values: Any, lengths_blob: Any = None, evicted_values: Any = None) -> None:
        evicted = _scalar(evicted_values, np.int64, "evicted values")
        columns = self._columns(values, lengths_blob)
        Field.__init__(self, {**columns, "_evicted_values": evicted})

    @property
    def _evicted_values(self) -> Scalar:
        return self._children["_evicted_values"]  # type: ignore[return-value]

    def clone(self: Lists, keep_blobs: bool = True) -> Lists:
        """A copy, of the same class."""
        children = (self._children[name] for name in ("values", "lengths", "_evicted_values"))
        return type(self)(*(child.clone(keep_blobs=keep_blobs) for child in children))


def _named(pairs: Iterable[Any]) -> dict[str, Field]:
    """(path, field) pairs as the fields of one struct, those with a common beginning merged."""
    parts: dict[str, list[tuple[str, Any]]] = {}
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise SchemaTypeError(f"a Struct is made of (name, field) pairs, not of {pair!r}")
        path, field = pair
        if not isinstance(path, str):
            raise SchemaTypeError(f"the name of a field is a string, not {path!r}")
        first, separator, rest = path.partition(FIELD_SEPARATOR)
        if not first or (separator and not rest):
            raise SchemaError(f"the names of fields cannot be empty, as in {path!r}")
        if first == "lengths":
            raise SchemaError(f"a Struct cannot have a field 'lengths', as in {path!r}: Lists do")
        parts.setdefault(first, []).append((rest, field))
    return {name: _merged(name, alike) for name, alike in parts.items()}


def _merged(name: str, parts: list[tuple[str, Any]]) -> Field:
    """One field of all that was given under its name: (rest of the path, field)."""
    rest, field = parts[0]
    if len(parts) == 1:
        return Struct((rest, field)) if rest else normalized(field)
    below: list[tuple[str, Any]] = []
    for rest, field in parts:
        if rest:
            below.append((rest, field))
        elif isinstance(field, Struct):
            below += field.get_children()
        else:
            raise DuplicateFieldError(
                f"there are two fields {name!r}, and only Structs can be merged", field=name
            )
    return Struct(*below)


class Struct(Field):
    """Fields with names. Its columns are theirs, each after its name and a colon.

    Fields are attributes, `record.a.b`, and items, `record["a:b"]`. They cannot be set.

    Args:
        fields: (name, field) pairs. A field may be given as a type or a blob as well. A
            name with colons makes structs in between: `("a:b", x)` is `("a", Struct(("b", x)))`,
            and structs of the same name are merged.

    Raises:
        DuplicateFieldError: A name is there twice, and not for structs.
        SchemaError: A name is empty, or is `lengths`.
        SchemaTypeError: Something is no such pair.

    Caffe2: Struct.
    """

    __slots__ = ()

    def __init__(self, *fields: Any) -> None:
        super().__init__(_named(fields))

    @property
    def fields(self) -> dict[str, Field]:
        """Name -> field, in order, of this level only."""
        return self._children

    def get_children(self) -> list[tuple[str, Field]]:
        """(name, field) pairs, in order, of this level only."""
        return list(self._children.items())

    def clone(self: Structs, keep_blobs: bool = True) -> Structs:
        """A copy, of the same class."""
        return type(self)(
            *((name, child.clone(keep_blobs=keep_blobs)) for name, child in self._children.items())
        )

    def __getattr__(self, name: str) -> Any:
        if _is_own(name):
            raise AttributeError(name)
        child = self._children.get(name)
        if child is None:
            raise self._missing(name)
        return child

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and hasattr(self, "_children"):
            raise SchemaTypeError(
                f"the fields of a Struct cannot be set, as in `record.{name} = ...`: "
                f"make another, by `record - Struct(({name!r}, ...)) + Struct(({name!r}, new))`"
            )
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._children]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._find(path) is not None

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Field]:
        return iter(self._children.values())

    def __getitem__(self, item: Any) -> Any:
        """Fields by path or number.

        Args:
            item: A path gives its field, a number the field there at this level, from the
                end if negative. A list or tuple of these, or a slice, gives a new `Struct`.

        Raises:
            FieldNotFoundError: There is none.
        """
        if isinstance(item, slice):
            return Struct(*self.get_children()[item])
        if isinstance(item, (list, tuple)):
            return Struct(*(self._pair(each) for each in item))
        return self._pair(item)[1]

    def _pair(self, item: Any) -> tuple[str, Field]:
        """A path, or the name of the field at a number, and that field."""
        if isinstance(item, str):
            return item, self._at(item)
        try:
            number = operator.index(item)
        except TypeError:
            raise SchemaTypeError(f"a field has a name or a number, not {item!r}") from None
        if not -len(self) <= number < len(self):
            raise FieldNotFoundError(
                f"the Struct has no field number {number}, but {len(self)} fields", field=number
            )
        return self.get_children()[number]

    def get(self, item: str, default_value: Any = None) -> Any:
        """The field of that name at this level, or else the default."""
        return self._children.get(item, default_value)

    def __add__(self, other: object) -> Struct:
        """The fields of both; structs that both have under one name are merged.

        Raises:
            DuplicateFieldError: Both have a field that is not a Struct in both.
        """
        if not isinstance(other, Struct):
            return NotImplemented
        sums = dict(self._children)
        for name, right in other._children.items():
            left = sums.get(name)
            if left is None:
                sums[name] = right
            elif isinstance(left, Struct) and isinstance(right, Struct):
                sums[name] = left + right
            else:
                raise DuplicateFieldError(
                    f"both Structs have a field {name!r}, a {type(left).__name__} and a "
                    f"{type(right).__name__}: only Structs can be merged",
                    field=name,
                )
        return Struct(*sums.items())

    def __sub__(self, other: object) -> Struct:
        """The fields that the other has not; structs that both have lose common fields likewise.

        Raises:
            SchemaTypeError: A field is of another class there than here.
        """
        if not isinstance(other, Struct):
            return NotImplemented
        rest = dict(self._children)
        for name, right in other._children.items():
            left = rest.pop(name, None)
            if left is None:
                continue
            if type(left) is not type(right):
                raise SchemaTypeError(
                    f"the field {name!r} is a {type(left).__name__} here and a "
                    f"{type(right).__name__} in what is subtracted"
                )
            if isinstance(left, Struct) and isinstance(right, Struct):
                below = left - right
                if len(below):
                    rest[name] = below
        return Struct(*((name, rest[name]) for name in self._children if name in rest))


def Map(
    keys: Any,
    values: Any,
    keys_name: str = "keys",
    values_name: str = "values",
    lengths_blob: Any = None,
) -> List:
    """Rows that are mappings: a `List` of keys and values. Caffe2: Map.

    Args:
        keys: The field (or type, or blob) of the keys.
        values: That of the values.
        keys_name: What the keys are called.
        values_name: What the values are called.
        lengths_blob: As in `List`.
    """
    return List(Struct((keys_name, keys), (values_name, values)), lengths_blob)


def MapWithEvicted(
    keys: Any,
    values: Any,
    keys_name: str = "keys",
    values_name: str = "values",
    lengths_blob: Any = None,
    evicted_values: Any = None,
) -> ListWithEvicted:
    """A `Map` that is a `ListWithEvicted`. Caffe2: MapWithEvicted.

    Args:
        keys: The field (or type, or blob) of the keys.
        values: That of the values.
        keys_name: What the keys are called.
        values_name: What the values are called.
        lengths_blob: As in `List`.
        evicted_values: As in `ListWithEvicted`.
    """
    pairs = Struct((keys_name, keys), (values_name, values))
    return ListWithEvicted(pairs, lengths_blob, evicted_values)


def NamedTuple(name_prefix: str, *fields: Any) -> Struct:
    """A `Struct` whose fields are called `prefix_0`, `prefix_1`, ... Caffe2: NamedTuple."""
    return Struct(*((f"{name_prefix}_{number}", field) for number, field in enumerate(fields)))


def Tuple(*fields: Any) -> Struct:
    """A `Struct` whose fields are called `field_0`, `field_1`, ... Caffe2: Tuple."""
    return NamedTuple("field", *fields)


def RawTuple(num_fields: int, name_prefix: str = "field") -> Struct:
    """A `NamedTuple` of that many columns of no known type. Caffe2: RawTuple."""
    if isinstance(num_fields, bool) or not isinstance(num_fields, int):
        raise SchemaTypeError(f"RawTuple takes a number of fields, not {num_fields!r}")
    if num_fields < 0:
        raise SchemaError(f"RawTuple takes a number of fields, and {num_fields} is below zero")
    return NamedTuple(name_prefix, *[np.void] * num_fields)
