"""Queues of records between the tasks of a node: one puts in while another takes out.

Who puts into a full queue waits, and so does who takes from an empty one. When the task that writes
has ended it closes the queue; who reads gets what is left, and then the end. When the task that
reads has ended it closes the queue as well, and who writes is told to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from procession import BlobReference, ExecutionStep, Net, TaskGroup, execution_step
from procession.data.nets import Columns, Parts, net_of, new_net, outputs_of
from procession.data.reader import Pipe, Reader, Writer
from procession.errors import GraphError
from procession.schema import Field


class QueueReader(Reader):
    """Takes records out of a queue; `QueueWrapper.reader` makes it."""

    def __init__(self, wrapper: QueueWrapper, num_dequeue_records: int = 1) -> None:
        super().__init__(wrapper.schema())
        self._wrapper = wrapper
        self._num_dequeue_records = num_dequeue_records

    def setup_ex(self, init_net: Net, exit_net: Net | None) -> None:
        """Add the closing of the queue, after all reading."""
        if exit_net is not None:
            exit_net.CloseBlobsQueue([self._wrapper.queue()], 0)

    def schema(self) -> Any:
        """What a record is.

        Raises:
            GraphError: Nobody knows: the queue was given no schema, and nothing is written to it.
        """
        self._set_schema(self._wrapper.schema())
        if self._schema is None:
            raise GraphError(
                f"queue {str(self._wrapper.queue())!r} has no schema: give it one, or build what "
                f"writes to it before what reads from it"
            )
        return self._schema

    def _dequeue(self, net: Net) -> tuple[list[BlobReference], BlobReference]:
        names = self.schema().field_names()
        records = self._num_dequeue_records
        return dequeue(net, self._wrapper.queue(), len(names), None, names, records)

    def read(self, net: Net) -> tuple[BlobReference, Columns]:
        """Add the taking out of records."""
        self._wrapper._new_reader(net)
        columns, over = self._dequeue(net)
        return over, columns

    def read_ex(
        self, local_init_net: Net | None, local_finish_net: Net | None
    ) -> tuple[Parts, BlobReference, Columns | None]:
        """Make the net that takes records out."""
        net = self._new_net("dequeue", local_init_net)
        self._wrapper._new_reader(net if local_init_net is None else local_init_net)
        columns, over = self._dequeue(net)
        return [net], over, columns


class QueueWriter(Writer):
    """Puts records into a queue; `QueueWrapper.writer` makes it."""

    def __init__(self, wrapper: QueueWrapper) -> None:
        self._wrapper = wrapper

    def setup_ex(self, init_net: Net, exit_net: Net | None) -> None:
        """Add the closing of the queue, after all writing."""
        if exit_net is not None:
            exit_net.CloseBlobsQueue([self._wrapper.queue()], 0)

    def write(self, writer_net: Net, fields: Columns) -> None:
        """Add the putting in of a record; one that finds the queue closed is dropped."""
        self._wrapper._new_writer(self._schema, writer_net)
        enqueue(writer_net, self._wrapper.queue(), fields)

    def write_ex(
        self,
        fields: Columns,
        local_init_net: Net | None,
        local_finish_net: Net | None,
        status: Any,
    ) -> Parts:
        """Make the net that puts a record in, and sets `status` if the queue is closed."""
        net = self._new_net("enqueue", local_init_net)
        self._wrapper._new_writer(self._schema, net if local_init_net is None else local_init_net)
        enqueue(net, self._wrapper.queue(), fields, status)
        return [net]


class QueueWrapper(Pipe):
    """A queue that is there, or that somebody else makes. Caffe2: queue_util.QueueWrapper.

    Args:
        handler: The blob with the queue.
        schema: What a record is; left out, what is written first.
        num_dequeue_records: How many records to take out at a time, as one of more rows.
    """

    reader_type: ClassVar[type[QueueReader]] = QueueReader
    writer_type: ClassVar[type[QueueWriter]] = QueueWriter

    def __init__(
        self,
        handler: BlobReference,
        schema: Field | None = None,
        num_dequeue_records: int = 1,
    ) -> None:
        super().__init__(schema, TaskGroup.LOCAL_SETUP)
        self._queue = handler
        self._num_dequeue_records = num_dequeue_records

    def reader(self) -> Reader:
        """What takes records out."""
        return self.reader_type(self, self._num_dequeue_records)

    def writer(self) -> Writer:
        """What puts records in."""
        return self.writer_type(self)

    def queue(self) -> BlobReference:
        """The blob with the queue."""
        return self._queue


class Queue(QueueWrapper):
    """A queue for the tasks of a node in one group. Caffe2: queue_util.Queue.

    It is made anew whenever a group runs that uses it, before its tasks begin.

    Args:
        capacity: How many records it holds before whoever puts one in has to wait.
        schema: What a record is; left out, what is written first.
        name: What its blob is called after.
        num_dequeue_records: How many records to take out at a time, as one of more rows.
    """

    def __init__(
        self,
        capacity: int,
        schema: Field | None = None,
        name: str = "queue",
        num_dequeue_records: int = 1,
    ) -> None:
        net = self._new_net(name)
        handler = net.AddExternalInput(net.NextName("handler"))
        super().__init__(handler, schema, num_dequeue_records)
        self.capacity = capacity

    def setup(self, global_init_net: Net) -> None:
        """Add what makes the queue.

        Raises:
            GraphError: Nobody knows what a record is.
        """
        schema = self.schema()
        if schema is None:
            raise GraphError(
                f"queue {str(self._queue)!r} has no schema, and nothing is written to it: nobody "
                f"knows how many blobs a record of it has"
            )
        names = schema.field_names()
        global_init_net.CreateBlobsQueue(
            [], [self._queue], capacity=self.capacity, num_blobs=len(names), field_names=names
        )


def enqueue(net: Net, queue: Any, data_blobs: Columns, status: Any = None) -> BlobReference:
    """Have a net put a record into a queue. Caffe2: queue_util.enqueue.

    Args:
        net: The net.
        queue: The blob with the queue.
        data_blobs: The blobs of the record; they stay as they are.
        status: The blob that says whether the queue was closed; left out, a new one.

    Returns:
        That blob.
    """
    blobs: list[Any] = []
    for blob in data_blobs:
        # An operator may not write a blob twice.
        blobs.append(net.Copy(blob) if blob in blobs else blob)
    made = net.SafeEnqueueBlobs([queue, *blobs], [*blobs, status or net.NextName("status")])
    return outputs_of(made)[-1]


def dequeue(
    net: Net,
    queue: Any,
    num_blobs: int,
    status: Any = None,
    field_names: Sequence[str] | None = None,
    num_records: int = 1,
) -> tuple[list[BlobReference], BlobReference]:
    """Have a net take a record out of a queue. Caffe2: queue_util.dequeue.

    Args:
        net: The net.
        queue: The blob with the queue.
        num_blobs: How many blobs a record has.
        status: The blob that says whether there was none; left out, a new one.
        field_names: What the blobs are called after.
        num_records: Take so many, or as many as are left, and put their rows together.

    Returns:
        The record's blobs, and `status`.

    Raises:
        GraphError: There are more, or fewer, names than blobs.
    """
    if field_names is None:
        names = [net.NextName("data", index) for index in range(num_blobs)]
    else:
        names = [net.NextName(name) for name in field_names]
    if len(names) != num_blobs:
        raise GraphError(f"{len(names)} names for {num_blobs} blobs: {names}")
    outputs = [*names, status or net.NextName("status")]
    made = outputs_of(net.SafeDequeueBlobs(queue, outputs, num_records=num_records))
    return made[:-1], made[-1]


def close_queue(
    step: Net | ExecutionStep, *queues: Any, net_type: type[Net] = Net
) -> ExecutionStep:
    """A step that runs another, and closes queues then. Caffe2: queue_util.close_queue.

    Args:
        step: The other step, or a net.
        queues: The blobs with the queues.
        net_type: The class of the net that closes them, if neither blobs nor step have nets.
    """
    net = new_net("close_queue_net", net_of(*queues, step), net_type)
    for queue in queues:
        net.CloseBlobsQueue([queue], 0)
    closing = execution_step(f"{net.Name()}_step", net)
    return execution_step(f"{net.Name()}_wrapper_step", [step, closing])
