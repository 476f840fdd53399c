"""Gradients through If, While and Do: their form, and what they compute."""

import numpy as np
import pytest

from procession import BlobReference, GradientError, LocalSession, Net
from procession.graph.control_gradient import (
    disambiguate_grad_if_op_output,
    gen_do_gradient,
    gen_if_gradient,
)
from procession.graph.control_ops import add_if_op, add_while_op
from procession.graph.loop_gradient import gen_while_gradient
from procession.graph.net_gradient import getNetArgument
from procession.graph.operator import CreateOperator, signature_of
from procession.graph.proto import NetDef


def body(*lines):
    """A net of lines (type, inputs, outputs), blobs separated by spaces."""
    net = Net("body")
    for kind, inputs, outputs in lines:
        options = {"scale": 0.5} if kind == "Scale" else {}
        net.extend_ops([CreateOperator(kind, inputs.split(), outputs.split(), **options)])
    return net


def branch(net, condition, then, other=None, scope=()):
    seen = net.UsedBlobNames() | set(scope) | {condition}
    add_if_op(net, BlobReference(condition), seen, then, other)


def loop(net, times, inner, scope=()):
    """Run a net some times; the counter is in `n`."""
    net.Const(float(times), "limit")
    net.Const(1.0, "one")
    net.Const(0.0, "n")
    condition = body(("Add", "n one", "n"), ("LE", "n limit", "go"))
    add_while_op(net, BlobReference("go"), net.UsedBlobNames() | set(scope), inner, condition)


def run(net, blobs, *wanted):
    with LocalSession() as session:
        workspace = session.workspace()
        for name, value in blobs.items():
            workspace.feed_blob(name, value)
        session.run(net)
        return [workspace.fetch_blob(str(name)) for name in wanted]


def check(net, blobs, wrt, loss="loss"):
    """Hold gradients against central differences; all blobs are scalars of float64."""
    blobs = {
        name: np.array(value) if isinstance(value, bool) else np.float64([value])
        for name, value in blobs.items()
    }
    forward = net.Clone("forward")
    gradients = net.AddGradientOperators([loss])
    assert set(wrt) <= set(gradients)
    found = run(net, blobs, *(gradients[name] for name in wrt))
    for name, gradient in zip(wrt, found, strict=True):
        sides = [
            run(forward, {**blobs, name: blobs[name] + step}, loss)[0].item()
            for step in (1e-4, -1e-4)
        ]
        expected = (sides[0] - sides[1]) / 2e-4
        np.testing.assert_allclose(gradient.item(), expected, rtol=1e-4, atol=1e-6, err_msg=name)
    return gradients


both = pytest.mark.parametrize("taken", [True, False])


# If.


@both
def test_two_branches(taken):
    net = Net("g")
    branch(net, "c", body(("Mul", "x w", "y")), body(("Sqr", "x", "y")), "xwy")
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 2.0, "w": 3.0, "y": 0.5}, "xw")


@both
def test_blobs_of_the_branch_itself(taken):
    net = Net("g")
    then = body(("Mul", "x w", "inner"), ("Tanh", "inner", "t"), ("Mul", "t inner", "y"))
    branch(net, "c", then, body(("Sigmoid", "x", "inner"), ("Negative", "inner", "y")), "xwy")
    net.Scale("y", "loss", scale=3.0)
    check(net, {"c": taken, "x": 0.2, "w": 0.3, "y": 0.0}, "xw")


@both
def test_one_branch(taken):
    net = Net("g")
    branch(net, "c", body(("Mul", "x w", "y")), scope="xwy")
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 2.0, "w": 3.0, "y": 0.5}, "xw")


@both
def test_a_branch_that_only_hands_on(taken):
    net = Net("g")
    branch(net, "c", body(("Sum", "x w", "y")), body(("Copy", "w", "y")), "xwy")
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 2.0, "w": 3.0, "y": 0.5}, "xw")


@both
def test_several_outputs_with_one_gradient(taken):
    net = Net("g")
    then = body(("Mul", "x w", "y"), ("Copy", "x", "z"))
    branch(net, "c", then, body(("Sqr", "x", "z"), ("Copy", "w", "y")), "xwyz")
    net.Sum(["y", "z"], "s")
    net.Mul(["s", "x"], "loss")
    check(net, {"c": taken, "x": 2.0, "w": 3.0, "y": 0.0, "z": 0.0}, "xw")


