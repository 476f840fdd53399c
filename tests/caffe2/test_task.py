"""task.Node: keywords of any name are kept, as in Caffe2."""

from __future__ import annotations

import pytest
from caffe2.python import core
from caffe2.python.task import Cluster, Node, Task, TaskGroup

import procession
from procession.graph.properties import NodeProperties


def test_a_node_keeps_its_keywords() -> None:
    with Cluster() as cluster:
        with Node("a", port=1, host="h"):
            pass
        Node("a", port=2, rack=3)
        Node("b")
    assert cluster.nodes() == ["a", "b"]
    assert cluster.node_kwargs() == {"a": {"port": 2, "host": "h", "rack": 3}, "b": {}}
    assert Node("a", port=1).kwargs() == {"port": 1}
    assert repr(Node("a", port=1)) == "Node(name=a, kwargs={'port': 1})"
    assert str(Node()) == "local"
    assert Node(Node("a", port=1)).kwargs() == {}


def test_those_that_procession_knows_have_their_meaning() -> None:
    node = Node("a", threads=2, port=1)
    assert node.kwargs() == {"threads": 2, "port": 1}
    with node:
        task = Task(step=core.Net("n"))
    assert task.node == "a"
    assert task.node_properties == NodeProperties(threads=2)
    with pytest.raises(procession.NodePropertyError):
        Node("a", nice=99)


def test_it_is_the_current_node_of_both() -> None:
    with Node("a"):
        assert str(Node.current()) == str(procession.Node.current()) == "a"
        with procession.Node("b"), TaskGroup() as group:
            assert str(Node.current()) == str(procession.Node.current()) == "b"
            assert Task().node == "b"
        assert group.used_nodes() == ["b"]
    assert str(Node.current()) == "local"
    assert Node.current(required=False) is None
    given = Node("c")
    assert Node.current(given) is given
