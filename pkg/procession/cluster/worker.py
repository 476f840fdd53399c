"""The worker: a bare loop. Read a message, do it, answer.

The channel is a socket of its own, so nothing that is printed can come between. The loop
ends when it is told to, or when the other end is gone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from procession.blobs.blob import Blob, is_tensor
from procession.blobs.segment import Segment
from procession.blobs.shared import SharedPool
from procession.blobs.snapshot import Array, of_bytes
from procession.cluster import blas, protocol
from procession.cluster.channel import Channel, EndOfChannel
from procession.cluster.protocol import (
    CANCEL,
    Commit,
    Done,
    Failed,
    Feed,
    Fetch,
    Inline,
    Located,
    NeedSegment,
    Payload,
    Pickled,
    Ran,
    Ready,
    Remove,
    Reserve,
    Reserved,
    Run,
    Start,
    Stop,
    Value,
    task_word,
)
from procession.cluster.serial import Report, dumps, loads
from procession.runtime.executor import Executable
from procession.runtime.monitor import Cancelled, Cells
from procession.runtime.operation import interrupt_as_failure


def main(connection: Connection, argument: bytes) -> None:
    """Serve until told to stop. The target of `start_worker`."""
    _Worker(connection, pickle.loads(argument)).serve()


_NOTHING = memoryview(bytes(8 * protocol.TASKS)).cast("Q")


class _Board:
    """The worker's side of the board: a monitor for its runs."""

    def __init__(self, segment: Segment) -> None:
        self._words = memoryview(segment.memory).cast("Q")
        self._called = self._words[CANCEL : CANCEL + 1]
        self._run = 0
        self.stop: list[Any] = []

    def begin(self, run: int) -> None:
        self._run = run
        # Threads that outlived an earlier run keep the list of theirs.
        self.stop = []
        self._words[protocol.RUN] = run
        self._words[protocol.FIRST_TASK :] = _NOTHING

    def check(self) -> None:
        if self.stop or self._called[0] == self._run:
            raise Cancelled

    def cells(self, task: int) -> Cells:
        word = task_word(task)
        return Cells(self._words[word : word + 1], self._called, self._run)