@both
def test_an_output_that_only_one_branch_reads(taken):
    # The other branch overwrites it: what it was before is worth nothing there.
    net = Net("g")
    net.Scale("x", "y", scale=3.0)
    branch(net, "c", body(("Mul", "x w", "y")), body(("Tanh", "y", "y")), "xwy")
    net.Mul(["y", "w"], "loss")
    check(net, {"c": taken, "x": 0.2, "w": 0.3}, "xw")


@both
@pytest.mark.parametrize(
    ("then", "other"),
    [
        ([("Sqr", "x", "y")], None),
        ([("Sqr", "x", "y")], [("Scale", "x", "y")]),
        ([("Sqr", "x", "z")], [("Scale", "x", "y")]),
        ([("Sqr", "x", "z")], None),
        ([("Copy", "y", "t"), ("Mul", "t x", "y")], [("Sqr", "x", "y")]),
        ([("Copy", "y", "unused"), ("Sqr", "x", "y")], None),
    ],
    ids=["then", "both", "different", "other", "read", "read in vain"],
)
def test_what_was_there_before(taken, then, other):
    # It counts where the branch that is taken leaves it, or reads it, and not otherwise.
    net = Net("g")
    net.Sin("x", "y")
    net.Scale("x", "z", scale=3.0)
    net.Mul([net.Copy("y"), net.Copy("z")], "before")
    branch(net, "c", body(*then), other and body(*other))
    net.Mul(["y", "before"], "product")
    net.Add(["product", "z"], "loss")
    check(net, {"c": taken, "x": 0.4}, "x")


@both
def test_what_was_there_before_is_from_outside(taken):
    net = Net("g")
    branch(net, "c", body(("Sqr", "x", "y")), scope="xy")
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 2.0, "y": 7.0}, "xy")


@both
@pytest.mark.parametrize("inner", [True, False])
def test_what_was_there_before_a_branch_in_a_branch(taken, inner):
    net, then = Net("g"), Net("then")
    net.Sin("x", "y")
    branch(then, "d", body(("Sqr", "x", "y")), scope="xyd")
    branch(net, "c", then, scope="d")
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "d": inner, "x": 0.4}, "x")


@both
@pytest.mark.parametrize("inner", [True, False])
def test_a_branch_that_reads_what_an_inner_one_may_have_left(taken, inner):
    # The inner branch is the one that says whether the body reads y as it was.
    net, then = Net("g"), Net("then")
    net.Sin("x", "y")
    branch(then, "d", body(("Sqr", "x", "y")), scope="xyd")
    then.extend_ops([CreateOperator("Copy", "y", "t"), CreateOperator("Sin", "t", "y")])
    branch(net, "c", then, scope="d")
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "d": inner, "x": 0.4}, "x")


def test_what_every_path_overwrites_has_the_last_gradient():
    net = Net("g")
    net.Floor("x", "y")
    branch(net, "c", body(("Sqr", "x", "y")), body(("Scale", "x", "y")))
    # Floor has no gradient, and needs none: nothing that it wrote counts.
    gradients = net.AddGradientOperators({"y": "g"})
    assert gradients["y"] == "g"
    (found,) = run(net, {"c": True, "x": np.float64([3.0]), "g": np.float64([1])}, gradients["x"])
    assert found.tolist() == [6]


@both
def test_a_branch_without_do_that_hands_on(taken):
    # Both gradients are that of y where the branch is taken, and zero where it is not.
    net = Net("g")
    net.Scale("x", "y", scale=1.5)
    net.If(["c", "x", "w", "y"], ["y"], then_net=body(("Sum", "x w", "y")).Proto())
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 0.4, "w": 0.7}, "xw")


def test_shapes_may_be_asked_of_what_was_overwritten_since():
    net, then = Net("g"), Net("then")
    net.Scale("x", "a", scale=2.0)
    loop(then, 2, body(("Copy", "a", "t"), ("Sin", "t", "y")), "axy")
    branch(net, "c", then, scope="y")
    net.Copy("a", "before")
    net.Mul(["before", "y"], "a")
    net.Mul(["a", "x"], "loss")
    check(net, {"c": True, "x": 0.4, "y": 2.0}, "x")


