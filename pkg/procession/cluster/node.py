"""The coordinator's handle on one node: what its worker was told, what it owes, whether it lives.

One question is under way at a time; the session sees to that with a line per node. A question whose
answer was not waited for, because the run was called off or the user pressed Ctrl-C, is owed its
answer (see `conversation`): that is taken, and dropped, before the next question.

What becomes of the worker, and of the next one, is in `life`.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from procession.cluster import board, calls
from procession.cluster.channel import Channel, Ears, EndOfChannel, GarbledMessage, OutOfTime
from procession.cluster.conversation import Conversation
from procession.cluster.life import NodeLife
from procession.cluster.limits import Limits
from procession.cluster.logs import LogPump
from procession.cluster.memory import NodeMemory, take_all
from procession.cluster.protocol import (
    FEED_INTERRUPTED,
    Done,
    Failed,
    Lent,
    Place,
    Ran,
    Ready,
    Reserved,
    Returned,
    Run,
    Start,
    Stop,
    Tidy,
    Value,
)
from procession.cluster.questions import Questions
from procession.cluster.serial import Report
from procession.errors import (
    NodeDiedError,
    RunTimeoutError,
    SessionClosedError,
)
from procession.graph.properties import NodeProperties
from procession.runtime.program import NodeProgram
from procession.runtime.workspace import Workspace

TIDY_WITHIN = 1.0
"""Seconds that a worker has to answer when its memory is seen to; then it is left alone."""


class NodeHandle(NodeLife):
    """One node, seen from the coordinator. Starts its worker at once; `ready` waits for it.

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
        limits: How long it may take.
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
        limits: Limits,
    ) -> None:
        super().__init__(
            Start(name, "", threads, properties or None, workspace),
            method=method,
            environment=environment,
            memory=NodeMemory(name, memory_limit, self._tidy_if_quiet),
            logs=logs,
            limits=limits,
        )
        self._tidy = tidy
        self.properties = properties
        self.runs = 0
        self.plan_bytes = 0
        self.blobs = Questions(
            name, self.memory, self._ask, self._garbled, self._sent, self._abandon
        )
        self._forgotten: deque[int] = deque()
        self._shipping: int | None = None
        self.patience = (0, 0)
        """As for `begin`, for questions about blobs."""
        self._begin_life()

    def _live(self) -> None:
        super()._live()
        self._talk = Conversation(self.channel, self.memory, self._take_in)
        self._shipped: set[int] = set()

    def __repr__(self) -> str:
        return f"<NodeHandle {self.name!r}, pid {self.pid}>"

    def _tidy_if_quiet(self) -> bool:
        return self._tidy is None or self._tidy(self.name)

    def ready(self, deadline: float = math.inf) -> None:
        """Wait until the worker listens.

        Raises:
            RunTimeoutError: It does not by the deadline; it may later.
        """
        if not self._ready:
            limit = time.monotonic() + self._limits.start
            answer = self._receive(min(limit, deadline))
            if answer is None and deadline < limit:
                raise RunTimeoutError(f"node {self.name!r} is still being started")
            if answer is None:
                self.life.kill()
                raise self._death(f"did not start within {self._limits.start:g} s and was killed")
            if isinstance(answer, Failed):
                raise Report._make(answer.report).unpack()
            if not isinstance(answer, Ready):
                raise self._garbled()
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
        offered: tuple[Any, ...] = (),
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
            offered: The common worlds that may be joined in it; see `worlds.Offering`.

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
        self._post(Run(run, plan, shipment, forgotten, self.threads, offered), deadline)
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
        if answer is None or type(answer) is Ran:
            return answer
        raise self._garbled()

    def outputs(self, answer: Ran) -> dict[str, Any]:
        """The values that a run handed back, by blob."""
        assert self._program is not None
        values: dict[str, Any] = {}
        if len(answer.outputs) != len(self._program.outputs):
            raise self._garbled()
        try:
            for name, value in zip(self._program.outputs, answer.outputs, strict=True):
                values[name] = self.blobs.value(value, name)
        except BaseException:
            # Those with a view end when that is garbage.
            self.blobs.drop(answer.outputs[len(values) :])
            raise
        return values

    def cancel(self) -> None:
        """Call off the run that is under way: the worker stops before its next operation.

        Safe in any thread.
        """
        # The board is gone when the node just died.
        try:
            if self._talk.owes():
                self._words[board.CANCEL] = self._run
        except ValueError:
            pass

    def kill_overdue(self) -> None:
        """Kill the worker if it is still busy with a run that was called off."""
        try:
            if self._talk.owes():
                self.overdue = True
                self.life.process.kill()
        except ValueError:
            pass

    def needs_settling(self) -> bool:
        """Whether `settle` has something to do, or to say."""
        return self.closed or self.dead is not None or self._talk.owes()

    def settle(self, deadline: float | None = None) -> None:
        """See that the worker lives, and take, and drop, an answer that is still owed.

        A worker that is dead and may be restarted is.

        Raises:
            RunTimeoutError: The answer does not come by then.
            NodeDiedError: The worker died, now or before.
        """
        if self.closed:
            self.check_not_closed()
        if self.dead is not None:
            if not self.restartable:
                raise self._died_before()
            if self._untold:
                self._untold = False
                text, details = self.dead
                raise NodeDiedError(f"{text}\n  the session can go on{self.what_next()}", **details)
            self._restart()
        if not self._talk.owes():
            return
        if not self._ready:
            self.ready(math.inf if deadline is None else deadline)
            return
        try:
            arrives = self.channel.resume(deadline)
        except BaseException as error:
            self._broken(error)
        while self._talk.owes():
            answer = self._receive(deadline) if arrives else None
            if answer is None:
                raise RunTimeoutError(f"node {self.name!r} is still busy with an earlier run")
            if isinstance(answer, Ran):
                self.blobs.drop(answer.outputs)
            elif isinstance(answer, Value):
                self.blobs.drop([answer.value])
            elif isinstance(answer, (Lent, Returned)):
                for place in answer.places:
                    self.memory.end(Place._make(place).lease)

    def attend(self) -> None:
        """`settle`, in the time that a question about a blob may take.

        Raises:
            RunTimeoutError: It took longer, and the worker was killed.
            NodeDiedError: See `settle`.
        """
        if not self.needs_settling():
            return
        within = self._limits.blob
        try:
            self.settle(time.monotonic() + within)
        except RunTimeoutError:
            raise self._unanswered("an earlier run", within) from None

    def tidy(self) -> None:
        """Tell the worker which leases have ended, and take back what it does not need."""
        try:
            self._post(Tidy(), time.monotonic() + self._limits.blob)
            # Who does not answer, because it was stopped, say, owes that to the next who asks.
            self._receive(time.monotonic() + TIDY_WITHIN)
        except NodeDiedError:
            self.tell_next()  # the janitor tells nobody
            raise

    def tell_next(self) -> None:
        """Nobody has heard of its death: the next who asks does, before it is restarted."""
        self._untold = self.dead is not None

    def call(
        self,
        run: int,
        name: str,
        function: bytes,
        arguments: calls.Packed,
        patience: tuple[int, int],
    ) -> Any:
        """Have the worker call a function; see `Questions.call` and `begin`."""
        self.attend()

        def ask(question: Any, kind: type[Any]) -> Any:
            self._program, self._function = None, name
            self._run, self._running = run, True
            return self._ask(question, kind, patience, None)

        return self.blobs.call(run, name, function, arguments, ask)

    # The channel.

    def _ask(
        self,
        question: Any,
        kind: type[Any],
        patience: tuple[int, int] | None = None,
        within: float | None = 0.0,
    ) -> Any:
        """The answer to a question.

        Args:
            question: What to ask.
            kind: The answer to it, if it is not Failed.
            patience: See `begin`; left out, that for questions about blobs.
            within: Seconds until it must have come, None for as long as it takes; left out, as
                for questions about blobs.
        """
        if within == 0.0:
            within = self._limits.blob
        deadline = None if within is None else time.monotonic() + within
        if self.needs_settling():
            self.settle(deadline)
        above, self._words[board.PATIENCE] = patience or self.patience
        answer = None
        try:
            self._post(question, deadline)
            if self.channel.spin(above):
                answer = self._hear(deadline)
            if answer is None:
                answer = self._receive(deadline)
        except NodeDiedError:
            if not self.late:
                raise
        if answer is None:
            raise self._unanswered(type(question).__name__.lower(), within)
        if type(answer) is not kind:
            if isinstance(answer, Failed):
                raise Report._make(answer.report).unpack()
            raise self._garbled()
        return answer

    def _unanswered(self, what: str, within: float | None) -> RunTimeoutError:
        if self.dead is None:
            self.life.kill()
            self._death(f"did not answer within {within:g} s and was killed")
        return RunTimeoutError(
            f"node {self.name!r} did not answer ({what}) within {within:g} s, which is the "
            f"session's blob_timeout, and was killed{self.what_next()}",
            timeout=within,
            killed=(self.name,),
        )

    def _post(self, question: Any, deadline: float | None = None) -> None:
        if self.dead is not None:
            raise self._died_before()
        try:
            self._talk.ask(question, deadline)
        except BaseException as error:
            self._broken(error)

    def _receive(self, deadline: float | None) -> Any:
        """The worker's next answer, None when it does not come by then."""
        channel = self.channel
        while True:
            with Ears([channel]) as ears:
                if not listen(ears, {channel: self}, deadline):
                    return None
            message = self._hear(deadline)
            if message is not None:
                return message

    def _hear(self, deadline: float | None) -> Any:
        """The answer that is there; None for what is none."""
        try:
            return self._talk.hear(deadline)
        except BaseException as error:
            self._broken(error)

    def _take_in(self, message: Any) -> None:
        """Note what an answer says beside what was asked. It may be told twice."""
        kind = type(message)
        if kind is Ran:
            self._running = False
            self.runs += message.failure is None and not message.cancelled
            if not message.loaded and self._shipping is not None:
                self._shipped.discard(self._shipping)
        elif kind is Returned:
            self._running = False
            self.runs += message.failure is None
            self.memory.take_back(message.returned)
            return
        elif kind is Reserved:
            self.blobs.reserved(message)
            return
        elif kind is not Done:
            return
        if message.appeared or message.vanished:
            if {*map(type, message.appeared), *map(type, message.vanished)} != {str}:
                raise GarbledMessage
            self.names.difference_update(message.vanished)
            self.names.update(message.appeared)
            for name in (*message.appeared, *message.vanished):
                self.torn.pop(name, None)
            self.changes += 1
        if message.returned:
            self.memory.take_back(message.returned)

    def _broken(self, error: BaseException) -> NoReturn:
        """Something went wrong with a message: work out what it means."""
        try:
            raise error
        except GarbledMessage:
            # By a signal handler, say, there may be nothing left to look at.
            self.check_not_closed()
            raise self._garbled() from None
        except EndOfChannel:
            self.check_not_closed()
            died = self._death()
            if self.ending:
                raise SessionClosedError("the run was called off: the session was closed") from None
            raise died from None
        except OutOfTime:
            self.late = True
            self.life.kill()
            raise self._death("did not take or end a message in time, and was killed") from None
        except Exception:
            self.check_not_closed()
            if self.dead is not None:
                # Another thread has seen it die, as when the session is being closed.
                raise self._died_before() from None
            raise

    def _garbled(self) -> NodeDiedError:
        """The worker is not to be relied upon: end it."""
        self.life.kill()
        return self._death("said what is no message of ours, and was killed")

    def _sent(self) -> int:
        # A channel that is closed has no number any more.
        return -1 if self.dead is not None or self.closed else self.channel.sent()

    def _abandon(self, blob: str) -> None:
        """A blob may be half written."""
        if self.dead is None and not self.closed:
            self.names.discard(blob)
            self.torn[blob] = FEED_INTERRUPTED
            self.changes += 1

    def stop(self, deadline: float) -> None:
        """Tell the worker to end, once it has answered what it was asked before."""
        if self.dead is None and not self.closed:
            # If it does not answer, or is found dead, `close` sees to it.
            try:
                self.settle(deadline)
                self._post(Stop(), deadline)
            except (NodeDiedError, RunTimeoutError, SessionClosedError):
                pass


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
