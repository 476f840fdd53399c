"""`caffe2.python.session`: LocalSession, over the current workspace or a given one."""

from __future__ import annotations

from types import TracebackType
from typing import Any, ClassVar, TypeVar

import procession
from procession.caffe2 import mode
from procession.caffe2.place import Place
from procession.caffe2.python import _import_c_extension as C
from procession.caffe2.python.task import Task
from procession.caffe2.translate import caffe2_errors
from procession.errors import GraphError, SessionClosedError
from procession.graph import task
from procession.graph.cluster import Cluster, WorkspaceType
from procession.graph.step import execution_step
from procession.graph.task import TaskGroup

__all__ = [
    "Cluster",
    "CompiledRunnable",
    "LocalSession",
    "Session",
    "Task",
    "TaskGroup",
    "WorkspaceType",
]

Self = TypeVar("Self", bound="Session")


class ClosedError(SessionClosedError, AssertionError):
    """The session is closed."""


class CompiledRunnable:
    """What `Session.compile` returns: what to run, and for which class of sessions it is."""

    def __init__(self, obj: Any, session_class: type[Session]) -> None:
        self.obj = obj
        self.session_class = session_class


class Session:
    """Runs Nets, ExecutionSteps, Plans, Tasks and TaskGroups."""

    def __init__(self) -> None:
        self._open = True

    def is_open(self) -> bool:
        """Whether it can still run something."""
        return self._open

    @classmethod
    def compile(
        cls, runnable: Any, workspace_type: Any = None, setup_net_list: Any = None
    ) -> CompiledRunnable:
        """Check a runnable, and what it is to run in.

        Args:
            runnable: A Net, a list of nets or steps, a step, a plan, a task or a group.
            workspace_type: A `WorkspaceType`; left out, the group's, or GLOBAL.
            setup_net_list: For sessions that have nets to set up.

        Raises:
            GraphError: It is for another class of sessions, or the group of another type.
        """
        if isinstance(runnable, CompiledRunnable):
            if runnable.session_class is not cls:
                raise GraphError(
                    f"this was compiled for {runnable.session_class.__name__}, not {cls.__name__}"
                )
            return runnable
        if isinstance(runnable, (list, tuple)):
            runnable = execution_step("runnable", runnable)
        if workspace_type is not None:
            if not isinstance(runnable, TaskGroup):
                group = TaskGroup(workspace_type)
                group.add(runnable if isinstance(runnable, task.Task) else Task(step=runnable))
                runnable = group
            elif runnable.workspace_type() is None:
                runnable._workspace_type = workspace_type
            elif runnable.workspace_type() != workspace_type:
                raise GraphError(f"{runnable!r} is not of workspace type {workspace_type!r}")
        return CompiledRunnable(runnable, cls)

    def run(self, runnable: Any, workspace_type: Any = None, setup_net_list: Any = None) -> None:
        """Run it; see `compile` and `procession.Session.run`."""
        if not self._open:
            raise ClosedError("this session has been closed")
        if runnable is None:
            raise GraphError("there is nothing to run: the runnable is None")
        self._run_compiled(self.compile(runnable, workspace_type, setup_net_list).obj)

    def _run_compiled(self, runnable: Any) -> None:
        raise NotImplementedError("a class of sessions says in _run_compiled how it runs")

    def fetch_output(self, output: Any) -> Any:
        """The value of a task's output."""
        return output.fetch()

    def close(self) -> None:
        """End it."""
        self._open = False

    def __enter__(self: Self) -> Self:
        if not self._open:
            raise ClosedError("this session has been closed")
        return self

    def __exit__(
        self,
        ex_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if ex_type is None:
            self.close()


class LocalSession(Session):
    """A session in a workspace.

    In the mode `--processes` its nodes are worker processes, and the workspace is that of the node
    "local".

    Args:
        ws: The workspace; left out, the current one.
    """

    processes: ClassVar[bool] = False
    """Have worker processes whatever the mode is."""

    def __init__(self, ws: Any = None) -> None:
        super().__init__()
        self._ws = C.Workspace.current if ws is None else ws
        workers = self.processes or mode.processes
        self._session: procession.Session
        if isinstance(self._ws, Place) and (workers or self._ws.session() is not None):
            self._session = self._ws.move()
        else:
            self._session = procession.LocalSession(self._ws)

    def _run_compiled(self, runnable: Any) -> None:
        with caffe2_errors():
            self._session.run(runnable)
