"""For these tests: a session with two datasets, one with numbers and an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from procession import LocalSession, NameScope, Net, ProcessSession, Session, TaskGroup, schema
from procession.data import Dataset, pipe


class Place:
    """A session, in whose global workspace the datasets are."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.numbers = list(range(20))
        self.source, self.target = (Dataset(schema.Struct(("n", np.int64))) for _ in range(2))
        init = Net("init")
        with NameScope("source"):
            self.source.init_from_arrays(init, [self.numbers])
        with NameScope("target"):
            self.target.init_empty(init)
        session.run(init)

    def run(self, runnable: Any) -> None:
        self.session.run(runnable)

    def fetch(self, blob: Any) -> Any:
        """The value of a blob, with arrays as lists."""
        value = self.session.workspace().fetch_blob(str(blob))
        return value.tolist() if isinstance(value, np.ndarray) else value

    def written(self, target: Dataset | None = None) -> list[Any]:
        """What the first column of a dataset has; left out, of the one that was empty."""
        [blob, *_] = (target or self.target).get_blobs()
        return self.fetch(blob)

    def read(self, reader: Any, **options: Any) -> list[Any]:
        """What comes out of a reader, in one run of a pipe to the dataset that was empty."""
        before = len(self.written())
        with TaskGroup() as group:
            pipe(reader, self.target.writer(), **options)
        self.run(group)
        return self.written()[before:]


@pytest.fixture
def place() -> Iterator[Place]:
    with LocalSession() as session:
        yield Place(session)


@pytest.fixture(params=[LocalSession, ProcessSession])
def anyplace(request: pytest.FixtureRequest) -> Iterator[Place]:
    """In a session of each kind."""
    with request.param() as session:
        yield Place(session)
