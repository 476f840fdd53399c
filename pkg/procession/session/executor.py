"""ProcessExecutor: the interface of `concurrent.futures` over the workers of a ProcessSession.

Calls wait in one line, and go to a worker when that has nothing to do; until then they can be
cancelled. A worker is started when there is a call for it and no other is free.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Any, NamedTuple

from procession.errors import (
    BrokenPoolError,
    NodeDiedError,
    ProcessionError,
    RemoteTraceback,
    SessionClosedError,
)
from procession.runtime.operation import describe_exception
from procession.session.functions import map_calls
from procession.session.process import ProcessSession

_LOGGER = logging.getLogger("concurrent.futures")


class ProcessExecutor(Executor):
    """Runs functions in worker processes, as `concurrent.futures.ProcessPoolExecutor` does.

    Arguments and results are pickled by cloudpickle, so lambdas and functions of the script will
    do; large NumPy arrays travel through shared memory, and can be written wherever they arrive.
    Workers never import the script, so it needs no `if __name__ == "__main__"`.

        with ProcessExecutor() as executor:
            future = executor.submit(np.linalg.svd, matrix)
            for total in executor.map(np.sum, matrices):
                ...

    When a worker dies, the pool is broken: calls that have not ended raise `BrokenPoolError`, and
    so does `submit`. An argument or result that cannot be pickled, or not be unpickled on the
    other side, is an error of that call alone, SerializationError.

    Args:
        max_workers: How many workers there may be; left out, as many as this process may use
            processors.
        initializer: Called in each worker before anything else. When it raises, the pool is broken.
        initargs: What it is called with.
        **options: `start_method`, `threads_per_node`, `memory_limit` and so on: what
            `ProcessSession` takes besides nodes. Left out, `log_prefix` is False here: what
            functions print is printed as it is.

    Raises:
        ValueError: No workers at all, or an option that makes no sense.
        TypeError: An initializer that cannot be called, or an option that there is none of.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **options: Any,
    ) -> None:
        if max_workers is None:
            max_workers = _processors()
        elif not isinstance(max_workers, int) or max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, not {max_workers!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, not {initializer!r}")
        options.setdefault("log_prefix", False)
        initialize = None if initializer is None else _Initializer(initializer, tuple(initargs))
        self._pool = _Pool(ProcessSession(**options), max_workers, initialize)
        # Whoever drops the executor without a word still gets the results.
        self._dropped = weakref.finalize(self, self._pool.abandon)
        self._dropped.atexit = False

    @property
    def session(self) -> ProcessSession:
        """The session whose nodes the workers are: "worker-0" and so on, as far as needed."""
        return self._pool.session

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have `fn(*args, **kwargs)` called by a worker.

        Arguments are read when a worker is free: they should not be changed before the call ends.

        Raises:
            BrokenPoolError: A worker died.
            SessionClosedError: A RuntimeError: after `shutdown`, or at the interpreter's end.
        """
        return self._pool.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """As the builtin `map`, but called by workers, and begun at once.

        The function is pickled once. When the iterator is closed, calls that have not begun are
        cancelled.

        Args:
            fn: Takes one argument from each iterable.
            *iterables: Read to the end of the shortest one, before this returns.
            timeout: Seconds from here on, after which the next result raises TimeoutError.
            chunksize: How many calls go to a worker together.

        Raises:
            ValueError: A chunksize below 1.
            BrokenPoolError, SessionClosedError: As `submit` does.
        """
        return map_calls(self.submit, fn, iterables, timeout, chunksize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; when those that are there have ended, end the workers.

        Args:
            wait: Return only then. Called back by one of its own futures, it does not wait.
            cancel_futures: Cancel the calls that have not begun.
        """
        self._pool.shut(cancel_futures, wait)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Initializer(NamedTuple):
    function: Callable[..., object]
    args: tuple[Any, ...]


class _Call(NamedTuple):
    """A call on its way."""

    future: Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Pool:
    """What does an executor's work. It outlives the executor until that is done.

    The lock is held for the books alone: never while a future is told something, because that calls
    the user's functions, nor while the session is used.
    """

    def __init__(
        self, session: ProcessSession, most: int, initializer: _Initializer | None
    ) -> None:
        self.session = session
        self._most = most
        self._initializer = initializer
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[_Call] = deque()
        self._busy: dict[str, Future[Any]] = {}
        """By node. Who takes a future out of here has to tell it how it ended."""
        self._free: list[str] = []
        self._started = 0
        self._initialized: set[str] = set()
        self._unfinished = 0
        """How many futures have not been told how they ended."""
        self._broken: tuple[str, str, BaseException] | None = None
        """What to say, which node it was, and what happened to it."""
        self._ended = False
        self._closer: threading.Thread | None = None
        self._close: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._own = threading.local()
        self._pid = os.getpid()

    # Calls come in.

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        if os.getpid() != self._pid:
            raise SessionClosedError(
                f"this executor belongs to process {self._pid}; a forked copy of that cannot use it"
            )
        call = _Call(Future(), function, args, kwargs)
        with self._lock:
            if self._broken is not None:
                raise self._error()
            if self._ended or _exiting:
                what = "interpreter shutdown" if _exiting else "shutdown"
                raise SessionClosedError(f"cannot schedule new futures after {what}")
            if self._closer is None:
                self._closer = threading.Thread(
                    target=self._wait_and_close, name="procession-executor", daemon=True
                )
                self._closer.start()
                _open_pools.add(self)
            self._waiting.append(call)
            self._unfinished += 1
            assigned = self._assign()
        self._begin(assigned)
        return call.future

    def _assign(self) -> list[tuple[str, _Call]]:
        """Calls that a worker is free for, taken out of the line. With the lock."""
        assigned = []
        while self._waiting and (self._free or self._started < self._most):
            call = self._waiting.popleft()
            if not call.future.set_running_or_notify_cancel():
                self._finished()
                continue
            if self._free:
                node = self._free.pop()
            else:
                node = f"worker-{self._started}"
                self._started += 1
            self._busy[node] = call.future
            assigned.append((node, call))
        return assigned

    def _finished(self) -> None:
        """One more future knows how it ended. With the lock."""
        self._unfinished -= 1
        self._changed.notify_all()

    # Calls go out.

    def _begin(self, assigned: list[tuple[str, _Call]]) -> None:
        """Hand calls to the session."""
        # A call may end in here, and make room for the next: one after the other, not one within
        # the other.
        begun = getattr(self._own, "begun", None)
        if begun is not None:
            begun.extend(assigned)
            return
        self._own.begun = assigned
        interrupt = None
        try:
            while assigned:
                interrupt = self._send(*assigned.pop(0)) or interrupt
        finally:
            self._own.begun = None
        if interrupt is not None:
            raise interrupt

    def _send(self, node: str, call: _Call) -> KeyboardInterrupt | None:
        """Hand a call to the session; Ctrl-C, which ends the call, too."""
        initializer = self._initializer
        if initializer is None or node in self._initialized:
            done: Callable[[Future[Any]], None] = partial(self._done, node)
            _, function, args, kwargs = call
        else:
            done = partial(self._is_initialized, node, call)
            function, args, kwargs = *initializer, {}
        if "node" in kwargs:
            # The session would take it for its own.
            function, kwargs = partial(function, **kwargs), {}
        future: Future[Any]
        try:
            future = self.session.submit(function, *args, node=node, **kwargs)
        except BaseException as error:
            interrupt = error if isinstance(error, KeyboardInterrupt) else None
            future = Future()
            future.set_exception(error)
        else:
            interrupt = None
        future.add_done_callback(done)
        return interrupt

    def _is_initialized(self, node: str, call: _Call, done: Future[Any]) -> None:
        error = _error_of(done)
        if error is None:
            self._initialized.add(node)
            self._begin([(node, call)])
        elif _is_death(error):
            self._break(node, error)
        else:
            _LOGGER.critical("Exception in initializer:", exc_info=error)
            self._break(node, error, "its initializer raised ")

    def _done(self, node: str, done: Future[Any]) -> None:
        error = _error_of(done)
        if error is not None and _is_death(error):
            self._break(node, error)
            return
        with self._lock:
            future = self._busy.pop(node, None)
            if future is None:
                return  # the pool is broken
            self._free.append(node)
            assigned = self._assign()
        # The worker comes first: what the user's callbacks do may take long.
        self._begin(assigned)
        with self._telling():
            if error is None:
                future.set_result(done.result())
            else:
                # Where it was raised, the worker's traceback tells; this one's frames have futures.
                future.set_exception(error.with_traceback(None))
        with self._lock:
            self._finished()

    # The end.

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Around calls of the user's callbacks: in there nobody can wait for the end."""
        before = getattr(self._own, "telling", False)
        self._own.telling = True
        try:
            yield
        finally:
            self._own.telling = before

    def _break(self, node: str, error: BaseException, how: str = "") -> None:
        """All calls end, because of what happened to a node."""
        with self._lock:
            if self._broken is not None:
                return
            told = str(error) if isinstance(error, ProcessionError) else describe_exception(error)
            self._broken = f"the pool is broken: {how}{told}", node, error
            running, self._busy = [*self._busy.values()], {}
            waiting, self._waiting = [*self._waiting], deque()
        self.abandon()
        with self._telling():
            for future in running:
                future.set_exception(self._error())
            for call in waiting:
                if call.future.set_running_or_notify_cancel():
                    call.future.set_exception(self._error())
        with self._lock:
            self._unfinished -= len(running) + len(waiting)
            self._changed.notify_all()

    def _error(self) -> BrokenPoolError:
        """What to raise when it is broken: a new one each time."""
        assert self._broken is not None
        text, node, cause = self._broken
        details: dict[str, Any] = {"node": node}
        if isinstance(cause, NodeDiedError):
            details |= vars(cause)
            del details["message"]
        error = BrokenPoolError(text, **details)
        error.__cause__ = cause
        return error

    def shut(self, cancel: bool, wait: bool) -> None:
        """Take no more calls; end when there are none left."""
        cancelled: list[_Call] = []
        with self._lock:
            self._ended = True
            if cancel:
                cancelled.extend(self._waiting)
                self._waiting.clear()
        with self._telling():
            for call in cancelled:
                call.future.cancel()
                call.future.set_running_or_notify_cancel()
        with self._lock:
            self._unfinished -= len(cancelled)
            self._changed.notify_all()
        self.abandon()
        if self._closer is None:
            self.session.close()
        elif wait and not getattr(self._own, "telling", False):
            self._closer.join()

    def abandon(self) -> None:
        """End when there is nothing left to do. Safe in a finalizer, which may come at any time."""
        self._close.put(None)

    def _wait_and_close(self) -> None:
        self._close.get()
        with self._changed:
            while self._unfinished:
                self._changed.wait()
            broken = self._broken is not None
        if broken:
            # Some may be in the middle of calls that nobody waits for.
            self.session._supervisor.kill()
        self.session.close()
        _open_pools.discard(self)

    def join(self) -> None:
        """Wait until it has ended, which it must have been told to do."""
        if self._closer is not None:
            self._closer.join()


def _error_of(done: Future[Any]) -> BaseException | None:
    try:
        return done.exception()
    except CancelledError as error:
        return error


def _is_death(error: BaseException) -> bool:
    """Whether it says that node or session cannot go on; not if the function itself raised it."""
    return isinstance(
        error, (NodeDiedError, SessionClosedError, CancelledError)
    ) and not isinstance(error.__cause__, RemoteTraceback)


# At the interpreter's end, calls are waited for, as for those of other executors.

_open_pools: set[_Pool] = set()
_exiting = False


def _at_exit() -> None:
    global _exiting
    _exiting = True
    pools = list(_open_pools)
    for pool in pools:
        pool.abandon()
    for pool in pools:
        pool.join()


# `atexit` would be too late: by then no thread can be started any more.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)
if hasattr(os, "register_at_fork"):
    # In a forked copy there is nobody to do the work.
    os.register_at_fork(after_in_child=_open_pools.clear)
