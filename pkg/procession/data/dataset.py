"""Datasets in memory: one blob for each column, read by the batch and appended to.

A column of lists has its values in one blob and their lengths in another, as the schema says; a
batch of rows has as many values as belong to them. Who reads has a cursor in a blob of its own, and
a writer a mutex, so that several threads may append by it. Two writers do not know of each other:
they must not append to one dataset at once. Do not read a dataset while it is appended to: the
columns grow one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from procession import BlobReference, ExecutionStep, NameScope, Net, execution_step
from procession.data.nets import Columns, net_of, new_net, outputs_of
from procession.data.reader import Reader, Writer
from procession.errors import GraphError
from procession.schema import (
    Field,
    InitEmptyRecord,
    Struct,
    from_blob_list,
    from_column_list,
)


class _CursorReader(Reader):
    """What readers of a dataset have in common: a cursor, and how a batch is called."""

    def __init__(
        self, dataset: Dataset, name: str | None, batch_size: int, enforce_batch_size: bool
    ) -> None:
        super().__init__(dataset.content())
        self.dataset = dataset
        self.name = name or f"{dataset.name}_cursor"
        self.batch_size = batch_size
        self.enforce_batch_size = enforce_batch_size
        self.cursor: Any = None

    def setup_ex(self, init_net: Net, exit_net: Net | None) -> None:
        """Add the making of the cursor, if no net does that yet."""
        if self.cursor is None:
            self.cursor = init_net.CreateTreeCursor(
                [], init_net.NextScopedBlob(self.name), fields=self.dataset.fields
            )

    def _ready(self) -> Any:
        if self.cursor is None:
            raise GraphError(
                f"the reader of {self.dataset.name!r} has no cursor: setup_ex(init_net, None) has "
                f"a net make it"
            )
        return self.cursor

    def _read(self, net: Net, operator: str, inputs: list[Any], **arguments: Any) -> Any:
        content = self.dataset.content()
        with NameScope(net.NextName(self.name)):
            made = getattr(net, operator)(
                [*inputs, *content.field_blobs()],
                content.field_names(),
                batch_size=self.batch_size,
                enforce_batch_size=self.enforce_batch_size,
                **arguments,
            )
            columns = outputs_of(made)
            return net.IsEmpty([columns[0]]), columns

    def reset(self, net: Net) -> None:
        """Add the return of the cursor to the beginning."""
        net.ResetCursor([self._ready()], [])


class DatasetReader(_CursorReader):
    """Reads a dataset from beginning to end; `Dataset.reader` makes it."""

    def __init__(
        self,
        dataset: Dataset,
        name: str | None,
        batch_size: int = 1,
        enforce_batch_size: bool = False,
    ) -> None:
        super().__init__(dataset, name, batch_size, enforce_batch_size)

    def read(self, read_net: Net) -> tuple[BlobReference, Columns]:
        """Add the reading of the next rows."""
        over, columns = self._read(read_net, "ReadNextBatch", [self._ready()])
        return over, columns


class DatasetRandomReader(_CursorReader):
    """Reads the rows of a dataset in an order of one's choice; `Dataset.random_reader` makes it.

    The order is a blob with the numbers of the rows: `indices`, one's own or what
    `sort_and_shuffle` makes. Where each row begins has to be counted first: `computeoffset`.
    """

    def __init__(
        self,
        dataset: Dataset,
        name: str | None,
        indices: BlobReference | None,
        batch_size: int = 1,
        loop_over: bool = False,
        enforce_batch_size: bool = False,
    ) -> None:
        super().__init__(dataset, name, batch_size, enforce_batch_size)
        self.indices = indices
        self.loop_over = loop_over
        self.offsets: Any = None

    def computeoffset(self, net: Net) -> None:
        """Add the counting of where each row begins."""
        self.reset(net)
        inputs = [self.cursor, *self.dataset.content().field_blobs()]
        self.offsets = net.ComputeOffset(inputs, "offsets")

    def sort_and_shuffle(
        self,
        net: Net,
        sort_by_field: str | None = None,
        shuffle_size: int = 1,
        batch_size: int = 1,
    ) -> None:
        """Add the making of an order.

        Args:
            net: The net that makes it.
            sort_by_field: The column to sort by, smallest first; left out, rows stay in order.
            shuffle_size: Then shuffle the rows within each `shuffle_size` batches.
            batch_size: Rows of a batch.

        Raises:
            GraphError: There is no such column.
        """
        names = self.dataset.content().field_names()
        if sort_by_field and sort_by_field not in names:
            raise GraphError(
                f"dataset {self.dataset.name!r} has no column {sort_by_field!r}; it has {names}"
            )
        self.reset(net)
        self.indices = net.SortAndShuffle(
            [self.cursor, *self.dataset.content().field_blobs()],
            "indices",
            sort_by_field_idx=names.index(sort_by_field) if sort_by_field else -1,
            shuffle_size=shuffle_size,
            batch_size=batch_size,
        )

    def read(self, read_net: Net) -> tuple[BlobReference, Columns]:
        """Add the reading of the next rows of the order.

        Raises:
            GraphError: It was not set up, or there is no order, or no net counts the offsets.
        """
        self._ready()
        if self.indices is None:
            raise GraphError(
                f"the random reader of {self.dataset.name!r} has no order: give it `indices`, or "
                f"call sort_and_shuffle(net)"
            )
        if self.offsets is None:
            raise GraphError(
                f"the random reader of {self.dataset.name!r} does not know where rows begin: "
                f"computeoffset(net) has a net count them"
            )
        over, columns = self._read(
            read_net,
            "ReadRandomBatch",
            [self.cursor, self.indices, self.offsets],
            loop_over=self.loop_over,
        )
        return over, columns


class DatasetWriter(Writer):
    """Appends to a dataset; `Dataset.writer` makes it."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._content = dataset.content()
        self.mutex: Any = None

    def setup_ex(self, init_net: Net, exit_net: Net | None) -> None:
        """Add the making of the mutex, if no net does that yet."""
        if self.mutex is None:
            self.mutex = init_net.CreateMutex([])

    def write(self, writer_net: Net, fields: Columns) -> None:
        """Add the check that the columns fit together, and the appending.

        Raises:
            GraphError: It was not set up, or there are more, or fewer, columns than it has.
        """
        columns, blobs = list(fields), self._content.field_blobs()
        if self.mutex is None:
            raise GraphError(
                f"the writer of {self._dataset.name!r} has no mutex: setup_ex(init_net, None) has "
                f"a net make it"
            )
        if len(columns) != len(blobs):
            raise GraphError(
                f"{len(columns)} columns are written to dataset {self._dataset.name!r}, which has "
                f"{len(blobs)}: {self._content.field_names()}"
            )
        writer_net.CheckDatasetConsistency(columns, [], fields=self._content.field_names())
        writer_net.AtomicAppend([self.mutex, *blobs, *columns], blobs)


