"""on_node_failure="restart": a node that died comes back with what it had, and nothing is retried.

| what | what is looked at |
| --- | --- |
| a death, however and whenever | one NodeDiedError; the next use starts the node again |
| blobs of all kinds | as they were, bit by bit; with all bytes where they were |
| a blob that an operator was writing | old, or torn: `TornBlobError` until it is written again |
| objects that are no plain data | torn, with a reason |
| the run that was interrupted | has not been run again |
| `max_restarts` | after that as with "raise" |
| what was fetched before | stays what it was |
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.faults.moments import (
    MIB,
    WITHIN,
    Witness,
    adding,
    after,
    beside_endless,
    endless,
    gone,
    pid_of,
    send,
    stop,
    until,
)
from tests.faults.ways import WAYS, OnArrival, OnLeaving, die
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    BlobNotFoundError,
    Net,
    Node,
    NodeDiedError,
    ProcessSession,
    RunCancelledError,
    RunTimeoutError,
    Task,
    TaskGroup,
    TornBlobError,
    WorkspaceType,
)

DEADLY = [way for way in WAYS if way != "sys.exit"]


@pytest.fixture
def session() -> Iterator[ProcessSession]:
    with ProcessSession(["a", "b"], on_node_failure="restart", max_restarts=50) as session:
        yield session


def kill(session: ProcessSession, node: str = "a") -> int:
    """End a node's worker, and see it gone."""
    pid = pid_of(session, node)
    send(pid, "SIGKILL")
    assert gone([pid])
    return pid


def kill_and_notice(session: ProcessSession, node: str = "a") -> NodeDiedError:
    """End a node's worker, and be told so."""
    kill(session, node)
    session.workspace(node).names()
    with pytest.raises(NodeDiedError) as caught:
        session.submit(abs, 1, node=node).result()
    assert caught.value.restarts
    return caught.value


def dying(way: str = "SIGKILL") -> Net:
    def work(inputs: Any, outputs: Any) -> None:
        die(way)

    return python_net(work)


class TestNobodyWasAsking:
    def test_when_the_janitor_finds_it_dead(self, session):
        """Its death is not news to nobody: the next call hears of it, and the one after goes on."""
        session.workspace("a").feed_blob("x", np.arange(5000.0))
        os.kill(pid_of(session, "a"), signal.SIGKILL)
        handle = session._supervisor.nodes["a"]
        with pytest.raises(NodeDiedError):
            handle.tidy()
        with pytest.raises(NodeDiedError) as caught:
            session.workspace("a").fetch_blob("x")
        assert (caught.value.signal, caught.value.restarts) == ("SIGKILL", True)
        assert np.array_equal(session.workspace("a").fetch_blob("x"), np.arange(5000.0))


