"""A blob in each kind of memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.blobs.houses import Coordinator, Heap, House

from procession.blobs.blob import Blob


@pytest.fixture(params=[Heap, Coordinator], ids=["heap", "shared"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    house = request.param()
    yield house
    house.close()


@pytest.fixture
def blob(house: House) -> Iterator[Blob]:
    blob = Blob(house.pool)
    yield blob
    blob.close()
