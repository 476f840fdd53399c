"""`caffe2.python.dataio`: readers and writers, and readers made of others.

What makes nets without being given one, or being in a builder, makes nets that are not strict.
"""

from __future__ import annotations

from typing import ClassVar

from procession.caffe2.python import core
from procession.data import composite, limits, reader
from procession.data.reader import PipedReaderBuilder, ReaderBuilder
from procession.graph import net

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


class Reader(reader.Reader):
    """See `procession.data.Reader`."""

    net_type: ClassVar[type[net.Net]] = core.Net


class Writer(reader.Writer):
    """See `procession.data.Writer`."""

    net_type: ClassVar[type[net.Net]] = core.Net


class Pipe(reader.Pipe):
    """See `procession.data.Pipe`."""

    net_type: ClassVar[type[net.Net]] = core.Net


class CounterReader(limits.CounterReader, Reader):
    """See `procession.data.CounterReader`."""


class ReaderWithLimitBase(limits.ReaderWithLimitBase, Reader):
    """See `procession.data.ReaderWithLimitBase`."""


class ReaderWithLimit(limits.ReaderWithLimit, ReaderWithLimitBase):
    """See `procession.data.ReaderWithLimit`."""


class ReaderWithTimeLimit(limits.ReaderWithTimeLimit, ReaderWithLimitBase):
    """See `procession.data.ReaderWithTimeLimit`."""


class ReaderWithDelay(limits.ReaderWithDelay, Reader):
    """See `procession.data.ReaderWithDelay`."""


class CompositeReader(composite.CompositeReader, Reader):
    """See `procession.data.CompositeReader`."""


class CompositeReaderBuilder(composite.CompositeReaderBuilder):
    """See `procession.data.CompositeReaderBuilder`."""

    reader_type: ClassVar[type[composite.CompositeReader]] = CompositeReader


def CountUntil(num_iter: int | None) -> ReaderWithLimit:
    """What reads 0, 1, ... below `num_iter`."""
    return ReaderWithLimit(CounterReader(), num_iter)
