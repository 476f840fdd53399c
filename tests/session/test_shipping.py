"""What cannot travel to a worker is named when it is compiled; what can is shipped once."""

import gc
import threading

import pytest
from tests.session.process_nodes import run_on

from procession import LocalSession, Net, ProcessSession, SerializationError
from procession.graph.operator import CreateOperator
from procession.testing.session_contract import constant


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


def building(x, lock, *rest, **more):
    """Builds a function."""


class Building:
    """Its calls have no signature to look at."""

    __signature__ = "none"

    def __call__(self, *args):
        """Builds a function."""


@pytest.mark.parametrize(
    ("func", "named"),
    [
        ((building, (1, threading.Lock())), "argument lock of builder building"),
        ((building, [1, threading.Lock()], {}), "argument lock of builder building"),
        ((building, (1,), {"lock": threading.Lock()}), "argument lock of builder building"),
        ((building, (1, 2, 3, threading.Lock())), "argument 3 of builder building"),
        ((building, (1, 2), {"key": threading.Lock()}), "argument key of builder building"),
        ((building, (), {"x": [threading.Lock()]}), "argument x of builder building"),
        ((Building(), (1, threading.Lock())), "argument 1 of builder <.*Building object"),
        ((locked(), (1,)), "its variable 'lock'"),
    ],
)
def test_the_argument_of_a_builder_is_named(func, named):
    net = Net("n")
    net.Python(func)(["x"], ["y"])
    with pytest.raises(SerializationError, match=rf"for {named}.* = \S.*, cannot be pickled"):
        ProcessSession.compile(net)


def test_what_is_plain_is_not_pickled_twice():
    net = Net("n")
    net.Const([1.0, 2.0], "x")
    [program] = ProcessSession.compile(net).programs
    assert not program.carries_objects
    net.Python(lambda inputs, outputs: None)(["x"], [])
    [program] = ProcessSession.compile(net).programs
    assert program.carries_objects


def test_a_plan_whose_shipping_was_interrupted_is_shipped_again(monkeypatch):
    with ProcessSession(["a", "b"]) as session:
        handle = session._supervisor.nodes["a"]

        def interrupted(*args):
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(handle, "_post", interrupted)
        net = constant("x", "x", 3)
        with pytest.raises(KeyboardInterrupt):
            run_on(session, "a", net)
        run_on(session, "a", net)
        assert session.workspace("a").fetch_blob("x") == 3


def test_a_node_is_not_told_of_plans_that_it_never_had():
    with ProcessSession(["a", "b"]) as session:
        for _ in range(3):
            run_on(session, "a", constant("x", "x", 3))
        gc.collect()
        assert session._supervisor.nodes["a"]._forgotten
        assert not session._supervisor.nodes["b"]._forgotten