class _Worker:
    def __init__(self, connection: Connection, start: Start) -> None:
        self._channel = Channel(connection)
        self._answering = False
        self._copy = False
        os.register_at_fork(after_in_child=partial(self._be_a_copy, connection))
        self._node = start.node
        self._threads: int | None = None
        self._limit_threads(start.threads)
        self._board = _Board(Segment.attach(start.board, protocol.BOARD_SIZE))
        self._asking = threading.Lock()
        self._pool = SharedPool(self._request_segment)
        self._workspace = start.workspace(node=start.node, pool=self._pool)
        self._plans: dict[int, Executable] = {}
        self._told: set[str] = set()
        self._reserved: tuple[str, Blob, Array] | None = None

    def serve(self) -> None:
        self._send(Ready(os.getpid()))
        answers: dict[type, Any] = {
            Run: self._run,
            Fetch: self._fetch,
            Reserve: self._reserve,
            Commit: self._commit,
            Feed: self._feed,
            Remove: self._remove,
        }
        while True:
            try:
                message = self._channel.receive()
            except EndOfChannel:
                return
            self._answering = True
            for lease in message.ended:
                self._pool.end_lease(lease)
            if isinstance(message, Stop):
                return
            if self._reserved is not None and not isinstance(message, Commit):
                self._reserved[1].discard()
                self._reserved = None
            try:
                answer = answers[type(message)](message)
            except Exception as error:
                answer = Failed(Report.of(error))
            with self._asking:
                self._answering = False
                self._send(answer)

    def _be_a_copy(self, connection: Connection) -> None:
        """In a fork of the worker: there can be only one at this end of the channel."""
        self._copy = True
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, connection.fileno(), inheritable=False)
        os.close(nothing)

    def _send(self, message: Any) -> None:
        if self._copy:
            # An operator forked, and its child came back from the operator.
            os._exit(1)
        # If the coordinator is gone, the next read says so.
        with contextlib.suppress(EndOfChannel):
            self._channel.send(message)

    def _request_segment(self, least: int, preferred: int, returned: Sequence[str]) -> Segment:
        # Tasks of a run are threads; only the main one reads messages, and it waits for them.
        with self._asking:
            if not self._answering:
                raise RuntimeError(
                    f"a thread that outlived its run wants memory on node {self._node!r}: "
                    f"the workspace can only be used while the operator runs"
                )
            self._send(NeedSegment(least, preferred, tuple(returned)))
            answer = self._channel.receive()
        if isinstance(answer, Failed):
            raise answer.report.unpack()
        return Segment.attach(answer.name, answer.size)

    def _limit_threads(self, threads: int | None) -> None:
        if threads is not None and threads != self._threads:
            blas.limit_threads(threads)
            self._threads = threads

    # The questions.

    def _run(self, message: Run) -> Ran:
        self._limit_threads(message.threads)
        for plan in message.forgotten:
            self._plans.pop(plan, None)
        failure: Report | None = None
        cancelled = False
        outputs: tuple[Payload, ...] = ()
        self._board.begin(message.run)
        try:
            if message.program is not None:
                what = f"the program for node {self._node!r}"
                self._plans[message.plan] = Executable(loads(message.program, what))
            executable = self._plans[message.plan]
            executable.run(self._workspace, self._board)
            outputs = self._outputs(executable.program.outputs)
        except Cancelled:
            cancelled = True
        except KeyboardInterrupt as error:
            # Nobody pressed anything here: an operator raised it.
            failure = Report.of(interrupt_as_failure(error), error)
        except BaseException as error:
            failure = Report.of(error)
        for stream in (sys.stdout, sys.stderr):
            # What was printed is out before the answer is. What became of the streams meanwhile
            # is the operators' business.
            with contextlib.suppress(Exception):
                stream.flush()
        loaded = message.plan in self._plans
        return Ran(message.run, outputs, failure, cancelled, loaded, *self._news())

    def _news(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The blobs that appeared and vanished since the coordinator was last told."""
        names = set(self._workspace.own_names())
        appeared, vanished = names - self._told, self._told - names
        self._told = names
        return tuple(appeared), tuple(vanished)

    def _outputs(self, names: Sequence[str]) -> tuple[Payload, ...]:
        payloads: list[Payload] = []
        try:
            for name in names:
                blob = self._workspace.find(name)
                if blob is None:
                    error = self._workspace.not_found(name)
                    error.message += " It was to be handed back as a task output."
                    raise error
                payloads.append(self._payload(name, blob))
        except BaseException:
            for payload in payloads:
                if isinstance(payload, Located):
                    self._pool.end_lease(payload.lease)
            raise
        return tuple(payloads)

    def _payload(self, name: str, blob: Blob) -> Payload:
        value = blob.value
        if not is_tensor(value):
            return Pickled(dumps(value, f"blob {name!r} of node {self._node!r}"))
        if blob.buffer is None or blob.exposed:
            return Inline(value.tobytes(), value.shape, value.dtype)
        buffer = blob.buffer
        lease = self._pool.lease(buffer)
        blob.tell_leased()
        return Located(buffer.segment.name, buffer.offset, value.shape, value.dtype, lease)

    def _fetch(self, message: Fetch) -> Value:
        blob = self._workspace.find(message.name)
        if blob is None:
            raise self._workspace.not_found(message.name)
        return Value(self._payload(message.name, blob))

    def _reserve(self, message: Reserve) -> Reserved:
        blob = self._workspace.make(message.name)
        array = blob.target(message.shape, message.dtype)
        buffer = blob.target_buffer(array)
        self._reserved = (message.name, blob, array)
        return Reserved(buffer.segment.name, buffer.offset)

    def _commit(self, message: Commit) -> Done:
        assert self._reserved is not None
        name, blob, array = self._reserved
        self._reserved = None
        blob.store(array)
        self._workspace.keep(name, blob)
        return Done(*self._news())

    def _feed(self, message: Feed) -> Done:
        blob = self._workspace.make(message.name)
        payload = message.value
        if isinstance(payload, Inline):
            blob.store(of_bytes(payload.data, payload.shape, payload.dtype))
        else:
            assert isinstance(payload, Pickled)
            blob.store(loads(payload.data, f"the value fed to blob {message.name!r}"))
        self._workspace.keep(message.name, blob)
        return Done(*self._news())

    def _remove(self, message: Remove) -> Done:
        self._workspace.remove_blob(message.name)
        return Done(*self._news())
