"""BlobReference: a name, and a net."""

import copy
import pickle

import pytest

from procession import BlobReference, GraphError, Net, UnknownOperatorError
from procession.graph.operator import signature_of


def test_equals_its_name_and_hashes_like_it():
    blob = BlobReference("a")
    assert blob == "a"
    assert "a" == blob  # noqa: SIM300 - the other way round is another method
    assert blob == BlobReference("a", Net("n"))
    assert blob != "b"
    assert blob != BlobReference("b")
    assert hash(blob) == hash("a")
    assert {blob: 1}["a"] == 1
    assert {"a": 1}[blob] == 1


def test_notes_belong_to_one_reference():
    blob = BlobReference("a")
    assert blob.meta == {}
    blob.meta["seen"] = True
    assert blob.meta == {"seen": True}
    assert BlobReference(blob).meta == {}
    blob.meta = {"other": 1}
    assert blob.meta == {"other": 1}
    assert pickle.loads(pickle.dumps(blob)).meta == {}


@pytest.mark.parametrize("other", [None, 3, b"a", ["a"]])
def test_equals_nothing_else(other):
    assert BlobReference("a") != other


def test_shows_its_name():
    assert str(BlobReference("s/a")) == "s/a"
    assert repr(BlobReference("s/a")) == 'BlobReference("s/a")'


def test_adding_text_keeps_the_net():
    net = Net("n")
    blob = BlobReference("a", net)
    assert blob + "_w" == "a_w"
    assert "w_" + blob == "w_a"
    assert (blob + "_w").Net() is net
    assert ("w_" + blob).Net() is net
    with pytest.raises(TypeError):
        blob + 3
    with pytest.raises(TypeError):
        3 + blob


def test_the_name_is_all_that_a_reference_takes_from_another():
    net = Net("n")
    assert BlobReference(BlobReference("a", net)).Net() is None
    assert BlobReference(BlobReference("a"), net) == "a"


@pytest.mark.parametrize("name", [3, None, b"a", ["a"]])
def test_a_name_is_a_string(name):
    with pytest.raises(TypeError, match="a blob's name is a string, not"):
        BlobReference(name)


@pytest.mark.parametrize(
    ("name", "scope", "rest"),
    [("r", "", "r"), ("p/r", "p/", "r"), ("p/q/r", "p/q/", "r"), ("p/", "p/", "")],
)
def test_scope_and_rest(name, scope, rest):
    assert BlobReference(name).GetNameScope() == scope
    assert BlobReference(name).GetUnscopedName() == rest


def test_operators_are_methods():
    net = Net("n")
    x = net.AddExternalInput("x")
    assert x.Net() is net
    assert x.Relu() == "n/Relu"
    assert x.Add("y") == "n/Add"
    assert x.Add(["y"], "out") == "out"
    assert x.Relu([], "z") == "z"
    assert x.Scale(outputs="s", scale=2.0) == "s"
    assert [signature_of(operator) for operator in net.operators] == [
        "Relu(x) -> n/Relu",
        "Add(x, y) -> n/Add",
        "Add(x, y) -> out",
        "Relu(x) -> z",
        "Scale(x) -> s",
    ]
    assert dict(net.operators[-1].arguments) == {"scale": 2.0}


def test_what_an_operator_returns_goes_on():
    net = Net("n")
    y = net.Relu("x").Sigmoid().Tanh()
    assert y == "n/Tanh"
    assert len(net.operators) == 3


def test_dir_shows_operators():
    assert {"Relu", "FC", "Net", "GetNameScope"} <= set(dir(BlobReference("x")))


def test_without_a_net_there_is_nothing_to_add_to():
    with pytest.raises(GraphError, match=r"blob 'x' belongs to no net: call net\.Relu"):
        BlobReference("x").Relu()


def test_no_such_operator():
    with pytest.raises(UnknownOperatorError, match="a BlobReference has no 'Rleu'") as caught:
        BlobReference("x", Net("n")).Rleu()
    assert isinstance(caught.value, AttributeError)
    assert "Relu" in caught.value.suggestions
    assert not hasattr(BlobReference("x"), "Rleu")


def test_no_magic_is_taken_for_an_operator():
    assert not hasattr(BlobReference("x"), "__array__")
    assert not hasattr(BlobReference("x"), "__len__")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_as_its_name(protocol):
    net = Net("n")
    net.add_attribute("lambda", lambda: None)
    back = pickle.loads(pickle.dumps(BlobReference("s/a", net), protocol))
    assert back == "s/a"
    assert isinstance(back, BlobReference)
    assert back.Net() is None


def test_copies():
    blob = BlobReference("a", Net("n"))
    assert copy.copy(blob) == copy.deepcopy(blob) == "a"


def test_a_reference_without_a_net_has_no_operators():
    with pytest.raises(GraphError, match="belongs to no net"):
        BlobReference("x").Relu()
    assert not hasattr(BlobReference("x"), "Relu")
