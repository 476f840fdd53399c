"""A worker dies: a NodeDiedError that tells how, and nobody else has lost anything.

| moment | how it is brought about |
| --- | --- |
| idle | a thread that an operator left behind ends the process between two questions |
| unpickling | an object, a program or an argument that ends who unpickles it |
| computing | an operator, while the other node of the run is in an endless loop |
| writing | an operator with its output half written; a feed and a `new_blob` that are half done |
| replying | a blob, an output or a result that ends who pickles it |
| starting | a workspace that ends who makes it; a signal to a process just started |
| closing | a blob that ends who drops it; a signal while the session closes |
| any | a signal from outside at a random moment of a mixture of work |

The ways are in `ways`. What a full machine does to a process is SIGKILL; what a process does that
gets no memory is an abort. Neither Python's MemoryError nor its RecursionError, nor `sys.exit` in
an operator, ends a process: they are the operator's errors.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.faults.moments import (
    MIB,
    Witness,
    adding,
    after,
    beside_endless,
    gone,
    pid_of,
    send,
    until,
)
from tests.faults.ways import (
    FROM_OUTSIDE,
    WAYS,
    OnArrival,
    OnDropping,
    OnLeaving,
    die,
)
from tests.session.process_nodes import python_net, run_on, segments

from procession import Net, NodeDiedError, OperatorError, ProcessSession
from procession.cluster import forkserver
from procession.session.workspace import Workspace

DEADLY = [way for way in WAYS if way != "sys.exit"]
"""Those that end a process wherever they come."""


def check(error: NodeDiedError, pid: int, way: str, printed: bool = True) -> None:
    """The error says who, and how."""
    code = WAYS[way][1]
    assert (error.node, error.pid, error.exitcode) == ("a", pid, code)
    how = f"exit code {code}" if code >= 0 else error.signal
    assert (error.signal is None) == (code >= 0)
    assert how is not None
    for part in ("'a'", str(pid), how):
        assert part in str(error)
    if printed:
        assert error.printed[-1] == "last words"
        assert "last words" in str(error)


def check_dead(session: ProcessSession) -> None:
    """Every further use of the node says that it is dead, at once."""
    for use in (
        lambda: session.workspace("a").fetch_blob("kept small"),
        lambda: session.workspace("a").feed_blob("x", np.zeros(MIB)),
        lambda: run_on(session, "a", adding()),
        lambda: session.submit(abs, 1, node="a").result(),
    ):
        with pytest.raises(NodeDiedError) as caught:
            use()
        assert caught.value.node == "a"


# What ends the worker at a moment: it raises the error.


def computing(session: ProcessSession, way: str) -> None:
    def work(inputs: Any, outputs: Any) -> None:
        die(way)

    session.run(beside_endless("a", python_net(work), "b"))


def writing(session: ProcessSession, way: str) -> None:
    def work(inputs: Any, outputs: Any, workspace: Any) -> None:
        outputs[0].feed(np.zeros(MIB))
        with workspace.new_blob("y", (MIB,)) as array:
            array[: MIB // 2] = 7
            die(way)

    net = python_net(work, outputs=["x"], pass_workspace=True)
    session.run(beside_endless("a", net, "b"))


def handing_back(session: ProcessSession, way: str) -> None:
    def work(inputs: Any, outputs: Any) -> None:
        outputs[0].feed([OnLeaving(way)])

    session.run(beside_endless("a", python_net(work, outputs=["x"]), "b", outputs=["x"]))


def replying(session: ProcessSession, way: str) -> None:
    def work(inputs: Any, outputs: Any) -> None:
        outputs[0].feed([OnLeaving(way)])

    run_on(session, "a", python_net(work, outputs=["x"]))
    session.workspace("a").fetch_blob("x")


def unpickling_a_blob(session: ProcessSession, way: str) -> None:
    session.workspace("a").feed_blob("x", OnArrival(way))


def unpickling_a_large_blob(session: ProcessSession, way: str) -> None:
    session.workspace("a").feed_blob("x", [bytes(9 * MIB), OnArrival(way)])


def unpickling_a_program(session: ProcessSession, way: str) -> None:
    net = Net("net")
    net.Python((OnArrival(way), [], {}))([], [])
    session.run(beside_endless("a", net, "b"))


def unpickling_an_argument(session: ProcessSession, way: str) -> None:
    session.submit(len, OnArrival(way), node="a").result()


def calling(session: ProcessSession, way: str) -> None:
    session.submit(die, way, node="a").result()


def returning(session: ProcessSession, way: str) -> None:
    session.submit(OnLeaving, way, node="a").result()


MOMENTS: list[tuple[Callable[[ProcessSession, str], None], str | None]] = [
    (computing, "Python"),
    (writing, "Python"),
    (handing_back, None),
    (replying, None),
    (unpickling_a_blob, None),
    (unpickling_a_large_blob, None),
    (unpickling_a_program, None),
    (unpickling_an_argument, None),
    (calling, None),
    (returning, None),
]
"""What ends the worker, and the operator that it is in then."""


PAIRS = [
    (moment, operator, way)
    for number, (moment, operator) in enumerate(MOMENTS)
    for place, way in enumerate(DEADLY)
    if moment is computing or way == "SIGKILL" or (number - place) % 3 == 0
]
"""Every moment with some of the ways, and every way with some of the moments."""


@pytest.mark.parametrize(("moment", "operator", "way"), PAIRS)
def test_at_a_moment(session, moment, operator, way):
    witness = Witness(session, "a", "b")
    pid = pid_of(session, "a")
    with pytest.raises(NodeDiedError) as caught:
        moment(session, way)
    check(caught.value, pid, way)
    assert caught.value.operator == operator
    assert (caught.value.task is not None) == (operator is not None)
    if operator is not None:
        assert caught.value.task in str(caught.value)
        assert "moments.py" in str(caught.value) or "process_nodes.py" in str(caught.value)
    assert gone([pid])
    witness.check_views()
    witness.check_node("b")  # a run that had not been called off would be endless
    check_dead(session)


class TestSysExit:
    @pytest.mark.parametrize("moment", [replying, unpickling_a_blob])
    def test_between_operators_is_an_end(self, session, moment):
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        with pytest.raises(NodeDiedError) as caught:
            moment(session, "sys.exit")
        check(caught.value, pid, "sys.exit")
        witness.check_views()
        witness.check_node("b")

    @pytest.mark.parametrize("moment", [computing, writing, handing_back, unpickling_a_program])
    def test_in_a_run_is_an_error(self, session, moment):
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        with pytest.raises(Exception, match="SystemExit: 4") as caught:
            moment(session, "sys.exit")
        assert not isinstance(caught.value, NodeDiedError)
        witness.check_views()
        for node in "ab":
            witness.check_node(node)
        assert pid_of(session, "a") == pid

    def test_in_a_function_is_its_own(self, session):
        with pytest.raises(SystemExit) as caught:
            calling(session, "sys.exit")
        assert caught.value.code == 4
        assert session.submit(abs, -3, node="a").result() == 3


class TestWhatIsNoDeath:
    def test_recursion(self, session):
        def deeper(inputs: Any, outputs: Any) -> None:
            deeper(inputs, outputs)

        witness = Witness(session, "a", "b")
        with pytest.raises(OperatorError) as caught:
            session.run(beside_endless("a", python_net(deeper), "b"))
        assert isinstance(caught.value.__cause__, RecursionError)
        for node in "ab":
            witness.check_node(node)

    def test_memory_that_python_does_not_get(self, session):
        def want(inputs: Any, outputs: Any) -> None:
            import resource

            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (1 << 32, before[1]))
            try:
                bytearray(1 << 33)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)

        witness = Witness(session, "a", "b")
        with pytest.raises(OperatorError) as caught:
            session.run(beside_endless("a", python_net(want), "b"))
        assert isinstance(caught.value.__cause__, MemoryError)
        for node in "ab":
            witness.check_node(node)


class TestIdle:
    @pytest.mark.parametrize("way", DEADLY)
    def test_by_a_thread_of_its_own(self, session, tmp_path, way):
        now = tmp_path / "now"

        def leave_a_thread(inputs: Any, outputs: Any) -> None:
            import threading
            import time

            def later() -> None:
                while not now.exists():
                    time.sleep(0.001)
                die(way)

            threading.Thread(target=later, daemon=True).start()

        run_on(session, "a", python_net(leave_a_thread))
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        now.touch()
        assert gone([pid])
        witness.check_node("b")
        with pytest.raises(NodeDiedError) as caught:
            session.workspace("a").fetch_blob("kept large")
        check(caught.value, pid, way)
        assert (caught.value.task, caught.value.operator) == (None, None)
        witness.check_views()
        check_dead(session)

    @pytest.mark.parametrize(
        ("use", "number"),
        [
            *zip(("run", "feed", "fetch", "remove"), FROM_OUTSIDE, strict=True),
            *zip(("large feed", "call", "new"), FROM_OUTSIDE, strict=False),
        ],
    )
    def test_noticed_by_whatever_comes_next(self, session, number, use):
        witness = Witness(session, "a", "b")
        workspace = session.workspace("a")
        pid = pid_of(session, "a")
        send(pid, number)
        assert gone([pid])
        uses: dict[str, Callable[[], Any]] = {
            "run": lambda: session.run(beside_endless("a", adding("kept small", 10), "b")),
            "feed": lambda: workspace.feed_blob("x", 1),
            "large feed": lambda: workspace.feed_blob("x", np.zeros(MIB)),
            "fetch": lambda: workspace.fetch_blob("kept large"),
            "remove": lambda: workspace.remove_blob("kept large"),
            "call": lambda: session.submit(abs, 1, node="a").result(),
            "new": lambda: workspace.new_blob("x", (MIB,)).__enter__(),
        }
        with pytest.raises(NodeDiedError) as caught:
            uses[use]()
        error = caught.value
        assert (error.node, error.pid, error.signal) == ("a", pid, number)
        witness.check_views()
        witness.check_node("b")


class TestWriting:
    @pytest.mark.parametrize("number", FROM_OUTSIDE)
    def test_in_a_block_that_fills_a_blob(self, session, number):
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        with (  # noqa: PT012
            pytest.raises(NodeDiedError) as caught,
            session.workspace("a").new_blob("kept large", (MIB,)) as array,
        ):
            array[: MIB // 2] = 1
            send(pid, number)
            assert gone([pid])
            array[:] = 2
            assert array.sum() == 2 * MIB
        assert (caught.value.pid, caught.value.signal) == (pid, number)
        witness.check_views()
        witness.check_node("b")

    def test_in_the_middle_of_a_large_feed(self, chance):
        # The bytes are copied by the coordinator: the worker is asked before, and after.
        value = np.random.default_rng(1).random(4 * MIB)
        for number in chance.choices(FROM_OUTSIDE, k=4):
            with ProcessSession(["a", "b"]) as session:
                witness = Witness(session, "a", "b")
                pid = pid_of(session, "a")
                feeds = 0
                with (  # noqa: PT012
                    pytest.raises(NodeDiedError) as caught,
                    after(chance.uniform(0, 0.05), lambda: send(pid, number)),  # noqa: B023
                ):
                    while True:
                        session.workspace("a").feed_blob(f"x{feeds % 2}", value)
                        feeds += 1
                assert (caught.value.pid, caught.value.signal) == (pid, number)
                witness.check_views()
                witness.check_node("b")


def doomed_children(chance: random.Random, number: str, most: int) -> Callable[[], None]:
    """Sends a signal to what the fork server starts next, a moment after it has."""
    server = forkserver.running_server().pid
    children = Path(f"/proc/{server}/task/{server}/children")
    before = set(children.read_text().split())
    moment = chance.uniform(0, 0.004)
    chosen = chance.randrange(most)

    def kill() -> None:
        def new() -> list[str]:
            return sorted(set(children.read_text().split()) - before, key=int)

        until(lambda: len(new()) > chosen)
        with after(moment, lambda: send(int(new()[chosen]), number)):
            pass

    return kill


class DeadlyWorkspace(Workspace):
    """Cannot be made in a worker."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        die(os.environ["FAULTS_WAY"])


