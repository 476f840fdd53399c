"""ProcessSession: a worker process per node."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import psutil

from procession.cluster.launch import resolve_method
from procession.cluster.node import NodeHandle
from procession.cluster.serial import dump_program
from procession.cluster.supervisor import STOP_WITHIN, Supervisor, Timeout
from procession.compiler.compiled import CompiledRunnable
from procession.compiler.lower import Runnable
from procession.errors import BlobNotFoundError, SessionClosedError
from procession.graph.task import LOCAL, Node
from procession.runtime.workspace import WorkspaceView, name_of, not_found
from procession.session.base import NodeStats, Session
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
        nodes: Nodes to start at once; others are started when they are first used.
        start_method: "forkserver" or "spawn"; left out, forkserver where there is one. Workers
            never import the script, so it needs no `if __name__ == "__main__"`.
        threads_per_node: Threads that a worker's BLAS may use. Left out, the cores are shared out
            among the nodes, unless the environment says otherwise (OMP_NUM_THREADS and its like).
        memory_limit: Bytes of shared memory that each node may use for its blobs.
        timeout: Seconds for each run that is not given its own.

    Raises:
        ValueError: An argument that makes no sense.
        NodeDiedError: A worker did not come up.
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
        timeout: float | None = None,
    ) -> None:
        if isinstance(nodes, str):
            raise ValueError(f"nodes is a list of names: [{nodes!r}], not {nodes!r}")
        names = [str(node) for node in nodes]
        for what, value in (
            ("threads_per_node", threads_per_node),
            ("memory_limit", memory_limit),
        ):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{what} is a whole number above 0, not {value!r}")
        super().__init__(timeout)
        self._supervisor = Supervisor(
            resolve_method(start_method), threads_per_node, memory_limit, self.workspace_class
        )
        # Also for a session that is dropped without a word, and at the interpreter's end.
        self._end = weakref.finalize(self, self._supervisor.close)
        self._plans: weakref.WeakKeyDictionary[CompiledRunnable, int] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._supervisor.start(names)

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

    def _run(self, compiled: CompiledRunnable, timeout: float | None) -> dict[str, dict[str, Any]]:
        until = Timeout(timeout)
        self._supervisor.start(compiled.nodes)
        self._supervisor.settle(compiled.nodes, until)
        self._check_reads(compiled.programs)
        plan = self._plans.get(compiled)
        if plan is None:
            plan = self._plans[compiled] = next(self._numbers)
            # By a weak reference: a compiled runnable may outlive many sessions.
            forget = weakref.WeakMethod(self._supervisor.forget)
            weakref.finalize(compiled, _call, forget, plan).atexit = False
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # What was printed here before the run stands before what the run prints.
            sys.stdout.flush()
        return self._supervisor.run(plan, compiled.programs, until)

    def _names(self, node: str) -> Any:
        handle = self._supervisor.nodes.get(node)
        return () if handle is None else handle.names

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
        return RemoteWorkspace(self, str(node))

    def stats(self) -> dict[str, NodeStats]:
        """What each node has used so far. A node that died has zeros where its process is asked."""
        with self._alone():
            self._check_open()
            return {name: _stats(handle) for name, handle in self._supervisor.nodes.items()}

    def _check_open(self) -> None:
        super()._check_open()
        if os.getpid() != self._pid:
            raise SessionClosedError(
                f"this session belongs to process {self._pid}; a forked copy of that cannot use it"
            )

    def _close(self) -> None:
        if os.getpid() != self._pid:
            return  # the workers are the original's
        # A run in another thread is called off; if it will not stop, its workers are ended.
        self._supervisor.cancel()
        locked = self._lock.acquire(timeout=STOP_WITHIN)
        if not locked or self._busy:
            # Busy, and yet the lock is ours: a signal handler closes in the middle of a run.
            self._supervisor.kill()
        if not locked:
            self._lock.acquire()
        try:
            self._supervisor.close()
            self._end.detach()
        finally:
            self._lock.release()


def _call(method: weakref.WeakMethod[Any], plan: int) -> None:
    alive = method()
    if alive is not None:
        alive(plan)


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
    )


class RemoteWorkspace(WorkspaceView):
    """A node's global workspace, seen from the coordinator."""

    def __init__(self, session: ProcessSession, node: str) -> None:
        self._session = session
        self.node = node

    @contextlib.contextmanager
    def _used(self, start: bool = False) -> Iterator[NodeHandle | None]:
        """The node's worker, ready to be asked; None when it was not started and need not be."""
        session = self._session
        with session._alone():
            session._check_open()
            if start:
                session._supervisor.start([self.node])
            handle = session._supervisor.nodes.get(self.node)
            if handle is not None:
                handle.settle()
            yield handle

    def names(self) -> list[str]:
        with self._used() as handle:
            return [] if handle is None else sorted(handle.names)

    def has_blob(self, name: Any) -> bool:
        with self._used() as handle:
            return handle is not None and name_of(name) in handle.names

    def fetch_blob(self, name: Any) -> Any:
        with self._used() as handle:
            return self._having(handle, name).fetch(name_of(name))

    def feed_blob(self, name: Any, value: Any) -> None:
        with self._used(start=True) as handle:
            assert handle is not None
            handle.feed(name_of(name), value)

    def remove_blob(self, name: Any) -> None:
        with self._used() as handle:
            self._having(handle, name).remove(name_of(name))

    def not_found(self, name: str) -> BlobNotFoundError:
        with self._used() as handle:
            return self._not_found(handle, name)

    def _having(self, handle: NodeHandle | None, name: Any) -> NodeHandle:
        if handle is None or name_of(name) not in handle.names:
            raise self._not_found(handle, name_of(name))
        return handle

    def _not_found(self, handle: NodeHandle | None, name: str) -> BlobNotFoundError:
        error = not_found(
            name,
            self._session._place(self.node),
            () if handle is None else handle.names,
            node=self.node,
            elsewhere=tuple(self._session._owners(name, self.node)),
        )
        error.message += self._session._where_it_went(name, self.node)
        return error

    def __repr__(self) -> str:
        return f"RemoteWorkspace(node={self.node!r})"
