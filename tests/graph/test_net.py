"""Net: names, external blobs, and what one net is made of another."""

import copy
import pickle

import cloudpickle
import pytest

from procession import (
    BlobNotFoundError,
    BlobReference,
    GraphError,
    NameScope,
    Net,
    UnknownArgumentError,
)
from procession.graph.operator import signature_of


def lines(net):
    return [signature_of(each) for each in net.operators]


# Names.


def test_nets_of_one_name_are_numbered():
    assert [str(Net("t")) for _ in range(3)] == ["t", "t_1", "t_2"]
    assert Net("t_1").Name() == "t_1_1"
    with pytest.raises(TypeError, match="a net's name is a string"):
        Net(3)


def test_outputs_are_called_after_net_and_operator():
    net = Net("n")
    assert [net.Add(["a", "b"]) for _ in range(3)] == ["n/Add", "n/Add_2", "n/Add_3"]
    assert net.Relu("x") == "n/Relu"


def test_numbered_outputs(pair):
    net = Net("n")
    assert net.TestPair("x", 2) == ("n/TestPair:0", "n/TestPair:1")
    # Each output counts for itself.
    assert net.TestPair("x", 3) == ("n/TestPair_2:0", "n/TestPair_2:1", "n/TestPair:2")
    assert net.TestPair("x", 1) == "n/TestPair_3:0"
    assert net.TestPair("x", 3) == ("n/TestPair_4:0", "n/TestPair_3:1", "n/TestPair_2:2")
    assert net.TestPair("x") == "n/TestPair"
    assert net.TestTwo("x") == ("n/TestTwo:0", "n/TestTwo:1")
    assert net.Relu("x", 1) == "n/Relu:0"
    assert net.Relu("x", 1) == "n/Relu_2:0"


def test_output_numbers_go_on_from_scope_to_scope():
    net = Net("n")
    assert [net.Add(["a", "b"]) for _ in range(3)][-1] == "n/Add_3"
    with NameScope("s"):
        made = [net.Add(["a", "b"]) for _ in range(3)]
        assert made == ["s/n/Add", "s/n/Add_4", "s/n/Add_5"]
    assert [net.Add(["a", "b"]) for _ in range(2)] == ["n/Add_6", "n/Add_7"]


def test_names_that_were_given_by_hand_are_left_out():
    net = Net("n")
    net.Relu("x", "n/Add")
    net.Relu("x", "n/Add_2")
    assert [net.Add(["a", "b"]) for _ in range(2)] == ["n/Add_3", "n/Add_4"]


def test_next_name():
    net = Net("n")
    assert [net.NextName(), net.NextName()] == ["n_blob_0", "n_blob_1"]
    assert [net.NextName("p"), net.NextName("p"), net.NextName("p", 3)] == ["n/p", "n/p", "n/p:3"]
    assert net.NextName(output_id=3) == "n_blob_2"
    net.Relu("x", "n/p")
    assert [net.NextName("p") for _ in range(3)] == ["n/p_2", "n/p_3", "n/p_4"]
    assert net.NextName("p", 0) == "n/p:0"
    with NameScope("s"):
        assert net.NextName("p") == "n/p"


def test_next_blob():
    net = Net("n")
    net.AddExternalInput("b")
    assert [net.NextBlob("c"), net.NextBlob("c")] == ["c", "c_auto_0"]
    assert net.NextBlob("b") == "b_auto_0"
    assert [net.NextScopedBlob("c"), net.NextBlob(), net.NextBlob()] == [
        "c_auto_1",
        "unnamed",
        "unnamed_auto_0",
    ]
    with NameScope("s"):
        assert [net.NextScopedBlob("c"), net.NextScopedBlob("c")] == ["s/c", "s/c_auto_0"]
        assert net.NextBlob("z") == "z"
    assert net.NextBlob("d").Net() is net


def test_a_blob_that_was_only_named_comes_from_outside():
    net = Net("n")
    named = net.NextBlob("x")
    assert not net.BlobIsDefined(named)
    net.Relu(named)
    assert net.external_inputs == ["x"]


# External inputs and outputs.


