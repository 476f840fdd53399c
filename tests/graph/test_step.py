"""ExecutionStep, execution_step, Plan."""

import pytest

from procession import (
    ExecutionStep,
    GraphError,
    NameScope,
    Net,
    Plan,
    RunnableTypeError,
    core,
    execution_step,
)


@pytest.fixture
def nets():
    return [Net("a"), Net("b")]


def test_a_plain_step(nets):
    step = ExecutionStep("s", nets)
    assert step.Name() == str(step) == "s"
    assert step.Nets() == nets
    assert step.body == tuple(nets)
    assert step.Substeps() == []
    assert (step.HasNets(), step.HasSubsteps()) == (True, False)
    assert step.iterations is None
    assert step.should_stop is None
    assert step.report is None
    assert step.every_millis is None
    assert step.concurrent_instances == 1
    assert [step.only_once, step.concurrent, step.create_workspace] == [False] * 3


def test_one_net_needs_no_list(nets):
    assert ExecutionStep("s", nets[0], 5).Nets() == [nets[0]]
    assert ExecutionStep("s", nets[0], num_iter=5).iterations == 5


def test_step_names_may_repeat_and_missing_ones_are_made():
    assert [ExecutionStep("s").Name(), ExecutionStep("s").Name()] == ["s", "s"]
    assert [ExecutionStep("").Name(), ExecutionStep("").Name()] == ["step", "step_1"]


def test_execution_step_makes_a_step_of_nets(nets):
    assert execution_step("s", nets[0]).Nets() == [nets[0]]
    assert execution_step("s", nets).Nets() == nets
    assert execution_step("s", tuple(nets)).Nets() == nets
    assert execution_step("s", []).body == ()


def test_execution_step_makes_a_step_of_steps(nets):
    inner = ExecutionStep("inner", nets)
    assert execution_step("s", inner).Substeps() == [inner]
    assert execution_step("s", [inner, inner]).Substeps() == [inner, inner]


def test_nets_beside_steps_become_steps(nets):
    inner = ExecutionStep("inner", nets[1])
    step = execution_step("s", [nets[0], inner])
    first, second = step.Substeps()
    assert first.Name() == "step"
    assert first.Nets() == [nets[0]]
    assert second is inner


def test_concurrent_nets_become_steps(nets):
    step = execution_step("s", nets, concurrent_substeps=True)
    assert step.concurrent
    assert [inner.Nets() for inner in step.Substeps()] == [[nets[0]], [nets[1]]]


def test_nested_lists_are_refused(nets):
    with pytest.raises(RunnableTypeError, match="a step is made of nets and steps"):
        execution_step("s", [nets])


@pytest.mark.parametrize("part", ["net", 3, ["net"], [Plan("p")]])
def test_other_things_are_refused(part):
    with pytest.raises(RunnableTypeError, match="step 's': a step is made of nets and steps, not"):
        execution_step("s", part)


@pytest.mark.parametrize(
    ("options", "attribute", "value"),
    [
        ({"num_iter": 0}, "iterations", 0),
        ({"num_iter": 7}, "iterations", 7),
        ({"should_stop_blob": core.BlobReference("b")}, "should_stop", "b"),
        ({"only_once": True}, "only_once", True),
        ({"only_once": False}, "only_once", False),
        ({"concurrent_substeps": True}, "concurrent", True),
        ({"num_concurrent_instances": 3}, "concurrent_instances", 3),
        ({"create_workspace": True}, "create_workspace", True),
        ({"run_every_ms": 5}, "every_millis", 5),
    ],
)
def test_options(nets, options, attribute, value):
    assert getattr(execution_step("s", nets[0], **options), attribute) == value


def test_report_net(nets):
    step = execution_step("s", nets[0], report_net=nets[1], report_interval=2)
    assert step.report == (nets[1], 2.0)
    with pytest.raises(GraphError, match="a report net needs a report_interval"):
        execution_step("s", nets[0], report_net=nets[1])
    with pytest.raises(RunnableTypeError, match="is no Net"):
        step.SetReportNet("net", 1)


def test_counting_and_a_stop_blob_exclude_each_other(nets):
    with pytest.raises(GraphError, match="num_iter or should_stop_blob, not both") as caught:
        execution_step("s", nets, num_iter=3, should_stop_blob="b")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(GraphError, match="counts; it cannot stop by a blob"):
        ExecutionStep("s", nets, 3).SetShouldStopBlob("b")
    step = ExecutionStep("s", nets)
    step.SetShouldStopBlob("b")
    with pytest.raises(GraphError, match="stops by a blob; it cannot count"):
        step.SetIter(3)


def test_stop_blob_names_are_scoped(nets):
    with NameScope("q"):
        assert execution_step("s", nets, should_stop_blob="b").should_stop == "q/b"
        reference = core.BlobReference("b")
        assert execution_step("s", nets, should_stop_blob=reference).should_stop == "b"
    with pytest.raises(RunnableTypeError, match="a should-stop blob is a BlobReference or a name"):
        ExecutionStep("s").SetShouldStopBlob(True)


def test_numbers_are_checked():
    step = ExecutionStep("s")
    with pytest.raises(GraphError, match="-1 is no number of iterations"):
        step.SetIter(-1)
    with pytest.raises(GraphError, match="0 is no number of instances"):
        step.SetNumConcurrentInstances(0)


def test_nets_and_steps_do_not_mix(nets):
    with pytest.raises(GraphError, match="runs nets; it cannot run steps"):
        ExecutionStep("s", nets).AddSubstep(ExecutionStep("t"))
    step = ExecutionStep("s")
    assert step.AddSubstep(ExecutionStep("t", nets)) is step
    with pytest.raises(GraphError, match="runs steps; it cannot run nets"):
        step.AddNet(nets[0])


