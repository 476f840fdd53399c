"""What a node's process is to have: `Node("trainer", threads=1, cpus=[0], nice=5)`.

Here is only what was asked for, and whether that makes sense on any machine. Whether this one can
give it is seen when the process starts (`cluster/placement.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from procession.errors import NodePropertyError
from procession.graph.source import Source, describe

NAMES = ("threads", "cpus", "nice")
"""All properties."""
NICEST = 19
LEAST_NICE = -20


def _whole(value: object) -> int | None:
    """A whole number of whatever type, None if it is none. True is none."""
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


@dataclass(frozen=True)
class NodeProperties:
    """What was said of a node; None where nothing was.

    Args:
        threads: Threads that the BLAS of its process may use.
        cpus: The numbers of the CPUs that its process may run on.
        nice: Its process's priority, from 19, the lowest, to -20; 0 is what processes usually have.
        node: The node, for messages.
        source: The line that said so, for messages.

    Raises:
        NodePropertyError: A value that makes no sense on any machine.
    """

    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    nice: int | None = None
    node: str | None = field(default=None, compare=False, repr=False)
    source: Source | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.threads is not None:
            threads = _whole(self.threads)
            if threads is None or threads < 1:
                raise self.refused("threads", "it is a whole number above 0")
            object.__setattr__(self, "threads", threads)
        if self.cpus is not None:
            object.__setattr__(self, "cpus", self._checked_cpus())
        if self.nice is not None:
            nice = _whole(self.nice)
            if nice is None or not LEAST_NICE <= nice <= NICEST:
                raise self.refused("nice", f"it is a whole number from {LEAST_NICE} to {NICEST}")
            object.__setattr__(self, "nice", nice)

    def _checked_cpus(self) -> tuple[int, ...]:
        wanted = "it is a list of at least one CPU number, such as [0, 1]"
        if isinstance(self.cpus, (str, bytes)) or not isinstance(self.cpus, Iterable):
            raise self.refused("cpus", wanted)
        cpus = [_whole(cpu) for cpu in self.cpus]
        if not cpus or any(cpu is None or cpu < 0 for cpu in cpus):
            raise self.refused("cpus", wanted)
        return tuple(sorted({cpu for cpu in cpus if cpu is not None}))

    def __bool__(self) -> bool:
        """Whether anything was said."""
        return any(True for _ in self.said())

    def __str__(self) -> str:
        return ", ".join(
            f"{name}={list(value) if isinstance(value, tuple) else value}"
            for name, value in self.said()
        )

    def said(self) -> Iterator[tuple[str, Any]]:
        """The name and value of each property of which something was said."""
        for name in NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def refused(
        self, name: str, why: str, *, possible: object = None, node: str | None = None
    ) -> NodePropertyError:
        """The error for a property that cannot be had.

        Args:
            name: The property.
            why: What can be had instead, as text.
            possible: The same as a value.
            node: The node, if it is not known here.
        """
        asked = getattr(self, name)
        shown = list(asked) if isinstance(asked, tuple) else asked
        node = node or self.node
        whose = "a node" if node is None else f"node {node!r}"
        text = f"{whose} cannot have {name}={shown!r}: {why}"
        if self.source is not None:
            text += f"\n  said at {describe(self.source)}"
        return NodePropertyError(
            text,
            node=node,
            property=name,
            asked=shown,
            possible=possible,
        )

    def merged(self, other: NodeProperties) -> NodeProperties:
        """What both say, where one says something and the other nothing, or the same.

        Raises:
            NodePropertyError: They disagree.
        """
        if not other:
            return self
        if not self:
            return other
        for name, value in other.said():
            mine = getattr(self, name)
            if mine is not None and mine != value:
                raise self._conflict(other, name)
        filled = {name: value for name, value in other.said() if getattr(self, name) is None}
        return replace(self, **filled) if filled else self

    def check_fits(self, other: NodeProperties, node: str | None = None) -> None:
        """See that a node that runs with these is as `other` wants it.

        Args:
            other: What is wanted.
            node: The node, if it is known to neither.

        Raises:
            NodePropertyError: It is not, and cannot be changed any more.
        """
        for name, value in other.said():
            mine = getattr(self, name)
            if mine != value:
                error = self._conflict(other, name)
                error.node = error.node or node
                error.message = (
                    f"node {error.node!r} was started with {str(self) or 'no properties'}"
                    f"{_said_at(self)}, and is to have {other}{_said_at(other)}: what a process "
                    f"has is settled when it starts. Say it where the node is first used, or in "
                    f"ProcessSession(nodes=[Node({error.node!r}, {other})])."
                )
                raise error

    def _conflict(self, other: NodeProperties, name: str) -> NodePropertyError:
        node = other.node or self.node
        return NodePropertyError(
            f"node {node!r} is to have {self}{_said_at(self)}, and {other}{_said_at(other)}: "
            f"a node has one value for {name!r}. Say it once; Node({node!r}) means the same node.",
            node=node,
            property=name,
            asked=getattr(other, name),
            possible=getattr(self, name),
        )


def _said_at(properties: NodeProperties) -> str:
    if properties.source is None:
        return ""
    return f" (said at {describe(properties.source)})"
