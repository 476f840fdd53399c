"""`caffe2.python.queue_util`: queues of records between tasks."""

from procession.data.queue import (
    Queue,
    QueueReader,
    QueueWrapper,
    QueueWriter,
    close_queue,
    dequeue,
    enqueue,
)

__all__ = ["Queue", "QueueWrapper", "close_queue", "dequeue", "enqueue"]

_QueueReader = QueueReader
_QueueWriter = QueueWriter
