"""Node, Cluster, Task, TaskGroup, TaskOutput."""

import numpy as np
import pytest

from procession import (
    BlobReference,
    Cluster,
    ExecutionStep,
    GraphError,
    LocalSession,
    Net,
    Node,
    OutputNotReadyError,
    RunnableTypeError,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
    final_output,
)

# Nodes and clusters.


def test_only_the_name_of_a_node_counts():
    assert str(Node("n1")) == str(Node(Node("n1"))) == "n1"
    assert str(Node()) == "local"
    assert Node("n", nice=3).kwargs() == {"nice": 3}
    assert repr(Node("n", nice=3)) == "Node(name=n, kwargs={'nice': 3})"
    with pytest.raises(GraphError, match="a node needs a name"):
        Node("")


def test_a_cluster_keeps_the_nodes_in_order_and_merges_what_is_said_of_them():
    with Cluster() as cluster:
        with Node("z"):
            pass
        Node("y", nice=1)
        Node("z", nice=2)
        Node("z", threads=3)
    Node("outside")
    assert cluster.nodes() == ["z", "y"]
    assert cluster.node_kwargs() == {"z": {"nice": 2, "threads": 3}, "y": {"nice": 1}}
    assert repr(cluster) == f"Cluster(nodes={cluster.nodes()}, node_kwargs={cluster.node_kwargs()})"


def test_a_task_on_no_node_makes_the_local_one_known():
    with Cluster() as cluster:
        Task()
        assert cluster.nodes() == ["local"]
        with Node("a"):
            Task()
            Task(node=Node("b"))
    assert cluster.nodes() == ["local", "a", "b"]


# Tasks.


def test_where_a_task_runs():
    assert Task().node == "local"
    with Node("n1"):
        assert Task().node == "n1"
        assert Task(node="n2").node == "n2"
        assert Task(node=Node("n3")).node == "n3"
        with Node("n4"):
            assert Task().node == "n4"


def test_what_a_task_is_called():
    assert Task(step=Net("k")).name == "local/task"
    assert Task(step=ExecutionStep("train")).name == "local/train"
    assert Task(step=[Net("k")]).name == "local/task"
    assert Task(name="x", node="n").name == "n/x"


def test_names_are_unique_in_a_group():
    step = ExecutionStep("s")
    with TaskGroup() as group:
        with Node("n1"):
            Task(step=step)
            Task(step=step)
            Task(name="s")
        Task(step=step)
    with TaskGroup() as other:
        Task(step=step)
    assert [task.name for task in group.tasks()] == ["n1/s", "n1/s:1", "n1/s:2", "local/s"]
    assert [task.name for task in other.tasks()] == ["local/s"]


def test_the_step_of_a_task():
    net = Net("k")
    step = ExecutionStep("s", net)
    assert Task(step=step).get_step() is step
    assert Task(step=net).get_step().Nets() == [net]
    assert Task(step=[net, net]).get_step().body == (net, net)
    assert Task().get_step().body == ()
    task = Task()
    task.set_step(net)
    with pytest.raises(GraphError, match="task 'local/task' already has a step"):
        task.set_step(net)
    with pytest.raises(RunnableTypeError):
        Task(step="net")


def test_instances():
    assert Task().num_instances == 1
    assert Task(num_instances=3).num_instances == 3


def test_outputs():
    task = Task(outputs=["a", BlobReference("b")])
    assert [output.names for output in task.outputs()] == [["a"], ["b"]]
    assert [o.names for o in Task(outputs=[["a", "b"], "c"]).outputs()] == [["a", "b"], ["c"]]
    assert [o.names for o in Task(outputs="a").outputs()] == [["a"]]
    assert Task().outputs() == []
    task = Task()
    made = task.add_output("a")
    assert isinstance(made, TaskOutput)
    assert task.add_output(made) is made
    assert task.add_outputs("b").names == ["b"]
    assert [output.names for output in task.add_outputs(["c", "d"])] == [["c"], ["d"]]
    assert len(task.outputs()) == 5


def test_a_frozen_task_stays_as_it_is():
    task = Task()
    task.freeze()
    with pytest.raises(GraphError, match="task 'local/task' has been run or compiled"):
        task.add_output("a")
    with pytest.raises(GraphError, match="cannot be changed"):
        task.set_step(Net("k"))


# Groups.