@both
@pytest.mark.parametrize("inner", [True, False])
def test_branches_in_branches(taken, inner):
    net, then = Net("g"), body(("Tanh", "x", "h"))
    branch(then, "d", body(("Mul", "h w", "y")), body(("Sqr", "h", "y")), "xwy")
    branch(net, "c", then, body(("Scale", "x", "y")), "xwyd")
    net.Mul(["y", "w"], "loss")
    check(net, {"c": taken, "d": inner, "x": 0.4, "w": 3.0, "y": 0.0}, "xw")


@both
def test_an_if_without_do(taken):
    net = Net("g")
    net.Scale("x", "y", scale=1.5)
    net.If(
        ["c", "x", "y"],
        ["y"],
        then_net=body(("Mul", "x x", "y")).Proto(),
        else_net=body(("Tanh", "y", "y")).Proto(),
    )
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 0.4}, "x")


@both
def test_an_if_without_do_and_else(taken):
    net = Net("g")
    net.Scale("x", "y", scale=1.5)
    net.If(["c", "x", "y"], ["y"], then_net=body(("Mul", "x x", "y")).Proto())
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 0.4}, "x")


@both
def test_an_if_beside_other_readers(taken):
    # Its gradient of x is one of several, so it gets another name, inside as well.
    net = Net("g")
    branch(net, "c", body(("Mul", "x w", "y")), scope="xwy")
    net.Tanh("x", "t")
    net.Mul(["t", "y"], "loss")
    gradients = check(net, {"c": taken, "x": 0.4, "w": 0.7, "y": 2.0}, "xw")
    assert gradients["x"] == "x_grad"
    (made,) = (each for each in net.operators if each.type == "If" and each.is_gradient_op)
    assert "_x_grad_autosplit_0" in made.output
    assert "x_grad" not in made.output


def test_the_form_of_an_if():
    net = Net("g")
    branch(net, "c", body(("Mul", "x w", "t"), ("Tanh", "t", "y")), scope="xwy")
    before = len(net.operators)
    net.AddGradientOperators({"y": "g"})
    (made,) = net.operators[before:]
    assert made.type == "If"
    assert made.is_gradient_op
    assert made.input[0] == "c"
    assert set(made.input[1:]) == {"x", "w", "y", "g", "g/workspace_if_then"}
    # Where the branch is not taken, what y was is what it is.
    assert set(made.output) == {"x_grad", "w_grad", "y_grad", "g/workspace_if_then"}
    then, other = getNetArgument(made, "then_net"), getNetArgument(made, "else_net")
    do, unread = then.op
    assert signature_of(unread) == "ConstantFill(g) -> y_grad"
    assert then.name == "do_then_net_grad"
    assert other.name == "do_then_net_grad_auto_else_zero_blobs_"
    assert sorted(map(signature_of, other.op)) == [
        "ConstantFill(w) -> w_grad",
        "ConstantFill(x) -> x_grad",
        "Copy(g) -> y_grad",
    ]
    arguments = do.arguments
    assert [each.name for each in do.arg] == [
        "net", "inner_blobs", "outer_blobs_idx", "saved_fwd_blobs",
    ]  # fmt: skip
    assert do.is_gradient_op
    assert do.input[-1] == do.output[-1] == "g/workspace_if_then"
    assert list(arguments["saved_fwd_blobs"]) == []
    outside = [*do.input[:-1], *do.output[:-1]]
    places = arguments["outer_blobs_idx"]
    bound = dict(zip(arguments["inner_blobs"], (outside[n] for n in places), strict=True))
    assert bound == {
        "x": "x",
        "w": "w",
        "y": "y",
        "y/_DO_OPERATOR_INNER_GRAD_": "g",
        "x/_DO_OPERATOR_INNER_GRAD_COPY_": "x_grad",
        "w/_DO_OPERATOR_INNER_GRAD_COPY_": "w_grad",
    }
    lines = [signature_of(each) for each in arguments["net"].op]
    assert lines[:2] == [
        "TanhGradient(y, y/_DO_OPERATOR_INNER_GRAD_) -> t_grad",
        "MulGradient(t_grad, x, w) -> x_grad, w_grad",
    ]
    assert sorted(lines[2:]) == [
        "Copy(w_grad) -> w/_DO_OPERATOR_INNER_GRAD_COPY_",
        "Copy(x_grad) -> x/_DO_OPERATOR_INNER_GRAD_COPY_",
    ]
    disambiguate_grad_if_op_output(made, list(made.output).index("x_grad"), "other")
    assert {"other", "w_grad"} < set(made.output)
    assert "other" in then.op[0].output
    assert "ConstantFill(x) -> other" in map(signature_of, other.op)


