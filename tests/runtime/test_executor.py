"""Executable: order, repetition, threads, workspaces."""

import threading
import time

import numpy as np
import pytest
from tests.runtime.nets import PATIENCE, call, execute, note, stop_after

from procession import (
    BlobNotFoundError,
    Net,
    OperatorError,
    Plan,
    Task,
    TaskGroup,
    Workspace,
    execution_step,
)
from procession.compiler.lower import lower
from procession.runtime.executor import Executable
from procession.runtime.monitor import Deadline


@pytest.fixture
def workspace():
    return Workspace()


# Order and repetition.


@pytest.mark.parametrize(
    ("options", "times"), [({}, 1), ({"num_iter": 3}, 3), ({"num_iter": 0}, 0)]
)
def test_iterations(workspace, options, times):
    log = []
    execute(execution_step("s", [note(log, "a"), note(log, "b")], **options), workspace)
    assert log == ["a", "b"] * times


def test_loops_nest(workspace):
    log = []
    inner = execution_step("i", note(log, "a"), num_iter=2)
    after = execution_step("j", note(log, "b"))
    execute(execution_step("s", [inner, after], num_iter=2), workspace)
    assert "".join(log) == "aabaab"


def test_an_empty_step_does_nothing(workspace):
    execute(execution_step("s", [], num_iter=3), workspace)
    execute(Task(), workspace)
    execute(TaskGroup(), workspace)
    assert workspace.names() == []


def test_the_stop_blob_is_read_after_each_part(workspace):
    log = []
    parts = [note(log, "a"), stop_after(3), note(log, "b")]
    workspace.feed_blob("stop", False)
    execute(execution_step("s", parts, should_stop_blob="stop"), workspace)
    assert "".join(log) == "ababa"


def test_the_stop_blob_is_read_after_each_substep(workspace):
    log = []
    parts = [note(log, "a"), stop_after(2), note(log, "b")]
    substeps = [execution_step(f"s{number}", part) for number, part in enumerate(parts)]
    workspace.feed_blob("stop", False)
    execute(execution_step("s", substeps, should_stop_blob="stop"), workspace)
    assert "".join(log) == "aba"


def test_a_stop_blob_that_is_true_from_the_beginning(workspace):
    log = []
    workspace.feed_blob("stop", np.array([True]))
    step = execution_step("s", [note(log, "a"), note(log, "b")], should_stop_blob="stop")
    execute(step, workspace)
    assert log == ["a"]


def test_a_stop_blob_with_concurrent_parts(workspace):
    log = []
    step = execution_step(
        "s", [note(log, "a"), stop_after(3)], concurrent_substeps=True, should_stop_blob="stop"
    )
    execute(step, workspace)
    assert log == ["a"] * 3


@pytest.mark.parametrize("value", [np.array([True, True]), np.zeros(0, bool), "text", None])
def test_a_stop_blob_is_one_truth_value(workspace, value):
    workspace.feed_blob("stop", value)
    step = execution_step("s", note([], "a"), should_stop_blob="stop")
    with pytest.raises(OperatorError, match="step 's' stops by blob 'stop', which should hold one"):
        execute(step, workspace)


def test_who_writes_a_stop_blob_is_told(workspace):
    net = Net("net")
    stop = net.Const([True, False], "stop")
    filled = execution_step("s", net, should_stop_blob=stop)
    with pytest.raises(OperatorError, match=r"holds bool\(2\)") as caught:
        execute(filled, workspace)
    assert "written by operator GivenTensorBoolFill() -> stop of net 'net'" in str(caught.value)
    for number in range(5):
        net.Or([stop, f"x{number}"], [stop])
        workspace.feed_blob(f"x{number}", False)
    with pytest.raises(OperatorError) as caught:
        execute(execution_step("s", net, should_stop_blob=stop), workspace)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(" -> ")[0].strip() for line in lines[::2]] == [
        *(f"written by operator Or(stop, x{number})" for number in range(3)),
        "and by 2 more",
    ]
    assert all(line.endswith('net.Or([stop, f"x{number}"], [stop])') for line in lines[1::2])


def test_a_missing_stop_blob(workspace):
    step = execution_step("s", note([], "a"), should_stop_blob="stop")
    with pytest.raises(BlobNotFoundError, match=r"no blob 'stop'.*nothing in the run writes it"):
        execute(step, workspace)


