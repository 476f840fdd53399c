"""Node, Cluster, WorkspaceType: where tasks run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from procession.errors import GraphError, did_you_mean
from procession.graph.properties import NAMES, NodeProperties
from procession.graph.scope import DefaultManaged, Self
from procession.graph.source import user_line

LOCAL = "local"
"""The node of everything that names none."""
_SILENT = NodeProperties()


class WorkspaceType:
    """Where the tasks of a group run. Caffe2: task.WorkspaceType."""

    PRIVATE = "private"
    """In a child workspace per node: blobs new in it, but for task outputs, go with the run."""
    GLOBAL = "global"
    """In each node's global workspace, which lives as long as the session."""


def checked_workspace_type(workspace_type: str | None) -> str | None:
    """One of the above, or None.

    Raises:
        GraphError: It is none of them.
    """
    if workspace_type not in (None, WorkspaceType.PRIVATE, WorkspaceType.GLOBAL):
        raise GraphError(
            f"{workspace_type!r} is no workspace type: WorkspaceType.PRIVATE or .GLOBAL"
        )
    return workspace_type


class Cluster(DefaultManaged):
    """Keeps the names of the nodes used inside it, in order. Caffe2: task.Cluster."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Any]] = {}

    def add_node(self, node: Node) -> None:
        """Note that the node is used; keywords given with it are merged, the last one counts."""
        self._nodes.setdefault(str(node), {}).update(node.kwargs())

    def nodes(self) -> list[str]:
        """The names of the nodes, in order of first use."""
        return list(self._nodes)

    def node_kwargs(self) -> dict[str, dict[str, Any]]:
        """Node name -> the keywords given with it."""
        return self._nodes

    def __repr__(self) -> str:
        return f"Cluster(nodes={self.nodes()}, node_kwargs={self._nodes})"


class Node(DefaultManaged):
    """`with Node("n1"):` places the tasks made inside on the node n1. Caffe2: task.Node.

    Two `Node("n1")` are the same node. What one of them says of it holds for all; two that say
    different things of it do not go together in one run.

        with Node("trainer", threads=1, cpus=[0], nice=5):
            Task(step=net)

    In a `ProcessSession` the properties are those of the node's process, and settled when that
    starts. In a `LocalSession`, whose nodes are all in this process, they have no effect.

    Args:
        node: The name; everything that is on no node is on "local". Another Node means the same
            node, with the same properties.
        threads: Threads that the node's BLAS may use: at least 1. Left out, what the session has in
            `threads_per_node`, or the node's share of the cores.
        cpus: The numbers of the CPUs that its process may run on. Left out, those of this process.
        nice: The priority of its process: 19 is the lowest, 0 what processes usually have, and
            less than they have now is for privileged users. Left out, that of this process.

    Raises:
        NodePropertyError: A value that makes no sense, or another than a Node says in whose `with`
            block this one is used.
        TypeError: There is no such property.
        GraphError: An empty name.
    """

    def __init__(
        self,
        node: str | Node = LOCAL,
        *,
        threads: int | None = None,
        cpus: Iterable[int] | None = None,
        nice: int | None = None,
        **unknown: Any,
    ) -> None:
        name = str(node)
        if not name:
            raise GraphError("a node needs a name")
        for keyword in unknown:
            raise TypeError(
                f"a node has no property {keyword!r}: there are {', '.join(NAMES)}."
                f"{did_you_mean(keyword, NAMES)}"
            )
        self._name = name
        self._properties = _SILENT
        if threads is not None or cpus is not None or nice is not None:
            listed: Any = cpus
            self._properties = NodeProperties(threads, listed, nice, name, user_line())
        self._kwargs = dict(self._properties.said())
        if isinstance(node, Node):
            self._properties = self._properties.merged(node.properties)
        cluster = Cluster.current(required=False)
        if cluster is not None:
            cluster.add_node(self)

    @classmethod
    def _outside(cls: type[Self]) -> Self:
        # Not kept: each one makes itself known to the cluster that is current then.
        return cls()

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"Node(name={self._name}, kwargs={self._kwargs})"

    def kwargs(self) -> dict[str, Any]:
        """What it was made with, by name."""
        return self._kwargs

    @property
    def properties(self) -> NodeProperties:
        """What is said of the node: by this one, and by those of its name in whose blocks one is.

        Raises:
            NodePropertyError: They disagree.
        """
        properties = self._properties
        for around in Node._stack.get():
            if around is not self and around._name == self._name:
                properties = properties.merged(around._properties)
        return properties
