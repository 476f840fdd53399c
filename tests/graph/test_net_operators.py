"""Net: operators as its methods, Const and Python among them, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from procession import (
    BlobReference,
    LocalSession,
    NameScope,
    Net,
    OperatorSignatureError,
    UnknownArgumentError,
    UnknownOperatorError,
    core,
)
from procession.graph.operator import signature_of
from procession.operators import REGISTRY


def lines(net):
    return [signature_of(each) for each in net.operators]


# Operators as methods.


def test_operators_are_methods():
    net = Net("n")
    y = net.FC(["x", "w", "b"], "y", axis=1, name="first")
    assert isinstance(y, BlobReference)
    assert y.Net() is net
    [made] = net.operators
    assert (made.type, made.input, made.output) == ("FC", ["x", "w", "b"], ["y"])
    assert dict(made.arguments) == {"axis": 1}
    assert made.name == "first"
    assert Path(made.source[0]) == Path(__file__)
    assert lines(net) == ["FC(x, w, b) -> y"]


def test_forms_of_inputs_and_outputs(pair):
    net = Net("n")
    x = BlobReference("x")
    assert net.Relu(x, "y") == net.Relu([x], ["y"]) == net.Relu("x", BlobReference("y")) == "y"
    assert net.Relu((x,), ("y",)) == "y"
    assert net.TestPair(x, ["a", "b"]) == ("a", "b")
    assert net.Print(x) is None
    assert net.Print(x, []) is None
    assert net.ConstantFill([], "c", shape=[2]) == net.ConstantFill(outputs="c") == "c"


def test_a_reference_of_another_net_becomes_one_of_this():
    other, net = Net("other"), Net("n")
    assert net.Relu(other.Relu("x"), other.Relu("x")).Net() is net


def test_dir_and_documentation():
    net = Net("n")
    assert {"Relu", "FC", "AddGradientOperators", "Const"} <= set(dir(net))
    assert set(REGISTRY) <= set(dir(net))
    assert net.Relu.__name__ == "Relu"
    assert "larger of X and 0" in net.Relu.__doc__


def test_user_operators_are_methods_too(pair):
    assert "TestPair" in dir(Net("n"))
    assert Net("n").TestPair.__doc__ == "So many copies of X."


def test_no_such_operator():
    with pytest.raises(UnknownOperatorError, match="'Rleu' is not a registered op") as caught:
        Net("n").Rleu("x")
    error = caught.value
    assert isinstance(error, AttributeError)
    assert error.operator == "Rleu"
    assert "Relu" in error.suggestions
    assert "Did you mean 'Relu'" in str(error)
    assert not hasattr(Net("n"), "Rleu")
    assert not hasattr(Net("n"), "_relu")
    assert not hasattr(Net("n"), "__array__")


def test_case_does_not_hide_the_nearest():
    with pytest.raises(UnknownOperatorError, match="Did you mean 'Softmax'"):
        Net("n").softmax("x")


def test_no_such_argument():
    with pytest.raises(UnknownArgumentError, match="FC has no argument 'axes'") as caught:
        Net("n").FC(["x", "w", "b"], axes=1)
    error = caught.value
    assert isinstance(error, TypeError)
    assert (error.operator, error.argument) == ("FC", "axes")
    assert "Did you mean 'axis'" in str(error)
    assert "It has: axis, axis_w." in str(error)
    with pytest.raises(UnknownArgumentError, match="It has: none"):
        Net("n").Relu("x", slope=1)


def test_out_is_no_argument():
    with pytest.raises(UnknownArgumentError, match="Relu has no argument 'out'"):
        Net("n").Relu("x", out="y")


def test_an_argument_is_missing():
    with pytest.raises(OperatorSignatureError, match="GivenTensorFill needs the argument 'values'"):
        Net("n").GivenTensorFill([], "x", shape=[2])


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda net: net.FC(["x", "w"]), r"FC takes 3 inputs \(x, w, b\), not 2: \['x', 'w'\]"),
        (lambda net: net.Relu(["x", "y"]), r"Relu takes 1 input \(x\), not 2"),
        (lambda net: net.Relu(), r"Relu takes 1 input \(x\), not 0"),
        (lambda net: net.MatMul(["a"] * 4), "MatMul takes 2 to 3 inputs"),
        (lambda net: net.Sum([]), r"Sum takes 1 or more inputs"),
        (lambda net: net.Relu("x", ["y", "z"]), r"Relu takes 1 output, not 2: \['y', 'z'\]"),
        (lambda net: net.Relu("x", []), "Relu takes 1 output, not 0"),
        (lambda net: net.Relu("x", 2), "Relu takes 1 output, not 2"),
    ],
)
def test_wrong_counts(add, message):
    net = Net("n")
    with pytest.raises(OperatorSignatureError, match=message) as caught:
        add(net)
    assert isinstance(caught.value, TypeError)
    assert net.operators == ()
    assert net.external_inputs == []
    assert net.revision == 0


@pytest.mark.parametrize("what", [3, 2.5, np.zeros(2), True])
def test_a_number_is_no_blob(what):
    with pytest.raises(OperatorSignatureError, match=r"Relu: a blob .* use net.Const\(value\)"):
        Net("n").Relu(what)
    with pytest.raises(OperatorSignatureError, match="Add: a blob"):
        Net("n").Add(["x", what])


@pytest.mark.parametrize("what", [None, {"x": 1}, object(), [["x"]]])
def test_other_things_are_no_blobs(what):
    with pytest.raises(OperatorSignatureError, match="a blob is a BlobReference or a name, not"):
        Net("n").Relu(what)


# Const.


@pytest.mark.parametrize(
    ("value", "options", "operator", "expected"),
    [
        (1, {}, "GivenTensorInt64Fill", np.int64(1)),
        ([1, 2], {}, "GivenTensorInt64Fill", np.int64([1, 2])),
        (1.5, {}, "GivenTensorFill", np.float32(1.5)),
        ([[1.0, 2.0]], {}, "GivenTensorFill", np.float32([[1, 2]])),
        (np.float64(2), {}, "GivenTensorFill", np.float32(2)),
        (np.float16([1.5]), {}, "GivenTensorFill", np.float32([1.5])),
        ([], {}, "GivenTensorFill", np.float32([])),
        (np.int32([1, 2]), {}, "GivenTensorIntFill", np.int32([1, 2])),
        (np.int8([-1]), {}, "GivenTensorInt64Fill", np.int64([-1])),
        (np.uint8([255]), {}, "GivenTensorInt64Fill", np.int64([255])),
        (True, {}, "ConstantFill", np.bool_(True)),
        ([True, False], {}, "GivenTensorBoolFill", np.array([True, False])),
        (2, {"dtype": np.int32}, "GivenTensorIntFill", np.int32(2)),
        (1, {"dtype": core.DataType.FLOAT}, "GivenTensorFill", np.float32(1)),
        (1.5, {"dtype": np.float64}, "GivenTensorDoubleFill", np.float64(1.5)),
        ("s", {}, "GivenTensorStringFill", np.array("s", object)),
        (["a", b"b\0"], {}, "GivenTensorStringFill", np.array(["a", b"b\0"], object)),
        (np.array(["ab"]), {}, "GivenTensorStringFill", np.array(["ab"], object)),
        (np.zeros((0, 3), np.float32), {}, "GivenTensorFill", np.zeros((0, 3), np.float32)),
    ],
)
def test_const(value, options, operator, expected):
    net = Net("n")
    blob = net.Const(value, **options)
    assert blob == f"n/{operator}:0"
    with LocalSession() as session:
        session.run(net)
        fetched = session.workspace().fetch_blob(blob)
    np.testing.assert_array_equal(fetched, expected)
    assert fetched.dtype == expected.dtype
    assert fetched.shape == expected.shape


def test_const_names():
    net = Net("n")
    assert [net.Const(1), net.Const(1)] == [
        "n/GivenTensorInt64Fill:0",
        "n/GivenTensorInt64Fill_2:0",
    ]
    assert net.Const(1, blob_out="given") == "given"
    assert net.Const(1, BlobReference("too")) == "too"
    with NameScope("s"):
        assert net.Const(1) == "s/n/GivenTensorInt64Fill:0"


def test_const_keeps_a_copy_of_nothing_that_changes():
    values = np.float32([1, 2])
    net = Net("n")
    net.Const(values, "x")
    values[:] = 7
    with LocalSession() as session:
        session.run(net)
        np.testing.assert_array_equal(session.workspace().fetch_blob("x"), [1, 2])


@pytest.mark.parametrize("value", [None, [None], {"a": 1}, 1j, [object()], ["a", 1]])
def test_what_is_no_constant(value):
    with pytest.raises(TypeError, match="Const"):
        Net("n").Const(value)


# Python.


def test_python():
    def double(inputs, outputs):
        outputs[0].feed(inputs[0].data * 2)

    net = Net("n")
    assert net.Python(double)(["x"], ["y"]) == "y"
    assert net.Python(double)("x") == "n/Python"
    assert net.Python(double)("x", 2) == ("n/Python:0", "n/Python:1")
    assert net.Python(double)([], []) is None
    assert [op.arguments["n_outputs"] for op in net.operators] == [1, 1, 2, 0]
    assert net.operators[0].arguments["func"] is double
    assert net.external_inputs == ["x"]


def test_python_class():
    class Doubler:
        def __init__(self, f):
            self.factor = f

        def forward(self, inputs, outputs):
            outputs[0].feed(inputs[0].data * self.factor)

        def backward(self, inputs, outputs):
            outputs[0].feed(inputs[2].data * self.factor)

    net = Net("n")
    y = net.Python(np.float32(3), python_func_type=Doubler)(["x"], "y")
    gradients = net.AddGradientOperators([y])
    with LocalSession() as session:
        session.workspace().feed_blob("x", np.float32([1, 2]))
        session.run(net)
        np.testing.assert_array_equal(session.workspace().fetch_blob("y"), [3, 6])
        np.testing.assert_array_equal(session.workspace().fetch_blob(gradients["x"]), [3, 3])
