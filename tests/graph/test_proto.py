"""Messages: plain data that behaves as protocol buffers do."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession import Net
from procession.graph import proto
from procession.graph.proto import (
    Argument,
    DeviceOption,
    NetDef,
    OperatorDef,
    TensorProto,
    TensorShape,
)

# Fields.


def test_unset_fields_read_as_their_defaults():
    operator = OperatorDef()
    assert (operator.type, operator.is_gradient_op, operator.op_version) == ("", False, 0)
    assert operator.input == []
    assert operator.device_option.device_type == 0
    assert TensorProto().data_type == TensorProto.FLOAT
    assert not operator.HasField("type")
    assert not operator.HasField("device_option")
    assert operator.ListFields() == []


def test_scalars_are_checked():
    operator = OperatorDef(type="Relu")
    operator.type = b"Sum"
    assert operator.type == "Sum"
    with pytest.raises(TypeError, match=r"OperatorDef\.type: 3 is of type int"):
        operator.type = 3
    with pytest.raises(TypeError, match="whole number"):
        operator.op_version = 1.5
    with pytest.raises(AttributeError, match="no field 'inputs'"):
        operator.inputs = ["x"]
    with pytest.raises(AttributeError, match="no field 'inputs'"):
        operator.inputs  # noqa: B018
    with pytest.raises(ValueError, match="no field 'kind'"):
        OperatorDef(kind="Relu")


def test_lists_and_messages_are_changed_in_place():
    operator = OperatorDef(input=["x"])
    with pytest.raises(AttributeError, match="change it in place"):
        operator.input = ["y"]
    with pytest.raises(AttributeError, match="CopyFrom"):
        operator.device_option = DeviceOption()
    operator.input.extend(["y", "z"])
    del operator.input[0]
    operator.input[0] = "w"
    assert operator.input == ["w", "z"]
    with pytest.raises(TypeError):
        operator.input.append(3)
    with pytest.raises(AttributeError, match="append"):
        operator.input.add()


def test_messages_in_lists_are_copies():
    operator = OperatorDef(type="Relu")
    net = NetDef(op=[operator])
    net.op.append(operator)
    added = net.op.add(type="Sum")
    operator.type = "Copy"
    added.name = "last"
    assert [each.type for each in net.op] == ["Relu", "Relu", "Sum"]
    assert net.op[2].name == "last"
    with pytest.raises(TypeError, match="no OperatorDef"):
        net.op.append(DeviceOption())


def test_a_message_is_there_once_it_is_written_to():
    operator = OperatorDef()
    operator.device_option.random_seed = 3
    assert operator.HasField("device_option")
    other = OperatorDef()
    other.device_option.CopyFrom(DeviceOption())
    assert other.HasField("device_option")
    other.ClearField("device_option")
    assert not other.HasField("device_option")
    third = OperatorDef()
    third.device_option.SetInParent()
    assert third.HasField("device_option")
    with pytest.raises(ValueError, match="no single field 'input'"):
        operator.HasField("input")


def test_equality_is_of_contents():
    one, other = OperatorDef(type="Relu", input=["x"]), OperatorDef(type="Relu", input=["x"])
    assert one == other
    one.arg.add(name="a", i=1)
    assert one != other
    other.arg.append(Argument.of("a", 1))
    assert one == other
    # Reading does not change.
    one.output, one.device_option  # noqa: B018
    assert one == other
    assert one != NetDef()
    # Where it was made is not what it is.
    one.__dict__["source"] = ("script.py", 3, "main")
    assert one == other


def test_copies_stand_alone():
    net = NetDef(name="n", op=[OperatorDef(type="Relu", arg=[Argument.of("k", [1, 2])])])
    for made in (copy.deepcopy(net), copy.copy(net), pickle.loads(pickle.dumps(net))):
        assert made == net
        made.op[0].arg[0].ints.append(3)
        made.op[0].input.append("x")
        assert net.op[0].arg[0].ints == [1, 2]
        assert net.op[0].input == []


def test_merging_appends():
    net = NetDef(name="a", external_input=["x"])
    net.MergeFrom(NetDef(name="b", external_input=["y"]))
    assert (net.name, net.external_input) == ("b", ["x", "y"])
    with pytest.raises(TypeError, match="NetDef is wanted"):
        net.MergeFrom(DeviceOption())


# Arguments.


@pytest.mark.parametrize(
    ("value", "name", "seen"),
    [
        (3, "i", 3),
        (True, "i", 1),
        (np.int32(3), "i", 3),
        (0.5, "f", 0.5),
        (np.float32(0.5), "f", 0.5),
        ("text", "s", b"text"),
        (b"\xff", "s", b"\xff"),
        ([1, 2], "ints", [1, 2]),
        ((True, False), "ints", [1, 0]),
        ([1, 0.5], "floats", [1.0, 0.5]),
        (["a", b"b"], "strings", [b"a", b"b"]),
        (np.array([1, 2]), "ints", [1, 2]),
        (np.array([[0.5]]), "floats", [0.5]),
        (np.array(3), "i", 3),
        (np.array(["a"], object), "strings", [b"a"]),
        (NetDef(name="n"), "n", NetDef(name="n")),
        ([NetDef(name="n")], "nets", [NetDef(name="n")]),
        (TensorProto(name="t"), "t", TensorProto(name="t")),
    ],
)
def test_fields_are_views_of_a_value(value, name, seen):
    argument = Argument.of("a", value)
    assert getattr(argument, name) == seen
    assert argument.value is value or name in ("ints", "floats", "nets")
    others = set(Argument.FIELDS) - {name, "name"}
    for other in others:
        assert not getattr(argument, other) or other in ("n", "t")
    single = [each for each in others if not Argument.FIELDS[each].repeated]
    assert not any(argument.HasField(each) for each in single)
    assert Argument.FromString(argument.SerializeToString()) == argument


@pytest.mark.parametrize("value", [[], (), np.zeros(0), [1, "a"]])
def test_what_is_no_field(value):
    argument = Argument.of("a", value)
    assert [field.name for field, _ in argument.ListFields()] == ["name"]
    assert argument.value is value


def test_arguments_are_written_through_their_fields():
    argument = Argument(name="a", i=3)
    assert argument.value == 3
    argument.f = 0.25
    assert (argument.value, argument.i, argument.HasField("i")) == (0.25, 0, False)
    argument = Argument(name="a")
    argument.ints.extend([1, 2])
    assert argument.value == [1, 2]
    argument.ints[0] = 7
    assert argument.value == [7, 2]
    argument = Argument(name="a")
    argument.n.CopyFrom(NetDef(name="n"))
    argument.n.op.add(type="Relu")
    assert argument.value.op[0].type == "Relu"
    argument.ClearField("n")
    assert argument.value is None
    with pytest.raises(TypeError):
        argument.i = 0.5


def test_floats_are_shown_as_they_would_be_kept():
    assert Argument.of("a", 0.1).f == float(np.float32(0.1))
    assert Argument.of("a", 0.1).value == 0.1


def test_functions_are_arguments():
    def function():
        pass

    argument = Argument.of("func", function)
    assert argument.value is function
    assert argument == Argument.of("func", function)
    assert argument != Argument.of("func", print)
    # Bytes hold a token, which is good in this process.
    assert Argument.FromString(argument.SerializeToString()).value is function
    assert "function" in str(argument)


# Bytes and text.

names = st.text(max_size=5)
values = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
)
operators = st.builds(
    lambda type, input, output, arguments, seed, gradient: OperatorDef(
        type=type,
        input=input,
        output=output,
        arg=[Argument.of(*each) for each in arguments],
        device_option=None if seed is None else DeviceOption(random_seed=seed),
        is_gradient_op=gradient,
    ),
    names,
    st.lists(names, max_size=3),
    st.lists(names, max_size=3),
    st.lists(st.tuples(names, values), max_size=3),
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | st.booleans(),
)
nets = st.builds(
    lambda name, op, nested: NetDef(
        name=name,
        op=[*op, OperatorDef(type="If", arg=[Argument.of("then_net", NetDef(op=nested))])],
    ),
    names,
    st.lists(operators, max_size=3),
    st.lists(operators, max_size=2),
)


@given(nets)
def test_bytes_there_and_back(net):
    data = net.SerializeToString()
    assert NetDef.FromString(data) == net
    assert NetDef.FromString(data).SerializeToString() == data
    assert net.ByteSize() == len(data)


def test_the_bytes_are_those_of_protocol_buffers():
    # As protoc's own classes write this message.
    tensor = TensorProto(dims=[2, -1], data_type=1, float_data=[1.0, -0.5], name="t")
    assert tensor.SerializeToString().hex() == (
        "080208ffffffffffffffffff0110011a080000803f000000bf3a0174"
    )
    operator = OperatorDef(input=["x"], output=["y"], type="Scale", is_gradient_op=True)
    operator.arg.add(name="scale", f=0.5)
    operator.device_option.random_seed = 300
    assert operator.SerializeToString().hex() == (
        "0a01781201792205" + "5363616c65" + "2a0c0a057363616c65150000003f" + "32031" + "8ac024801"
    )


def test_unknown_fields_are_skipped():
    data = (
        b"\x0a\x01x" + b"\xf8\x06\x05" + b"\xfa\x06\x02hi" + b"\xfd\x06abcd" + b"\xf9\x06abcdefgh"
    )
    assert OperatorDef.FromString(data) == OperatorDef(input=["x"])


@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x0a\x05x", b"\x0b\x00", b"\x80" * 12, b"\x0a\x01\xff"]
)
def test_garbage_is_refused(data):
    with pytest.raises(ValueError, match="bytes"):
        OperatorDef.FromString(data)


def test_text():
    operator = OperatorDef(type="Relu", input=["x"], arg=[Argument.of("a", 'q"\n')])
    operator.arg.append(Argument.of("f", 0.5))
    assert str(operator).splitlines() == [
        'input: "x"',
        'type: "Relu"',
        "arg {",
        '  name: "a"',
        r'  s: "q\"\n"',
        "}",
        "arg {",
        '  name: "f"',
        "  f: 0.5",
        "}",
    ]


# A net is a face for its message.


def test_a_net_is_its_message():
    net = Net("n")
    net.Relu("x", "y")
    message = net.Proto()
    assert (message.name, message.external_input) == ("n", ["x"])
    assert message.op[0].input == ["x"]
    message.op[0].input[0] = "z"
    message.op.extend([OperatorDef(type="Copy", input=["y"], output=["w"])])
    assert repr(net) == "Net('n')\n    Relu(z) -> y\n    Copy(y) -> w"
    assert net.BlobIsDefined("w")
    message.external_input.append("v")
    net.Proto()
    assert net.is_external_input("v")


def test_changes_of_the_message_are_seen_by_sessions():
    net = Net("n")
    net.Relu("x", "y")
    before = net.revision
    message = net.Proto()
    known = net.revision
    assert net.revision == known
    message.op[0].type = "Tanh"
    assert net.revision not in (before, known)
    now = net.revision
    message.op[0].arg.add(name="a", floats=[1.0])
    assert net.revision != now


def test_a_net_of_a_message():
    net = Net("n")
    net.Relu("x", net.NextName())
    made = Net(net.Proto())
    assert made.Name() == "n_1"
    made.Proto().op[0].type = "Tanh"
    assert net.operators[0].type == "Relu"
    assert made.external_inputs == ["x"]
    again = Net(NetDef(name="m", op=[OperatorDef(type="Relu", input=["x"], output=["m_blob_7"])]))
    assert again.NextName() == "m_blob_8"


def test_messages_have_the_numbers_of_caffe2():
    assert (proto.TensorProto.FLOAT16, proto.TensorProto.INT64) == (12, 10)


def test_the_text_names_types_and_shows_floats_as_they_will_be_read():
    tensor = TensorProto(data_type=10, storage_type=2, float_data=[0.1, 1], double_data=[0.1, 1e22])
    assert str(tensor).splitlines() == [
        "data_type: INT64",
        "float_data: 0.10000000149011612",
        "float_data: 1.0",
        "double_data: 0.1",
        "double_data: 1e+22",
        "storage_type: RAW",
    ]
    assert str(TensorShape(data_type=99)) == "data_type: 99\n"
    assert str(Argument(name="a", f=float("nan"))) == 'name: "a"\nf: nan\n'
