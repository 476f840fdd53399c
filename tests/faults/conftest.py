"""For all tests of faults: a session of two nodes, random numbers, and an end in bounded time."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.faults import moments

from procession import ProcessSession

LONGEST = 60
"""Seconds after which a test hangs."""


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A test that hangs fails, instead of keeping all others waiting."""

    def ring(number: int, frame: Any) -> None:
        raise TimeoutError(f"the test took more than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The test's own random numbers; the seed is printed."""
    return moments.chance_for(request.node.nodeid)


@pytest.fixture
def session() -> Iterator[ProcessSession]:
    """Two nodes, `a` and `b`."""
    with ProcessSession(["a", "b"]) as session:
        yield session
