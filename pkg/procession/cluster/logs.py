"""What workers print arrives here: whole lines, each with the name of its node before it.

A worker's standard output and error are pipes. Whatever writes to them, be it Python, a library
or a process that the worker started, is read by the `LogPump` of the session, a thread, and
written to `sys.stdout` and `sys.stderr`, whatever these are at that moment. Lines of different
nodes never mix. Nothing here spins or looks again: the thread sleeps while nobody prints.

Who holds which file
--------------------

    coordinator   the read ends; the write ends while the worker is being started (see `add`)
    worker        the write ends, as 1 and 2; what it starts inherits them

Only the thread reads, and only the thread closes a read end. Forked copies of the coordinator
close all of theirs, so they take no line from anybody, and keep no pipe alive.

Who dies
--------

    a worker         What it wrote stands in the pipe. The thread reads that to the end, ends an
                     unfinished line, and closes the pipe.
    a worker that    The pipe has no end while such a child lives. `finish` takes what is there
    left children    and closes the pipe; a child that writes after that gets SIGPIPE.
    the coordinator  The read ends go with it. A worker that writes gets EPIPE until its lifeline
                     ends it (see `launch`).
    a stream         Closed, None, or a pipe that nobody reads: what it does not take is dropped,
                     and all others are served.
    nobody, but a    The thread waits in its write. Pipes fill, and workers wait in theirs, so
    stream is stuck  memory stays bounded. `drain` and `finish` wait for `PATIENCE` seconds
                     without progress and no longer; at its exit the interpreter waits until all
                     is out, as it would for a `print`.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import contextvars
import fcntl
import os
import re
import select
import selectors
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from procession.cluster import handover
from procession.errors import SessionClosedError

PATIENCE = 2.0
"""Seconds to wait for a stream that takes nothing."""
LONGEST = 1 << 16
"""Characters of a line that are kept back until its end comes; a longer one comes in pieces."""
KEPT = 20
"""Lines of a node that are remembered."""
WIDTH = 500
"""Characters of a line that are remembered."""

_CHUNK = 1 << 16
_PIPE_SIZE = 1 << 18
# What one user's pipes may hold is limited, by default to 64 MiB: others need some, too.
_LARGE_PIPES = 64
_OVERWRITE = re.compile(r"\r(?!\n|\Z)")

# Held while files are opened or closed, and while the process forks, so that a forked copy knows
# of every file that it has to close.
_files = threading.RLock()


def are_held() -> bool:
    """Whether this very thread is opening or closing files."""
    return _files._is_owned()  # type: ignore[attr-defined, no-any-return]


class _Node:
    """What is known of a node's output."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pipes: list[_Pipe] = []
        self.lines: deque[str] = deque(maxlen=KEPT)


class _Pipe:
    """The read end of one pipe, and what was read of a line that has no end yet."""

    def __init__(self, node: _Node, fd: int, error: bool) -> None:
        self.node = node
        self.fd = fd
        self.error = error
        self.prefix = f"[{node.name}] "
        self.open = True
        self.decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
        # The beginning of a line that was not shown, and one that was.
        self.kept: list[str] = []
        self.kept_size = 0
        self._shown = ""
        self.mid_line = False

    def take(self, text: str) -> str:
        """What can be shown after `text` was read; the rest is kept."""
        end = text.rfind("\n") + 1
        if "\r" in text[end:-1] or self.kept_size + len(text) - end > LONGEST:
            # A progress bar, which writes over itself, or a line too long to be kept. A carriage
            # return at the end may be half of a line's end.
            end = len(text) - text.endswith("\r")
        ready = ""
        if end:
            ready = "".join((*self.kept, text[:end]))
            self.kept, self.kept_size = [], 0
        if end < len(text):
            self.kept.append(text[end:])
            self.kept_size += len(text) - end
        return ready

    def take_kept(self, all_of_it: bool) -> str:
        """What was kept; without `all_of_it` not what may be half of a line's end."""
        text = "".join(self.kept)
        half = "\r" if text.endswith("\r") and not all_of_it else ""
        self.kept, self.kept_size = [half] if half else [], len(half)
        return text.removesuffix(half)

    def remember(self, text: str) -> None:
        """Note what is shown, for `last_lines`."""
        self.mid_line = not text.endswith("\n")
        *lines, self._shown = (self._shown + text).rsplit("\n", KEPT + 1)
        if len(lines) > KEPT:
            del lines[0]  # all that came before
        self.node.lines.extend(map(_short, lines))
        self._shown = self._shown.rpartition("\r")[2][: WIDTH + 1]


