"""Records: named columns with types, nested as structs and lists, and the blobs that hold them.

A schema says which columns there are; one whose columns hold blobs is a record. Caffe2: schema.

In the order in which one stands on the other:

    field.py       Field, what all schemas have in common; Scalar, one column; Metadata
    containers.py  Struct and List, which are made of other fields; Map and Tuple, made of those
    convert.py     schemas from column names, NumPy types and lists; comparing schemas
    records.py     records in nets and workspaces: NewRecord, FeedRecord, FetchRecord, ...

The names of a schema's columns are paths, joined by colons: `a`, `b:lengths`, `b:values:keys`.
"""

from procession.graph.schema.containers import (
    List,
    ListWithEvicted,
    Map,
    MapWithEvicted,
    NamedTuple,
    RawTuple,
    Struct,
    Tuple,
)
from procession.graph.schema.convert import (
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
from procession.graph.schema.field import FIELD_SEPARATOR, FeatureSpec, Field, Metadata, Scalar
from procession.graph.schema.records import (
    ConstRecord,
    FeedRecord,
    FetchRecord,
    InitEmptyRecord,
    NewRecord,
)

__all__ = [
    "FIELD_SEPARATOR",
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
