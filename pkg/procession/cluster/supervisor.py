"""The workers of a session together: starting them, a run on several at once, the end.

A run ends in one of four ways. Everybody answers; one reports a failure; one dies; or time
runs out. In all but the first the others are called off, which they notice before their next
operation. After a failure or a death the error is raised at once, and what the others still
owe is taken before they are asked again. When time is up they are given `GRACE` seconds, and
who is still busy then is killed: a session that says it works must not hang on its next call.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from procession.blobs import owner
from procession.cluster import blas, logs, placement, worlds
from procession.cluster.channel import Channel, Ears
from procession.cluster.errand import Errand, done_at_once_while
from procession.cluster.incarnation import check_files
from procession.cluster.limits import Limits
from procession.cluster.logs import LogPump
from procession.cluster.node import NodeHandle, listen
from procession.cluster.protocol import Ran
from procession.cluster.serial import Report, dump_program
from procession.compiler.worlds import CommonWorld
from procession.errors import (
    NodeDiedError,
    OutOfSharedMemoryError,
    RunCancelledError,
    RunTimeoutError,
    SessionClosedError,
)
from procession.graph.properties import NodeProperties
from procession.runtime.program import NodeProgram
from procession.runtime.workspace import Workspace

done_at_once_while(logs.are_held)
done_at_once_while(owner.guarded)

PATIENCE = 60_000
"""Nanoseconds for which coordinator and worker spin before they sleep, while a core is free."""
GRACE = 1.0
"""Seconds that a worker has to stop between operators when a run has timed out or is called off."""


class Timeout:
    """How long a run may take, and until when that is.

    Args:
        seconds: None for as long as it takes.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.deadline = None if seconds is None else time.monotonic() + seconds


class Order(Protocol):
    """Who may want a run to end."""

    called_off: bool


class Plan:
    """What is run again and again on the same nodes.

    Args:
        number: Its number, in all workers.
        programs: One per node.
        handles: The nodes' workers, in the same order.
        creates: The common worlds that it creates.
    """

    __slots__ = ("creates", "handles", "looked_at", "number", "parts", "programs")

    def __init__(
        self,
        number: int,
        programs: Sequence[NodeProgram],
        handles: Sequence[NodeHandle],
        creates: Sequence[CommonWorld] = (),
    ) -> None:
        self.number = number
        self.programs = programs
        self.handles = handles
        self.creates = creates
        self.parts = list(zip(handles, programs, strict=True))
        self.looked_at: list[int] | None = None
        """What `NodeHandle.changes` said when the blobs that it reads were there."""


