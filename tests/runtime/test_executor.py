"""Executable: steps, loops, threads, stopping."""

import threading
import time

import numpy as np
import pytest

from procession import (
    BlobNotFoundError,
    Net,
    OperatorError,
    RunTimeoutError,
    Task,
    TaskGroup,
    Workspace,
    execution_step,
)
from procession.compiler.lower import lower
from procession.runtime.executor import Cancelled, Deadline, Executable, run_all

PATIENCE = 20
"""Seconds after which a test gives up waiting; nothing takes that long unless it is broken."""


@pytest.fixture
def workspace():
    return Workspace()


def execute(runnable, workspace, monitor=None):
    Executable(lower(runnable, isolated=False).merged).run(workspace, monitor or Deadline())


def call(function, *, inputs=(), outputs=(), workspace=False, name="n"):
    """A net that calls a Python function."""
    net = Net(name)
    net.Python(function, pass_workspace=workspace)(list(inputs), list(outputs))
    return net


def note(log, what):
    return call(lambda inputs, outputs: log.append(what))


def stop_after(count, blob="stop"):
    """A net that sets the blob to whether it has run so many times."""
    runs = []

    def count_up(inputs, outputs):
        runs.append(1)
        outputs[0].feed(np.array(len(runs) >= count))

    return call(count_up, outputs=[blob])


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


def test_a_missing_stop_blob(workspace):
    step = execution_step("s", note([], "a"), should_stop_blob="stop")
    with pytest.raises(BlobNotFoundError, match="no blob 'stop'"):
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


@pytest.mark.parametrize("kind", ["report", "ticker"])
def test_what_fails_on_the_side_ends_the_run_with_its_error(workspace, kind):
    failed = threading.Event()

    def fail(inputs, outputs):
        failed.set()
        raise ZeroDivisionError("on the side")

    def wait(inputs, outputs):
        assert failed.wait(PATIENCE)

    work = execution_step("work", call(wait), should_stop_blob="never")
    workspace.feed_blob("never", False)
    if kind == "report":
        step = execution_step("s", work, report_net=call(fail), report_interval=0.001)
    else:
        ticker = execution_step("ticker", call(fail), run_every_ms=1)
        step = execution_step("s", [ticker, work], concurrent_substeps=True)
    with pytest.raises(OperatorError, match="ZeroDivisionError: on the side"):
        execute(step, workspace)


def test_an_error_of_the_work_is_not_hidden_by_what_runs_on_the_side(workspace):
    def fail(inputs, outputs):
        raise ZeroDivisionError("the work")

    step = execution_step("s", call(fail), report_net=note([], "r"), report_interval=0.001)
    with pytest.raises(OperatorError, match="the work"):
        execute(step, workspace)


# Failing and stopping.


def test_a_task_that_fails_stops_the_others(workspace):
    started = threading.Event()

    def fail(inputs, outputs):
        assert started.wait(PATIENCE)
        raise ZeroDivisionError("first")

    with TaskGroup() as group:
        Task(
            step=execution_step(
                "forever",
                call(lambda inputs, outputs: started.set()),
                should_stop_blob="never",
            )
        )
        Task(step=call(fail), name="failing")
    workspace.feed_blob("never", False)
    with pytest.raises(OperatorError, match="ZeroDivisionError: first") as caught:
        execute(group, workspace)
    assert caught.value.task == "local/failing"


def test_the_first_error_is_raised(workspace):
    began = threading.Event()
    threads = []

    def first(inputs, outputs):
        threads.append(threading.current_thread())
        began.set()
        raise ZeroDivisionError("first")

    def second(inputs, outputs):
        assert began.wait(PATIENCE)
        threads[0].join(PATIENCE)
        raise ValueError("second")

    step = execution_step("s", [call(second), call(first)], concurrent_substeps=True)
    with pytest.raises(OperatorError, match="first"):
        execute(step, workspace)


def test_a_failed_run_can_be_run_again(workspace):
    runs = []

    def fail_once(inputs, outputs):
        runs.append(1)
        if len(runs) == 1:
            raise ZeroDivisionError

    executable = Executable(lower(call(fail_once), isolated=False).merged)
    with pytest.raises(OperatorError):
        executable.run(workspace, Deadline())
    executable.run(workspace, Deadline())
    assert len(runs) == 2


def test_a_deadline_stops_a_loop(workspace):
    net = Net("n")
    net.Relu("x", "x")
    workspace.feed_blob("x", np.float32([1]))
    workspace.feed_blob("never", False)
    step = execution_step("s", net, should_stop_blob="never")
    with pytest.raises(RunTimeoutError, match=r"did not end within 0\.05 s") as caught:
        execute(step, workspace, Deadline(0.05))
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.timeout == 0.05


def test_a_deadline_stops_a_loop_over_nothing(workspace):
    workspace.feed_blob("never", False)
    step = execution_step("s", [], should_stop_blob="never")
    with pytest.raises(RunTimeoutError):
        execute(step, workspace, Deadline(0.05))


def test_a_deadline_that_is_not_reached(workspace):
    log = []
    execute(note(log, "a"), workspace, Deadline(PATIENCE))
    assert log == ["a"]


def test_a_cancelled_run_ends_at_its_next_operation(workspace):
    deadline = Deadline()
    log = []

    def cancel(inputs, outputs):
        log.append("cancel")
        deadline.cancel()

    net = call(cancel)
    net.AppendNet(note(log, "never"))
    with pytest.raises(Cancelled):
        execute(net, workspace, deadline)
    assert log == ["cancel"]


def test_the_monitor_is_told_of_each_operation(workspace):
    told = []

    class Monitor:
        def enter(self, task, operation):
            told.append((task, operation))

    net = Net("n")
    net.Const(1.0, "a")
    net.Relu("a", "b")
    execute(execution_step("s", net, num_iter=2), workspace, Monitor())
    operations = [told_of for told_of in told if told_of[1]]
    assert operations == [(0, 1), (0, 2)] * 2
    assert told[-1] == (0, 0)


def test_what_a_monitor_raises_ends_the_run(workspace):
    class Monitor:
        def enter(self, task, operation):
            if operation == 2:
                raise InterruptedError

    net = Net("n")
    net.Const(1.0, "a")
    net.Relu("a", "b")
    with pytest.raises(InterruptedError):
        execute(net, workspace, Monitor())
    assert workspace.names() == ["a"]


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


# Jobs.


def unused():
    raise AssertionError("nobody interrupted the wait")


def test_one_job_runs_in_the_thread_that_asks():
    ran = []
    run_all([lambda: ran.append(threading.get_ident())], unused)
    run_all([], unused)
    assert ran == [threading.get_ident()]


def test_all_jobs_end_before_an_error_is_raised():
    ended = []
    failed = threading.Event()

    def slow():
        assert failed.wait(PATIENCE)
        ended.append(1)

    def fail():
        failed.set()
        raise KeyError("k")

    with pytest.raises(KeyError):
        run_all([slow, fail, slow], unused)
    assert ended == [1, 1]


def test_a_job_that_was_only_called_off_is_not_the_answer():
    called_off = threading.Event()

    def cancelled():
        called_off.set()
        raise Cancelled

    def fail():
        assert called_off.wait(PATIENCE)
        raise KeyError("k")

    with pytest.raises(KeyError):
        run_all([cancelled, fail], unused)
    with pytest.raises(Cancelled):
        run_all([cancelled, cancelled], unused)


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
