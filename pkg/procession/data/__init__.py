"""Readers, writers, queues, datasets, and the pipes between them: how records get into tasks.

It stands on Procession's public names: whatever is here, users could have written themselves. A
reader is not data, but an object that adds operators to nets; those read when a session runs them.

In the order in which one stands on the other:

    nets.py       which kind of nets the others make
    reader.py     Reader, Writer, Pipe: the interfaces; ReaderBuilder
    limits.py     readers that read others, up to a number of batches or seconds; CounterReader
    composite.py  readers that read several others side by side
    queue.py      Queue: what one task puts in, another takes out
    dataset.py    Dataset: columns in blobs, read in order or at random, and appended to
    processing.py what happens to a record on its way: Output, NetProcessor, ProcessingReader
    pipeline.py   pipe: a task that reads, processes and writes until there is no more

The methods are called as in Caffe2 (`setup_ex`, `read_ex`, ...), because they are what readers and
writers of one's own define.
"""

from procession.data.composite import CompositeReader, CompositeReaderBuilder
from procession.data.dataset import (
    Dataset,
    DatasetRandomReader,
    DatasetReader,
    DatasetWriter,
    execution_step_with_progress,
)
from procession.data.limits import (
    CounterReader,
    CountUntil,
    ReaderWithDelay,
    ReaderWithLimit,
    ReaderWithLimitBase,
    ReaderWithTimeLimit,
)
from procession.data.pipeline import PipeTypes, pipe, pipe_and_output
from procession.data.processing import NetProcessor, Output, ProcessingReader
from procession.data.queue import (
    Queue,
    QueueReader,
    QueueWrapper,
    QueueWriter,
    close_queue,
    dequeue,
    enqueue,
)
from procession.data.reader import Pipe, PipedReaderBuilder, Reader, ReaderBuilder, Writer

__all__ = [
    "CompositeReader",
    "CompositeReaderBuilder",
    "CountUntil",
    "CounterReader",
    "Dataset",
    "DatasetRandomReader",
    "DatasetReader",
    "DatasetWriter",
    "NetProcessor",
    "Output",
    "Pipe",
    "PipeTypes",
    "PipedReaderBuilder",
    "ProcessingReader",
    "Queue",
    "QueueReader",
    "QueueWrapper",
    "QueueWriter",
    "Reader",
    "ReaderBuilder",
    "ReaderWithDelay",
    "ReaderWithLimit",
    "ReaderWithLimitBase",
    "ReaderWithTimeLimit",
    "Writer",
    "close_queue",
    "dequeue",
    "enqueue",
    "execution_step_with_progress",
    "pipe",
    "pipe_and_output",
]
