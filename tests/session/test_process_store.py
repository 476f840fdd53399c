"""ProcessSession: what blobs hold against a plain dict, and where their memory goes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    BlobNotFoundError,
    LocalSession,
    Net,
    Node,
    OutOfSharedMemoryError,
    ProcessSession,
    Task,
    TaskGroup,
    WorkspaceType,
)

MIB = 1 << 20
SIZE = 100 * MIB
LIMIT = 30.0


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "it does not come"
        pause.wait(0.01)


def shared(session: ProcessSession, node: str = "n") -> int:
    return session.stats()[node].shared_bytes


class TestMemoryGoesBack:
    def test_after_the_last_view(self, session: ProcessSession) -> None:
        """With no further call: `stats` asks no worker anything."""
        workspace = session.workspace("n")
        workspace.feed_blob("x", np.ones(200 * MIB, np.uint8))
        view = workspace.fetch_blob("x")
        part = view[MIB:]
        del view
        workspace.remove_blob("x")
        assert shared(session) >= 200 * MIB
        assert part.all()
        del part
        wait_for(lambda: shared(session) < MIB)

    def test_after_a_blob_is_removed(self, session: ProcessSession) -> None:
        workspace = session.workspace("n")
        workspace.feed_blob("x", np.ones(SIZE, np.uint8))
        workspace.remove_blob("x")
        wait_for(lambda: shared(session) < MIB)

    def test_after_a_block_that_failed(self, session: ProcessSession) -> None:
        workspace = session.workspace("n")
        with contextlib.suppress(ZeroDivisionError), workspace.new_blob("x", SIZE, "u1") as array:
            array[0] = 1
            raise ZeroDivisionError
        assert not workspace.has_blob("x")
        assert shared(session) >= SIZE
        array[1] = 1
        del array
        wait_for(lambda: shared(session) < MIB)

    def test_while_other_nodes_are_busy(self, session: ProcessSession) -> None:
        workspace = session.workspace("n")
        workspace.feed_blob("x", np.ones(SIZE, np.uint8))
        view = workspace.fetch_blob("x")
        workspace.remove_blob("x")

        read, write = os.pipe()

        def wait(inputs: Any, outputs: Any, path: str = f"/proc/{os.getpid()}/fd/{read}") -> None:
            with open(path, "rb") as pipe:
                assert pipe.read(1) == b"x"

        future = session.run_async(on("other", python_net(wait)))
        try:
            del view
            wait_for(lambda: shared(session) < MIB)
            assert not future.done()
        finally:
            os.write(write, b"x")
            future.result(LIMIT)
            os.close(read)
            os.close(write)

    def test_over_and_over(self, session: ProcessSession) -> None:
        """What is wanted again and again is not made anew each time."""
        workspace = session.workspace("n")
        workspace.feed_blob("small", 1)
        seen = set()
        for number in range(6):
            before = segments()
            workspace.feed_blob("x", np.full(80 * MIB, number, np.uint8))
            seen |= segments() - before
            workspace.remove_blob("x")
        assert len(seen) <= 2
        wait_for(lambda: shared(session) < MIB)

    def test_little_of_it_stays(self, session: ProcessSession) -> None:
        workspace = session.workspace("n")
        workspace.feed_blob("x", np.ones(4 * MIB, np.uint8))
        before = segments()
        for _ in range(3):
            view = workspace.fetch_blob("x")
            workspace.remove_blob("x")
            del view
            workspace.feed_blob("x", np.ones(4 * MIB, np.uint8))
        assert len(segments() - before) <= 1


def on(node: str, net: Net) -> Any:
    with TaskGroup(WorkspaceType.GLOBAL) as group, Node(node):
        Task(step=net)
    return group


@pytest.mark.parametrize("kind", [LocalSession, ProcessSession])
def test_what_was_filled_in_place_is_a_snapshot_for_compiled_nets(kind: Any) -> None:
    """They write into the blob's memory without asking, after some runs."""
    with kind() as session, Node("n"):
        workspace = session.workspace("n")
        workspace.feed_blob("one", np.float32(1))
        workspace.feed_blob("x", np.zeros(10_000, np.float32))
        net = Net("net")
        net.Add(["x", "one"], ["x"])
        for _ in range(5):
            session.run(net)
        for start in (7, 20):
            with workspace.new_blob("x", 10_000, np.float32) as array:
                array[:] = start
            for number in range(1, 4):
                session.run(net)
                assert (array == start).all()
                assert (workspace.fetch_blob("x") == start + number).all()


class TestLimit:
    def test_smaller_than_one_blob(self) -> None:
        with ProcessSession(memory_limit=MIB) as session:
            workspace = session.workspace("n")
            for make in (
                lambda: workspace.feed_blob("x", np.zeros(2 * MIB, np.uint8)),
                lambda: workspace.new_blob("x", 2 * MIB, np.uint8).__enter__(),
            ):
                with pytest.raises(OutOfSharedMemoryError, match="memory_limit is 1,048,576") as e:
                    make()
                assert "'n'" in str(e.value)
                assert "2,097,152" in str(e.value)
                assert (e.value.limit, e.value.needed) == (MIB, 2 * MIB)
            assert workspace.names() == []
            workspace.feed_blob("x", np.ones(MIB, np.uint8))
            assert workspace.fetch_blob("x").all()

    def test_what_is_let_go_of_counts_no_more(self) -> None:
        with ProcessSession(memory_limit=3 * MIB) as session:
            workspace = session.workspace("n")
            workspace.feed_blob("x", np.zeros(2 * MIB, np.uint8))
            view = workspace.fetch_blob("x")
            workspace.remove_blob("x")
            with pytest.raises(OutOfSharedMemoryError, match="memory limit"):
                workspace.feed_blob("y", np.zeros(2 * MIB + 4096, np.uint8))
            del view
            workspace.feed_blob("y", np.ones(2 * MIB + 4096, np.uint8))
            assert workspace.fetch_blob("y").all()

    def test_a_blob_is_fed_anew_in_its_own_place(self) -> None:
        with ProcessSession(memory_limit=3 * MIB) as session:
            workspace = session.workspace("n")
            for number in range(3):
                workspace.feed_blob("x", np.full(3 * MIB, number, np.uint8))
                assert (workspace.fetch_blob("x") == number).all()


