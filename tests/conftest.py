"""For all tests: nothing is left behind, and each builds its graphs as if it were the first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from procession.graph import names

pytest.register_assert_rewrite("procession.testing.session_contract")
pytest_plugins = ["procession.testing.leaks"]


@pytest.fixture(autouse=True)
def fresh_names() -> Iterator[None]:
    with names.fresh():
        yield
