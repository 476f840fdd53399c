"""`caffe2.python.dataio`: readers and writers, and readers made of others."""

from procession.data.composite import CompositeReader, CompositeReaderBuilder
from procession.data.limits import (
    CounterReader,
    CountUntil,
    ReaderWithDelay,
    ReaderWithLimit,
    ReaderWithLimitBase,
    ReaderWithTimeLimit,
)
from procession.data.reader import Pipe, PipedReaderBuilder, Reader, ReaderBuilder, Writer

__all__ = [
    "CompositeReader",
    "CompositeReaderBuilder",
    "CountUntil",
    "CounterReader",
    "Pipe",
    "PipedReaderBuilder",
    "Reader",
    "ReaderBuilder",
    "ReaderWithDelay",
    "ReaderWithLimit",
    "ReaderWithLimitBase",
    "ReaderWithTimeLimit",
    "Writer",
]