class TestHowever:
    @pytest.mark.parametrize("way", DEADLY)
    def test_computing(self, session, way):
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        with pytest.raises(NodeDiedError, match="restarted") as caught:
            session.run(beside_endless("a", dying(way), "b"))
        error = caught.value
        assert (error.node, error.pid, error.exitcode) == ("a", pid, WAYS[way][1])
        assert (error.restarts, error.torn, error.operator) == (True, (), "Python")
        assert error.printed[-1] == "last words"
        assert gone([pid])
        for node in "ab":
            witness.check_node(node)
        assert pid_of(session, "a") != pid
        assert session.stats()["a"].restarts == 1
        assert session.stats()["b"].restarts == 0
        witness.check_views()

    @pytest.mark.parametrize(
        "act",
        [
            lambda session: session.workspace("a").feed_blob("x", OnArrival("SIGKILL")),
            lambda session: session.submit(len, OnArrival("SIGSEGV"), node="a").result(),
            lambda session: session.submit(OnLeaving, "SIGKILL", node="a").result(),
            lambda session: session.submit(die, "_exit", node="a").result(),
        ],
        ids=["unpickling a blob", "unpickling an argument", "replying", "in a function"],
    )
    def test_otherwise(self, session, act):
        witness = Witness(session, "a", "b")
        with pytest.raises(NodeDiedError) as caught:
            act(session)
        assert caught.value.restarts
        for node in "ab":
            witness.check_node(node)
        assert session.stats()["a"].restarts == 1

    def test_in_a_run_that_was_called_off(self, session):
        """Who called it off is told of that alone; the next call hears of the death."""
        workspace = session.workspace("a")
        workspace.feed_blob("old", np.arange(10.0))
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("a"):
            Task(step=endless())
        future = session.run_async(group)
        until(future.running)
        pid = pid_of(session, "a")
        stop(pid)
        assert future.cancel()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError, match="SIGKILL") as caught:
            workspace.fetch_blob("old")
        assert (caught.value.pid, caught.value.restarts) == (pid, True)
        np.testing.assert_array_equal(workspace.fetch_blob("old"), np.arange(10.0))

    @pytest.mark.parametrize("use", ["run", "feed", "large feed", "fetch", "remove", "call", "new"])
    def test_idle(self, session, use):
        """The first use says so, and the second is done."""
        witness = Witness(session, "a", "b")
        workspace = session.workspace("a")
        workspace.feed_blob("old", np.arange(10.0))

        def fill() -> None:
            with workspace.new_blob("x", (MIB,)) as array:
                array[:] = 1

        uses: dict[str, Callable[[], Any]] = {
            "run": lambda: run_on(session, "a", adding("old")),
            "feed": lambda: workspace.feed_blob("x", 1),
            "large feed": lambda: workspace.feed_blob("x", np.zeros(MIB)),
            "fetch": lambda: workspace.fetch_blob("old"),
            "remove": lambda: workspace.remove_blob("old"),
            "call": lambda: session.submit(abs, 1, node="a").result(),
            "new": fill,
        }
        kill(session)
        with pytest.raises(NodeDiedError) as caught:
            uses[use]()
        assert (caught.value.restarts, caught.value.torn) == (True, ())
        if use != "new":
            np.testing.assert_array_equal(workspace.fetch_blob("old"), np.arange(10.0))
        uses[use]()
        for node in "ab":
            witness.check_node(node)

    def test_by_a_timeout(self, session):
        def sleep(inputs: Any, outputs: Any) -> None:
            threading.Event().wait()

        witness = Witness(session, "a", "b")
        with pytest.raises(RunTimeoutError) as caught:
            session.run(beside_endless("a", python_net(sleep), "b"), timeout=0.2)
        assert caught.value.killed == ("a",)
        for node in "ab":
            witness.check_node(node)

    def test_by_cancel(self, session, tmp_path):
        there = tmp_path / "there"

        def sleep(inputs: Any, outputs: Any) -> None:
            there.touch()
            threading.Event().wait()

        witness = Witness(session, "a", "b")

        def call_off() -> None:
            until(there.exists)
            session.cancel()

        thread = threading.Thread(target=call_off)
        thread.start()
        with pytest.raises(RunCancelledError) as caught:
            session.run(beside_endless("a", python_net(sleep), "b"))
        thread.join(WITHIN)
        assert caught.value.killed == ("a",)
        for node in "ab":
            witness.check_node(node)

    def test_by_a_blob_timeout(self):
        with ProcessSession(["a"], blob_timeout=0.3, on_node_failure="restart") as session:
            witness = Witness(session, "a")
            stop(pid_of(session, "a"))
            with pytest.raises(RunTimeoutError) as caught:
                session.workspace("a").fetch_blob("kept large")
            assert caught.value.killed == ("a",)
            witness.check_node("a")

    def test_both_nodes_of_a_run(self, session):
        witness = Witness(session, "a", "b")
        with TaskGroup(WorkspaceType.GLOBAL) as group:
            for node in "ab":
                with Node(node):
                    Task(step=dying())
        for _ in range(3):
            with pytest.raises(NodeDiedError):
                session.run(group)
        for node in "ab":
            for _ in range(2):
                try:
                    witness.check_node(node)
                    break
                except NodeDiedError:  # the one that was not told of yet
                    continue
            witness.check_node(node)


TENSORS: dict[str, Any] = {
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.int16),
    "small": np.arange(12, dtype=np.int8).reshape(3, 4),
    "bool": np.array([True, False]),
    "complex": np.full(3000, 1 + 2j),
    "half": np.arange(5000, dtype=np.float16),
    "dates": np.array(["2020-01-01", "NaT"], "datetime64[D]"),
    "text": np.array(["one", "three"]),
    "shared": np.random.default_rng(1).random((30, 40)),
    "own": np.random.default_rng(2).random(MIB),
}
PLAIN: dict[str, Any] = {
    "none": None,
    "string": "some text",
    "bytes": b"\0\1",
    "long": "a" * 100_000,
    "tree": (1, [2.5, {"three": (4, None)}], {5, 6}, frozenset([7])),
    "objects": np.array(["one", None, (2, 3)], dtype=object),
}