def _short(line: str) -> str:
    line = line.rstrip("\r").rpartition("\r")[2]
    return line if len(line) <= WIDTH else line[:WIDTH] + "..."


class _Streams:
    """The coordinator's `sys.stdout` and `sys.stderr`, as all pumps write to them."""

    def __init__(self) -> None:
        # Also held while the process forks: a copy in which a thread that is not there holds a
        # stream's own lock could never print.
        self.lock = threading.RLock()
        # Whose line is not at its end, and on which stream.
        self._unfinished: tuple[_Pipe, Any] | None = None

    def show(self, pipe: _Pipe, text: str) -> None:
        """Write lines of a node; the last one may go on with the next call."""
        with self.lock:
            stream = sys.stderr if pipe.error else sys.stdout
            unfinished, self._unfinished = self._unfinished, None
            goes_on = unfinished is not None and unfinished[0] is pipe and unfinished[1] is stream
            if unfinished is not None and not goes_on:
                last = unfinished[1]
                if last is sys.stdout or last is sys.stderr:
                    _write(last, "\n")
            ends = text.endswith("\n")
            body = text[:-1] if ends else text
            prefix = pipe.prefix
            body = body.replace("\n", "\n" + prefix)
            if "\r" in body:
                body = _OVERWRITE.sub(lambda _: "\r" + prefix, body)
            if not goes_on and not body.startswith("\r" + prefix):
                body = prefix + body
            _write(stream, body + "\n" if ends else body)
            if not ends:
                self._unfinished = pipe, stream


def _write(stream: Any, text: str) -> None:
    # Whatever a stream may be, and raise: somebody else's error must not end the pump.
    with contextlib.suppress(BaseException):
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()


_streams = _Streams()


