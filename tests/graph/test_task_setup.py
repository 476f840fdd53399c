"""What hangs on the nets of tasks, and how groups are put together."""

import pytest

from procession import (
    Cluster,
    ExecutionStep,
    GraphError,
    Net,
    Node,
    RunnableTypeError,
    SetupNets,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
    core,
    execution_step,
    final_output,
    ops,
)
from procession.graph import schema
from procession.graph.task import TaskOutputList, add_setup_steps, get_setup_nets


def outline(step):
    """A step as nested names."""
    parts = [p.Name() if isinstance(p, Net) else outline(p) for p in step.body]
    return step.Name(), parts


def hanging(key, *objects):
    net = Net("net")
    for each in objects:
        net.add_attribute(key, each)
    return net


# Collecting.


def test_reprs():
    assert repr(SetupNets()) == "SetupNets(init_nets=None, exit_nets=None)"
    assert repr(TaskOutputList()) == "TaskOutputList(outputs=[])"
    assert repr(TaskOutput([])) == "TaskOutput(names=[], values=None)"
    assert repr(TaskGroup()) == "TaskGroup(tasks=[], workspace_type=None, remote_nets=[])"
    assert repr(Task()) == "Task(name=local/task, node=local, outputs=[])"
    assert repr(Cluster()) == "Cluster(nodes=[], node_kwargs={})"
    assert repr(Node()) == "Node(name=local, kwargs={})"


def test_setup_objects_may_return_and_may_add():
    made = [Net("made"), ExecutionStep("step", Net("inner")), Net("alone")]

    class Adds:
        def setup(self, net):
            net.Const(1)

        def exit(self, net):
            net.Const(2)
            return made[2]

    class Returns:
        def setup(self, net):
            return made[:2]

    class Nothing:
        pass

    net = hanging("k", Returns(), Nothing(), Adds())
    inits, exits = get_setup_nets("k", [net, execution_step("s", net)], None)
    # Nets that were added to come first.
    assert [str(part) for part in inits] == ["k/init", "made", "step"]
    assert [str(part) for part in exits] == ["k/exit", "alone"]
    assert get_setup_nets("other", [net], None) == ([], [])


def test_nets_for_setup_are_like_those_that_it_hangs_on():
    class OwnNet(Net):
        pass

    class Adds:
        def setup(self, net):
            net.Const(1)

        exit = setup

    own = OwnNet("net")
    own.add_attribute("k", Adds())
    for part in own, execution_step("s", [Net("first"), own]), core.Plan(execution_step("t", own)):
        inits, exits = get_setup_nets("k", [Net("other"), part], None)
        assert [type(net) for net in (*inits, *exits)] == [OwnNet, OwnNet]
    inits, _ = get_setup_nets("k", [hanging("k", Adds()), own], None)
    assert [type(net) for net in inits] == [Net]


def test_a_setup_object_may_be_for_somebody():
    one, other = SetupNets([Net("a")]), SetupNets([Net("b")])
    target = object()
    one._setup_target, other._setup_target = target, object()
    inits, _ = get_setup_nets("k", [hanging("k", one, other)], target)
    assert [net.Name() for net in inits] == ["a"]


def test_a_setup_object_returns_what_runs():
    net = hanging("k", SetupNets("init"))
    with pytest.raises(RunnableTypeError, match=r"setup\(\) of SetupNets.*not 'init'"):
        get_setup_nets("k", [net], None)


def test_add_setup_steps():
    step, before, after = ExecutionStep("s", Net("n")), Net("before"), Net("after")
    assert add_setup_steps(step, [], [], "x") is step
    assert outline(add_setup_steps(step, [before], [], "x")) == (
        "x",
        [("x:init", ["before"]), ("s", ["n"])],
    )
    assert outline(add_setup_steps(step, [], [after], "x")) == (
        "x",
        [("s", ["n"]), ("x:exit", ["after"])],
    )


# Tasks.