class Supervisor:
    """Owns the workers of one session.

    Safe for several threads, each of which has its turn at the nodes that it uses.

    Args:
        method: How workers are started; None for the default.
        threads_per_node: BLAS threads per worker; None shares the cores out among the nodes.
        memory_limit: Bytes of shared memory per node; None for what the machine has.
        workspace: The class of the nodes' workspaces.
        logs: What passes on what workers print; None has them write to our own files.
        limits: How long things may take.
    """

    def __init__(
        self,
        method: str | None,
        threads_per_node: int | None,
        memory_limit: int | None,
        workspace: type[Workspace],
        logs: LogPump | None,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._logs = logs
        self.tidy: Callable[[str], bool] | None = None
        """What nodes ask to see to their memory when they are quiet."""
        self._method = method
        self._threads = threads_per_node
        self._limit = memory_limit
        self._workspace = workspace
        self._pid = os.getpid()
        self._runs = itertools.count(1)
        self._starting = threading.RLock()
        self._closing = threading.RLock()
        self._cores = blas.cores()
        self._coming: list[NodeHandle] = []
        """Those that are being started."""
        self.nodes: dict[str, NodeHandle] = {}
        """By name, in order of start."""

    def start(
        self, names: Iterable[str], properties: Mapping[str, NodeProperties] | None = None
    ) -> None:
        """Start workers for those of the nodes that have none, all at once.

        Raises:
            NodeDiedError: One of them did not come up; then none of them stays.
            NodePropertyError: A node is to have what the machine cannot give, or what it was not
                started with.
        """
        wanted = properties or {}
        for name, other in wanted.items():
            handle = self.nodes.get(name)
            if handle is not None:
                handle.properties.check_fits(other, name)
        if self.nodes.keys() >= set(names):
            return
        with self._starting:
            new = [name for name in dict.fromkeys(names) if name not in self.nodes]
            unwanted = threading.Event()
            starting = Errand(partial(self._start, new, wanted, unwanted))
            try:
                starting.run()
            except BaseException:
                # By Ctrl-C, it may be: what has been started is ended before anybody hears of it.
                unwanted.set()
                for handle in list(self._coming):
                    handle.life.process.kill()
                with contextlib.suppress(BaseException):
                    starting.run()
                raise

    def _start(
        self,
        names: Sequence[str],
        properties: Mapping[str, NodeProperties],
        unwanted: threading.Event,
    ) -> None:
        for name in names:
            placement.check(name, properties.get(name, NodeProperties()))
        share, shared_out = self._share(len(self.nodes) + len(names))
        started = self._coming = []
        try:
            for name in names:
                if unwanted.is_set():
                    break
                own = properties.get(name, NodeProperties())
                threads = placement.threads(own, share, shared_out)
                started.append(
                    NodeHandle(
                        name,
                        method=self._method,
                        threads=threads,
                        properties=own,
                        environment={} if threads is None else blas.thread_environment(threads),
                        memory_limit=self._limit,
                        workspace=self._workspace,
                        logs=self._logs,
                        tidy=self.tidy,
                        limits=self._limits,
                    )
                )
            if unwanted.is_set():
                raise NodeDiedError("the nodes are not wanted any more")
            for handle in started:
                handle.ready()
                handle.patience = self.patience(1)
            self.nodes.update((handle.name, handle) for handle in started)
        except BaseException as error:
            for handle in started:
                handle.life.kill()
                handle.close(time.monotonic())
            if isinstance(error, OutOfSharedMemoryError) and len(started) < len(names):
                error.node = names[len(started)]
            check_files(names[min(len(started), len(names) - 1)], error)
            raise
        finally:
            self._coming = []
        if shared_out:
            for handle in self.nodes.values():
                handle.threads = placement.threads(handle.properties, share, shared_out)

    def patience(self, nodes: int) -> tuple[int, int]:
        """Nanoseconds for which coordinator and workers may spin while so many nodes are running.

        The coordinator needs a core that no node needs, or at least leaves one to them: then they
        take turns there, and none of them has to wake it. Workers spin when there is one for each.
        """
        if nodes < self._cores:
            return PATIENCE, PATIENCE
        return (PATIENCE if 1 < nodes <= self._cores else 0), 0

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
            RunCancelledError: The same, and this run was called off.
        """
        handles = [self.nodes[name] for name in names]
        alive = [handle for handle in handles if handle.dead is None]
        try:
            for handle in handles:
                handle.settle(timeout.deadline)
        except RunTimeoutError:
            raise self._timed_out(handles, timeout) from None
        except NodeDiedError:
            if any(handle.overdue for handle in alive):
                raise _overdue(alive) from None
            raise

    def run(
        self,
        plan: Plan,
        timeout: Timeout,
        patience: tuple[int, int],
        order: Order,
    ) -> dict[str, dict[str, Any]]:
        """Run programs at once, each on its node; node -> blob -> value of what they hand back.

        The nodes must be settled.

        Args:
            plan: The programs.
            timeout: How long it may take.
            patience: See `patience`.
            order: May say, at any time before all workers have been told, that the run is to end.

        Raises:
            OperatorError, NodeDiedError, RunTimeoutError, SerializationError, ...: Of the
                node that failed first.
            RunCancelledError: It was called off.
            SessionClosedError: The session was closed meanwhile, by another thread.
        """
        number = plan.number
        # What cannot travel is refused before anybody starts.
        shipments = [
            None if handle.has_plan(number) else dump_program(program)
            for handle, program in plan.parts
        ]
        run = next(self._runs)
        deadline = timeout.deadline
        offering = worlds.Offering(plan.creates, plan.handles) if plan.creates else None
        waiting: dict[Channel, NodeHandle] = {}
        answers: dict[NodeHandle, Ran] = {}
        stopped: NodeHandle | None = None
        ears: Ears | None = None
        speaking: Sequence[NodeHandle]
        try:
            if offering is not None:
                offering.make()
            for (handle, program), shipment in zip(plan.parts, shipments, strict=True):
                waiting[handle.channel] = handle
                offered = offering.to(handle.name) if offering is not None else ()
                handle.begin(run, number, program, shipment, deadline, patience, offered)
            if order.called_off:
                self.cancel(waiting.values())
            while waiting:
                speaking = plan.handles
                if len(speaking) > 1 or not speaking[0].channel.spin(patience[0]):
                    if ears is None:
                        ears = Ears(waiting)
                    several = patience[0] if len(plan.handles) > 1 else 0
                    speaking = listen(ears, waiting, deadline, several)
                    if not speaking:
                        raise self._timed_out([*waiting.values()], timeout)
                for handle in speaking:
                    answer = handle.heard(deadline)
                    if answer is None:
                        continue
                    del waiting[handle.channel]
                    if ears is not None:
                        ears.done(handle.channel)
                    answers[handle] = answer
                    if answer.failure is not None:
                        raise Report._make(answer.failure).unpack()
                    if answer.cancelled:
                        stopped = handle
            if stopped is not None:
                # Not before all have: whose nodes these are may use them again.
                raise _called_off(stopped)
        except BaseException as error:
            if isinstance(error, NodeDiedError):
                if any(handle.late for handle in plan.handles):
                    raise self._timed_out(plan.handles, timeout) from None
                if any(handle.overdue for handle in plan.handles):
                    self.cancel(waiting.values())
                    raise _overdue(plan.handles) from None
            # A failure, a death, or the user's Ctrl-C.
            self.cancel(waiting.values())
            for handle, answer in answers.items():
                handle.blobs.drop(answer.outputs)
            raise
        finally:
            if ears is not None:
                ears.close()
            if offering is not None:
                offering.over()
        values = {}
        try:
            while answers:
                handle, answer = answers.popitem()
                values[handle.name] = handle.outputs(answer) if answer.outputs else _NOTHING
        except BaseException:
            for handle, answer in answers.items():
                handle.blobs.drop(answer.outputs)
            raise
        return values

    def _timed_out(self, handles: Sequence[NodeHandle], timeout: Timeout) -> RunTimeoutError:
        """Stop what can be stopped, kill the rest; the error that says so."""
        for handle in handles:
            handle.cancel()
        deadline = time.monotonic() + GRACE
        killed: list[NodeHandle] = []
        for handle in handles:
            try:
                if handle.dead is None:
                    handle.settle(deadline)
                    continue
            except RunTimeoutError:
                handle.killed_for_timeout()
            except NodeDiedError:
                pass
            killed.append(handle)
        names = tuple(handle.name for handle in killed)
        text = f"the run did not end within {timeout.seconds} s; "
        if killed:
            text += (
                f"node {', '.join(map(repr, names))} did not stop within {GRACE:.0f} s more and "
                f"was killed{killed[0].what_next()}"
            )
        else:
            text += "it was stopped between operators, and the session can go on"
        return RunTimeoutError(text, timeout=timeout.seconds, killed=names)

    def cancel(self, handles: Iterable[NodeHandle]) -> None:
        """Call off what runs on these nodes. Safe in any thread."""
        for handle in handles:
            handle.cancel()

    def end(self) -> None:
        """Call off whatever runs, as the session is being closed. Safe in any thread."""
        for handle in [*self.nodes.values(), *self._coming]:
            handle.ending = True
            handle.cancel()

    def kill_overdue(self, handles: Iterable[NodeHandle]) -> None:
        """Kill those that are still busy with a run that was called off. Safe in any thread."""
        for handle in handles:
            handle.kill_overdue()

    def next_run(self) -> int:
        """A number for something else that runs."""
        return next(self._runs)

    def kill(self) -> None:
        """End all workers at once. Safe in any thread: whoever waits for one sees it die."""
        for handle in [*self.nodes.values(), *self._coming]:
            handle.ending = True
            handle.life.process.kill()

    def forget(self, plan: int) -> None:
        """A plan will not be run again. Safe in a finalizer."""
        for handle in list(self.nodes.values()):
            handle.forget(plan)

    def close(self, orderly: bool = True) -> None:
        """End all workers and take all names of memory away. Twice is fine.

        Args:
            orderly: Whether nobody else uses a node at this moment. Otherwise a worker that is at
                work is killed, as some thread may be waiting for its answer.
        """
        if os.getpid() != self._pid:
            return  # a forked copy of the coordinator: the workers are not its own
        with self._closing:
            deadline = time.monotonic() + self._limits.close
            with contextlib.ExitStack() as stack:
                # Whatever goes wrong with one, the others are closed.
                for handle in self.nodes.values():
                    stack.callback(handle.close, deadline)
                # All are told before any is waited for.
                self.end()
                for handle in self.nodes.values():
                    if orderly or not handle.needs_settling():
                        handle.stop(deadline)
                    else:
                        handle.life.process.kill()
            if self._logs is not None:
                self._logs.close()


def _overdue(handles: Sequence[NodeHandle]) -> RunCancelledError:
    """Some did not stop when the run was called off."""
    killed = [handle for handle in handles if handle.overdue]
    for handle in killed:
        with contextlib.suppress(NodeDiedError, RunTimeoutError):
            if handle.dead is None:
                handle.settle(time.monotonic() + GRACE)
    names = tuple(handle.name for handle in killed)
    return RunCancelledError(
        f"the run was called off; node {', '.join(map(repr, names))} did not stop within "
        f"{GRACE:.0f} s and was killed{killed[0].what_next()}",
        killed=names,
    )


def _called_off(handle: NodeHandle) -> Exception:
    if handle.ending:
        return SessionClosedError("the run was called off: the session was closed")
    return RunCancelledError("the run was called off")


_NOTHING: dict[str, Any] = {}
