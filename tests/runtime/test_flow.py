"""Flow: what is opened up does what it did before it was; the text of its function."""

import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.nets import PATIENCE, call, execute

from procession import LocalSession, Net, OperatorError, Workspace, execution_step
from procession.compiler.lower import lower
from procession.operators import REGISTRY
from procession.operators.control import Branch, Loop
from procession.runtime import flow
from procession.runtime.executor import Executable
from procession.runtime.generated import Line, compile_text, text_of
from procession.runtime.items import Call, Check, Jump
from procession.runtime.monitor import Deadline

RUNS = 6
"""More than it takes until what runs is one function."""


# The text.


def test_the_text():
    lines = [
        Line("a()", 7, polled=True),
        Line("x.item()", 0, polled=False, kind="pass", skip=2),
        Line("b()", 8, polled=False),
        Line("", 0, polled=False, kind="else", skip=1),
        Line("c()", 9, polled=True),
        Line("y.item()", 0, polled=False, kind="pass", skip=0),
        Line("not z.item()", 0, polled=False, kind="leave"),
    ]
    text = """
        def run(turns, workspace, task, stop):
         for _ in turns:
          if broken or stop: return 0
          a()
          if broken or stop: return 1
          if x.item():
           if broken or stop: return 2
           b()
           pass
          else:
           if broken or stop: return 4
           c()
          if broken or stop: return 5
          y.item()
          if broken or stop: return 6
          if not z.item(): return -1
         return -1
        """
    assert text_of(lines, board=False) == textwrap.dedent(text).strip()
    board = text_of(lines, board=True)
    assert "  if broken or stop or called[0] == this: return 0\n  note[0] = 7; a()\n" in board
    assert "   if broken or stop: return 2\n   note[0] = 8; b()\n" in board


@pytest.mark.parametrize("board", [False, True])
def test_the_text_of_nothing_can_be_called_off(board):
    text = text_of([], board=board)
    assert ("called[0] == this" in text) is board
    assert "if stop" in text


