"""From runnables to programs."""

import cloudpickle
import numpy as np
import pytest

from procession import (
    ExecutionStep,
    GraphError,
    LocalSession,
    Net,
    Node,
    Plan,
    ProcessSession,
    RunnableTypeError,
    SetupNets,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
    execution_step,
    operator,
)
from procession.compiler.lower import home_node, lower, revisions
from procession.graph.properties import NodeProperties
from procession.operators import REGISTRY
from procession.runtime.executor import Executable
from procession.runtime.monitor import Deadline
from procession.runtime.program import NetProgram
from procession.runtime.workspace import Workspace


def net_of(name="n", source="x", target="y"):
    net = Net(name)
    net.Relu(source, target)
    return net


@pytest.fixture
def custom():
    @operator("TestTriple")
    def triple(x, *, by=3, out=None):
        """Three times X."""
        return np.multiply(x, x.dtype.type(by), out=out)

    yield
    if "TestTriple" in REGISTRY:
        REGISTRY.remove("TestTriple")


# One node.


def test_a_net():
    net = net_of()
    compiled = lower(net, isolated=True)
    assert compiled.name == "n"
    assert compiled.nodes == ("local",)
    assert compiled.outputs == ()
    [program] = compiled.programs
    assert (program.node, program.private) == ("local", False)
    assert dict(program.reads) == {"x": "local/n"}
    assert program.writes == {"y"}
    [task] = program.tasks
    assert task.name == "local/n"
    [inner] = task.step.body
    assert isinstance(inner, NetProgram)
    [operation] = inner.operations
    assert str(operation) == "Relu(x) -> y"
    assert (operation.number, operation.net, operation.seed) == (1, "n", None)
    assert f"{__file__}:" in operation.source
    assert "net.Relu(source, target)" in operation.source


def test_what_names_no_node_runs_on_the_current_one():
    net = net_of()
    with Node("n1"):
        assert lower(net, isolated=True).nodes == ("n1",)
        assert home_node(net) == ("n1", NodeProperties())
    with Node("n1", nice=1):
        assert home_node(net) == ("n1", NodeProperties(nice=1))
    assert home_node(net) == ("local", NodeProperties())
    assert home_node(Task(step=net)) is None
    with Node("n1"):
        assert lower(Task(step=net, node="n2"), isolated=True).nodes == ("n2",)


def test_what_is_said_of_nodes_is_compiled_too():
    net = net_of()
    with Node("n1", threads=1):
        for runnable in (net, execution_step("s", net), Task(step=net)):
            compiled = lower(runnable, isolated=True)
            assert compiled.properties == {"n1": NodeProperties(threads=1)}
    with TaskGroup() as group:
        Task(step=net, node=Node("n1", nice=1))
        Task(step=net, node=Node("n1", cpus=[0]))
        Task(step=net, node="n2")
        Task(step=net, node=Node("n3", threads=2))
    assert lower(group, isolated=True).properties == {
        "n1": NodeProperties(nice=1, cpus=(0,)),
        "n3": NodeProperties(threads=2),
    }
    assert lower(net, isolated=True).properties == {}


def test_what_is_said_of_a_net_with_a_setup_is_not_lost():
    net = net_of()
    net.add_attribute(Task.TASK_SETUP, SetupNets([net_of("before")]))
    with Node("n1", threads=1), Node("n1", nice=1):
        compiled = lower(net, isolated=True)
    assert compiled.properties == {"n1": NodeProperties(threads=1, nice=1)}


def test_a_plan():
    a, b = net_of("a"), net_of("b")
    plan = Plan("p")
    plan.AddStep(ExecutionStep("s", a, 3))
    plan.AddStep(ExecutionStep("t", [a, b]))
    compiled = lower(plan, isolated=True)
    assert compiled.name == "p"
    [task] = compiled.programs[0].tasks
    assert [step.name for step in task.step.body] == ["s", "t"]
    assert task.step.body[0].iterations == 3
    assert task.step.iterations is None
    # The same net is the same program, wherever it stands.
    assert task.step.body[0].body[0] is task.step.body[1].body[0]


def test_an_empty_plan():
    with pytest.raises(GraphError, match="plan 'p' has no steps to run"):
        lower(Plan("p"), isolated=True)


