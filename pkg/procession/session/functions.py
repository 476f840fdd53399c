"""Mapping a function over iterables: what sessions and executors have in common."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from procession.cluster.calls import PackedFunction


def map_calls(
    submit: Callable[..., Future[Any]],
    function: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    timeout: float | None = None,
    chunksize: int = 1,
) -> Iterator[Any]:
    """Submit a call for each tuple of arguments, at once; the results come in that order.

    The function is pickled once. When the iterator is closed, raises or is thrown away after its
    first result, calls that have not begun are cancelled.

    Args:
        submit: `submit(function, *args)` makes a future.
        function: Takes one argument from each iterable.
        iterables: Read to the end of the shortest one, before this returns.
        timeout: Seconds from here on, after which the next result raises TimeoutError.
        chunksize: How many calls travel together.

    Raises:
        ValueError: A chunksize below 1.
    """
    if chunksize < 1:
        raise ValueError(f"chunksize must be >= 1, not {chunksize!r}")
    until = None if timeout is None else time.monotonic() + timeout
    calls = zip(*iterables)  # noqa: B905 - as `map` does
    futures: deque[Future[Any]] = deque()
    try:
        if chunksize == 1:
            packed = PackedFunction.of(function)
            futures.extend(submit(packed, *args) for args in calls)
        else:
            packed = PackedFunction(partial(_call_all, function))
            while chunk := list(itertools.islice(calls, chunksize)):
                futures.append(submit(packed, chunk))
    except BaseException:
        _cancel(futures)
        raise
    return _results(futures, until) if chunksize == 1 else _parts(_results(futures, until))


def _call_all(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """In the worker: the results of a chunk."""
    return [function(*args) for args in calls]


def _results(futures: deque[Future[Any]], until: float | None) -> Generator[Any, None, None]:
    try:
        while futures:
            # Of what was handed out, nothing stays here.
            yield _result(futures.popleft(), until)
    finally:
        _cancel(futures)


def _result(future: Future[Any], until: float | None) -> Any:
    try:
        return future.result(None if until is None else until - time.monotonic())
    finally:
        future.cancel()
        # An error has this frame, and the future has the error.
        del future


def _parts(chunks: Generator[list[Any], None, None]) -> Generator[Any, None, None]:
    with contextlib.closing(chunks):
        for chunk in chunks:
            chunk.reverse()
            while chunk:
                yield chunk.pop()


def _cancel(futures: deque[Future[Any]]) -> None:
    while futures:
        futures.popleft().cancel()
