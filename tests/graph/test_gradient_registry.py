"""Gradients of operators by themselves: registered functions, sums, sparse gradients, devices."""

import numpy as np
import pytest

from procession import BlobReference, GradientError, LocalSession, NameScope, Net
from procession.graph.device import DeviceOption, DeviceScope
from procession.graph.gradient import IR, GradientRegistry, GradientSlice
from procession.graph.operator import CreateOperator, signature_of
from procession.operators import REGISTRY

NAMES = ("Forwarding", "Reading", "Silent", "Passing", "Rows", "Pair", "Steps")


def grads(op):
    return [f"{blob}_grad" for blob in op.input]


@pytest.fixture(autouse=True)
def registered():
    """Gradients of operators that nobody has registered."""
    register = GradientRegistry.RegisterGradient

    @register("Forwarding")
    def forwarding(op, g_output):
        return CreateOperator("ForwardingGradient", g_output[0], grads(op)), grads(op)

    @register("Reading")
    def reading(op, g_output):
        read = [*op.input, *op.output, g_output[0]]
        return CreateOperator("ReadingGradient", read, grads(op)), grads(op)

    @register("Silent")
    def silent(op, g_output):
        return None, [None] * len(op.input)

    @register("Passing")
    def passing(op, g_output):
        return [], [g_output[0]] * len(op.input)

    @register("Rows")
    def rows(op, g_output):
        pieces = [f"{op.input[0]}_grad_{kind}" for kind in ("indices", "values")]
        return [CreateOperator(f"Rows{kind}", g_output[0], kind) for kind in pieces], [
            GradientSlice(*pieces)
        ]

    @register("Pair")
    def pair(op, g_output):
        made = [
            CreateOperator(f"Pair{number}", g_output[0], name)
            for number, name in enumerate(grads(op))
        ]
        return made, grads(op)

    @register("Steps")
    def steps(op, g_output):
        name = grads(op)[0]
        made = [CreateOperator("First", g_output[0], name), CreateOperator("Second", name, name)]
        return made, [name]

    yield
    for name in NAMES:
        del GradientRegistry.gradient_registry_[name]


def backward(*lines, ys, **options):
    """Gradient operators as text, and the gradients of the blobs.

    A line is (type, inputs, outputs), blobs separated by spaces.
    """
    operators = [
        CreateOperator(kind, inputs.split(), outputs.split(), **options)
        for kind, inputs, outputs in lines
    ]
    made, gradients = GradientRegistry.GetBackwardPass(operators, ys)
    return [signature_of(each) for each in made], gradients


# Registered functions.


def test_a_chain():
    lines, gradients = backward(("Forwarding", "x", "h"), ("Forwarding", "h", "y"), ys={"y": "g"})
    assert lines == ["ForwardingGradient(g) -> h_grad", "ForwardingGradient(h_grad) -> x_grad"]
    assert gradients == {"y": "g", "h": "h_grad", "x": "x_grad"}
    assert all(isinstance(blob, BlobReference) for pair in gradients.items() for blob in pair)


def test_only_what_leads_to_a_start_is_differentiated():
    lines, gradients = backward(
        ("Forwarding", "x", "h"), ("Unheard", "h", "aside"), ("Forwarding", "h", "y"), ys=["y"]
    )
    assert lines == [
        "ConstantFill(y) -> y_autogen_grad",
        "ForwardingGradient(y_autogen_grad) -> h_grad",
        "ForwardingGradient(h_grad) -> x_grad",
    ]
    assert "aside" not in gradients


def test_an_operator_that_nobody_knows():
    with pytest.raises(GradientError, match="Unheard is not registered") as caught:
        backward(("Unheard", "x", "y"), ys=["y"])
    assert isinstance(caught.value, RuntimeError)
    assert __file__ in str(caught.value)


def test_the_rules_of_an_operator_come_before_a_registered_function():
    try:
        GradientRegistry.RegisterGradient("Tanh")(lambda op, g_output: ([], [None]))
        GradientRegistry.RegisterGradient("Mul")(lambda op, g_output: ([], ["mine", None]))
        lines, _ = backward(("Tanh", "x", "y"), ys={"y": "g"})
        assert lines == ["TanhGradient(y, g) -> x_grad"]
        # The rules of Mul cannot be applied in place.
        lines, gradients = backward(("Mul", "x w", "x"), ys={"x": "g"})
        assert (lines, gradients["x"]) == ([], "mine")
    finally:
        del GradientRegistry.gradient_registry_["Tanh"]
        del GradientRegistry.gradient_registry_["Mul"]