class TestBlobs:
    def test_of_all_kinds(self, session):
        workspace = session.workspace("a")
        for name, value in {**TENSORS, **PLAIN}.items():
            workspace.feed_blob(name, value)
        before = workspace.names()
        for _ in range(3):
            error = kill_and_notice(session)
            assert error.torn == ()
            assert workspace.names() == before
            for name, value in TENSORS.items():
                found = workspace.fetch_blob(name)
                np.testing.assert_array_equal(found, value)
                assert (found.dtype, found.shape) == (value.dtype, value.shape)
            for name, value in PLAIN.items():
                found = workspace.fetch_blob(name)
                if isinstance(value, np.ndarray):
                    assert found.tolist() == value.tolist()
                else:
                    assert (found, type(found)) == (value, type(value))

    def test_that_operators_made(self, session):
        net = Net("net")
        x = net.Const(np.arange(4000.0), blob_out="x")
        net.Mul([x, x], "y")
        net.Const("some text", blob_out="text")
        run_on(session, "a", net)
        for number in range(1, 4):
            kill_and_notice(session)
            run_on(session, "a", adding("x"))
            workspace = session.workspace("a")
            np.testing.assert_array_equal(workspace.fetch_blob("x"), np.arange(4000.0) + number)
            np.testing.assert_array_equal(workspace.fetch_blob("y"), np.arange(4000.0) ** 2)

    def test_that_were_removed_stay_so(self, session):
        workspace = session.workspace("a")
        for name in ("x", "y"):
            workspace.feed_blob(name, np.zeros(5000))
        workspace.remove_blob("x")
        kill_and_notice(session)
        assert workspace.names() == ["y"]

    def test_of_a_private_run_are_gone(self, session):
        def work(inputs: Any, outputs: Any) -> None:
            outputs[0].feed(np.zeros(MIB))

        net = python_net(work, outputs=["passing"])
        net.Python(lambda inputs, outputs: die("SIGKILL"))([], [])
        session.workspace("a").feed_blob("kept", 1)
        with TaskGroup() as group, Node("a"):
            Task(step=net)
        with pytest.raises(NodeDiedError):
            session.run(group)
        assert session.workspace("a").names() == ["kept"]

    def test_memory_does_not_grow(self, session):
        workspace = session.workspace("a")
        for name in "xyz":
            workspace.feed_blob(name, np.zeros(MIB))
        sizes, names = [], []
        for _ in range(12):
            kill_and_notice(session)
            view = workspace.fetch_blob("x")
            workspace.feed_blob("x", np.ones(MIB))
            run_on(session, "a", adding("y"))
            del view
            sizes.append(session.stats()["a"].shared_bytes)
            names.append(len(segments()))
        assert max(sizes[6:]) <= max(sizes[:6])
        assert max(names[6:]) <= max(names[:6])

    def test_files_do_not_grow(self, session):
        session.workspace("a").feed_blob("x", np.zeros(MIB))
        for _ in range(2):
            kill_and_notice(session)
            session.workspace("a").fetch_blob("x")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            kill_and_notice(session)
            session.workspace("a").fetch_blob("x")
        assert len(os.listdir("/proc/self/fd")) <= before

    def test_views_from_before(self, session):
        workspace = session.workspace("a")
        value = np.random.default_rng(1).random(MIB)
        workspace.feed_blob("x", value)
        views = [workspace.fetch_blob("x")]
        for number in range(4):
            kill_and_notice(session)
            views.append(workspace.fetch_blob("x"))
            run_on(session, "a", adding("x"))
            for place, view in enumerate(views):
                np.testing.assert_array_equal(view, value + max(0, place - 1))
            assert number < len(views)
        session.close()
        for place, view in enumerate(views):
            np.testing.assert_array_equal(view, value + max(0, place - 1))

    def test_plans_are_shipped_again(self, session):
        compiled = session.compile(adding("x"))
        session.workspace().feed_blob("x", np.zeros(5000))
        for number in range(1, 4):
            session.run(compiled)
            kill_and_notice(session, "local")
            assert session.workspace().fetch_blob("x")[0] == number


