"""LocalSession: in this process."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, ClassVar

import numpy as np
import psutil

from procession.blobs.exchange import block_size
from procession.blobs.unfinished import Unfinished
from procession.compiler.compiled import CompiledRunnable
from procession.errors import (
    BlobNotFoundError,
    RunCancelledError,
    SessionClosedError,
    TornBlobError,
)
from procession.graph.task import LOCAL, Node
from procession.operators.member import Venue
from procession.runtime.executor import Executable
from procession.runtime.monitor import Cancelled, Deadline
from procession.runtime.program import NodeProgram
from procession.runtime.run import Failure
from procession.runtime.threads import run_all
from procession.runtime.workspace import Workspace, WorkspaceView, name_of, not_found
from procession.runtime.worlds import Worlds
from procession.session.base import Session
from procession.session.lines import Turn
from procession.session.stats import NodeStats

_LINE = (LOCAL,)
"""The one line in which all runs of a LocalSession stand."""
_numbers = itertools.count(1)
"""The numbers of runs, for common worlds."""
_NO_OFFER: tuple[list[Venue], list[Worlds]] = ([], [])
_running: ContextVar[Session | None] = ContextVar("procession running session", default=None)
"""The LocalSession that runs the code that asks."""


class _Ready(list[Executable]):
    """What runs a compiled runnable. A list that can be referred to weakly."""


class LocalSession(Session):
    """Runs everything in this process, tasks in threads. Caffe2: session.LocalSession.

    All nodes are mapped to this process and share one workspace, as in Caffe2. With `isolate`
    each has its own, and what a `ProcessSession` refuses is refused: a script can be tried
    without processes. What is said of nodes, as in `Node("n1", threads=1)`, has no effect here.

    Args:
        ws: The workspace to use, instead of a new one; it is not emptied when the session
            closes. With `isolate`, that of the node "local".
        isolate: Keep a workspace per node.
    """

    isolates: ClassVar[bool] = False

    def __new__(cls, ws: Workspace | None = None, *, isolate: bool = False) -> LocalSession:
        """Make an `IsolatedLocalSession` where that is asked for."""
        # What `compile` refuses is a matter of the class, as it is a classmethod.
        chosen = IsolatedLocalSession if isolate and cls is LocalSession else cls
        return object.__new__(chosen)

    def __init__(self, ws: Workspace | None = None, *, isolate: bool = False) -> None:
        super().__init__()
        if ws is not None and not isinstance(ws, Workspace):
            raise TypeError(f"ws is a procession.Workspace, not {ws!r}")
        self._given = ws
        self._workspaces: dict[str, Workspace] = {}
        self._runs: dict[str, int] = {}
        self._ready: weakref.WeakKeyDictionary[CompiledRunnable, _Ready] = (
            weakref.WeakKeyDictionary()
        )
        # What ran last, so as not to look it up; replaced as one.
        self._last: tuple[Callable[[], CompiledRunnable | None], Callable[[], _Ready | None]]
        self._last = (lambda: None, lambda: None)

    def _homes(self, compiled: CompiledRunnable) -> Sequence[str]:
        # Tasks may use each other's blobs: one run at a time.
        return _LINE

    def _enter(self, turn: Turn) -> None:
        # A run is not kept waiting for itself. What it begins beside it waits for its end.
        if turn.begin is not None or _running.get() is not self:
            self._lines.enter(turn)

    def _known(self, nodes: Sequence[str | Node]) -> Sequence[str]:
        for name in super()._known(nodes):
            self._runs.setdefault(name, 0)
        return _LINE

    def _call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Callable[[Turn], Any]:
        def job(turn: Turn) -> Any:
            inside = _running.set(self)
            try:
                return function(*args, **kwargs)
            finally:
                _running.reset(inside)

        return job

    def _stop(self, turn: Turn) -> None:
        if turn.monitor is not None:
            turn.monitor.cancel()

    def _home(self, node: str) -> str:
        """The node whose workspace that node uses."""
        return LOCAL

    def _workspace(self, node: str) -> Workspace:
        home = self._home(node)
        if home not in self._workspaces:
            given = self._given if home == LOCAL else None
            if given is None:
                # It runs things in LocalSessions itself, and so imports this module.
                from procession.session.workspace import Workspace as Full

                given = Full(node=home)
            self._workspaces[home] = given
        return self._workspaces[home]

    def _place(self, node: str) -> str:
        return self._workspace(node).place

    def _programs(self, compiled: CompiledRunnable) -> Sequence[NodeProgram]:
        return [compiled.merged]

    def _run(
        self, compiled: CompiledRunnable, timeout: float | None, turn: Turn
    ) -> dict[str, dict[str, Any]]:
        last, its_ready = self._last
        ready = its_ready()
        if ready is None or last() is not compiled:
            ready = self._made_ready(compiled)
        together = bool(compiled.worlds)
        for executable in ready:
            program = executable.program
            workspace = self._workspace(program.node)
            if not program.reads.keys() <= workspace.own_names():
                self._check_reads(self._programs(compiled))
            together = together or workspace.has_worlds
        deadline = turn.monitor = Deadline(timeout)
        if turn.called_off:
            deadline.cancel()
        places, rooms = _NO_OFFER
        if together:
            places, rooms = self._offer(compiled)
        inside = _running.set(self)
        try:
            self._perform_all(ready, deadline)
            if deadline.stop or timeout is not None:
                deadline.check()
        except Cancelled:
            if self._open:
                raise RunCancelledError("the run was called off") from None
            raise SessionClosedError("the run was called off: the session was closed") from None
        finally:
            _running.reset(inside)
            for worlds in rooms:
                worlds.close(places)
        for node in compiled.nodes:
            self._runs[node] += 1
        if not compiled.outputs:
            return {}
        return {
            node: {
                str(name): self._workspace(node).fetch_blob(name)
                for owner, output in compiled.outputs
                if owner == node
                for name in output.names
            }
            for node in compiled.nodes
        }

    def _made_ready(self, compiled: CompiledRunnable) -> _Ready:
        """What runs it; nothing of it before it is known that all blobs are there."""
        ready = self._ready.get(compiled)
        if ready is None:
            programs = self._programs(compiled)
            for node in compiled.nodes:
                self._runs.setdefault(node, 0)
            self._check_reads(programs)
            self._note_first_run(compiled)
            ready = self._ready[compiled] = _Ready(map(Executable, programs))
        self._last = weakref.ref(compiled), weakref.ref(ready)
        return ready

    def _perform_all(self, ready: Sequence[Executable], deadline: Deadline) -> None:
        """Run all programs at once."""
        if len(ready) == 1:
            self._perform_one(ready[0], deadline)
            return
        failure = Failure()

        def failed(error: BaseException) -> None:
            failure.note(error)
            deadline.cancel()

        with failure.raised():
            run_all(
                [partial(self._perform_one, each, deadline, failed) for each in ready],
                deadline.cancel,
            )

    def _perform_one(
        self,
        executable: Executable,
        deadline: Deadline,
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        workspace = self._workspace(executable.program.node)
        executable.run(workspace, deadline, failed)
        if workspace.has_worlds:
            workspace.worlds.ended()

    def _offer(self, compiled: CompiledRunnable) -> tuple[list[Venue], list[Worlds]]:
        """Begin a run for the nodes' common worlds: those that it creates, and where they are."""
        places = [
            Venue(
                world.name,
                world.members,
                world.lanes,
                bytearray(block_size(len(world.members), world.lanes)),
                threading.Condition(),
                {},
            )
            for world in compiled.worlds
        ]
        rooms: dict[int, tuple[Worlds, list[str]]] = {}
        for node in compiled.nodes:
            workspace = self._workspace(node)
            if places or workspace.has_worlds:
                worlds = workspace.worlds
                rooms.setdefault(id(worlds), (worlds, []))[1].append(node)
        run = next(_numbers)
        for worlds, nodes in rooms.values():
            worlds.begin(run, places, nodes)
        return places, [worlds for worlds, _ in rooms.values()]

    def _names(self, node: str) -> Any:
        return self._workspace(node).blobs

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes used so far, in order of first use."""
        return list(self._runs)

    def workspace(self, node: str | Node = LOCAL) -> WorkspaceView:
        """The workspace that the node uses.

        Raises:
            SessionClosedError: The session is closed.
        """
        self._check_open()
        return LocalWorkspace(self, str(node))

    def stats(self) -> dict[str, NodeStats]:
        """What each node has used so far; all figures but `runs` are this process's."""
        self._check_open()
        all_runs = dict(self._runs)
        process = psutil.Process()
        times = process.cpu_times()
        return {
            node: NodeStats(
                pid=os.getpid(),
                rss_bytes=process.memory_info().rss,
                cpu_seconds=times.user + times.system,
                shared_bytes=0,
                runs=runs,
                plan_bytes=0,
            )
            for node, runs in all_runs.items()
        }

    def _close(self) -> None:
        # A run in another thread is called off.
        self.cancel()
        self._lines.empty()
        self._empty()

    def _empty(self) -> None:
        for workspace in self._workspaces.values():
            if workspace is not self._given:
                workspace.close()


