"""Schemas from column names, NumPy types, lists and dictionaries; comparing schemas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from procession.errors import DuplicateFieldError, ProcessionError, SchemaError, SchemaTypeError
from procession.graph.blob import BlobReference
from procession.graph.schema.containers import List, ListWithEvicted, Map, Struct, Tuple
from procession.graph.schema.field import FIELD_SEPARATOR, Field, Metadata, Scalar, normalized
from procession.operators.datatype import DataType

_DATA_TYPES: dict[Any, DataType] = {
    str: DataType.STRING,
    np.float16: DataType.FLOAT16,
    np.float32: DataType.FLOAT,
    np.float64: DataType.DOUBLE,
    bool: DataType.BOOL,
    np.int8: DataType.INT8,
    np.int16: DataType.INT16,
    np.int32: DataType.INT32,
    np.int64: DataType.INT64,
    np.uint8: DataType.UINT8,
    np.uint16: DataType.UINT16,
}
_BY_DTYPE = {np.dtype(kind): data_type for kind, data_type in _DATA_TYPES.items()}
_BY_DATA_TYPE = {data_type: kind for kind, data_type in _DATA_TYPES.items()}

# Columns under one name, or under the first part of one.
Branch: TypeAlias = "dict[str, Branch | Scalar]"


def check_field(value: Any, what: str) -> Field:
    """A field as it is, an error for anything else."""
    if not isinstance(value, Field):
        raise SchemaTypeError(f"{what} is a Field (a Struct, List or Scalar), not {value!r}")
    return value


def data_type_for_dtype(dtype: Any) -> DataType:
    """The `DataType` of a column's entries. Caffe2: data_type_for_dtype.

    Raises:
        SchemaTypeError: There is none for that type.
    """
    base = np.dtype(dtype).base
    if base.kind in "SU":
        return DataType.STRING
    try:
        return _BY_DTYPE[base]
    except KeyError:
        raise SchemaTypeError(f"there is no DataType for {base!r}") from None


def dtype_for_core_type(core_type: int) -> Any:
    """The NumPy or Python type of a `DataType`. Caffe2: dtype_for_core_type.

    Raises:
        SchemaTypeError: It is no DataType, or none for columns.
    """
    try:
        return _BY_DATA_TYPE[core_type]  # type: ignore[index]
    except (KeyError, TypeError):
        raise SchemaTypeError(f"{core_type!r} is not the DataType of a column") from None


def from_dtype(dtype: Any, _outer_shape: tuple[int, ...] = ()) -> Field:
    """The schema of a NumPy dtype: a `Struct` if it has fields, else a `Scalar`.

    Where the bytes of a field lie makes no difference. Caffe2: from_dtype.
    """
    dtype = np.dtype(dtype)
    shape = (*_outer_shape, *dtype.shape)
    base = dtype.base
    if base.names is None:
        return Scalar((base, shape) if shape else base)
    return Struct(*((name, from_dtype(base[name], shape)) for name in base.names))


def _grow(branch: Branch) -> Field:
    """The field whose columns these are: a list or map if they are called as those of one."""
    fields: dict[str, Field] = {
        name: below if isinstance(below, Scalar) else _grow(below) for name, below in branch.items()
    }
    match sorted(fields):
        case ["lengths", "values"]:
            return List(fields["values"], fields["lengths"])
        case ["keys", "lengths", "values"]:
            return Map(fields["keys"], fields["values"], lengths_blob=fields["lengths"])
        case ["_evicted_values", "lengths", "values"]:
            return ListWithEvicted(fields["values"], fields["lengths"], fields["_evicted_values"])
    return Struct(*fields.items())


def from_column_list(
    col_names: Sequence[str],
    col_types: Sequence[Any] | None = None,
    col_blobs: Sequence[Any] | None = None,
    col_metadata: Sequence[Metadata | None] | None = None,
) -> Field:
    """The schema with these columns; what `field_names` and its like return, the other way round.

    Args:
        col_names: Paths. Siblings called `lengths` and `values` make a `List`, those and
            `keys` a `Map`, those and `_evicted_values` a `ListWithEvicted`.
        col_types: What is known of the type of each, default nothing.
        col_blobs: What each holds, default nothing.
        col_metadata: The metadata of each, default none.

    Raises:
        SchemaError: The lists are of different lengths, or a name cannot be a field's.
        DuplicateFieldError: A name is there twice, or is the beginning of another.

    Caffe2: from_column_list.
    """
    number = len(col_names)
    lists: list[Sequence[Any]] = []
    for what, given in (
        ("col_types", col_types),
        ("col_blobs", col_blobs),
        ("col_metadata", col_metadata),
    ):
        if given is not None and len(given) != number:
            raise SchemaError(f"there are {number} col_names, but {len(given)} {what}")
        lists.append([None] * number if given is None else given)
    root: Branch = {}
    for path, dtype, blob, metadata in zip(col_names, *lists, strict=True):
        *above, last = path.split(FIELD_SEPARATOR)
        branch = root
        for name in above:
            below = branch.setdefault(name, {})
            if isinstance(below, Scalar):
                raise DuplicateFieldError(
                    f"{path!r} is below {name!r}, which is a column itself", field=path
                )
            branch = below
        if last in branch:
            raise DuplicateFieldError(
                f"there are two columns {path!r}, or there are others below it", field=path
            )
        branch[last] = Scalar(dtype, blob, metadata)
    return _grow(root)


def from_blob_list(schema: Field, values: Any, throw_on_type_mismatch: bool = False) -> Any:
    """A copy of the schema whose columns hold these values.

    Args:
        schema: The schema; what its columns hold makes no difference.
        values: One for each column, in order: references or arrays. A reference alone will do.
        throw_on_type_mismatch: Take only arrays that have their column's type already;
            otherwise they are converted.

    Raises:
        SchemaError: There are more or fewer values than columns.
        SchemaTypeError: A value has not the type of its column.

    Caffe2: from_blob_list.
    """
    check_field(schema, "the schema")
    if isinstance(values, BlobReference):
        values = [values]
    record = schema.clone_schema()
    scalars = record.all_scalars()
    if len(scalars) != len(values):
        raise SchemaError(
            f"the schema has {len(scalars)} columns, but there are {len(values)} values"
        )
    for name, scalar, value in zip(record.field_names(), scalars, values, strict=True):
        try:
            scalar.set_value(value, throw_on_type_mismatch, unsafe=True)
        except ProcessionError as error:
            if name:
                error.message = f"column {name!r}: {error.message}"
            raise
    return record


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def as_record(value: Any) -> Any:
    """A field of what a caller may give for one.

    Fields stay themselves. Dictionaries, and lists of (name, field) pairs, become a `Struct`, other
    lists a `Tuple`, each of what is in them likewise. Types become a `Scalar` of that type,
    references and arrays one that holds them. Caffe2: as_record.
    """
    if isinstance(value, Field):
        return value
    if isinstance(value, dict):
        value = list(value.items())
    if not isinstance(value, (list, tuple)):
        return normalized(value)
    if all(_is_pair(item) for item in value):
        return Struct(*((name, as_record(field)) for name, field in value))
    return Tuple(*(as_record(item) for item in value))


def is_schema_subset(schema: Field, original_schema: Field) -> bool:
    """Whether all columns of the first are, by name, in the second. Caffe2: is_schema_subset."""
    return set(schema.field_names()) <= set(original_schema.field_names())


def equal_schemas(
    schema: Field,
    original_schema: Field,
    check_field_names: bool = True,
    check_field_types: bool = True,
    check_field_metas: bool = False,
) -> bool:
    """Whether the columns of both are alike, in the same order, in what is to be compared.

    Caffe2: equal_schemas.
    """
    check_field(schema, "the schema")
    check_field(original_schema, "the schema compared with")
    return (
        (not check_field_names or schema.field_names() == original_schema.field_names())
        and (not check_field_types or schema.field_types() == original_schema.field_types())
        and (not check_field_metas or schema.field_metadata() == original_schema.field_metadata())
    )


def schema_check(schema: Any, previous: Field | None = None) -> Any:
    """`as_record(schema)`, held against a schema that it has to equal. Caffe2: schema_check.

    Raises:
        SchemaError: It does not.
    """
    record = as_record(schema)
    if previous is not None and not equal_schemas(record, previous):
        raise SchemaError(f"the schema\n{record}\nis not the same as\n{previous}")
    return record


def attach_metadata_to_scalars(field: Field, metadata: Metadata) -> None:
    """Give all columns of a field the same metadata. Caffe2: attach_metadata_to_scalars."""
    for scalar in field.all_scalars():
        scalar.set_metadata(metadata)
