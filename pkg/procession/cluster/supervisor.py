"""The workers of a session together: starting them, a run on several at once, the end.

A run ends in one of four ways. Everybody answers; one reports a failure; one dies; or time
runs out. In all but the first the others are called off, which they notice before their next
operation. After a failure or a death the error is raised at once, and what the others still
owe is taken before they are asked again. When time is up they are given `GRACE` seconds, and
who is still busy then is killed: a session that says it works must not hang on its next call.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from procession.cluster import blas
from procession.cluster.node import NodeHandle, listen
from procession.cluster.protocol import Ran
from procession.cluster.serial import dump_program
from procession.errors import NodeDiedError, RunTimeoutError, SessionClosedError
from procession.runtime.program import NodeProgram
from procession.runtime.workspace import Workspace

GRACE = 1.0
"""Seconds that a worker has to stop between operators when a run has timed out."""
STOP_WITHIN = 2.0
"""Seconds that workers have to end by themselves when a session closes."""


class Timeout:
    """How long a run may take, and until when that is.

    Args:
        seconds: None for as long as it takes.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.deadline = None if seconds is None else time.monotonic() + seconds


class Supervisor:
    """Owns the workers of one session. Not safe for several threads: the session has the lock.

    Args:
        method: How workers are started; None for the default.
        threads_per_node: BLAS threads per worker; None shares the cores out among the nodes.
        memory_limit: Bytes of shared memory per node; None for what the machine has.
        workspace: The class of the nodes' workspaces.
    """

    def __init__(
        self,
        method: str | None,
        threads_per_node: int | None,
        memory_limit: int | None,
        workspace: type[Workspace],
    ) -> None:
        self._method = method
        self._threads = threads_per_node
        self._limit = memory_limit
        self._workspace = workspace
        self._pid = os.getpid()
        self._runs = 0
        self._closing = threading.RLock()
        self.nodes: dict[str, NodeHandle] = {}
        """By name, in order of start."""

    def start(self, names: Sequence[str]) -> None:
        """Start workers for those of the nodes that have none, all at once.

        Raises:
            NodeDiedError: One of them did not come up; then none of them stays.
        """
        new = [name for name in dict.fromkeys(names) if name not in self.nodes]
        if not new:
            return
        threads, shared_out = self._share(len(self.nodes) + len(new))
        started: list[NodeHandle] = []
        try:
            for name in new:
                started.append(
                    NodeHandle(
                        name,
                        method=self._method,
                        threads=threads,
                        environment={} if threads is None else blas.thread_environment(threads),
                        memory_limit=self._limit,
                        workspace=self._workspace,
                    )
                )
            for handle in started:
                handle.ready()
        except BaseException:
            for handle in started:
                handle.kill()
                handle.close(time.monotonic())
            raise
        if shared_out:
            for handle in self.nodes.values():
                handle.threads = threads
        self.nodes.update((handle.name, handle) for handle in started)

    def _share(self, nodes: int) -> tuple[int | None, bool]:
        """(the cap for each worker, whether it depends on how many nodes there are)."""
        if self._threads is not None:
            return self._threads, False
        if blas.user_has_chosen(os.environ):
            return blas.user_threads(os.environ), False
        return max(1, blas.cores() // nodes), True

    def settle(self, names: Sequence[str], timeout: Timeout) -> None:
        """Have the nodes ready for a question: alive, and with nothing owed.

        Raises:
            NodeDiedError: One is dead.
            RunTimeoutError: One is still busy with an earlier run, and stays so.
        """
        handles = [self.nodes[name] for name in names]
        try:
            for handle in handles:
                handle.settle(timeout.deadline)
        except RunTimeoutError:
            raise self._timed_out(handles, timeout) from None

    def run(
        self, plan: int, programs: Sequence[NodeProgram], timeout: Timeout
    ) -> dict[str, dict[str, Any]]:
        """Run programs at once, each on its node; node -> blob -> value of what they hand back.

        The nodes must be settled.

        Raises:
            OperatorError, NodeDiedError, RunTimeoutError, SerializationError, ...: Of the
                node that failed first.
            SessionClosedError: The session was closed meanwhile, by another thread.
        """
        handles = [self.nodes[program.node] for program in programs]
        # What cannot travel is refused before anybody starts.
        shipments = [
            None if handle.has_plan(plan) else dump_program(program)
            for handle, program in zip(handles, programs, strict=True)
        ]
        self._runs += 1
        waiting: list[NodeHandle] = []
        answers: dict[NodeHandle, Ran] = {}
        try:
            for handle, program, shipment in zip(handles, programs, shipments, strict=True):
                waiting.append(handle)
                handle.begin(self._runs, plan, program, shipment, timeout.deadline)
            while waiting:
                speaking = listen(waiting, timeout.deadline)
                if not speaking:
                    raise self._timed_out(waiting, timeout)
                for handle in speaking:
                    answer = handle.heard(timeout.deadline)
                    if answer is None:
                        continue
                    waiting.remove(handle)
                    answers[handle] = answer
                    if answer.failure is not None:
                        raise answer.failure.unpack()
                    if answer.cancelled:
                        # Not by this run, which cancels only what it no longer listens to.
                        raise SessionClosedError("the run was called off: the session was closed")
        except BaseException as error:
            if isinstance(error, NodeDiedError) and any(handle.late for handle in handles):
                raise self._timed_out(handles, timeout) from None
            # A failure, a death, or the user's Ctrl-C.
            for handle in waiting:
                handle.cancel()
            for handle, answer in answers.items():
                handle.drop(answer.outputs)
            raise
        values = {}
        try:
            while answers:
                handle, answer = answers.popitem()
                values[handle.name] = handle.outputs(answer)
        except BaseException:
            for handle, answer in answers.items():
                handle.drop(answer.outputs)
            raise
        return values

    def _timed_out(self, handles: Sequence[NodeHandle], timeout: Timeout) -> RunTimeoutError:
        """Stop what can be stopped, kill the rest; the error that says so."""
        for handle in handles:
            handle.cancel()
        deadline = time.monotonic() + GRACE
        killed = []
        for handle in handles:
            try:
                handle.settle(deadline)
            except RunTimeoutError:
                handle.killed_for_timeout()
                killed.append(handle.name)
            except NodeDiedError:
                killed.append(handle.name)
        text = f"the run did not end within {timeout.seconds} s; "
        if killed:
            text += (
                f"node {', '.join(map(repr, killed))} did not stop within {GRACE:.0f} s more and "
                f"was killed: its blobs are gone, and this session cannot run on it any more"
            )
        else:
            text += "it was stopped between operators, and the session can go on"
        return RunTimeoutError(text, timeout=timeout.seconds, killed=tuple(killed))

    def cancel(self) -> None:
        """Call off whatever runs. Safe in any thread."""
        for handle in list(self.nodes.values()):
            handle.cancel()

    def kill(self) -> None:
        """End all workers at once. Safe in any thread: whoever waits for one sees it die."""
        for handle in list(self.nodes.values()):
            handle.ending = True
            handle.process.kill()

    def forget(self, plan: int) -> None:
        """A plan will not be run again. Safe in a finalizer."""
        for handle in list(self.nodes.values()):
            handle.forget(plan)

    def close(self) -> None:
        """End all workers and take all names of memory away. Twice is fine."""
        if os.getpid() != self._pid:
            return  # a forked copy of the coordinator: the workers are not its own
        with self._closing:
            deadline = time.monotonic() + STOP_WITHIN
            with contextlib.ExitStack() as stack:
                # Whatever goes wrong with one, the others are closed.
                for handle in self.nodes.values():
                    stack.callback(handle.close, deadline)
                # All are told before any is waited for.
                self.cancel()
                for handle in self.nodes.values():
                    handle.stop(deadline)
