"""A session from opening to closing."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

from procession.errors import (
    BlobNotFoundError,
    SessionClosedError,
)
from procession.graph.net import Net
from procession.graph.task import (
    Node,
    Task,
    TaskGroup,
)
from procession.session.base import Session
from procession.testing.session_contract.base import LARGE, ContractBase, constant


class Life(ContractBase):
    """Nodes, stats, closing, threads, sessions beside each other."""

    def test_nodes_are_named_in_order_of_start(self, own_session: Session) -> None:
        own_session.run(constant("net", "x", 1))
        with TaskGroup() as group:
            for node in ("b", "a"):
                with Node(node):
                    Task(step=constant(f"net_{node}", f"x_{node}", 1))
        own_session.run(group)
        own_session.run(group)
        assert own_session.nodes == ["local", "b", "a"]

    def test_stats(self, own_session: Session) -> None:
        with Node("n"):
            for _ in range(3):
                own_session.run(constant("net", "x", 1))
        stats = own_session.stats()
        assert list(stats) == ["n"]
        assert stats["n"].runs == 3
        assert stats["n"].pid > 0
        assert stats["n"].rss_bytes > 1_000_000
        assert stats["n"].cpu_seconds >= 0
        assert stats["n"].shared_bytes >= 0
        assert stats["n"]["runs"] == 3
        assert dict(stats["n"]).keys() >= {"pid", "rss_bytes", "cpu_seconds", "shared_bytes"}

    def test_closing(self) -> None:
        session = self.make()
        assert session.is_open()
        session.run(constant("net", "x", 1))
        workspace = session.workspace()
        session.close()
        assert not session.is_open()
        session.close()
        for use in (
            lambda: session.run(constant("net", "x", 1)),
            lambda: session.workspace(),
            lambda: session.workspace().fetch_blob("x"),
            lambda: session.__enter__(),
        ):
            with pytest.raises(SessionClosedError):
                use()
        assert not workspace_is_usable(workspace)

    def test_it_closes_on_every_way_out(self) -> None:
        with self.make() as session:
            session.run(constant("net", "x", 1))
        assert not session.is_open()
        session = self.make()
        with pytest.raises(ZeroDivisionError), session:
            raise ZeroDivisionError
        assert not session.is_open()

    def test_it_can_be_dropped_without_closing(self) -> None:
        session = self.make()
        session.run(constant("net", "x", np.zeros(LARGE)))
        array = session.workspace().fetch_blob("x")
        del session
        gc.collect()
        np.testing.assert_array_equal(array, np.zeros(LARGE))

    def test_threads_may_share_it(self, session: Session) -> None:
        errors: list[BaseException] = []
        meet = threading.Barrier(4)

        def use(number: int) -> None:
            try:
                meet.wait(30)
                for _ in range(10):
                    with Node(f"n{number % 2}"):
                        net = Net(f"net{number}")
                        net.Const(np.full(LARGE, number), f"x{number}")
                        session.run(net)
                    array = session.workspace(f"n{number % 2}").fetch_blob(f"x{number}")
                    assert array[0] == number
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def test_two_sessions_know_nothing_of_each_other(self, session: Session) -> None:
        net = constant("net", "x", 1)
        with self.make() as other:
            session.run(net)
            assert not other.workspace().has_blob("x")
            other.run(net)
            other.workspace().feed_blob("x", 2)
            assert session.workspace().fetch_blob("x") == 1

    def test_what_one_session_compiled_another_runs(self, session: Session) -> None:
        net = constant("net", "x", 3)
        with self.make() as other:
            compiled = other.compile(net)
        session.run(compiled)
        assert session.workspace().fetch_blob("x") == 3


def workspace_is_usable(workspace: Any) -> bool:
    """Whether a workspace of a closed session still gives values."""
    try:
        workspace.fetch_blob("x")
    except (SessionClosedError, BlobNotFoundError):
        return False
    return True
