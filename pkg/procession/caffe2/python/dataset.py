"""`caffe2.python.dataset`: datasets in memory; values are fed to the current workspace."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from procession.caffe2.python import core, dataio, workspace
from procession.data import dataset
from procession.errors import GraphError
from procession.graph.blob import BlobReference
from procession.graph.step import ExecutionStep

__all__ = ["Const", "Dataset", "execution_step_with_progress"]


class _DatasetReader(dataset.DatasetReader, dataio.Reader):
    """See `procession.data.DatasetReader`."""


class _DatasetRandomReader(dataset.DatasetRandomReader, dataio.Reader):
    """See `procession.data.DatasetRandomReader`."""


class _DatasetWriter(dataset.DatasetWriter, dataio.Writer):
    """See `procession.data.DatasetWriter`."""


def Const(net: Any, value: Any, dtype: Any = None, name: str | None = None) -> BlobReference:
    """Feed a value to the current workspace, as a new external input of a net; its blob."""
    if not isinstance(net, core.Net):
        raise GraphError(f"net is a core.Net, not {net!r}")
    blob: BlobReference = net.AddExternalInput(net.NextName(name))
    workspace.FeedBlob(str(blob), np.array(value, dtype=dtype))
    return blob


class _Types(list[Any]):
    """The types of the columns; calling it, as the documentation has it, does no harm."""

    def __call__(self) -> list[Any]:
        return self


class Dataset(dataset.Dataset):
    """A dataset; see `procession.data.Dataset`."""

    reader_type: ClassVar[type[dataset.DatasetReader]] = _DatasetReader
    random_reader_type: ClassVar[type[dataset.DatasetRandomReader]] = _DatasetRandomReader
    writer_type: ClassVar[type[dataset.DatasetWriter]] = _DatasetWriter

    field_types: Any

    def __init__(self, fields: Any, name: str | None = None) -> None:
        super().__init__(fields, name)
        self.field_types = _Types(self.schema.field_types())

    def _column(self, net: Any, field: str, values: Any) -> BlobReference:
        return Const(net, values, name=field)


def execution_step_with_progress(
    name: str, init_net: Any, substeps: Any, rows_read: Any
) -> ExecutionStep:
    """See `procession.data.execution_step_with_progress`."""
    return dataset.execution_step_with_progress(
        name, init_net, substeps, rows_read, net_type=core.Net
    )