def test_the_step_of_a_task_with_everything():
    net = hanging(Task.TASK_SETUP, SetupNets([Net("init")], [Net("exit")]))
    net.add_attribute(Task.TASK_INSTANCE_SETUP, SetupNets([Net("begin")], [Net("end")]))
    net.add_attribute(Task.REPORT_STEP, execution_step("report", Net("r")))
    task = Task(step=execution_step("s", net), num_instances=2)
    step = task.get_step()
    assert outline(step) == (
        "local/s",
        [
            ("local/s:init", ["init"]),
            (
                "local/s:parallel",
                [
                    (
                        "local/s:instance",
                        [
                            ("local/s:instance:init", ["begin"]),
                            ("local/s:body", [("report", ["r"]), ("s", ["net"])]),
                            ("local/s:instance:exit", ["end"]),
                        ],
                    )
                ],
            ),
            ("local/s:exit", ["exit"]),
        ],
    )
    parallel = step.Substeps()[1]
    assert parallel.concurrent_instances == 2
    instance = parallel.Substeps()[0]
    assert instance.create_workspace
    report = instance.Substeps()[1].Substeps()[0]
    assert report.every_millis == 1000
    assert task.get_step() is step


def test_instances_leave_the_given_step_alone():
    step = ExecutionStep("s", Net("n"))
    instance = Task(step=step, num_instances=3).get_step().Substeps()[0]
    assert (instance.Name(), instance.Substeps()) == ("local/s:instance", [step])
    assert not step.create_workspace


def test_a_with_block_builds_the_step():
    with Task(name="t") as task:
        net = ops.net()
        ops.Const(1)
        assert Task.current() is task
    assert net.Name() == "local/t"
    assert outline(task.get_step()) == ("local/t", ["local/t"])
    with pytest.raises(GraphError, match="its `with` block would build another"):
        task.__enter__()
    assert Task.current(required=False) is None


def test_a_task_that_is_being_built_cannot_run():
    with Task() as task, pytest.raises(GraphError, match="`with` block has not ended"):
        task.freeze()


def test_a_task_whose_block_fails_is_not_in_the_group():
    with TaskGroup() as group:
        with pytest.raises(ZeroDivisionError), Task(name="t"):
            raise ZeroDivisionError
        with Task(name="t"):
            pass
    assert [task.name for task in group.tasks()] == ["local/t:1"]


def test_the_order_of_a_group_is_that_of_the_ends():
    with TaskGroup() as group:
        with Task(name="outer"), Task(name="inner"):
            pass
        Task(name="last")
    names = [task.name for task in group.tasks()]
    assert names == ["local/inner", "local/outer", "local/last"]
    assert group.num_registered_tasks() == 3


def test_a_record_as_output_has_to_have_blobs():
    with pytest.raises(GraphError, match="record without blobs"):
        Task(outputs=schema.Struct(("a", int)))
    net = Net("n")
    record = schema.NewRecord(net, schema.Struct(("a", int), ("b", float)))
    task = Task(outputs=record)
    assert task.outputs()[0].names == record.field_blobs()
    output = task.outputs()[0]
    output.set([1, 2.0])
    assert output.fetch().field_blobs() == [1, 2.0]


def test_output_lists():
    outputs = [TaskOutput("a"), TaskOutput(["b", "c"])]
    row = TaskOutputList(outputs)
    assert row.names() == ["a", "b", "c"]
    row.set_values([1, 2, 3])
    assert [output.get() for output in outputs] == [1, [2, 3]]
    with pytest.raises(ValueError, match="takes 3 values, not 1"):
        row.set_values([1])
    task = Task(outputs=["x"])
    assert task.output_list().outputs == task.outputs()


# Groups.


def test_constants():
    assert (Task.TASK_SETUP, Task.TASK_INSTANCE_SETUP) == ("task_setup", "task_instance_setup")
    assert (Task.REPORT_STEP, TaskGroup.LOCAL_SETUP) == ("report_step", "local_setup")


def test_what_a_group_does_by_node():
    shared = SetupNets([Net("init")], [Net("exit")])
    with TaskGroup() as group:
        with Node("a"):
            first = Task(step=hanging(TaskGroup.LOCAL_SETUP, shared))
            group.report_step(Net("r"), interval_ms=20)
        with Node("b"):
            second = Task(step=hanging(TaskGroup.LOCAL_SETUP, shared))
            third = Task(step=Net("n"))
    work = group.work()
    assert group.work() is work
    assert {node: each.tasks for node, each in work.items()} == {
        "a": (first,),
        "b": (second, third),
    }
    for each in work.values():
        assert ([str(n) for n in each.inits], [str(n) for n in each.exits]) == (["init"], ["exit"])
    assert [step.every_millis for step in work["a"].reports] == [20]
    assert work["b"].reports == ()


