"""`caffe2.python.dataio`: Reader, Writer and Pipe, what pipelines are made of. No more."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python import core
from procession.errors import GraphError
from procession.graph.schema import Field, from_blob_list

__all__ = ["Pipe", "Reader", "Writer"]


class Reader:
    """Adds operators to nets that read batches of records.

    Args:
        schema: What a record is.
    """

    def __init__(self, schema: Field | None = None) -> None:
        self._schema = schema

    def schema(self) -> Field:
        """What a record is."""
        if self._schema is None:
            raise GraphError(f"{type(self).__name__} has no schema")
        return self._schema

    def _set_schema(self, schema: Field | None) -> None:
        self._schema = schema

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        """Add what is to be done once before, and once after, all reading."""

    def read(self, read_net: Any) -> tuple[Any, Any]:
        """Add the reading of a batch; returns (blob that says it is over, blobs of the columns)."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it reads")

    def reset(self, net: Any) -> None:
        """Add the return to the beginning."""
        raise NotImplementedError(f"{type(self).__name__} cannot begin anew")

    def read_ex(self, local_init_net: Any, local_finish_net: Any) -> tuple[Any, Any, Any]:
        """The nets that read a batch, and what `read` returns."""
        net = core.Net("reader_body")
        return ([net], *self.read(net))

    def _record(self, fields: Any) -> Any:
        return fields if self._schema is None else from_blob_list(self._schema, fields)

    def read_record_ex(self, local_init_net: Any, local_finish_net: Any) -> tuple[Any, Any, Any]:
        """`read_ex`, with a record for the columns."""
        nets, over, fields = self.read_ex(local_init_net, local_finish_net)
        return nets, over, self._record(fields)

    def read_record(self, read_net: Any) -> tuple[Any, Any]:
        """`read`, with a record for the columns."""
        over, fields = self.read(read_net)
        return over, self._record(fields)

    def execution_step(
        self, reader_net_name: str | None = None, external_should_stop: Any = None
    ) -> tuple[Any, Any]:
        """A step that reads until it is over, and the record that it reads."""
        net = core.Net(reader_net_name or "reader")
        over, record = self.read_record(net)
        if external_should_stop is not None:
            over = net.Or([external_should_stop, over])
        return core.execution_step(f"{net.Name()}_step", net, should_stop_blob=over), record


class Writer:
    """Adds operators to nets that write batches of records."""

    _schema: Field | None = None

    def schema(self) -> Field | None:
        """What a record is, once one is written."""
        return self._schema

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        """Add what is to be done once before, and once after, all writing."""
        self.commit(finish_net)

    def write(self, writer_net: Any, fields: Any) -> None:
        """Add the writing of a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it writes")

    def commit(self, finish_net: Any) -> None:
        """Add what says that all is written."""

    def _columns(self, fields: Any) -> Any:
        if not isinstance(fields, Field):
            return fields
        self._schema = fields
        return fields.field_blobs()

    def write_record(self, writer_net: Any, fields: Any) -> None:
        """`write` a record."""
        self.write(writer_net, self._columns(fields))

    def write_ex(
        self, fields: Any, local_init_net: Any, local_finish_net: Any, stop_blob: Any
    ) -> list[Any]:
        """The nets that write a batch."""
        net = core.Net("write_net")
        self.write(net, fields)
        return [net]

    def write_record_ex(
        self, fields: Any, local_init_net: Any, local_finish_net: Any, stop_blob: Any = None
    ) -> tuple[list[Any], Any]:
        """The nets that write a record, and the blob that says that nothing more can be written."""
        columns = self._columns(fields)
        if stop_blob is None:
            stop_blob = local_init_net.NextName("dequeue_status")
        return self.write_ex(columns, local_init_net, local_finish_net, stop_blob), stop_blob


class Pipe:
    """What can be written to on one side and read from on the other.

    Args:
        schema: What a record is.
        obj_key: Under which name it is hung on the nets that write to it, to be set up.
    """

    def __init__(self, schema: Field | None = None, obj_key: str | None = None) -> None:
        self._schema = schema
        self._obj_key = obj_key
        self._writers = self._readers = 0

    def schema(self) -> Field | None:
        """What a record is, once one is written."""
        return self._schema

    def setup(self, global_init_net: Any) -> None:
        """Add what makes it."""

    def reader(self) -> Reader:
        """What reads from it."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is read")

    def writer(self) -> Writer:
        """What writes to it."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is written")

    def num_readers(self) -> int:
        """How many read from it."""
        return self._readers

    def num_writers(self) -> int:
        """How many write to it."""
        return self._writers

    def _new_writer(self, writer_schema: Field | None, writer_init_net: Any) -> None:
        if self._schema is None:
            self._schema = writer_schema
        self._writers += 1
        self._hang(writer_init_net)

    def _new_reader(self, reader_init_net: Any) -> None:
        self._readers += 1
        self._hang(reader_init_net)

    def _hang(self, net: Any) -> None:
        if self._obj_key is not None:
            net.add_attribute(self._obj_key, self)
