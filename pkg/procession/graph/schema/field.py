"""Field, what all schemas have in common; Scalar, one column; Metadata, what is known of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from procession.errors import FieldNotFoundError, SchemaError, SchemaTypeError, did_you_mean
from procession.graph.blob import BlobReference

Self = TypeVar("Self", bound="Field")

FIELD_SEPARATOR = ":"
"""Stands between the parts of a column's name."""

VOID: np.dtype[Any] = np.dtype(np.void)
"""The type of a column whose type is not known."""

logger = logging.getLogger(__name__)


class FeatureSpec(NamedTuple):
    """What is known of the features in a column; nothing here reads it. Caffe2: FeatureSpec."""

    feature_type: Any = None
    feature_names: Any = None
    feature_ids: Any = None
    feature_is_request_only: Any = None
    desired_hash_size: Any = None
    feature_to_index: Any = None


class Metadata(NamedTuple):
    """What is known of a column beyond its type. Caffe2: Metadata.

    `categorical_limit`: One more than the largest value of a column of whole numbers.
    `expected_value`: About how large its values are, e.g. how long the lists are.
    `feature_specs`: A `FeatureSpec`, or whatever the script makes of it.
    """

    categorical_limit: Any = None
    expected_value: Any = None
    feature_specs: Any = None


class Field:
    """A schema, or a part of one: a tree whose leaves, the scalars, are the columns.

    Fields are equal if their columns have the same names, types and metadata; which blobs
    the columns have makes no difference. A field that is put into another is copied.

    Args:
        children: What it is made of, in the order of the columns: name -> field, or just fields,
            which are then numbered. Nobody else may have them.

    Caffe2: Field.
    """

    __slots__ = ("_children", "_field_offsets", "_parent")

    def __init__(self, children: Mapping[str, Field] | Iterable[Field]) -> None:
        self._parent: tuple[Field | None, int] = (None, 0)
        if not isinstance(children, Mapping):
            children = {str(number): child for number, child in enumerate(children)}
        self._children: dict[str, Field] = dict(children)
        # Which of this field's columns is the first of each child; at the end, how many there are.
        self._field_offsets = [0]
        for number, child in enumerate(self._children.values()):
            child._parent = (self, number)
            self._field_offsets.append(self._field_offsets[-1] + child._width())

    # The columns.

    def field_names(self) -> list[str]:
        """The names of the columns, in order: paths from this field to each scalar."""
        return [
            f"{name}{FIELD_SEPARATOR}{below}" if below else name
            for name, child in self._children.items()
            for below in child.field_names()
        ]

    def all_scalars(self) -> list[Scalar]:
        """The scalars themselves, in the order of `field_names`."""
        return [scalar for child in self._children.values() for scalar in child.all_scalars()]

    def field_types(self) -> list[np.dtype[Any]]:
        """The NumPy dtype of each column; what one entry has as shape is part of it."""
        return [scalar.dtype for scalar in self.all_scalars()]

    def field_metadata(self) -> list[Metadata | None]:
        """The metadata of each column."""
        return [scalar.metadata for scalar in self.all_scalars()]

    def field_blobs(self) -> list[Any]:
        """What each column holds, a `BlobReference` or an array.

        Raises:
            SchemaError: A column holds nothing.
        """
        return [scalar.get() for scalar in self.all_scalars()]

    def has_blobs(self) -> bool:
        """Whether every column holds something."""
        return all(scalar.has_blobs() for scalar in self.all_scalars())

    def slice(self) -> slice:
        """Where this field's columns are among those of the whole schema that it is part of."""
        first = self._first()
        return slice(first, first + self._width())

    def _width(self) -> int:
        """How many columns there are."""
        return self._field_offsets[-1]

    def _first(self) -> int:
        """Which column of the whole schema is the first of this field."""
        parent, number = self._parent
        return 0 if parent is None else parent._first() + parent._field_offsets[number]

    # The tree.

    def _find(self, path: str) -> Field | None:
        """The field at the end of a path, or None."""
        first, separator, rest = path.partition(FIELD_SEPARATOR)
        child = self._children.get(first)
        return child._find(rest) if child is not None and separator else child

    def _at(self, path: Any) -> Field:
        """The field at the end of a path.

        Raises:
            FieldNotFoundError: There is none.
        """
        if not isinstance(path, str):
            raise SchemaTypeError(f"a field of a {type(self).__name__} has a name, not {path!r}")
        found = self._find(path)
        if found is None:
            raise self._missing(path)
        return found

    def _missing(self, name: str) -> FieldNotFoundError:
        known = list(self._children)
        hint = did_you_mean(name, [*known, *self.field_names()])
        have = f"It has {', '.join(map(repr, known))}." if known else "It has none."
        return FieldNotFoundError(
            f"the {type(self).__name__} has no field {name!r}.{hint} {have}", field=name
        )

    def clone(self: Self, keep_blobs: bool = True) -> Self:
        """A copy of the field and all below; with `keep_blobs=False`, of the bare schema."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is copied")

    def clone_schema(self: Self) -> Self:
        """A copy whose columns hold nothing."""
        return self.clone(keep_blobs=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Field):
            return NotImplemented
        return (
            self.field_names() == other.field_names()
            and self.field_types() == other.field_types()
            and self.field_metadata() == other.field_metadata()
        )

    def _labels(self) -> Iterator[tuple[str, Field]]:
        """The children, and what they are called in the repr."""
        yield from self._children.items()

    def _lines(self) -> Iterator[str]:
        yield f"{type(self).__name__}("
        for label, child in self._labels():
            yield f"  {label}="
            yield from (f"    {line}" for line in child._lines())
        yield ")"

    def __repr__(self) -> str:
        return "\n".join(self._lines())


def _dtype_of(given: Any) -> np.dtype[Any]:
    """What a caller may give as a column's type, as a dtype."""
    if given is None:
        return VOID
    if isinstance(given, tuple) and len(given) == 2:
        kind, shape = given
        if kind is np.void or (isinstance(kind, np.dtype) and kind == VOID):
            raise SchemaTypeError(
                f"{given!r} is no type of a column: entries of a shape need a type of their own. "
                f"If the column is an operator's output, its input may have had no type either."
            )
        if np.ndim(shape) == 0 and shape == 1:
            # NumPy would take it for a plain number.
            given = (kind, (1,))
    try:
        dtype: np.dtype[Any] = np.dtype(given)
    except TypeError as error:
        raise SchemaTypeError(f"{given!r} is no type of a column: {error}") from error
    except ValueError as error:
        # A type, but of an impossible shape.
        raise SchemaError(f"{given!r} is no type of a column: {error}") from error
    if dtype.fields:
        raise SchemaError(
            f"a Scalar is one column, and {dtype} would be {len(dtype.fields)}: "
            f"from_dtype makes a Struct of it"
        )
    return dtype