def test_nets_to_add_to_are_shared_where_objects_are_together():
    class Adds:
        def setup(self, net):
            net.Const(1)

    both, one = Adds(), Adds()
    with TaskGroup() as group:
        with Node("a"):
            Task(step=hanging(TaskGroup.LOCAL_SETUP, both, one))
        with Node("b"):
            Task(step=hanging(TaskGroup.LOCAL_SETUP, both))
    a, b = (list(work.inits) for work in group.work().values())
    assert [len(net.operators) for net in a + b] == [1, 1, 1]
    assert b[0] in a
    assert len({net.Name() for net in a}) == 2


def test_tasks_by_node():
    report = Net("r")
    shared = SetupNets([Net("init")], [Net("exit")])
    with TaskGroup() as group:
        with Node("a"):
            Task(step=ExecutionStep("x", hanging(TaskGroup.LOCAL_SETUP, shared)), outputs=["o"])
            Task(step=ExecutionStep("y", Net("y")), outputs=["p"])
            group.report_step(ExecutionStep("report", report), interval_ms=20)
        with Node("b"):
            Task(step=ExecutionStep("z", Net("z")))
    grouped = group.tasks_by_node()
    assert group.tasks_by_node() is grouped
    first, second = grouped.tasks()
    assert [first.name, second.name] == ["a/grouped_by_node", "b/grouped_by_node"]
    assert outline(first.get_step()) == (
        "a",
        [
            ("a:init", ["init"]),
            ("a:body", [("report", ["r"]), ("x", ["net"]), ("y", ["y"])]),
            ("a:exit", ["exit"]),
        ],
    )
    assert first.get_step().Substeps()[1].concurrent
    assert [output.names for output in first.outputs()] == [["o"], ["p"]]
    assert outline(second.get_step()) == ("z", ["z"])
    # What hangs on its nets is in it already.
    assert first.work()["a"].inits == ()
    with pytest.raises(GraphError, match="no more tasks can be added"):
        Task(group=group)


def test_to_task():
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for node in ("a", "b"):
            with Node(node):
                Task(step=ExecutionStep(node, Net(node)), outputs=[node])
    task = group.to_task()
    assert (task.node, task.workspace_type()) == ("local", WorkspaceType.GLOBAL)
    assert outline(task.get_step()) == ("local:body", [("a", ["a"]), ("b", ["b"])])
    assert [output.names for output in task.outputs()] == [["a"], ["b"]]
    assert group.to_task("c").node == "c"
    assert TaskGroup().to_task().get_step().body == ()


def test_reports_belong_to_a_node_with_a_task():
    with TaskGroup() as group:
        Task(step=Net("n"), node="a")
        group.report_step(execution_step("r", Net("r")))
    with pytest.raises(GraphError, match=r"'r' reports on node 'local'.*it has some on"):
        group.work()


def test_report_nets():
    group = TaskGroup()
    net = group.report_net()
    assert (net.Name(), group.report_net()) == ("local/reporter", net)
    mine = Net("mine")
    assert group.report_net(mine, node="a", report_interval=2) is mine
    with pytest.raises(GraphError, match="node 'a' already has a report net"):
        group.report_net(Net("other"), node="a")
    for node in ("a", "local"):
        Task(step=Net("n"), group=group, node=node)
    work = group.work()
    assert [step.every_millis for step in work["a"].reports] == [2000]
    assert work["local"].reports[0].Nets() == [net]


def test_a_report_step_that_is_part_of_something_is_left_alone():
    step = ExecutionStep("r", Net("r"))
    execution_step("around", [step])
    group = TaskGroup()
    Task(step=Net("n"), group=group)
    group.report_step(step, interval_ms=5)
    assert step.every_millis is None
    assert group.work()["local"].reports[0].Substeps() == [step]


def test_remote_nets():
    group, net = TaskGroup(), Net("n")
    group.add_remote_net(net)
    assert group.remote_nets() == [net]
    assert "remote_nets=[Net('n')]" in repr(group)


def test_a_group_as_a_step():
    with TaskGroup() as group:
        Task(step=ExecutionStep("s", hanging(Task.TASK_SETUP, SetupNets([Net("init")]))))
    step = core.to_execution_step(group)
    assert step.create_workspace
    # Whoever has it in a task is not told of what it has set up itself.
    assert step.get_all_attributes(Task.TASK_SETUP) == []
    around = Task(step=[step, ExecutionStep("other", Net("n"))])
    assert outline(around.get_step())[1][1] == ("other", ["n"])
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        Task(step=Net("n"))
    assert not core.to_execution_step(group).create_workspace


def test_final_output_takes_records():
    net = Net("n")
    record = schema.NewRecord(net, schema.Struct(("a", int)))
    with Task() as task:
        output = final_output(record)
    assert task.outputs() == [output]
