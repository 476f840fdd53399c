"""`caffe2.python.schema`: records. Where no workspace is given, it is the current one."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python import _import_c_extension as C
from procession.graph import schema as graph_schema
from procession.graph.blob import BlobReference
from procession.graph.schema import *  # noqa: F403

__all__ = ["BlobReference"]
__all__ += graph_schema.__all__


# These take the place of the graph's own, which have to be given a workspace.
def FeedRecord(  # type: ignore[no-redef]
    blob_record: graph_schema.Field, arrays: Any, ws: Any = None
) -> None:
    """Feed arrays to the blobs of a record; see `procession.schema.FeedRecord`."""
    graph_schema.FeedRecord(blob_record, arrays, C.Workspace.current if ws is None else ws)


def FetchRecord(  # type: ignore[no-redef]
    blob_record: graph_schema.Field, ws: Any = None, throw_on_type_mismatch: bool = False
) -> Any:
    """A record of the values of a record's blobs; see `procession.schema.FetchRecord`."""
    if ws is None:
        ws = C.Workspace.current
    return graph_schema.FetchRecord(blob_record, ws, throw_on_type_mismatch)