def test_a_group_collects_what_is_made_inside():
    with TaskGroup() as group:
        first = Task()
        with Node("n1"):
            second = Task()
    outside = Task()
    assert group.tasks() == [first, second]
    assert group.num_registered_tasks() == 2
    assert group.used_nodes() == ["local", "n1"]
    assert first.group is group
    assert outside.group is None
    group.add(outside)
    group.add(outside)
    assert group.tasks() == [first, second, outside]
    explicit = Task(group=group, node="n2")
    assert group.tasks()[-1] is explicit
    assert group.used_nodes() == ["local", "n1", "n2"]


def test_groups_nest():
    with TaskGroup() as outer:
        with TaskGroup() as inner:
            Task()
        Task()
        Task()
    assert (len(inner.tasks()), len(outer.tasks())) == (1, 2)


def test_the_first_task_decides_the_workspace_of_a_group():
    with TaskGroup() as group:
        assert group.workspace_type() is None
        Task(workspace_type=WorkspaceType.GLOBAL)
        later = Task()
    assert group.workspace_type() == later.workspace_type() == WorkspaceType.GLOBAL


def test_a_group_is_private_unless_it_says_otherwise():
    with TaskGroup() as group:
        task = Task()
    assert group.workspace_type() == task.workspace_type() == WorkspaceType.PRIVATE
    with TaskGroup(WorkspaceType.GLOBAL):
        assert Task().workspace_type() == WorkspaceType.GLOBAL
    assert Task().workspace_type() is None
    assert Task(workspace_type=WorkspaceType.GLOBAL).workspace_type() == WorkspaceType.GLOBAL


def test_a_group_has_one_workspace_type():
    with (
        TaskGroup(WorkspaceType.GLOBAL) as group,
        pytest.raises(GraphError, match="a group is all of one workspace type"),
    ):
        Task(workspace_type=WorkspaceType.PRIVATE)
    assert group.tasks() == []


@pytest.mark.parametrize("make", [TaskGroup, lambda kind: Task(workspace_type=kind)])
def test_no_such_workspace_type(make):
    with pytest.raises(GraphError, match="'public' is no workspace type"):
        make("public")


def test_a_frozen_group_takes_no_more():
    with TaskGroup() as group:
        task = Task()
    group.freeze()
    with pytest.raises(GraphError, match="no more tasks can be added"):
        Task(group=group)
    with pytest.raises(GraphError, match="cannot be changed"):
        task.add_output("a")


@pytest.mark.parametrize("run", [LocalSession.compile, lambda group: LocalSession().run(group)])
def test_compiling_and_running_freezes(run):
    with TaskGroup() as group:
        Task(step=Net("k"))
    run(group)
    with pytest.raises(GraphError):
        Task(group=group)
    task = Task(step=Net("k"))
    run(task)
    with pytest.raises(GraphError):
        task.add_output("a")


def test_a_group_is_made_of_tasks():
    with pytest.raises(RunnableTypeError, match="a TaskGroup is made of tasks"):
        TaskGroup().add(Net("k"))


# Outputs.


def test_final_output_joins_the_current_task():
    with TaskGroup() as group:
        with Task() as task:
            output = final_output("x")
            several = final_output(["x", "y"])
        assert task.outputs() == [output, several]
    assert group.tasks() == [task]


def test_final_output_outside_a_task_makes_one():
    with TaskGroup() as group, Node("n1"):
        output = final_output("x")
    [task] = group.tasks()
    assert task.node == "n1"
    assert task.outputs() == [output]
    assert task.get_step().body == ()


def test_an_output_without_a_value():
    for read in (TaskOutput("a").fetch, TaskOutput(["a", "b"]).get):
        with pytest.raises(OutputNotReadyError, match=r"the output \['a'.* has no value yet"):
            read()


def test_an_output_has_the_form_it_was_asked_in():
    one = TaskOutput("a")
    one.set([5])
    assert one.get() == one.fetch() == 5
    several = TaskOutput(["a"])
    several.set([5], lambda value: value + 1)
    assert several.get() == [5]
    assert several.fetch() == [6]
    with pytest.raises(ValueError, match="takes 1 values, not 2"):
        one.set([1, 2])
    assert "values=[5]" in repr(one)


def test_outputs_come_back_from_a_run():
    net = Net("n")
    net.Const(np.float32([1, 2]), "a")
    with TaskGroup() as group:
        task = Task(step=net, outputs=["a", ["a", "a"]])
    with LocalSession() as session:
        session.run(group)
    one, two = (output.fetch() for output in task.outputs())
    np.testing.assert_array_equal(one, [1, 2])
    assert len(two) == 2
    assert not one.flags.writeable
