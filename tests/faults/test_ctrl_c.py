"""Ctrl-C: a KeyboardInterrupt, once, in the coordinator; the session can be used, with all workers.

| what it comes into | what is looked at |
| --- | --- |
| a run, of one node and of two | it is called off; nobody has to die for it |
| feeds of all sizes | the old value, the new one, or torn: never a mixture |
| fetches, calls, `new_blob` | each is done, or not; what comes next gets its own answer |
| a script, in its terminal | workers take no notice |
| opening and closing | nothing stays behind |

In this process it is made by another thread (`_thread.interrupt_main`, `pthread_kill`) or by a
timer of the kernel's, after a random time: hundreds of times, in a loop of work.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from tests.faults.moments import (
    MIB,
    WITHIN,
    Witness,
    adding,
    beside_endless,
    endless,
    pid_of,
    script,
    until,
)
from tests.session.process_nodes import python_net, run_on, segments

from procession import (
    Node,
    ProcessSession,
    Task,
    TaskGroup,
    TornBlobError,
    WorkspaceType,
)

TIMES = int(os.environ.get("PROCESSION_FAULTS_INTERRUPTS", "200"))
"""How often each kind of work is interrupted."""


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Whoever runs the tests in the background may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def by_interrupt_main() -> None:
    _thread.interrupt_main()


def by_pthread_kill() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


class Interrupter:
    """Makes Ctrl-C a random moment after it was told to, in a thread of its own."""

    def __init__(self, chance: random.Random, longest: float) -> None:
        self._chance = chance
        self._longest = longest
        self._go = threading.Semaphore(0)
        self._made = threading.Event()
        self._end = False
        self.ways = [by_interrupt_main, by_pthread_kill]
        self.swallowed = 0
        """How often it came into a finalizer, where Python prints it and goes on."""
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._look
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            self._go.acquire()
            if self._end:
                return
            moment = self._chance.uniform(0, self._longest)
            end = time.perf_counter() + moment
            while (left := end - time.perf_counter()) > 0:
                time.sleep(left / 2)
            self._made.set()
            self._chance.choice(self.ways)()

    def close(self) -> None:
        self._end = True
        self._go.release()
        self._thread.join(WITHIN)
        sys.unraisablehook = self._hook
        print("swallowed by finalizers:", self.swallowed)

    def _look(self, what: Any) -> None:
        if what.exc_type is not KeyboardInterrupt:
            self._hook(what)
            return
        # Whoever pressed Ctrl-C does so again.
        self.swallowed += 1
        self._go.release()

    def interrupt(self, work: Callable[[], object]) -> int:
        """Do work again and again until Ctrl-C comes; how often it was done entirely.

        It comes exactly once.
        """
        done = 0
        self._made.clear()
        try:
            self._go.release()
            while True:
                work()
                done += 1
                if self._made.is_set() and done > 1_000_000:
                    raise AssertionError("it did not come")
        except KeyboardInterrupt:
            pass
        # A second one would come here, or anywhere behind.
        for _ in range(10):
            time.sleep(0)
        return done


@pytest.fixture
def interrupter(chance) -> Iterator[Interrupter]:
    made = Interrupter(chance, 0.004)
    try:
        yield made
    finally:
        made.close()


class Pids:
    """The workers, which have to stay the same."""

    def __init__(self, session: ProcessSession) -> None:
        self.session = session
        self.pids = {node: pid_of(session, node) for node in session.nodes}

    def check(self) -> None:
        """Nobody has died, and nobody was started."""
        assert {node: pid_of(self.session, node) for node in self.session.nodes} == self.pids
        for pid in self.pids.values():
            assert psutil.pid_exists(pid)


class TestRuns:
    def test_small_ones(self, session, interrupter):
        witness, pids = Witness(session, "a", "b"), Pids(session)
        workspace = session.workspace("a")
        workspace.feed_blob("x", np.zeros(3))
        net, least = adding("x", 3), 0
        for _ in range(TIMES):
            least += interrupter.interrupt(lambda: run_on(session, "a", net))
            value = workspace.fetch_blob("x")
            # The one that was interrupted was done, or called off.
            assert value[0] in (least, least + 1)
            assert (value == value[0]).all()
            least = int(value[0])
        pids.check()
        for node in "ab":
            witness.check_node(node)

    def test_endless_ones_of_two_nodes(self, session, interrupter):
        witness, pids = Witness(session, "a", "b"), Pids(session)
        group = beside_endless("a", endless(), "b")
        # The other way wakes nobody who sleeps in a system call, which is Python's to say.
        interrupter.ways = [by_pthread_kill]
        for _ in range(TIMES // 5):
            assert interrupter.interrupt(lambda: session.run(group)) == 0
        first = [session.workspace(node).fetch_blob("n") for node in "ab"]
        assert first == [session.workspace(node).fetch_blob("n") for node in "ab"]
        pids.check()
        for node in "ab":
            witness.check_node(node)

    def test_new_ones_which_are_shipped(self, session, interrupter, chance):
        """The program goes with the first run; a large one takes its time."""
        witness, pids = Witness(session, "a", "b"), Pids(session)
        for size in chance.choices([1, 1000, 100_000], k=TIMES // 10):
            ballast = bytes(size)

            def once() -> None:
                def work(inputs: Any, outputs: Any) -> None:
                    outputs[0].feed(np.array([len(ballast)]))  # noqa: B023

                run_on(session, "a", python_net(work, outputs=["size"]))

            interrupter.interrupt(once)
            once()
            assert session.workspace("a").fetch_blob("size") == [size]
        pids.check()
        for node in "ab":
            witness.check_node(node)

    def test_with_outputs(self, session, interrupter):
        witness, pids = Witness(session, "a", "b"), Pids(session)
        session.workspace("a").feed_blob("x", np.zeros(10_000))
        with TaskGroup(WorkspaceType.GLOBAL) as group, Node("a"):
            task = Task(step=adding("x", 10_000), outputs=["x"])
        least = 0.0
        views = []
        for _ in range(TIMES // 3):
            interrupter.interrupt(lambda: session.run(group))
            session.run(group)
            view = task.outputs()[0].fetch()
            assert view[0] > least
            assert (view == view[0]).all()
            least = view[0]
            views = [*views[-3:], (view, least)]
            for earlier, value in views:
                assert (earlier == value).all()
        pids.check()
        for node in "ab":
            witness.check_node(node)


class TestBlobs:
    @pytest.mark.parametrize("size", [1, 1000, MIB // 2])
    def test_feeds(self, session, interrupter, size):
        witness, pids = Witness(session, "a", "b"), Pids(session)
        workspace = session.workspace("a")
        torn, number = 0, 0.0

        def feed() -> None:
            nonlocal number
            number += 1
            workspace.feed_blob("x", np.full(size, number))

        feed()
        for _ in range(TIMES if size < MIB // 2 else TIMES // 4):
            interrupter.interrupt(feed)
            try:
                value = workspace.fetch_blob("x")
            except TornBlobError as error:
                assert (error.blob, error.node) == ("x", "a")  # noqa: PT017
                torn += 1
            else:
                assert value[0] in (number - 1, number)
                assert (value == value[0]).all()
                del value
            feed()
            value = workspace.fetch_blob("x")
            assert (value == number).all()
            assert value.size == size
            del value
        assert size > 1 or not torn
        pids.check()
        for node in "ab":
            witness.check_node(node)

    @pytest.mark.parametrize("size", [100, 10_000, MIB])
    def test_feeds_and_fetches_of_objects(self, session, interrupter, size):
        witness, pids = Witness(session, "a", "b"), Pids(session)
        workspace = session.workspace("a")
        letters = "abcdefghijklmnopqrstuvwxyz"
        number = 0

        def feed_and_fetch() -> None:
            nonlocal number
            number += 1
            workspace.feed_blob("text", letters[number % 26] * size)
            assert workspace.fetch_blob("text") == letters[number % 26] * size

        feed_and_fetch()
        for _ in range(TIMES if size < MIB else TIMES // 4):
            interrupter.interrupt(feed_and_fetch)
            text = workspace.fetch_blob("text")
            assert text[:1] in (letters[number % 26], letters[(number - 1) % 26])
            assert text == text[:1] * size
        pids.check()
        for node in "ab":
            witness.check_node(node)

    def test_a_mixture(self, session, interrupter, chance):
        """Every answer is that of its own question."""
        witness, pids = Witness(session, "a", "b"), Pids(session)
        workspace = session.workspace("a")
        values = {"small": np.arange(10.0), "large": np.arange(50_000.0), "long": "z" * 20_000}
        for name, value in values.items():
            workspace.feed_blob(name, value)

        def fetch(name: str) -> None:
            np.testing.assert_array_equal(workspace.fetch_blob(name), values[name])

        def fill() -> None:
            with workspace.new_blob("filled", (20_000,)) as array:
                array[:] = 7
            assert (workspace.fetch_blob("filled") == 7).all()

        def drop() -> None:
            workspace.feed_blob("dropped", 1)
            workspace.remove_blob("dropped")
            assert not workspace.has_blob("dropped")

        def call() -> None:
            array = np.arange(2000.0)
            np.testing.assert_array_equal(
                session.submit(np.negative, array, node="a").result(), -array
            )

        def look() -> None:
            assert {"small", "large", "long"} <= set(workspace.names())

        kinds: list[Callable[[], None]] = [
            lambda: fetch("small"),
            lambda: fetch("large"),
            lambda: fetch("long"),
            fill,
            drop,
            call,
            look,
        ]
        for _ in range(TIMES):
            interrupter.interrupt(lambda: chance.choice(kinds)())
            with contextlib.suppress(KeyError):
                workspace.remove_blob("dropped")
        for name in values:
            fetch(name)
        assert session.stats()["a"].shared_bytes < 64 * MIB
        pids.check()
        for node in "ab":
            witness.check_node(node)


class TestOnce:
    def test_by_a_timer_of_the_kernel_s(self, session, chance, interrupter):
        """Signals that really come from outside, at moments that Python does not choose."""
        witness, pids = Witness(session, "a", "b"), Pids(session)
        workspace = session.workspace("a")
        caught = handled = 0

        def handle(number: int, frame: Any) -> None:
            nonlocal handled
            handled += 1
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGVTALRM, handle)
        try:
            for number in range(TIMES // 2):
                value = np.full(chance.choice([2, 3000]), float(number))
                try:
                    signal.setitimer(signal.ITIMER_VIRTUAL, chance.uniform(0.0001, 0.004))
                    while True:
                        workspace.feed_blob("x", value)
                        found = workspace.fetch_blob("x")
                        assert found.size == value.size
                        assert (found == number).all()
                except KeyboardInterrupt:
                    caught += 1
                assert caught == handled
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
        pids.check()
        for node in "ab":
            witness.check_node(node)

    def test_in_another_thread_s_run_it_changes_nothing(self, session, interrupter):
        """It comes to the main thread, which asks one node; the other node's run goes on."""
        pids = Pids(session)
        workspace = session.workspace("b")
        workspace.feed_blob("x", np.zeros(1))
        with Node("a"):
            future = session.run_async(endless())
        until(future.running)
        for _ in range(TIMES // 5):
            interrupter.interrupt(lambda: workspace.fetch_blob("x"))
        assert future.running()
        future.cancel()
        pids.check()


class TestOpeningAndClosing:
    def test_leave_nothing(self, chance):
        made = Interrupter(chance, 0.025)
        try:
            for _ in range(25):
                kept: list[ProcessSession] = []

                def open_and_close() -> None:
                    with ProcessSession(["a"]) as session:
                        kept.append(session)  # noqa: B023
                        session.workspace("a").feed_blob("x", np.zeros(10_000))
                        session.workspace("b").feed_blob("x", 1)

                made.interrupt(open_and_close)
                for session in kept:
                    session.close()
                assert not any(session.is_open() for session in kept)
        finally:
            made.close()
        kept.clear()
        until(lambda: not segments())


SCRIPT = """
import os, signal, sys, threading
import numpy as np
from procession import Net, Node, ProcessSession, Task, TaskGroup, WorkspaceType, execution_step
signal.signal(signal.SIGINT, signal.default_int_handler)
session = ProcessSession(["a", "b"])
kept = np.arange(100_000.0)
for node in "ab":
    session.workspace(node).feed_blob("kept", kept)
pids = [stats.pid for stats in session.stats().values()]
caught = 0

def net():
    WHAT

with TaskGroup(WorkspaceType.GLOBAL) as group:
    for node in "ab":
        with Node(node):
            Task(step=net())
for number in range(3):
    print("ready", flush=True)
    try:
        session.run(group)
    except KeyboardInterrupt:
        caught += 1
    for node in "ab":
        assert (session.workspace(node).fetch_blob("kept") == kept).all()
assert pids == [stats.pid for stats in session.stats().values()]
print("caught", caught)
session.close()
"""
ENDLESS = """
    first, turn = Net("first"), Net("turn")
    first.Print(first.Const("running"), 0)
    turn.Const(False, "stop")
    loop = execution_step("loop", turn, should_stop_blob="stop")
    return execution_step("all", [execution_step("first", first), loop])
"""
SLEEPING = """
    def work(inputs, outputs):
        import time
        print("running", flush=True)
        time.sleep(0.3)
    one = Net("one")
    one.Python(work)([], [])
    turn = Net("turn")
    turn.Const(False, "stop")
    loop = execution_step("loop", turn, should_stop_blob="stop")
    return execution_step("all", [execution_step("one", one), loop])
"""


class TestScripts:
    @pytest.mark.parametrize("what", [ENDLESS, SLEEPING], ids=["between operators", "in one"])
    @pytest.mark.parametrize("whom", ["the group", "the coordinator"])
    def test_in_a_terminal(self, tmp_path, what, whom):
        """Ctrl-C goes to all processes of the group: the workers leave it to the coordinator."""
        process = script(tmp_path, SCRIPT.replace("    WHAT", what), start_new_session=True)
        try:
            for _ in range(3):
                assert process.stdout.readline() == "ready\n"
                assert {process.stdout.readline() for _ in "ab"} == {
                    "[a] running\n",
                    "[b] running\n",
                }
                if whom == "the group":
                    os.killpg(process.pid, signal.SIGINT)
                else:
                    os.kill(process.pid, signal.SIGINT)
            out, complaints = process.communicate(timeout=WITHIN)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert (out, complaints, process.returncode) == ("caught 3\n", "", 0)

    def test_nobody_catches_it(self, tmp_path):
        """The script ends as every script does, and nothing of the workers is seen."""
        text = SCRIPT.replace("    WHAT", ENDLESS)
        text = text.replace("except KeyboardInterrupt", "except ValueError")
        process = script(tmp_path, text, start_new_session=True)
        try:
            assert process.stdout.readline() == "ready\n"
            for _ in "ab":
                process.stdout.readline()
            children = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)
            out, complaints = process.communicate(timeout=WITHIN)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGINT
        assert out == ""
        assert complaints.count("Traceback") == 1
        assert complaints.rstrip().endswith("KeyboardInterrupt")
        _, left = psutil.wait_procs(children, timeout=WITHIN)
        assert not left
