"""Records in nets and workspaces: columns get blobs, blobs get values, values come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from procession.errors import SchemaError, SchemaTypeError
from procession.graph.blob import BlobReference
from procession.graph.schema.convert import check_field, data_type_for_dtype, from_blob_list
from procession.graph.schema.field import Field, Scalar, logger


class Workspace(Protocol):
    """What is asked of a workspace here."""

    def feed_blob(self, name: Any, value: Any, /) -> Any:
        """Give a blob a value."""

    def fetch_blob(self, name: Any, /) -> Any:
        """The value of a blob."""


def _references(record: Any) -> list[BlobReference]:
    """The blobs of a record, in the order of its columns."""
    blobs = check_field(record, "the record").field_blobs()
    for name, blob in zip(record.field_names(), blobs, strict=True):
        if not isinstance(blob, BlobReference):
            column = f"the column {name!r}" if name else "the Scalar"
            raise SchemaTypeError(
                f"{column} holds a value, not the name of a blob: NewRecord makes a record of blobs"
            )
    return blobs


def NewRecord(net: Any, schema: Field) -> Any:
    """A copy of the schema whose columns are blobs that the net has not yet. Caffe2: NewRecord.

    They are called as the columns, in the name scope in force, and numbered if the net has such a
    blob; that of a `Scalar` alone is called `unnamed_scalar`. Other nets are not looked at: a
    `NameScope` keeps apart what is to be kept apart.
    """
    check_field(schema, "what NewRecord makes a record of")
    names = ["unnamed_scalar"] if isinstance(schema, Scalar) else schema.field_names()
    return from_blob_list(schema, [net.NextScopedBlob(name) for name in names])


def ConstRecord(net: Any, array_record: Field) -> Any:
    """A new record of blobs, which the net fills with the arrays of another. Caffe2: ConstRecord.

    Raises:
        SchemaError: A column of it holds nothing.
    """
    arrays = check_field(array_record, "what ConstRecord takes its values from").field_blobs()
    record = NewRecord(net, array_record)
    for blob, array in zip(record.field_blobs(), arrays, strict=True):
        net.Const(array, blob)
    return record


def InitEmptyRecord(net: Any, schema_or_record: Field, enforce_types: bool = False) -> Any:
    """Have the net fill a record with columns that have no rows. Caffe2: InitEmptyRecord.

    Args:
        net: The net.
        schema_or_record: The record to fill; of a schema, a new record is made.
        enforce_types: Refuse columns of types that no fill knows, or of no known type. Otherwise
            they are filled with floats, for somebody to overwrite, and a warning is logged.

    Raises:
        SchemaTypeError: There are such columns, and they are refused. The net is as it was.

    Returns:
        The record that is filled.
    """
    check_field(schema_or_record, "what InitEmptyRecord fills")
    fills: list[dict[str, Any]] = []
    for name, dtype in zip(
        schema_or_record.field_names(), schema_or_record.field_types(), strict=True
    ):
        try:
            fills.append({"shape": [0, *dtype.shape], "dtype": data_type_for_dtype(dtype)})
        except SchemaTypeError as error:
            if enforce_types:
                raise SchemaTypeError(f"the column {name!r} cannot be filled: {error}") from None
            logger.warning("the column %r is filled with floats: %s", name, error)
            fills.append({"shape": [0]})
    has_blobs = schema_or_record.has_blobs()
    record = schema_or_record if has_blobs else NewRecord(net, schema_or_record)
    for blob, fill in zip(record.field_blobs(), fills, strict=True):
        net.ConstantFill([], blob, **fill)
    return record


def FeedRecord(blob_record: Field, arrays: Sequence[Any] | Field, ws: Workspace) -> None:
    """Feed the blobs of a record.

    Args:
        blob_record: The record; its columns are blobs.
        arrays: One value for each column, in order, or a record that holds such.
        ws: The workspace. Caffe2's face feeds the current one unless told otherwise.

    Raises:
        SchemaTypeError: A column is no blob.
        SchemaError: There are more or fewer values than columns. Then none is fed.

    Caffe2: FeedRecord.
    """
    blobs = _references(blob_record)
    values = arrays.field_blobs() if isinstance(arrays, Field) else list(arrays)
    if len(values) != len(blobs):
        raise SchemaError(
            f"the record has {len(blobs)} columns, but there are {len(values)} values"
        )
    for blob, value in zip(blobs, values, strict=True):
        ws.feed_blob(str(blob), value)


def FetchRecord(blob_record: Field, ws: Workspace, throw_on_type_mismatch: bool = False) -> Any:
    """The values of a record's blobs, as a record of arrays.

    Args:
        blob_record: The record; its columns are blobs.
        ws: The workspace. Caffe2's face fetches from the current one unless told otherwise.
        throw_on_type_mismatch: Refuse values that have not the type of their column;
            otherwise they are converted.

    Raises:
        SchemaTypeError: A column is no blob, or its value has another type.
        BlobNotFoundError: A blob is not in the workspace.

    Caffe2: FetchRecord.
    """
    arrays = [ws.fetch_blob(str(blob)) for blob in _references(blob_record)]
    return from_blob_list(blob_record, arrays, throw_on_type_mismatch)
