"""A blob in each kind of memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.blobs.houses import Build, Coordinator, Heap, House

from procession.blobs.blob import Blob
from procession.blobs.shared import SharedPool


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


@pytest.fixture
def build() -> Iterator[Build]:
    houses: list[Coordinator] = []

    def build(limit: int | None) -> Coordinator:
        houses.append(Coordinator(limit))
        return houses[-1]

    yield build
    for house in houses:
        house.close()


@pytest.fixture
def coordinator(build: Build) -> Coordinator:
    return build(None)


@pytest.fixture
def pool(coordinator: Coordinator) -> SharedPool:
    return coordinator.pool
