"""Node, Cluster, WorkspaceType: where tasks run."""

from __future__ import annotations

from typing import Any

from procession.errors import GraphError
from procession.graph.scope import DefaultManaged, Self

LOCAL = "local"
"""The node of everything that names none."""


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
        """Note that the node is used; keywords given with it are merged."""
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

    Only the name counts: two `Node("n1")` are the same node.

    Args:
        node: The name; everything that is on no node is on "local".
        kwargs: Anything to keep with the node in its `Cluster`.
    """

    def __init__(self, node: str | Node = LOCAL, **kwargs: Any) -> None:
        name = str(node)
        if not name:
            raise GraphError("a node needs a name")
        self._name = name
        self._kwargs = kwargs
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
        """The keywords it was made with."""
        return self._kwargs