SIZES = [1, 100, 4095, 4096, 5000, 600_000, MIB]
NAMES = ["a", "b", "c"]
picks = st.integers(0, 1 << 16)
sizes = st.sampled_from(SIZES)
names = st.sampled_from(NAMES)


class SessionAgainstADict(RuleBasedStateMachine):
    """An array is full of one number, which tells the values apart: 1 to 249.

    What is written where nobody may see it is 250.
    """

    session: ClassVar[ProcessSession]
    nets: ClassVar[dict[str, Net]] = {}

    @initialize()
    def begin(self) -> None:
        self.workspace = self.session.workspace("n")
        self.workspace.feed_blob("one", np.uint8(1))
        self.model: dict[str, tuple[int, int]] = {}
        self.views: list[tuple[Any, int]] = []
        self.scribbles: list[Any] = []
        self.stamp = 0

    def fresh(self, size: int) -> Any:
        self.stamp = self.stamp % 249 + 1
        return np.full(size, self.stamp, np.uint8)

    def one(self, pick: int) -> str:
        return sorted(self.model)[pick % len(self.model)]

    @rule(name=names, size=sizes)
    def feed(self, name: str, size: int) -> None:
        self.workspace.feed_blob(name, self.fresh(size))
        self.model[name] = size, self.stamp

    @rule(
        name=names,
        size=sizes,
        how=st.sampled_from(["nothing", "part", "memory", "itself", "fail"]),
        between=st.none() | picks,
    )
    def new_blob(self, name: str, size: int, how: str, between: int | None) -> None:
        value = self.fresh(size)
        stamp = self.stamp
        try:
            with self.workspace.new_blob(name, size, np.uint8) as array:
                array[:] = value
                if between is not None and self.model:
                    self.run(between, None)
                    self.fetch(between)
                if how == "part":
                    self.scribbles.append(array[size // 2 :])
                elif how == "memory":
                    self.scribbles.append(memoryview(array))
                elif how == "fail":
                    raise ZeroDivisionError
        except ZeroDivisionError:
            self.scribbles.append(array)
            return
        self.model[name] = size, stamp
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 250
        if how == "itself":
            self.views.append((array, stamp))

    @precondition(lambda self: self.model)
    @rule(pick=picks, size=st.none() | sizes)
    def run(self, pick: int, size: int | None) -> None:
        """In place, or a value of another size."""
        name = self.one(pick)
        old, stamp = self.model[name]
        if size is None or size == old:
            net = self.nets.setdefault(name, Net("add"))
            if not net.Proto().op:
                net.Add([name, "one"], [name])
            if stamp == 249:
                return
            run_on(self.session, "n", net)
            self.model[name] = old, stamp + 1
        else:
            key = f"{name} {size}"
            net = self.nets.setdefault(key, Net("fill"))
            if not net.Proto().op:
                net.Const(np.full(size, 77, np.uint8), blob_out=name)
            run_on(self.session, "n", net)
            self.model[name] = size, 77

    @precondition(lambda self: self.model)
    @rule(pick=picks)
    def fetch(self, pick: int) -> None:
        name = self.one(pick)
        self.views.append((self.workspace.fetch_blob(name), self.model[name][1]))

    @precondition(lambda self: self.views)
    @rule(pick=picks)
    def drop(self, pick: int) -> None:
        del self.views[pick % len(self.views)]

    @precondition(lambda self: self.model)
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        name = self.one(pick)
        self.workspace.remove_blob(name)
        del self.model[name]
        with pytest.raises(BlobNotFoundError):
            self.workspace.fetch_blob(name)

    @precondition(lambda self: self.scribbles)
    @rule()
    def scribble(self) -> None:
        for array in self.scribbles:
            writable = np.asarray(array)
            if writable.flags.writeable:
                writable[...] = 250

    @invariant()
    def blobs_are_what_the_dict_says(self) -> None:
        assert self.workspace.names() == sorted([*self.model, "one"])
        for name, (size, stamp) in self.model.items():
            value = self.workspace.fetch_blob(name)
            assert value.shape == (size,)
            assert (value == stamp).all()

    @invariant()
    def snapshots_never_change(self) -> None:
        for view, stamp in self.views:
            assert not view.flags.writeable
            assert (view == stamp).all()

    def teardown(self) -> None:
        if hasattr(self, "workspace"):
            self.views.clear()
            self.scribbles.clear()
            for name in self.model:
                self.workspace.remove_blob(name)


class TestStore(SessionAgainstADict.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def runTest(self) -> None:
        before = segments()
        with ProcessSession(["n"]) as session:
            SessionAgainstADict.session = session
            super().runTest()
            # What stays is for the next one: no more than is kept when nothing is in use.
            assert shared(session) <= 64 * MIB
        assert segments() == before
