"""What is built with NetBuilder, ops and Task does, in every kind of session."""

import os

import numpy as np
import pytest

from procession import (
    BlobNotFoundError,
    LocalSession,
    Net,
    NetBuilder,
    Node,
    NodeDiedError,
    ProcessSession,
    SetupNets,
    Task,
    TaskGroup,
    WorkspaceType,
    core,
    final_output,
    ops,
)
from procession.graph import schema


def fetched(session, *blobs):
    values = [session.workspace().fetch_blob(blob) for blob in blobs]
    return [value.item() for value in values]


def run(session, builder):
    session.run(core.to_execution_step(builder), timeout=60)


# Loops.


def test_a_loop_stops_by_itself(session):
    with NetBuilder() as builder:
        left, done = ops.Const(5), ops.Const(0)
        with ops.loop():
            ops.stop_if(ops.LE([left, ops.Const(0)]))
            ops.Add([left, ops.Const(-1)], [left])
            ops.Add([done, ops.Const(10)], [done])
    for _ in range(2):
        run(session, builder)
        assert fetched(session, left, done) == [0, 50]


def test_a_loop_counts(session):
    with NetBuilder() as builder:
        total, squares = ops.Const(0), ops.Const(0)
        with ops.loop(4) as outer, ops.loop(outer.iter()) as inner:
            ops.Add([total, inner.iter()], [total])
        with ops.loop(ops.Const(3)) as loop:
            ops.Add([squares, ops.Mul([loop.iter(), loop.iter()])], [squares])
        with ops.loop(0):
            ops.Const(-1, blob_out=total)
    run(session, builder)
    assert fetched(session, total, squares) == [0 + (0) + (0 + 1) + (0 + 1 + 2), 5]


def test_a_loop_is_left_in_the_middle(session):
    with NetBuilder() as builder:
        before, after = ops.Const(0), ops.Const(0)
        with ops.loop(10) as loop:
            ops.Add([before, ops.Const(1)], [before])
            ops.stop_if(ops.EQ([loop.iter(), ops.Const(2)]))
            ops.Add([after, ops.Const(1)], [after])
    run(session, builder)
    assert fetched(session, before, after) == [3, 2]


# Conditions.


@pytest.mark.parametrize(("x", "expected"), [(75, 1), (25, 2), (5, 3)])
def test_one_branch_runs(session, x, expected):
    with NetBuilder() as builder:
        x, result, count = ops.Const(x), ops.Const(0), ops.Const(0)
        with ops.If(ops.GT([x, ops.Const(50)])) as branch:
            ops.Const(1, blob_out=result)
            ops.Add([count, ops.Const(1)], [count])
        with branch.Elif(ops.GT([x, ops.Const(10)])) as branch:
            ops.Const(2, blob_out=result)
            ops.Add([count, ops.Const(1)], [count])
        with branch.Else():
            ops.Const(3, blob_out=result)
            ops.Add([count, ops.Const(1)], [count])
    run(session, builder)
    assert fetched(session, result, count) == [expected, 1]


def test_stop_ends_the_block_it_is_in(session):
    with NetBuilder() as builder:
        inside, behind = ops.Const(0), ops.Const(0)
        with ops.If(ops.Const(True)):
            ops.Const(1, blob_out=inside)
            ops.stop()
            ops.Const(2, blob_out=inside)
        ops.Const(1, blob_out=behind)
        ops.stop()
        ops.Const(2, blob_out=behind)
    run(session, builder)
    assert fetched(session, inside, behind) == [1, 1]


def test_stop_guards_say_how_they_ended(session):
    with NetBuilder() as builder:
        guards = []
        for stops in (True, False, None):
            with ops.stop_guard() as guard:
                if stops is not None:
                    ops.stop_if(ops.Const(stops))
            guards.append(guard.has_stopped())
        seen = ops.Const(0)
        with ops.If(guards[0]):
            ops.Const(1, blob_out=seen)
    run(session, builder)
    assert fetched(session, *guards, seen) == [True, False, False, 1]