def test_only_once(workspace):
    log = []
    once = execution_step("once", note(log, "a"), only_once=True, num_iter=2)
    step = execution_step("s", [once, execution_step("t", note(log, "b"))], num_iter=3)
    executable = Executable(lower(step, isolated=False).merged)
    executable.run(workspace, Deadline())
    assert "".join(log) == "aabbb"
    # Once in each run.
    executable.run(workspace, Deadline())
    assert "".join(log) == "aabbb" * 2


def test_only_once_with_a_stop_blob_is_one_iteration_each_time(workspace):
    log = []
    workspace.feed_blob("stop", False)
    once = execution_step(
        "once", [note(log, "a"), note(log, "b")], should_stop_blob="stop", only_once=True
    )
    execute(execution_step("s", [once, execution_step("t", note(log, "c"))], num_iter=2), workspace)
    assert "".join(log) == "abcabc"


def test_the_iteration_of_only_once_can_be_stopped(workspace):
    log = []
    workspace.feed_blob("stop", False)
    parts = [note(log, "a"), stop_after(1), note(log, "b")]
    execute(execution_step("s", parts, should_stop_blob="stop", only_once=True), workspace)
    assert log == ["a"]


def test_a_stop_blob_of_the_outer_loop_does_not_stop_the_inner_one(workspace):
    log = []
    workspace.feed_blob("stop", False)
    inner = execution_step("inner", [stop_after(1), note(log, "a")], num_iter=3)
    after = execution_step("after", note(log, "b"))
    execute(execution_step("s", [inner, after], should_stop_blob="stop"), workspace)
    assert log == ["a"] * 3


def test_a_plan_runs_its_steps_in_order(workspace):
    log = []
    plan = Plan("plan")
    plan.AddStep(execution_step("a", note(log, "a"), num_iter=2))
    # There is nothing beside which it could recur.
    plan.AddStep(execution_step("b", note(log, "b"), run_every_ms=1))
    plan.AddStep(execution_step("c", note(log, "c"), concurrent_substeps=True))
    execute(plan, workspace)
    assert "".join(log) == "aabc"


def test_only_once_among_instances(workspace):
    log = []
    once = execution_step("once", note(log, "a"), only_once=True)
    step = execution_step("s", [once], num_iter=5, num_concurrent_instances=4)
    execute(step, workspace)
    assert log == ["a"]


# Several things at once.


def meeting(parties):
    barrier = threading.Barrier(parties)

    def meet(inputs, outputs):
        barrier.wait(PATIENCE)

    return meet


def test_concurrent_parts_run_at_once(workspace):
    meet = meeting(3)
    parts = [call(meet), call(meet), execution_step("t", call(meet))]
    execute(execution_step("s", parts, concurrent_substeps=True, num_iter=2), workspace)


def test_parts_that_are_not_concurrent_run_one_after_the_other(workspace):
    threads = []
    part = call(lambda inputs, outputs: threads.append(threading.get_ident()))
    execute(execution_step("s", [part, part]), workspace)
    assert threads == [threading.get_ident()] * 2


def test_tasks_run_at_once(workspace):
    meet = meeting(3)
    with TaskGroup() as group:
        for _ in range(3):
            Task(step=call(meet))
    execute(group, workspace)


def test_instances_run_at_once(workspace):
    execute(execution_step("s", call(meeting(4)), num_concurrent_instances=4), workspace)
    execute(Task(step=call(meeting(4)), num_instances=4), workspace)


def test_instances_are_copies_of_the_substeps(workspace):
    log = []
    meet = meeting(6)

    def both(what):
        def run(inputs, outputs):
            log.append(what)
            meet(inputs, outputs)

        return execution_step(what, call(run))

    # All six run at once, and an iteration is over when all of them have ended.
    step = execution_step("s", [both("a"), both("b")], num_concurrent_instances=3, num_iter=2)
    execute(step, workspace)
    assert [sorted(log[:6]), sorted(log[6:])] == [list("aaabbb")] * 2


@pytest.mark.parametrize("outer", [True, False])
def test_instances_share_the_workspace_of_their_step(workspace, outer):
    seen = []

    def write(inputs, outputs, inside):
        seen.append(inside)
        inside.feed_blob("mine", 1)

    substep = execution_step("t", call(write, workspace=True), create_workspace=not outer)
    step = execution_step("s", [substep], num_concurrent_instances=3, create_workspace=outer)
    execute(step, workspace)
    assert len({id(inside) for inside in seen}) == (1 if outer else 3)
    assert not workspace.has_blob("mine")


