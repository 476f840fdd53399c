"""The session that graphs are run in, one of each kind; and operators with several outputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from procession import LocalSession, ProcessSession, Session, operator
from procession.operators import REGISTRY

SESSIONS = {
    "local": LocalSession,
    "isolated": partial(LocalSession, isolate=True),
    "process": ProcessSession,
}


@pytest.fixture(params=SESSIONS)
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    with SESSIONS[request.param]() as session:
        yield session


@pytest.fixture
def pair() -> Iterator[None]:
    """TestTwo has two outputs, TestPair one to three."""

    @operator("TestPair", outputs=(1, 3))
    def split(x: Any, *, sections: int = 2) -> Any:
        """So many copies of X."""
        return (x.copy(),) * sections if sections > 1 else x.copy()

    @operator("TestTwo", outputs=2)
    def two(x: Any) -> Any:
        return x.copy(), x.copy()

    yield
    REGISTRY.remove("TestPair")
    REGISTRY.remove("TestTwo")
