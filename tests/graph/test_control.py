"""control: loops and conditions as steps."""

import numpy as np
import pytest

from procession import (
    ExecutionStep,
    GraphError,
    NameScope,
    Net,
    RunnableTypeError,
    control,
)
from procession.operators.datatype import DataType


@pytest.fixture
def session(session):
    session.workspace().feed_blob("n", np.int64(0))
    session.workspace().feed_blob("m", np.int64(0))
    session.workspace().feed_blob("one", np.int64(1))
    session.workspace().feed_blob("five", np.int64(5))
    session.workspace().feed_blob("yes", True)
    session.workspace().feed_blob("no", False)
    return session


def counting(blob="n"):
    """A net that counts how often it runs."""
    net = Net("count")
    net.Add([blob, "one"], [blob])
    return net


def asking(relation="LT", blob="n"):
    """A condition net: blob < 5, or another relation."""
    net = Net("ask")
    net.AddExternalOutput(getattr(net, relation)([blob, "five"]))
    return net


def as_step(net):
    return ExecutionStep("s", net)


def value(session, blob="n"):
    return session.workspace().fetch_blob(blob).item()


def run(session, step):
    session.run(step, timeout=60)


# Condition nets.


def test_the_condition_is_the_last_external_output():
    net = asking()
    assert control.GetConditionBlobFromNet(net) == net.external_outputs[-1]
    assert control.GetConditionBlobFromNet(net).Net() is None
    with pytest.raises(GraphError, match="'empty' is used as a condition and has no external"):
        control.GetConditionBlobFromNet(Net("empty"))


@pytest.mark.parametrize("pairs", [(("a", True), ("b", False)), ([("a", True), ("b", False)],)])
def test_bool_net(session, pairs):
    net = control.BoolNet(*pairs)
    assert net.Name() == "bool_net"
    assert net.external_outputs == ["a", "b"]
    assert net.operators[0].arguments["dtype"] == DataType.BOOL
    run(session, net)
    assert (value(session, "a"), value(session, "b")) == (True, False)


def test_what_bool_net_refuses():
    with pytest.raises(GraphError, match="BoolNet takes at least one pair"):
        control.BoolNet()
    with pytest.raises(RunnableTypeError, match="BoolNet takes pairs, not 'a'"):
        control.BoolNet("a")


def test_not_net(session):
    for condition, expected in (("yes", False), ("no", True), (asking(), False)):
        net, blob = control.NotNet(condition)
        assert net.external_outputs == [blob]
        if isinstance(condition, Net):
            run(session, condition)
        run(session, net)
        assert value(session, blob) is expected


@pytest.mark.parametrize(("relation", "expected"), [("And", False), ("Or", True)])
def test_relating_conditions(session, relation, expected):
    nets = [asking("LT"), asking("GT"), asking("NE")]
    nets[1].add_attribute("k", 1)
    merged = control.MergeConditionNets("merged", nets, relation)
    assert merged.Name() == "merged"
    assert len(merged.operators) == 5
    assert merged.get_attributes("k") == [1]
    run(session, merged)
    assert value(session, control.GetConditionBlobFromNet(merged)) is expected
    combined = control.CombineConditions("combined", nets, relation)
    assert len(combined.operators) == 2
    run(session, combined)
    assert value(session, control.GetConditionBlobFromNet(combined)) is expected


def test_relating_one_condition_or_none():
    net = asking()
    assert control.MergeConditionNets("m", [net], "And") is net
    assert control.MergeConditionNets("m", net, "And") is net
    assert control.MergeConditionNets("m", [], "And") is None
    assert control.CombineConditions("c", [], "And") is None
    copied = control.CombineConditions("c", [net], "And")
    assert [operator.type for operator in copied.operators] == ["Copy"]
    with pytest.raises(RunnableTypeError, match="takes a list of nets"):
        control.CombineConditions("c", net, "And")
    with pytest.raises(GraphError, match="by 'And' or 'Or', not 'Xor'"):
        control.CombineConditions("c", [net, net], "Xor")


# Sequences.


def test_do(session):
    first, second = counting(), counting("m")
    for step in (
        control.Do("x", first, second),
        control.Do("x", [first, second]),
        control.Do("x", as_step(first), as_step(second)),
    ):
        run(session, step)
    assert (value(session), value(session, "m")) == (3, 3)


def test_one_step_stays_itself():
    step = as_step(counting())
    assert control.Do("x", step) is step
    assert control.DoParallel("x", [step]) is step
    assert control.Do("x", counting()).Nets() != []
    with pytest.raises(GraphError, match="nothing to run"):
        control.Do("x")
    with pytest.raises(GraphError, match="nothing to run"):
        control.Do("x", [])


