"""ProcessSession: a worker process per node."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import psutil

from procession.blobs import owner
from procession.blobs.journal import Torn
from procession.blobs.shared import MINIMUM
from procession.blobs.unfinished import Unfinished
from procession.cluster import calls, inside, placement
from procession.cluster.errand import Errand
from procession.cluster.launch import resolve_method
from procession.cluster.limits import Limits
from procession.cluster.logs import LogPump
from procession.cluster.node import NodeHandle
from procession.cluster.serial import dump_program
from procession.cluster.supervisor import Plan, Supervisor, Timeout
from procession.compiler.compiled import CompiledRunnable
from procession.compiler.lower import Runnable
from procession.errors import (
    BlobNotFoundError,
    NodeDiedError,
    RunCancelledError,
    SessionClosedError,
    TornBlobError,
)
from procession.graph.properties import NodeProperties
from procession.graph.task import LOCAL, Node
from procession.runtime.workspace import WorkspaceView, name_of, not_found
from procession.session.base import Session
from procession.session.lines import Turn
from procession.session.overdue import look_again
from procession.session.stats import NodeStats
from procession.session.times import checked_seconds
from procession.session.workspace import Workspace


class ProcessSession(Session):
    """Runs each node in a worker process of its own; tensors stay in shared memory.

    A plan is shipped to a worker once; running it again sends its number. Fetching a tensor
    gives a view of the worker's own memory, and the worker leaves that memory alone for as long
    as the view lives.

        with ProcessSession() as session:
            session.run(group)
            weights = session.workspace("n1").fetch_blob("w")

    Args:
        nodes: Nodes to start at once, by name or as `Node("n1", threads=1, cpus=[0], nice=5)`;
            others are started when they are first used.
        start_method: "forkserver" or "spawn"; left out, forkserver where there is one. Workers
            never import the script, so it needs no `if __name__ == "__main__"`.
        threads_per_node: Threads that a worker's BLAS may use. Left out, the cores are shared out
            among the nodes, unless the environment says otherwise (OMP_NUM_THREADS and its like).
        memory_limit: Bytes of shared memory that each node may use for its blobs.
        log_prefix: Pass on what workers print to `sys.stdout` and `sys.stderr`, line by line, with
            the node's name before it. Otherwise they write to this process's own files.
        timeout: Seconds for each run that is not given its own; left out, as long as it takes.
        start_timeout: Seconds that a worker may take to start.
        blob_timeout: Seconds that a node may take to answer when a blob is fed, fetched or removed.
            One that takes longer is ended.
        close_timeout: Seconds that workers have to end by themselves when the session closes, and
            before that, runs to stop that are under way. Who has not is killed.
        on_node_failure: What becomes of a node whose worker died. "raise": its blobs are gone, and
            it cannot be used any more. "restart": it gets a new worker when it is used next, with
            all blobs of its global workspace but those that are torn, because the worker was
            writing them (see `TornBlobError`). Either way the call that needed the worker raises
            NodeDiedError, and nothing is run again that had begun.
        max_restarts: How often a node is restarted; after that as with "raise".

    Raises:
        ValueError: An argument that makes no sense.
        NodeDiedError: A worker did not come up.
        NodePropertyError: A node is to have what this machine cannot give; see `Node`.
        NestedSessionError: This process is itself a worker.
    """

    workspace_class: ClassVar[type[Workspace]] = Workspace
    """Of what kind the nodes' workspaces are: what a Python operator with `pass_workspace` gets."""

    def __init__(
        self,
        nodes: Iterable[str | Node] = (),
        *,
        start_method: str | None = None,
        threads_per_node: int | None = None,
        memory_limit: int | None = None,
        log_prefix: bool = True,
        timeout: float | None = None,
        start_timeout: float = 60.0,
        blob_timeout: float = 60.0,
        close_timeout: float = 2.0,
        on_node_failure: Literal["raise", "restart"] = "raise",
        max_restarts: int = 3,
    ) -> None:
        inside.check_outside(f"a {type(self).__name__}")
        if isinstance(nodes, str):
            raise ValueError(f"nodes is a list of names: [{nodes!r}], not {nodes!r}")
        properties: dict[str, NodeProperties] = {}
        for node in map(Node, nodes):
            known = properties.get(str(node), NodeProperties())
            properties[str(node)] = known.merged(node.properties)
        for what, value in (
            ("threads_per_node", threads_per_node),
            ("memory_limit", memory_limit),
        ):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{what} is a whole number above 0, not {value!r}")
        if on_node_failure not in ("raise", "restart"):
            raise ValueError(f"on_node_failure is 'raise' or 'restart', not {on_node_failure!r}")
        if not isinstance(max_restarts, int) or max_restarts < 0:
            raise ValueError(f"max_restarts is a whole number, 0 or more, not {max_restarts!r}")
        self._limits = Limits(
            checked_seconds(start_timeout, "start_timeout"),
            checked_seconds(blob_timeout, "blob_timeout"),
            checked_seconds(close_timeout, "close_timeout"),
            max_restarts if on_node_failure == "restart" else 0,
        )
        super().__init__(timeout)
        # What a session that was killed has left, nobody else might remove. Not interrupted, so
        # that the lock of a dead owner is let go of.
        Errand(owner.sweep).run()
        self._logs = LogPump() if log_prefix else None
        self._supervisor = Supervisor(
            resolve_method(start_method),
            threads_per_node,
            memory_limit,
            self.workspace_class,
            self._logs,
            self._limits,
        )
        self._properties: dict[str, NodeProperties] = {}
        """What was said of nodes on which functions are to be called."""
        # Also for a session that is dropped without a word, and at the interpreter's end.
        self._end = weakref.finalize(self, self._supervisor.close, orderly=False)
        # By identity: a weak dictionary would take as long to look into as all the rest.
        self._supervisor.tidy = partial(_tidy, weakref.ref(self))
        self._plans: dict[int, tuple[weakref.ref[CompiledRunnable], Plan]] = {}
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        try:
            self._supervisor.start(properties, properties)
        except BaseException:
            # At once, and not when the garbage is collected in the middle of something else.
            self.close()
            raise

    @classmethod
    def compile(cls, runnable: Runnable | CompiledRunnable) -> CompiledRunnable:
        """Lower and check a runnable, once and for all, and see that it can travel to workers.

        Raises:
            SerializationError: Something in it cannot be pickled: a Python operator's function
                that holds a lock, say. The message names it.
            RunnableTypeError, BlobIsolationError, GraphError: See `Session.compile`.
        """
        compiled = super().compile(runnable)
        for program in compiled.programs:
            if program.carries_objects:
                dump_program(program)
        return compiled

    def _run(
        self, compiled: CompiledRunnable, timeout: float | None, turn: Turn
    ) -> Mapping[str, Mapping[str, Any]]:
        until = Timeout(timeout)
        plan = self._plan(compiled)
        # So that `cancel` also ends those that are still in an earlier run.
        turn.monitor = plan.handles
        changes = []
        for handle in plan.handles:
            if handle.needs_settling():
                self._supervisor.settle(compiled.nodes, until)
            changes.append(handle.changes)
        if not self._open:
            # It was closed while a node was being started.
            self._check_open()
        if plan.looked_at != changes:
            self._check_reads(compiled.programs)
            plan.looked_at = changes
        # What was printed here before the run stands before what the run prints.
        try:  # noqa: SIM105 - `suppress` takes as long as all that is around it
            sys.stdout.flush()
        except (OSError, ValueError, AttributeError):
            pass
        if self._logs is not None:
            self._logs.follow()
        patience = self._supervisor.patience(self._at_work(turn))
        try:
            return self._supervisor.run(plan, until, patience, turn)
        finally:
            self._logs_out(turn.nodes)

    def _at_work(self, turn: Turn) -> int:
        """How many nodes are, at this moment."""
        running = self._lines.running
        if len(running) == 1:
            return len(turn.nodes)
        return sum(len(other.nodes) for other in list(running))

    def _logs_out(self, nodes: Sequence[str]) -> None:
        """What the nodes have printed stands before what the script does next."""
        logs = self._logs
        if logs is not None and logs.pending():
            logs.drain(*nodes)

    def _plan(self, compiled: CompiledRunnable) -> Plan:
        known = self._plans.get(id(compiled))
        if known is not None:
            return known[1]
        self._supervisor.start(compiled.nodes, compiled.properties)
        self._note_first_run(compiled)
        number = next(self._numbers)
        handles = [self._supervisor.nodes[node] for node in compiled.nodes]
        plan = Plan(number, compiled.programs, handles, compiled.worlds)
        # By weak references: a compiled runnable may outlive many sessions.
        forget = partial(_forget, weakref.ref(self), id(compiled), number)
        self._plans[id(compiled)] = weakref.ref(compiled, forget), plan
        return plan

    def _known(self, nodes: Sequence[str | Node]) -> Sequence[str]:
        names = super()._known(nodes)
        for node in nodes:
            if isinstance(node, Node) and node.properties:
                # At once, so that what cannot be had is not remembered.
                placement.check(str(node), node.properties)
                known = self._properties.get(str(node), NodeProperties())
                self._properties[str(node)] = known.merged(node.properties)
        return names

    def _call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Callable[[Turn], Any]:
        packed = calls.PackedFunction.of(function)
        data, arguments = packed.data, calls.pack_arguments(packed.name, args, kwargs)

        def job(turn: Turn) -> Any:
            (node,) = turn.nodes
            self._check_open()
            supervisor = self._supervisor
            supervisor.start(turn.nodes, self._said_of(node))
            self._check_open()
            handle = supervisor.nodes[node]
            try:
                patience = supervisor.patience(self._at_work(turn))
                return handle.call(supervisor.next_run(), packed.name, data, arguments, patience)
            finally:
                self._logs_out(turn.nodes)

        return job

    def _not_told(self, failure: BaseException) -> None:
        names: tuple[str | None, ...] = ()
        if isinstance(failure, NodeDiedError):
            names = (failure.node,)
        elif isinstance(failure, RunCancelledError):
            names = failure.killed
        for name in names:
            handle = self._supervisor.nodes.get(name or "")
            if handle is not None:
                handle.tell_next()

    def _usable(self, node: str) -> bool:
        handle = self._supervisor.nodes.get(node)
        return handle is None or handle.dead is None or handle.restartable

    def _said_of(self, node: str) -> dict[str, NodeProperties]:
        return {node: self._properties[node]} if node in self._properties else {}

    def _tidy(self, node: str) -> bool:
        """See to a node's memory, unless it is busy."""
        turn = Turn((node,))
        try:
            self._lines.enter(turn, timeout=0)
            handle = self._supervisor.nodes.get(node)
            if handle is None:
                return True
            if turn not in self._lines.running or handle.needs_settling():
                return handle.dead is not None or handle.closed
            handle.tidy()
            return True
        finally:
            self._leave(turn)

    def _stop(self, turn: Turn) -> None:
        if not self._is_ours():
            self._check_open()
        self._supervisor.cancel(turn.monitor or ())
        look_again(self._stop_overdue, turn)

    def _stop_overdue(self, turn: Turn) -> None:
        """A run was called off some time ago: end the workers that are in it still."""
        self._lines.call_off(turn, lambda turn: self._supervisor.kill_overdue(turn.monitor or ()))

    def _names(self, node: str) -> Any:
        handle = self._supervisor.nodes.get(node)
        return () if handle is None else handle.names

    def _torn(self, node: str) -> Mapping[str, Torn]:
        handle = self._supervisor.nodes.get(node)
        return {} if handle is None else handle.torn

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that were started, in order of start."""
        return list(self._supervisor.nodes)

    def workspace(self, node: str | Node = LOCAL) -> WorkspaceView:
        """The global workspace of a node. The node is started when something is fed to it.

        Raises:
            SessionClosedError: The session is closed.
        """
        self._check_open()
        return RemoteWorkspace(self, Node(node))

    def stats(self) -> dict[str, NodeStats]:
        """What each node has used so far. A node that died has zeros where its process is asked."""
        self._check_open()
        return {name: _stats(handle) for name, handle in list(self._supervisor.nodes.items())}

    def _check_open(self) -> None:
        if not self._open:
            super()._check_open()
        if os.getpid() != self._pid:
            raise SessionClosedError(
                f"this session belongs to process {self._pid}; a forked copy of that cannot use it"
            )

    def _is_ours(self) -> bool:
        return os.getpid() == self._pid

    def _close(self) -> None:
        # A run in another thread is called off; if it will not stop, its workers are ended.
        self._supervisor.end()
        if self._lines.in_turn() or not self._lines.empty(self._limits.close):
            self._supervisor.kill()
            self._lines.empty()
        self._supervisor.close()
        self._end.detach()


def _tidy(session: weakref.ref[ProcessSession], node: str) -> bool:
    alive = session()
    return alive is None or alive._tidy(node)


def _forget(
    session: weakref.ref[ProcessSession],
    identity: int,
    number: int,
    compiled: weakref.ref[CompiledRunnable],
) -> None:
    """A compiled runnable is garbage."""
    alive = session()
    if alive is not None:
        known = alive._plans.get(identity)
        if known is not None and known[0] is compiled:
            del alive._plans[identity]
        alive._supervisor.forget(number)


def _stats(handle: NodeHandle) -> NodeStats:
    rss, seconds = 0, 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        if handle.dead is None:
            process = psutil.Process(handle.pid)
            rss = process.memory_info().rss
            times = process.cpu_times()
            seconds = times.user + times.system
    return NodeStats(
        pid=handle.pid,
        rss_bytes=rss,
        cpu_seconds=seconds,
        shared_bytes=handle.memory.size,
        runs=handle.runs,
        plan_bytes=handle.plan_bytes,
        bytes_sent=handle.channel.bytes_sent,
        bytes_received=handle.channel.bytes_received,
        restarts=handle.restarts,
    )


class RemoteWorkspace(WorkspaceView):
    """A node's global workspace, seen from the coordinator."""

    def __init__(self, session: ProcessSession, node: Node) -> None:
        self._session = session
        self.node = str(node)
        self._properties = {self.node: node.properties}

    @contextlib.contextmanager
    def _used(self, start: bool = False) -> Iterator[NodeHandle | None]:
        """The node's worker, ready to be asked; None when it was not started and need not be."""
        session = self._session
        with session._turn(self.node):
            if start:
                session._supervisor.start([self.node], self._properties)
                session._check_open()
            handle = session._supervisor.nodes.get(self.node)
            if handle is not None:
                handle.attend()
            yield handle

    def names(self) -> list[str]:
        with self._used() as handle:
            return [] if handle is None else sorted(handle.names)

    def has_blob(self, name: Any) -> bool:
        with self._used() as handle:
            return handle is not None and name_of(name) in handle.names

    def fetch_blob(self, name: Any) -> Any:
        with self._used() as handle:
            return self._having(handle, name).blobs.fetch(name_of(name))

    def feed_blob(self, name: Any, value: Any) -> None:
        with self._used(start=True) as handle:
            assert handle is not None
            handle.blobs.feed(name_of(name), value)

    def _draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < MINIMUM:
            return Unfinished(None, 0, shape, dtype)
        with self._used(start=True) as handle:
            assert handle is not None
            return handle.blobs.draft(nbytes, shape, dtype)

    def _adopt(
        self, name: str, draft: Unfinished, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        with self._used() as handle:
            assert handle is not None
            handle.blobs.adopt(name, draft.buffer, shape, dtype)

    def remove_blob(self, name: Any) -> None:
        with self._used() as handle:
            if handle is None or name_of(name) not in handle.torn:
                handle = self._having(handle, name)
            handle.blobs.remove(name_of(name))

    def not_found(self, name: str) -> BlobNotFoundError | TornBlobError:
        with self._used() as handle:
            return self._not_found(handle, name)

    def _having(self, handle: NodeHandle | None, name: Any) -> NodeHandle:
        if handle is None or name_of(name) not in handle.names:
            raise self._not_found(handle, name_of(name))
        return handle

    def _not_found(self, handle: NodeHandle | None, name: str) -> BlobNotFoundError | TornBlobError:
        error = not_found(
            name,
            self._session._place(self.node),
            () if handle is None else handle.names,
            node=self.node,
            elsewhere=tuple(self._session._owners(name, self.node)),
            torn=self._session._torn(self.node).get(name),
        )
        error.message += self._session._where_it_went(name, self.node)
        return error

    def __repr__(self) -> str:
        return f"RemoteWorkspace(node={self.node!r})"