class LogPump:
    """Passes on what the nodes of one session print. All methods may be called in any thread.

    The thread is started with the first node. Files: four, and two per node that lives.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._pipes: set[_Pipe] = set()
        self._writing_ends: set[int] = set()
        self._selector: selectors.BaseSelector | None = None
        self._epoll: select.epoll | None = None
        self._look: Callable[[], Sequence[Any]] | None = None
        self._wake: tuple[int, int] = (-1, -1)
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._thread: threading.Thread | None = None
        self._context = contextvars.Context()
        # What the thread has in its hands: read, and not written.
        self._reading: _Pipe | None = None
        # Those with a line kept back.
        self._keeping: set[_Pipe] = set()
        self._progress = 0
        self._stuck_at = -1
        self._ending = False

    @contextlib.contextmanager
    def add(self, node: str) -> Iterator[tuple[int, int]]:
        """Give a node its pipes. To be used around the start of its worker.

            with pump.add("trainer") as (stdout, stderr):
                process = start_worker(..., stdout=stdout, stderr=stderr)

        The write ends are closed when the block ends: then only the worker has them. When the
        block fails, the node is finished: what a worker said that did not come up is shown.

        Where no thread can be had, as at the interpreter's end, they are our own files.

        Raises:
            OSError: Too many open files.
            SessionClosedError: The pump is closed.
        """
        try:
            self._start()
        except RuntimeError:
            yield 1, 2
            return
        ends = self._open(node)
        try:
            yield ends
        except BaseException:
            self._close_writing_ends(ends)
            self.finish(node)
            raise
        self._close_writing_ends(ends)

    def _open(self, name: str) -> tuple[int, int]:
        node = _Node(name)
        with _files, handover.standard_files(), contextlib.ExitStack() as undo:
            selector = self._selector
            if self._ending or selector is None:
                raise SessionClosedError("the session is closed, and with it the nodes' output")
            ends = []
            for error in (False, True):
                read, write = os.pipe()
                undo.callback(os.close, read)
                undo.callback(os.close, write)
                os.set_blocking(read, False)
                if len(self._pipes) < _LARGE_PIPES and hasattr(fcntl, "F_SETPIPE_SZ"):
                    # Without it, a worker that prints much only waits a little more often.
                    with contextlib.suppress(OSError):
                        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
                node.pipes.append(_Pipe(node, read, error))
                ends.append(write)
            undo.pop_all()
            self._nodes[name] = node
            self._pipes.update(node.pipes)
            self._writing_ends.update(ends)
            for pipe in node.pipes:
                selector.register(pipe.fd, selectors.EVENT_READ, pipe)
        return ends[0], ends[1]

    def _start(self) -> None:
        with _files, contextlib.ExitStack() as undo:
            if self._selector is not None or self._ending:
                return
            self._wake = os.pipe()
            for fd in self._wake:
                undo.callback(os.close, fd)
                os.set_blocking(fd, False)
            selector = selectors.DefaultSelector()
            undo.callback(selector.close)
            selector.register(self._wake[0], selectors.EVENT_READ)
            self._look = partial(selector.select, 0)
            if isinstance(selector, selectors.EpollSelector):
                # The same at half of the cost: whether there is a ready one, and not which.
                # Unlike a poll object it may be asked by several threads at once.
                self._epoll = select.epoll.fromfd(os.dup(selector.fileno()))
            undo.pop_all()
            if self._epoll is not None:
                self._look = partial(self._epoll.poll, 0, 1)
            self._selector = selector
            thread = self._thread = threading.Thread(
                target=self._serve, args=(selector,), name="procession-logs", daemon=True
            )
            _pumps.add(self)
        try:
            # Without the lock: garbage may be collected in the new thread before it is known to
            # run, and the finalizer of another session would wait there for the lock.
            thread.start()
        except BaseException:
            with _files:
                self._thread = None
                self.forget()
            raise

    def _close_writing_ends(self, ends: Iterable[int]) -> None:
        with _files:
            for fd in ends:
                if fd in self._writing_ends:
                    self._writing_ends.remove(fd)
                    os.close(fd)

    def follow(self) -> None:
        """Write in the caller's context (`contextvars`) from now on.

        A notebook tells by it below which of its cells a text belongs. To be called when a run
        begins.
        """
        self._context = contextvars.copy_context()

    def pending(self) -> bool:
        """Whether anybody has printed what may not be out yet: whether to `drain`."""
        look = self._look
        try:
            # In this order: the thread notes what it reads before it reads it.
            return look is not None and bool(look() or self._reading is not None or self._keeping)
        except (OSError, ValueError):
            return False  # closed meanwhile

    def drain(self, *nodes: str) -> None:
        """Return when all that these nodes have printed so far is out.

        To be called after their run has ended, once for all of them: what was printed in a run
        then stands before what comes after `run`, and an unfinished line is shown as far as it
        goes. Costs one system call when nobody has printed, no matter how many nodes there are.
        """
        selector = self._selector
        if selector is None or not self.pending():
            return
        try:
            ready = selector.select(0)
        except (OSError, ValueError):
            return  # closed meanwhile
        reading = self._reading
        wanted = {self._nodes.get(name) for name in nodes}
        pipes = {key.data for key, _ in ready} | {reading} | self._keeping.copy()
        if any(pipe is not None and pipe.node in wanted for pipe in pipes):
            self._order(partial(self._show_all, [node for node in wanted if node is not None]))

    def finish(self, node: str) -> None:
        """Take the last words of a node whose worker is dead, and close its pipes.

        What the worker wrote is out when this returns, an unfinished line too. Twice is fine.
        """
        found = self._nodes.get(node)
        if found is not None and (found.pipes or self._reading is not None):
            self._order(partial(self._finish, [found]))

    def last_lines(self, node: str, n: int = 10) -> list[str]:
        """The last lines that a node wrote, on either stream, in the order in which they came.

        Without the prefix, and long ones cut short; at most `KEPT`. Also after `finish`.
        """
        found = self._nodes.get(node)
        return [] if found is None or n < 1 else list(found.lines)[-n:]

    def close(self) -> None:
        """Finish all nodes, and end the thread. Twice is fine."""
        with _files:
            self._ending = True
        self._order(lambda: None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and not are_held():
            thread.join(0 if self._stuck_at == self._progress else PATIENCE)

    def _order(self, action: Callable[[], None]) -> None:
        """Have the thread do something, and wait for that."""
        done = threading.Event()
        with _files:
            if self._thread is None or self._selector is None:
                return
            self._orders.append((action, done))
            # Full of earlier ones: it wakes all the same.
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake[1], b"\0")
        if threading.current_thread() is self._thread or are_held():
            return  # a finalizer that runs in its midst, or in that of what it may have to wait for
        while True:
            progress = self._progress
            if self._stuck_at == progress or done.wait(PATIENCE):
                return
            if self._progress == progress:
                self._stuck_at = progress

    # In the thread.

    def _serve(self, selector: selectors.BaseSelector) -> None:
        # For others to handle. This one would only delay them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self._ending or self._orders:
                for key, _ in selector.select():
                    if key.data is None:
                        os.read(key.fd, 1 << 12)
                    elif key.data.open:
                        self._read(key.data)
                while self._orders:
                    action, done = self._orders.popleft()
                    action()
                    done.set()
            self._finish(list(self._nodes.values()))
        finally:
            with _files:
                self._ending = True
                self.forget()
            # Whoever came late.
            while self._orders:
                self._orders.popleft()[1].set()

    def _read(self, pipe: _Pipe) -> bool:
        """Read once; whether there may be more."""
        self._reading = pipe
        try:
            try:
                data = os.read(pipe.fd, _CHUNK)
            except BlockingIOError:
                return False
            if not data:
                self._end(pipe)
                return False
            self._show(pipe, pipe.take(pipe.decode(data)))
            if pipe.kept:
                self._keeping.add(pipe)
            else:
                self._keeping.discard(pipe)
        finally:
            self._reading = None
        return True

    def _show(self, pipe: _Pipe, text: str) -> None:
        if text:
            pipe.remember(text)
            self._context.run(_streams.show, pipe, text)
            self._progress += 1

    def _read_all(self, pipe: _Pipe) -> None:
        # What is there at this moment: a process that never stops writing must not keep us here.
        left = _capacity(pipe.fd)
        while left > 0 and pipe.open and self._read(pipe):
            left -= _CHUNK

    def _show_all(self, nodes: Iterable[_Node]) -> None:
        for node in nodes:
            for pipe in list(node.pipes):
                self._read_all(pipe)
                self._reading = pipe
                self._keeping.discard(pipe)
                self._show(pipe, pipe.take_kept(False))
                self._reading = None

    def _finish(self, nodes: Iterable[_Node]) -> None:
        for node in nodes:
            for pipe in list(node.pipes):
                self._read_all(pipe)
                if pipe.open:
                    self._end(pipe)

    def _end(self, pipe: _Pipe) -> None:
        rest = pipe.take_kept(True) + pipe.decode(b"", True)
        self._keeping.discard(pipe)
        if rest or pipe.mid_line:
            self._show(pipe, rest + "\n")
        with _files:
            if pipe.open and self._selector is not None:
                pipe.open = False
                # Before it is closed: a copy of it in a fork would go on waking us.
                self._selector.unregister(pipe.fd)
                os.close(pipe.fd)
        pipe.node.pipes.remove(pipe)
        self._pipes.discard(pipe)

    def forget(self) -> None:
        """Close every file, and take nothing more; with `_files` held."""
        if self._selector is not None:
            self._selector.close()
            if self._epoll is not None:
                self._epoll.close()
            self._selector = self._look = self._epoll = None
            for fd in self._wake:
                os.close(fd)
        for pipe in self._pipes:
            pipe.open = False
            os.close(pipe.fd)
        self._pipes.clear()
        for fd in self._writing_ends:
            os.close(fd)
        self._writing_ends.clear()
        _pumps.discard(self)


def _capacity(fd: int) -> int:
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    return _CHUNK


# Those with files.
_pumps: set[LogPump] = set()


@atexit.register
def _close_all() -> None:
    for pump in list(_pumps):
        pump.close()
        # A thread that is ended in the middle of a write would take the interpreter with it.
        thread = pump._thread
        if thread is not None and thread.is_alive():
            thread.join()


def _hold() -> None:
    # A stream that is stuck must not keep the process from forking.
    _held.append(_streams.lock.acquire(timeout=PATIENCE))
    _files.acquire()


def _release() -> None:
    _files.release()
    if _held.pop():
        _streams.lock.release()


def _be_a_copy() -> None:
    """In a forked copy of the coordinator: the lines are the original's."""
    global _files, _streams
    _held.clear()
    _files, _streams = threading.RLock(), _Streams()
    for pump in list(_pumps):
        pump._thread = None
        pump._ending = True
        pump.forget()


_held: list[bool] = []
os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_be_a_copy)