def test_parts_are_checked(nets):
    step = ExecutionStep("s")
    with pytest.raises(RunnableTypeError, match="AddNet takes a Net"):
        step.AddNet(ExecutionStep("t"))
    with pytest.raises(RunnableTypeError, match="AddSubstep takes an ExecutionStep"):
        step.AddSubstep(nets[0])
    assert step.body == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda step: step.AddNet(Net("x")),
        lambda step: step.SetIter(2),
        lambda step: step.SetShouldStopBlob("b"),
        lambda step: step.SetOnlyOnce(True),
        lambda step: step.SetConcurrentSubsteps(True),
        lambda step: step.SetNumConcurrentInstances(2),
        lambda step: step.SetCreateWorkspace(True),
        lambda step: step.RunEveryMillis(5),
        lambda step: step.SetReportNet(Net("r"), 1),
        lambda step: step.AddNet(Net("y")).AddNet(Net("z")),
    ],
)
def test_every_change_counts(change):
    step = ExecutionStep("s")
    before = step.revision
    change(step)
    assert step.revision > before


def test_attributes_of_all_nets(nets):
    nets[0].add_attribute("k", 1)
    nets[1].add_attribute("k", 2)
    nets[1].add_attribute("k", 3)
    inner = execution_step("inner", nets)
    assert execution_step("outer", [inner, nets[0]]).get_all_attributes("k") == [1, 2, 3]
    assert inner.get_all_attributes("none") == []


def test_to_execution_step(nets):
    step = ExecutionStep("s")
    assert core.to_execution_step(step) is step
    assert core.to_execution_step(nets[0]).Nets() == [nets[0]]
    assert core.to_execution_step(nets, "called").Name() == "called"
    assert core.to_execution_step(nets).Name() == "step_1"


def test_a_step_that_is_part_of_something_stays_as_it_is(nets):
    inner = ExecutionStep("inner", nets)
    execution_step("outer", inner)
    changes = [
        lambda: inner.AddNet(nets[0]),
        lambda: inner.SetIter(2),
        lambda: inner.SetShouldStopBlob("b"),
        lambda: inner.SetOnlyOnce(True),
        lambda: inner.SetConcurrentSubsteps(True),
        lambda: inner.SetNumConcurrentInstances(2),
        lambda: inner.SetCreateWorkspace(True),
        lambda: inner.RunEveryMillis(5),
        lambda: inner.SetReportNet(nets[0], 1),
    ]
    for change in changes:
        with pytest.raises(GraphError, match="'inner' has been put into step 'outer'"):
            change()
    assert inner.Proto() == ExecutionStep("inner", nets).Proto()
    again = ExecutionStep("again", nets)
    Plan(again)
    with pytest.raises(GraphError, match="has been put into plan 'again'"):
        again.SetIter(1)
    # It can be part of more.
    assert execution_step("more", [inner, again]).Substeps() == [inner, again]


def test_steps_that_run_nothing_are_left_out(nets):
    empty, full = ExecutionStep("empty"), ExecutionStep("full", nets)
    outer = execution_step("outer", [empty, full, execution_step("none", None)])
    assert outer.Substeps() == [full]
    plan = Plan("p")
    plan.AddStep(ExecutionStep("empty"))
    plan.AddStep(outer)
    assert plan.Steps() == [outer]
    # What was left out cannot be filled afterwards: nobody would see it.
    with pytest.raises(GraphError, match="it cannot be changed"):
        empty.AddNet(nets[0])


def test_nets_are_those_of_all_substeps_each_once(nets):
    report = Net("r")
    inner = execution_step("inner", [nets[1], nets[1]], report_net=report, report_interval=1)
    outer = execution_step("outer", [inner, nets[0], inner])
    assert outer.Nets() == [nets[1], report, nets[0]]
    assert inner.Proto().network == ["b", "b"]


def test_the_message_says_once_where_execution_step_was_told_nothing(nets):
    assert execution_step("s", nets).Proto().num_iter == 1
    assert not ExecutionStep("s", nets).Proto().HasField("num_iter")
    assert not execution_step("s", nets, should_stop_blob="b").Proto().HasField("num_iter")


# Plans.


def test_a_plan_has_steps(nets):
    plan = Plan("p")
    assert plan.Name() == str(plan) == "p"
    steps = [ExecutionStep("s", nets[0]), ExecutionStep("t", nets)]
    for number, step in enumerate(steps):
        assert plan.revision == number
        plan.AddStep(step)
    assert plan.Steps() == steps
    assert plan.Nets() == nets
    assert "ExecutionStep('s'" in repr(plan)


def test_a_plan_can_be_made_of_a_step(nets):
    step = ExecutionStep("s", nets)
    plan = Plan(step)
    assert plan.Name() == "s"
    assert plan.Steps() == [step]


def test_nets_of_a_plan_are_found_at_any_depth_and_once(nets):
    inner = execution_step("inner", [execution_step("deep", nets[1]), nets[0]])
    plan = Plan(execution_step("outer", [inner, execution_step("again", nets[1])]))
    assert plan.Nets() == [nets[1], nets[0]]
    extra = Net("extra")
    plan.AddNets([extra, extra])
    assert plan.Nets() == [extra, nets[1], nets[0]]


def test_what_a_plan_refuses(nets):
    with pytest.raises(RunnableTypeError, match="a Plan takes a name or a step"):
        Plan(nets[0])
    with pytest.raises(RunnableTypeError, match="is no ExecutionStep"):
        Plan("p").AddStep(nets[0])
    with pytest.raises(RunnableTypeError, match="is no Net"):
        Plan("p").AddNets([ExecutionStep("s")])