def test_every_execution_of_a_step_has_a_new_workspace(workspace):
    had = []

    def write(inputs, outputs, inside):
        had.append(inside.has_blob("mine"))
        inside.feed_blob("mine", 1)

    inner = execution_step("t", call(write, workspace=True), num_iter=3, create_workspace=True)
    execute(execution_step("s", [inner], num_iter=2), workspace)
    assert had == [False, True, True] * 2


@pytest.mark.parametrize("own", [True, False])
def test_instances_have_workspaces_of_their_own_if_they_ask_for_them(workspace, own):
    meet = meeting(3)
    seen = []

    def write(inputs, outputs, inside):
        seen.append(inside)
        inside.feed_blob("mine", len(seen))
        inside.feed_blob("shared", 1)
        meet(inputs, outputs)

    workspace.feed_blob("shared", 0)
    net = call(write, workspace=True)
    execute(execution_step("s", net, num_concurrent_instances=3, create_workspace=own), workspace)
    assert len({id(inside) for inside in seen}) == (3 if own else 1)
    assert workspace.fetch_blob("shared") == 1
    assert workspace.has_blob("mine") is not own


def test_instances_of_a_task_have_workspaces_of_their_own(workspace):
    net = Net("n")
    net.Const(np.float32([1]), "inner")
    net.Add(["inner", "x"], "x")
    workspace.feed_blob("x", np.float32([1]))
    execute(Task(step=net, num_instances=1), workspace)
    assert workspace.names() == ["inner", "x"]
    workspace.remove_blob("inner")
    execute(Task(step=net, num_instances=2), workspace)
    assert workspace.names() == ["x"]


def test_blobs_of_a_step_with_a_workspace_live_through_its_loop(workspace):
    first = Net("first")
    first.Const(np.float32([1]), "sum")
    add = Net("add")
    add.Add(["sum", "sum"], "sum")
    add.Copy("sum", "result")
    loop = execution_step("loop", add, num_iter=3)
    step = execution_step("s", [execution_step("f", first), loop], create_workspace=True)
    workspace.feed_blob("result", np.float32([0]))
    execute(step, workspace)
    assert workspace.fetch_blob("result") == 8
    assert workspace.names() == ["result"]


# Things that happen again and again.


def test_run_every_millis(workspace):
    ticked = threading.Event()
    ticks = []

    def tick(inputs, outputs):
        ticks.append(threading.get_ident())
        if len(ticks) == 3:
            ticked.set()

    def wait(inputs, outputs):
        assert ticked.wait(PATIENCE)

    step = execution_step(
        "s",
        [execution_step("ticker", call(tick), run_every_ms=1), call(wait)],
        concurrent_substeps=True,
    )
    execute(step, workspace)
    assert len(ticks) >= 3
    assert threading.get_ident() not in ticks
    # It ended with its sibling.
    assert not [t for t in threading.enumerate() if t.ident in ticks]


def after_ticks(count, log):
    """A step that ticks, and one that waits until it has."""
    ticked = threading.Event()

    def tick(inputs, outputs):
        log.append("t")
        if log.count("t") >= count:
            ticked.set()

    def wait(inputs, outputs):
        assert ticked.wait(PATIENCE)
        log.append("w")

    return execution_step("ticker", call(tick), run_every_ms=1), execution_step("w", call(wait))


def test_run_every_millis_in_a_step_that_is_not_concurrent(workspace):
    log = []
    ticker, work = after_ticks(3, log)
    later = execution_step("later", note(log, "l"))
    execute(execution_step("s", [work, ticker, later], num_iter=2), workspace)
    assert [what for what in log if what != "t"] == ["w", "l"] * 2
    assert log.index("w") >= 3
    assert log[-1] == "t"


@pytest.mark.parametrize("options", [{}, {"concurrent_substeps": True}, {"num_iter": 3}])
def test_what_recurs_runs_once_more_when_all_the_rest_has_ended(workspace, options):
    log = []
    parts = [
        execution_step("ticker", note(log, "t"), run_every_ms=3_600_000),
        execution_step("work", note(log, "w")),
    ]
    execute(execution_step("s", parts, **options), workspace)
    assert log == ["w"] * options.get("num_iter", 1) + ["t"]


def test_what_recurs_runs_once_when_there_is_nothing_else(workspace):
    log = []
    ticker = execution_step("ticker", note(log, "t"), run_every_ms=3_600_000, num_iter=2)
    execute(execution_step("s", [ticker]), workspace)
    assert log == ["t", "t"]


