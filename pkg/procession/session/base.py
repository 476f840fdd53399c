"""Session: what all sessions do alike."""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from procession.compiler.check import isolation_error
from procession.compiler.compiled import CompiledRunnable
from procession.compiler.lower import Runnable, check_runnable, home_node, lower, revisions
from procession.errors import (
    BlobNotFoundError,
    OutputNotReadyError,
    RunnableTypeError,
    SessionBusyError,
    SessionClosedError,
)
from procession.graph.task import LOCAL, Node, TaskOutput
from procession.runtime.program import NodeProgram
from procession.runtime.workspace import WorkspaceView, not_found

Self = TypeVar("Self", bound="Session")


def checked_timeout(seconds: float | None) -> float | None:
    """Seconds that a run may take; infinity is as long as it takes.

    Raises:
        ValueError: It is no number above 0.
    """
    if seconds is None or seconds == math.inf:
        return None
    if not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ValueError(f"timeout is a number of seconds above 0, not {seconds!r}")
    return seconds


@dataclass(frozen=True)
class NodeStats(Mapping[str, Any]):
    """What a node has used so far. Readable as attributes and as a mapping."""

    pid: int
    """The process it runs in."""
    rss_bytes: int
    """That process's resident memory."""
    cpu_seconds: float
    """User and system time of that process."""
    shared_bytes: int
    """Shared memory reserved for the node's blobs, used or pooled."""
    runs: int
    """Runs that the node completed."""
    plan_bytes: int
    """Bytes of plans shipped to it."""

    def __getitem__(self, name: str) -> Any:
        if name not in (field.name for field in fields(self)):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        return len(fields(self))


