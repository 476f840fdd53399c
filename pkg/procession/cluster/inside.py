"""Whether this process is a worker. A worker, and a fork of one, starts no workers of its own.

A session in there would know nothing of the cores and the shared memory that the other nodes have
been given, its workers would be nobody's nodes, and what becomes of them would hang on an operator.
"""

from __future__ import annotations

from procession.errors import NestedSessionError

_node: str | None = None


def enter(node: str) -> None:
    """Note that this process is that node's worker."""
    global _node
    _node = node


def check_outside(what: str) -> None:
    """See that this process is no worker; `what` is wanted here.

    Raises:
        NestedSessionError: It is one.
    """
    if _node is None:
        return
    raise NestedSessionError(
        f"{what} cannot be opened here: this is the worker process of node {_node!r}. Let the "
        f"operator return what the coordinator's session is to run or feed next; a LocalSession, "
        f"or the workspace that an operator gets by pass_workspace=True, runs nets right here.",
        node=_node,
    )
