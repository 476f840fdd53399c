"""`caffe2.python.queue_util`: queues of records between tasks."""

from __future__ import annotations

from typing import Any, ClassVar

from procession.caffe2.python import core, dataio
from procession.data import queue
from procession.data.queue import dequeue, enqueue
from procession.graph.step import ExecutionStep

__all__ = ["Queue", "QueueWrapper", "close_queue", "dequeue", "enqueue"]


class _QueueReader(queue.QueueReader, dataio.Reader):
    """See `procession.data.QueueReader`."""


class _QueueWriter(queue.QueueWriter, dataio.Writer):
    """See `procession.data.QueueWriter`."""


class QueueWrapper(queue.QueueWrapper, dataio.Pipe):
    """See `procession.data.QueueWrapper`."""

    reader_type: ClassVar[type[queue.QueueReader]] = _QueueReader
    writer_type: ClassVar[type[queue.QueueWriter]] = _QueueWriter


class Queue(queue.Queue, QueueWrapper):
    """See `procession.data.Queue`."""


def close_queue(step: Any, *queues: Any) -> ExecutionStep:
    """A step that runs another, and closes queues then; see `procession.data.close_queue`."""
    return queue.close_queue(step, *queues, net_type=core.Net)
