"""Reader and Writer: objects that add to nets the operators that read and write batches of records.

They hold no data and no position. What they add may be run by several threads at once, each batch
going to one of them; so whatever is counted or moved on is behind a cursor, a queue, a mutex or a
counter. A `Pipe` is something that can be written to on one side and read from on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from procession import BlobReference, ExecutionStep, Net, execution_step
from procession.data.nets import Columns, MakesNets, Parts
from procession.errors import GraphError
from procession.schema import Field, from_blob_list


class Readable(Protocol):
    """What can be read from: a queue, a dataset."""

    def reader(self) -> Reader:
        """What reads from it."""


class Writable(Protocol):
    """What can be written to: a queue, a dataset."""

    def writer(self) -> Writer:
        """What writes to it."""


class Reader(MakesNets):
    """Adds operators to nets that read batches of records. Caffe2: dataio.Reader.

    A reader of one's own defines `read`, or `read_ex` if it needs more than one net or something
    set up for each thread; `setup_ex` if there is something to set up; and `reset` if one can begin
    anew.

    Args:
        schema: What a record is.
    """

    def __init__(self, schema: Field | None = None) -> None:
        if schema is not None and not isinstance(schema, Field):
            raise GraphError(f"a reader's schema is a Field of procession.schema, not {schema!r}")
        self._schema = schema

    def schema(self) -> Any:
        """What a record is.

        Raises:
            GraphError: It was given none.
        """
        if self._schema is None:
            raise GraphError(f"{type(self).__name__} has no schema")
        return self._schema

    def _set_schema(self, schema: Field | None) -> None:
        self._schema = schema

    def setup_ex(self, init_net: Net, finish_net: Net | None) -> None:
        """Add what is to be done once before, and once after, all reading.

        Args:
            init_net: The net that runs before.
            finish_net: The net that runs after; None where nobody will run one.
        """

    def read(self, read_net: Net) -> tuple[BlobReference, Columns]:
        """Add the reading of a batch.

        Returns:
            A blob, one truth value: that there was nothing left, so that nothing was read. And the
            blobs of the columns.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it reads")

    def reset(self, net: Net) -> None:
        """Add the return to the beginning."""
        raise NotImplementedError(f"{type(self).__name__} cannot begin anew")

    def read_ex(
        self, local_init_net: Net | None, local_finish_net: Net | None
    ) -> tuple[Parts, BlobReference, Columns | None]:
        """Make the nets that read a batch.

        Args:
            local_init_net: A net that runs once before, in each thread that reads.
            local_finish_net: The same for after.

        Returns:
            The nets, to run one after the other until the blob is true, which is looked at behind
            each; that blob; and the blobs of the columns.
        """
        net = self._new_net("reader_body", local_init_net)
        return ([net], *self.read(net))

    def _record(self, columns: Any) -> Any:
        return columns if self._schema is None else from_blob_list(self._schema, columns)

    def read_record_ex(
        self, local_init_net: Net | None, local_finish_net: Net | None
    ) -> tuple[Parts, BlobReference, Any]:
        """`read_ex`, with a record instead of the columns, if there is a schema."""
        nets, over, columns = self.read_ex(local_init_net, local_finish_net)
        return nets, over, self._record(columns)

    def read_record(self, read_net: Net) -> tuple[BlobReference, Any]:
        """`read`, with a record instead of the columns, if there is a schema."""
        over, columns = self.read(read_net)
        return over, self._record(columns)

    def execution_step(
        self,
        reader_net_name: str | None = None,
        external_should_stop: BlobReference | str | None = None,
    ) -> tuple[ExecutionStep, Any]:
        """A step that reads, until there is nothing left.

        Add to it the nets that do something with a batch.

        Args:
            reader_net_name: What its net is called.
            external_should_stop: A blob that ends it as well.

        Returns:
            The step, and the record, or the columns, of a batch.
        """
        net = self._new_net(reader_net_name or "reader")
        over, record = self.read_record(net)
        if external_should_stop is not None:
            over = net.Or([external_should_stop, over])
        return execution_step(f"{net.Name()}_step", net, should_stop_blob=over), record


