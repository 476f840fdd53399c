"""Where one is while building."""

import asyncio
import threading

import pytest

from procession import Cluster, GraphError, Net, Node, Task, TaskGroup, core
from procession.graph.scope import CurrentNameScope, DefaultManaged, Managed, NameScope


def test_there_is_no_scope_at_first():
    assert CurrentNameScope() == ""


def test_scopes_nest():
    with NameScope("a") as outer:
        assert outer == "a/"
        with NameScope("b") as inner:
            assert inner == CurrentNameScope() == "a/b/"
        assert CurrentNameScope() == "a/"
    assert CurrentNameScope() == ""


@pytest.mark.parametrize(
    ("prefix", "reset", "expected"),
    [
        ("r", True, "r/"),
        ("", True, ""),
        ("", False, "s/t/"),
        ("a/b", False, "s/t/a/b/"),
    ],
)
def test_what_a_scope_makes_of_the_one_around(prefix, reset, expected):
    with NameScope("s"), NameScope("t"):
        with NameScope(prefix, reset=reset):
            assert CurrentNameScope() == expected
        assert CurrentNameScope() == "s/t/"


def test_a_scope_ends_with_an_error():
    with pytest.raises(KeyError), NameScope("a"):
        raise KeyError
    assert CurrentNameScope() == ""


@pytest.mark.parametrize("prefix", [None, 3, b"a"])
def test_a_scope_is_a_string(prefix):
    with pytest.raises(TypeError, match="NameScope takes a string"), NameScope(prefix):
        pass


def test_strings_are_scoped_and_references_are_not():
    net = Net("n")
    reference = core.BlobReference("a")
    with NameScope("s"):
        out = net.Add([reference, "b"], "c")
        assert core.ScopedName("x") == "s/x"
        assert core.ScopedBlobReference("x", net) == "s/x"
        assert core.ScopedBlobReference("x", net).Net() is net
    assert net.operators[0].inputs == ("a", "s/b")
    assert out == "s/c"


def test_each_thread_is_somewhere_else():
    seen = {}

    def look():
        seen["scope"] = CurrentNameScope()
        seen["node"] = str(Node.current())
        seen["group"] = TaskGroup.current(required=False)
        with NameScope("mine"), Node("n9"):
            seen["inside"] = CurrentNameScope(), str(Node.current())

    with NameScope("main"), Node("n1"), TaskGroup():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert CurrentNameScope() == "main/"
        assert str(Node.current()) == "n1"
    assert seen == {"scope": "", "node": "local", "group": None, "inside": ("mine/", "n9")}


def test_each_asyncio_task_is_somewhere_else():
    async def build(name, mine, other):
        with NameScope(name), Node(name):
            mine.set()
            await asyncio.wait_for(other.wait(), 10)
            return CurrentNameScope(), str(Node.current())

    async def both():
        first, second = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(build("a", first, second), build("b", second, first))

    assert asyncio.run(both()) == [("a/", "a"), ("b/", "b")]


def test_the_innermost_is_current():
    with Node("n1") as outer:
        assert Node.current() is outer
        with Node("n2") as inner:
            assert Node.current() is inner
        assert Node.current() is outer
        assert Node.current(inner) is inner


def test_one_can_be_entered_twice():
    node = Node("n")
    with node, Node("m"), node:
        assert Node.current() is node


def test_none_is_current_outside():
    with pytest.raises(
        GraphError, match="no current TaskGroup: this belongs in a `with TaskGroup`"
    ):
        TaskGroup.current()
    assert Task.current(required=False) is None


def test_some_have_a_default():
    assert str(Node.current()) == "local"
    assert Cluster.current().nodes() == []
    assert Cluster.current() is not Cluster.current()


def test_classes_have_stacks_of_their_own():
    class One(Managed):
        pass

    class Two(DefaultManaged):
        pass

    with One() as one:
        assert One.current() is one
        assert isinstance(Two.current(), Two)
    with Two():
        assert One.current(required=False) is None


def test_what_is_current_ends_with_an_error():
    with pytest.raises(KeyError), TaskGroup():
        raise KeyError
    assert TaskGroup.current(required=False) is None
