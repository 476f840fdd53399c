"""ProcessSession among operators and users that do unusual things."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.session.process_nodes import python_net, run_on

from procession import (
    LocalSession,
    Net,
    NodeDiedError,
    OperatorError,
    ProcessSession,
    RunTimeoutError,
    SessionBusyError,
    SessionClosedError,
)
from procession.cluster.channel import Channel
from procession.cluster.supervisor import Supervisor
from procession.testing.session_contract import constant


def run_script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


class TestOperatorsThat:
    def test_fork_and_come_back_twice(self, session):
        def fork(inputs, outputs):
            child = os.fork()
            if child == 0:
                raise SystemExit(0)
            os.waitpid(child, 0)
            outputs[0].feed(np.array(child))

        run_on(session, "a", python_net(fork, outputs=["child"]))
        workspace = session.workspace("a")
        for number in range(50):
            workspace.feed_blob("x", number)
            assert workspace.fetch_blob("x") == number

    def test_leave_a_child_that_outlives_the_worker_a_little(self, session, tmp_path):
        path = tmp_path / "pid"

        def leave(inputs, outputs):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                path.write_text(str(os.getpid()))
                os.write(write, b"+")
                while True:
                    signal.pause()
            os.read(read, 1)

        run_on(session, "a", python_net(leave))
        child = psutil.Process(int(path.read_text()))
        os.kill(session.stats()["a"].pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError, match="SIGKILL"):
            session.workspace("a").feed_blob("x", "a" * 4_000_000)
        assert psutil.wait_procs([child], timeout=10)[1] == []

    def test_leave_a_thread_behind(self, session, tmp_path):
        meet = str(tmp_path / "meet")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(meet)
        listener.listen()

        def leave(inputs, outputs, workspace):
            def later():
                with socket.socket(socket.AF_UNIX) as there:
                    there.connect(meet)
                    there.recv(1)
                    try:
                        workspace.feed_blob("late", np.zeros(5 << 20, np.uint8))
                    except RuntimeError as error:
                        there.send(str(error).encode())

            threading.Thread(target=later, daemon=True).start()

        run_on(session, "a", python_net(leave, pass_workspace=True))
        with listener, listener.accept()[0] as there:
            there.settimeout(30)
            there.send(b"+")
            assert b"outlived its run" in there.recv(1000)
        workspace = session.workspace("a")
        for number in range(20):
            workspace.feed_blob("x", number)
            assert workspace.fetch_blob("x") == number

    def test_take_the_streams_away(self, session):
        def take(inputs, outputs):
            sys.stdout = None

        run_on(session, "a", python_net(take))
        run_on(session, "a", constant("net", "x", 1))
        assert session.workspace("a").fetch_blob("x") == 1

    @pytest.mark.parametrize(
        "kind", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, RecursionError]
    )
    def test_raise_what_is_no_error(self, session, kind):
        def fail(inputs, outputs):
            raise kind("odd")

        session.workspace("a").feed_blob("kept", 1)
        with pytest.raises(OperatorError, match=kind.__name__) as caught:
            run_on(session, "a", python_net(fail))
        assert "operator Python[fail]() of net" in str(caught.value)
        assert (caught.value.node, caught.value.operator) == ("a", "Python")
        assert isinstance(caught.value.__cause__, kind)
        assert session.workspace("a").fetch_blob("kept") == 1

    def test_raise_what_cannot_be_printed(self, session):
        class MuteError(Exception):
            def __str__(self):
                raise ValueError("no words")

        def fail(inputs, outputs):
            raise MuteError

        for where in (session, LocalSession()):
            with where, pytest.raises(OperatorError, match=r"MuteError.*could not be made"):
                run_on(where, "a", python_net(fail))

    def test_raise_with_causes_that_go_in_a_circle(self, session):
        def fail(inputs, outputs):
            one, other = ValueError("one"), ValueError("other")
            one.__cause__, other.__cause__ = other, one
            raise one

        with pytest.raises(OperatorError, match="one"):
            run_on(session, "a", python_net(fail))
        run_on(session, "a", constant("net", "x", 1))

    def test_keep_a_count_and_fail_at_first(self):
        def counter():
            count = [0]

            def step(inputs, outputs):
                count[0] += 1
                outputs[0].feed(np.array(count[0]))

            return step

        def fail_twice(inputs, outputs):
            if inputs[0].data < 3:
                raise ValueError("not yet")

        net = Net("net")
        net.Python((counter, [], {}))([], ["count"])
        net.Python(fail_twice)(["count"], [])
        for kind in (LocalSession, ProcessSession):
            with kind() as session:
                for _ in range(2):
                    with pytest.raises(OperatorError, match="not yet"):
                        session.run(net)
                session.run(net)
                assert session.workspace().fetch_blob("count") == 3

    def test_use_a_session_of_their_own(self, session):
        def nest(inputs, outputs):
            from procession import LocalSession

            with LocalSession() as inner:
                inner.workspace("b").feed_blob("x", np.arange(3000))
                outputs[0].feed(inner.workspace("b").fetch_blob("x"))

        run_on(session, "a", python_net(nest, outputs=["y"]))
        np.testing.assert_array_equal(session.workspace("a").fetch_blob("y"), np.arange(3000))


class TestTimeouts:
    @pytest.mark.parametrize("size", [1, 250_000])
    def test_a_worker_that_was_stopped(self, session, size):
        session.workspace("a").feed_blob("x", 1)
        os.kill(session.stats()["a"].pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(RunTimeoutError) as caught:
            run_on(session, "a", constant("net", "x", np.zeros(size)), timeout=0.5)
        assert time.monotonic() - began < 30
        assert caught.value.killed == ("a",)
        run_on(session, "b", constant("net", "x", 1))

    @pytest.mark.parametrize("seconds", [math.inf, 1e7, 1e300])
    def test_very_long_ones(self, session, seconds):
        session.run(constant("net", "x", 1), timeout=seconds)

    @pytest.mark.parametrize("seconds", [0, -1, math.nan])
    def test_those_that_make_no_sense(self, seconds):
        for kind in (LocalSession, ProcessSession):
            with kind() as session, pytest.raises(ValueError, match="timeout"):
                session.run(constant("net", "x", 1), timeout=seconds)


class TestSignals:
    def test_a_handler_that_uses_the_session_in_a_run(self, session):
        session.workspace("a").feed_blob("x", 3)
        coordinator = os.getpid()
        caught = []

        def handle(number, frame):
            try:
                session.workspace("a").fetch_blob("x")
            except SessionBusyError as error:
                caught.append(error)

        def call_back(inputs, outputs):
            os.kill(coordinator, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            run_on(session, "a", python_net(call_back), timeout=60)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert len(caught) == 1
        assert session.workspace("a").fetch_blob("x") == 3

    def test_closed_in_the_middle_of_a_message(self, session, monkeypatch):
        # As a signal handler does it, at the worst moment.
        session.workspace("a").feed_blob("x", 1)
        channel = session._supervisor.nodes["a"].channel
        send = channel.send

        def closing(*arguments, **options):
            monkeypatch.undo()
            session.close()
            return send(*arguments, **options)

        monkeypatch.setattr(channel, "send", closing)
        with pytest.raises(SessionClosedError):
            run_on(session, "a", python_net(lambda inputs, outputs: None))
        session.close()

    def test_a_handler_that_closes_the_session_in_a_run(self, session):
        coordinator = os.getpid()

        def call_back(inputs, outputs):
            os.kill(coordinator, signal.SIGUSR1)
            threading.Event().wait(60)

        before = signal.signal(signal.SIGUSR1, lambda *a: session.close())
        try:
            with pytest.raises((SessionClosedError, NodeDiedError)):
                run_on(session, "a", python_net(call_back))
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert not session.is_open()

    @pytest.mark.parametrize("what", ["feed", "large feed", "remove", "run"])
    def test_ctrl_c_while_an_answer_is_awaited(self, session, monkeypatch, what):
        workspace = session.workspace("a")
        workspace.feed_blob("there", 1)
        spin = Channel.spin
        interrupts = [KeyboardInterrupt]

        def interrupted(self, limit):
            if interrupts:
                raise interrupts.pop()
            return spin(self, limit)

        act = {
            "feed": lambda: workspace.feed_blob("x", 1),
            "large feed": lambda: workspace.feed_blob("x", np.zeros(5000)),
            "remove": lambda: workspace.remove_blob("there"),
            "run": lambda: run_on(session, "a", constant("net", "x", 1)),
        }[what]
        monkeypatch.setattr(Channel, "spin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            act()
        assert workspace.has_blob("there") is (what != "remove")
        run_on(session, "a", constant("again", "x", 5))
        assert workspace.fetch_blob("x") == 5

    def test_ctrl_c_while_closing_leaves_nothing(self, monkeypatch):
        session = ProcessSession(["a", "b"])
        session.workspace("a").feed_blob("x", np.zeros(5000))
        process = type(session._supervisor.nodes["a"].life.process)
        join = process.join
        interrupts = [KeyboardInterrupt]

        def interrupted(self, timeout=None):
            if interrupts:
                raise interrupts.pop()
            return join(self, timeout)

        monkeypatch.setattr(process, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.close()
        assert not session.is_open()
        session.close()


class TestOwnership:
    def test_a_compiled_runnable_keeps_no_session(self):
        def supervisors() -> int:
            gc.collect()
            return sum(isinstance(thing, Supervisor) for thing in gc.get_objects())

        before = supervisors()
        compiled = ProcessSession.compile(constant("net", "x", 1))
        for _ in range(3):
            with ProcessSession() as session:
                session.run(compiled)
        del session
        assert supervisors() == before

    def test_dropped_runnables_are_forgotten(self, session):
        for _ in range(10):
            session.run(constant("net", "x", 1))
        gc.collect()
        session.run(constant("net", "x", 1))
        assert len(session._supervisor.nodes["local"]._shipped) <= 2

    def test_an_object_without_a_representation_can_be_fed(self, session):
        class Plain:
            def __repr__(self):
                raise ValueError("no words")

        session.workspace("a").feed_blob("x", [Plain()])

    def test_exit_after_finalizers_were_used_before_us(self, tmp_path):
        assert (
            run_script(
                tmp_path,
                """
                import tempfile, weakref
                class Thing: pass
                thing = Thing()
                weakref.finalize(thing, print, "first")
                from procession import ProcessSession
                session = ProcessSession(["a"])
                """,
            )
            == "first\n"
        )