class DeadlySession(ProcessSession):
    """Its workers do not come up."""

    workspace_class = DeadlyWorkspace


class TestStarting:
    @pytest.mark.parametrize("way", WAYS)
    def test_all_of_them(self, monkeypatch, way):
        monkeypatch.setenv("FAULTS_WAY", way)
        with pytest.raises(NodeDiedError, match="before it was ready") as caught:
            DeadlySession(["a", "b"])
        assert (caught.value.node, caught.value.exitcode) == ("a", WAYS[way][1])
        assert caught.value.printed[-1] == "last words"
        assert segments() == set()

    def test_a_later_one(self, monkeypatch):
        with DeadlySession() as session:
            monkeypatch.setenv("FAULTS_WAY", "SIGKILL")
            for _ in range(2):
                with pytest.raises(NodeDiedError, match="before it was ready"):
                    session.workspace("a").feed_blob("x", 1)
            assert segments() == set()

    def test_at_a_random_moment(self, chance):
        for _ in range(15):
            number = chance.choice(FROM_OUTSIDE)
            with after(0, doomed_children(chance, number, most=2)) as killer:
                try:
                    session = ProcessSession(["a", "b"])
                except NodeDiedError as error:
                    assert error.signal == number or error.exitcode is not None  # noqa: PT017
                    assert segments() == set()
                    continue
            with session:
                killer.join()
                errors = []
                for node in "ab":
                    try:
                        session.workspace(node).feed_blob("x", 1)
                    except NodeDiedError as error:
                        errors.append(error.signal)
                # A signal that came before it could be told from the server's copy is lost.
                assert errors in ([], [number])


