"""Gradients of nets: the operators that are added, their names, and what they compute."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from procession import (
    BlobNotFoundError,
    BlobReference,
    GradientError,
    LocalSession,
    NameScope,
    Net,
    operator,
)
from procession.graph import names
from procession.graph.operator import signature_of
from procession.operators import REGISTRY, alias


def added(net, ys, **options):
    """The lines that AddGradientOperators adds, and its answer, as text."""
    before = len(net.operators)
    gradients = net.AddGradientOperators(ys, **options)
    lines = [signature_of(each) for each in net.operators[before:]]
    return lines, {str(blob): str(gradient) for blob, gradient in gradients.items()}


def run(net, **blobs):
    with LocalSession() as session:
        for name, value in blobs.items():
            session.workspace().feed_blob(name, value)
        session.run(net)
        return {name: handle.fetch() for name, handle in session.workspace().blobs.items()}


def layers():
    net = Net("g")
    net.FC(["x", "w", "b"], "h")
    net.Relu("h", "h")
    net.FC(["h", "w2", "b2"], "o")
    net.Softmax("o", "p")
    net.LabelCrossEntropy(["p", "label"], "xe")
    net.AveragedLoss("xe", "loss")
    return net


# Which operators, in which order, with which names.


def test_a_network_of_layers():
    lines, gradients = added(layers(), ["loss"])
    assert lines == [
        "ConstantFill(loss) -> loss_autogen_grad",
        "AveragedLossGradient(xe, loss_autogen_grad) -> xe_grad",
        "LabelCrossEntropyGradient(p, label, xe_grad) -> p_grad",
        "SoftmaxGradient(p, p_grad) -> o_grad",
        "FCGradient(h, w2, o_grad) -> w2_grad, b2_grad, h_grad",
        "ReluGradient(h, h_grad) -> h_grad",
        "FCGradient(x, w, h_grad) -> w_grad, b_grad, x_grad",
    ]
    assert gradients == {
        "loss": "loss_autogen_grad",
        **{blob: f"{blob}_grad" for blob in ("xe", "p", "o", "h", "w2", "b2", "w", "b", "x")},
    }


def test_the_start_is_ones():
    net = Net("g")
    net.Relu("x", "y")
    net.AddGradientOperators(["y"])
    assert dict(net.operators[1].arguments) == {"value": 1.0}
    assert run(net, x=np.float32([1, -1]))["y_autogen_grad"].tolist() == [1, 1]


def test_a_diamond():
    net = Net("g")
    net.Mul(["x", "y"], "a")
    net.Add(["a", "x"], "b")
    net.Sub(["a", "b"], "c")
    net.SumElements("c", "l")
    lines, gradients = added(net, ["l"])
    assert lines == [
        "ConstantFill(l) -> l_autogen_grad",
        "SumElementsGradient(c, l_autogen_grad) -> c_grad",
        "SubGradient(c_grad, a, b) -> a_grad, b_grad",
        "AddGradient(b_grad, a, x) -> _a_grad_autosplit_0, x_grad",
        "Sum(a_grad, _a_grad_autosplit_0) -> a_grad",
        "MulGradient(a_grad, x, y) -> _x_grad_autosplit_0, y_grad",
        "Sum(x_grad, _x_grad_autosplit_0) -> x_grad",
    ]
    assert gradients == {"l": "l_autogen_grad", **{b: f"{b}_grad" for b in "abcxy"}}


def test_three_readers():
    net = Net("g")
    net.Relu("x", "a")
    net.Sigmoid("x", "b")
    net.Tanh("x", "c")
    net.Sum(["a", "b", "c"], "d")
    lines, gradients = added(net, ["d"])
    assert lines == [
        "ConstantFill(d) -> d_autogen_grad",
        "TanhGradient(c, d_autogen_grad) -> x_grad",
        "SigmoidGradient(b, d_autogen_grad) -> _x_grad_autosplit_0",
        "ReluGradient(a, d_autogen_grad) -> _x_grad_autosplit_1",
        "Sum(x_grad, _x_grad_autosplit_0, _x_grad_autosplit_1) -> x_grad",
    ]
    assert gradients == {**dict.fromkeys("abcd", "d_autogen_grad"), "x": "x_grad"}


def test_one_blob_as_both_inputs():
    net = Net("g")
    net.Mul(["x", "x"], "y")
    lines, _ = added(net, ["y"])
    assert lines[1:] == [
        "MulGradient(y_autogen_grad, x, x) -> x_grad, _x_grad_autosplit_0",
        "Sum(x_grad, _x_grad_autosplit_0) -> x_grad",
    ]


def test_parameters_used_by_several_layers():
    net = Net("g")
    for source, target in ("xh", "hi", "ij"):
        net.FC([source, "w", "b"], target)
    lines, _ = added(net, ["j"])
    assert lines[1:4] == [
        "FCGradient(i, w, j_autogen_grad) -> w_grad, b_grad, i_grad",
        "FCGradient(h, w, i_grad) -> _w_grad_autosplit_0, _b_grad_autosplit_0, h_grad",
        "FCGradient(x, w, h_grad) -> _w_grad_autosplit_1, _b_grad_autosplit_1, x_grad",
    ]
    assert sorted(lines[4:]) == [
        "Sum(b_grad, _b_grad_autosplit_0, _b_grad_autosplit_1) -> b_grad",
        "Sum(w_grad, _w_grad_autosplit_0, _w_grad_autosplit_1) -> w_grad",
    ]


def test_a_sum_hands_its_gradient_on_without_an_operator():
    net = Net("g")
    net.Sum(["x", "x"], "a")
    net.SumElements("a", "l")
    lines, gradients = added(net, ["l"])
    assert lines[2:] == ["Sum(a_grad, a_grad) -> x_grad"]
    assert gradients["x"] == "x_grad"


def test_a_gradient_that_several_blobs_share_is_not_written_again():
    net = Net("g")
    net.Sum(["x", "y"], "a")
    net.Mul(["x", "y"], "b")
    net.Sum(["a", "b"], "c")
    net.SumElements("c", "l")
    lines, gradients = added(net, ["l"])
    assert lines[2] == "MulGradient(c_grad, x, y) -> x_grad, y_grad"
    assert sorted(lines[3:]) == ["Sum(x_grad, c_grad) -> x_grad", "Sum(y_grad, c_grad) -> y_grad"]
    assert gradients["a"] == gradients["b"] == gradients["c"] == "c_grad"


def test_a_repeated_input_beside_another_reader():
    net = Net("g")
    net.Sum(["x", "x", "x"], "a")
    net.Mul(["a", "x"], "b")
    lines, _ = added(net, ["b"])
    assert lines[2:] == ["Sum(x_grad, a_grad, a_grad, a_grad) -> x_grad"]


def test_names_with_a_scope():
    net = Net("g")
    with NameScope("q"):
        net.Relu("x", "y")
        net.Mul(["y", "x"], "z")
    lines, _ = added(net, ["q/z"])
    assert lines == [
        "ConstantFill(q/z) -> q/z_autogen_grad",
        "MulGradient(q/z_autogen_grad, q/y, q/x) -> q/y_grad, q/x_grad",
        "ReluGradient(q/y, q/y_grad) -> _q/x_grad_autosplit_0",
        "Sum(q/x_grad, _q/x_grad_autosplit_0) -> q/x_grad",
    ]


def test_matrices():
    net = Net("g")
    net.MatMul(["A", "B"], "C", trans_b=1)
    lines, _ = added(net, ["C"])
    assert lines[1:] == [
        "MatMul(C_autogen_grad, B, A) -> A_grad",
        "MatMul(C_autogen_grad, A, B) -> B_grad",
    ]


def test_an_in_place_operator_of_two_steps_keeps_the_name():
    net = Net("g")
    net.Sqrt("x", "x")
    net.Relu("x", "z")
    lines, gradients = added(net, ["z"])
    assert lines[1:] == [
        "ReluGradient(z, z_autogen_grad) -> x_grad",
        "Scale(x_grad) -> x_grad",
        "Div(x_grad, x) -> x_grad",
    ]
    assert gradients["x"] == "x_grad"


def test_the_answer_is_references_of_the_net():
    net = layers()
    gradients = net.AddGradientOperators([BlobReference("loss")])
    assert all(blob.Net() is net for pair in gradients.items() for blob in pair)
    assert gradients["w"] == "w_grad"


def test_gradient_operators_say_where_they_were_asked_for():
    net = layers()
    net.AddGradientOperators(["loss"])
    assert {op.source[0] for op in net.operators} == {__file__}
    assert len({op.source for op in net.operators[6:]}) == 1


# Where gradients start, and where they stop.


def test_a_given_start():
    net = Net("g")
    net.Mul(["x", "y"], "a")
    lines, gradients = added(net, {"a": "ag"})
    assert lines == ["MulGradient(ag, x, y) -> x_grad, y_grad"]
    assert gradients == {"a": "ag", "x": "x_grad", "y": "y_grad"}
    assert net.is_external_input("ag")


def test_a_given_start_of_none_is_ones():
    net = Net("g")
    net.Relu("x", "y")
    assert added(net, {BlobReference("y"): None})[0][0] == "ConstantFill(y) -> y_autogen_grad"


def test_several_starts():
    net = Net("g")
    net.Mul(["x", "y"], "a")
    net.Mul(["a", "x"], "b")
    net.AddGradientOperators(["a", "b"])
    blobs = run(net, x=np.float64([3]), y=np.float64([5]))
    # d(xy + xyx)/dx = y + 2xy; /dy = x + xx
    assert blobs["x_grad"].tolist() == [35]
    assert blobs["y_grad"].tolist() == [12]


@pytest.mark.parametrize("order", [("y1", "y2"), ("y2", "y1")])
def test_a_given_start_is_not_overwritten_while_it_is_needed(order):
    net = Net("g")
    net.Scale("x", "y1", scale=2.0)
    net.Scale("x", "y2", scale=3.0)
    net.AddGradientOperators({y: {"y1": "x_grad", "y2": "g"}[y] for y in order})
    blobs = run(net, x=np.float64([1]), x_grad=np.float64([10]), g=np.float64([100]))
    assert blobs["x_grad"].tolist() == [320]


def test_skip():
    lines, gradients = added(layers(), ["loss"], skip=2)
    assert lines[-1] == "FCGradient(h, w2, o_grad) -> w2_grad, b2_grad, h_grad"
    assert set(gradients) == {"loss", "xe", "p", "o", "h", "w2", "b2"}


def test_skip_sums_what_reached_the_skipped_part():
    net = Net("g")
    net.Scale("x", "a", scale=1.0)
    net.Scale("a", "b", scale=3.0)
    net.Relu("a", "a")
    net.Mul(["a", "b"], "c")
    gradients = net.AddGradientOperators(["c"], skip=1)
    blobs = run(net, x=np.float64([2]))
    assert blobs[gradients["a"]].tolist() == [12]
    assert "x" not in gradients


def test_skip_sums_a_start_in_the_skipped_part():
    net = Net("g")
    net.Scale("x", "a", scale=1.0)
    net.Scale("a", "b", scale=3.0)
    gradients = net.AddGradientOperators(["a", "b"], skip=1)
    assert run(net, x=np.float64([2]))[gradients["a"]].tolist() == [4]


def test_stop_gradient():
    net = Net("g")
    net.Mul(["x", "y"], "a")
    net.StopGradient("a", "s")
    net.Mul(["s", "x"], "b")
    net.SumElements("b", "l")
    lines, gradients = added(net, ["l"])
    assert lines[-1] == "MulGradient(b_grad, s, x) -> s_grad, x_grad"
    assert set(gradients) == {"l", "b", "s", "x"}


def test_what_nothing_depends_on_has_no_gradient():
    net = Net("g")
    net.Relu("x", "y")
    net.Relu("z", "unused")
    assert added(net, ["y"])[1] == {"y": "y_autogen_grad", "x": "x_grad"}


def test_labels_have_no_gradient():
    net = Net("g")
    net.SoftmaxWithLoss(["x", "label"], ["p", "loss"])
    lines, gradients = added(net, ["loss"])
    assert lines[1:] == ["SoftmaxWithLossGradient(x, label, p, loss_autogen_grad) -> x_grad"]
    assert "label" not in gradients


def test_a_second_gradient_in_the_same_net():
    net = Net("g")
    net.Relu("x", "y")
    net.AddGradientOperators(["y"])
    net.Sigmoid("x", "z")
    assert added(net, ["z"])[0] == [
        "ConstantFill(z) -> z_autogen_grad",
        "SigmoidGradient(z, z_autogen_grad) -> x_grad",
    ]


# Errors.


def test_a_blob_that_is_needed_was_overwritten():
    net = Net("g")
    net.Sqr("x", "a")
    net.Mul(["a", "y"], "b")
    net.Sqr("z", "a")
    net.SumElements("b", "l")
    before = net.operators
    with pytest.raises(GradientError, match="needs 'a' as it was then") as caught:
        net.AddGradientOperators(["l"])
    assert isinstance(caught.value, ValueError)
    assert "Mul(a, y) -> b" in str(caught.value)
    assert "Sqr(x) -> a; Sqr(z) -> a" in str(caught.value)
    assert net.operators == before


@pytest.mark.parametrize("name", ["Sigmoid", "Relu", "Exp"])
def test_two_in_place_operators_that_need_their_outputs(name):
    net = Net("g")
    getattr(net, name)("x", "a")
    getattr(net, name)("a", "a")
    with pytest.raises(GradientError, match="overwritten since"):
        net.AddGradientOperators(["a"])


def test_a_blob_that_is_called_like_a_gradient_and_needed():
    net = Net("g")
    net.Exp("x", "x_grad")
    net.Mul(["x_grad", "x"], "l")
    with pytest.raises(GradientError, match="needs 'x_grad'"):
        net.AddGradientOperators(["l"])


def test_an_operator_without_a_gradient():
    @operator("TestNoGradient")
    def no_gradient(x):
        return x.copy()

    try:
        net = Net("g")
        net.Relu("x", "a")
        net.TestNoGradient("a", "b")
        net.TestNoGradient("x", "aside")
        net.Relu("b", "c")
        with pytest.raises(GradientError, match="TestNoGradient has no gradient") as caught:
            net.AddGradientOperators(["c"])
        assert "TestNoGradient(a) -> b" in str(caught.value)
        assert "StopGradient" in str(caught.value)
        assert set(net.Clone("h", op_id_mask=[0, 2]).AddGradientOperators(["a"])) == {"a", "x"}
    finally:
        REGISTRY.remove("TestNoGradient")


def test_a_gradient_that_is_needed_does_not_exist():
    net = Net("g")
    net.SoftmaxWithLoss(["x", "label"], ["p", "loss"])
    with pytest.raises(GradientError, match="needs that of its output 'loss'"):
        net.AddGradientOperators(["p"])


def test_what_to_differentiate_is_checked():
    net = Net("g")
    net.Relu("x", "y")
    with pytest.raises(TypeError, match="takes a list or a dict of blobs, not 'y'"):
        net.AddGradientOperators("y")
    with pytest.raises(BlobNotFoundError, match="defines no blob 'z'"):
        net.AddGradientOperators(["z"])
    assert len(net.operators) == 1


# Values.


def test_gradients_of_layers_are_right():
    random = np.random.default_rng(0)
    blobs = {
        "x": random.standard_normal((4, 3)),
        "w": random.standard_normal((5, 3)),
        "b": random.standard_normal(5),
        "w2": random.standard_normal((2, 5)),
        "b2": random.standard_normal(2),
        "label": np.int32([0, 1, 1, 0]),
    }
    net = layers()
    net.AddGradientOperators({"loss": "one"})
    blobs["one"] = np.float64(1)
    compare(net, layers().Clone("forward"), "loss", blobs, ["x", "w", "b", "w2", "b2"])


def compare(net, forward, target, blobs, wrt, gradients=None):
    """Hold the gradients that `net` computes against central differences of `forward`."""
    compiled = LocalSession.compile(forward)
    with LocalSession() as session:
        workspace = session.workspace()

        def value(changed):
            for name, blob in {**blobs, **changed}.items():
                workspace.feed_blob(name, blob)
            session.run(compiled)
            return float(np.sum(workspace.fetch_blob(target)))

        found = run(net, **blobs)
        for name in wrt:
            blob = (gradients or {}).get(name, f"{name}_grad")
            expected = np.empty_like(blobs[name])
            for place in np.ndindex(expected.shape):
                sides = []
                for step in (1e-5, -1e-5):
                    moved = blobs[name].copy()
                    moved[place] += step
                    sides.append(value({name: moved}))
                expected[place] = (sides[0] - sides[1]) / 2e-5
            atol = 1e-6 * max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(found[blob], expected, rtol=1e-5, atol=atol, err_msg=name)


UNARY = ["Tanh", "Sigmoid", "Sqr", "Negative", "Scale", "Copy"]
BINARY = ["Add", "Sub", "Mul", "MatMul"]
SHAPE = (2, 2)


@st.composite
def programs(draw):
    """[(operator, inputs, output)]: blobs are written once, in place, or again."""
    blobs = ["x", "y"]
    program = []
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["unary", "binary", "sum", "in place"]))
        source = st.sampled_from(blobs)
        if kind == "in place":
            inputs = [draw(source)]
            program.append((draw(st.sampled_from(["Tanh", "Negative", "Copy"])), inputs, inputs[0]))
            continue
        if kind == "unary":
            name, count = draw(st.sampled_from(UNARY)), 1
        elif kind == "binary":
            name, count = draw(st.sampled_from(BINARY)), 2
        else:
            name, count = "Sum", draw(st.integers(1, 4))
        inputs = [draw(source) for _ in range(count)]
        # Now and then an output replaces a blob that was there.
        output = draw(st.one_of(st.just(f"t{number}"), source))
        if name == "Sum" and output in inputs[1:]:
            output = f"t{number}"
        program.append((name, inputs, output))
        if output not in blobs:
            blobs.append(output)
    return program


def build(name, program):
    net = Net(name)
    for kind, inputs, output in program:
        options = {"scale": -0.75} if kind == "Scale" else {}
        getattr(net, kind)(inputs, output, **options)
    return net


@settings(max_examples=250, deadline=None)
@given(program=programs(), seed=st.integers(0, 100), data=st.data())
def test_random_nets(program, seed, data):
    """A gradient is either refused, or right."""
    random = np.random.default_rng(seed)
    written = list(dict.fromkeys(output for _, _, output in program))
    starts = data.draw(st.lists(st.sampled_from(written), min_size=1, max_size=3, unique=True))
    blobs = {name: random.uniform(-0.9, 0.9, SHAPE) for name in "xy"}
    with names.fresh():
        net, forward = build("net", program), build("forward", program)
        weights = {start: f"{start}_start" for start in starts}
        try:
            gradients = net.AddGradientOperators(weights)
        except GradientError:
            return
        terms = []
        for start, weight in weights.items():
            blobs[weight] = random.uniform(0.5, 1.5, SHAPE)
            terms.append(forward.Mul([start, weight], f"{start}_weighed"))
        forward.Sum(terms, "target")
    # What was fed has a gradient if a way leads from it to a start; not so if it was replaced.
    live = set(starts)
    for _, inputs, output in reversed(program):
        if output in live:
            live.remove(output)
            live.update(inputs)
    wrt = sorted(live & set("xy"))
    assert set(wrt) <= set(gradients)
    # Differences of large numbers say nothing.
    assume(max(float(np.abs(blob).max()) for blob in run(net, **blobs).values()) < 100)
    compare(net, forward, "target", blobs, wrt, gradients)


@settings(max_examples=100, deadline=None)
@given(program=programs())
def test_random_nets_that_write_each_blob_once_have_gradients(program):
    once = [(kind, inputs, f"o{index}") for index, (kind, inputs, _) in enumerate(program)]
    known = {"x", "y"}
    renamed = []
    for kind, inputs, output in once:
        renamed.append((kind, [blob if blob in known else "x" for blob in inputs], output))
        known.add(output)
    with names.fresh():
        net = build("net", renamed)
        gradients = net.AddGradientOperators([renamed[-1][2]])
    reachable = {renamed[-1][2]}
    for _, inputs, output in reversed(renamed):
        if output in reachable:
            reachable.update(inputs)
    assert set(gradients) == reachable


def test_an_alias_of_one_blob_in_place():
    @operator("TestPass", gradient=[alias("GO0", "GI0")])
    def passing(x, *, out=None):
        return np.positive(x, out=out)

    try:
        net = Net("g")
        net.TestPass("x", "a")
        net.TestPass("a", "a")
        net.Mul(["a", "x"], "y")
        gradients = net.AddGradientOperators({"y": "g"})
        blobs = run(net, x=np.float64([3]), g=np.float64([1]))
        assert blobs[gradients["x"]].tolist() == [6]
    finally:
        REGISTRY.remove("TestPass")


def test_a_write_in_vain_is_named():
    net = Net("g")
    net.Copy("x", "y")
    net.Sqr("x", "y")
    with pytest.raises(GradientError, match=r"later one.*: Sqr\(x\) -> y .*overwrites it.*in vain"):
        net.AddGradientOperators(["y"])