@pytest.mark.parametrize(
    "answer", [None, ([],), ([], ["a", "b"])], ids=["nothing", "too little", "too much"]
)
def test_an_answer_that_makes_no_sense(answer):
    GradientRegistry.RegisterGradient("Silent")(lambda op, g_output: answer)
    with pytest.raises(GradientError, match="Silent"):
        backward(("Silent", "x", "y"), ys=["y"])


def test_a_blob_from_nowhere():
    GradientRegistry.RegisterGradient("Silent")(
        lambda op, g_output: (CreateOperator("Odd", "elsewhere", "x_grad"), ["x_grad"])
    )
    with pytest.raises(GradientError, match=r"reads 'elsewhere'.*x, y, g"):
        backward(("Silent", "x", "y"), ys={"y": "g"})


def test_a_gradient_that_the_forward_operator_made():
    GradientRegistry.RegisterGradient("Silent")(lambda op, g_output: ([], [op.output[1]]))
    lines, gradients = backward(
        ("Forwarding", "x", "h"), ("Silent", "h", "loss ready"), ys=["loss"]
    )
    assert lines[1:] == ["ForwardingGradient(ready) -> x_grad"]
    assert gradients["h"] == "ready"


def test_the_gradient_of_one_operator():
    made, g_input = GradientRegistry.GetGradientForOp(
        CreateOperator("Mul", ["a", "b"], "c", engine="X"), [BlobReference("g")]
    )
    assert [signature_of(each) for each in made] == ["MulGradient(g, a, b) -> a_grad, b_grad"]
    assert g_input == ["a_grad", "b_grad"]
    assert made[0].is_gradient_op
    assert made[0].engine == "X"


def test_what_to_differentiate_is_a_list_or_a_mapping():
    with pytest.raises(TypeError, match="a list or a dict of blobs, not 'y'"):
        backward(("Forwarding", "x", "y"), ys="y")


# Versions.


def test_versions_are_counted():
    operators = [
        CreateOperator("Forwarding", blobs[0], blobs[1]) for blobs in ("xa", "aa", "ab", "xb")
    ]
    ir = IR(operators)
    assert [(each.in_versions, each.out_versions) for each in ir.ssa] == [
        ({"x": 0}, {"a": 0}),
        ({"a": 0}, {"a": 1}),
        ({"a": 1}, {"b": 0}),
        ({"x": 0}, {"b": 1}),
    ]
    assert dict(ir.frontier) == {"x": 0, "a": 1, "b": 1}
    assert ir.input_usages == {"x": {0: [0, 3]}, "a": {0: [1], 1: [2]}}
    assert [version for _, version in ir.out_version_history["a"]] == [0, 1]
    assert [version for _, version in ir.in_version_history["x"]] == [0, 0]


def test_an_input_or_output_that_was_overwritten():
    for line in (("Forwarding", "z", "x"), ("Forwarding", "z", "h")):
        with pytest.raises(GradientError, match=r"overwritten since.*version"):
            backward(("Reading", "x", "h"), ("Forwarding", "h", "y"), line, ys=["y"])


def test_the_gradient_of_another_version():
    with pytest.raises(GradientError, match=r"version 1.*'x_grad' is.*a later one.*version 2"):
        backward(
            ("Forwarding", "x", "x"),
            ("Forwarding", "y", "x"),
            ("Forwarding", "x", "y"),
            ys={"y": "y_grad"},
        )


def test_each_version_is_summed_up_by_itself():
    lines, _ = backward(
        ("Forwarding", "x", "a"),
        ("Forwarding", "x", "b"),
        ("Pair", "a b", "x"),
        ("Forwarding", "x", "c"),
        ("Forwarding", "x", "d"),
        ("Pair", "c d", "y"),
        ys={"y": "g"},
    )
    sums = [line for line in lines if line.startswith("Sum")]
    assert sums == ["Sum(x_grad, _x_grad_autosplit_0) -> x_grad"] * 2


@pytest.mark.parametrize("kind", ["Add", "Sub"])
@pytest.mark.parametrize("place", [0, 1])
def test_in_place_operators_that_need_shapes_only(kind, place):
    out = "ab"[place]
    lines, gradients = backward((kind, "a b", out), ys={out: "g"})
    assert lines == [f"{kind}Gradient(g, a, b) -> a_grad, b_grad"]
    assert gradients == {"a": "a_grad", "b": "b_grad"}


