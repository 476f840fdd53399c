"""What cannot travel to a worker is named when it is compiled."""

import threading

import pytest

from procession import LocalSession, Net, ProcessSession, SerializationError
from procession.graph.operator import CreateOperator


def locked():
    lock = threading.Lock()

    def function(inputs, outputs):
        with lock:
            outputs[0].feed(inputs[0].data)

    return function


def test_a_function_that_cannot_be_shipped_is_named_at_compile_time():
    net = Net("n")
    net.Python(locked())(["x"], ["y"])
    with pytest.raises(SerializationError, match=r"its variable 'lock'") as caught:
        ProcessSession.compile(net)
    assert "argument 'func' of operator Python[function](x) -> y in net 'n'" in str(caught.value)
    assert "test_shipping.py" in str(caught.value)
    # In this process nothing travels.
    LocalSession.compile(net)


def test_one_within_a_nested_net_is_named_too():
    inner = Net("inner")
    inner.Python(locked())(["x"], ["y"])
    net = Net("n")
    net.Const(True, "c")
    net.extend_ops([CreateOperator("If", ["c", "x"], ["y"], then_net=inner.Proto())])
    with pytest.raises(SerializationError, match="in net 'inner'"):
        ProcessSession.compile(net)


def test_what_is_plain_is_not_pickled_twice():
    net = Net("n")
    net.Const([1.0, 2.0], "x")
    [program] = ProcessSession.compile(net).programs
    assert not program.carries_objects
    net.Python(lambda inputs, outputs: None)(["x"], [])
    [program] = ProcessSession.compile(net).programs
    assert program.carries_objects
