"""The life of a ProcessSession: whatever comes after whatever, it holds what a dictionary would.

The model knows for each node what its blobs are. A blob that was being written when its worker was
killed may be what it was, what it was to be, or torn: then it is not there until it is written
again. Every array that was ever fetched is kept, and must stay what it was.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from procession import (
    BlobNotFoundError,
    Net,
    Node,
    NodeDiedError,
    ProcessSession,
    TornBlobError,
)
from procession.graph import names

NODES = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["x", "y", "z"])
SIZES = st.sampled_from([1, 20, 700, 80_000])
"""In a message; in a segment that is shared; in one of its own."""
PLAIN = st.sampled_from([None, "text", b"bytes", (1, [2.5, {"three": "four"}]), "a" * 9000])
Place = tuple[str, str]


def adding(name: str) -> Net:
    """Adds one to a tensor, in place."""
    net = Net("adding")
    net.Add([name, net.Const(1.0)], name)
    return net


def adding_and_dying(name: str) -> Net:
    """Adds one to a tensor, and ends the process."""

    def die(inputs: Any, outputs: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    net = adding(name)
    net.Python(die)([], [])
    return net


class Lives(RuleBasedStateMachine):
    """One session after the other."""

    restart: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self._fresh = names.fresh()
        self._fresh.__enter__()
        self.views: list[tuple[Any, Any]] = []
        self.count = 0.0
        self.session: ProcessSession | None = None

    def _begin(self) -> None:
        how = "restart" if self.restart else "raise"
        self.session = ProcessSession(["a"], on_node_failure=how, max_restarts=1000)
        self.blobs: dict[Place, Any] = {}
        self.killed: set[str] = set()
        """Nodes whose death nobody has noticed yet."""
        self.dead: set[str] = set()
        """Those that are dead for good."""

    def teardown(self) -> None:
        if self.session is not None:
            self.session.close()
            self.check_views()
        self._fresh.__exit__(None, None, None)

    @initialize()
    def open(self) -> None:
        self._begin()

    # How things are done.

    def _do(self, node: str, action: Callable[[], Any]) -> tuple[bool, Any]:
        """(whether it was done, what came of it). A death is told once, or every time."""
        if node in self.dead:
            with pytest.raises(NodeDiedError) as caught:
                action()
            assert caught.value.node == node
            return False, None
        if node not in self.killed:
            return True, action()
        self.killed.discard(node)
        with pytest.raises(NodeDiedError) as caught:
            action()
        assert caught.value.node == node
        assert caught.value.signal == "SIGKILL"
        self._has_died(node)
        if not self.restart:
            return False, None
        return True, action()

    def _has_died(self, node: str) -> None:
        if self.restart:
            return
        self.dead.add(node)
        for place in [place for place in self.blobs if place[0] == node]:
            del self.blobs[place]

    def _next(self, size: int) -> np.ndarray[Any, Any]:
        self.count += 1
        return np.arange(size) + self.count

    # What is done.

    @rule(node=NODES, name=NAMES, size=SIZES)
    def feed(self, node: str, name: str, size: int) -> None:
        value = self._next(size)
        done, _ = self._do(node, lambda: self.session.workspace(node).feed_blob(name, value))
        if done:
            self.blobs[node, name] = value

    @rule(node=NODES, name=NAMES, value=PLAIN)
    def feed_an_object(self, node: str, name: str, value: Any) -> None:
        done, _ = self._do(node, lambda: self.session.workspace(node).feed_blob(name, value))
        if done:
            self.blobs[node, name] = value

    @rule(node=NODES, name=NAMES, size=SIZES)
    def fill(self, node: str, name: str, size: int) -> None:
        value = self._next(size)

        def fill() -> None:
            with self.session.workspace(node).new_blob(name, (size,), np.float64) as array:
                array[:] = value

        done, _ = self._do(node, fill)
        if done:
            self.blobs[node, name] = value

    @rule(node=NODES, name=NAMES)
    def run(self, node: str, name: str) -> None:
        if not isinstance(self.blobs.get((node, name)), np.ndarray):
            return
        net = adding(name)

        def run() -> None:
            with Node(node):
                self.session.run(net)

        done, _ = self._do(node, run)
        if done:
            self.blobs[node, name] = self.blobs[node, name] + 1

    @rule(node=NODES, name=NAMES)
    def fetch(self, node: str, name: str) -> None:
        if (node, name) in self.blobs:
            value = self.blobs[node, name]
            done, found = self._do(node, lambda: self.session.workspace(node).fetch_blob(name))
            if done:
                self._compare(found, value)
                self.views.append((found, value))

    @rule(node=NODES, name=NAMES)
    def fetch_what_is_not_there(self, node: str, name: str) -> None:
        if (node, name) in self.blobs or node in self.dead | self.killed:
            return
        with pytest.raises((BlobNotFoundError, TornBlobError)):
            self.session.workspace(node).fetch_blob(name)

    @rule(node=NODES, name=NAMES)
    def drop(self, node: str, name: str) -> None:
        if (node, name) in self.blobs:
            workspace = self.session.workspace(node)
            done, _ = self._do(node, lambda: workspace.remove_blob(name))
            if done:
                del self.blobs[node, name]

    @rule(place=st.integers(0, 20))
    def let_go(self, place: int) -> None:
        if self.views:
            del self.views[place % len(self.views)]

    @rule(node=NODES)
    def kill(self, node: str) -> None:
        if node not in self.session.nodes or node in self.dead | self.killed:
            return
        pid = self.session.stats()[node].pid
        process = psutil.Process(pid)
        process.kill()
        process.wait(30)
        self.killed.add(node)

    @rule(node=NODES, name=NAMES)
    def die_in_a_run(self, node: str, name: str) -> None:
        before = self.blobs.get((node, name))
        if not isinstance(before, np.ndarray) or node in self.dead | self.killed:
            return
        net = adding_and_dying(name)
        with pytest.raises(NodeDiedError) as caught, Node(node):
            self.session.run(net)
        assert (caught.value.node, caught.value.operator) == (node, "Python")
        assert caught.value.restarts is self.restart
        torn = caught.value.torn
        # Those that were torn before still are.
        assert name in torn or not {(node, other) for other in torn} & set(self.blobs)
        self._has_died(node)
        if not self.restart:
            return
        del self.blobs[node, name]
        workspace = self.session.workspace(node)
        if name in torn:
            with pytest.raises(TornBlobError) as caught_torn:
                workspace.fetch_blob(name)
            assert (caught_torn.value.blob, caught_torn.value.node) == (name, node)
            return
        found = workspace.fetch_blob(name)
        assert any(np.array_equal(found, value) for value in (before, before + 1))
        self.blobs[node, name] = np.array(found)

    @rule()
    def close_and_open(self) -> None:
        self.session.close()
        self._begin()

    # What is so at any time.

    @staticmethod
    def _compare(found: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found, value)
        else:
            assert found == value
            assert type(found) is type(value)

    @invariant()
    def check_views(self) -> None:
        for found, value in self.views:
            self._compare(found, value)

    @precondition(lambda self: self.session is not None and not self.killed)
    @invariant()
    def check_names(self) -> None:
        for node in {"a", "b"} - self.dead:
            wanted = {name for place, name in self.blobs if place == node}
            there = set(self.session.workspace(node).names())
            assert {name for name in there if name in "xyz"} == wanted


class RaisingLives(Lives):
    """A node that has died stays dead."""

    restart = False


class RestartingLives(Lives):
    """A node that has died comes back with what it had."""

    restart = True


OPTIONS = settings(
    max_examples=int(os.environ.get("PROCESSION_FAULTS_LIVES", "25")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRaising = RaisingLives.TestCase
TestRaising.settings = OPTIONS
TestRestarting = RestartingLives.TestCase
TestRestarting.settings = OPTIONS