class TestClosing:
    @pytest.mark.parametrize("way", DEADLY)
    def test_by_what_it_drops(self, way):
        def leave(inputs: Any, outputs: Any) -> None:
            import atexit

            atexit.register(die, way)
            outputs[0].feed([OnDropping(way)])

        with ProcessSession(["a", "b"], log_prefix=False) as session:
            run_on(session, "a", python_net(leave, outputs=["x"]))
            witness = Witness(session, "a", "b")
            pids = [pid_of(session, node) for node in "ab"]
        assert gone(pids)
        witness.check_views()

    def test_at_a_random_moment(self, chance):
        for _ in range(25):
            session = ProcessSession(["a", "b"])
            witness = Witness(session, "a", "b")
            pids = [pid_of(session, node) for node in "ab"]
            doomed, number = chance.choice(pids), chance.choice(FROM_OUTSIDE)
            with after(chance.uniform(0, 0.004), lambda: send(doomed, number)):  # noqa: B023
                session.close()
            assert gone(pids)
            witness.check_views()


class TestAnyMoment:
    """A mixture of work, until the node is dead."""

    def work(self, session: ProcessSession, chance: random.Random, values: dict[str, Any]) -> None:
        """Do one thing, and compare what comes of it."""
        workspace = session.workspace("a")
        generator = np.random.default_rng(chance.randrange(1 << 30))
        name = chance.choice("xyz")
        what = chance.choice(["small", "large", "object", "long", "fetch", "run", "call", "drop"])
        if what == "small":
            value: Any = generator.random(20)
        elif what == "large":
            value = generator.random(chance.randrange(1000, 200_000))
        elif what == "object":
            value = {"some": generator.random(5).tolist()}
        elif what == "long":
            value = generator.bytes(chance.randrange(1000, 300_000))
        if what in ("small", "large", "object", "long"):
            workspace.feed_blob(name, value)
            values[name] = value
        elif what == "fetch" and name in values:
            self.compare(workspace.fetch_blob(name), values[name])
        elif what == "run" and isinstance(values.get(name), np.ndarray):
            run_on(session, "a", adding(name, values[name].size))
            values[name] = values[name] + 1
        elif what == "call":
            array = generator.random(chance.randrange(1, 5000))
            self.compare(session.submit(np.negative, array, node="a").result(), -array)
        elif what == "drop" and name in values:
            workspace.remove_blob(name)
            del values[name]

    def compare(self, found: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found, value)
        else:
            assert found == value

    def test_of_a_mixture_of_work(self, chance):
        for _ in range(20):
            with ProcessSession(["a", "b"]) as session:
                witness = Witness(session, "a", "b", chance=chance)
                pid, number = pid_of(session, "a"), chance.choice(FROM_OUTSIDE)
                values: dict[str, Any] = {}
                with (  # noqa: PT012
                    pytest.raises(NodeDiedError) as caught,
                    after(chance.uniform(0, 0.04), lambda: send(pid, number)),  # noqa: B023
                ):
                    while True:
                        self.work(session, chance, values)
                assert (caught.value.pid, caught.value.signal) == (pid, number)
                assert not psutil.pid_exists(pid)
                witness.check_views()
                witness.check_node("b")
                check_dead(session)