def test_what_is_read_before_it_is_written_comes_from_outside():
    net = Net("n")
    net.Add(["a", "b"], "c")
    net.Add(["c", "d"], "e")
    net.Relu("a", "a")
    net.Relu("f", "f")
    assert net.external_inputs == ["a", "b", "d", "f"]
    assert net.is_external_input("a")
    assert not net.is_external_input("c")
    assert net.declared_inputs == frozenset()


def test_blobs_of_a_net():
    net = Net("n")
    net.Relu("x", "y")
    assert net.BlobIsDefined("x")
    assert net.BlobIsDefined(BlobReference("y"))
    assert net.UsesBlob("x")
    # Written is not used.
    assert not net.UsesBlob("y")
    assert net.UsedBlobNames() == {"x", "y"}
    assert net.GetBlobRef("y").Net() is net
    with pytest.raises(BlobNotFoundError, match="net 'n' defines no blob 'why'") as caught:
        net.GetBlobRef("why")
    assert isinstance(caught.value, KeyError)
    assert caught.value.blob == "why"


def test_declared_inputs():
    net = Net("n")
    assert net.AddExternalInput("a") == "a"
    assert net.AddExternalInput("b", BlobReference("c")) == ["b", "c"]
    assert net.external_inputs == ["a", "b", "c"]
    assert net.declared_inputs == {"a", "b", "c"}
    with pytest.raises(GraphError, match="already has an input 'a'"):
        net.AddExternalInput("a")
    net.Relu("i", "j")
    with pytest.raises(GraphError, match="already has an input 'i'"):
        net.AddExternalInput("i")
    assert net.AddExternalInput("j") == "j"


def test_scoped_inputs():
    net = Net("n")
    with NameScope("s"):
        assert net.AddExternalInput("a") == "a"
        assert net.AddScopedExternalInputs("b", "c") == ["s/b", "s/c"]
    assert net.external_inputs == ["a", "s/b", "s/c"]


def test_external_outputs():
    net = Net("n")
    y = net.Relu("x", "y")
    net.AddExternalOutput(y)
    net.AddExternalOutput("x", "y")
    assert net.external_outputs == ["y", "x", "y"]
    with pytest.raises(BlobNotFoundError, match="Did you mean"):
        net.AddExternalOutput("yy")


# Nets from nets.


@pytest.fixture
def chain():
    net = Net("n")
    net.Relu("a", "b")
    net.Scale("b", "c", scale=2.0)
    net.AddExternalInput("u")
    net.AddExternalOutput("c")
    net.add_attribute("k", 1)
    net.set_rand_seed(7)
    return net


def test_clone(chain):
    copied = chain.Clone("m")
    assert copied.Name() == "m"
    assert lines(copied) == lines(chain)
    assert [op.source for op in copied.operators] == [op.source for op in chain.operators]
    assert copied.external_inputs == ["a", "u"]
    assert all(blob.Net() is copied for blob in copied.external_inputs + copied.external_outputs)
    assert copied.declared_inputs == {"u"}
    assert copied.external_outputs == ["c"]
    assert copied.get_attributes("k") == [1]
    assert seeds(copied) == [7, 8]
    copied.Relu("c", "d")
    copied.add_attribute("k", 2)
    assert len(chain.operators) == 2
    assert chain.get_attributes("k") == [1]


def test_a_clone_is_called_after_its_original(chain):
    assert chain.Clone().Name() == "n_1"
    assert chain.Clone("n").Name() == "n_2"


def test_clone_with_other_blobs(chain):
    copied = chain.Clone("m", blob_remap={"a": "A", BlobReference("b"): "B", "c": "C", "u": "U"})
    assert lines(copied) == ["Relu(A) -> B", "Scale(B) -> C"]
    assert dict(copied.operators[1].arguments) == {"scale": 2.0}
    assert copied.external_inputs == ["A", "U"]
    assert copied.declared_inputs == {"U"}
    assert copied.external_outputs == ["C"]


def test_clone_of_some_operators(chain):
    copied = chain.Clone("m", op_id_mask=[1])
    assert lines(copied) == ["Scale(b) -> c"]
    # What comes from outside is as it was, unless asked.
    assert copied.external_inputs == ["a", "u"]
    assert copied.external_outputs == ["c"]
    copied = chain.Clone("o", op_id_mask=[1], update_external_list=True)
    assert (copied.external_inputs, copied.external_outputs) == (["b"], ["c"])