class Dataset:
    """Rows in blobs, one for each column. Caffe2: dataset.Dataset.

    Args:
        fields: What a row is: a `Struct`, or the names of its columns. One whose columns hold blobs
            is a dataset that is there already.
        name: What its cursors are called after.
    """

    reader_type: ClassVar[type[DatasetReader]] = DatasetReader
    random_reader_type: ClassVar[type[DatasetRandomReader]] = DatasetRandomReader
    writer_type: ClassVar[type[DatasetWriter]] = DatasetWriter

    field_blobs: list[BlobReference] | None
    """The blobs of the columns; None before it is known what makes them."""

    def __init__(self, fields: Struct | Sequence[str], name: str | None = None) -> None:
        schema: Any = from_column_list(fields) if isinstance(fields, list) else fields
        if not isinstance(schema, Struct):
            raise GraphError(f"a dataset's fields are a Struct or a list of names, not {fields!r}")
        self.schema = schema
        self.fields: list[str] = schema.field_names()
        self.name = name or "dataset"
        self.field_blobs = schema.field_blobs() if schema.has_blobs() else None

    def init_empty(self, init_net: Net) -> None:
        """Have a net make it, without rows."""
        self.field_blobs = InitEmptyRecord(init_net, self.schema.clone_schema()).field_blobs()

    def init_from_arrays(self, net: Net, arrays: Field | Sequence[Any] | Mapping[str, Any]) -> None:
        """Have a net make it, with rows. They become a part of the net.

        Args:
            net: The net.
            arrays: The values of each column, in order or by name; or a record of them.

        Raises:
            GraphError: There are more, or fewer, than columns, or they have other names.
            SchemaTypeError: The values of one have not the type that the schema says.
        """
        if isinstance(arrays, Field):
            arrays = arrays.field_blobs()
        if isinstance(arrays, Mapping):
            if set(arrays) != set(self.fields):
                raise GraphError(
                    f"dataset {self.name!r} has the columns {self.fields}, not {list(arrays)}"
                )
            arrays = [arrays[field] for field in self.fields]
        record = from_blob_list(self.schema, [np.asarray(values) for values in arrays])
        self.field_blobs = [
            self._column(net, field, values)
            for field, values in zip(self.fields, record.field_blobs(), strict=True)
        ]

    def init_from_dataframe(self, net: Net, dataframe: Any) -> None:
        """`init_from_arrays`, with the columns of a Pandas dataframe, in order."""
        values = [dataframe[column].to_numpy() for column in dataframe.columns]
        self.init_from_arrays(net, values)

    def _column(self, net: Net, field: str, values: Any) -> BlobReference:
        made: BlobReference = net.Const(values, net.NextScopedBlob(field))
        return made

    def trim(self, net: Net, multiple_of: int) -> None:
        """Have a net leave out the last rows, so that their number is a multiple of another."""
        blobs = self._blobs()
        net.TrimDataset(blobs, blobs, fields=self.fields, multiple_of=multiple_of)

    def _blobs(self) -> list[BlobReference]:
        if not self.field_blobs:
            raise GraphError(
                f"dataset {self.name!r} has no blobs yet: init_empty(net), for example, has a net "
                f"make them"
            )
        return self.field_blobs

    def get_blobs(self) -> list[BlobReference] | None:
        """The blobs of the columns; None before it is known what makes them."""
        return self.field_blobs

    def content(self) -> Any:
        """The record of all rows.

        Raises:
            GraphError: Nothing makes its blobs yet.
        """
        return from_blob_list(self.schema, self._blobs())

    def field_names(self) -> list[str]:
        """The names of the columns."""
        return self.fields

    def field_types(self) -> Any:
        """The types of the columns; of those of which nothing is known, `np.void`."""
        return self.schema.field_types()

    def reader(
        self,
        init_net: Net | None = None,
        cursor_name: str | None = None,
        batch_size: int = 1,
        enforce_batch_size: bool = False,
    ) -> DatasetReader:
        """What reads it from the beginning.

        Args:
            init_net: A net to have make the cursor; left out, `setup_ex` does.
            cursor_name: What the cursor is called.
            batch_size: How many rows to read at a time.
            enforce_batch_size: Leave the rest out that is fewer.

        Raises:
            GraphError: Nothing makes its blobs yet.
        """
        made = self.reader_type(self, cursor_name, batch_size, enforce_batch_size)
        if init_net is not None:
            made.setup_ex(init_net, None)
        return made

    def random_reader(
        self,
        init_net: Net | None = None,
        indices: BlobReference | None = None,
        cursor_name: str | None = None,
        batch_size: int = 1,
        loop_over: bool = False,
        enforce_batch_size: bool = False,
    ) -> DatasetRandomReader:
        """What reads its rows in another order.

        Args:
            init_net: A net to have make the cursor; left out, `setup_ex` does.
            indices: A blob with the numbers of the rows; left out, `sort_and_shuffle` makes it.
            cursor_name: What the cursor is called.
            batch_size: How many rows to read at a time.
            loop_over: Begin anew at the end, and never stop.
            enforce_batch_size: Leave the rest out that is fewer.

        Raises:
            GraphError: Nothing makes its blobs yet.
        """
        made = self.random_reader_type(
            self, cursor_name, indices, batch_size, loop_over, enforce_batch_size
        )
        if init_net is not None:
            made.setup_ex(init_net, None)
        return made

    def writer(self, init_net: Net | None = None) -> DatasetWriter:
        """What appends to it; at any time one of its writers may, in as many threads as there are.

        Args:
            init_net: A net to have make the mutex; left out, `setup_ex` does.

        Raises:
            GraphError: Nothing makes its blobs yet.
        """
        made = self.writer_type(self)
        if init_net is not None:
            made.setup_ex(init_net, None)
        return made


def execution_step_with_progress(
    name: str,
    init_net: Any,
    substeps: Sequence[Net | ExecutionStep],
    rows_read: BlobReference,
    *,
    net_type: type[Net] = Net,
) -> ExecutionStep:
    """A step that runs others at once, and prints a blob every five seconds.

    Caffe2: dataset.execution_step_with_progress.

    Args:
        name: What it is called.
        init_net: Not looked at.
        substeps: The other steps.
        rows_read: The blob.
        net_type: The class of the net that prints, if neither blob nor steps have nets.
    """
    report = new_net("report_net", net_of(rows_read, *substeps), net_type)
    report.Print([rows_read], [])
    return execution_step(
        name, list(substeps), report_net=report, concurrent_substeps=True, report_interval=5
    )