class LocalWorkspace(WorkspaceView):
    """The workspace of a node of a LocalSession, not to be used while something runs in it.

    As with worker processes, whoever asks meanwhile waits until the run has ended.
    """

    def __init__(self, session: LocalSession, node: str) -> None:
        self._session = session
        self.node = node

    @contextlib.contextmanager
    def _used(self) -> Iterator[Workspace]:
        with self._session._turn(_LINE[0]):
            yield self._session._workspace(self.node)

    def names(self) -> list[str]:
        with self._used() as workspace:
            return workspace.names()

    def has_blob(self, name: Any) -> bool:
        with self._used() as workspace:
            return workspace.has_blob(name)

    def fetch_blob(self, name: Any) -> Any:
        with self._used() as workspace:
            return self._having(workspace, name).fetch_blob(name)

    def feed_blob(self, name: Any, value: Any) -> None:
        with self._used() as workspace:
            self._session._runs.setdefault(self.node, 0)
            workspace.feed_blob(name, value)

    def _draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        with self._used() as workspace:
            return workspace._draft(shape, dtype)

    def _adopt(
        self, name: str, draft: Unfinished, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        with self._used() as workspace:
            self._session._runs.setdefault(self.node, 0)
            workspace._adopt(name, draft, shape, dtype)

    def remove_blob(self, name: Any) -> None:
        with self._used() as workspace:
            self._having(workspace, name).remove_blob(name)

    def not_found(self, name: str) -> BlobNotFoundError | TornBlobError:
        with self._used() as workspace:
            return self._not_found(workspace, name)

    def _having(self, workspace: Workspace, name: Any) -> Workspace:
        if not workspace.has_blob(name):
            raise self._not_found(workspace, name_of(name))
        return workspace

    def _not_found(self, workspace: Workspace, name: str) -> BlobNotFoundError | TornBlobError:
        error = not_found(
            name,
            workspace.place,
            workspace.names(),
            node=workspace.node,
            elsewhere=tuple(self._session._owners(name, self.node)),
        )
        error.message += self._session._where_it_went(name, self.node)
        return error

    def __repr__(self) -> str:
        return f"LocalWorkspace(node={self.node!r})"


class IsolatedLocalSession(LocalSession):
    """`LocalSession(isolate=True)`."""

    isolates: ClassVar[bool] = True

    def _home(self, node: str) -> str:
        return node

    def _programs(self, compiled: CompiledRunnable) -> Sequence[NodeProgram]:
        return compiled.programs