def in_place_and_dying(name: str) -> Net:
    """An operator that dies with half of its output written in place."""

    def work(inputs: Any, outputs: Any) -> None:
        array = outputs[0].data
        array[: array.size // 2] = -1
        die("SIGKILL")

    net = Net("in_place")
    net.Python(work)([name], [name])
    return net


class TestTorn:
    def check(self, session: ProcessSession, name: str, operator: str | None = None) -> None:
        """It is not there, and whoever wants it is told why."""
        workspace = session.workspace("a")
        assert not workspace.has_blob(name)
        assert name not in workspace.names()
        with pytest.raises(TornBlobError) as caught:
            workspace.fetch_blob(name)
        assert (caught.value.blob, caught.value.node) == (name, "a")
        assert repr(name) in str(caught.value)
        if operator is not None:
            assert caught.value.operator == operator
        with pytest.raises(TornBlobError):
            run_on(session, "a", adding(name))
        with pytest.raises(TornBlobError):
            workspace.fetch_blob(name)

    def old_new_or_torn(
        self, session: ProcessSession, error: NodeDiedError, name: str, *values: Any
    ) -> bool:
        """Whether it is torn. It is never half of one and half of the other."""
        if name in error.torn:
            self.check(session, name)
            return True
        found = session.workspace("a").fetch_blob(name)
        assert any(np.array_equal(found, value) for value in values)
        return False

    def test_half_written(self, session):
        witness = Witness(session, "a", "b")
        value = np.ones(MIB)
        session.workspace("a").feed_blob("x", value)
        view = session.workspace("a").fetch_blob("x")
        for _ in range(3):
            with pytest.raises(NodeDiedError) as caught:
                run_on(session, "a", in_place_and_dying("x"))
            assert caught.value.restarts
            if self.old_new_or_torn(session, caught.value, "x", value):
                session.workspace("a").feed_blob("x", value)
        np.testing.assert_array_equal(view, value)
        for node in "ab":
            witness.check_node(node)

    def test_half_copied(self, session, chance):
        """An operator with much to write, at a random moment of it."""
        size = 2 * MIB
        net = Net("copying")
        net.Add(["x", "one"], "x")
        group = TaskGroup(WorkspaceType.GLOBAL)
        with group, Node("a"):
            Task(step=net)
        workspace = session.workspace("a")
        workspace.feed_blob("one", np.ones(size))
        torn = 0
        for _ in range(12):
            value = np.full(size, 10.0)
            workspace.feed_blob("x", value)
            runs = 0
            pid = pid_of(session, "a")
            with (  # noqa: PT012
                pytest.raises(NodeDiedError) as caught,
                after(chance.uniform(0, 0.03), lambda: send(pid, "SIGKILL")),  # noqa: B023
            ):
                while True:
                    session.run(group)
                    runs += 1
            assert set(caught.value.torn) <= {"x"}
            torn += self.old_new_or_torn(session, caught.value, "x", value + runs, value + runs + 1)
            np.testing.assert_array_equal(workspace.fetch_blob("one"), np.ones(size))
        print("torn:", torn)

    @pytest.mark.parametrize("how", ["fed", "fed large", "filled", "made", "object"])
    def test_until_it_is_written_again(self, session, how):
        def plant(inputs: Any, outputs: Any) -> None:
            outputs[0].feed([threading.Event])

        workspace = session.workspace("a")

        class Strange:
            pass

        workspace.feed_blob("x", Strange())
        error = kill_and_notice(session)
        assert error.torn == ("x",)
        self.check(session, "x")
        value: Any = np.arange(3.0)
        if how == "fed large":
            value = np.arange(100_000.0)
        elif how == "object":
            value = {"plain": "data"}
        if how == "filled":
            with workspace.new_blob("x", (3,), np.float64) as array:
                array[:] = value
        elif how == "made":
            net = Net("make")
            net.Const(value, blob_out="x")
            run_on(session, "a", net)
        else:
            workspace.feed_blob("x", value)
        found = workspace.fetch_blob("x")
        assert np.array_equal(found, value) if how != "object" else found == value
        assert workspace.has_blob("x")
        # And it stays so.
        assert kill_and_notice(session).torn == ()
        found = workspace.fetch_blob("x")
        assert np.array_equal(found, value) if how != "object" else found == value

    def test_what_is_no_plain_data(self, session):
        """It died with its process, and the reason says so."""

        class Strange:
            pass

        workspace = session.workspace("a")
        workspace.feed_blob("strange", Strange())
        workspace.feed_blob("nested", [1, {"two": Strange()}])
        workspace.feed_blob("plain", [1, {"two": 3}])
        error = kill_and_notice(session)
        assert error.torn == ("nested", "strange")
        for name in error.torn:
            with pytest.raises(TornBlobError) as caught:
                workspace.fetch_blob(name)
            assert caught.value.operator is None
        assert workspace.fetch_blob("plain") == [1, {"two": 3}]

    def test_it_stays_torn_over_a_second_death(self, session):
        class Strange:
            pass

        session.workspace("a").feed_blob("x", Strange())
        kill_and_notice(session)
        session.workspace("a").feed_blob("y", 1)
        kill_and_notice(session)
        self.check(session, "x")

    @pytest.mark.parametrize("how", ["by hand", "by an operator", "in a private run"])
    def test_until_it_is_removed(self, session, how):
        """Then there is none of that name, on both sides."""
        workspace, net = session.workspace("a"), Net("mutex")
        net.CreateMutex([], ["m"])
        run_on(session, "a", net)
        assert kill_and_notice(session).torn == ("m",)
        if how == "by hand":
            workspace.remove_blob("m")
        else:
            again = Net("again")
            again.CreateMutex([], ["m"])
            again.Free(["m"], ["m"])
            kind = WorkspaceType.GLOBAL if how == "by an operator" else WorkspaceType.PRIVATE
            with TaskGroup(kind) as group:
                Task(step=again, node="a")
            session.run(group)
        for _ in range(2):
            assert workspace.names() == []
            with pytest.raises(BlobNotFoundError):
                workspace.fetch_blob("m")
            with pytest.raises(BlobNotFoundError):
                workspace.remove_blob("m")
            assert kill_and_notice(session).torn == ()

    def test_a_feed_that_died_half_way(self, chance):
        """The worker dies while the coordinator writes: the old value, the new one, or torn."""
        for _ in range(6):
            with ProcessSession(["a"], on_node_failure="restart") as session:
                workspace, pid = session.workspace("a"), pid_of(session, "a")
                number = 1.0
                workspace.feed_blob("x", np.full(MIB, number))
                with (  # noqa: PT012
                    pytest.raises(NodeDiedError) as caught,
                    after(chance.uniform(0, 0.02), lambda: send(pid, "SIGKILL")),  # noqa: B023
                ):
                    while True:
                        workspace.feed_blob("x", np.full(MIB, number + 1))
                        number += 1
                self.old_new_or_torn(
                    session, caught.value, "x", np.full(MIB, number), np.full(MIB, number + 1)
                )


class TestNothingIsRetried:
    def test_the_run(self, session, tmp_path):
        log = tmp_path / "log"

        def work(inputs: Any, outputs: Any) -> None:
            with log.open("a") as file:
                file.write("run\n")
            die("SIGKILL")

        group = beside_endless("a", python_net(work), "b")
        for number in range(1, 4):
            with pytest.raises(NodeDiedError):
                session.run(group)
            session.workspace("a").feed_blob("x", 1)
            assert log.read_text() == "run\n" * number

    def test_a_call(self, session, tmp_path):
        log = tmp_path / "log"

        def work(log: Path) -> None:
            with log.open("a") as file:
                file.write("call\n")
            die("SIGKILL")

        with pytest.raises(NodeDiedError):
            session.submit(work, log, node="a").result()
        session.workspace("a").feed_blob("x", 1)
        assert log.read_text() == "call\n"

    def test_not_before_it_is_used(self, session):
        pid = kill(session)
        with pytest.raises(NodeDiedError):
            session.workspace("a").feed_blob("x", 1)
        assert session.stats()["a"].pid == pid
        assert session.stats()["a"].restarts == 0
        session.workspace("b").feed_blob("x", 1)
        assert session.stats()["a"].restarts == 0
        session.workspace("a").feed_blob("x", 1)
        assert session.stats()["a"].restarts == 1
        assert session.stats()["a"].pid != pid


class TestHowOften:
    def test_is_limited(self):
        with ProcessSession(["a", "b"], on_node_failure="restart", max_restarts=2) as session:
            witness = Witness(session, "a", "b")
            for number in range(3):
                kill(session)
                with pytest.raises(NodeDiedError) as caught:
                    session.workspace("a").feed_blob("x", 1)
                assert caught.value.restarts is (number < 2)
                if number < 2:
                    witness.check_node("a")
            for _ in range(3):
                with pytest.raises(NodeDiedError):
                    session.workspace("a").feed_blob("x", 1)
            # It is counted by node.
            kill_and_notice(session, "b")
            witness.check_node("b")
            witness.check_views()

    def test_never(self):
        with ProcessSession(["a"], on_node_failure="restart", max_restarts=0) as session:
            kill(session)
            for _ in range(2):
                with pytest.raises(NodeDiedError) as caught:
                    session.workspace("a").feed_blob("x", 1)
                assert not caught.value.restarts

    @pytest.mark.parametrize(
        "options",
        [{"on_node_failure": "retry"}, {"max_restarts": -1}, {"max_restarts": 1.5}],
    )
    def test_what_makes_no_sense(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            ProcessSession(**options)

    def test_one_that_dies_while_it_is_started_again(self, session):
        """As often as it is allowed; what it had is not lost by that."""
        witness = Witness(session, "a", "b")
        workspace = session.workspace("a")
        deaths = 0
        for _ in range(6):
            kill(session)
            before = pid_of(session, "a")
            ended = threading.Event()

            def shoot() -> None:
                # Whatever comes into being under that name, as soon as it is there.
                while not ended.is_set():  # noqa: B023
                    pid = pid_of(session, "a")
                    if pid != before:  # noqa: B023
                        send(pid, "SIGKILL")
                        return

            thread = threading.Thread(target=shoot)
            thread.start()
            for _ in range(4):
                try:
                    workspace.feed_blob("x", 1)
                except NodeDiedError as error:
                    assert error.restarts  # noqa: PT017
                    deaths += 1
            ended.set()
            thread.join(WITHIN)
        assert deaths > 6
        for node in "ab":
            witness.check_node(node)


class TestAnyMoment:
    def test_of_a_mixture_of_work(self, session, chance):
        """Killed again and again while it works: nothing wrong is ever read."""
        witness = Witness(session, "a", "b", chance=chance)
        workspace = session.workspace("a")
        values: dict[str, Any] = {}
        deaths = torn = 0
        for turn in range(40):
            pid = pid_of(session, "a")
            with after(chance.uniform(0, 0.012), lambda: send(pid, "SIGKILL")):  # noqa: B023
                while True:
                    name = chance.choice("xyz")
                    value = np.full(chance.choice([5, 3000, 200_000]), float(turn))
                    what = chance.choice(["feed", "run", "fetch"])
                    before = values.get(name)
                    if what != "feed" and before is None:
                        continue
                    after_it = value if what == "feed" else before
                    if what == "run":
                        after_it = before + 1
                    try:
                        if what == "feed":
                            workspace.feed_blob(name, value)
                        elif what == "run":
                            run_on(session, "a", adding(name))
                        else:
                            np.testing.assert_array_equal(workspace.fetch_blob(name), before)
                        values[name] = after_it
                    except NodeDiedError as error:
                        deaths += 1
                        assert error.restarts  # noqa: PT017
                        # Those that were torn before still are.
                        lost = set(error.torn) & set(values)
                        assert lost <= {name}
                        torn += len(lost)
                        if lost:
                            del values[name]
                            with pytest.raises(TornBlobError):
                                workspace.fetch_blob(name)
                        elif before is not None or workspace.has_blob(name):
                            found = workspace.fetch_blob(name)
                            assert any(
                                value is not None and np.array_equal(found, value)
                                for value in (before, after_it)
                            )
                            values[name] = np.array(found)
                        break
        assert deaths == 40
        assert session.stats()["a"].restarts == 40
        print("torn:", torn)
        for name, value in values.items():
            np.testing.assert_array_equal(workspace.fetch_blob(name), value)
        for node in "ab":
            witness.check_node(node)

    def test_in_endless_runs(self, session, chance):
        with Node("a"):
            compiled = session.compile(endless())
        for number in range(10):
            pid = pid_of(session, "a")
            with (
                pytest.raises(NodeDiedError) as caught,
                after(chance.uniform(0, 0.01), lambda: send(pid, "SIGKILL")),  # noqa: B023
            ):
                session.run(compiled)
            assert caught.value.restarts
            session.workspace("a").feed_blob("x", number)
            assert session.stats()["a"].restarts == number + 1
