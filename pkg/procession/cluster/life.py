"""Life: the worker processes of a node, one after the other; how each dies, and what comes then.

A worker that dies takes its node with it. When the session may *restart* it, the node keeps its
memory, and the next who asks gets a new worker for it; see `estate` for what that one finds.

Whoever has one calls `close` in the end, and again if that was interrupted.
"""

from __future__ import annotations

import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from procession.blobs.journal import Torn
from procession.cluster import death, estate
from procession.cluster.channel import Channel
from procession.cluster.errand import Errand
from procession.cluster.incarnation import Incarnation, check_files
from procession.cluster.limits import Limits
from procession.cluster.logs import LogPump
from procession.cluster.memory import NodeMemory
from procession.cluster.protocol import Start
from procession.cluster.worlds import Seat
from procession.errors import NodeDiedError, SessionClosedError
from procession.runtime.program import NodeProgram

GONE_WITHIN = 1.0
"""Seconds that are waited at most, after a worker's end, for the processes that it started."""


class NodeLife(ABC):
    """What is known of a node, and who works for it.

    Args:
        start: What its workers are told.
        method: How to start the processes; None for the default.
        environment: Variables for them, on top of this process's own.
        memory: The node's memory.
        logs: What passes on what they print; None has them write to our own files.
        limits: How long things may take, and how often there may be a new one.
    """

    def __init__(
        self,
        start: Start,
        *,
        method: str | None,
        environment: Mapping[str, str],
        memory: NodeMemory,
        logs: LogPump | None,
        limits: Limits,
    ) -> None:
        self.name = start.node
        self._start = start
        self._method = method
        self._environment = environment
        self.memory = memory
        self._logs = logs
        self._limits = limits
        self.threads = start.threads
        """The cap on BLAS threads; a change reaches the worker with its next run."""
        self.names: set[str] = set()
        """The blobs of its global workspace, as of its last answer."""
        self.torn: dict[str, Torn] = {}
        """Blobs that were lost half written, and why; until they are written again."""
        self.changes = 0
        """How often these have changed."""
        self.seats: list[Seat] = []
        """Its places in common worlds."""
        self.restarts = 0
        # What was raised, not the error itself: its traceback would keep the user's frames.
        self.dead: tuple[str, dict[str, Any]] | None = None
        self.closed = False
        self.ending = False
        """Whether the session is ending it, so that its death is no news."""
        # What it runs: for the news of its death.
        self._program: NodeProgram | None = None
        self._function = ""
        self._run = 0
        self._untold = False
        """Whether it has died and no caller has heard of that."""
        self._newly_torn: tuple[str, ...] = ()
        """Blobs that were torn when the last worker died."""
        self._estate: estate.Estate | None = None
        """What the last worker left, if it is dead and may be restarted, or was."""
        self._returning: Errand[None] | None = None
        """A restart that is under way."""
        self._ended = False
        """Whether all of `close` is done."""

    def _begin_life(self) -> None:
        """Start the first worker; `ready` waits for it.

        Raises:
            NodeDiedError: There is none.
        """
        try:
            self._live()
        except BaseException:
            self.memory.close()
            raise

    def _live(self) -> None:
        """Have a worker from here on."""
        start = self._start._replace(threads=self.threads, estate=self._estate)
        self.life = Incarnation(
            start,
            method=self._method,
            environment=self._environment,
            logs=self._logs,
            journaled=self._limits.restarts > 0,
            timeout=self._limits.start,
        )
        self.channel: Channel = self.life.channel
        self._words = self.life.words
        self._ready = False
        self.late = False
        """Whether it was killed because a message took too long."""
        self.overdue = False
        """Whether it was killed because it did not stop when its run was called off."""
        self._running = False

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self.life.process.pid

    @abstractmethod
    def ready(self, deadline: float = math.inf) -> None:
        """Wait until the worker listens."""

    @property
    def restartable(self) -> bool:
        """Whether it is dead, and the next who asks gets a new worker."""
        return self.dead is not None and self._estate is not None

    def _died_before(self) -> Exception:
        assert self.dead is not None
        if self.ending:
            return SessionClosedError("the session was closed meanwhile")
        text, details = self.dead
        return NodeDiedError(f"{text}\n  (that was earlier{self.what_next()})", **details)

    def _restart(self) -> None:
        """Have a new worker go on with what the dead one left."""
        # If Ctrl-C comes, it goes on; whoever asks next waits for it.
        self._returning = returning = self._returning or Errand(self._return)
        returning.run()
        self.ready()

    def _return(self) -> None:
        try:
            if self.dead is None:
                return  # it was under way when the last one looked
            # Ctrl-C may have come before all of that was done.
            self.life.kill()
            self.life.close()
            try:
                self._live()
            except BaseException as error:
                check_files(self.name, error)
                raise
            # In this order: no two workers of a node may number their leases alike.
            self.restarts += 1
            self.dead = None
            if self.closed:
                self.life.kill()
                self.life.close()
        finally:
            self._returning = None

    def check_not_closed(self) -> None:
        """Raise when the session was closed, by a signal handler in the middle of a run."""
        if self.closed:
            raise SessionClosedError("the session was closed meanwhile")

    def killed_for_timeout(self) -> None:
        """Kill the worker, and remember why."""
        self.life.kill()
        self._death("did not stop in time and was killed")

    def _death(self, how: str | None = None) -> NodeDiedError:
        """Work out how the worker died and what it was doing; mark the node dead."""
        process = self.life.process
        # The channel can be at its end a moment before the process is.
        if not process.join(5):
            self.life.kill()
            how = how or "closed its connection and was killed"
        if self.overdue:
            how = "did not stop when its run was called off, and was killed"
        for seat in self.seats:
            seat.seats.dead(seat.rank)
        self.seats = []
        code, doing = process.exitcode(), self._was_doing()
        if self._logs is not None:
            self._logs.finish(self.name)
        printed = [] if self._logs is None else self._logs.last_lines(self.name)
        if how is None and process.lost:
            code, how = (
                None,
                "was lost, because its parent (the fork server, or a keeper of its own) ended",
            )
        text, details = death.describe(self.name, self.pid, code, how, doing, printed, self._ready)
        self._settle_estate(text)
        self.dead = (text, details)
        self.changes += 1
        self.life.close()
        if self.restartable:
            details["restarts"], details["torn"] = True, self._newly_torn
            text += f"\n  the session can go on{self.what_next()}"
        return NodeDiedError(text, **details)

    def _settle_estate(self, how: str) -> None:
        """Work out what the dead worker leaves to the next one, if there is to be one."""
        left, torn_before = None, self.torn
        if self.restarts < self._limits.restarts and not self.ending:
            if self._ready:
                left = estate.inherit(
                    node=self.name,
                    journal=self.life.journal,
                    memory=self.memory,
                    generation=self.restarts + 1,
                    words=self._words,
                    run=self._run if self._running else None,
                    program=self._program,
                    pid=self.pid,
                    how=how,
                    names=self.names,
                )
            elif self._estate is not None:
                left = estate.again(self._estate, self.memory)
        self._estate = left
        if left is None:
            self.memory.close()
            self.names, self.torn = set(), {}
        else:
            self.names, self.torn = set(left.names), dict(left.torn)
        new = (name for name, torn in self.torn.items() if torn_before.get(name) != torn)
        self._newly_torn = tuple(sorted(new))

    def what_next(self) -> str:
        """What to add to the news of its death."""
        if not self.restartable:
            return ": the node's blobs are gone, and this session cannot run on it any more"
        text = f": the node is restarted when it is used next, with {len(self.names)} of its blobs"
        if self._newly_torn:
            text += f"; torn: {', '.join(self._newly_torn)}"
        return text

    def _was_doing(self) -> death.Doing:
        if not self._ready:
            return None, None, " before it was ready"
        if not self._running:
            return None, None, ""
        if self._program is None:
            return None, None, f"\n  in function {self._function}"
        return death.in_program(self._program, self._run, self._words)

    def close(self, deadline: float) -> None:
        """See the worker end, kill it at the deadline, and take all names of memory away."""
        if self._ended:
            return
        try:
            returning = self._returning
            if returning is not None:
                # If it takes longer, it ends what it has started by itself.
                with contextlib.suppress(Exception):
                    returning.run(max(0.0, deadline - time.monotonic()) + GONE_WITHIN)
            if self.dead is None and not self.closed:
                self.life.process.join(max(0.0, deadline - time.monotonic()))
        finally:
            # However that was left, by Ctrl-C for example, nothing stays. It may come again in
            # here: all of it is done once more, then, by who closes again.
            self.life.kill()
            self.life.process.gone(GONE_WITHIN)
            self.closed = True
            self.life.close()
            self.memory.close()
            self.seats = []
            if self._logs is not None:
                self._logs.finish(self.name)
        self._ended = True