@pytest.mark.parametrize("condition", [True, False])
def test_if_net(session, condition):
    with NetBuilder() as builder:
        x, y, nested = ops.Const(1), ops.Const(0), ops.Const(0)
        with ops.IfNet(ops.Const(condition)):
            own = ops.Const(10)
            ops.Add([x, own], [y])
            with ops.IfNet(ops.EQ([y, ops.Const(11)])):
                ops.Add([own, y], [nested])
        with ops.Else():
            ops.Const(7, blob_out=y)
    run(session, builder)
    assert fetched(session, y, nested) == ([11, 21] if condition else [7, 0])
    assert not session.workspace().has_blob(own)


def test_if_net_without_an_else(session):
    with NetBuilder() as builder:
        x = ops.Const(1)
        with ops.IfNet(ops.Const(False)):
            ops.Const(2, blob_out=x)
        with ops.IfNet(ops.Const(True)):
            pass
        with ops.Else():
            ops.Const(3, blob_out=x)
    run(session, builder)
    assert fetched(session, x) == [1]


def test_while_net(session):
    with NetBuilder() as builder:
        x, y = ops.Const(0), ops.Const(0)
        with ops.WhileNet():
            with ops.Condition():
                ops.Add([x, ops.Const(1)], [x])
                ops.LT([x, ops.Const(7)])
            ops.Add([x, y], [y])
    run(session, builder)
    assert fetched(session, x, y) == [7, 21]


def test_blobs_that_were_fed_are_named(session):
    session.workspace().feed_blob("x", np.int64(3))
    with NetBuilder(initial_scope=["x"]) as builder, ops.IfNet(ops.Const(True)):
        ops.net().Add(["x", "x"], ["x"])
    run(session, builder)
    assert fetched(session, "x") == [6]


# Tasks.


def test_init_and_exit_of_a_task(session):
    with Task() as task:
        with ops.task_init():
            one = ops.Const(1)
        two = ops.Add([one, one])
        with ops.task_init():
            three = ops.Const(3)
        five = ops.Add([two, three])
        with ops.task_exit():
            late = final_output(ops.Add([five, one]))
        early = final_output(ops.Add([five, one]))
        ops.Add([five, one], [five])
    for _ in range(2):
        session.run(task, timeout=60)
        assert (early.fetch(), late.fetch()) == (6, 7)


def test_instances(session):
    instances, rounds = 4, 5
    with TaskGroup() as group, Task(num_instances=instances) as task:
        with ops.task_init():
            rounds_in_all = ops.CreateCounter([], ["rounds"])
            squares = ops.CreateCounter([], ["squares"])
            began = ops.CreateCounter([], ["began"])
        with ops.task_instance_init():
            own = ops.CreateCounter([], ["own"])
            ops.CountUp(began)
        with ops.loop(rounds):
            ops.CountUp(rounds_in_all)
            ops.CountUp(own)
        with ops.task_instance_exit():
            count = ops.RetrieveCount(own)
            with ops.loop(ops.Mul([count, count])):
                ops.CountUp(squares)
        with ops.task_exit():
            results = [final_output(ops.RetrieveCount(c)) for c in (rounds_in_all, squares, began)]
    assert task.num_instances == instances
    session.run(group, timeout=60)
    expected = [instances * rounds, instances * rounds**2, instances]
    assert [result.fetch() for result in results] == expected


def _counting():
    count = 0

    def function(inputs, outputs):
        nonlocal count
        count += 1
        outputs[0].feed(np.int64(count))

    return function


def test_each_instance_has_its_own_python_function(session):
    with Task(num_instances=3) as task:
        with ops.task_init():
            wrong = ops.CreateCounter([], ["wrong"])
        with ops.loop(4) as loop:
            seen = ops.Python((_counting, [], {}))([], 1)
            expected = ops.Add([loop.iter(), ops.Const(1)])
            with ops.If(ops.NE([seen, expected])):
                ops.CountUp(wrong)
        with ops.task_exit():
            result = final_output(ops.RetrieveCount(wrong))
    session.run(task, timeout=60)
    assert result.fetch() == 0


def test_an_output_made_by_an_instance_is_handed_back(session):
    with TaskGroup() as group, Task(num_instances=2):
        result = final_output(ops.Const(4))
    session.run(group, timeout=60)
    assert result.fetch() == 4


