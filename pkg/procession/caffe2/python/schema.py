"""`caffe2.python.schema`: records. Where no workspace is given, it is the current one."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python import _import_c_extension as C
from procession.graph import schema as graph_schema
from procession.graph.blob import BlobReference
from procession.graph.schema import (
    FIELD_SEPARATOR,
    ConstRecord,
    FeatureSpec,
    Field,
    InitEmptyRecord,
    List,
    ListWithEvicted,
    Map,
    MapWithEvicted,
    Metadata,
    NamedTuple,
    NewRecord,
    RawTuple,
    Scalar,
    Struct,
    Tuple,
    as_record,
    attach_metadata_to_scalars,
    data_type_for_dtype,
    dtype_for_core_type,
    equal_schemas,
    from_blob_list,
    from_column_list,
    from_dtype,
    is_schema_subset,
    schema_check,
)

__all__ = [
    "FIELD_SEPARATOR",
    "BlobReference",
    "ConstRecord",
    "FeatureSpec",
    "FeedRecord",
    "FetchRecord",
    "Field",
    "InitEmptyRecord",
    "List",
    "ListWithEvicted",
    "Map",
    "MapWithEvicted",
    "Metadata",
    "NamedTuple",
    "NewRecord",
    "RawTuple",
    "Scalar",
    "Struct",
    "Tuple",
    "as_record",
    "attach_metadata_to_scalars",
    "data_type_for_dtype",
    "dtype_for_core_type",
    "equal_schemas",
    "from_blob_list",
    "from_column_list",
    "from_dtype",
    "is_schema_subset",
    "schema_check",
]


def FeedRecord(blob_record: Field, arrays: Any, ws: Any = None) -> None:
    """Feed arrays to the blobs of a record; see `procession.schema.FeedRecord`."""
    graph_schema.FeedRecord(blob_record, arrays, C.Workspace.current if ws is None else ws)


def FetchRecord(blob_record: Field, ws: Any = None, throw_on_type_mismatch: bool = False) -> Any:
    """A record of the values of a record's blobs; see `procession.schema.FetchRecord`."""
    if ws is None:
        ws = C.Workspace.current
    return graph_schema.FetchRecord(blob_record, ws, throw_on_type_mismatch)
