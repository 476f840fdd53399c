"""If, While, Do and the stack of scopes."""

import copy
import pickle

import numpy as np
import pytest

from procession import BlobNotFoundError, LocalSession, Net, OperatorError, ProcessSession
from procession.operators.control import WorkspaceStack

RUNS = 5
"""More than it takes until a net is one function."""


@pytest.fixture(params=[LocalSession, ProcessSession])
def session(request):
    with request.param() as session:
        yield session


def feed(session, **values):
    for name, value in values.items():
        session.workspace().feed_blob(name, value)


def fetch(session, name):
    return session.workspace().fetch_blob(name)


def fill(value, blob="y"):
    net = Net("fill")
    net.ConstantFill([], blob, shape=[1], value=value)
    return net


# If.


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_if(session, shape):
    net = Net("n")
    net.If(["c"], ["y"], then_net=fill(1.0).Proto(), else_net=fill(2.0).Proto())
    for run in range(2 * RUNS):
        feed(session, c=np.full(shape, run % 2 == 0))
        session.run(net)
        assert fetch(session, "y") == (1 if run % 2 == 0 else 2)


def test_if_without_else(session):
    net = Net("n")
    net.If(["c"], ["y"], then_net=fill(1.0).Proto())
    feed(session, c=np.array([False]), y=np.float32([7]))
    for _ in range(RUNS):
        session.run(net)
    assert fetch(session, "y") == 7


@pytest.mark.parametrize("operator", ["If", "While"])
@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (np.array([True, False]), "must be a single bool, not of shape"),
        (np.zeros(0, bool), "must be a single bool, not of shape"),
        (np.int32([1]), "must be a bool, not int32"),
        ("text", "must be a bool, not str"),
    ],
    ids=str,
)
def test_a_condition_is_one_bool(session, operator, condition, message):
    net = Net("n")
    body = {"If": "then_net", "While": "loop_net"}[operator]
    getattr(net, operator)(["c"], [], **{body: fill(1.0).Proto()})
    feed(session, c=condition)
    with pytest.raises(OperatorError, match=f"{operator}: the condition 'c' {message}"):
        session.run(net)


# While.


def counting():
    """Nets that add `one` to `i`, and compare it with `n`."""
    loop, compare = Net("loop"), Net("compare")
    loop.Add(["i", "one"], "i")
    compare.LT(["i", "n"], "c")
    return loop, compare


@pytest.mark.parametrize("start", [True, False])
def test_while_with_a_net_for_the_condition(session, start):
    loop, compare = counting()
    net = Net("n")
    net.While(["c", "i"], ["i"], loop_net=loop.Proto(), cond_net=compare.Proto())
    for run in range(RUNS):
        feed(session, c=np.array(start), i=np.int32([0]), n=np.int32([run]), one=np.int32([1]))
        session.run(net)
        assert fetch(session, "i") == run
        assert not fetch(session, "c")


@pytest.mark.parametrize("start", [True, False])
def test_while_whose_body_computes_the_condition(session, start):
    loop, compare = counting()
    loop.AppendNet(compare)
    net = Net("n")
    net.While(["c", "i"], ["i"], loop_net=loop.Proto())
    feed(session, c=np.array([start]), i=np.int32([0]), n=np.int32([9]), one=np.int32([1]))
    session.run(net)
    assert fetch(session, "i") == (9 if start else 0)


def test_while_in_while(session):
    inner, compare = counting()
    outer = Net("outer")
    outer.ConstantFill([], "i", shape=[1], value=0, dtype="int32")
    outer.While(["c", "i"], ["i"], loop_net=inner.Proto(), cond_net=compare.Proto())
    outer.Add(["total", "i"], "total")
    outer.Add(["round", "one"], "round")
    again = Net("again")
    again.LT(["round", "n"], "d")
    net = Net("n")
    net.While(["d", "c", "i"], ["total"], loop_net=outer.Proto(), cond_net=again.Proto())
    feed(session, c=True, d=True, i=np.int32([0]), n=np.int32([4]), one=np.int32([1]))
    for _ in range(RUNS):
        feed(session, total=np.int32([0]), round=np.int32([0]))
        session.run(net)
        assert fetch(session, "total") == 16


