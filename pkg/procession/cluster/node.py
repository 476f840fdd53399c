"""The coordinator's handle on one worker: what it was told, what it owes, whether it lives.

One question is under way at a time; the session sees to that with a line per node. A question whose
answer was not waited for, because the run was called off or the user pressed Ctrl-C, is *owed* its
answer: that is taken, and dropped, before the next question. Only an interruption in the
middle of a message cannot be mended: then the worker is ended.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from procession.blobs import snapshot
from procession.blobs.blob import as_value, is_tensor
from procession.blobs.segment import Segment
from procession.blobs.shared import MINIMUM
from procession.blobs.unfinished import Unfinished
from procession.cluster import board, calls, death, protocol
from procession.cluster.board import BOARD_SIZE, Board
from procession.cluster.channel import (
    Channel,
    Ears,
    EndOfChannel,
    GarbledMessage,
    OutOfTime,
    hand_over_alarm,
)
from procession.cluster.datatypes import pack_dtype, unpack_dtype
from procession.cluster.launch import WorkerProcess, start_worker
from procession.cluster.logs import LogPump
from procession.cluster.memory import LARGE_LEASE, NodeMemory, take_all
from procession.cluster.protocol import (
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
from procession.errors import (
    NodeDiedError,
    OutOfSharedMemoryError,
    RunTimeoutError,
    SessionClosedError,
)
from procession.graph.properties import NodeProperties
from procession.runtime.program import NodeProgram
from procession.runtime.workspace import Workspace

WORKER = "procession.cluster.worker:main"
"""What a worker process runs."""
READY_WITHIN = 60.0
"""Seconds in which a worker must have started."""


class NodeHandle:
    """One worker process, seen from the coordinator. Starts it at once; `ready` waits for it.

    Args:
        name: The node's name.
        method: How to start the process; None for the default.
        threads: The cap on its BLAS threads; None leaves them alone.
        properties: What else its node is to have.
        environment: Variables for the process, on top of this process's own.
        memory_limit: Bytes of shared memory for its blobs; None for what the machine has.
        workspace: The class of its workspace; the worker imports it.
        logs: What passes on what it prints; None has it write to our own files.
        tidy: A method that does `NodeHandle.tidy` when nobody else is asking; see `NodeMemory`.
    """

    def __init__(
        self,
        name: str,
        *,
        method: str | None,
        threads: int | None,
        properties: NodeProperties,
        environment: Mapping[str, str],
        memory_limit: int | None,
        workspace: type[Workspace],
        logs: LogPump | None,
        tidy: Callable[[str], bool] | None,
    ) -> None:
        self.name = name
        self._logs = logs
        self._tidy = tidy
        self.properties = properties
        self.names: set[str] = set()
        """The blobs of its global workspace, as of its last answer."""
        self.changes = 0
        """How often these have changed."""
        self.runs = 0
        self.plan_bytes = 0
        self.threads = threads
        """The cap on BLAS threads; a change reaches the worker with its next run."""
        # What was raised, not the error itself: its traceback would keep the user's frames.
        self.dead: tuple[str, dict[str, Any]] | None = None
        self.closed = False
        self.ending = False
        """Whether the session is ending it, so that its death is no news."""
        self.late = False
        """Whether it was killed because a message took too long."""
        self.memory = NodeMemory(name, memory_limit, self._tidy_if_quiet)
        self._forgotten: deque[int] = deque()
        self._shipped: set[int] = set()
        self._program: NodeProgram | None = None
        self._function = ""
        self._run = 0
        self._shipping: int | None = None
        self.patience = (0, 0)
        """As for `begin`, for questions about blobs."""
        self._owed = False
        self._running = False
        self._ready = False
        self.channel: Any = None
        self._segment = Segment.create(BOARD_SIZE)
        self._board = Board(self._segment.memory)
        self._words = self._board.words
        start = Start(name, self._segment.name, threads, properties or None, workspace)
        try:
            with contextlib.nullcontext((1, 2)) if logs is None else logs.add(name) as files:
                self.process: WorkerProcess = start_worker(
                    WORKER,
                    pickle.dumps(start),
                    method=method,
                    environment=environment,
                    stdout=files[0],
                    stderr=files[1],
                )
        except BaseException:
            self._drop_memory()
            raise
        connection, alarm = self.process.connection, None
        try:
            # A worker that has died at once has no use for it; `ready` will tell how.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                alarm = hand_over_alarm(connection)
        except BaseException:
            self.process.kill()
            self.process.close()
            self._drop_memory()
            raise
        self.channel = Channel(connection, self._board, self.process.sentinel, alarm)

    def __repr__(self) -> str:
        return f"<NodeHandle {self.name!r}, pid {self.pid}>"

    def _tidy_if_quiet(self) -> bool:
        return self._tidy is None or self._tidy(self.name)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self.process.pid

    def ready(self) -> None:
        """Wait until the worker listens."""
        if not self._ready:
            answer = self._receive(time.monotonic() + READY_WITHIN)
            if answer is None:
                self.kill()
                raise self._death(f"did not start within {READY_WITHIN:.0f} s and was killed")
            if isinstance(answer, Failed):
                raise Report._make(answer.report).unpack()
            assert isinstance(answer, Ready)
            self._ready = True

    # Runs.

    def begin(
        self,
        run: int,
        plan: int,
        program: NodeProgram,
        shipment: bytes | None,
        deadline: float | None,
        patience: tuple[int, int],
    ) -> None:
        """Have the worker run a program; `heard` takes the answer.

        Args:
            run: The number of this run, never used before.
            plan: The program's number.
            program: The program, for messages.
            shipment: Its bytes if the worker does not have it (see `has_plan`).
            deadline: Until when all of that must have been sent.
            patience: Nanoseconds for which the coordinator will spin for the answer, and the worker
                when it has given it.

        Raises:
            NodeDiedError: The worker is dead, or was killed because it did not take the message.
        """
        self._program, self._run = program, run
        self._shipping = None if shipment is None else plan
        self._running = True
        forgotten: tuple[int, ...] = ()
        if self._forgotten:
            forgotten = take_all(self._forgotten)
            self._shipped.difference_update(forgotten)
        self._words[board.PATIENCE] = patience[1]
        self._post(Run(run, plan, shipment, forgotten, self.threads), deadline)
        if shipment is not None:
            # Not before: who was interrupted on the way here ships it again.
            self._shipped.add(plan)
            self.plan_bytes += len(shipment)

    def has_plan(self, plan: int) -> bool:
        """Whether the plan was shipped to the worker."""
        return plan in self._shipped

    def forget(self, plan: int) -> None:
        """That plan will not be run again. May be called at any time, even by a finalizer."""
        if plan in self._shipped:
            self._forgotten.append(plan)

    def heard(self, deadline: float | None) -> Ran | None:
        """Take what the worker has to say: the answer to `begin`, or None if it was something else.

        Only when `listen` gave this handle: it waits for no more than the rest of a message.

        Raises:
            NodeDiedError: The worker died.
        """
        answer = self._hear(deadline)
        assert answer is None or isinstance(answer, Ran)
        return answer

    def outputs(self, answer: Ran) -> dict[str, Any]:
        """The values that a run handed back, by blob."""
        assert self._program is not None
        values: dict[str, Any] = {}
        try:
            for name, value in zip(self._program.outputs, answer.outputs, strict=True):
                values[name] = self._value(value, name)
        except BaseException:
            # Those with a view end when that is garbage.
            self.drop(answer.outputs[len(values) :])
            raise
        return values

    def cancel(self) -> None:
        """Call off the run that is under way: the worker stops before its next operation.

        Safe in any thread.
        """
        if self._owed:
            # The board is gone when the node just died.
            with contextlib.suppress(ValueError):
                self._words[board.CANCEL] = self._run

    def needs_settling(self) -> bool:
        """Whether `settle` has something to do, or to say."""
        return self._owed or self.closed or self.dead is not None

    def settle(self, deadline: float | None = None) -> None:
        """Take, and drop, an answer that is still owed.

        Raises:
            RunTimeoutError: It does not come by then.
            NodeDiedError: The worker died, now or before.
        """
        if self.dead is not None or self.closed:
            self.check_alive()
            self.check_not_closed()
        if self._owed:
            answer = self._receive(deadline)
            if answer is None:
                raise RunTimeoutError(f"node {self.name!r} is still busy with an earlier run")
            if isinstance(answer, Ran):
                self.drop(answer.outputs)
            elif isinstance(answer, Value):
                self.drop([answer.value])
            elif isinstance(answer, (Lent, Returned)):
                for place in answer.places:
                    self.memory.end(Place._make(place).lease)

    def drop(self, values: Sequence[tuple[Any, ...]]) -> None:
        """Let go of values that a run handed back and nobody has looked at."""
        for value in values:
            payload = protocol.payload(value)
            if isinstance(payload, Located):
                self.memory.end(payload.lease)

    # Blobs.

    def fetch(self, name: str) -> Any:
        """A blob's value."""
        answer = self._ask(Fetch(name))
        assert isinstance(answer, Value)
        return self._value(answer.value, name)

    def feed(self, name: str, value: Any) -> None:
        """Give a blob a value: a large tensor's bytes are written into the worker's own memory."""
        value = as_value(value, name)
        if is_tensor(value) and value.nbytes >= MINIMUM:
            answer = self._ask(Reserve(name, value.shape, pack_dtype(value.dtype)))
            assert isinstance(answer, Reserved)
            target = self.memory.target(answer.segment, answer.offset, value.shape, value.dtype)
            np.copyto(target, value)
            self._ask(Commit())
        elif is_tensor(value):
            inline = Inline(value.tobytes(), value.shape, pack_dtype(value.dtype))
            self._ask(Feed(name, tuple(inline)))
        else:
            what = f"the {type(value).__name__} fed to blob {name!r}"
            self._ask(Feed(name, tuple(Pickled(dumps(value, what)))))

    def remove(self, name: str) -> None:
        """Remove a blob."""
        self._ask(Remove(name))
        self.memory.tidy_soon()

    def lend(self, sizes: Sequence[int]) -> list[Place]:
        """Buffers of so many bytes that no blob owns, leased to us."""
        answer = self._ask(Lend(tuple(sizes)))
        assert isinstance(answer, Lent)
        return [Place._make(place) for place in answer.places]

    def draft(self, nbytes: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """An array of so many bytes to be filled. Its `buffer` is the lease to `adopt` it by."""
        (place,) = self.lend([nbytes])
        draft = self.memory.draft(place.segment, place.offset, shape, dtype, place.lease)
        draft.buffer = place.lease
        return draft

    def adopt(self, name: str, lease: int, shape: tuple[int, ...], dtype: Any) -> None:
        """Make a lent buffer the value of a blob."""
        self._ask(Adopt(name, lease, shape, pack_dtype(dtype)))

    def tidy(self) -> None:
        """Tell the worker which leases have ended, and take back what it does not need."""
        self._ask(Tidy())

    def _value(self, value: tuple[Any, ...], name: str) -> Any:
        payload = protocol.payload(value)
        if isinstance(payload, Located):
            return self.memory.view(payload, unpack_dtype(payload.dtype))
        if isinstance(payload, Inline):
            dtype = unpack_dtype(payload.dtype)
            return snapshot.of_bytes(payload.data, payload.shape, dtype)
        what = f"blob {name!r} of node {self.name!r}"
        found = loads(payload.data, what)
        return snapshot.of_copy(found) if isinstance(found, np.ndarray) else found

    # Functions.

    def call(
        self,
        run: int,
        name: str,
        function: bytes,
        arguments: calls.Packed,
        patience: tuple[int, int],
    ) -> Any:
        """Have the worker call a function; what it returns.

        Args:
            run: The number of this call among the runs.
            name: The function's, for messages.
            function: By cloudpickle.
            arguments: What it is called with.
            patience: See `begin`.

        Raises:
            BaseException: Whatever the function raises.
            NodeDiedError, SerializationError, OutOfSharedMemoryError: On the way there or back.
        """
        self.settle()
        places = self.lend(arguments.sizes) if arguments.buffers else []
        try:
            for buffer, place in zip(arguments.buffers, places, strict=True):
                calls.write(buffer, self.memory.whole(place.segment), place.offset)
        except BaseException:
            for place in places:
                self.memory.end(place.lease)
            raise
        self._program, self._function, self._run, self._running = None, name, run, True
        leases = tuple(place.lease for place in places)
        answer = self._ask(Call(run, function, arguments.data, leases), patience)
        assert isinstance(answer, Returned)
        results = [Place._make(place) for place in answer.places]
        if any(place.nbytes >= LARGE_LEASE for place in (*places, *results)):
            self.memory.tidy_soon()
        if answer.failure is not None:
            raise calls.raised(Report._make(answer.failure))
        windows = [self._window(place) for place in results]
        return calls.unpack(answer.data, windows, f"the result of {name}")

    def _window(self, place: Place) -> memoryview:
        """The bytes of a leased buffer that is ours alone."""
        end = partial(self.memory.end, place.lease, place.nbytes)
        whole = self.memory.whole(place.segment)
        return calls.window(whole, place.offset, place.nbytes, end)

    # The channel.

    def _ask(self, question: Any, patience: tuple[int, int] | None = None) -> Any:
        self.settle()
        above, self._words[board.PATIENCE] = patience or self.patience
        self._post(question)
        answer = self._receive(None, above)
        if isinstance(answer, Failed):
            raise Report._make(answer.report).unpack()
        return answer

    def _post(self, question: Any, deadline: float | None = None) -> None:
        if self.dead is not None:
            self.check_alive()
        try:
            self._owed = True
            self.channel.send(packed(question, self.memory.ended()), deadline)
        except BaseException as error:
            self._broken(error)

    def _receive(self, deadline: float | None, patience: int = 0) -> Any:
        """The worker's next answer, None when it does not come by then."""
        channel = self.channel
        while True:
            if not channel.spin(patience):
                with Ears([channel]) as ears:
                    if not listen(ears, {channel: self}, deadline):
                        return None
            message = self._hear(deadline)
            if message is not None:
                return message

    def _hear(self, deadline: float | None) -> Any:
        """The answer that is there; None when the worker asked for memory, which is granted."""
        try:
            message, _ = unpacked(self.channel.take(deadline))
            if type(message) is NeedSegment:
                self.channel.send(packed(self._grant(message)), deadline)
                return None
            self._owed = False
            if type(message) is Ran:
                self._running = False
                self.runs += message.failure is None and not message.cancelled
                if not message.loaded and self._shipping is not None:
                    self._shipped.discard(self._shipping)
            elif type(message) is Returned:
                self._running = False
                self.runs += message.failure is None
                self.memory.take_back(message.returned)
                return message
            elif type(message) is not Done:
                return message
            if message.appeared or message.vanished:
                self.names.difference_update(message.vanished)
                self.names.update(message.appeared)
                self.changes += 1
            if message.returned:
                self.memory.take_back(message.returned)
            return message
        except BaseException as error:
            self._broken(error)

    def _grant(self, wanted: NeedSegment) -> Granted | Failed:
        try:
            segment = self.memory.grant(wanted)
        except OutOfSharedMemoryError as error:
            return Failed(tuple(Report.of(error)))
        return Granted(segment.name, segment.size)

    def _broken(self, error: BaseException) -> NoReturn:
        """What must be done whole was not: half a message would be taken for another."""
        try:
            raise error
        except GarbledMessage:
            self.kill()
            raise self._death("said what is no message, and was killed") from None
        except EndOfChannel:
            self.check_not_closed()
            died = self._death()
            if self.ending:
                raise SessionClosedError("the run was called off: the session was closed") from None
            raise died from None
        except OutOfTime:
            self.late = True
            self.kill()
            raise self._death("did not take or end a message in time, and was killed") from None
        except BaseException:
            if self.closed:
                # By a signal handler meanwhile: there is nothing left to look at.
                if isinstance(error, Exception):
                    self.check_not_closed()
                raise
            self.kill()
            self._death("was in the middle of a message when that was interrupted, and was killed")
            raise

    # Life and death.

    def check_alive(self) -> None:
        """Raise the error of the node's death if it is dead."""
        if self.dead is not None:
            text, details = self.dead
            raise NodeDiedError(
                f"{text}\n  (that was earlier: the node's blobs are gone, and this session cannot "
                f"run on it any more)",
                **details,
            )

    def check_not_closed(self) -> None:
        """Raise when the session was closed, by a signal handler in the middle of a run."""
        if self.closed:
            raise SessionClosedError("the session was closed meanwhile")

    def kill(self) -> None:
        """End the worker at once."""
        self.process.kill()
        self.process.join(10)

    def killed_for_timeout(self) -> None:
        """Kill the worker, and remember why."""
        self.kill()
        self._death("did not stop in time and was killed")

    def _death(self, how: str | None = None) -> NodeDiedError:
        """Work out how the worker died and what it was doing; mark the node dead."""
        # The channel can be at its end a moment before the process is.
        if not self.process.join(5):
            self.kill()
            how = how or "closed its connection and was killed"
        code, doing = self.process.exitcode(), self._was_doing()
        self._finish_logs()
        printed = [] if self._logs is None else self._logs.last_lines(self.name)
        if how is None and self.process.lost:
            code, how = None, "was lost, because its fork server ended"
        text, details = death.describe(self.name, self.pid, code, how, doing, printed, self._ready)
        self.dead = (text, details)
        self._owed = False
        self.names.clear()
        self.changes += 1
        self.process.close()
        self._drop_memory()
        return NodeDiedError(text, **details)

    def _was_doing(self) -> death.Doing:
        if not self._ready:
            return None, None, " before it was ready"
        if not self._running:
            return None, None, ""
        if self._program is None:
            return None, None, f"\n  in function {self._function}"
        return death.in_program(self._program, self._run, self._words)

    def stop(self, deadline: float) -> None:
        """Tell the worker to end, once it has answered what it was asked before."""
        if self.dead is None and not self.closed:
            # If it does not answer, or is found dead, `close` sees to it.
            with contextlib.suppress(NodeDiedError, RunTimeoutError, SessionClosedError):
                self.settle(deadline)
                self._post(Stop())

    def close(self, deadline: float) -> None:
        """See the worker end, kill it at the deadline, and take all names of memory away."""
        if self.closed:
            return
        if self.dead is None:
            try:
                self.process.join(max(0.0, deadline - time.monotonic()))
            finally:
                # However that was left, by Ctrl-C for example, nothing stays.
                self.kill()
                self.process.close()
                self.closed = True
                self._drop_memory()
                self._finish_logs()
        self.closed = True

    def _finish_logs(self) -> None:
        if self._logs is not None:
            self._logs.finish(self.name)

    def _drop_memory(self) -> None:
        if self.channel is not None:
            self.channel.forget_alarm()
        self.memory.close()
        self._board.release()
        self._segment.unlink()
        self._segment.close()


def listen(
    ears: Ears, handles: Mapping[Channel, NodeHandle], deadline: float | None, patience: int = 0
) -> list[NodeHandle]:
    """Those of the handles that have something to say, or have died; none when time is up."""
    try:
        return [handles[channel] for channel in ears.wait(deadline, patience)]
    except (ValueError, EndOfChannel):
        # The board, or the socket, went away under our feet.
        for handle in handles.values():
            handle.check_not_closed()
        raise
