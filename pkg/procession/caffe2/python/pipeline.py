"""`caffe2.python.pipeline`: tasks that read, process and write."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python import dataio
from procession.caffe2.python.queue_util import Queue
from procession.caffe2.python.task import Task
from procession.data import pipeline, processing
from procession.data.pipeline import DEFAULT_QUEUE_CAPACITY, PipeTypes
from procession.data.processing import (
    NetProcessor,
    Output,
    make_processor,
    normalize_processor_output,
)

__all__ = [
    "DEFAULT_QUEUE_CAPACITY",
    "NetProcessor",
    "Output",
    "ProcessingReader",
    "make_processor",
    "normalize_processor_output",
    "pipe",
    "pipe_and_output",
    "processor_name",
]


class ProcessingReader(processing.ProcessingReader, dataio.Reader):
    """See `procession.data.ProcessingReader`."""


_TYPES = PipeTypes(Task, Queue, ProcessingReader)


def processor_name(processor: Any) -> str:
    """What a pipe is called that has this processor, or reads from it, or writes to it."""
    return pipeline.name_of(processor)


def pipe(
    input: Any,
    output: Any = None,
    num_threads: int = 1,
    processor: Any = None,
    name: str | None = None,
    capacity: int | None = None,
    group: Any = None,
    num_runtime_threads: int = 1,
) -> Any:
    """Make a task that reads, processes and writes; see `procession.data.pipe`."""
    return pipeline.pipe(
        input,
        output,
        num_threads,
        processor,
        name,
        capacity,
        group,
        num_runtime_threads,
        types=_TYPES,
    )


def pipe_and_output(
    input: Any,
    output: Any = None,
    num_threads: int = 1,
    processor: Any = None,
    name: str | None = None,
    capacity: int | None = None,
    group: Any = None,
    num_runtime_threads: int = 1,
    final_outputs: Any = None,
) -> tuple[Any, Any]:
    """`pipe`, with blobs to be handed back; see `procession.data.pipe_and_output`."""
    return pipeline.pipe_and_output(
        input,
        output,
        num_threads,
        processor,
        name,
        capacity,
        group,
        num_runtime_threads,
        final_outputs,
        types=_TYPES,
    )
