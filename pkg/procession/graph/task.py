"""Task and TaskGroup: steps on nodes, with what comes before, beside and after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from procession.errors import GraphError, RunnableTypeError
from procession.graph import setup
from procession.graph.builder import NetBuilder
from procession.graph.cluster import (
    LOCAL,
    Cluster,
    Node,
    WorkspaceType,
    checked_workspace_type,
)
from procession.graph.net import Net
from procession.graph.output import TaskOutput, TaskOutputList
from procession.graph.properties import NodeProperties
from procession.graph.scope import Managed
from procession.graph.setup import SetupNets, add_setup_steps, get_setup_nets
from procession.graph.step import (
    ExecutionStep,
    Plan,
    Steps,
    execution_step,
    to_execution_step,
)
from procession.operators.datatype import DataType

__all__ = [
    "LOCAL",
    "Cluster",
    "Node",
    "NodeWork",
    "SetupNets",
    "Task",
    "TaskGroup",
    "TaskOutput",
    "TaskOutputList",
    "WorkspaceType",
    "add_setup_steps",
    "final_output",
    "get_setup_nets",
]


def final_output(blob_or_record: Any) -> TaskOutput:
    """Have a blob, a list of blobs or a record handed back at the end of the run.

    It becomes an output of the current `Task`, or, outside one, of a new task that does nothing
    else, on the current node and in the current group: its value is what the blob has when the
    last task of the node has ended. Caffe2: task.final_output.
    """
    task = Task.current(required=False)
    if task is None:
        task = Task()
    return task.add_output(blob_or_record)


def _recurring(step: Steps, interval_ms: int) -> ExecutionStep:
    """A step that runs every so many milliseconds; the step itself if that can be changed."""
    made = to_execution_step(step)
    if made.used:
        made = execution_step(made.Name(), [made])
    made.RunEveryMillis(interval_ms)
    return made


class Task(Managed):
    """A step that runs on a node, and the outputs that come back. Caffe2: task.Task.

    As a `with` block it is a `NetBuilder`: what is built inside by `ops` is what it runs.

    Args:
        step: A step, a net, a NetBuilder, or a list of nets and steps.
        outputs: A blob, a record, or a list of blobs (or of lists of blobs) to hand back
            after the run.
        workspace_type: See `WorkspaceType`; left out, the group's.
        group: The group to join; left out, the current one, if any.
        node: The node to run on; left out, the current one.
        name: What it is called: `node/name`; left out, after the step.
        num_instances: Run so many copies at once, each in a child workspace of its own.
    """

    TASK_SETUP = setup.TASK_SETUP
    """Hung by this on a net: runs once before, or after, all instances of the task."""
    TASK_INSTANCE_SETUP = setup.TASK_INSTANCE_SETUP
    """Hung by this on a net: runs once before, or after, each instance."""
    REPORT_STEP = setup.REPORT_STEP
    """Hung by this on a net: a step that runs again and again beside each instance."""
    builder_type: ClassVar[type[NetBuilder]] = NetBuilder
    """What it is as a `with` block."""
    has_output: ClassVar[bool] = False
    """Whether one that hands nothing back is given an output, a zero. Caffe2's always have one."""

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
        place = Node.current(node)
        self.node = str(place)
        self.node_properties = place.properties
        self.group = TaskGroup.current(group, required=False)
        self.name = f"{self.node}/{name}"
        self._workspace_type = checked_workspace_type(workspace_type)
        self._num_instances = num_instances
        self._step: ExecutionStep | None = None
        self._step_with_setup: ExecutionStep | None = None
        self._work: dict[str, NodeWork] | None = None
        self._outputs: list[TaskOutput] = []
        self._already_used = False
        self._builder: NetBuilder | None = None
        if step is not None:
            self.set_step(step)
        if outputs is not None:
            self.add_outputs(outputs)
        if self.group is not None:
            self.group.add(self)

    @classmethod
    def of(cls, runnable: Net | ExecutionStep | Plan) -> Task:
        """A task in no group, on the current node, for something that is not in a task."""
        step = runnable.Steps() if isinstance(runnable, Plan) else runnable
        here = Node.current()
        # In a context of its own it joins no group.
        make = partial(cls, step=step, node=str(here), name=runnable.Name())
        task = Context().run(make)
        task.node_properties = here.properties
        return task

    def __repr__(self) -> str:
        return f"Task(name={self.name}, node={self.node}, outputs={self._outputs})"

    def __enter__(self) -> Task:
        self._check_not_used()
        if self._step is not None:
            raise GraphError(
                f"task {self.name!r} already has a step: its `with` block would build another"
            )
        super().__enter__()
        if self.group is not None:
            # Tasks that are built inside come first: the group's order is that of the ends.
            self.group.discard(self)
        self._builder = self.builder_type(_fullname=self.name)
        self._builder.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._builder is not None
        builder, self._builder = self._builder, None
        super().__exit__(*exception)
        builder.__exit__(*exception)
        if exception[:1] == (None,):
            self.set_step(builder)
            if self.group is not None:
                self.group.add(self)

    @property
    def num_instances(self) -> int:
        """How many copies run at once."""
        return self._num_instances or 1

    def workspace_type(self) -> str | None:
        """Its `WorkspaceType`, None while it is in no group that has one."""
        return self._workspace_type

    def freeze(self) -> None:
        """Let nobody change it any more; a session does that when it compiles the task."""
        if self._builder is not None:
            raise GraphError(f"task {self.name!r} is being built: its `with` block has not ended")
        self._already_used = True

    def _check_not_used(self) -> None:
        if self._already_used:
            raise GraphError(f"task {self.name!r} has been run or compiled: it cannot be changed")

    def set_step(self, step: Steps) -> None:
        """Give it what to run.

        Raises:
            GraphError: It has a step, or has been used.
        """
        self._check_not_used()
        if self._step is not None:
            raise GraphError(f"task {self.name!r} already has a step")
        self._step = to_execution_step(step)
        self._step_with_setup = self._work = None

    def get_step(self) -> ExecutionStep:
        """What it runs, with all that hangs on its nets; an empty step when it has none.

        That is: the nets set up for the task; then its instances, all at once, each of them with
        the nets set up for an instance, the step, and its reporters beside it; then the nets
        that the task exits by. What hangs on a net afterwards is not in it.
        """
        if self._step_with_setup is None:
            self._step_with_setup = self._with_setup()
        return self._step_with_setup

    def _with_setup(self) -> ExecutionStep:
        if self._step is None:
            return execution_step(self.name, [])
        hung = dict.fromkeys(self._step.get_all_attributes(Task.REPORT_STEP))
        reports = [
            step
            if isinstance(step, ExecutionStep) and step.every_millis
            else _recurring(step, 1000)
            for step in hung
        ]
        parts = [self._step, *reports]
        inits, exits = get_setup_nets(Task.TASK_SETUP, parts, self)
        instance_inits, instance_exits = get_setup_nets(Task.TASK_INSTANCE_SETUP, parts, self)
        if self.has_output and not self._outputs:
            net = self.builder_type.net_type(f"{self.name}:output")
            zero = net.ConstantFill([], 1, dtype=int(DataType.INT32), value=0)
            self._outputs.append(TaskOutput(zero))
            exits = [*exits, net]
        body = self._step
        if reports:
            body = execution_step(f"{self.name}:body", [*reports, body])
        name = f"{self.name}:instance"
        instance = add_setup_steps(body, instance_inits, instance_exits, name)
        if self.num_instances > 1:
            if instance is self._step:
                instance = execution_step(name, [instance])
            instance.SetCreateWorkspace(True)
            instance = execution_step(
                f"{self.name}:parallel", [instance], num_concurrent_instances=self.num_instances
            )
        return add_setup_steps(instance, inits, exits, self.name)

    def work(self) -> dict[str, NodeWork]:
        """Its node -> what that does when the task runs alone: also what a group would set up."""
        if self._work is None:
            key, runs = TaskGroup.LOCAL_SETUP, {self.node: [self.get_step()]}
            inits, exits = setup.collect_setups(key, runs, self.group)[self.node]
            self._work = {self.node: NodeWork((self,), (), tuple(inits), tuple(exits))}
        return self._work

    def add_output(self, output: Any) -> TaskOutput:
        """Have a blob, a list of blobs, or a record handed back after the run."""
        self._check_not_used()
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

    def output_list(self) -> TaskOutputList:
        """What it hands back, as one row."""
        return TaskOutputList(self.outputs())


