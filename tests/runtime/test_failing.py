"""Executable: what fails, what stops it, and who is told."""

import signal
import threading

import numpy as np
import pytest
from tests.runtime.nets import PATIENCE, call, execute, note

from procession import (
    Net,
    OperatorError,
    RunTimeoutError,
    Task,
    TaskGroup,
    Workspace,
    execution_step,
)
from procession.compiler.lower import lower
from procession.runtime.executor import Executable
from procession.runtime.monitor import Cancelled, Cells, Deadline
from procession.runtime.threads import run_all


@pytest.fixture
def workspace():
    return Workspace()


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


def test_the_first_error_in_time_is_raised_though_it_comes_out_last(workspace):
    both = threading.Barrier(3)
    failed, second_failed = threading.Event(), threading.Event()

    def first(inputs, outputs):
        both.wait(PATIENCE)
        raise ZeroDivisionError("first")

    def slow(inputs, outputs):
        both.wait(PATIENCE)
        # Whoever waits for it cannot hand on the error of its sibling yet.
        assert second_failed.wait(PATIENCE)

    def second(inputs, outputs):
        both.wait(PATIENCE)
        assert failed.wait(PATIENCE)
        raise ValueError("second")

    def told(error):
        (failed if "first" in str(error) else second_failed).set()

    inner = execution_step("inner", [call(slow), call(first)], concurrent_substeps=True)
    step = execution_step("s", [inner, call(second)], concurrent_substeps=True)
    executable = Executable(lower(step, isolated=False).merged)
    with pytest.raises(OperatorError, match="first") as caught:
        executable.run(workspace, Deadline(), told)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def endless(**options):
    """A loop that nothing of its own ends, and an event that says it runs."""
    started = threading.Event()
    net = call(lambda inputs, outputs: started.set())
    return execution_step("endless", [net], should_stop_blob="never", **options), started


def failing(*after):
    """A net that fails when all of the events have happened."""

    def fail(inputs, outputs):
        for event in after:
            assert event.wait(PATIENCE)
        raise ZeroDivisionError("on purpose")

    return execution_step("failing", call(fail))


def shapes():
    """Steps in which something fails while all the rest would run for ever."""
    loop, started = endless()
    yield "sibling", execution_step("s", [loop, failing(started)], concurrent_substeps=True)
    loop, started = endless()
    deep = execution_step("d", [execution_step("e", [loop])], num_iter=2)
    yield "deeper", execution_step("s", [failing(started), deep], concurrent_substeps=True)
    loops = [endless(num_concurrent_instances=2) for _ in range(2)]
    inner = execution_step("inner", [loop for loop, _ in loops], concurrent_substeps=True)
    bad = failing(*(started for _, started in loops))
    yield "nested loops", execution_step("s", [inner, bad], concurrent_substeps=True)
    loop, started = endless()
    idle = execution_step("idle", call(lambda inputs, outputs: None))
    inner = execution_step("inner", [idle, failing(started)], concurrent_substeps=True, num_iter=9)
    yield "nested failure", execution_step("s", [loop, inner], concurrent_substeps=True)
    loop, started = endless()
    inner = execution_step("inner", [loop, failing(started)], concurrent_substeps=True)
    yield "instances", execution_step("s", [inner], num_concurrent_instances=3)
    loop, started = endless(create_workspace=True)
    inner = execution_step("inner", [loop, failing(started)], concurrent_substeps=True)
    yield "workspaces", execution_step("s", [inner], create_workspace=True)
    loop, started = endless()
    timer = execution_step("timer", note([], "t"), run_every_ms=3_600_000)
    yield (
        "timer",
        execution_step("s", [timer, loop, failing(started)], concurrent_substeps=True),
    )
    loop, started = endless(report_net=note([], "r"), report_interval=3600)
    yield "report", execution_step("s", [loop, failing(started)], concurrent_substeps=True)
    loop, started = endless()
    beside = execution_step("t", [failing(started)], run_every_ms=1)
    yield "recurring", execution_step("s", [beside, loop])
    nothing = execution_step("n", execution_step("z", note([], "z"), num_iter=0))
    nothing.SetShouldStopBlob("never")
    yield "loop over nothing", execution_step("s", [nothing, failing()], concurrent_substeps=True)


@pytest.mark.parametrize(("name", "step"), list(shapes()), ids=[name for name, _ in shapes()])
def test_a_failure_stops_everything_that_runs_beside_it(workspace, name, step):
    before = set(threading.enumerate())
    workspace.feed_blob("never", False)
    executable = Executable(lower(step, isolated=False).merged)
    with pytest.raises(OperatorError, match="on purpose"):
        executable.run(workspace, Deadline(PATIENCE))
    assert set(threading.enumerate()) == before


def test_a_sibling_stops_at_its_next_operator(workspace):
    log = []
    started, failed = threading.Event(), threading.Event()

    def work(inputs, outputs):
        log.append("before")
        started.set()
        assert failed.wait(PATIENCE)

    def told(error):
        failed.set()

    net = call(work)
    net.AppendNet(note(log, "after"))
    step = execution_step("s", [net, failing(started)], concurrent_substeps=True)
    executable = Executable(lower(step, isolated=False).merged)
    with pytest.raises(OperatorError, match="on purpose"):
        executable.run(workspace, Deadline(), told)
    assert log == ["before"]


