"""For all tests: nothing is left behind, and each builds its graphs as if it were the first."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from procession.graph import names

# What is started in the background of a shell inherits that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
pytest.register_assert_rewrite("procession.testing.session_contract")
pytest_plugins = ["procession.testing.leaks"]


@pytest.fixture(autouse=True)
def fresh_names() -> Iterator[None]:
    with names.fresh():
        yield
