"""NodeStats: what a node has used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class NodeStats(Mapping[str, Any]):
    """What a node has used so far. Readable as attributes and as a mapping."""

    pid: int
    """The process it runs in."""
    rss_bytes: int
    """That process's resident memory."""
    cpu_seconds: float
    """User and system time of that process."""
    shared_bytes: int
    """Shared memory reserved for the node's blobs, used or pooled."""
    runs: int
    """Runs that the node completed."""
    plan_bytes: int
    """Bytes of plans shipped to it."""
    bytes_sent: int = 0
    """Bytes of all messages to it; tensors in shared memory are in none."""
    bytes_received: int = 0
    """Bytes of all messages from it."""
    restarts: int = 0
    """How often its process was replaced after it had died."""

    def __getitem__(self, name: str) -> Any:
        if name not in (field.name for field in fields(self)):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        return len(fields(self))
