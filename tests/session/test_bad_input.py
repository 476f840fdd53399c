"""ProcessSession given what it cannot take: said at once, by name, and the session goes on."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    LocalSession,
    NestedSessionError,
    OperatorError,
    OutOfSharedMemoryError,
    ProcessionError,
    ProcessSession,
    SerializationError,
    Session,
)
from procession.testing.session_contract import constant

MIB = 1 << 20


def goes_on(session: Session, node: str = "a") -> None:
    run_on(session, node, constant("on", "on", 5))
    assert session.workspace(node).fetch_blob("on") == 5


# Objects that cannot travel.


class NotOut:
    def __reduce__(self) -> Any:
        raise ValueError("I stay here")


def _refuse() -> None:
    raise ValueError("not in here")


class NotIn:
    def __reduce__(self) -> Any:
        return _refuse, ()


def endless() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


def in_array(value: Any) -> np.ndarray:
    array = np.empty(2, object)
    array[0] = value
    return array


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (threading.Lock, "lock"),
        (lambda: in_array(threading.Lock()), "lock"),
        (lambda: (each for each in "abc"), "generator"),
        (NotOut, "I stay here"),
        (endless, "[Rr]ecursion"),
    ],
    ids=["lock", "array", "generator", "raises", "too deep"],
)
def test_what_cannot_be_pickled(session: ProcessSession, make: Callable[[], Any], why: str) -> None:
    workspace = session.workspace("a")
    workspace.feed_blob("x", 1)
    value = make()
    with pytest.raises(SerializationError, match=f"fed to blob 'x' cannot be pickled: .*{why}"):
        workspace.feed_blob("x", value)
    assert workspace.fetch_blob("x") == 1
    with pytest.raises(SerializationError):
        workspace.feed_blob("y", value)
    assert not workspace.has_blob("y")
    goes_on(session)


def test_what_cannot_be_unpickled_there(session: ProcessSession) -> None:
    workspace = session.workspace("a")
    workspace.feed_blob("x", 1)
    for name in "x", "y":
        with pytest.raises(SerializationError, match="not in here") as caught:
            workspace.feed_blob(name, NotIn())
        assert f"fed to blob {name!r} cannot be unpickled here" in str(caught.value)
    assert workspace.names() == ["x"]
    assert workspace.fetch_blob("x") == 1
    goes_on(session)


def test_what_a_worker_has_and_cannot_send(session: ProcessSession) -> None:
    def keep(inputs: Any, outputs: Any, workspace: Any) -> None:
        workspace.feed_blob("x", threading.Lock())

    run_on(session, "a", python_net(keep, pass_workspace=True))
    with pytest.raises(SerializationError, match=r"blob 'x' of node 'a' cannot be pickled: .*lock"):
        session.workspace("a").fetch_blob("x")
    goes_on(session)


@pytest.mark.parametrize("name", [None, 3, b"x"])
def test_names_that_are_none(session: ProcessSession, name: Any) -> None:
    workspace = session.workspace("a")
    for use in (
        workspace.fetch_blob,
        workspace.remove_blob,
        lambda name: workspace.feed_blob(name, 1),
    ):
        with pytest.raises(TypeError, match="a blob's name is a string or a BlobReference"):
            use(name)
    goes_on(session)


# More than there is.


def test_a_memory_limit_smaller_than_one_blob() -> None:
    with ProcessSession(memory_limit=MIB) as session:
        workspace = session.workspace("a")
        workspace.feed_blob("x", np.ones(1000))
        before = segments()

        def feed(name: str) -> None:
            workspace.feed_blob(name, np.zeros(4 * MIB, np.uint8))

        def fill(name: str) -> None:
            with workspace.new_blob(name, 4 * MIB, np.uint8):
                raise AssertionError("there is an array")

        for use, name in itertools.product((feed, fill), "xy"):
            with pytest.raises(OutOfSharedMemoryError, match=r"memory.limit") as caught:
                use(name)
            error = caught.value
            assert isinstance(error, MemoryError)
            assert isinstance(error, ProcessionError)
            assert (error.node, error.limit) == ("a", MIB)
            assert error.needed is not None
            assert error.needed >= 4 * MIB
            assert error.available is not None
            assert 0 <= error.available <= MIB
        assert segments() == before
        assert workspace.names() == ["x"]
        assert workspace.fetch_blob("x").sum() == 1000

        def large(inputs: Any, outputs: Any) -> None:
            outputs[0].feed(np.zeros(4 * MIB, np.uint8))

        with pytest.raises(OutOfSharedMemoryError, match=r"memory.limit"):
            run_on(session, "a", python_net(large, outputs=["z"]))
        assert not workspace.has_blob("z")
        goes_on(session)
        goes_on(session, "b")


# Sessions where there can be none.


def test_a_worker_opens_no_process_session(session: ProcessSession) -> None:
    def nest(inputs: Any, outputs: Any) -> None:
        ProcessSession(["b"])

    with pytest.raises(OperatorError, match="worker process of node 'a'") as caught:
        run_on(session, "a", python_net(nest))
    cause = caught.value.__cause__
    assert isinstance(cause, NestedSessionError)
    assert isinstance(cause, RuntimeError)
    assert cause.node == "a"
    assert "a ProcessSession cannot be opened here" in str(cause)
    goes_on(session)


@pytest.mark.parametrize("kind", [LocalSession, ProcessSession])
def test_a_session_does_not_travel(kind: type[Session]) -> None:
    with kind() as session:
        workspace = session.workspace("a")
        workspace.feed_blob("x", 1)
        for value in (session, workspace, workspace.blobs["x"], [session]):
            with pytest.raises(SerializationError, match=f"a {kind.__name__} cannot be copied"):
                cloudpickle.dumps(value)
        with pytest.raises(TypeError, match="belongs to the process that opened it"):
            copy.deepcopy(session)
        goes_on(session)


def test_an_operator_that_uses_the_session_that_runs_it(session: ProcessSession) -> None:
    inner = constant("inner", "y", 1)

    def run(inputs: Any, outputs: Any) -> None:
        session.run(inner)

    net = python_net(run)
    for use in (ProcessSession.compile, session.run):
        with pytest.raises(SerializationError) as caught:
            use(net)
        text = str(caught.value)
        assert "its variable 'session' = <ProcessSession, open" in text
        assert "a ProcessSession cannot be copied or sent to another process" in text
        assert "fetch what it needs" in text
        assert "is argument 'func' of operator Python" in text
    goes_on(session)


def test_an_operator_may_run_nets_in_a_session_of_its_own(session: ProcessSession) -> None:
    def nest(inputs: Any, outputs: Any) -> None:
        with LocalSession() as inner:
            inner.run(constant("inner", "x", 7))
            outputs[0].feed(inner.workspace().fetch_blob("x"))

    run_on(session, "a", python_net(nest, outputs=["y"]))
    assert session.workspace("a").fetch_blob("y") == 7


# Names.


@pytest.mark.parametrize("kind", [np.str_, type("Name", (str,), {})])
def test_names_of_other_kinds_of_string(kind: Callable[[str], str]) -> None:
    with ProcessSession() as session:
        workspace = session.workspace("n1")
        workspace.feed_blob(kind("small"), np.ones(3))
        workspace.feed_blob(kind("large"), np.ones(3000))
        with workspace.new_blob(kind("new"), 3000, np.float64) as array:
            array.fill(1)
        assert workspace.names() == ["large", "new", "small"]
        for name in workspace.names():
            assert workspace.fetch_blob(kind(name)).min() == 1
            workspace.remove_blob(kind(name))
        assert workspace.names() == []