def test_an_in_place_division():
    lines, _ = backward(("Div", "a b", "a"), ys={"a": "g"})
    assert lines == ["DivGradient(g, a, b, a) -> a_grad, b_grad"]
    with pytest.raises(GradientError, match="needs its input 'b'"):
        backward(("Div", "a b", "b"), ys={"b": "g"})


@pytest.mark.parametrize("kind", ["Mul", "Pow"])
def test_in_place_operators_that_need_what_they_overwrite(kind):
    with pytest.raises(GradientError, match=r"needs its input 'a'.*by the operator itself"):
        backward((kind, "a b", "a"), ys={"a": "g"})


# Sums.


def test_what_is_handed_through_is_summed_as_it_is():
    lines, gradients = backward(
        ("Forwarding", "x", "a"), ("Passing", "x", "b"), ("Pair", "a b", "y"), ys={"y": "g"}
    )
    assert lines[2:] == [
        "ForwardingGradient(a_grad) -> x_grad",
        "Sum(x_grad, b_grad) -> x_grad",
    ]
    assert gradients["x"] == "x_grad"


def test_a_reader_without_a_gradient_is_left_out():
    lines, gradients = backward(
        ("Silent", "x", "a"), ("Forwarding", "x", "b"), ("Pair", "a b", "y"), ys={"y": "g"}
    )
    assert not any(line.startswith("Sum") for line in lines)
    assert gradients["x"] == "x_grad"


def test_a_gradient_in_steps_is_one_piece():
    lines, _ = backward(
        ("Steps", "x", "a"), ("Steps", "x", "b"), ("Pair", "a b", "y"), ys={"y": "g"}
    )
    assert lines[2:] == [
        "First(b_grad) -> x_grad",
        "Second(x_grad) -> x_grad",
        "First(a_grad) -> _x_grad_autosplit_0",
        "Second(_x_grad_autosplit_0) -> _x_grad_autosplit_0",
        "Sum(x_grad, _x_grad_autosplit_0) -> x_grad",
    ]


def test_a_start_on_the_way_counts():
    lines, gradients = backward(
        ("Forwarding", "x", "a"), ("Forwarding", "a", "b"), ys={"a": None, "b": "g"}
    )
    assert lines[1:3] == [
        "ForwardingGradient(g) -> _a_grad_autosplit_0",
        "Sum(a_autogen_grad, _a_grad_autosplit_0) -> a_autogen_grad",
    ]
    assert gradients["a"] == "a_autogen_grad"


def test_a_given_start_on_the_way_counts():
    lines, _ = backward(
        ("Forwarding", "x", "a"), ("Forwarding", "a", "b"), ys={"a": "a_grad", "b": "g"}
    )
    assert lines == [
        "ForwardingGradient(g) -> _a_grad_autosplit_0",
        "Sum(_a_grad_autosplit_0, a_grad) -> a_grad",
        "ForwardingGradient(a_grad) -> x_grad",
    ]


def test_what_is_still_read_is_not_overwritten():
    # The gradient of s is that of a, and a is written in place before.
    lines, gradients = backward(
        ("Forwarding", "s0", "s"),
        ("Forwarding", "a", "a"),
        ("Passing", "a s", "a"),
        ys={"a": "a_grad"},
    )
    assert lines == [
        "ForwardingGradient(a_grad) -> _a_grad_autosplit_0",
        "ForwardingGradient(a_grad) -> s0_grad",
    ]
    assert gradients == {"a": "_a_grad_autosplit_0", "s": "a_grad", "s0": "s0_grad"}


def test_a_repeated_input_in_place():
    lines, _ = backward(("Pair", "x x", "x"), ys={"x": "x_grad"})
    assert lines == [
        "Pair0(x_grad) -> _x_grad_autosplit_1",
        "Pair1(x_grad) -> _x_grad_autosplit_0",
        "Sum(_x_grad_autosplit_1, _x_grad_autosplit_0) -> x_grad",
    ]


# Where nothing flows.


def test_a_stop_gradient_that_stops_nothing():
    with pytest.raises(GradientError, match="'s' is orphan") as caught:
        IR([CreateOperator("StopGradient", "x", "s"), CreateOperator("Tanh", "x", "y")])
    assert isinstance(caught.value, ValueError)


