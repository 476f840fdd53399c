"""What the parts of the contract stand on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

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
    _shared: ClassVar[Session]

    def make(self, **options: Any) -> Session:
        """A new session."""
        raise NotImplementedError

    @classmethod
    def setup_class(cls) -> None:
        """Open the session that the tests of the class share."""
        cls._shared = cls().make()
        # With a node: the leak finder then knows it for older than the tests.
        cls._shared.workspace().feed_blob("x", 0)

    @classmethod
    def teardown_class(cls) -> None:
        """Close it."""
        cls._shared.close()
        del cls._shared

    @pytest.fixture
    def session(self) -> Session:
        """A session without blobs and runs, in which others of these tests were before."""
        shared = self._shared
        shared.cancel()
        for node in shared.nodes:
            workspace = shared.workspace(node)
            for name in workspace.names():
                workspace.remove_blob(name)
        return shared

    @pytest.fixture
    def own_session(self) -> Iterator[Session]:
        """A new session, for tests that close it or look at its nodes."""
        with self.make() as session:
            yield session

    def name_of(self, node: str) -> str:
        """What that node is called in messages of this session."""
        return node

    def works_on(self, session: Session) -> None:
        """Run something small."""
        session.run(constant("on", "on", 5))
        assert session.workspace().fetch_blob("on") == 5
