"""Nets from nets: renamed copies, parts, records that are bound."""

import numpy as np
import pytest

from procession import GraphError, LocalSession, Net
from procession.graph import proto, schema, ssa
from procession.graph.cloning import clone_and_bind_net, list_externals
from procession.graph.operator import CreateOperator, signature_of


def lines(net):
    return [signature_of(each) for each in net.operators]


@pytest.fixture
def fork():
    """x -> a -> b -> y, and a -> c, which nobody needs."""
    net = Net("n")
    net.Relu("x", "a")
    net.Add(["a", "w"], "b")
    net.Tanh("a", "c")
    net.Tanh("b", "y")
    net.AddExternalOutput("y")
    return net


# Single assignment.


def test_ssa():
    net = Net("n")
    net.Add(["a", "b"], "a")
    net.Relu("a", "c")
    single, versions = ssa.get_ssa(net)
    assert single == [([("a", 0), ("b", 0)], [("a", 1)]), ([("a", 1)], [("c", 1)])]
    assert versions == {"a": 1, "b": 0, "c": 1}
    assert ssa.get_undefined_blobs(single) == {"a", "b"}
    assert ssa.get_output_producers(single) == {("a", 1): 0, ("c", 1): 1}
    assert ssa.get_ssa(net.Proto(), {"a": 3})[1] == {"a": 4, "b": 0, "c": 1}


def test_operators_on_a_path(fork):
    single, versions = ssa.get_ssa(fork)
    assert ssa.get_op_ids_in_path(single, versions, [], ["y"]) == [0, 1, 3]
    assert ssa.get_op_ids_in_path(single, versions, ["a"], ["y"]) == [1, 3]
    assert ssa.get_op_ids_in_path(single, versions, ["y"], ["y"]) == []


# Parts.


def test_a_part(fork):
    part, outputs = fork.ClonePartial("p", ["x"], ["y"])
    assert lines(part) == ["Relu(x) -> p/a", "Add(p/a, w) -> p/b", "Tanh(p/b) -> p/y"]
    assert outputs == ["p/y"]
    assert outputs[0].Net() is part
    assert part.external_inputs == ["x", "w"]
    assert part.external_outputs == ["p/y"]


@pytest.mark.parametrize("inputs", [{"a": "A"}, [("a", "A")]])
def test_a_part_with_other_inputs(fork, inputs):
    part, _ = fork.ClonePartial("p", inputs, ["y"])
    assert lines(part) == ["Add(A, w) -> p/b", "Tanh(p/b) -> p/y"]


def test_what_cannot_be_cut(fork):
    with pytest.raises(GraphError, match="cannot be cut at 'nothing'"):
        fork.ClonePartial("p", ["x"], ["nothing"])
    with pytest.raises(GraphError, match="also make"):
        fork.ClonePartial("p", ["b"], ["c", "y"])


# Copies.


def test_nets_in_arguments_are_renamed():
    inner = Net("inner")
    inner.Relu("x", "y")
    net = Net("n")
    net.extend_ops([CreateOperator("If", ["c"], ["y"], then_net=inner.Proto())])
    copied = net.Clone("m", {"x": "X", "y": "Y"})
    [made] = copied.operators
    assert (made.input, made.output) == (["c"], ["Y"])
    then = made.arguments["then_net"]
    assert (then.op[0].input, then.op[0].output) == (["X"], ["Y"])
    assert inner.Proto().op[0].input == ["x"]


def test_renaming_in_arguments_of_ones_own(fork):
    def rename(operator, prefix, remap):
        operator.name = prefix + remap["a"]

    assert fork.Clone("m", {"a": "A"}, remap_funcs={"Tanh": rename}).operators[2].name == "m/A"


def test_records_are_renamed():
    net = Net("n")
    record = net.set_input_record(schema.Struct(("x", schema.Scalar(np.float32))))
    y = net.Relu(record.x(), "y")
    net.set_output_record(schema.Struct(("y", schema.Scalar(np.float32, y))))
    copied = net.Clone("m", {str(record.x()): "X", "y": "Y"})
    assert copied.input_record().field_blobs() == ["X"]
    assert copied.output_record().field_blobs() == ["Y"]
    assert net.Clone("m", keep_schema=False).input_record() is None


def test_binding():
    net = Net("n")
    record = net.set_input_record(schema.Struct(("x", schema.Scalar(np.float32))))
    net.Add([record.x(), "w"], "y")
    other = Net("other")
    given = schema.NewRecord(
        other, schema.Struct(("x", schema.Scalar(np.float32)), ("more", schema.Scalar()))
    )
    bound, remap = clone_and_bind_net(net, "m", "p/", inputs=given)
    assert lines(bound) == [f"Add({given.x()}, w) -> p/y"]
    assert remap["y"] == "p/y"
    with pytest.raises(GraphError, match=r"lack \['x'\]"):
        clone_and_bind_net(net, "m", "p/", inputs=schema.Struct(("z", schema.Scalar())))
    with pytest.raises(GraphError, match="no input record"):
        clone_and_bind_net(Net("m"), "m", "p/", inputs=given)


# Putting operators in.


def test_insertion(fork):
    fork.insert_op_at_idx(CreateOperator("Copy", "u", "v"), 1)
    assert lines(fork)[:2] == ["Relu(x) -> a", "Copy(u) -> v"]
    assert "u" in fork.external_inputs
    assert fork.BlobIsDefined("v")
    with pytest.raises(GraphError, match="cannot be put in at 9"):
        fork.insert_op_at_idx(CreateOperator("Copy", "u", "v"), 9)


def test_rerouting(fork):
    consumers = [fork.operators[1]]
    count = fork.reroute_tensor("a", CreateOperator("Copy", "a", "a2"), consumers)
    assert count == 1
    assert lines(fork) == [
        "Relu(x) -> a",
        "Copy(a) -> a2",
        "Add(a2, w) -> b",
        "Tanh(a) -> c",
        "Tanh(b) -> y",
    ]
    fork.reroute_tensor("y", CreateOperator("Copy", "y", "z"))
    assert fork.external_outputs == ["z"]
    with pytest.raises(GraphError, match="makes nothing of 'b'"):
        fork.reroute_tensor("b", CreateOperator("Copy", "a", "q"))


def test_a_rerouted_net_runs():
    net = Net("n")
    net.Relu("x", "a")
    net.Tanh("a", "y")
    net.reroute_tensor("a", CreateOperator("Negative", "a", "na"), [net.operators[1]])
    with LocalSession() as session:
        session.workspace().feed_blob("x", np.float32([1.0]))
        session.run(net)
        np.testing.assert_allclose(session.workspace().fetch_blob("y"), np.tanh([-1.0]), rtol=1e-6)


def test_external_lists_of_a_message():
    net = proto.NetDef()
    for read, written in (["x", "a"], ["a", "b"], ["y", "c"]):
        net.op.extend([CreateOperator("Copy", read, written)])
    list_externals(net)
    assert (net.external_input, net.external_output) == (["x", "y"], ["b", "c"])
