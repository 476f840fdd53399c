"""How long a net takes, and what runs in the background."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from procession import Net, OperatorError, Workspace, WorkspaceError
from procession.session.background import BackgroundRun
from procession.session.benchmark import benchmark_net


def test_a_net_and_each_of_its_operators_are_timed() -> None:
    workspace = Workspace()
    workspace.feed_blob("count", np.zeros(1, np.float32))
    net = Net("net")
    net.ConstantFill([], "one", shape=[1], value=1.0)
    net.Add(["count", "one"], "count")
    workspace.create_net(net)
    times = benchmark_net(workspace, net.Name(), 2, 3)
    assert workspace.fetch_blob("count") == 5
    assert times[0] > 0
    assert times[1:] == [0, 0]
    times = benchmark_net(workspace, net.Name(), 0, 4, run_individual=True)
    assert workspace.fetch_blob("count") == 5 + 4 + 4
    assert len(times) == 3
    assert min(times) > 0


def test_operators_of_nets_within_are_part_of_the_operator_that_runs_them() -> None:
    workspace = Workspace()
    then = Net("then")
    then.ConstantFill([], "y", value=1.0)
    then.Add(["y", "y"], "y")
    net = Net("net")
    net.ConstantFill([], "yes", shape=[], value=True)
    net.If("yes", "y", then_net=then.Proto())
    workspace.create_net(net)
    times = benchmark_net(workspace, net.Name(), 0, 1, run_individual=True)
    assert len(times) == 3
    assert min(times) > 0


def test_only_nets_that_are_there_are_timed() -> None:
    with pytest.raises(WorkspaceError, match="nowhere"):
        benchmark_net(Workspace(), "nowhere", 1, 1)


def test_the_script_goes_on_while_something_runs() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def wait(inputs: list, outputs: list) -> None:
        begun.set()
        assert may_end.wait(60)
        outputs[0].feed(np.ones(1))

    net = Net("waits")
    net.Python(wait)([], "done")
    workspace = Workspace()
    running = BackgroundRun(workspace, net)
    assert begun.wait(60)
    assert not running.is_done()
    may_end.set()
    assert running.is_succeeded()
    assert running.is_done()
    assert running.error is None
    assert workspace.fetch_blob("done").tolist() == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_is_kept() -> None:
    def fail(inputs: list, outputs: list) -> None:
        raise ValueError("no")

    net = Net("fails")
    net.Python(fail)([], "never")
    running = BackgroundRun(Workspace(), net)
    assert not running.is_succeeded()
    assert isinstance(running.error, OperatorError)
