"""The coordinator's handle on one worker: what it was told, what it owes, whether it lives.

One question is under way at a time; the session sees to that with its lock. A question whose
answer was not waited for, because the run was called off or the user pressed Ctrl-C, is *owed* its
answer: that is taken, and dropped, before the next question. Only an interruption in the
middle of a message cannot be mended: then the worker is ended.
"""

from __future__ import annotations

import contextlib
import pickle
import select
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from procession.blobs import snapshot
from procession.blobs.blob import as_value, is_tensor
from procession.blobs.segment import Segment
from procession.blobs.shared import MINIMUM
from procession.cluster import protocol
from procession.cluster.channel import Channel, EndOfChannel, OutOfTime, milliseconds_until
from procession.cluster.launch import WorkerProcess, start_worker
from procession.cluster.memory import NodeMemory, take_all
from procession.cluster.protocol import (
    Commit,
    Done,
    Failed,
    Feed,
    Fetch,
    Granted,
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
from procession.errors import (
    NodeDiedError,
    OutOfSharedMemoryError,
    RunTimeoutError,
    SessionClosedError,
)
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
        environment: Variables for the process, on top of this process's own.
        memory_limit: Bytes of shared memory for its blobs; None for what the machine has.
        workspace: The class of its workspace; the worker imports it.
    """

    def __init__(
        self,
        name: str,
        *,
        method: str | None,
        threads: int | None,
        environment: Mapping[str, str],
        memory_limit: int | None,
        workspace: type[Workspace],
    ) -> None:
        self.name = name
        self.names: set[str] = set()
        """The blobs of its global workspace, as of its last answer."""
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
        self.memory = NodeMemory(name, memory_limit)
        self._forgotten: deque[int] = deque()
        self._shipped: set[int] = set()
        self._program: NodeProgram | None = None
        self._run = 0
        self._shipping: int | None = None
        self._owed = False
        self._running = False
        self._ready = False
        self._board = Segment.create(protocol.BOARD_SIZE)
        self._words = memoryview(self._board.memory).cast("Q")
        try:
            self.process: WorkerProcess = start_worker(
                WORKER,
                pickle.dumps(Start(name, self._board.name, threads, workspace)),
                method=method,
                environment=environment,
            )
        except BaseException:
            self._drop_memory()
            raise
        self._channel = Channel(self.process.connection, self.process.sentinel)

    def __repr__(self) -> str:
        return f"<NodeHandle {self.name!r}, pid {self.pid}>"

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
    ) -> None:
        """Have the worker run a program; `heard` takes the answer.

        Args:
            run: The number of this run, never used before.
            plan: The program's number.
            program: The program, for messages.
            shipment: Its bytes if the worker does not have it (see `has_plan`).
            deadline: Until when all of that must have been sent.

        Raises:
            NodeDiedError: The worker is dead, or was killed because it did not take the message.
        """
        self._program, self._run = program, run
        self._shipping = None if shipment is None else plan
        if shipment is not None:
            self._shipped.add(plan)
            self.plan_bytes += len(shipment)
        self._running = True
        forgotten = take_all(self._forgotten)
        self._shipped.difference_update(forgotten)
        question = Run(run, plan, shipment, forgotten, self.threads, self.memory.ended())
        self._post(question, deadline)

    def has_plan(self, plan: int) -> bool:
        """Whether the plan was shipped to the worker."""
        return plan in self._shipped

    def forget(self, plan: int) -> None:
        """That plan will not be run again. May be called at any time, even by a finalizer."""
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
            for name, payload in zip(self._program.outputs, answer.outputs, strict=True):
                values[name] = self._value(payload, name)
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
                self._words[protocol.CANCEL] = self._run

    def settle(self, deadline: float | None = None) -> None:
        """Take, and drop, an answer that is still owed.

        Raises:
            RunTimeoutError: It does not come by then.
            NodeDiedError: The worker died, now or before.
        """
        self.check_alive()
        self.check_not_closed()
        if self._owed:
            answer = self._receive(deadline)
            if answer is None:
                raise RunTimeoutError(f"node {self.name!r} is still busy with an earlier run")
            if isinstance(answer, Ran):
                self.drop(answer.outputs)
            elif isinstance(answer, Value) and isinstance(answer.value, Located):
                self.memory.end(answer.value.lease)

    def drop(self, payloads: Sequence[Payload]) -> None:
        """Let go of values that a run handed back and nobody has looked at."""
        for payload in payloads:
            if isinstance(payload, Located):
                self.memory.end(payload.lease)

    # Blobs.

    def fetch(self, name: str) -> Any:
        """A blob's value."""
        answer = self._ask(Fetch(name, self.memory.ended()))
        assert isinstance(answer, Value)
        return self._value(answer.value, name)

    def feed(self, name: str, value: Any) -> None:
        """Give a blob a value: a large tensor's bytes are written into the worker's own memory."""
        value = as_value(value)
        if is_tensor(value) and value.nbytes >= MINIMUM:
            answer = self._ask(Reserve(name, value.shape, value.dtype, self.memory.ended()))
            assert isinstance(answer, Reserved)
            target = self.memory.target(answer.segment, answer.offset, value.shape, value.dtype)
            np.copyto(target, value)
            self._ask(Commit(self.memory.ended()))
        else:
            payload: Payload
            if is_tensor(value):
                payload = Inline(value.tobytes(), value.shape, value.dtype)
            else:
                payload = Pickled(dumps(value, f"the {type(value).__name__} fed to blob {name!r}"))
            self._ask(Feed(name, payload, self.memory.ended()))

    def remove(self, name: str) -> None:
        """Remove a blob."""
        self._ask(Remove(name, self.memory.ended()))

    def _value(self, payload: Payload, name: str) -> Any:
        if isinstance(payload, Located):
            return self.memory.view(payload)
        if isinstance(payload, Inline):
            return snapshot.of_bytes(payload.data, payload.shape, payload.dtype)
        value = loads(payload.data, f"blob {name!r} of node {self.name!r}")
        return snapshot.of_copy(value) if isinstance(value, np.ndarray) else value

    # The channel.

    def _ask(self, question: Any) -> Any:
        self.settle()
        self._post(question)
        answer = self._receive(None)
        if isinstance(answer, Failed):
            raise answer.report.unpack()
        return answer

    def _post(self, question: Any, deadline: float | None = None) -> None:
        self.check_alive()
        with self._undivided():
            self._owed = True
            self._channel.send(question, deadline)

    def _receive(self, deadline: float | None) -> Any:
        """The worker's next answer, None when it does not come by then."""
        while listen([self], deadline):
            message = self._hear(deadline)
            if message is not None:
                return message
        return None

    def _hear(self, deadline: float | None) -> Any:
        """The answer that is there; None when the worker asked for memory, which is granted."""
        with self._undivided():
            message = self._channel.receive(deadline)
            if isinstance(message, NeedSegment):
                self._channel.send(self._grant(message), deadline)
                return None
            self._owed = False
            if isinstance(message, (Ran, Done)):
                self.names |= set(message.appeared)
                self.names -= set(message.vanished)
            if isinstance(message, Ran):
                self._running = False
                self.runs += message.failure is None and not message.cancelled
                if not message.loaded and self._shipping is not None:
                    self._shipped.discard(self._shipping)
            return message

    def _grant(self, wanted: NeedSegment) -> Granted | Failed:
        try:
            segment = self.memory.grant(wanted)
        except OutOfSharedMemoryError as error:
            return Failed(Report.of(error))
        return Granted(segment.name, segment.size)

    @contextlib.contextmanager
    def _undivided(self) -> Iterator[None]:
        """Around what must be done whole: half a message would be taken for another."""
        try:
            yield
        except EndOfChannel:
            self.check_not_closed()
            death = self._death()
            if self.ending:
                raise SessionClosedError("the run was called off: the session was closed") from None
            raise death from None
        except OutOfTime:
            self.late = True
            self.kill()
            raise self._death("did not take or end a message in time, and was killed") from None
        except BaseException as error:
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
        code = self.process.exitcode()
        name = _signal_name(code)
        task, operator, doing = self._was_doing()
        if how is None and self.process.lost:
            code, how = None, "was lost, because its fork server ended"
        if how is not None:
            text = f"node {self.name!r} (process {self.pid}) {how}{doing}"
        else:
            how = f"ended with exit code {code}" if name is None else f"was killed by {name}"
            text = f"node {self.name!r} (process {self.pid}) {how}{doing}"
            text += "\n  " + _likely_cause(name, self._ready)
        details = {
            "node": self.name,
            "pid": self.pid,
            "exitcode": code,
            "signal": name,
            "task": task,
            "operator": operator,
        }
        self.dead = (text, details)
        self._owed = False
        self.names.clear()
        self.process.close()
        self._drop_memory()
        return NodeDiedError(text, **details)

    def _was_doing(self) -> tuple[str | None, str | None, str]:
        if not self._ready:
            return None, None, " before it was ready"
        if not self._running or self._program is None:
            return None, None, ""
        if self._words[protocol.RUN] != self._run:
            return None, None, " before the run began"
        found = []
        for index, task in enumerate(self._program.all_tasks):
            operation = self._program.operation(self._words[task_word(index)])
            if operation is not None:
                found.append((task.name, operation))
        if not found:
            return None, None, ", between operators"
        text = ""
        for name, operation in found:
            text += f"\n  in task {name!r}, operator {operation} of net {operation.net!r}"
            if operation.source:
                text += f"\n  added at {operation.source}"
        return found[0][0], found[0][1].type, text

    def stop(self, deadline: float) -> None:
        """Tell the worker to end, once it has answered what it was asked before."""
        if self.dead is None and not self.closed:
            # If it does not answer, or is found dead, `close` sees to it.
            with contextlib.suppress(NodeDiedError, RunTimeoutError, SessionClosedError):
                self.settle(deadline)
                self._post(Stop(()))

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
        self.closed = True

    def _drop_memory(self) -> None:
        self.memory.close()
        self._words.release()
        self._board.unlink()
        self._board.close()


def listen(handles: Sequence[NodeHandle], deadline: float | None) -> list[NodeHandle]:
    """Those of the handles that have something to say, or have died; none when time is up."""
    poll = select.poll()
    by_file = {}
    for handle in handles:
        handle.check_not_closed()
        for file in (handle.process.connection.fileno(), handle.process.sentinel):
            poll.register(file, select.POLLIN)
            by_file[file] = handle
    ready = poll.poll(milliseconds_until(deadline))
    return list(dict.fromkeys(by_file[file] for file, _ in ready))


def _signal_name(code: int | None) -> str | None:
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _likely_cause(signal_name: str | None, ready: bool) -> str:
    if signal_name == "SIGKILL":
        return "likely: somebody killed it, or the kernel did because memory ran out"
    if signal_name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        return "likely: a crash in native code that an operator called"
    if signal_name is not None:
        return "likely: somebody sent it that signal"
    if not ready:
        return "likely: it could not import what it needs; its standard error has more"
    return "likely: something that an operator called ended the process"