def test_all_options_of_a_step_arrive():
    step = execution_step(
        "s",
        [net_of("a"), net_of("b")],
        concurrent_substeps=True,
        should_stop_blob="stop",
        only_once=True,
        num_concurrent_instances=4,
        create_workspace=True,
        run_every_ms=7,
        report_net=net_of("r"),
        report_interval=9,
    )
    [task] = lower(step, isolated=True).programs[0].tasks
    found = task.step
    assert (found.name, found.should_stop, found.every_millis) == ("s", "stop", 7)
    assert found.only_once
    assert found.concurrent
    assert found.create_workspace
    assert found.instances == 4
    assert found.report[0].name == "r"
    assert found.report[1] == 9.0
    assert found.iterations is None


def test_operations_are_numbered_through_a_program():
    a, b, report = net_of("a"), net_of("b"), net_of("r")
    b.Relu("y", "z")
    step = execution_step("s", [a, b, a], report_net=report, report_interval=1)
    [program] = lower(step, isolated=True).programs
    numbers = {
        operation.number: f"{net.name}:{operation.outputs[0]}"
        for _, net in program.nets()
        for operation in net.operations
    }
    assert numbers == {1: "a:y", 2: "b:y", 3: "b:z", 4: "r:y"}
    assert str(program.operation(3)) == "Relu(y) -> z"
    assert program.operation(0) is None
    assert program.operation(5) is None
    assert [(task, net.name) for task, net in program.nets()] == [
        ("local/s", name) for name in ["a", "b", "a", "r"]
    ]


def test_seeds():
    def seeds(*arguments):
        net = Net("n")
        for _ in range(3):
            net.UniformFill(shape=[1])
        if arguments:
            net.set_rand_seed(*arguments)
        [program] = lower(net, isolated=True).programs
        return [operation.seed for operation in program.tasks[0].step.body[0].operations]

    assert seeds() == [None] * 3
    assert seeds(7) == [7, 8, 9]
    assert seeds(7, False) == [7, 7, 7]


# Tasks and nodes.


def test_a_program_per_node():
    with TaskGroup() as group:
        with Node("n2"):
            Task(step=net_of("a"), outputs=["y"])
        with Node("n1"):
            Task(step=net_of("b"))
        with Node("n2"):
            Task(step=net_of("c"), outputs=["y", ["y", "x"]])
    compiled = lower(group, isolated=True)
    assert compiled.nodes == ("n2", "n1")
    assert [[task.name for task in program.tasks] for program in compiled.programs] == [
        ["n2/task", "n2/task:1"],
        ["n1/task"],
    ]
    assert compiled.programs[0].outputs == ("y", "x")
    assert compiled.programs[1].outputs == ()
    assert [node for node, _ in compiled.outputs] == ["n2"] * 3
    assert [output.names for _, output in compiled.outputs] == [["y"], ["y"], ["y", "x"]]
    # Each node counts for itself.
    assert compiled.programs[1].operation(1).net == "b"
    assert compiled.programs[0].operation(2).net == "c"


@pytest.mark.parametrize(
    ("kind", "of_group", "of_task"),
    [
        (None, True, False),
        (WorkspaceType.PRIVATE, True, True),
        (WorkspaceType.GLOBAL, False, False),
    ],
)
def test_private_or_global(kind, of_group, of_task):
    group = TaskGroup(kind)
    Task(group=group)
    assert lower(group, isolated=True).programs[0].private is of_group
    assert lower(Task(workspace_type=kind), isolated=True).programs[0].private is of_task


def test_an_empty_group():
    compiled = lower(TaskGroup(), isolated=True)
    assert compiled.programs == ()
    assert compiled.merged.tasks == ()


def test_instances_of_a_task():
    [program] = lower(Task(step=net_of(), num_instances=3), isolated=True).programs
    [task] = program.tasks
    assert (task.step.instances, task.step.create_workspace) == (3, False)
    [instance] = task.step.body
    assert (instance.instances, instance.create_workspace) == (1, True)


@pytest.mark.parametrize(
    ("what", "hint"),
    [
        (42, "not 42 of type int"),
        (None, "NoneType"),
        ([], r"put a list of nets or steps into core.execution_step\(name, list\)"),
        (Net, "Net is a class, not an instance of one"),
        (TaskOutput("a"), "a TaskOutput is fetched, its task is run"),
    ],
)
def test_no_runnables(what, hint):
    with pytest.raises(RunnableTypeError, match=hint) as caught:
        lower(what, isolated=True)
    assert isinstance(caught.value, TypeError)


# Compiled once, and for all.


def test_a_compiled_runnable_is_a_picture():
    net = net_of()
    compiled = lower(net, isolated=True)
    net.Relu("y", "z")
    assert compiled.programs[0].writes == {"y"}
    assert LocalSession.compile(compiled) is compiled