def test_do_parallel(session):
    step = control.DoParallel("x", as_step(counting()), as_step(counting("m")))
    assert step.concurrent
    run(session, step)
    run(session, control.DoParallel("x", counting(), counting("m")))
    assert (value(session), value(session, "m")) == (2, 2)


def test_steps_are_named_after_what_they_do_in_scope():
    with NameScope("scope"):
        first = control.Do("x", counting())
        second = control.Do("x", counting())
    assert (first.Name(), second.Name()) == ("scope/x/Do", "scope/x/Do_1")
    loop = control.While("w", "yes", counting())
    assert loop.Name() == "w/While/Do"
    assert loop.Substeps()[1].Name() == "w/While-inner"
    assert control.While("w", "yes", as_step(counting())).Name() == "w/While"
    assert control.If("i", "yes", counting(), counting()).Name() == "i/If/Do"
    assert control.Switch("s", ("yes", counting())).Name() == "s/Switch"
    assert control.For("f", counting(), 3).Name() == "f/For/Do"


# Loops. Each runs twice: what is left of the first time does not matter.


@pytest.mark.parametrize("body", [lambda net: net, as_step, lambda net: [net, counting("m")]])
def test_for(session, body):
    step = control.For("x", body(counting()), 4)
    run(session, step)
    run(session, step)
    assert value(session) == 8
    run(session, control.For("x", counting(), 0))
    assert value(session) == 8


@pytest.mark.parametrize("body", [lambda net: net, as_step])
@pytest.mark.parametrize(
    ("kind", "relation", "start", "expected"),
    [
        (control.While, "LT", 0, 5),
        (control.While, "LT", 7, 7),
        (control.Until, "GE", 0, 5),
        (control.Until, "GE", 7, 7),
        (control.DoWhile, "LT", 0, 5),
        (control.DoWhile, "LT", 7, 8),
        (control.DoUntil, "GE", 0, 5),
        (control.DoUntil, "GE", 7, 8),
    ],
)
def test_loops_by_a_net(session, kind, relation, start, expected, body):
    step = kind("x", asking(relation), body(counting()))
    for _ in range(2):
        session.workspace().feed_blob("n", np.int64(start))
        run(session, step)
        assert value(session) == expected


@pytest.mark.parametrize(
    ("kind", "relation", "condition"),
    [
        (control.While, "LT", True),
        (control.Until, "GE", False),
        (control.DoWhile, "LT", True),
        (control.DoUntil, "GE", False),
    ],
)
def test_loops_by_a_blob(session, kind, relation, condition):
    body = counting()
    getattr(body, relation)(["n", "five"], ["go"])
    session.workspace().feed_blob("go", condition)
    run(session, kind("x", "go", body))
    assert value(session) == 5


# Conditions.


@pytest.mark.parametrize("body", [lambda net: net, as_step])
@pytest.mark.parametrize("by", ["blob", "net"])
@pytest.mark.parametrize("truth", [True, False])
def test_if_and_if_not(session, body, by, truth):
    def condition():
        if by == "blob":
            return "yes" if truth else "no"
        return asking("LT" if truth else "GT", "m")

    for kind, runs in ((control.If, truth), (control.IfNot, not truth)):
        alone = kind("x", condition(), body(counting()))
        both = kind("x", condition(), body(counting()), body(counting("one")))
        for _ in range(2):
            for blob, start in (("n", 0), ("one", 1)):
                session.workspace().feed_blob(blob, np.int64(start))
            run(session, alone)
            assert value(session) == runs
            run(session, both)
            assert (value(session), value(session, "one")) == (2 * runs, 1 + (not runs))


def test_switch(session):
    def pairs():
        return [("yes", counting()), ("no", counting("m")), (asking(), as_step(counting()))]

    run(session, control.Switch("x", *pairs()))
    run(session, control.Switch("x", pairs()))
    assert (value(session), value(session, "m")) == (4, 0)
    run(session, control.SwitchNot("x", *pairs()))
    run(session, control.SwitchNot("x", ("no", as_step(counting("m")))))
    assert (value(session), value(session, "m")) == (4, 2)
    with pytest.raises(RunnableTypeError, match="Switch takes pairs, not 'yes'"):
        control.Switch("x", "yes", counting())


def test_they_nest(session):
    inner = control.For("inner", counting(), 3)
    outer = control.For("outer", control.If("if", asking("LT"), inner), 4)
    run(session, outer)
    # 0, 3, 6: from then on the condition is false.
    assert value(session) == 6
