"""A workspace that may move into a worker process, and is used there as it was used here.

Until `move` it is a `Workspace`. From then on everything that is asked of it is asked of its
worker, that of the node "local" of a `ProcessSession` of its own: what it had is fed there, what is
run is run there. Blobs without a value, which workers do not have, are remembered here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from procession.blobs.blob import Pool, is_tensor
from procession.blobs.unfinished import Unfinished
from procession.compiler.compiled import CompiledRunnable
from procession.errors import WorkspaceError
from procession.runtime import workspace as runtime
from procession.runtime.workspace import name_of
from procession.session.process import ProcessSession
from procession.session.workspace import BlobHandle, Workspace, WorkspaceNet


class MovableWorkspace(Workspace):
    """Blobs by name, here or, once it has moved, in a worker process. See `Workspace`."""

    session_class: ClassVar[type[ProcessSession]] = ProcessSession
    """What is made of to move into."""

    def __init__(
        self,
        parent: runtime.Workspace | None = None,
        *,
        node: str | None = None,
        pool: Pool | None = None,
    ) -> None:
        super().__init__(parent, node=node, pool=pool)
        self._session: ProcessSession | None = None
        self._empty: set[str] = set()
        """In a worker there are no blobs without a value: these are to be."""

    def move(self) -> ProcessSession:
        """Have it live in a worker process; returns the session whose worker that is.

        Raises:
            SerializationError: A value cannot be sent there.
        """
        if self._session is None:
            session = self.session_class()
            home = session.workspace()
            for name in super().names():
                value = super().peek(name)
                if value is None:
                    self._empty.add(name)
                else:
                    home.feed_blob(name, value)
            self._session = session
        return self._session

    def session(self) -> ProcessSession | None:
        """The session in whose worker it lives, if it lives in one."""
        return self._session

    # Blobs.

    def names(self) -> list[str]:
        if self._session is None:
            return super().names()
        return sorted({*self._session.workspace().names(), *self._empty})

    def has_blob(self, name: Any) -> bool:
        if self._session is None:
            return super().has_blob(name)
        return name_of(name) in self._empty or self._session.workspace().has_blob(name)

    def peek(self, name: Any) -> Any:
        if self._session is None:
            return super().peek(name)
        home = self._session.workspace()
        if name_of(name) in self._empty and not home.has_blob(name):
            return None
        return home.fetch_blob(name)

    def fetch_blob(self, name: Any) -> Any:
        return super().fetch_blob(name) if self._session is None else self.peek(name)

    def writable(self, name: Any) -> Any:
        if self._session is None:
            return super().writable(name)
        value = self.peek(name)
        if not isinstance(value, np.ndarray):
            raise WorkspaceError(f"blob {name_of(name)!r} holds no tensor")
        return value if is_tensor(value) else value.copy()

    def create_blob(self, name: Any) -> BlobHandle:
        if self._session is None:
            return super().create_blob(name)
        if not self.has_blob(name):
            self._empty.add(name_of(name))
        return self.handle(name_of(name))

    def feed_blob(self, name: Any, value: Any) -> None:
        if self._session is None:
            super().feed_blob(name, value)
        else:
            self._session.workspace().feed_blob(name, value)

    def _draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        if self._session is None:
            return super()._draft(shape, dtype)
        return self._session.workspace()._draft(shape, dtype)

    def _adopt(
        self, name: str, draft: Unfinished, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        if self._session is None:
            super()._adopt(name, draft, shape, dtype)
        else:
            self._session.workspace()._adopt(name, draft, shape, dtype)

    def remove_blob(self, name: Any) -> None:
        if self._session is None:
            super().remove_blob(name)
            return
        home = self._session.workspace()
        if name_of(name) not in self._empty or home.has_blob(name):
            home.remove_blob(name)
        self._empty.discard(name_of(name))

    # Running.

    def run_created(self, net: WorkspaceNet) -> None:
        """Run a net that `create_net` made.

        Raises:
            WorkspaceError: It has observers, and would run in a worker, where they are not.
        """
        remote = self.session()
        if remote is None:
            net.run()
            return
        if net.observers:
            raise WorkspaceError(
                f"net {net.name!r} has observers, which cannot see it run in a worker process: "
                f"remove them, or measure with BenchmarkNet"
            )
        remote.run(net.compiled)

    def _run_compiled(self, compiled: CompiledRunnable) -> None:
        remote = self.session()
        if remote is None:
            super()._run_compiled(compiled)
        else:
            remote.run(compiled)