def test_nothing_runs_behind_a_failure(workspace):
    log = []
    parts = [
        execution_step("timer", note(log, "t"), run_every_ms=3_600_000),
        failing(),
        execution_step("later", note(log, "l")),
    ]
    options = {"report_net": note(log, "r"), "report_interval": 3600}
    step = execution_step("s", parts, num_iter=2, **options)
    with pytest.raises(OperatorError, match="on purpose"):
        execute(step, workspace)
    assert log == []


def test_a_report_that_fails_at_the_end(workspace):
    log = []
    report = failing().Nets()[0]
    step = execution_step("s", note(log, "a"), report_net=report, report_interval=3600)
    after = execution_step("after", note(log, "b"))
    with pytest.raises(OperatorError, match="on purpose"):
        execute(execution_step("outer", [step, after]), workspace)
    assert log == ["a"]


def test_a_failure_is_told_when_it_happens(workspace):
    told = []
    threads = []

    def fail(inputs, outputs):
        threads.append(threading.current_thread())
        raise ZeroDivisionError("on purpose")

    def hear(error):
        told.append((error, threading.current_thread()))

    step = execution_step("s", [call(fail), note([], "a")], concurrent_substeps=True)
    with pytest.raises(OperatorError) as caught:
        Executable(lower(step, isolated=False).merged).run(workspace, Deadline(), hear)
    assert told[0] == (caught.value, threads[0])


def test_ctrl_c_stops_all_threads(workspace):
    before = set(threading.enumerate())
    workspace.feed_blob("never", False)
    main = threading.main_thread()
    assert threading.current_thread() is main
    loop, started = endless()

    def interrupt(inputs, outputs):
        assert started.wait(PATIENCE)
        signal.pthread_kill(main.ident, signal.SIGINT)

    timer = execution_step("timer", note([], "t"), run_every_ms=3_600_000)
    parts = [loop, execution_step("interrupt", call(interrupt)), timer]
    step = execution_step("s", parts, concurrent_substeps=True)
    with pytest.raises(KeyboardInterrupt):
        execute(step, workspace, Deadline(PATIENCE))
    assert set(threading.enumerate()) == before


def test_a_deadline_stops_all_threads(workspace):
    before = set(threading.enumerate())
    workspace.feed_blob("never", False)
    loops = [endless()[0] for _ in range(2)]
    timer = execution_step("timer", note([], "t"), run_every_ms=3_600_000)
    step = execution_step("s", [*loops, timer], concurrent_substeps=True)
    with pytest.raises(RunTimeoutError):
        execute(step, workspace, Deadline(0.05))
    assert set(threading.enumerate()) == before


def test_a_thread_that_cannot_be_started(workspace, monkeypatch):
    before = set(threading.enumerate())
    start = threading.Thread.start
    started = []

    def refuse(thread):
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    workspace.feed_blob("never", False)
    timers = [execution_step(f"t{i}", note([], "t"), run_every_ms=3_600_000) for i in range(2)]
    loops = [endless()[0] for _ in range(2)]
    step = execution_step("s", [*timers, *loops], concurrent_substeps=True)
    with pytest.raises(RuntimeError, match="can't start"):
        execute(step, workspace, Deadline(PATIENCE))
    assert set(threading.enumerate()) == before


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


class Board:
    """A monitor that writes down what it is told, and calls the run off at an operation."""

    def __init__(self, last=None):
        self.stop = []
        self.told = []
        self.last = last

    def check(self):
        if self.stop or self.told[-1:] == [self.last]:
            raise InterruptedError

    def cells(self, task):
        board = self

        class Note:
            def __setitem__(self, index, number):
                assert index == 0
                board.told.append((task, number))

        class Called:
            def __getitem__(self, index):
                assert index == 0
                return 7 if board.told[-1:] == [board.last] else 0

            def __len__(self):
                return 1

        return Cells(Note(), Called(), 7)


@pytest.mark.parametrize("times", [1, 6])
def test_the_monitor_is_told_of_each_operation(workspace, times):
    board = Board()
    net = Net("n")
    net.Const(1.0, "a")
    net.Relu("a", "b")
    execute(execution_step("s", net, num_iter=times), workspace, board)
    operations = [told for told in board.told if told[1]]
    assert operations == [(0, 1), (0, 2)] * times
    assert board.told[-1] == (0, 0)


@pytest.mark.parametrize("runs", [1, 6])
def test_what_a_monitor_raises_ends_the_run(workspace, runs):
    net = Net("n")
    net.Const(1.0, "a")
    net.Python(lambda inputs, outputs: outputs[0].feed(1.0))([], ["b"])
    executable = Executable(lower(net, isolated=False).merged)
    for _ in range(runs - 1):
        executable.run(workspace, Board())
        workspace.remove_blob("b")
    with pytest.raises(InterruptedError):
        executable.run(workspace, Board(last=(0, 1)))
    assert workspace.names() == ["a"]


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
