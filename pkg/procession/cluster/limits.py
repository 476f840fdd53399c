"""Limits: what a session lets its workers do before it loses patience."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """How long things may take, in seconds, and how often they may go wrong."""

    start: float = 60.0
    """Until a worker has started."""
    blob: float = 60.0
    """Until a worker answers a question about a blob."""
    close: float = 2.0
    """Until workers have ended by themselves when the session closes."""
    restarts: int = 0
    """How often a node is brought back."""