class Session(ABC):
    """Runs Nets, ExecutionSteps, Plans, Tasks and TaskGroups. Caffe2: session.Session.

    The global workspace of each node lives as long as the session. A private task group runs
    in a child workspace per node, which is released after the run. Tasks of one node share a
    workspace within a run; tasks of different nodes never share a blob (see `LocalSession` for
    the exception that Caffe2 makes).

    A session is a context manager, and closes on every way out. All methods may be called from any
    thread; they run one after the other.
    """

    isolates: ClassVar[bool] = True
    """Whether a node is kept from seeing another node's blobs."""

    def __init__(self, timeout: float | None = None) -> None:
        self._open = True
        self._ended = False
        self._lock = threading.RLock()
        self._busy = False
        self._timeout = checked_timeout(timeout)
        # Both by what was given, without keeping it alive.
        self._cache: weakref.WeakKeyDictionary[
            Any, dict[str | None, tuple[tuple[int, ...], CompiledRunnable]]
        ] = weakref.WeakKeyDictionary()
        self._seen: weakref.WeakSet[CompiledRunnable] = weakref.WeakSet()
        self._passing: dict[str, set[str]] = {}
        """Node -> blobs that private runs wrote there, which went with them."""
        self._outputs: weakref.WeakKeyDictionary[TaskOutput, list[Any]] = (
            weakref.WeakKeyDictionary()
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One caller at a time."""
        with self._lock:
            if self._busy:
                raise SessionBusyError(
                    f"this {type(self).__name__} is in the middle of something that the same "
                    f"thread asked of it: a signal handler cannot use it now. Let the handler "
                    f"set a flag, and look at that after the run."
                )
            try:
                self._busy = True
                yield
            finally:
                self._busy = False

    # Compiling and running.

    @classmethod
    def compile(cls, runnable: Runnable | CompiledRunnable) -> CompiledRunnable:
        """Lower and check a runnable, once and for all.

        Running what this returns does no work on the graph. Tasks and task groups cannot be
        changed any more; a net that is changed has to be compiled anew, which `run(net)` does
        by itself.

        Raises:
            RunnableTypeError: It is no runnable.
            BlobIsolationError: A task reads a blob that another node makes, as far as the
                runnable by itself shows that.
            GraphError: A plan without steps.
        """
        if isinstance(runnable, CompiledRunnable):
            return runnable
        return lower(runnable, isolated=cls.isolates)

    def run(self, runnable: Runnable | CompiledRunnable, *, timeout: float | None = None) -> None:
        """Run it, and return when all of it has ended. Task outputs can be fetched then.

        Args:
            runnable: A Net, ExecutionStep, Plan, Task, TaskGroup, or what `compile` returned.
                What names no node runs on the current one: "local" outside any `with Node(...)`.
            timeout: Seconds; left out, the session's, if it has one.

        Raises:
            BlobNotFoundError, BlobIsolationError: A blob that is read is not there.
            OperatorError: A kernel raised.
            RunTimeoutError: Time ran out.
            NodeDiedError: A worker process died.
            SerializationError: Something in it cannot travel to a worker.
            OutOfSharedMemoryError: No shared memory for a blob.
            SessionClosedError, SessionBusyError, RunnableTypeError: See there.
            ValueError: A timeout that is no number above 0.
        """
        with self._alone():
            self._check_open()
            compiled = self._compiled(runnable)
            if compiled not in self._seen:
                self._seen.add(compiled)
                for program in compiled.programs:
                    if program.private:
                        passing = self._passing.setdefault(program.node, set())
                        passing |= program.writes - set(program.outputs)
            try:
                seconds = self._timeout if timeout is None else checked_timeout(timeout)
                values = self._run(compiled, seconds)
            except BlobNotFoundError as error:
                raise self._diagnosed(error) from error.__cause__
            for node, output in compiled.outputs:
                fetched = [values[node][str(name)] for name in output.names]
                output.set(fetched)
                self._outputs[output] = fetched

    def _compiled(self, runnable: Runnable | CompiledRunnable) -> CompiledRunnable:
        if isinstance(runnable, CompiledRunnable):
            return runnable
        check_runnable(runnable)
        by_home = self._cache.setdefault(runnable, {})
        home, revision = home_node(runnable), revisions(runnable)
        known = by_home.get(home)
        if known is None or known[0] != revision:
            # A reader may have its own blob of a name that another node makes: what crosses is
            # decided before the run, by what the nodes have.
            known = (revision, lower(runnable, isolated=False))
            by_home[home] = known
        return known[1]

    @abstractmethod
    def _run(self, compiled: CompiledRunnable, timeout: float | None) -> dict[str, dict[str, Any]]:
        """Run it; node -> blob -> value of the outputs."""

    def _check_reads(self, programs: Sequence[NodeProgram]) -> None:
        """Refuse a run that is sure to miss a blob, before any of it begins."""
        for program in programs:
            names = self._names(program.node)
            missing = [blob for blob in program.reads if blob not in names]
            if not missing:
                continue
            blob = missing[0]
            task = program.reads[blob]
            owners = self._owners(blob, program.node)
            owners += [
                other.node
                for other in programs
                if blob in other.writes and other is not program and other.node not in owners
            ]
            if owners and self.isolates:
                raise isolation_error(blob, task, program.node, owners[0])
            error = not_found(
                blob,
                self._place(program.node),
                names,
                node=program.node,
                elsewhere=tuple(owners),
            )
            error.task = task
            error.message += f" Task {task!r} reads it."
            operation = program.reader(blob)
            if operation is not None:
                error.message += (
                    f"\n  wanted by operator {operation} of net {operation.net!r}"
                    f"\n  added at {operation.source}"
                )
            raise error

    def _place(self, node: str) -> str:
        """What messages call the workspace of a node."""
        return f"the workspace of node {node!r}"

    def _where_it_went(self, blob: str, node: str) -> str:
        """What to add to the error for a blob that a private run had."""
        if blob not in self._passing.get(node, ()):
            return ""
        return (
            " A private run wrote one, and it went with the run: make it an output of the task, "
            "or the group TaskGroup(WorkspaceType.GLOBAL)."
        )

    def _owners(self, blob: str, reader: str) -> list[str]:
        """The other nodes that have a blob of that name."""
        return [node for node in self.nodes if node != reader and blob in self._names(node)]

    def _diagnosed(self, error: BlobNotFoundError) -> Exception:
        """What to raise for a blob that was not there in the middle of a run."""
        if error.blob is None or error.node is None or not self.isolates:
            return error
        owners = self._owners(error.blob, error.node)
        if not owners:
            return error
        refused = isolation_error(error.blob, error.task or "?", error.node, owners[0])
        refused.message = f"{error.message}\n  {refused.message}"
        return refused

    # Outputs and workspaces.

    def fetch_output(self, output: TaskOutput) -> Any:
        """The value that an output had at the end of the last run of its task in this session.

        Raises:
            OutputNotReadyError: This session has not run its task.
            RunnableTypeError: It is no TaskOutput.
        """
        if not isinstance(output, TaskOutput):
            raise RunnableTypeError(f"fetch_output takes a TaskOutput, not {output!r}")
        with self._alone():
            values = self._outputs.get(output)
        if values is None:
            raise OutputNotReadyError(
                f"this session has not run the task of output "
                f"{[str(name) for name in output.names]}"
            )
        return output.pick(values)

    @property
    @abstractmethod
    def nodes(self) -> list[str]:
        """The names of its nodes, in order of start."""

    @abstractmethod
    def workspace(self, node: str | Node = LOCAL) -> WorkspaceView:
        """The global workspace of a node."""

    @abstractmethod
    def stats(self) -> dict[str, NodeStats]:
        """What each node has used so far."""

    @abstractmethod
    def _names(self, node: str) -> Any:
        """The names of the blobs in a node's global workspace."""

    # The end.

    def is_open(self) -> bool:
        """Whether it can still run something."""
        return self._open

    def close(self) -> None:
        """End it, and give back everything it had. Twice is fine. What was fetched stays good."""
        self._open = False
        if not self._ended:
            # Not before it is done: who was interrupted in here can close again.
            self._close()
            self._ended = True

    @abstractmethod
    def _close(self) -> None:
        """Give back everything. May be called again after an interruption."""

    def _check_open(self) -> None:
        if not self._open:
            raise SessionClosedError(f"this {type(self).__name__} has been closed")

    def __enter__(self: Self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<{type(self).__name__}, {state}, nodes {self.nodes}>"