# While.


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_loop_that_carries_a_blob(times):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    loop(net, times, body(("Tanh", "y", "y")))
    net.Mul(["y", "x"], "loss")
    check(net, {"x": 0.4}, "x")


@pytest.mark.parametrize("times", [0, 1, 4])
def test_the_gradients_of_what_a_loop_only_reads_add_up(times):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    loop(net, times, body(("Copy", "y", "before"), ("Mul", "before w", "y")), "w")
    net.Mul(["y", "x"], "loss")
    check(net, {"x": 0.4, "w": 1.5}, "xw")


def test_a_sum_over_iterations():
    net = Net("g")
    net.Scale("x", "acc", scale=0.0)
    loop(net, 3, body(("Mul", "x w", "t"), ("Add", "acc t", "acc")), "xw")
    net.Scale("acc", "loss", scale=1.0)
    check(net, {"x": 0.4, "w": 1.5}, "xw")


@pytest.mark.parametrize("times", [0, 2])
def test_a_loop_that_overwrites_unread(times):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    loop(net, times, body(("Mul", "x w", "y")), "xw")
    net.Mul(["y", "w"], "loss")
    check(net, {"x": 0.4, "w": 1.5}, "xw")


@pytest.mark.parametrize("times", [1, 2])
def test_a_loop_that_carries_two_blobs(times):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    net.Scale("w", "z", scale=0.5)
    inner = body(("Copy", "y", "a"), ("Copy", "z", "b"), ("Mul", "a b", "y"), ("Tanh", "a", "z"))
    loop(net, times, inner)
    net.Mul(["y", "z"], "loss")
    check(net, {"x": 0.4, "w": 1.5}, "xw")


@both
def test_a_branch_in_a_loop(taken):
    net, inner = Net("g"), body(("Copy", "y", "before"))
    net.Scale("x", "y", scale=2.0)
    scope = {"x", "y", "w"}
    then, other = body(("Mul", "before w", "new")), body(("Tanh", "before", "new"))
    branch(inner, "c", then, other, scope | {"new"})
    inner.extend_ops([CreateOperator("Copy", "new", "y")])
    loop(net, 3, inner, scope | {"c"})
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 0.4, "w": 1.5}, "xw")


@both
def test_a_loop_in_a_branch(taken):
    net, then = Net("g"), body(("Scale", "x", "h"))
    loop(then, 2, body(("Copy", "h", "before"), ("Mul", "before w", "h")), "xwy")
    then.extend_ops([CreateOperator("Copy", "h", "y")])
    branch(net, "c", then, scope="xwy")
    net.Mul(["y", "x"], "loss")
    check(net, {"c": taken, "x": 0.4, "w": 1.5, "y": 3.0}, "xw")


@pytest.mark.parametrize("times", [0, 2])
def test_a_loop_beside_other_readers(times):
    # Gradients that leave the loop are pieces; they get other names, inside as well.
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    net.Tanh("y", "early")
    loop(net, times, body(("Copy", "y", "before"), ("Mul", "before w", "y")), "w")
    net.Mul(["y", "w"], "late")
    net.Mul(["late", "early"], "loss")
    gradients = check(net, {"x": 0.4, "w": 1.5}, "xw")
    assert gradients["w"] == "w_grad"