@st.composite
def jumps(draw, size=8, depth=3):
    """Items as (kind, skip), nested as they must be."""
    items = []
    for _ in range(draw(st.integers(0, size))):
        kind = draw(st.sampled_from(["do", "do", "leave", "if", "else"] if depth else ["do"]))
        if kind in ("do", "leave"):
            items.append((kind, 0))
            continue
        then, other = draw(jumps(size // 2, depth - 1)), []
        if kind == "else":
            other = draw(jumps(size // 2, depth - 1).filter(len))
            then = [*then, ("else", len(other))]
        items += [("pass", len(then)), *then, *other]
    return items


@given(items=jumps(), answers=st.lists(st.booleans(), min_size=40, max_size=40), turns=st.just(3))
def test_the_text_jumps_as_the_items_do(items, answers, turns):
    def interpret():
        done, left = [], iter(answers * 50)
        for _ in range(turns):
            index = 0
            while index < len(items):
                kind, skip = items[index]
                index += 1
                if kind == "do":
                    done.append(index)
                elif kind == "else":
                    index += skip
                elif kind == "leave" and next(left):
                    return done
                elif kind == "pass" and not next(left):
                    index += skip
        return done

    done, left = [], iter(answers * 50)
    lines = [
        Line(f"do({n})" if kind == "do" else "ask()", 0, True, kind, skip)
        for n, (kind, skip) in enumerate(items, 1)
    ]
    scope = {"do": done.append, "ask": lambda: next(left), "broken": False}
    exec(text_of(lines, board=False), scope)
    assert scope["run"](range(turns), None, None, []) == -1
    assert done == interpret()


def test_each_item_has_two_lines():
    lines = [Line("1", 0, True), Line("1", 0, True, "pass", 1), Line("1 / 0", 0, True)]
    code = compile_text(text_of(lines, board=False), ["broken"], "<net n>")
    assert code.co_firstlineno + 2 + 2 * 2 + 1 in {line for _, _, line in code.co_lines()}


# Flow operators.


def test_what_flow_operators_say():
    if_, while_ = REGISTRY["If"], REGISTRY["While"]
    assert if_.flow
    assert while_.flow
    assert not REGISTRY["Do"].flow
    assert if_.kernel("c", "x", then_net=1) == Branch("c", 1, None)
    assert if_.kernel("c", then_net=1, else_net=2) == Branch("c", 1, 2)
    assert while_.kernel("c", loop_net=1) == Loop("c", None, 1)


class Nest:
    """Nested Ifs: a net, and what it does to `y`."""

    def __init__(self, tree):
        self.tree = tree
        self.used = 0

    def net(self, tree=None):
        net = Net("nest")
        for part in self.tree if tree is None else tree:
            if isinstance(part, int):
                net.Mul(["y", "three"], "y")
                net.Add(["y", f"k{part}"], "y")
                continue
            condition, then, other = part
            nets = {"then_net": self.net(then).Proto()}
            if other is not None:
                nets["else_net"] = self.net(other).Proto()
            net.If([condition], [], **nets)
        return net

    def value(self, y, conditions, tree=None):
        for part in self.tree if tree is None else tree:
            if isinstance(part, int):
                y = (y * 3 + part) % 2**64
                continue
            condition, then, other = part
            taken = then if conditions[condition] else other
            y = self.value(y, conditions, taken) if taken else y
        return y


CONDITIONS = ("c0", "c1", "c2")
leaves = st.integers(0, 4)
trees = st.recursive(
    st.lists(leaves, max_size=4),
    lambda inner: st.lists(
        leaves | st.tuples(st.sampled_from(CONDITIONS), inner, st.none() | inner), max_size=4
    ),
    max_leaves=30,
)


@given(
    tree=trees,
    runs=st.lists(
        st.tuples(st.tuples(*[st.booleans()] * len(CONDITIONS)), st.sampled_from([(), (1,)])),
        min_size=RUNS,
        max_size=2 * RUNS,
    ),
    board=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_nested_ifs(tree, runs, board):
    nest = Nest(tree)
    net, workspace = nest.net(), Workspace()
    executable = Executable(lower(net, isolated=False).merged)
    for index in range(5):
        workspace.feed_blob(f"k{index}", np.array([index], np.uint64))
    workspace.feed_blob("three", np.array([3], np.uint64))
    workspace.feed_blob("y", np.array([1], np.uint64))
    y = 1
    for truths, shape in runs:
        conditions = dict(zip(CONDITIONS, truths, strict=True))
        for name, truth in conditions.items():
            workspace.feed_blob(name, np.full(shape, truth))
        executable.run(workspace, Deadline(timeout=PATIENCE if board else None))
        y = nest.value(y, conditions)
        assert workspace.fetch_blob("y").tolist() == [y]


@pytest.mark.parametrize("depth", [flow.DEEP - 1, flow.DEEP, flow.DEEP + 1, 4 * flow.DEEP])
def test_deep_ifs(depth):
    # Python does not let blocks nest without an end.
    tree = [0]
    for _ in range(depth):
        tree = [("c0", [1, *tree], [2])]
    nest, workspace = Nest(tree), Workspace()
    for index in range(5):
        workspace.feed_blob(f"k{index}", np.array([index], np.uint64))
    workspace.feed_blob("three", np.array([3], np.uint64))
    executable = Executable(lower(nest.net(), isolated=False).merged)
    for run in range(RUNS):
        workspace.feed_blob("c0", run % 3 != 0)
        workspace.feed_blob("y", np.array([1], np.uint64))
        executable.run(workspace, Deadline())
        expected = nest.value(1, {"c0": run % 3 != 0})
        assert workspace.fetch_blob("y").tolist() == [expected]


def test_a_long_branch_is_a_call():
    branch = Net("branch")
    for _ in range(flow.LONG + 1):
        branch.Add(["y", "one"], "y")
    net = Net("n")
    net.If(["c"], ["y"], then_net=branch.Proto())
    workspace = Workspace()
    workspace.feed_blob("one", 1)
    workspace.feed_blob("y", 0)
    executable = Executable(lower(net, isolated=False).merged)
    items = next(prepared for prepared in executable._flow.nets.values() if prepared.name == "n")
    assert [type(item) for item in items.items] == [Check, Call]
    for run in range(RUNS):
        workspace.feed_blob("c", run % 2 == 0)
        executable.run(workspace, Deadline())
    assert workspace.fetch_blob("y") == (flow.LONG + 1) * RUNS / 2


def test_a_short_branch_is_opened_up():
    net, branch = Net("n"), Net("branch")
    branch.Add(["y", "one"], "y")
    net.If(["c"], ["y"], then_net=branch.Proto(), else_net=branch.Proto())
    executable = Executable(lower(net, isolated=False).merged)
    (prepared,) = (each for each in executable._flow.nets.values() if each.name == "n")
    assert [type(item).__name__ for item in prepared.items] == [
        "Check",
        "PreparedOperation",
        "Jump",
        "PreparedOperation",
    ]
    assert isinstance(prepared.items[2], Jump)


@pytest.mark.parametrize("run", range(RUNS))
def test_an_error_in_a_branch_says_where(run):
    with LocalSession() as session:
        workspace = session.workspace()
        net, branch = Net("n"), Net("branch")
        branch.Add(["x", "y"], "z")  # here
        net.If(["c"], ["z"], then_net=branch.Proto())
        workspace.feed_blob("c", True)
        workspace.feed_blob("x", np.ones(2, np.float32))
        workspace.feed_blob("y", np.ones(2, np.float32))
        for _ in range(run):
            session.run(net)
        workspace.feed_blob("y", np.ones(3, np.float32))
        with pytest.raises(OperatorError, match="Add") as caught:
            session.run(net)
        assert caught.value.net == "branch"
        assert 'branch.Add(["x", "y"], "z")  # here' in str(caught.value)


# Steps.


def counting(log, name, blob=None, after=1):
    def count(inputs, outputs):
        log.append(name)
        if blob is not None:
            outputs[0].feed(np.array(log.count(name) >= after))

    return call(count, outputs=[] if blob is None else [blob], name=name)


@pytest.mark.parametrize("parts", [2, flow.DEEP - 1, flow.DEEP, 5 * flow.DEEP])
@pytest.mark.parametrize("stops", [0, 1, 1000])
def test_one_turn_with_a_stop_blob_behind_each_of_many_parts(parts, stops):
    log, workspace = [], Workspace()
    workspace.feed_blob("stop", False)
    nets = [
        counting(log, "stops", "stop") if index == stops else counting(log, "part")
        for index in range(parts)
    ]
    step = execution_step("s", nets, should_stop_blob="stop", only_once=True)
    executable = Executable(lower(step, isolated=False).merged)
    for _ in range(RUNS):
        workspace.feed_blob("stop", False)
        log.clear()
        executable.run(workspace, Deadline())
        assert len(log) == min(parts, stops + 1)


def test_what_runs_once_in_a_run_does_so_in_each():
    log, workspace = [], Workspace()
    once = execution_step("once", [counting(log, "a"), counting(log, "b")], only_once=True)
    step = execution_step("s", [once, execution_step("c", counting(log, "c"))], num_iter=4)
    executable = Executable(lower(step, isolated=False).merged)
    for _ in range(RUNS):
        log.clear()
        executable.run(workspace, Deadline())
        assert "".join(log) == "abcccc"


def test_an_endless_loop_of_nothing_can_be_called_off():
    workspace = Workspace()
    workspace.feed_blob("stop", False)
    step = execution_step("s", Net("empty"), should_stop_blob="stop")
    with pytest.raises(TimeoutError):
        execute(step, workspace, Deadline(timeout=0.1))