def test_a_zero_gradient_counts_although_it_has_no_output():
    lines, gradients = backward(("ZeroGradient", "x", ""), ("Tanh", "z", "y"), ys=["y"])
    assert lines[-1] == "ConstantFill(x) -> x_grad"
    assert gradients["x"] == "x_grad"
    net = Net("g")
    net.ZeroGradient("x", [])
    net.Tanh("z", "y")
    net.AddGradientOperators(["y"])
    with LocalSession() as session:
        session.workspace().feed_blob("x", np.ones((2, 3), np.float32))
        session.workspace().feed_blob("z", np.ones(2, np.float32))
        session.run(net)
        assert session.workspace().fetch_blob("x_grad").tolist() == [[0, 0, 0], [0, 0, 0]]


# Sparse gradients.


def test_rows_are_handed_through():
    lines, gradients = backward(("Gather", "x i", "y"), ys={"y": "g"})
    assert lines == []
    assert gradients["x"] == GradientSlice("i", "g")


def test_sparse_gradients_are_summed_by_listing_them():
    lines, gradients = backward(
        ("Gather", "x i", "a"), ("Rows", "x", "b"), ("Rows", "x", "c"),
        ("Sum", "a b c", "y"), ys={"y": "g"},
    )  # fmt: skip
    assert lines == [
        "Rowsx_grad_indices(g) -> _x_grad_indices_autosplit_0",
        "Rowsx_grad_values(g) -> _x_grad_values_autosplit_0",
        "Rowsx_grad_indices(g) -> _x_grad_indices_autosplit_1",
        "Rowsx_grad_values(g) -> _x_grad_values_autosplit_1",
        "Concat(_x_grad_indices_autosplit_0, _x_grad_indices_autosplit_1, i) -> "
        "x_grad_indices_concat, x_grad_indices_concat_split",
        "Concat(_x_grad_values_autosplit_0, _x_grad_values_autosplit_1, g) -> "
        "x_grad_values_concat, x_grad_values_concat_split",
    ]
    assert gradients["x"] == GradientSlice("x_grad_indices_concat", "x_grad_values_concat")


def test_sparse_and_dense_gradients_are_not_summed():
    with pytest.raises(GradientError, match="'x' has both sparse and dense gradients"):
        backward(("Gather", "x i", "a"), ("Tanh", "x", "b"), ("Add", "a b", "y"), ys=["y"])


def test_what_cannot_go_on_from_a_sparse_gradient():
    with pytest.raises(GradientError, match=r"Tanh\(x\) -> y.*sparse gradient.*'y'.*v, at i"):
        backward(("Tanh", "x", "y"), ys={"y": GradientSlice("i", "v")})


def test_the_values_of_sparse_gradients():
    random = np.random.default_rng(0)
    x = random.standard_normal((5, 2)).astype(np.float32)
    net = Net("g")
    rows = net.Gather(["x", "i"])
    summed = net.SparseLengthsSum(["x", "j", "lengths"])
    net.Mul([rows, summed], "y")
    gradients = net.AddGradientOperators({"y": "g"})
    unique = net.DeduplicateGradientSlices(gradients[BlobReference("x")])
    mean = net.DeduplicateGradientSlices(gradients[BlobReference("x")], aggregator="mean")
    with LocalSession() as session:
        i, j, lengths = [1, 4], [0, 1, 1], [2, 1]
        for name, value in {
            "x": x,
            "i": np.int32(i),
            "j": np.int32(j),
            "lengths": np.int32(lengths),
            "g": np.ones((2, 2), np.float32),
        }.items():
            session.workspace().feed_blob(name, value)
        session.run(net)
        fetch = session.workspace().fetch_blob
        expected = np.zeros_like(x)
        np.add.at(expected, i, [x[0] + x[1], x[1]])
        np.add.at(expected, j, x[[1, 1, 4]])
        found = np.zeros_like(x)
        indices = fetch(unique.indices)
        assert len(set(indices.tolist())) == len(indices) == 3
        found[indices] = fetch(unique.values)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        counts = np.bincount(i + j, minlength=5)[fetch(mean.indices)]
        np.testing.assert_allclose(
            fetch(mean.values) * counts[:, None], expected[fetch(mean.indices)], rtol=1e-5
        )


