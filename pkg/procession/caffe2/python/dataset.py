"""`caffe2.python.dataset`: columns in blobs, to be read and written by the batch."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python import core, dataio
from procession.errors import GraphError
from procession.graph.schema import (
    InitEmptyRecord,
    Struct,
    from_blob_list,
    from_column_list,
)

__all__ = ["Dataset"]


class _DatasetReader(dataio.Reader):
    def __init__(self, dataset: Dataset, name: str, batch_size: int, enforce: bool) -> None:
        super().__init__(dataset.content())
        self._dataset = dataset
        self.name = name
        self._batch = {"batch_size": batch_size, "enforce_batch_size": enforce}
        self.cursor: Any = None

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        if self.cursor is None:
            self.cursor = init_net.CreateTreeCursor(
                [], init_net.NextScopedBlob(self.name), fields=self._dataset.fields
            )

    def _ready(self) -> Any:
        if self.cursor is None:
            raise GraphError("a dataset's reader has to be set up first: setup_ex(init_net, None)")
        return self.cursor

    def read(self, read_net: Any) -> tuple[Any, Any]:
        content = self._dataset.content()
        with core.NameScope(read_net.NextName(self.name)):
            columns = core.output_to_list(
                read_net.ReadNextBatch(
                    [self._ready(), *content.field_blobs()], content.field_names(), **self._batch
                )
            )
            return read_net.IsEmpty([columns[0]]), columns

    def reset(self, net: Any) -> None:
        net.ResetCursor([self._ready()], [])


class _DatasetWriter(dataio.Writer):
    def __init__(self, content: Any) -> None:
        self._content = content
        self.mutex: Any = None

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        if self.mutex is None:
            self.mutex = init_net.CreateMutex([])

    def write(self, writer_net: Any, fields: Any) -> None:
        columns, blobs = list(fields), self._content.field_blobs()
        if self.mutex is None:
            raise GraphError("a dataset's writer has to be set up first: setup_ex(init_net, None)")
        if len(columns) != len(blobs):
            raise GraphError(f"{len(columns)} columns for a dataset of {len(blobs)}")
        writer_net.CheckDatasetConsistency(columns, [], fields=self._content.field_names())
        writer_net.AtomicAppend([self.mutex, *blobs, *columns], blobs)


class Dataset:
    """A dataset in blobs.

    Args:
        fields: What a record is: a `Struct`, with blobs if they are there already, or names.
        name: What its cursors are called after.
    """

    def __init__(self, fields: Any, name: str | None = None) -> None:
        if isinstance(fields, list):
            fields = from_column_list(fields)
        if not isinstance(fields, Struct):
            raise GraphError(f"a dataset's fields are a Struct or a list of names, not {fields!r}")
        self.schema = fields
        self.fields = fields.field_names()
        self.name = name or "dataset"
        self.field_blobs: Any = fields.field_blobs() if fields.has_blobs() else None

    def init_empty(self, init_net: Any) -> None:
        """Have a net make the columns, without rows."""
        self.field_blobs = InitEmptyRecord(init_net, self.schema.clone_schema()).field_blobs()

    def _blobs(self) -> Any:
        if not self.field_blobs:
            raise GraphError(f"dataset {self.name!r} has no blobs yet: init_empty(init_net)")
        return self.field_blobs

    def get_blobs(self) -> Any:
        """The blobs of the columns."""
        return self.field_blobs

    def content(self) -> Any:
        """The record of the blobs of the columns."""
        return from_blob_list(self.schema, self._blobs())

    def field_names(self) -> Any:
        """The names of the columns."""
        return self.fields

    def field_types(self) -> Any:
        """The types of the columns."""
        return self.schema.field_types()

    def reader(
        self,
        init_net: Any = None,
        cursor_name: str | None = None,
        batch_size: int = 1,
        enforce_batch_size: bool = False,
    ) -> dataio.Reader:
        """What reads it from the beginning.

        Args:
            init_net: A net to have make the cursor; left out, `setup_ex` does.
            cursor_name: What the cursor is called.
            batch_size: How many rows to read at a time.
            enforce_batch_size: Leave the rest out that is fewer.
        """
        name = cursor_name or f"{self.name}_cursor"
        made = _DatasetReader(self, name, batch_size, enforce_batch_size)
        if init_net is not None:
            made.setup_ex(init_net, None)
        return made

    def writer(self, init_net: Any = None) -> dataio.Writer:
        """What appends to it.

        Args:
            init_net: A net to have make the mutex; left out, `setup_ex` does.
        """
        made = _DatasetWriter(self.content())
        if init_net is not None:
            made.setup_ex(init_net, None)
        return made