@pytest.mark.parametrize("times", [0, 2])
def test_two_loops_over_one_blob(times):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    net.Scale("x", "z", scale=3.0)
    for carried in "yz":
        copied = f"before_{carried}"
        loop(net, times, body(("Copy", carried, copied), ("Mul", f"{copied} w", carried)), "w")
    net.Mul(["y", "z"], "loss")
    check(net, {"x": 0.4, "w": 1.5}, "xw")


@pytest.mark.parametrize("times", [0, 2])
def test_a_gradient_that_goes_into_a_loop_and_past_it(times):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    net.Tanh("w", "z")
    loop(net, times, body(("Tanh", "y", "y")))
    net.Sum(["y", "z"], "loss")
    gradients = check(net, {"x": 0.4, "w": 1.5}, "xw")
    assert gradients["z"] == gradients["loss"] == "loss_autogen_grad"


@pytest.mark.parametrize("start", ["y_grad", "g", "x_grad", "y_grad_carried"])
@pytest.mark.parametrize("times", [0, 2])
def test_a_loop_with_a_given_start(times, start):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    loop(net, times, body(("Scale", "y", "y")))
    gradients = net.AddGradientOperators({"y": start})
    (found,) = run(net, {"x": np.float64([1.0]), start: np.float64([10.0])}, gradients["x"])
    assert found.tolist() == [20 * 0.5**times]


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_loop_that_carries_what_nobody_reads_afterwards(times):
    # What z is has no part in the loss but through the iterations to come.
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    net.Sin("x", "z")
    inner = body(
        ("Copy", "y", "a"), ("Copy", "z", "b"), ("Mul", "a b", "y"), ("Mul", "b w", "z")
    )  # fmt: skip
    loop(net, times, inner, "w")
    net.Mul(["y", "x"], "loss")
    check(net, {"x": 0.4, "w": 1.5}, "xw")


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_loop_that_stops_the_gradient(times):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    loop(net, times, body(("Floor", "y", "t"), ("Add", "t x", "y")), "x")
    net.Mul(["y", "x"], "loss")
    if times:
        with pytest.raises(GradientError, match="Floor has no gradient"):
            net.Clone("other").AddGradientOperators(["loss"])
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    loop(net, times, body(("StopGradient", "y", "t"), ("Add", "t x", "y")), "x")
    net.Mul(["y", "x"], "loss")
    gradients = net.AddGradientOperators(["loss"])
    (found,) = run(net, {"x": np.float64([0.5])}, gradients["x"])
    assert found.item() == pytest.approx(2.0 if times == 0 else 1.0 + times * 0.5 + 0.5)


def asking(net, times, inner, condition, scope):
    """Like `loop`; the condition runs these lines, too."""
    net.Const(float(times), "limit")
    net.Const(1.0, "one")
    net.Const(0.0, "n")
    lines = (*condition, ("Add", "n one", "n"), ("LE", "n limit", "go"))
    seen = net.UsedBlobNames() | set(scope)
    add_while_op(net, BlobReference("go"), seen, inner, body(*lines))


@pytest.mark.parametrize("times", [0, 1, 3])
@pytest.mark.parametrize(
    ("condition", "lines"),
    [
        ([("Copy", "z", "b"), ("Mul", "b w", "z")], [("Copy", "y", "a"), ("Mul", "a z", "y")]),
        ([("Copy", "y", "b"), ("Mul", "b w", "y")], [("Copy", "y", "a"), ("Mul", "a a", "y")]),
        ([("Sin", "w", "y")], [("Tanh", "x", "y")]),
        ([("Sin", "w", "y")], [("Copy", "z", "b"), ("Mul", "b w", "z")]),
        ([("Copy", "z", "b"), ("Sin", "b", "y")], [("Copy", "y", "a"), ("Mul", "a w", "z")]),
    ],
)
def test_a_condition_that_carries(times, condition, lines):
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    net.Sin("x", "z")
    asking(net, times, body(*lines), condition, "xw")
    net.Mul(["y", "x"], "loss")
    check(net, {"x": 0.4, "w": 1.2}, "xw")


