"""`caffe2.python.queue_util`: queues of records between tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procession.caffe2.python import core, dataio
from procession.errors import GraphError
from procession.graph.schema import Field
from procession.graph.task import TaskGroup

__all__ = ["Queue", "QueueWrapper", "close_queue", "dequeue", "enqueue"]


class _QueueReader(dataio.Reader):
    def __init__(self, wrapper: QueueWrapper, num_dequeue_records: int = 1) -> None:
        if wrapper.schema() is None:
            raise GraphError("a queue cannot be read before something is written to it")
        super().__init__(wrapper.schema())
        self._wrapper = wrapper
        self._records = num_dequeue_records

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        finish_net.CloseBlobsQueue([self._wrapper.queue()], 0)

    def read_ex(self, local_init_net: Any, local_finish_net: Any) -> tuple[Any, Any, Any]:
        self._wrapper._new_reader(local_init_net)
        net = core.Net("dequeue")
        names = self.schema().field_names()
        columns, over = dequeue(
            net, self._wrapper.queue(), len(names), field_names=names, num_records=self._records
        )
        return [net], over, columns


class _QueueWriter(dataio.Writer):
    def __init__(self, wrapper: QueueWrapper) -> None:
        self._wrapper = wrapper

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        finish_net.CloseBlobsQueue([self._wrapper.queue()], 0)

    def write_ex(
        self, fields: Any, local_init_net: Any, local_finish_net: Any, stop_blob: Any
    ) -> list[Any]:
        self._wrapper._new_writer(self.schema(), local_init_net)
        net = core.Net("enqueue")
        enqueue(net, self._wrapper.queue(), fields, stop_blob)
        return [net]


class QueueWrapper(dataio.Pipe):
    """A queue that is there.

    Args:
        handler: The blob with the queue.
        schema: What a record is.
        num_dequeue_records: How many records to take out at a time.
    """

    def __init__(
        self, handler: Any, schema: Field | None = None, num_dequeue_records: int = 1
    ) -> None:
        super().__init__(schema, TaskGroup.LOCAL_SETUP)
        self._queue = handler
        self._records = num_dequeue_records

    def reader(self) -> dataio.Reader:
        """What takes records out."""
        return _QueueReader(self, self._records)

    def writer(self) -> dataio.Writer:
        """What puts records in."""
        return _QueueWriter(self)

    def queue(self) -> Any:
        """The blob with the queue."""
        return self._queue


class Queue(QueueWrapper):
    """A queue that is made before the tasks begin that use it.

    Args:
        capacity: How many records it holds.
        schema: What a record is.
        name: What it is called.
        num_dequeue_records: How many records to take out at a time.
    """

    def __init__(
        self,
        capacity: int,
        schema: Field | None = None,
        name: str = "queue",
        num_dequeue_records: int = 1,
    ) -> None:
        net = core.Net(name)
        super().__init__(net.AddExternalInput(net.NextName("handler")), schema, num_dequeue_records)
        self.capacity = capacity

    def setup(self, global_init_net: Any) -> None:
        """Add what makes the queue."""
        schema = self.schema()
        if schema is None:
            raise GraphError("a queue cannot be made before something is written to it")
        names = schema.field_names()
        global_init_net.CreateBlobsQueue(
            [], [self._queue], capacity=self.capacity, num_blobs=len(names), field_names=names
        )


def enqueue(net: Any, queue: Any, data_blobs: Sequence[Any], status: Any = None) -> Any:
    """Have a net put a record into a queue; the blob that says whether the queue is closed."""
    blobs = list(data_blobs)
    made = net.SafeEnqueueBlobs([queue, *blobs], [*blobs, status or net.NextName("status")])
    return core.output_to_list(made)[-1]


def dequeue(
    net: Any,
    queue: Any,
    num_blobs: int,
    status: Any = None,
    field_names: Sequence[str] | None = None,
    num_records: int = 1,
) -> tuple[list[Any], Any]:
    """Have a net take a record out of a queue.

    Returns:
        The record's blobs, and the one that says whether there was none.
    """
    if field_names is None:
        names = [net.NextName("data", index) for index in range(num_blobs)]
    else:
        names = [net.NextName(name) for name in field_names]
    if len(names) != num_blobs:
        raise GraphError(f"{len(names)} names for {num_blobs} blobs: {names}")
    outputs = [*names, status or net.NextName("status")]
    made = core.output_to_list(net.SafeDequeueBlobs(queue, outputs, num_records=num_records))
    return made[:-1], made[-1]


def close_queue(step: Any, *queues: Any) -> Any:
    """A step that runs another, and closes queues then."""
    net = core.Net("close_queue_net")
    for queue in queues:
        net.CloseBlobsQueue([queue], 0)
    closing = core.execution_step(f"{net.Name()}_step", net)
    return core.execution_step(f"{net.Name()}_wrapper_step", [step, closing])