class Writer(MakesNets):
    """Adds operators to nets that write batches of records. Caffe2: dataio.Writer.

    A writer of one's own defines `write`, or `write_ex`; and `commit` if somebody has to be told
    that all is written.
    """

    _schema: Field | None = None

    def schema(self) -> Any:
        """What a record is, once one is written; None before."""
        return self._schema

    def setup_ex(self, init_net: Net, finish_net: Net | None) -> None:
        """Add what is to be done once before, and once after, all writing: by default, `commit`.

        Args:
            init_net: The net that runs before.
            finish_net: The net that runs after; None where nobody will run one.
        """
        self.commit(finish_net)

    def write(self, writer_net: Net, fields: Columns) -> None:
        """Add the writing of a batch, given the blobs of its columns."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it writes")

    def commit(self, finish_net: Net | None) -> None:
        """Add what says that all is written."""

    def _columns(self, fields: Any) -> Any:
        if not isinstance(fields, Field):
            return fields
        self._schema = fields
        return fields.field_blobs()

    def write_record(self, writer_net: Net, fields: Field | Columns) -> None:
        """`write`, given a record."""
        self.write(writer_net, self._columns(fields))

    def write_ex(
        self,
        fields: Columns,
        local_init_net: Net | None,
        local_finish_net: Net | None,
        stop_blob: Any,
    ) -> Parts:
        """Make the nets that write a batch.

        Args:
            fields: The blobs of its columns.
            local_init_net: A net that runs once before, in each thread that writes.
            local_finish_net: The same for after.
            stop_blob: Set to true when nothing more can be written.
        """
        net = self._new_net("write_net", local_init_net)
        self.write(net, fields)
        return [net]

    def write_record_ex(
        self,
        fields: Field | Columns,
        local_init_net: Net | None,
        local_finish_net: Net | None,
        stop_blob: Any = None,
    ) -> tuple[Parts, Any]:
        """`write_ex`, given a record.

        Args:
            fields: The record.
            local_init_net: See `write_ex`.
            local_finish_net: See `write_ex`.
            stop_blob: See `write_ex`; left out, a new one.

        Returns:
            The nets, and `stop_blob`.
        """
        columns = self._columns(fields)
        if stop_blob is None:
            names = self._new_net("write_status") if local_init_net is None else local_init_net
            stop_blob = names.NextName("dequeue_status")
        return self.write_ex(columns, local_init_net, local_finish_net, stop_blob), stop_blob


class Pipe(MakesNets):
    """What can be written to on one side and read from on the other. Caffe2: dataio.Pipe.

    Args:
        schema: What a record is; left out, what is written first.
        obj_key: Under which name it hangs itself on the nets that use it, so that its `setup` runs:
            `TaskGroup.LOCAL_SETUP`, for example.
    """

    def __init__(self, schema: Field | None = None, obj_key: str | None = None) -> None:
        self._schema = schema
        self._obj_key = obj_key
        self._num_writers = self._num_readers = 0

    def schema(self) -> Any:
        """What a record is; None as long as nobody knows."""
        return self._schema

    def setup(self, global_init_net: Net) -> Any:
        """Add what makes it, to a net that runs before it is used."""

    def reader(self) -> Reader:
        """What reads from it."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is read")

    def writer(self) -> Writer:
        """What writes to it."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is written")

    def num_readers(self) -> int:
        """How many times nets were made that read from it."""
        return self._num_readers

    def num_writers(self) -> int:
        """How many times nets were made that write to it."""
        return self._num_writers

    def _new_writer(self, writer_schema: Field | None, writer_init_net: Net) -> None:
        if self._schema is None:
            self._schema = writer_schema
        self._num_writers += 1
        self._hang(writer_init_net)

    def _new_reader(self, reader_init_net: Net) -> None:
        self._num_readers += 1
        self._hang(reader_init_net)

    def _hang(self, net: Net) -> None:
        if self._obj_key is not None:
            net.add_attribute(self._obj_key, self)


class ReaderBuilder:
    """Makes readers of one source, for several tasks or nodes. Caffe2: dataio.ReaderBuilder."""

    def schema(self) -> Any:
        """What a record is."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a record is")

    def setup(self, **kwargs: Any) -> Any:
        """What is to be done once, before the first reader is made."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is set up")

    def new_reader(self, **kwargs: Any) -> Any:
        """Make another reader, or something that has one."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it makes a reader")


class PipedReaderBuilder(ReaderBuilder):
    """Makes the readers of another builder, each with a pipe behind it.

        PipedReaderBuilder(builder, lambda reader, **_: pipe(reader, processor=decode))

    Args:
        builder: The other builder.
        piper: Called with `reader=` and what `new_reader` was called with; returns a reader, or
            something that has one: a queue.

    Caffe2: dataio.PipedReaderBuilder.
    """

    def __init__(self, builder: ReaderBuilder, piper: Callable[..., Reader | Readable]) -> None:
        self._builder = builder
        self._piper = piper

    def schema(self) -> Any:
        """That of the other builder."""
        return self._builder.schema()

    def setup(self, **kwargs: Any) -> Any:
        """Set the other builder up."""
        return self._builder.setup(**kwargs)

    def new_reader(self, **kwargs: Any) -> Reader:
        """What reads from the end of a new pipe."""
        return as_reader(self._piper(reader=self._builder.new_reader(**kwargs), **kwargs))


def as_reader(source: Reader | Readable) -> Reader:
    """What reads from something: from a reader, that reader.

    Raises:
        GraphError: It cannot be read from.
    """
    if isinstance(source, Reader):
        return source
    if not hasattr(source, "reader"):
        raise GraphError(f"pipe reads from a reader, a queue or the like, not {source!r}")
    return source.reader()