@pytest.mark.parametrize("wrong", ["x_grad", ("i", "v")])
def test_only_slices_are_deduplicated(wrong):
    with pytest.raises(TypeError, match="takes a GradientSlice"):
        Net("g").DeduplicateGradientSlices(wrong)


# Devices and scopes.


def test_gradient_operators_run_where_the_operator_does():
    option = DeviceOption(0, random_seed=3)
    made, _ = GradientRegistry.GetBackwardPass(
        [
            CreateOperator("Tanh", "x", "a", device_option=option),
            CreateOperator("Relu", "x", "b", device_option=option),
            CreateOperator("Add", ["a", "b"], "y"),
        ],
        ["y"],
    )
    assert [each.HasField("device_option") for each in made] == [False, False, True, True, True]
    assert [each.is_gradient_op for each in made] == [False, True, True, True, False]
    assert made[2].device_option == option
    summed = DeviceOption(0, random_seed=3, extra_info=[f"{IR.IS_AUTO_GEN_SUM_OPS_TAG}:1"])
    assert made[-1].device_option == summed


def test_a_sum_can_be_left_without_the_rest_of_the_options():
    option = DeviceOption(
        0, random_seed=3, extra_info=[f"{IR.ONLY_KEEP_IS_AUTO_GEN_SUM_OPS_TAG}:1"]
    )
    made, _ = GradientRegistry.GetBackwardPass(
        [CreateOperator("Mul", ["x", "x"], "y", device_option=option)], ["y"]
    )
    assert list(made[-1].device_option.extra_info) == [f"{IR.IS_AUTO_GEN_SUM_OPS_TAG}:1"]
    assert not made[-1].device_option.HasField("random_seed")


def test_pieces_from_different_devices_are_not_summed():
    operators = [
        CreateOperator("Forwarding", "x", "a"),
        CreateOperator("Forwarding", "x", "b"),
        CreateOperator("Pair", ["a", "b"], "y"),
    ]
    GradientRegistry.RegisterGradient("Forwarding")(
        lambda op, g_output: (
            CreateOperator(
                "ForwardingGradient",
                g_output[0],
                grads(op),
                device_option=DeviceOption(op.output[0] == "b"),
            ),
            grads(op),
        )
    )
    with pytest.raises(GradientError, match="'x' are computed on different devices"):
        GradientRegistry.GetBackwardPass(operators, {"y": "g"})


def test_the_scopes_in_force_are_those_of_the_start():
    option = DeviceOption(0, random_seed=5)
    net = Net("g")
    net.Tanh("x", "y")
    with NameScope("s"), DeviceScope(option):
        gradients = net.AddGradientOperators(["y"])
    assert net.operators[1].device_option == option
    assert signature_of(net.operators[1]) == "ConstantFill(y) -> s/y_autogen_grad"
    assert gradients == {"y": "s/y_autogen_grad", "x": "x_grad"}


def test_zeros_stand_for_the_gradient_of_what_nothing_depends_on():
    option = DeviceOption(0, random_seed=5)
    unit = CreateOperator(
        "LSTMUnit", list("hcgs"), ["H", "C"], device_option=option, sequence_lengths=False
    )
    (fill, gradient), _ = GradientRegistry.GetGradientForOp(unit, [None, "dC"])
    assert signature_of(fill) == "ConstantFill(H) -> H_grad_zeros"
    assert signature_of(gradient).startswith("LSTMUnitGradient(h, c, g, s, H, C, H_grad_zeros, dC)")
    assert fill.device_option == gradient.device_option == option
    assert fill.is_gradient_op
    (gradient,), _ = GradientRegistry.GetGradientForOp(unit, ["dH", "dC"])
    assert list(gradient.input)[-2:] == ["dH", "dC"]


def test_all_rules_can_be_applied():
    """Nothing but symbols of the operator itself: no rule fails on names."""
    for name, definition in REGISTRY.items():
        outputs = max(definition.min_outputs, 1)
        inputs = max(definition.min_inputs, 1 if definition.max_inputs != 0 else 0)
        if definition.gradient is None or callable(definition.gradient) or not inputs:
            continue
        op = CreateOperator(
            name, [f"i{n}" for n in range(inputs)], [f"o{n}" for n in range(outputs)]
        )
        made, g_input = GradientRegistry.GetGradientForOp(op, [f"g{n}" for n in range(outputs)])
        assert len(g_input) == inputs
        assert all(each.is_gradient_op and each.type in REGISTRY for each in made)