def test_what_recurs_is_not_copied(workspace):
    log = []
    parts = [
        execution_step("ticker", note(log, "t"), run_every_ms=3_600_000),
        execution_step("work", note(log, "w")),
    ]
    execute(execution_step("s", parts, num_concurrent_instances=3), workspace)
    assert log == ["w"] * 3 + ["t"]


def test_steps_recur_independently(workspace):
    met = threading.Event()
    meet = threading.Barrier(2, action=met.set)

    def together(inputs, outputs):
        if not met.is_set():
            meet.wait(PATIENCE)

    def wait(inputs, outputs):
        assert met.wait(PATIENCE)

    tickers = [execution_step(f"t{i}", call(together), run_every_ms=1) for i in range(2)]
    step = execution_step("s", [*tickers, execution_step("w", call(wait))])
    execute(step, workspace)


def test_what_recurs_may_stop_the_loop_beside_it(workspace):
    workspace.feed_blob("stop", False)
    ticker = execution_step("ticker", stop_after(3), run_every_ms=1)
    work = execution_step("work", note([], "w"))
    execute(execution_step("s", [ticker, work], should_stop_blob="stop"), workspace)
    assert workspace.fetch_blob("stop")


def test_a_report_net_runs_even_if_the_step_does_not(workspace):
    log = []
    options = {"report_net": note(log, "r"), "report_interval": 3600}
    execute(execution_step("s", note(log, "a"), num_iter=0, **options), workspace)
    assert log == ["r"]


def test_a_report_net_reports_on_each_execution_of_its_step(workspace):
    log = []
    options = {"report_net": note(log, "r"), "report_interval": 3600}
    inner = execution_step("inner", note(log, "a"), num_iter=2, **options)
    execute(execution_step("s", [inner], num_iter=2), workspace)
    assert "".join(log) == "aaraar"


def test_an_interval_of_ages(workspace):
    log = []
    options = {"report_net": note(log, "r"), "report_interval": 1e30}
    execute(execution_step("s", note(log, "a"), **options), workspace)
    assert log == ["a", "r"]


def test_report_net_runs_while_the_step_does_and_at_its_end(workspace):
    reported = threading.Event()
    log = []

    def report(inputs, outputs):
        log.append("report")
        reported.set()

    def work(inputs, outputs):
        assert reported.wait(PATIENCE)
        log.append("work")

    step = execution_step("s", call(work), report_net=call(report), report_interval=0.001)
    execute(step, workspace)
    assert log[0] == "report"
    assert "work" in log
    assert log[-1] == "report"


def test_report_net_runs_at_the_end_of_a_short_step(workspace):
    log = []
    step = execution_step(
        "s", note(log, "work"), num_iter=2, report_net=note(log, "report"), report_interval=3600
    )
    execute(step, workspace)
    assert log == ["work", "work", "report"]


# Private runs.


def test_a_private_run_keeps_its_outputs_only(workspace):
    net = Net("n")
    net.Const(np.float32([1]), "a")
    net.Relu("a", "b")
    net.Add(["b", "old"], "old")
    with TaskGroup() as group:
        Task(step=net, outputs=["b"])
    workspace.feed_blob("old", np.float32([1]))
    execute(group, workspace)
    assert workspace.names() == ["b", "old"]
    assert workspace.fetch_blob("b") == 1
    assert workspace.fetch_blob("old") == 2


def test_a_private_run_releases_its_blobs_when_it_fails(workspace):
    net = Net("n")
    net.Const(np.float32([1]), "a")
    net.MatMul(["a", "a"], "b")
    with TaskGroup() as group:
        Task(step=net)
    with pytest.raises(OperatorError):
        execute(group, workspace)
    assert workspace.names() == []


def test_tasks_of_a_private_run_share_their_workspace(workspace):
    written = threading.Event()

    def write(inputs, outputs, inside):
        inside.feed_blob("x", 5)
        written.set()

    def read(inputs, outputs, inside):
        assert written.wait(PATIENCE)
        assert inside.fetch_blob("x") == 5

    with TaskGroup() as group:
        Task(step=call(write, workspace=True))
        Task(step=call(read, workspace=True))
    execute(group, workspace)
    assert workspace.names() == []


def test_no_thread_is_left(workspace):
    before = set(threading.enumerate())
    step = execution_step(
        "s",
        [note([], "a"), execution_step("t", note([], "b"), run_every_ms=1)],
        concurrent_substeps=True,
        num_concurrent_instances=2,
        report_net=note([], "r"),
        report_interval=3600,
    )
    begin = time.monotonic()
    execute(step, workspace)
    assert time.monotonic() - begin < PATIENCE
    assert set(threading.enumerate()) == before