def test_an_error_inside_is_that_of_the_operator_inside(session):
    body = Net("body")
    body.MatMul(["a", "b"], "y")  # the line
    net = Net("outer")
    net.If(["c"], ["y"], then_net=body.Proto())
    feed(session, c=True, a=np.ones((2, 3), np.float32), b=np.ones((3, 2), np.float32))
    for _ in range(RUNS):
        session.run(net)
    feed(session, b=np.ones((2, 2), np.float32))
    for _ in range(2):
        with pytest.raises(OperatorError, match=r"operator MatMul\(a, b\) -> y") as caught:
            session.run(net)
        assert (caught.value.net, caught.value.operator) == ("body", "MatMul")
        assert "the line" in caught.value.source
    session.workspace().remove_blob("b")
    with pytest.raises(BlobNotFoundError, match="no blob 'b'") as caught:
        session.run(net)
    assert "operator MatMul(a, b) -> y" in str(caught.value)


# Do.


def doing(inputs, outputs, body, inner, outer, **arguments):
    net = Net("do")
    net.Do(
        [*inputs, "scopes"],
        [*outputs, "scopes"],
        net=body.Proto(),
        inner_blobs=inner,
        outer_blobs_idx=outer,
        **arguments,
    )
    return net


def scoped(*nets):
    """Nets in one that begins with an empty stack."""
    net = Net("scoped")
    net.CreateScope([], "scopes")
    for each in nets:
        net.AppendNet(each)
    return net


def plus(a, b, c):
    net = Net("plus")
    net.Add([a, b], c)
    return net


def test_a_body_has_names_of_its_own(session):
    body = plus("a", "b", "c")
    body.Copy("c", "x")  # the body's own: not the x outside
    net = scoped(doing(["x", "y"], ["z"], body, ["a", "b", "c"], [0, 1, 2]))
    for run in range(RUNS):
        feed(session, x=np.float32([run]), y=np.float32([10]))
        session.run(net)
        assert fetch(session, "z") == run + 10
        assert fetch(session, "x") == run
    assert sorted(session.workspace().blobs) == ["scopes", "x", "y", "z"]


@pytest.mark.parametrize("index", [0, 2])
def test_a_blob_that_is_read_and_written_has_one_inner_name(session, index):
    net = scoped(doing(["x", "y"], ["x"], plus("a", "b", "a"), ["a", "b"], [index, 1]))
    feed(session, x=np.float32([1]), y=np.float32([2]))
    for _ in range(RUNS):
        session.run(net)
    assert fetch(session, "x") == 1 + 2 * RUNS


def test_a_body_does_not_see_what_it_is_not_given(session):
    net = scoped(doing(["x"], ["z"], plus("a", "y", "c"), ["a", "c"], [0, 1]))
    feed(session, x=np.float32([1]), y=np.float32([2]))
    with pytest.raises(BlobNotFoundError, match="no blob 'y'"):
        session.run(net)


@pytest.mark.parametrize(
    ("inner", "outer", "message"),
    [
        (["a", "c"], [0, 2], "no inner blob is 'y'"),
        (["a", "b", "c"], [0, 0, 2], "'x' is in inner_blobs or outer_blobs_idx twice"),
        (["a", "a", "c"], [0, 1, 2], "'a' is in inner_blobs or outer_blobs_idx twice"),
        (["a", "b", "c"], [0, 1, 7], "there is no input or output 7 to be 'c'"),
        (["a", "b", "c"], [0, 1, -1], "there is no input or output -1 to be 'c'"),
        (["a", "b"], [0, 1, 2], "2 inner_blobs, but 3 outer_blobs_idx"),
    ],
)
def test_names_and_numbers_have_to_fit(session, inner, outer, message):
    net = scoped(doing(["x", "y"], ["z"], plus("a", "b", "c"), inner, outer))
    feed(session, x=np.float32([1]), y=np.float32([2]))
    with pytest.raises(OperatorError, match=message):
        session.run(net)


@pytest.mark.parametrize("other", ["copy_external_blobs", "is_gradient_op"])
def test_a_gradient_needs_a_scope_of_its_own(session, other):
    options = {"reuse_workspace": True, other: True}
    net = scoped(doing(["x"], ["z"], plus("a", "a", "c"), ["a", "c"], [0, 1], **options))
    feed(session, x=np.float32([1]))
    with pytest.raises(OperatorError, match="a gradient needs a scope of its own"):
        session.run(net)


def test_the_stack_is_one_blob(session):
    net = Net("n")
    net.Do(["x", "s"], ["z", "t"], net=fill(1.0).Proto())
    feed(session, x=1.0, s=1.0)
    with pytest.raises(OperatorError, match="must be the same blob, which CreateScope made"):
        session.run(net)


