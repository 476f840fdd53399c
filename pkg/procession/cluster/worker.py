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
from collections import deque
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from procession.blobs.blob import Blob, is_tensor
from procession.blobs.segment import Segment
from procession.blobs.shared import MINIMUM, SharedPool
from procession.blobs.snapshot import Array, of_bytes
from procession.cluster import blas, board, calls, estate, inside, protocol, worlds
from procession.cluster.board import Board, task_word
from procession.cluster.channel import Channel, EndOfChannel, receive_alarm
from procession.cluster.datatypes import pack_dtype, unpack_dtype
from procession.cluster.protocol import (
    FEED_INTERRUPTED,
    Adopt,
    Call,
    Commit,
    Done,
    Failed,
    Feed,
    Fetch,
    Granted,
    Inline,
    Lend,
    Lent,
    Located,
    NeedSegment,
    Payload,
    Pickled,
    Place,
    Ran,
    Ready,
    Remove,
    Reserve,
    Reserved,
    Returned,
    Run,
    Start,
    Stop,
    Tidy,
    Value,
    packed,
    unpacked,
)
from procession.cluster.serial import Report, dumps, loads
from procession.errors import NodePropertyError, OperatorError, OutOfSharedMemoryError
from procession.operators.member import Venue
from procession.runtime.executor import Executable
from procession.runtime.monitor import Cancelled, Cells
from procession.runtime.operation import describe_exception, interrupt_as_failure


def main(connection: Connection, argument: bytes) -> None:
    """Serve until told to stop. The target of `start_worker`."""
    start: Start = pickle.loads(argument)
    inside.enter(start.node)
    # If the coordinator is gone already, there is nobody to tell.
    with contextlib.suppress(EndOfChannel):
        _Worker(connection, start).serve()


