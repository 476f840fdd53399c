"""Where one is while building."""

import asyncio
import threading

import pytest

from procession import Cluster, Net, Node, Task, TaskGroup, core
from procession.errors import ContextError
from procession.graph.scope import (
    CurrentNameScope,
    DefaultManaged,
    EmptyNameScope,
    Managed,
    NameScope,
)


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
        (None, True, ""),
        (None, False, "s/t/"),
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


def test_no_scope_inside_of_one():
    with NameScope("a"):
        with EmptyNameScope():
            assert CurrentNameScope() == ""
            with NameScope("b"):
                assert CurrentNameScope() == "b/"
        with pytest.raises(KeyError), EmptyNameScope():
            raise KeyError
        assert CurrentNameScope() == "a/"


@pytest.mark.parametrize("prefix", [3, b"a"])
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
    assert list(net.Proto().op[0].input) == ["a", "s/b"]
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
        ContextError, match="no current TaskGroup: this belongs in a `with TaskGroup`"
    ):
        TaskGroup.current()
    assert Task.current(required=False) is None


def test_some_have_a_default():
    assert str(Node.current()) == "local"
    assert Cluster.current().nodes() == []


def test_a_default_is_kept_by_its_thread():
    class Mine(DefaultManaged):
        pass

    found = []
    assert Mine.current(required=False) is None
    assert Mine.current() is Mine.current() is Mine.current(required=False)
    thread = threading.Thread(target=lambda: found.append(Mine.current()))
    thread.start()
    thread.join()
    assert found[0] is not Mine.current()
    with Mine() as inner:
        assert Mine.current() is inner
    assert Mine.current() is not inner


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


def test_an_object_is_current_for_its_bases_as_well():
    class Base(Managed):
        pass

    class Derived(Base):
        pass

    with Base() as base, Derived() as derived:
        assert Base.current() is Derived.current() is derived
        with Base() as inner:
            assert (Base.current(), Derived.current()) == (inner, derived)
        assert Managed.current(required=False) is None
    with base:
        assert Derived.current(required=False) is None


def test_blocks_are_left_in_order():
    first, second = TaskGroup(), TaskGroup()
    with first:
        with pytest.raises(ContextError, match="another order"):
            second.__exit__()
        assert TaskGroup.current() is first


def test_one_of_another_class_is_not_current():
    with pytest.raises(ContextError, match=r"TaskGroup.current takes a TaskGroup, not 'g'"):
        TaskGroup.current("g")


def test_one_can_decorate_a_function():
    class Mine(Managed):
        pass

    mine = Mine()

    @mine
    def current(add):
        """What it says."""
        return Mine.current(), add

    assert (current.__name__, current.__doc__) == ("current", "What it says.")
    assert current(add=1) == (mine, 1)
    assert Mine.current(required=False) is None


def test_errors_are_those_that_scripts_catch():
    with pytest.raises(AssertionError):
        TaskGroup.current()