def test_net_of_a_net(chain):
    assert chain.Net("n").Name() == "n_1"
    assert chain.Net("x").operators == ()


def test_append_net(chain):
    net = Net("m")
    net.Relu("x", "a")
    assert net.AppendNet(chain) is net
    assert lines(net) == ["Relu(x) -> a", "Relu(a) -> b", "Scale(b) -> c"]
    assert net.external_inputs == ["x", "u"]
    assert net.declared_inputs == {"u"}
    assert net.external_outputs == ["c"]
    assert len(chain.operators) == 2


def test_a_net_can_be_appended_to_itself(chain):
    chain.AppendNet(chain)
    assert lines(chain) == ["Relu(a) -> b", "Scale(b) -> c"] * 2


# What else a net knows.


def seeds(net):
    return [op.device_option.random_seed for op in net.operators]


def test_seed():
    net = Net("n")
    for _ in range(3):
        net.UniformFill([], 1, shape=[2])
    assert not any(op.device_option.HasField("random_seed") for op in net.operators)
    net.set_rand_seed()
    assert seeds(net) == [100, 101, 102]
    net.set_rand_seed(7, sequence_seed=False)
    assert seeds(net) == [7, 7, 7]
    # Random ones that are added later have one, too.
    net.UniformFill([], 1, shape=[2], random_seed=5)
    net.UniformFill([], 1, shape=[2])
    net.Relu("x")
    assert seeds(net) == [7, 7, 7, 5, 7, 0]
    net.set_rand_seed(3)
    copied = net.Clone()
    copied.UniformFill([], 1, shape=[2])
    assert seeds(copied) == [3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(GraphError, match="not both"):
        net.set_rand_seed(7, seed_on_op_def=True)


def test_seeds_of_definitions():
    nets = [Net("n"), Net("n")]
    for net in nets:
        net.UniformFill([], "x", shape=[2])
        net.UniformFill([], "y", shape=[2])
        net.set_rand_seed(3, sequence_seed=False, seed_on_op_def=True)
    assert seeds(nets[0]) == seeds(nets[1])
    assert len(set(seeds(nets[0]))) == 2


def test_attributes():
    net = Net("n")
    net.add_attribute("k", 1)
    net.add_attribute("k", "two")
    assert net.get_attributes("k") == [1, "two"]
    assert net.get_attributes("none") == []
    net.get_attributes("k").append(3)
    assert net.get_attributes("k") == [1, "two"]


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.Relu("x"),
        lambda net: net.Const(1),
        lambda net: net.Python(print)([], []),
        lambda net: net.AddExternalInput("u"),
        lambda net: net.set_rand_seed(3),
        lambda net: net.AppendNet(Net("m").Relu("x").Net()),
        lambda net: net.AppendNet(Net("m").AddExternalInput("u").Net()),
        lambda net: net.AddGradientOperators(["y"]),
    ],
)
def test_every_change_counts(change):
    net = Net("n")
    net.Relu("x", "y")
    before = net.revision
    change(net)
    assert net.revision > before


def test_looking_is_no_change(chain):
    before = chain.revision
    chain.Clone()
    repr(chain), chain.operators, chain.external_inputs, chain.UsedBlobNames()
    with pytest.raises(UnknownArgumentError):
        chain.Relu("x", slope=1)
    assert chain.revision == before


def test_repr(chain):
    assert repr(chain) == "Net('n')\n    Relu(a) -> b\n    Scale(b) -> c"
    assert repr(Net("empty")) == "Net('empty')"


def test_lists_that_are_handed_out_are_copies(chain):
    chain.external_inputs.clear()
    chain.external_outputs.clear()
    assert chain.external_inputs == ["a", "u"]
    assert chain.external_outputs == ["c"]


@pytest.mark.parametrize("there_and_back", [pickle, cloudpickle, copy])
def test_nets_travel(chain, there_and_back):
    if there_and_back is copy:
        back = copy.deepcopy(chain)
    else:
        back = pickle.loads(there_and_back.dumps(chain))
    assert lines(back) == lines(chain)
    assert back.Name() == chain.Name()
    assert back.external_inputs == chain.external_inputs
    back.Relu("c", "d")
    assert len(chain.operators) == 2