def test_local_init_and_exit_run_once_around_all_tasks(session):
    order = []
    with TaskGroup() as group:
        for node in ("a", "a", "b"):
            with Node(node), Task():
                with ops.local_init():
                    begun = ops.Const(1, blob_out=f"{node}_begun")
                with ops.local_exit():
                    order.append(final_output(ops.Add([f"{node}_sum", begun])))
                if len(order) == 1:
                    with ops.local_init():
                        ops.Const(0, blob_out="a_sum")
                        ops.CreateMutex([], ["mutex"])
                if node == "b":
                    with ops.local_init():
                        ops.Const(10, blob_out="b_sum")
                        ops.CreateMutex([], ["mutex"])
                ops.AtomicFetchAdd(
                    ["mutex", f"{node}_sum", begun], [f"{node}_sum", ops.NextName("old")]
                )
    session.run(group, timeout=60)
    assert [int(output.fetch()) for output in order] == [3, 3, 12]


def test_setup_nets_run_once_per_task_and_per_node(session):
    init, exit_net = Net("init"), Net("exit")
    init.Const(0, "x")
    one = init.Const(1, "one")
    exit_net.Add(["x", one], ["x"])
    nets = [Net("n"), Net("m")]
    for net in nets:
        net.Add(["x", "one"], ["x"])
        net.add_attribute(TaskGroup.LOCAL_SETUP, SetupNets([init], [exit_net]))
    shared = SetupNets(exit_nets=exit_net)
    for net in nets:
        net.add_attribute(Task.TASK_SETUP, shared)
    with TaskGroup(WorkspaceType.GLOBAL) as group, Node("n"):
        Task(step=nets)
    session.run(group, timeout=60)
    # Two nets; once for the task; once for each of the group's objects.
    assert session.workspace("n").fetch_blob("x") == 2 + 1 + 2


def test_setup_on_two_nodes(session):
    init = Net("init")
    init.Const(5, "x")
    net = Net("n")
    net.Copy("x", "y")
    net.add_attribute(TaskGroup.LOCAL_SETUP, SetupNets([init]))
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for node in ("a", "b"):
            with Node(node):
                Task(step=net)
    session.run(group, timeout=60)
    for node in ("a", "b"):
        assert session.workspace(node).fetch_blob("y") == 5


def test_what_hangs_on_a_net_runs_without_a_task_too(session):
    init, exit_net = Net("init"), Net("exit")
    init.Const(5, "x")
    exit_net.Copy("y", "z")
    net = Net("n")
    net.Copy("x", "y")
    net.add_attribute(Task.TASK_SETUP, SetupNets([init], [exit_net]))
    for blob, runnable in (
        ("z", net),
        ("z", core.execution_step("s", net)),
        ("z", core.Plan(core.execution_step("s", net))),
    ):
        session.run(runnable, timeout=60)
        assert session.workspace().fetch_blob(blob) == 5
        session.workspace().remove_blob(blob)


def test_reporters_run_beside_and_at_the_end(session):
    """The task ends when its reporter and the group's have run; both run again at the end."""
    with TaskGroup() as group:
        with Task():
            with ops.local_init():
                reports = ops.CreateCounter([], ["reports"])
                group_reports = ops.CreateCounter([], ["group_reports"])
                ops.Const(0, blob_out="ended")
            with ops.task_reporter(interval_ms=1):
                ops.CountUp(reports)
                ops.Copy("work_done", "seen")
            with ops.local_reporter(interval_ms=1):
                ops.CountUp(group_reports)
                ops.Copy("ended", "seen_by_group")
            with ops.task_init():
                ops.Const(0, blob_out="work_done")
            with ops.loop():
                ops.stop_if(
                    ops.And(
                        [
                            ops.GE([ops.RetrieveCount(reports), ops.Const(2)]),
                            ops.GE([ops.RetrieveCount(group_reports), ops.Const(2)]),
                        ]
                    )
                )
            ops.Const(1, blob_out="work_done")
            with ops.task_exit():
                ops.Const(1, blob_out="ended")
        outputs = [final_output("seen"), final_output("seen_by_group")]
    session.run(group, timeout=60)
    assert [output.fetch() for output in outputs] == [1, 1]