class _Monitor:
    """Watches the runs of the worker, by the words of the board."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._called = words[board.CANCEL : board.CANCEL + 1]
        self._run = 0
        self._notes: list[memoryview] = []
        """The words of the tasks that there were so far."""
        self.stop: list[Any] = []

    def begin(self, run: int) -> None:
        self._run = run
        # Threads that outlived an earlier run keep the list of theirs.
        self.stop = []
        # In this order: who dies in between is not taken for one that is in an operation of the
        # run before.
        for note in self._notes:
            note[0] = 0
        self._words[board.RUN] = run

    def check(self) -> None:
        if self.stop or self._called[0] == self._run:
            raise Cancelled

    def cells(self, task: int) -> Cells:
        notes = self._notes
        while len(notes) <= task:
            word = task_word(len(notes))
            notes.append(self._words[word : word + 1])
        return Cells(notes[task], self._called, self._run)


class _Worker:
    def __init__(self, connection: Connection, start: Start) -> None:
        self._board = Board(Segment.attach(start.board, board.BOARD_SIZE).memory)
        self._channel = Channel(connection, self._board, alarm=receive_alarm(connection))
        self._answering = False
        self._copy = False
        os.register_at_fork(after_in_child=partial(self._be_a_copy, connection))
        self._node = start.node
        self._refusal = self._take_place(start)
        self._threads: int | None = None
        self._limit_threads(start.threads)
        if self._refusal is None:
            self._refusal = self._check_threads(start)
        self._monitor = _Monitor(self._board.words)
        self._asking = threading.Lock()
        self._pool = SharedPool(self._request_segment, estate.first_lease(start.estate))
        self._workspace = start.workspace(node=start.node, pool=self._pool)
        self._start = start
        self._plans: dict[int, Executable] = {}
        self._told: set[str] = set()
        self._torn: set[str] = set()
        """The blobs that the coordinator takes for torn."""
        self._reserved: tuple[str, Blob, Array] | None = None
        self._unmapped: list[str] = []
        self._unused: deque[int] = deque()
        """Leases of functions' arguments that have become garbage."""

    def _take_place(self, start: Start) -> NodePropertyError | None:
        if start.properties is None:
            return None
        # Not at the top: few workers need it, and each would have a copy of it.
        from procession.cluster import placement

        try:
            placement.apply(start.node, start.properties)
        except NodePropertyError as error:
            return error
        return None

    def _check_threads(self, start: Start) -> NodePropertyError | None:
        """A BLAS takes fewer threads than it was told to, when these are more than it can have."""
        wanted = None if start.properties is None else start.properties.threads
        given = None if wanted is None else blas.blas_threads()
        if given is None or given == wanted:
            return None
        why = f"its BLAS can use {given} at most"
        error: NodePropertyError = start.properties.refused(
            "threads", why, possible=given, node=start.node
        )
        return error

    def serve(self) -> None:
        if self._refusal is not None:
            self._send(Failed(tuple(Report.of(self._refusal))))
            return
        if self._start.journal is not None:
            try:
                self._begin_journal(self._start)
            except (OutOfSharedMemoryError, OSError) as error:
                self._send(Failed(tuple(Report.of(error))))
                return
        self._send(Ready(os.getpid()))
        answers: dict[type, Any] = {
            Run: self._run,
            Fetch: self._fetch,
            Reserve: self._reserve,
            Commit: self._commit,
            Feed: self._feed,
            Lend: self._lend,
            Adopt: self._adopt,
            Call: self._call,
            Remove: self._remove,
            Tidy: self._tidy,
        }
        channel, unused = self._channel, self._unused
        while True:
            try:
                message, ended = unpacked(channel.receive())
            except EndOfChannel:
                return
            self._answering = True
            for lease in ended:
                self._pool.end_lease(lease)
            while unused:
                self._pool.end_lease(unused.popleft())
            if type(message) is Stop:
                return
            if self._reserved is not None and type(message) is not Commit:
                self._abandon(*self._reserved)
                self._reserved = None
            try:
                answer = answers[type(message)](message)
            except Exception as error:
                answer = Failed(tuple(Report.of(error)))
            with self._asking:
                self._answering = False
                self._send(answer)

    def _begin_journal(self, start: Start) -> None:
        """Have the workspace that the predecessor left, if there was one, and keep a journal."""
        self._answering = True
        assert start.journal is not None
        estate.restore(
            start.journal, start.estate, self._workspace, self._pool, self._request_segment
        )
        if start.estate is not None:
            self._told = set(start.estate.names)
            self._torn = set(start.estate.torn)
        self._answering = False

    def _be_a_copy(self, connection: Connection) -> None:
        """In a fork of the worker: there can be only one at this end of the channel."""
        self._copy = True
        self._workspace.forget_journal()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, connection.fileno(), inheritable=False)
        os.close(nothing)

    def _send(self, message: Any) -> None:
        if self._copy:
            # An operator forked, and its child came back from the operator.
            os._exit(1)
        # If the coordinator is gone, the next read says so.
        with contextlib.suppress(EndOfChannel):
            self._channel.send(packed(message, self._channel.heard()))

    def _request_segment(
        self, least: int, preferred: int, returned: Sequence[str], world: str = ""
    ) -> Segment:
        # Tasks of a run are threads; only the main one reads messages, and it waits for them.
        with self._asking:
            if not self._answering:
                raise RuntimeError(
                    f"a thread that outlived its run wants memory on node {self._node!r}: "
                    f"the workspace can only be used while the operator runs"
                )
            handed_back = (*returned, *self._take_unmapped())
            self._send(NeedSegment(least, preferred, handed_back, world))
            # Spinning would keep other tasks of this process from running.
            answer, _ = unpacked(self._channel.receive(spinning=False))
        if isinstance(answer, Failed):
            raise Report._make(answer.report).unpack()
        assert isinstance(answer, Granted)
        try:
            return Segment.attach(answer.name, answer.size)
        except OutOfSharedMemoryError as error:
            # It is ours, but not mapped: the coordinator is to have it back.
            self._unmapped.append(answer.name)
            error.node = self._node
            raise

    def _take_unmapped(self) -> list[str]:
        unmapped, self._unmapped = self._unmapped, []
        return unmapped

    def _limit_threads(self, threads: int | None) -> None:
        if threads is not None and threads != self._threads:
            blas.limit_threads(threads)
            self._threads = threads

    # The questions.

    def _run(self, message: Run) -> Ran:
        if message.threads != self._threads:
            self._limit_threads(message.threads)
        for plan in message.forgotten:
            self._plans.pop(plan, None)
        failure: Report | None = None
        cancelled = False
        outputs: tuple[Payload, ...] = ()
        self._monitor.begin(message.run)
        places: list[Venue] = []
        workspace = self._workspace
        try:
            if message.worlds:
                places = worlds.places(message.worlds, self._node)
            if places or workspace.has_worlds:
                workspace.worlds.begin(message.run, places, (self._node,))
            if message.program is not None:
                what = f"the program for node {self._node!r}"
                self._plans[message.plan] = Executable(loads(message.program, what))
            executable = self._plans[message.plan]
            executable.run(workspace, self._monitor)
            if workspace.has_worlds:
                workspace.worlds.ended()
            if executable.program.outputs:
                outputs = self._outputs(executable.program.outputs)
        except Cancelled:
            cancelled = True
        except KeyboardInterrupt as error:
            # Nobody pressed anything here: an operator raised it.
            failure = Report.of(interrupt_as_failure(error), error)
        except Exception as error:
            failure = Report.of(error)
        except BaseException as error:
            # sys.exit in what is pickled or unpickled is not to end the coordinator. In an
            # operator it is that operator's error.
            text = f"{describe_exception(error)}\n  raised when the run began or handed back"
            failure = Report.of(OperatorError(text, node=self._node), error)
        if places:
            workspace.worlds.close(places)
        _flush()
        return Ran(
            message.run,
            tuple(map(tuple, outputs)) if outputs else (),
            None if failure is None else tuple(failure),
            cancelled,
            message.plan in self._plans,
            *self._news(),
        )

    def _news(
        self, quiet: bool = False
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """What appeared and vanished since the coordinator was last told, what it gets back."""
        returned = (*self._pool.surplus(quiet=quiet), *self._take_unmapped())
        if self._workspace.own_names() == self._told and not self._torn:
            return (), (), returned
        names = set(self._workspace.own_names())
        # What was torn, and then written and removed, is nothing any more.
        torn = self._torn & self._workspace.torn.keys()
        appeared, vanished = names - self._told, (self._told | self._torn) - torn - names
        self._told, self._torn = names, torn
        return tuple(appeared), tuple(vanished), returned

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
        if blob.buffer is None or blob.exposed or value.nbytes < MINIMUM:
            return Inline(value.tobytes(), value.shape, pack_dtype(value.dtype))
        buffer = blob.buffer
        lease = self._pool.lease(buffer)
        blob.tell_leased()
        dtype = pack_dtype(value.dtype)
        return Located(buffer.segment.name, buffer.offset, value.shape, dtype, lease)

    def _fetch(self, message: Fetch) -> Value:
        blob = self._workspace.find(message.name)
        if blob is None:
            raise self._workspace.not_found(message.name)
        return Value(tuple(self._payload(message.name, blob)))

    def _reserve(self, message: Reserve) -> Reserved:
        blob = self._workspace.make(message.name)
        array = blob.target(message.shape, unpack_dtype(message.dtype))
        buffer = blob.target_buffer(array)
        self._reserved = (message.name, blob, array)
        return Reserved(buffer.segment.name, buffer.offset, blob.in_place(array))

    def _abandon(self, name: str, blob: Blob, array: Array) -> None:
        """A reservation was given up, and its memory may be half written."""
        if blob.in_place(array):
            self._workspace.tear(name, FEED_INTERRUPTED)
            # So that it is news when it is written again.
            self._told.discard(name)
            self._torn.add(name)
        else:
            blob.discard()

    def _commit(self, message: Commit) -> Done:
        assert self._reserved is not None
        name, blob, array = self._reserved
        self._reserved = None
        blob.store(array)
        self._workspace.keep(name, blob)
        return Done(*self._news())

    def _feed(self, message: Feed) -> Done:
        blob = self._workspace.make(message.name)
        payload = protocol.payload(message.value)
        if isinstance(payload, Inline):
            blob.store(of_bytes(payload.data, payload.shape, unpack_dtype(payload.dtype)))
        else:
            assert isinstance(payload, Pickled)
            blob.store(loads(payload.data, f"the value fed to blob {message.name!r}"))
        self._workspace.keep(message.name, blob)
        return Done(*self._news())

    def _remove(self, message: Remove) -> Done:
        self._workspace.remove_blob(message.name)
        return Done(*self._news())

    def _tidy(self, message: Tidy) -> Done:
        return Done(*self._news(quiet=True))

    # Lent buffers, and functions.

    def _place(self, nbytes: int) -> Place:
        lease, buffer = self._pool.reserve(nbytes)
        return Place(buffer.segment.name, buffer.offset, nbytes, lease)

    def _lend(self, message: Lend) -> Lent:
        places: list[Place] = []
        try:
            for nbytes in message.sizes:
                places.append(self._place(nbytes))
        except BaseException:
            for place in places:
                self._pool.end_lease(place.lease)
            raise
        return Lent(tuple(map(tuple, places)))

    def _adopt(self, message: Adopt) -> Done:
        blob = self._workspace.make(message.name)
        blob.take(self._pool.claim(message.lease), message.shape, unpack_dtype(message.dtype))
        self._workspace.keep(message.name, blob)
        return Done(*self._news())

    def _window(self, lease: int) -> memoryview:
        """A lent buffer for a function, given back when nothing looks at it any more."""
        buffer = self._pool.leased(lease)
        end = partial(self._unused.append, lease)
        return calls.window(buffer.segment.memory, buffer.offset, buffer.size, end)

    def _call(self, message: Call) -> Returned:
        self._monitor.begin(message.run)
        failure: Report | None = None
        data, places = b"", []
        leases = deque(message.leases)
        try:
            windows = (self._window(leases.popleft()) for _ in message.leases)
            result = calls.call(message.function, message.arguments, windows)
            for part in result.buffers:
                place = self._place(part.nbytes)
                places.append(place)
                buffer = self._pool.leased(place.lease)
                calls.write(part, buffer.segment.memory, buffer.offset)
            data = result.data
            del result
        except BaseException as error:
            failure = Report.of(error)
            for place in places:
                self._pool.end_lease(place.lease)
            places = []
        # Not all are looked at when something cannot be unpickled.
        self._unused.extend(leases)
        _flush()
        return Returned(
            data,
            tuple(map(tuple, places)),
            None if failure is None else tuple(failure),
            tuple(self._pool.surplus()),
        )


def _flush() -> None:
    """What was printed is out before the answer is."""
    # What became of the streams meanwhile is the operators' business.
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
