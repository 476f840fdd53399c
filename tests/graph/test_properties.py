"""What is said of a node: values that make sense, said once, and by whom."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from procession import (
    Cluster,
    Net,
    Node,
    NodePropertyError,
    ProcessionError,
    Task,
    TaskGroup,
)
from procession.graph.properties import NodeProperties

SILENT = NodeProperties()


def test_what_a_node_is_to_have() -> None:
    node = Node("trainer", threads=1, cpus=[2, 0, 2], nice=5)
    assert node.properties == NodeProperties(threads=1, cpus=(0, 2), nice=5)
    assert node.kwargs() == {"threads": 1, "cpus": (0, 2), "nice": 5}
    assert repr(node) == "Node(name=trainer, kwargs={'threads': 1, 'cpus': (0, 2), 'nice': 5})"
    assert str(node.properties) == "threads=1, cpus=[0, 2], nice=5"
    assert Node("trainer").properties == Node("trainer", threads=None).properties == SILENT
    assert not SILENT
    assert NodeProperties(nice=0)


def test_numbers_of_any_type_and_cpus_of_any_kind() -> None:
    made = Node("n", threads=np.int64(2), cpus=(cpu for cpu in np.arange(2)), nice=np.int8(-3))
    assert made.properties == NodeProperties(2, (0, 1), -3)
    assert made.kwargs() == {"threads": 2, "cpus": (0, 1), "nice": -3}
    assert {type(value) for value in (made.properties.threads, *made.properties.cpus)} == {int}
    assert Node("n", cpus=range(3)).properties.cpus == (0, 1, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("threads", value) for value in (0, -1, 1.0, "1", True, np.True_, [1])),
        *(("nice", value) for value in (-21, 20, 0.5, "5", False, np.False_)),
        *(("cpus", value) for value in ([], 0, "0", b"0", [0.0], [-1], ["0"], [True], [None])),
    ],
)
def test_values_that_make_no_sense_anywhere(name: str, value: Any) -> None:
    with pytest.raises(NodePropertyError, match=f"node 'n' cannot have {name}=") as caught:
        Node("n", **{name: value})
    assert (caught.value.node, caught.value.property) == ("n", name)
    assert isinstance(caught.value, ProcessionError)
    assert isinstance(caught.value, ValueError)
    assert f"said at {__file__}:" in str(caught.value)
    if not isinstance(value, (list, bytes)):
        assert caught.value.asked == value


def test_a_property_that_there_is_not() -> None:
    with pytest.raises(TypeError, match=r"no property 'thread'.*Did you mean 'threads'\?"):
        Node("n", thread=1)
    with pytest.raises(TypeError, match="there are threads, cpus, nice"):
        Node("n", port=3)


def test_they_travel() -> None:
    properties = Node("n", threads=1, cpus=[0]).properties
    again = pickle.loads(pickle.dumps(properties))
    assert again == properties
    assert again.node == "n"
    assert hash(again) == hash(properties)


# Said more than once.


def test_one_that_says_nothing_fits_any() -> None:
    some = NodeProperties(threads=1)
    assert some.merged(SILENT) == SILENT.merged(some) == some.merged(some) == some
    assert some.merged(NodeProperties(nice=3)) == NodeProperties(threads=1, nice=3)
    assert Node(Node("n", threads=1)).properties == some
    assert Node(Node("n", threads=1), nice=2).properties == NodeProperties(threads=1, nice=2)


def test_those_that_disagree_are_both_named() -> None:
    first, second = Node("n", threads=1, nice=3), Node("n", threads=2)
    with pytest.raises(NodePropertyError) as caught:
        first.properties.merged(second.properties)
    text = str(caught.value)
    assert "node 'n' is to have threads=1, nice=3 (said at " in text
    assert "and threads=2 (said at " in text
    assert text.count(f"{__file__}:") == 2
    assert "a node has one value for 'threads'" in text
    error = caught.value
    assert (error.node, error.property, error.asked, error.possible) == ("n", "threads", 2, 1)


def test_a_running_node_fits_those_who_say_the_same_or_nothing() -> None:
    running = NodeProperties(threads=1, cpus=(0,), node="n")
    for wanted in (SILENT, running, NodeProperties(threads=1), NodeProperties(cpus=[0])):
        running.check_fits(wanted)
    for wanted in (NodeProperties(threads=2, node="n"), NodeProperties(nice=1, node="n")):
        with pytest.raises(NodePropertyError, match="node 'n' was started with threads=1, cpus="):
            running.check_fits(wanted)
    with pytest.raises(NodePropertyError, match="was started with no properties, and is to have"):
        SILENT.check_fits(NodeProperties(nice=1, node="n"))


def test_a_cluster_only_keeps_what_was_said_last() -> None:
    # The one outside any block lives as long as the thread, and a notebook's cell may be run again.
    with Cluster() as cluster:
        for threads in (1, 2):
            Node("n", threads=threads)
        Node("n", nice=1)
    assert cluster.node_kwargs() == {"n": {"threads": 2, "nice": 1}}


# What tasks and groups know.


def test_a_task_knows_what_was_said_of_its_node() -> None:
    with Node("n", threads=1):
        inside = Task()
        with Node("n", nice=1):
            further = Task()
        named = Task(node="n")
        elsewhere = Task(node=Node("m", cpus=[0]))
        with Node("m"):
            silent = Task()
    assert inside.node_properties == named.node_properties == NodeProperties(threads=1)
    assert further.node_properties == NodeProperties(threads=1, nice=1)
    assert elsewhere.node_properties == NodeProperties(cpus=(0,))
    assert silent.node_properties == Task(node="n").node_properties == SILENT


def test_blocks_of_one_node_cannot_disagree() -> None:
    around = Node("n", threads=1), Node("m", threads=2), Node("n", threads=2)
    with around[0], around[1], around[2], pytest.raises(NodePropertyError, match="threads=1"):
        Task()


def test_a_group_brings_together_what_its_tasks_say() -> None:
    with TaskGroup() as group:
        with Node("n"):
            Task()
        with Node("n", threads=1):
            Task()
        with Node("m", nice=2), Task():
            pass
        with Node("l"):
            Task()
    group.report_net(Net("report"), node=Node("n", nice=3))
    group.report_step(node=Node("l", cpus=[0]))
    assert group.node_properties() == {
        "n": NodeProperties(threads=1, nice=3),
        "m": NodeProperties(nice=2),
        "l": NodeProperties(cpus=(0,)),
    }
    with pytest.raises(NodePropertyError, match=r"threads=1.*threads=4"):
        Task(node=Node("n", threads=4), group=group)
    assert group.num_registered_tasks() == 4


def test_a_group_by_node_keeps_what_is_said_of_nodes_that_stay() -> None:
    with TaskGroup() as group:
        Task(node=Node("a", threads=1))
        Task(node=Node("b", threads=2))
    by_node = group.tasks_by_node(lambda node: {"b": "c"}.get(node, node))
    assert by_node.node_properties() == {"a": NodeProperties(threads=1), "c": SILENT}