def test_revisions_change_with_everything_inside():
    net, report = net_of(), net_of("r")
    inner = execution_step("i", net, report_net=report, report_interval=1)
    plan = Plan(execution_step("s", [inner]))
    task = Task(step=inner)
    group = TaskGroup()
    group.add(task)
    changes = [
        lambda: net.Relu("y", "z"),
        lambda: report.Relu("y", "z"),
        lambda: net.set_rand_seed(3),
    ]
    for runnable in (plan, task, group):
        seen = {revisions(runnable)}
        for change in changes:
            change()
            assert revisions(runnable) not in seen
            seen.add(revisions(runnable))
        assert revisions(runnable) in seen
    before = revisions(plan)
    plan.AddStep(ExecutionStep("t", net))
    assert revisions(plan) != before
    # A step can be changed as long as it is part of nothing.
    step = execution_step("s", [inner])
    before = revisions(step)
    step.SetOnlyOnce(True)
    assert revisions(step) != before


# Operators that are not Procession's own.


def test_custom_operators_travel_as_definitions(custom):
    net = Net("n")
    net.TestTriple("x", "y")
    net.TestTriple("y", "z", by=2)
    net.Relu("z", "z")
    [program] = lower(net, isolated=True).programs
    assert [definition.name for definition in program.definitions] == ["TestTriple"]
    data = cloudpickle.dumps(program)
    REGISTRY.remove("TestTriple")
    workspace = Workspace()
    workspace.feed_blob("x", np.float32([1, -1]))
    Executable(cloudpickle.loads(data)).run(workspace, Deadline())
    np.testing.assert_array_equal(workspace.fetch_blob("z"), [6, 0])


def test_own_operators_stay_at_home():
    assert lower(net_of(), isolated=True).programs[0].definitions == ()


def test_everything_can_be_pickled(custom):
    def feed(inputs, outputs):
        outputs[0].feed(inputs[0].data + 1)

    net = Net("n")
    net.TestTriple("x", "y")
    net.Python(feed)(["y"], ["z"])
    net.Const(np.float32([1, 2]))
    net.set_rand_seed(3)
    step = execution_step(
        "s", [net, net_of("m", "z", "w")], num_iter=2, report_net=net_of("r"), report_interval=60
    )
    with TaskGroup() as group:
        Task(step=step, outputs="z")
    compiled = lower(group, isolated=True)
    back = cloudpickle.loads(cloudpickle.dumps(compiled.programs))
    for before, after in zip(compiled.programs, back, strict=True):
        assert (after.node, after.private, after.outputs) == ("local", True, ("z",))
        assert dict(after.reads) == dict(before.reads)
        assert after.writes == before.writes
        assert [str(before.operation(n)) for n in range(1, 6)] == [
            str(after.operation(n)) for n in range(1, 6)
        ]
    workspace = Workspace()
    workspace.feed_blob("x", np.float32([1, 2]))
    Executable(back[0]).run(workspace, Deadline())
    np.testing.assert_array_equal(workspace.fetch_blob("z"), [4, 7])


# All nodes in one.


def test_merged():
    with TaskGroup() as group:
        with Node("n1"):
            Task(step=net_of("a", "p", "q"), outputs=["q"])
        with Node("n2"):
            Task(step=net_of("b", "q", "r"), outputs=["r", "q"])
    compiled = lower(group, isolated=False)
    merged = compiled.merged
    assert merged is compiled.merged
    assert merged.node == "local"
    assert merged.private
    assert [task.name for task in merged.tasks] == ["n1/task", "n2/task"]
    assert merged.outputs == ("q", "r")
    # Nodes that share a workspace may get blobs from each other.
    assert dict(merged.reads) == {"p": "n1/task"}
    assert dict(compiled.programs[1].reads) == {"q": "n2/task"}
    assert merged.writes == {"q", "r"}


def test_merged_definitions_are_there_once(custom):
    group = TaskGroup()
    for node in ("n1", "n2"):
        net = Net("n")
        net.TestTriple("x", "y")
        Task(step=net, node=node, group=group)
    merged = lower(group, isolated=True).merged
    assert [definition.name for definition in merged.definitions] == ["TestTriple"]


def test_sessions_say_whether_nodes_are_isolated():
    with TaskGroup() as group:
        Task(step=net_of("a", "p", "q"), node="n1")
        Task(step=net_of("b", "q", "r"), node="n2")
    assert LocalSession.compile(group).nodes == ("n1", "n2")
    with pytest.raises(RuntimeError, match="reads blob 'q'"):
        ProcessSession.compile(group)
