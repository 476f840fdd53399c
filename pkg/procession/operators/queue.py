"""Queues of records: what one step puts in, another takes out, while both run.

A record is one value for each of several blobs. Who puts into a full queue waits, and so does who
takes from an empty one, until there is room, or a record, or the queue is closed. A closed queue
takes nothing in any more, and gives out what is left.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from procession.operators.handles import expect
from procession.operators.registry import STOPS, WRITTEN, Context, operator

_NOW_AND_THEN = 0.05
"""Seconds between looks at whether the run was called off."""


class BlobsQueue:
    """A queue of records. A copy has copies of the records, and is another queue from there on."""

    def __init__(
        self,
        capacity: int,
        num_blobs: int,
        records: Sequence[tuple[Any, ...]] = (),
        closed: bool = False,
    ) -> None:
        self.num_blobs = num_blobs
        self._capacity = capacity
        self._records = deque(records)
        self._closed = closed
        self._changed = threading.Condition()

    def __reduce__(self) -> tuple[Any, ...]:
        with self._changed:
            state = (self._capacity, self.num_blobs, list(self._records), self._closed)
        return BlobsQueue, state

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<BlobsQueue, {len(self._records)} of {self._capacity} records, {state}>"

    def put(self, record: tuple[Any, ...], check: Callable[[], None]) -> bool:
        """Put a record in, when there is room; False when the queue is closed."""
        with self._changed:
            while not self._closed and len(self._records) >= self._capacity:
                self._changed.wait(_NOW_AND_THEN)
                check()
            if self._closed:
                return False
            self._records.append(record)
            self._changed.notify_all()
            return True

    def take(self, check: Callable[[], None]) -> tuple[Any, ...] | None:
        """Take a record out, when there is one; None when the queue is closed and empty."""
        with self._changed:
            while not self._closed and not self._records:
                self._changed.wait(_NOW_AND_THEN)
                check()
            if not self._records:
                return None
            record = self._records.popleft()
            self._changed.notify_all()
            return record

    def close(self) -> None:
        """Take nothing in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _queue(value: Any, blobs: int) -> BlobsQueue:
    found: BlobsQueue = expect(value, BlobsQueue, "CreateBlobsQueue")
    if found.num_blobs != blobs:
        raise ValueError(f"a record of this queue has {found.num_blobs} blobs, not {blobs}")
    return found


def _checks(context: Context) -> Callable[[], None]:
    # A kernel that runs on its own is called off by nobody.
    return (lambda: None) if context.workspace is None else context.check


@operator("CreateBlobsQueue")
def create_blobs_queue(
    *,
    capacity: int = 1,
    num_blobs: int = 1,
    field_names: Sequence[str] | None = None,
    enforce_unique_name: bool = False,
) -> BlobsQueue:
    """A queue of records. Caffe2: CreateBlobsQueue.

    Args:
        capacity: How many records it holds before whoever puts one in has to wait.
        num_blobs: How many blobs a record has.
        field_names: Their names, for the reader.
        enforce_unique_name: Without effect.
    """
    return BlobsQueue(int(capacity), int(num_blobs))


@operator("CloseBlobsQueue", outputs=0)
def close_blobs_queue(queue: Any) -> None:
    """Let a queue take nothing in any more; those who wait go on. Caffe2: CloseBlobsQueue.

    Raises:
        TypeError: The input is not a queue.
    """
    expect(queue, BlobsQueue, "CreateBlobsQueue").close()


def _enqueued(queue: Any, blobs: tuple[Any, ...], context: Context) -> tuple[bool, list[Any]]:
    """Whether it went in, and what the outputs for the blobs are."""
    # The blobs' memory may be written again before the record is taken.
    record = tuple(np.array(value) if isinstance(value, np.ndarray) else value for value in blobs)
    done = _queue(queue, len(blobs)).put(record, _checks(context))
    kept = []
    for index, name in enumerate(context.outputs[: len(blobs)]):
        same = context.workspace is not None and name == context.inputs[index + 1]
        kept.append(WRITTEN if same else record[index])
    return done, kept


@operator("EnqueueBlobs", outputs=(0, None))
def enqueue_blobs(queue: Any, *blobs: Any, context: Context) -> Any:
    """Put a record into a queue, when there is room. Caffe2: EnqueueBlobs.

    The outputs are the blobs, which stay as they are.

    Raises:
        TypeError: The first input is not a queue.
        ValueError: The queue is closed, or for another number of blobs.
    """
    done, kept = _enqueued(queue, blobs, context)
    if not done:
        raise ValueError("the queue is closed")
    return tuple(kept) or None


@operator("SafeEnqueueBlobs", outputs=(1, None))
def safe_enqueue_blobs(queue: Any, *blobs: Any, context: Context) -> Any:
    """EnqueueBlobs, whose last output says whether the queue is closed. Caffe2: SafeEnqueueBlobs.

    Raises:
        TypeError: The first input is not a queue.
        ValueError: The queue is for another number of blobs.
    """
    done, kept = _enqueued(queue, blobs, context)
    return (*kept, np.asarray(not done))


def _dequeued(queue: Any, count: int, blobs: int, context: Context) -> tuple[Any, ...] | None:
    found: list[tuple[Any, ...]] = []
    while len(found) < count:
        record = _queue(queue, blobs).take(_checks(context))
        if record is None:
            break
        found.append(record)
    if len(found) < 2:
        return found[0] if found else None
    return tuple(np.concatenate(values) for values in zip(*found, strict=True))


@operator("DequeueBlobs", outputs=(1, None), gradient=STOPS)
def dequeue_blobs(
    queue: Any, *, num_records: int = 1, timeout_secs: float = 0.0, context: Context
) -> Any:
    """Take a record out of a queue, when there is one. Caffe2: DequeueBlobs.

    Args:
        num_records: Take so many, or as many as are left, and put their rows together.
        timeout_secs: Without effect: it waits as long as it takes.

    Raises:
        TypeError: The input is not a queue.
        ValueError: The queue is closed and empty, or for another number of blobs.
    """
    record = _dequeued(queue, int(num_records), len(context.outputs), context)
    if record is None:
        raise ValueError("the queue is closed, and empty")
    return record


@operator("SafeDequeueBlobs", outputs=(1, None), gradient=STOPS)
def safe_dequeue_blobs(queue: Any, *, num_records: int = 1, context: Context) -> Any:
    """DequeueBlobs, whose last output says whether there was none. Caffe2: SafeDequeueBlobs.

    The other outputs stay as they are then; those that have no value become empty.

    Args:
        num_records: Take so many, or as many as are left, and put their rows together.

    Raises:
        TypeError: The input is not a queue.
        ValueError: The queue is for another number of blobs.
    """
    names = context.outputs[:-1]
    record = _dequeued(queue, int(num_records), len(names), context)
    if record is not None:
        return (*record, np.asarray(False))
    workspace = context.workspace
    kept = [
        WRITTEN if workspace is not None and workspace.has_blob(name) else np.empty(0, np.float32)
        for name in names
    ]
    return (*kept, np.asarray(True))
