"""The session of most tests in this folder; a file that wants another defines its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from procession import ProcessSession


@pytest.fixture
def session() -> Iterator[ProcessSession]:
    with ProcessSession() as session:
        yield session
