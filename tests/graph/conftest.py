"""The session that graphs are run in: one of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from procession import LocalSession, ProcessSession, Session

SESSIONS = {
    "local": LocalSession,
    "isolated": partial(LocalSession, isolate=True),
    "process": ProcessSession,
}


@pytest.fixture(params=SESSIONS)
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    with SESSIONS[request.param]() as session:
        yield session