@dataclass(frozen=True)
class NodeWork:
    """All that a group does on one node.

    First `inits`, one after the other; then all `tasks` at once, and beside them `reports` again
    and again; and when the last task has ended, `exits`.
    """

    tasks: tuple[Task, ...]
    reports: tuple[ExecutionStep, ...]
    inits: tuple[Net | ExecutionStep, ...]
    exits: tuple[Net | ExecutionStep, ...]


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

    LOCAL_SETUP = setup.LOCAL_SETUP
    """Hung by this on a net: runs once on its node, before, or after, all tasks there."""

    def __init__(self, workspace_type: str | None = None) -> None:
        self._workspace_type = checked_workspace_type(workspace_type)
        self._tasks: list[Task] = []
        self._known: set[Task] = set()
        self._report_steps: list[tuple[str, ExecutionStep]] = []
        self._report_nets: dict[str, tuple[Net, float]] = {}
        self._remote_nets: list[Net] = []
        self._node_properties: dict[str, NodeProperties] = {}
        self._already_used = False
        self._work: dict[str, NodeWork] | None = None
        self._grouped: dict[tuple[tuple[str, str], ...], TaskGroup] = {}

    def __repr__(self) -> str:
        return (
            f"TaskGroup(tasks={self._tasks}, workspace_type={self._workspace_type}, "
            f"remote_nets={self._remote_nets})"
        )

    def _changing(self) -> None:
        if self._already_used:
            raise GraphError(
                "this TaskGroup has been run or compiled: no more tasks can be added to it, "
                "and no reports"
            )
        self._work = None

    def add(self, task: Task) -> None:
        """Add a task; one made inside the group's `with` block is added by itself."""
        if not isinstance(task, Task):
            raise RunnableTypeError(f"a TaskGroup is made of tasks, not {task!r}")
        self._changing()
        if task in self._tasks:
            return
        kinds = (self._workspace_type, task._workspace_type)
        if None not in kinds and kinds[0] != kinds[1]:
            raise GraphError(
                f"task {task.name!r} is {task._workspace_type} and its group is "
                f"{self._workspace_type}: a group is all of one workspace type"
            )
        self._say(task.node, task.node_properties)
        kind = task._workspace_type or self._workspace_type or WorkspaceType.PRIVATE
        task._workspace_type = self._workspace_type = kind
        if task not in self._known:
            taken = {known.name for known in self._known}
            base, index = task.name, 0
            while task.name in taken:
                index += 1
                task.name = f"{base}:{index}"
            self._known.add(task)
        task.group = self
        self._tasks.append(task)

    def _say(self, node: str, properties: NodeProperties) -> None:
        known = self._node_properties.get(node)
        self._node_properties[node] = properties if known is None else known.merged(properties)

    def node_properties(self) -> dict[str, NodeProperties]:
        """Node -> what was said of it, by its tasks and reports; see `Node`."""
        return {node: self._node_properties[node] for node in self.used_nodes()}

    def discard(self, task: Task) -> None:
        """Take a task out again; its name stays taken."""
        self._changing()
        self._tasks.remove(task)

    def tasks(self) -> list[Task]:
        """Its tasks, in order of making (of those with a `with` block: of its end)."""
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

    def add_remote_net(self, net: Net) -> None:
        """Keep a net with the group, for sessions that run nets elsewhere. None here do."""
        self._remote_nets.append(net)

    def remote_nets(self) -> list[Net]:
        """What `add_remote_net` was given."""
        return self._remote_nets

    def _at(self, node: str | Node | None) -> str:
        """The name of a node to report on, whose properties are noted."""
        at = node or Node.current()
        if isinstance(at, Node):
            self._say(str(at), at.properties)
        return str(at)

    def report_step(
        self,
        step: Steps | None = None,
        node: str | Node | None = None,
        interval_ms: int = 1000,
    ) -> None:
        """Run a step again and again on a node, while the group runs there, and once at its end.

        Args:
            step: What to run.
            node: Where; left out, on the current node.
            interval_ms: Every so many milliseconds.
        """
        self._changing()
        made = _recurring(execution_step(None, None) if step is None else step, interval_ms)
        self._report_steps.append((self._at(node), made))

    def report_net(
        self,
        net: Net | None = None,
        node: str | Node | None = None,
        report_interval: float = 5,
    ) -> Net:
        """The net that runs every `report_interval` seconds on a node. `report_step` can do more.

        Args:
            net: The net; left out, the one that the node has, or a new one.
            node: Where; left out, on the current node.
            report_interval: Seconds.

        Raises:
            GraphError: A net is given, and the node has one already.
        """
        at = self._at(node)
        if at in self._report_nets:
            if net is not None:
                raise GraphError(f"node {at!r} already has a report net in this TaskGroup")
        else:
            self._changing()
            made = NetBuilder.new_net(f"{at}/reporter") if net is None else net
            self._report_nets[at] = made, report_interval
        return self._report_nets[at][0]

    def freeze(self) -> None:
        """Let nobody add to it any more; a session does that when it compiles the group."""
        for task in self._tasks:
            task.freeze()
        self._already_used = True

    def work(self) -> dict[str, NodeWork]:
        """Node -> what the group does there, in order of first use.

        Raises:
            GraphError: A report belongs to a node on which there is no task.
        """
        if self._work is None:
            self._work = self._by_node()
        return self._work

    def _by_node(self) -> dict[str, NodeWork]:
        nodes = self.used_nodes()
        reports: dict[str, list[ExecutionStep]] = {node: [] for node in nodes}
        listed = list(self._report_steps)
        for node, (net, seconds) in self._report_nets.items():
            listed.append((node, _recurring(net, int(seconds * 1000))))
        for node, step in listed:
            if node not in reports:
                raise GraphError(
                    f"step {step.Name()!r} reports on node {node!r}, where this TaskGroup has no "
                    f"task; it has some on {nodes}"
                )
            reports[node].append(step)
        tasks = {node: [task for task in self._tasks if task.node == node] for node in nodes}
        runs = {
            node: [*(task.get_step() for task in tasks[node]), *reports[node]] for node in nodes
        }
        setups = setup.collect_setups(TaskGroup.LOCAL_SETUP, runs, self)
        return {
            node: NodeWork(tuple(tasks[node]), tuple(reports[node]), *map(tuple, setups[node]))
            for node in nodes
        }

    def tasks_by_node(self, node_remap: Callable[[str], str] | None = None) -> TaskGroup:
        """A group with one task per node, which does all that this one does there.

        Args:
            node_remap: Node -> the node to run on instead.

        Nothing can be added to this group afterwards. Caffe2: the same.
        """
        self.freeze()
        moved = {node: node_remap(node) if node_remap else node for node in self.work()}
        key = tuple(moved.items())
        if key not in self._grouped:
            group = TaskGroup()
            for target in dict.fromkeys(moved.values()):
                works = [work for node, work in self.work().items() if moved[node] == target]
                task = Task(
                    node=target,
                    outputs=[output for w in works for t in w.tasks for output in t.outputs()],
                    name="grouped_by_node",
                    group=group,
                    workspace_type=self._workspace_type,
                )
                # That is all: what hangs on its nets is in it.
                task._step_with_setup = _one_step(target, works)
                task._work = {target: NodeWork((task,), (), (), ())}
                if moved.get(target) == target:
                    group._say(target, self._node_properties[target])
            self._grouped[key] = group
        return self._grouped[key]

    def to_task(self, node: str | Node | None = None) -> Task:
        """One task that does all that this group does, on one node. Caffe2: the same.

        Args:
            node: That node; left out, the current one.
        """
        target = str(node or Node.current())
        tasks = self.tasks_by_node(lambda _: target).tasks()
        return tasks[0] if tasks else Task()

    def as_step(self, default_name: str | None = None) -> ExecutionStep:
        """A step that does all that this group does, wherever it is put."""
        task = self.to_task(LOCAL)
        made = execution_step(
            default_name or "task_group",
            [task.get_step()],
            create_workspace=self._workspace_type == WorkspaceType.PRIVATE,
        )
        made.own_setup = True
        return made


def _one_step(node: str, works: list[NodeWork]) -> ExecutionStep:
    """All that groups do on one node, as one step."""
    steps = [
        *(step for work in works for step in work.reports),
        *(task.get_step() for work in works for task in work.tasks),
    ]
    body = steps[0]
    if len(steps) > 1:
        body = execution_step(f"{node}:body", steps, concurrent_substeps=True)
    inits = _joined(work.inits for work in works)
    exits = _joined(work.exits for work in works)
    return add_setup_steps(body, inits, exits, node)


def _joined(nodes: Iterable[Iterable[Any]]) -> list[Any]:
    """What runs on several nodes, on one: once what each of them has."""
    parts: dict[Any, Any] = {}
    for each in nodes:
        times: Counter[int] = Counter()
        for part in each:
            times[id(part)] += 1
            parts.setdefault((id(part), times[id(part)]), part)
    return list(parts.values())