def _check_metadata(metadata: Any, dtype: np.dtype[Any]) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, Metadata):
        raise SchemaTypeError(f"metadata are a Metadata, not {metadata!r}")
    if metadata.categorical_limit is not None and not np.issubdtype(dtype.base, np.integer):
        raise SchemaError(
            f"a categorical_limit is for columns of whole numbers, and this one is of {dtype}"
        )


def _contents(blob: Any, dtype: np.dtype[Any]) -> tuple[Any, np.dtype[Any]]:
    """What a scalar of that type holds when given `blob`, and its type then."""
    if blob is None or isinstance(blob, BlobReference):
        return blob, dtype
    if isinstance(blob, (str, bytes)):
        raise SchemaError(
            f"{blob!r} may be meant as a text or as the name of a blob: "
            f"give np.array({blob!r}) or BlobReference({blob!r})"
        )
    if dtype == VOID:
        if not isinstance(blob, np.ndarray):
            raise SchemaTypeError(
                f"a column of unknown type holds an array or a BlobReference, not {blob!r} of "
                f"type {type(blob).__name__}; for a type with a shape, write Scalar((type, shape))"
            )
        return blob, dtype
    try:
        array = np.array(blob, dtype=dtype.base)
    except (TypeError, ValueError) as error:
        kind = SchemaTypeError if isinstance(error, TypeError) else SchemaError
        raise kind(f"{blob!r} cannot be held by a column of {dtype}: {error}") from error
    if not isinstance(blob, np.ndarray):
        if array.size == 0:
            array = array.reshape((0, *dtype.shape))
        elif array.ndim == 0:
            array = array.reshape(1)
    if array.ndim > 1 and dtype.base != VOID:
        dtype = np.dtype((dtype.base, array.shape[1:]))
    return array, dtype


def _holds(dtype: np.dtype[Any], blob: Any) -> bool:
    """Whether a value is an array of that element type."""
    if not isinstance(blob, np.ndarray):
        return False
    if dtype.base.kind in "SU":
        # Texts are as long as they are, and come from workspaces as objects.
        return blob.dtype.kind in "SUO"
    return bool(blob.dtype.base == dtype.base)


