"""Mutexes, and operators that read and write a blob as one step that nothing gets in between.

While they hold the mutex they read the blob anew and store the result: among themselves, these
operators never lose an update.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.handles import Mutex, expect
from procession.operators.registry import STOPS, WRITTEN, Context, operator


@operator("CreateMutex")
def create_mutex() -> Mutex:
    """A mutex. Caffe2: CreateMutex."""
    return Mutex()


def _fetch_add(mutex: Any, value: Array, increment: Array, context: Context) -> Any:
    with expect(mutex, Mutex, "CreateMutex"):
        workspace = context.workspace
        if workspace is not None:
            value, increment = (workspace.fetch_blob(name) for name in context.inputs[1:])
        if value.dtype != increment.dtype or value.dtype.kind not in "iu":
            raise TypeError(
                f"the value is {value.dtype}, the increment {increment.dtype}: they must be "
                "integers of one type"
            )
        if increment.size != 1:
            raise ValueError(f"the increment must be a single number, not {increment.shape}")
        results = np.asarray(value + increment.reshape(())[()]), np.array(value)
        if workspace is None:
            return results
        for name, result in zip(context.outputs, results, strict=True):
            workspace.feed_blob(name, result)
        return WRITTEN, WRITTEN


@operator("AtomicFetchAdd", outputs=2)
def atomic_fetch_add(mutex: Any, value: Array, increment: Array, *, context: Context) -> Any:
    """Add a number to a value, under a mutex; the sum, and the value before.

    Caffe2: AtomicFetchAdd. The first output is the blob of the second input, as a rule.

    Raises:
        TypeError: The first input is not a mutex, or the others are no integers of one type.
        ValueError: The increment is not a single number.
    """
    return _fetch_add(mutex, value, increment, context)


@operator("AtomicFetchAdd64", outputs=2)
def atomic_fetch_add_64(mutex: Any, value: Array, increment: Array, *, context: Context) -> Any:
    """AtomicFetchAdd, by the name that it has for int64. Caffe2: AtomicFetchAdd64."""
    return _fetch_add(mutex, value, increment, context)


@operator("AtomicIter", gradient=STOPS)
def atomic_iter(mutex: Any, count: Array, *, context: Context) -> Any:
    """The count plus 1, under a mutex; written over the count. Caffe2: AtomicIter.

    Raises:
        TypeError: The first input is not a mutex.
    """
    with expect(mutex, Mutex, "CreateMutex"):
        workspace = context.workspace
        if workspace is None:
            return np.asarray(count + count.dtype.type(1))
        # As it is by now, and into the memory that it has: this is done in each step of training.
        present = workspace.find(context.inputs[1])
        count = count if present is None else present.value
        name = context.outputs[0]
        blob = workspace.make(name)
        result = blob.target(count.shape, count.dtype)
        try:
            np.add(count, count.dtype.type(1), out=result)
        except BaseException:
            blob.discard()
            raise
        blob.store(result)
        workspace.keep(name, blob)
        return WRITTEN


@operator("AtomicAppend", outputs=(1, None))
def atomic_append(mutex: Any, first: Array, *others: Array, context: Context) -> Any:
    """Rows put behind those of other blobs, under a mutex. Caffe2: AtomicAppend.

    The inputs are the mutex, any number of blobs, and as many with the rows that each is to
    get. The outputs are the blobs. One without elements becomes what it gets.

    Raises:
        TypeError: The first input is not a mutex, or data types differ.
        ValueError: The numbers of inputs and outputs, or the shapes, do not fit.
    """
    count = len(context.outputs)
    if 1 + len(others) != 2 * count:
        raise ValueError(f"AtomicAppend: {1 + len(others)} blobs and rows for {count} outputs")
    with expect(mutex, Mutex, "CreateMutex"):
        workspace = context.workspace
        blobs = (first, *others)
        if workspace is not None:
            blobs = tuple(workspace.fetch_blob(name) for name in context.inputs[1:])
        pairs = list(zip(blobs[:count], blobs[count:], strict=True))
        for whole, rows in pairs:
            if whole.size and whole.dtype != rows.dtype:
                raise TypeError(f"AtomicAppend: rows of {rows.dtype} for a blob of {whole.dtype}")
        results = tuple(
            np.concatenate((whole, rows)) if whole.size else np.array(rows) for whole, rows in pairs
        )
        if workspace is None:
            return results
        for name, result in zip(context.outputs, results, strict=True):
            workspace.feed_blob(name, result)
        return (WRITTEN,) * count
