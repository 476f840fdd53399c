"""What the parts of the contract stand on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from procession.graph.net import Net
from procession.session.base import Session

SMALL, LARGE = (3,), (2048,)
"""Shapes of float32 tensors below and above the size that goes to shared memory."""


def constant(name: str, blob: str, value: Any) -> Net:
    """A net that writes one blob."""
    net = Net(name)
    net.Const(value, blob)
    return net


class ContractBase:
    """What the parts of the contract need. `isolates`: whether nodes are kept apart."""

    isolates = True

    def make(self, **options: Any) -> Session:
        """A new session."""
        raise NotImplementedError

    @pytest.fixture
    def session(self) -> Iterator[Session]:
        """A session that is closed after the test."""
        with self.make() as session:
            yield session

    def name_of(self, node: str) -> str:
        """What that node is called in messages of this session."""
        return node

    def works_on(self, session: Session) -> None:
        """Run something small."""
        session.run(constant("on", "on", 5))
        assert session.workspace().fetch_blob("on") == 5