def test_a_condition_that_needs_what_is_gone():
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    net.Sin("x", "z")
    lines = [("Copy", "y", "a"), ("Mul", "a z", "y"), ("Copy", "z", "b"), ("Sin", "b", "z")]
    asking(net, 2, body(*lines), [("Copy", "y", "a"), ("Mul", "a z", "y")], "xw")
    with pytest.raises(GradientError, match=r"needs 'z' .* copy it first.*Copy\(z\) -> before"):
        net.AddGradientOperators(["y"])


def test_a_body_that_keeps_no_copies():
    # The gradient of Tanh reads the output, of which there is only the last one.
    net = Net("g")
    inner = NetDef(name="body")
    inner.op.extend([
        CreateOperator(
            "Do", ["y", "s"], ["y", "s"], net=body(("Tanh", "y", "y")).Proto(),
            inner_blobs=["y"], outer_blobs_idx=[0],
        )
    ])  # fmt: skip
    net.While(["go", "y", "s"], ["y", "s"], loop_net=inner)
    with pytest.raises(GradientError, match=r"needs 'y' as it was in each iteration"):
        net.AddGradientOperators({"y": "g"})


def test_a_value_that_is_gone_with_its_iteration():
    net = Net("g")
    net.Scale("x", "y", scale=2.0)
    loop(net, 2, body(("Mul", "y w", "t"), ("Copy", "t", "y")), "w")
    with pytest.raises(GradientError, match="overwritten since") as caught:
        net.AddGradientOperators(["y"])
    assert "in net 'body" in str(caught.value)
    assert "operator While" in str(caught.value)


# Do.


def test_a_do_that_overwrites_or_leaves():
    net, inner = Net("g"), Net("inner")
    net.Sin("x", "y")
    net.Scale("x", "z", scale=2.0)
    branch(inner, "c", body(("Sqr", "x", "a")), scope="xab")
    inner.Mul(["x", "x"], "b")
    net.CreateScope([], ["s"])
    net.Do(
        ["x", "c", "s"],
        ["y", "z", "s"],
        net=inner.Proto(),
        inner_blobs=["x", "c", "a", "b"],
        outer_blobs_idx=[0, 1, 2, 3],
    )
    net.Mul(["y", "z"], "loss")
    for taken in (True, False):
        check(net.Clone(f"g_{taken}"), {"c": taken, "x": 0.4}, "x")


# Errors.


def test_a_loop_must_be_one_do():
    net = NetDef()
    net.op.extend([CreateOperator("Tanh", "y", "y")])
    with pytest.raises(GradientError, match="one Do, without reuse_workspace"):
        gen_while_gradient(CreateOperator("While", ["c", "y"], ["y"], loop_net=net), ["g"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "no argument 'net'"),
        ({"net": 3}, "'net'.*must be a net, not 3"),
        ({"net": NetDef(), "inner_blobs": ["a"]}, "of one length"),
        ({"net": NetDef(), "inner_blobs": ["a", "a"], "outer_blobs_idx": [0, 1]}, "occurs twice"),
        ({"net": NetDef(), "inner_blobs": ["a", "b"], "outer_blobs_idx": [0, 2]}, r"not \[2\]"),
        ({"net": NetDef(), "inner_blobs": ["a"], "outer_blobs_idx": [0]}, "bound to one blob"),
    ],
)
def test_a_do_that_makes_no_sense(arguments, match):
    with pytest.raises(GradientError, match=match):
        gen_do_gradient(CreateOperator("Do", ["x", "ws"], ["y", "ws"], **arguments), ["g", None])


def test_a_do_without_workspace():
    arguments = {"net": NetDef(), "inner_blobs": ["a", "b"], "outer_blobs_idx": [0, 1]}
    with pytest.raises(GradientError, match="the blob of its workspaces"):
        gen_do_gradient(CreateOperator("Do", ["x"], ["y"], **arguments), ["g"])


def test_sparse_gradients_stay_inside():
    net = Net("g")
    branch(net, "c", body(("Gather", "x i", "y")), scope="xiy")
    with pytest.raises(GradientError, match=r"gradient of 'x' in net.*is sparse"):
        net.AddGradientOperators(["y"])


def test_an_if_needs_a_then():
    with pytest.raises(GradientError, match="no argument 'then_net'"):
        gen_if_gradient(CreateOperator("If", ["c", "x"], ["y"]), ["g"])