def test_what_is_no_stack(session):
    feed(session, x=np.float32([1]), scopes=np.float32([1]))
    with pytest.raises(OperatorError, match="this takes a WorkspaceStack, as CreateScope makes it"):
        session.run(doing(["x"], ["z"], plus("a", "a", "c"), ["a", "c"], [0, 1]))
    net = Net("n")
    net.HasScope("x", "h")
    with pytest.raises(OperatorError, match="this takes a WorkspaceStack"):
        session.run(net)


def once_then_add():
    """Counts in a blob of its own, which is made where `first` says so."""
    body = Net("body")
    body.If(["first"], ["own"], then_net=fill(0.0, "own").Proto())
    one = body.ConstantFill([], "one", shape=[1], value=1.0)
    body.Add(["own", one], "own")
    body.Copy("own", "count")
    return body


def test_a_scope_that_is_used_again_has_what_was_in_it(session):
    body = doing(["f"], ["n"], once_then_add(), ["first", "count"], [0, 1], reuse_workspace=True)
    empty = Net("empty")
    empty.CreateScope([], "scopes")
    feed(session, f=True)
    session.run(empty)
    for run in range(2 * RUNS):
        if run == RUNS:
            session.run(empty)
        session.run(body)
        feed(session, f=False)
        assert fetch(session, "n") == run + 1


def test_each_do_has_a_scope_of_its_own_otherwise(session):
    body = doing(["f"], ["n"], once_then_add(), ["first", "count"], [0, 1])
    feed(session, f=True)
    session.run(scoped(body, body))
    assert fetch(session, "n") == 1
    feed(session, f=False)
    with pytest.raises(BlobNotFoundError, match="no blob 'own'"):
        session.run(body)


def has_scope(session):
    net = Net("has")
    net.HasScope("scopes", "h")
    session.run(net)
    found = fetch(session, "h")
    assert (found.shape, found.dtype) == ((1,), np.bool_)
    return bool(found[0])


def forward_and_back(copy_external_blobs):
    forward = Net("forward")
    forward.Scale("a", "a", scale=2.0)
    forward.Copy("a", "own")
    backward = plus("a", "own", "da")
    go = doing(["x"], ["x"], forward, ["a"], [0], copy_external_blobs=copy_external_blobs)
    back = doing(["x", "dx"], ["dx"], backward, ["a", "da"], [0, 1])
    back.Proto().op[0].is_gradient_op = True
    return go, back


@pytest.mark.parametrize(
    ("copies", "expected"),
    [(False, [(16, 12, 10), (128, 96, 80)]), (True, [(16, 8, 4), (128, 64, 32)])],
)
def test_gradients_go_back_through_the_scopes(session, copies, expected):
    go, back = forward_and_back(copies)
    feed(session, x=np.float32([1]), dx=np.float32([0]))
    session.run(scoped())
    assert not has_scope(session)
    expected = [*expected, *(tuple(8**more * each for each in expected[-1]) for more in (1, 2, 3))]
    for results in expected:
        for _ in range(3):
            session.run(go)
            assert has_scope(session)
        found = []
        for _ in range(3):
            session.run(back)
            found.append(float(fetch(session, "dx")[0]))
        assert tuple(found) == results
        assert not has_scope(session)
    with pytest.raises(OperatorError, match="the stack of scopes is empty"):
        session.run(back)


def test_a_scope_is_not_used_again_for_other_blobs(session):
    body = Net("body")
    body.Copy("a", "c")
    feed(session, x=np.float32([1]), y=np.float32([5]))
    for name, value in (("x", 1), ("y", 5)) * RUNS:
        session.run(scoped(doing([name], ["z"], body, ["a", "c"], [0, 1])))
        assert fetch(session, "z") == value


def test_large_blobs_in_scopes(session):
    """They live in shared memory, where there is any."""
    go, back = forward_and_back(True)
    feed(session, dx=np.zeros(5000, np.float32))
    net = scoped(go, go, back, back)
    seen = []
    for run in range(RUNS):
        feed(session, x=np.full(5000, run, np.float32))
        session.run(net)
        seen.append((fetch(session, "x"), fetch(session, "dx")))
    for run, (x, dx) in enumerate(seen):
        assert (x == 4 * run).all()
        assert (dx == 4 * run).all()


def test_a_stack_that_is_copied_is_empty():
    stack = WorkspaceStack()
    for again in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        assert isinstance(again, WorkspaceStack)
        assert len(again) == 0
        assert repr(again) == "WorkspaceStack(0)"


def test_the_stack_can_be_fetched(session):
    session.run(scoped())
    assert len(fetch(session, "scopes")) == 0
