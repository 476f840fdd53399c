"""Session: what all sessions do alike."""

from __future__ import annotations

import contextlib
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, NoReturn, TypeVar

from procession.blobs.journal import Torn
from procession.compiler.check import isolation_error
from procession.compiler.compiled import CompiledRunnable
from procession.compiler.lower import Runnable, check_runnable, home_node, lower, revisions
from procession.errors import (
    BlobNotFoundError,
    OutputNotReadyError,
    RunnableTypeError,
    SerializationError,
    SessionClosedError,
)
from procession.graph.task import LOCAL, Node, TaskOutput
from procession.runtime.program import NodeProgram
from procession.runtime.workspace import WorkspaceView, not_found
from procession.session.crew import Crew, hand_over, taken
from procession.session.functions import map_calls
from procession.session.future import RunFuture
from procession.session.lines import Lines, Turn
from procession.session.stats import NodeStats
from procession.session.times import checked_timeout

Self = TypeVar("Self", bound="Session")


class Session(ABC):
    """Runs Nets, ExecutionSteps, Plans, Tasks and TaskGroups. Caffe2: session.Session.

    The global workspace of each node lives as long as the session. A private task group runs
    in a child workspace per node, which is released after the run. Tasks of one node share a
    workspace within a run; tasks of different nodes never share a blob (see `LocalSession` for
    the exception that Caffe2 makes).

    A session is a context manager, and closes on every way out. All methods may be called from any
    thread. A node does one thing at a time, in the order in which it was asked.
    """

    isolates: ClassVar[bool] = True
    """Whether a node is kept from seeing another node's blobs."""

    def __init__(self, timeout: float | None = None) -> None:
        self._open = True
        self._ended = False
        self._closing = threading.RLock()
        # Not itself, so that a session nobody refers to is gone at once.
        self._lines = Lines(partial(_is_usable, weakref.ref(self)))
        self._crew = Crew()
        self._compiling = threading.RLock()
        self._timeout = checked_timeout(timeout)
        # Both by what was given, without keeping it alive.
        self._cache: weakref.WeakKeyDictionary[
            Any, dict[Any, tuple[tuple[int, ...], CompiledRunnable]]
        ] = weakref.WeakKeyDictionary()
        self._futures: weakref.WeakKeyDictionary[Turn, RunFuture] = weakref.WeakKeyDictionary()
        """What is to be cancelled when the session is closed."""
        self._passing: dict[str, set[str]] = {}
        """Node -> blobs that private runs wrote there, which went with them."""
        self._outputs: weakref.WeakKeyDictionary[TaskOutput, list[Any]] = (
            weakref.WeakKeyDictionary()
        )

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
        self._check_open()
        # A look instead of a call: a run may take no longer than some calls.
        compiled = runnable if isinstance(runnable, CompiledRunnable) else self._compiled(runnable)
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        turn = Turn(self._homes(compiled))
        try:
            self._enter(turn)
            self._perform(compiled, seconds, turn)
        finally:
            # Ctrl-C may come before it has done anything.
            try:
                self._leave(turn)
            except KeyboardInterrupt:
                self._leave(turn)
                raise

    def run_async(
        self, runnable: Runnable | CompiledRunnable, *, timeout: float | None = None
    ) -> RunFuture:
        """Run it beside the script.

        It is compiled at once: later changes do not reach it. Runs on the same node come one after
        the other, in the order of the calls; runs on different nodes, at once.

        Args:
            runnable: As for `run`.
            timeout: Seconds from its beginning; left out, the session's, if it has one.

        Returns:
            A `concurrent.futures.Future`. Its result is None; its errors are those of `run`. When
            it is done, task outputs can be fetched. Its `cancel` stops what is running, too.

        Raises:
            SessionClosedError, RunnableTypeError, SerializationError, ValueError: At once.
        """
        self._check_open()
        compiled = self._compiled(runnable)
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        return self._begin(
            lambda begin: Turn(self._homes(compiled), begin),
            partial(self._perform, compiled, seconds),
        )

    def submit(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        node: str | Node | None = None,
        **kwargs: Any,
    ) -> RunFuture:
        """Have `function(*args, **kwargs)` called on a node, beside the script.

        In a `ProcessSession` function and arguments travel by cloudpickle, large arrays in them
        through shared memory, and so does the result. Arrays arrive as the receiver's own, to be
        written if it likes. Large arrays are read when the turn comes: they should not be changed
        before the call ends. In a `LocalSession` the function is called in a thread, with the very
        objects.

        Args:
            function: Anything that can be called; lambdas and functions of the script, too.
            *args: By position.
            node: Where; left out, on whichever of the session's nodes is free first. A session
                that has no nodes yet starts "local".
            **kwargs: By name.

        Returns:
            A future of what it returns, or raises. It can be cancelled until the call begins.

        Raises:
            SessionClosedError: At once.
            SerializationError: Function or arguments cannot travel. At once.
        """
        self._check_open()
        job = self._call(function, args, kwargs)
        nodes = self.nodes or [LOCAL] if node is None else [node]
        return self._submit(job, nodes, anywhere=node is None)

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        nodes: Iterable[str | Node] | None = None,
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """As the builtin `map`, but called on the nodes, and begun at once; see `submit`.

        The results come in order. The function is pickled once. When the iterator is closed or
        thrown away after its first result, calls that have not begun are cancelled.

        Args:
            function: Takes one argument from each iterable.
            *iterables: Read to the end of the shortest one, before this returns.
            nodes: Where; left out, on all nodes of the session.
            timeout: Seconds from here on, after which the next result raises TimeoutError.
            chunksize: How many calls go to a node together.

        Raises:
            SessionClosedError: At once.
            SerializationError: Function or arguments cannot travel. At once.
            ValueError: A chunksize below 1, or no nodes.
        """
        self._check_open()
        if isinstance(nodes, (str, Node)):
            raise ValueError(f"nodes is a list of nodes: [{nodes!r}], not {nodes!r}")
        chosen: list[str | Node] = [*(self.nodes or [LOCAL])] if nodes is None else [*nodes]
        if not chosen:
            raise ValueError("map needs at least one node to call the function on")

        def submit(function: Callable[..., Any], *args: Any) -> RunFuture:
            self._check_open()
            return self._submit(self._call(function, args, {}), chosen, anywhere=True)

        return map_calls(submit, function, iterables, timeout, chunksize)

    def _submit(
        self, job: Callable[[Turn], Any], nodes: Sequence[str | Node], anywhere: bool
    ) -> RunFuture:
        names = self._known(nodes)
        return self._begin(lambda begin: Turn(names, begin, anywhere), job, stoppable=False)

    def _not_told(self, failure: BaseException) -> None:  # noqa: B027 - few lose anybody
        """A run ended with this, but its future was cancelled before."""

    @abstractmethod
    def _call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Callable[[Turn], Any]:
        """What calls the function when the turn has come."""

    def _usable(self, node: str) -> bool:
        """Whether functions for any node may be called on this one."""
        return True

    def _known(self, nodes: Sequence[str | Node]) -> Sequence[str]:
        """The lines of nodes on which functions are to be called.

        Raises:
            TypeError, GraphError: One of them is no node.
        """
        for node in nodes:
            if not isinstance(node, (str, Node)):
                raise TypeError(f"a node is a name or a Node, not {node!r}")
        return list(dict.fromkeys(str(Node(node)) for node in nodes))

    def _begin(
        self,
        turn_for: Callable[[Callable[[], object]], Turn],
        job: Callable[[Turn], Any],
        stoppable: bool = True,
    ) -> RunFuture:
        """Do a job in the crew when its turn comes."""
        # Whoever holds the future or the turn holds no more than those: neither job nor result.
        waiting: list[Callable[[], object]] = []

        def begin() -> None:
            for job in waiting[:]:
                self._crew.do(job)

        def claimed() -> bool:
            # Once: after Ctrl-C it may have been given to the crew twice, or not at all.
            try:
                waiting.pop()
            except IndexError:
                return False
            return True

        def do() -> Callable[[], object] | None:
            if not claimed():
                return None
            turn.thread = threading.get_ident()
            result, failure = None, None
            try:
                if future.begin():
                    result = job(turn)
            except BaseException as error:
                failure = error
            if failure is not None and future.cancelled():
                self._not_told(failure)
            with self._crew.keep() as kept:
                self._leave(turn)
            # Callbacks may take long, and may wait for the very job that was kept.
            future.before_callbacks(partial(hand_over, kept, self._crew))
            self._futures.pop(turn, None)
            future.end(result, failure)
            # The thread goes on; what has been done is nobody's any more.
            result = failure = None
            return taken(kept)

        def call_off(future: RunFuture) -> bool:
            if self._lines.withdraw(turn):
                return True
            if stoppable:
                self._lines.call_off(turn, self._stop)
            return stoppable

        def withdrawn(future: RunFuture) -> None:
            if claimed():
                self._leave(turn)
                self._futures.pop(turn, None)
                future.set_running_or_notify_cancel()

        waiting.append(do)
        turn = turn_for(begin)
        future = RunFuture(call_off, withdrawn)
        try:
            self._futures[turn] = future
            self._enter(turn)
        except BaseException:
            # Once it has begun, it leaves the turn itself.
            if claimed():
                self._leave(turn)
                self._futures.pop(turn, None)
            else:
                future.cancel()
            raise
        return future

    def _perform(self, compiled: CompiledRunnable, seconds: float | None, turn: Turn) -> None:
        """Do a run whose turn has come."""
        if not self._open:
            self._check_open()
        try:
            values = self._run(compiled, seconds, turn)
        except BlobNotFoundError as error:
            raise self._diagnosed(error) from error.__cause__
        for node, output in compiled.outputs:
            fetched = [values[node][str(name)] for name in output.names]
            output.set(fetched)
            self._outputs[output] = fetched

    def _note_first_run(self, compiled: CompiledRunnable) -> None:
        """Remember of what runs for the first time which blobs will go with it."""
        for program in compiled.programs:
            if program.private:
                passing = self._passing.setdefault(program.node, set())
                passing |= program.writes - set(program.outputs)

    def _homes(self, compiled: CompiledRunnable) -> Sequence[str]:
        """The nodes in whose lines a run has to stand."""
        return compiled.nodes

    def _enter(self, turn: Turn) -> None:
        """Take a turn at its nodes, and wait until it begins. Whoever calls this calls `_leave`."""
        self._lines.enter(turn)

    def _leave(self, turn: Turn) -> None:
        """The turn is over."""
        self._lines.leave(turn)

    @contextlib.contextmanager
    def _turn(self, node: str) -> Iterator[None]:
        """A turn at one node."""
        self._check_open()
        turn = Turn((node,))
        try:
            self._enter(turn)
            self._check_open()
            yield
        finally:
            try:
                self._leave(turn)
            except KeyboardInterrupt:
                self._leave(turn)
                raise

    def cancel(self) -> None:
        """Call off all runs of this moment, from another thread.

        Each stops at its next step or loop iteration, on all of its nodes, with a
        `RunCancelledError`. What waits for its turn goes on, and so do calls of functions, which
        nobody can stop.
        """
        for turn in list(self._lines.running):
            self._lines.call_off(turn, self._stop)

    @abstractmethod
    def _stop(self, turn: Turn) -> None:
        """Have the run of a turn end at its next operation. Safe in any thread."""

    def _compiled(self, runnable: Runnable | CompiledRunnable) -> CompiledRunnable:
        if isinstance(runnable, CompiledRunnable):
            return runnable
        check_runnable(runnable)
        with self._compiling:
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
    def _run(
        self, compiled: CompiledRunnable, timeout: float | None, turn: Turn
    ) -> Mapping[str, Mapping[str, Any]]:
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
            if blob not in program.writes:
                # What it writes itself is its own, whoever else has one of that name.
                owners += [
                    other.node
                    for other in programs
                    if blob in other.writes and other is not program and other.node not in owners
                ]
            torn = self._torn(program.node).get(blob)
            if torn is None and owners and self.isolates:
                raise isolation_error(blob, task, program.node, owners[0])
            error = not_found(
                blob,
                self._place(program.node),
                names,
                node=program.node,
                elsewhere=tuple(owners),
                torn=torn,
            )
            error.task = task
            error.message += f" Task {task!r} reads it."
            operation = program.reader(blob)
            if operation is not None:
                error.message += (
                    f"\n  wanted by operator {operation} of net {operation.net!r}{operation.origin}"
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

    def _torn(self, node: str) -> Mapping[str, Torn]:
        """The blobs of a node that were lost half written."""
        return {}

    # The end.

    def is_open(self) -> bool:
        """Whether it can still run something."""
        return self._open

    def close(self) -> None:
        """End it, and give back everything it had. Twice is fine. What was fetched stays good.

        Runs that are under way are called off; those that wait for their turn are cancelled.
        """
        self._open = False
        with contextlib.ExitStack() as stack:
            # One after the other; but who is called in the middle of a run, as a signal handler is,
            # must not wait for who waits for that run.
            if not self._lines.in_turn():
                stack.enter_context(self._closing)
            self._end_all()

    def _end_all(self) -> None:
        if not self._ended and self._is_ours():
            for turn in self._lines.close():
                future = self._futures.get(turn)
                if future is not None:
                    future.cancel()
            # Not before it is done: who was interrupted in here can close again.
            self._close()
            self._crew.close()
            self._ended = True

    def _is_ours(self) -> bool:
        """Whether this process opened it; a forked copy has nothing of it to close."""
        return True

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

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise SerializationError(
            f"a {kind} cannot be copied or sent to another process: it belongs to the process that "
            f"opened it. A function that runs in a worker can use what its operator reads and "
            f"writes, and what it is given; fetch what it needs, and hand it over as an argument "
            f"or as a blob",
            what=f"the {kind}",
        )

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<{type(self).__name__}, {state}, nodes {self.nodes}>"


def _is_usable(session: weakref.ref[Session], node: str) -> bool:
    alive = session()
    return alive is None or alive._usable(node)