class Scalar(Field):
    """One column: the leaf of a schema, whose values fill one blob.

    A column of `Scalar(np.float32)` is a tensor of one axis, one entry a row; of
    `Scalar((np.float32, (2, 3)))`, a tensor of three axes, of shape (rows, 2, 3).

    Args:
        dtype: Anything NumPy makes a dtype of, or a pair of one and the shape of an entry;
            None: not known. It may have one field only: see `from_dtype`.
        blob: What the column holds: a `BlobReference`, or something that becomes an array of that
            type. When the type is not known, it must be an array. None: nothing.
        metadata: A `Metadata`, or None.

    Raises:
        SchemaTypeError: Something of these is no type, no value of the type, or no Metadata.
        SchemaError: The dtype is structured, the blob is a string, or the limit of the metadata
            is for other types.

    Caffe2: Scalar.
    """

    __slots__ = ("_blob", "_given_dtype", "_metadata", "dtype")

    dtype: np.dtype[Any]

    def __init__(self, dtype: Any = None, blob: Any = None, metadata: Metadata | None = None):
        super().__init__(())
        self._metadata: Metadata | None = None
        self.set(dtype, blob, metadata, unsafe=True)

    def field_names(self) -> list[str]:
        """One name, the empty one."""
        return [""]

    def all_scalars(self) -> list[Scalar]:
        """Itself."""
        return [self]

    def _width(self) -> int:
        return 1

    def field_type(self) -> np.dtype[Any]:
        """The dtype."""
        return self.dtype

    @property
    def metadata(self) -> Metadata | None:
        """What is known of the column beyond its type."""
        return self._metadata

    def has_blobs(self) -> bool:
        """Whether it holds something."""
        return self._blob is not None

    def get(self) -> Any:
        """What it holds. Calling the scalar does the same.

        Raises:
            SchemaError: Nothing.
        """
        if self._blob is None:
            raise SchemaError(
                f"this Scalar of {self.dtype} holds no blob: it is a schema, and a record is "
                f"made of a schema by NewRecord or from_blob_list"
            )
        return self._blob

    def __call__(self) -> Any:
        """What it holds, as `get`."""
        return self.get()

    def id(self) -> int:
        """The number of this column among those of the whole schema that it is part of."""
        return self._first()

    def clone(self, keep_blobs: bool = True) -> Scalar:
        """A `Scalar` of the same type and metadata, with the same blob if it is to be kept."""
        return Scalar(self._given_dtype, self._blob if keep_blobs else None, self._metadata)

    def set(
        self,
        dtype: Any = None,
        blob: Any = None,
        metadata: Metadata | None = None,
        unsafe: bool = False,
    ) -> None:
        """Make it anew, but for metadata that are not given.

        Others may look at a schema's scalars: pass `unsafe=True` to say that this one is
        known to be new; otherwise a warning is logged.

        Raises:
            SchemaTypeError, SchemaError: As in `Scalar(dtype, blob, metadata)`. It is as before.
        """
        if not unsafe:
            logger.warning(
                "a Scalar that others may hold was changed: "
                "make a new one, or pass unsafe=True if nobody else has it"
            )
        array, kind = _contents(blob, _dtype_of(dtype))
        metadata = self._metadata if metadata is None else metadata
        _check_metadata(metadata, kind)
        self._given_dtype, self.dtype, self._blob, self._metadata = dtype, kind, array, metadata

    def set_value(
        self, blob: Any, throw_on_type_mismatch: bool = False, unsafe: bool = False
    ) -> None:
        """Have it hold something else, of the same type.

        Args:
            blob: As in `Scalar`.
            throw_on_type_mismatch: Take only an array that has the type already.
            unsafe: As in `set`.

        Raises:
            SchemaTypeError: It has not that type, or cannot be converted.
        """
        if throw_on_type_mismatch and self.dtype.base != VOID and not _holds(self.dtype, blob):
            found = blob.dtype if isinstance(blob, np.ndarray) else repr(blob)
            raise SchemaTypeError(f"a column of {self.dtype.base} was given {found}")
        self.set(self._given_dtype, blob, unsafe=unsafe)

    def set_type(self, dtype: Any) -> None:
        """Declare another type; what it holds stays as it is.

        Raises:
            SchemaTypeError, SchemaError: As in `Scalar(dtype)`. It is as before.
        """
        kind = _dtype_of(dtype)
        _check_metadata(self._metadata, kind)
        self._given_dtype, self.dtype = dtype, kind

    def set_metadata(self, value: Metadata) -> None:
        """Attach metadata.

        Raises:
            SchemaTypeError: It is no `Metadata`.
            SchemaError: The limit is for other types.
        """
        if value is None:
            raise SchemaTypeError("metadata are a Metadata, not None")
        _check_metadata(value, self.dtype)
        self._metadata = value

    def _lines(self) -> Iterator[str]:
        yield f"Scalar({self.dtype!r}, {self._blob!r}, {self._metadata!r})"


def normalized(value: Any, keep_blobs: bool = True) -> Field:
    """What a caller may give as a field, as a field of nobody else's.

    Fields are copied, types become scalars of that type, anything else what a scalar holds.
    """
    if isinstance(value, Field):
        return value.clone(keep_blobs=keep_blobs)
    if isinstance(value, (type, np.dtype)):
        return Scalar(value)
    return Scalar(blob=value)