def test_a_report_net(session):
    with TaskGroup() as group, Node("n"):
        net = group.report_net(report_interval=100)
        net.CountUp("count")
        with Task():
            with ops.local_init():
                ops.CreateCounter([], ["count"])
            with ops.local_exit():
                result = final_output(ops.RetrieveCount("count"))
    session.run(group, timeout=60)
    # Not while the task ran, but once at its end.
    assert result.fetch() == 1


def test_a_group_as_one_task(session):
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for node in ("a", "b"):
            with Node(node), Task():
                with ops.local_init():
                    x = ops.Const(3)
                final_output(ops.Add([x, x], [f"{node}_sum"]))
    task = group.to_task("c")
    session.run(task, timeout=60)
    assert [output.fetch() for output in task.outputs()] == [6, 6]
    assert session.workspace("c").fetch_blob("b_sum") == 6


def test_a_group_inside_a_builder(session):
    with Task() as task:
        total = ops.Const(0)
        with ops.task_group(), Task():
            with ops.task_init():
                one = ops.Const(1)
            ops.Add([total, one], [total])
            private = ops.Const(1)
        ops.Add([total, total], [total])
        result = final_output(total)
    session.run(task, timeout=60)
    # What hangs on the inner task's nets is the inner task's.
    assert result.fetch() == 2
    for blob in (one, private):
        with pytest.raises(BlobNotFoundError):
            session.workspace().fetch_blob(blob)


# Outputs.


def test_a_record_as_output(session):
    net = Net("n")
    record = schema.NewRecord(
        net, schema.Struct(("ids", np.int64), ("values", schema.List(np.float32)))
    )
    net.GivenTensorInt64Fill([], [record.ids()], shape=[2], values=[1, 2])
    net.GivenTensorIntFill([], [record["values"].lengths()], shape=[2], values=[1, 0])
    net.GivenTensorFill([], [record["values"].items()], shape=[1], values=[0.5])
    task = Task(step=net, outputs=record)
    single = task.add_output(record.ids)
    session.run(task, timeout=60)
    fetched = task.outputs()[0].fetch()
    assert isinstance(fetched, schema.Struct)
    np.testing.assert_array_equal(fetched.ids(), [1, 2])
    np.testing.assert_array_equal(fetched["values"].lengths(), [1, 0])
    np.testing.assert_array_equal(fetched["values"].items(), [0.5])
    np.testing.assert_array_equal(single.fetch()(), [1, 2])
    np.testing.assert_array_equal(session.fetch_output(task.outputs()[0]).ids(), [1, 2])


# What only one kind of session shows.


def test_what_is_set_up_for_several_nodes_runs_once_where_they_are_one():
    init = Net("init")
    init.Add(["count", "one"], ["count"])
    net = Net("n")
    net.Copy("count", "seen")
    net.add_attribute(TaskGroup.LOCAL_SETUP, SetupNets([init]))
    with TaskGroup(WorkspaceType.GLOBAL) as group:
        for node in ("a", "b"):
            Task(step=net, node=node)
    with LocalSession() as session:
        workspace = session.workspace()
        workspace.feed_blob("count", np.int64(0))
        workspace.feed_blob("one", np.int64(1))
        session.run(group)
        assert workspace.fetch_blob("count") == 1
        session.run(group.to_task())
        assert workspace.fetch_blob("count") == 2


def _die(inputs, outputs):
    os._exit(3)


@pytest.mark.parametrize(
    ("block", "name"), [(ops.local_init, "n:init"), (ops.local_exit, "n:exit")]
)
def test_a_worker_that_dies_in_setup_was_there(block, name):
    with TaskGroup() as group, Node("n"), Task(), block():
        ops.Python(_die)([], [])
    with (
        ProcessSession() as session,
        pytest.raises(NodeDiedError, match=f"in task '{name}', operator Python"),
    ):
        session.run(group, timeout=60)


def test_what_exits_does_not_run_after_a_failure():
    with Task() as task:
        with ops.task_exit():
            ops.Const(1, blob_out="exited")
        with ops.local_exit():
            ops.Const(1, blob_out="left")
        with ops.If(ops.Const(True)):
            ops.net().Copy("missing_at_run_time", "copy")
    with LocalSession() as session:
        with pytest.raises(BlobNotFoundError, match="missing_at_run_time"):
            session.run(task)
        assert not session.workspace().has_blob("exited")
        assert not session.workspace().has_blob("left")
