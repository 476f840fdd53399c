"""Node, Cluster, Task, TaskGroup, TaskOutput: where steps run, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from procession.errors import GraphError, OutputNotReadyError, RunnableTypeError
from procession.graph.blob import BlobReference
from procession.graph.scope import DefaultManaged, Managed
from procession.graph.step import ExecutionStep, Steps, to_execution_step

LOCAL = "local"
"""The node of everything that names none."""


class WorkspaceType:
    """Where the tasks of a group run. Caffe2: task.WorkspaceType."""

    PRIVATE = "private"
    """In a child workspace per node: blobs new in it, but for task outputs, go with the run."""
    GLOBAL = "global"
    """In each node's global workspace, which lives as long as the session."""


def _check_workspace_type(workspace_type: str | None) -> str | None:
    if workspace_type not in (None, WorkspaceType.PRIVATE, WorkspaceType.GLOBAL):
        raise GraphError(
            f"{workspace_type!r} is no workspace type: WorkspaceType.PRIVATE or .GLOBAL"
        )
    return workspace_type


class Cluster(DefaultManaged):
    """Keeps the names of the nodes used inside it, in order. Caffe2: task.Cluster."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Any]] = {}

    def add_node(self, node: Node) -> None:
        """Note that the node is used; keywords given with it are merged."""
        self._nodes.setdefault(str(node), {}).update(node.kwargs())

    def nodes(self) -> list[str]:
        """The names of the nodes, in order of first use."""
        return list(self._nodes)

    def node_kwargs(self) -> dict[str, dict[str, Any]]:
        """Node name -> the keywords given with it."""
        return self._nodes

    def __repr__(self) -> str:
        return f"Cluster(nodes={self.nodes()}, node_kwargs={self._nodes})"


class Node(DefaultManaged):
    """`with Node("n1"):` places the tasks made inside on the node n1. Caffe2: task.Node.

    Only the name counts: two `Node("n1")` are the same node.

    Args:
        node: The name; everything that is on no node is on "local".
        kwargs: Anything to keep with the node in its `Cluster`.
    """

    def __init__(self, node: str | Node = LOCAL, **kwargs: Any) -> None:
        name = str(node)
        if not name:
            raise GraphError("a node needs a name")
        self._name = name
        self._kwargs = kwargs
        cluster = Cluster.current(required=False)
        if cluster is not None:
            cluster.add_node(self)

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"Node(name={self._name}, kwargs={self._kwargs})"

    def kwargs(self) -> dict[str, Any]:
        """The keywords it was made with."""
        return self._kwargs


class TaskOutput:
    """A value that a task hands back: a blob, or a list of blobs. Caffe2: task.TaskOutput.

    After a run that the task was in, `fetch` gives the value as it was at the end of that run.
    """

    def __init__(self, names: BlobReference | str | Sequence[BlobReference | str]) -> None:
        self._is_scalar = not isinstance(names, (list, tuple))
        listed: Iterable[Any] = [names] if self._is_scalar else names
        self.names = [
            blob if isinstance(blob, BlobReference) else BlobReference(blob) for blob in listed
        ]
        self._values: list[Any] | None = None
        self._fetch: Callable[[Any], Any] | None = None

    def set(self, values: Sequence[Any], _fetch_func: Callable[[Any], Any] | None = None) -> None:
        """Give it its values, one for each name. Sessions do that at the end of a run."""
        if len(values) != len(self.names):
            raise ValueError(f"{self} takes {len(self.names)} values, not {len(values)}")
        self._values = list(values)
        self._fetch = _fetch_func

    def _ready(self) -> list[Any]:
        if self._values is None:
            raise OutputNotReadyError(
                f"the output {[str(name) for name in self.names]} has no value yet: "
                f"run its task, or the group that the task is in, first"
            )
        return self._values

    def pick(self, values: Sequence[Any]) -> Any:
        """Values, one for each name, in the form this output has: a value, or a list."""
        return values[0] if self._is_scalar else list(values)

    def get(self) -> Any:
        """What `set` was given: one value, or a list."""
        return self.pick(self._ready())

    def fetch(self) -> Any:
        """The value at the end of the last run: an array that never changes, or a list of them.

        Raises:
            OutputNotReadyError: No run gave it a value yet.
        """
        values = self._ready()
        return self.pick(values if self._fetch is None else [self._fetch(v) for v in values])

    def __repr__(self) -> str:
        return f"TaskOutput(names={self.names}, values={self._values})"


def final_output(blob_or_record: Any) -> TaskOutput:
    """Have a blob handed back at the end of the run. Caffe2: task.final_output.

    It becomes an output of the current `Task`, or, outside one, of a new task that does nothing
    else, on the current node and in the current group: its value is what the blob has when the
    last task of the node has ended.
    """
    task = Task.current(required=False)
    if task is None:
        task = Task()
    return task.add_output(blob_or_record)


class Task(Managed):
    """A step that runs on a node, and the outputs that come back. Caffe2: task.Task.

    Args:
        step: A step, a net, or a list of them.
        outputs: A blob or a list of blobs (or of lists of blobs) to hand back after the run.
        workspace_type: See `WorkspaceType`; left out, the group's.
        group: The group to join; left out, the current one, if any.
        node: The node to run on; left out, the current one.
        name: What it is called: `node/name`; left out, after the step.
        num_instances: Run so many copies at once, each in a child workspace of its own.
    """

    def __init__(
        self,
        step: Steps | None = None,
        outputs: Any = None,
        workspace_type: str | None = None,
        group: TaskGroup | None = None,
        node: str | Node | None = None,
        name: str | None = None,
        num_instances: int | None = None,
    ) -> None:
        if not name:
            name = step.Name() if isinstance(step, ExecutionStep) else "task"
        if node is not None and not isinstance(node, Node):
            node = Node(node)
        self.node = str(Node.current(node))
        self.group = TaskGroup.current(group, required=False)
        self.name = f"{self.node}/{name}"
        self._workspace_type = _check_workspace_type(workspace_type)
        self._num_instances = num_instances
        self._step: ExecutionStep | None = None
        self._outputs: list[TaskOutput] = []
        self._frozen = False
        if step is not None:
            self.set_step(step)
        if outputs is not None:
            self.add_outputs(outputs)
        if self.group is not None:
            self.group.add(self)

    def __repr__(self) -> str:
        return f"Task(name={self.name}, node={self.node}, outputs={self._outputs})"

    @property
    def num_instances(self) -> int:
        """How many copies run at once."""
        return self._num_instances or 1

    def workspace_type(self) -> str | None:
        """Its `WorkspaceType`, None while it is in no group that has one."""
        return self._workspace_type

    def freeze(self) -> None:
        """Let nobody change it any more; a session does that when it compiles the task."""
        self._frozen = True

    def _check_not_frozen(self) -> None:
        if self._frozen:
            raise GraphError(f"task {self.name!r} has been run or compiled: it cannot be changed")

    def set_step(self, step: Steps) -> None:
        """Give it what to run."""
        self._check_not_frozen()
        if self._step is not None:
            raise GraphError(f"task {self.name!r} already has a step")
        self._step = to_execution_step(step)

    def get_step(self) -> ExecutionStep:
        """What it runs; an empty step when it has none."""
        return ExecutionStep(self.name) if self._step is None else self._step

    def add_output(self, output: Any) -> TaskOutput:
        """Have a blob, or a list of blobs, handed back after the run."""
        self._check_not_frozen()
        made = output if isinstance(output, TaskOutput) else TaskOutput(output)
        self._outputs.append(made)
        return made

    def add_outputs(self, outputs: Any) -> Any:
        """`add_output` for one, or for each of a list."""
        if not isinstance(outputs, (list, tuple)):
            return self.add_output(outputs)
        return [self.add_output(output) for output in outputs]

    def outputs(self) -> list[TaskOutput]:
        """What it hands back."""
        return list(self._outputs)


class TaskGroup(Managed):
    """Tasks that run at once, each on its node. Caffe2: task.TaskGroup.

    All tasks start together, and the group has run when the last has ended. Tasks of one node
    share a workspace; tasks of different nodes never share a blob.

        with TaskGroup() as group:
            with Node("n1"):
                Task(step=net1)
            with Node("n2"):
                Task(step=net2)
        session.run(group)

    Args:
        workspace_type: See `WorkspaceType`; left out, that of its first task, or PRIVATE.
    """

    def __init__(self, workspace_type: str | None = None) -> None:
        self._workspace_type = _check_workspace_type(workspace_type)
        self._tasks: list[Task] = []
        self._frozen = False

    def __repr__(self) -> str:
        return f"TaskGroup(tasks={self._tasks}, workspace_type={self._workspace_type})"

    def add(self, task: Task) -> None:
        """Add a task; one made inside the group's `with` block is added by itself."""
        if not isinstance(task, Task):
            raise RunnableTypeError(f"a TaskGroup is made of tasks, not {task!r}")
        if self._frozen:
            raise GraphError(
                "this TaskGroup has been run or compiled: no more tasks can be added to it"
            )
        if task in self._tasks:
            return
        if task._workspace_type is None:
            task._workspace_type = self._workspace_type or WorkspaceType.PRIVATE
        if self._workspace_type is None:
            self._workspace_type = task._workspace_type
        if self._workspace_type != task._workspace_type:
            raise GraphError(
                f"task {task.name!r} is {task._workspace_type} and its group is "
                f"{self._workspace_type}: a group is all of one workspace type"
            )
        taken = {other.name for other in self._tasks}
        base, index = task.name, 0
        while task.name in taken:
            index += 1
            task.name = f"{base}:{index}"
        task.group = self
        self._tasks.append(task)

    def tasks(self) -> list[Task]:
        """Its tasks, in order of making."""
        return list(self._tasks)

    def num_registered_tasks(self) -> int:
        """How many tasks it has."""
        return len(self._tasks)

    def used_nodes(self) -> list[str]:
        """The names of its nodes, in order of first use."""
        return list(dict.fromkeys(task.node for task in self._tasks))

    def workspace_type(self) -> str | None:
        """Its `WorkspaceType`, None while nothing has decided that."""
        return self._workspace_type

    def freeze(self) -> None:
        """Let nobody add to it any more; a session does that when it compiles the group."""
        self._frozen = True
        for task in self._tasks:
            task.freeze()
