"""Nets that are observed."""

import math

import numpy as np
import pytest

from procession import Net, OperatorError, Workspace, WorkspaceError
from procession.session.observers import (
    OBSERVERS,
    NetObserver,
    RunCountObserver,
    TimeObserver,
    make_observer,
)


class Listening(NetObserver):
    def __init__(self):
        self.heard = []

    def ran(self, marks, seconds):
        self.heard.append((list(marks), seconds))


@pytest.fixture
def net():
    workspace = Workspace()
    workspace.feed_blob("x", np.ones(3, np.float32))
    net = Net("n")
    net.Add(["x", "x"], "y")
    net.Mul(["y", "y"], "z")
    made = workspace.create_net(net)
    made.workspace = workspace
    return made


def test_each_run_is_told_with_its_marks(net):
    listening = Listening()
    net.run()
    net.add_observer(listening)
    assert net.observers == (listening,)
    # Often enough to run as a function.
    for _ in range(5):
        net.run()
    assert len(listening.heard) == 5
    for marks, seconds in listening.heard:
        assert len(marks) == 3
        assert marks == sorted(marks)
        assert 0 < marks[-1] - marks[0] <= seconds
    assert net.workspace.fetch_blob("z").tolist() == [4, 4, 4]
    net.remove_observer(listening)
    net.remove_observer(listening)
    net.run()
    assert len(listening.heard) == 5
    assert net.observers == ()


def test_a_run_that_fails_is_told_as_far_as_it_came(net):
    listening, counting, timing = Listening(), RunCountObserver(), TimeObserver()
    for observer in (listening, counting, timing):
        net.add_observer(observer)
    net.workspace.feed_blob("x", np.array(["text"], object))
    with pytest.raises(OperatorError, match="Mul"):
        net.run()
    ((marks, seconds),) = listening.heard
    assert len(marks) == 2
    assert seconds is None
    assert counting.count == 2
    assert timing.runs == 0


def test_operators_are_counted(net):
    counting = RunCountObserver()
    assert counting.debug_info() == "operators run: 0"
    net.add_observer(counting)
    net.run()
    net.run()
    assert counting.count == 4
    assert counting.debug_info() == "operators run: 4"
    # Other ways to run it are not observed.
    net.workspace.run(Net("other"))
    assert counting.count == 4
    for asked in (counting.average_time, counting.average_time_children):
        with pytest.raises(WorkspaceError, match=r"a RunCountObserver .* use a TimeObserver"):
            asked()


def test_times_are_those_between_the_marks():
    timing = TimeObserver()
    assert math.isnan(timing.average_time())
    assert math.isnan(timing.average_time_children())
    assert timing.operator_times() == []
    timing.ran([1.0, 2.0, 2.5], 2.0)
    timing.ran([9.0], None)
    timing.ran([10.0, 12.0, 14.5], 5.0)
    assert timing.average_time() == 3500
    assert timing.operator_times() == [1500, 1500]
    assert timing.average_time_children() == 1500
    assert timing.debug_info() == "<TimeObserver: 2 runs, 3.5e+03 ms each>"


def test_a_net_without_operators_has_times(net):
    made = net.workspace.create_net(Net("empty"))
    timing = TimeObserver()
    made.add_observer(timing)
    made.run()
    assert timing.average_time() > 0
    assert math.isnan(timing.average_time_children())


def test_a_net_in_a_net_is_one_operator():
    workspace = Workspace()
    inner = Net("inner")
    inner.Const(1.0, "a")
    inner.Const(2.0, "b")
    net = Net("n")
    net.If([net.Const(True)], ["a"], then_net=inner.Proto())
    made = workspace.create_net(net)
    counting = RunCountObserver()
    made.add_observer(counting)
    made.run()
    assert counting.count == 2
    assert workspace.fetch_blob("b") == 2


def test_a_net_that_runs_itself_is_told_twice():
    workspace = Workspace()
    depth = []

    def again(inputs, outputs, workspace):
        if not depth:
            depth.append(1)
            workspace.nets["n"].run()
        outputs[0].feed(1)

    net = Net("n")
    net.Python(again, pass_workspace=True)([], ["y"])
    listening = Listening()
    made = workspace.create_net(net)
    made.add_observer(listening)
    made.run()
    assert [len(marks) for marks, _ in listening.heard] == [2, 2]


def test_observers_are_made_by_name():
    for name, kind in OBSERVERS.items():
        assert type(make_observer(name)) is kind
    with pytest.raises(WorkspaceError, match=r"no observer 'Time': there are RunCount.*, Time"):
        make_observer("Time")
