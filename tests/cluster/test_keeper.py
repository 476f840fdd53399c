"""The parent of workers, by itself: its file is run without the package, as `spawn` does it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from procession.cluster import keeper

DEADLINE = 20

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans over")

HELPERS = """
import json, os, signal, socket, sys, time

def new_worker(keeper, job):
    ours, control = socket.socketpair()
    ours.settimeout(20)
    if keeper.fork(control) == 0:
        ours.close()
        job()
        signal.pause()
    pid, fds, _, _ = socket.recv_fds(ours, 8, 1)
    return ours, int.from_bytes(pid, sys.byteorder, signed=True)

def child(tell=None, deaf=False):
    pid = os.fork()
    if pid == 0:
        if deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if tell is not None:
            os.write(tell, b"%d\\n" % os.getpid())
            os.close(tell)
        while True:
            signal.pause()
    return pid

def until_idle(keeper):
    deadline = time.monotonic() + 20
    while not keeper.idle and time.monotonic() < deadline:
        keeper.wait(0.1)
    return keeper.idle

def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

def number(control):
    return int.from_bytes(control.recv(8), sys.byteorder, signed=True)
"""


def run(text: str) -> str:
    """What a process prints that has the names of keeper.py, and no package."""
    code = f"exec(open({keeper.__file__!r}).read())\n{HELPERS}\n{textwrap.dedent(text)}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_it_imports_nothing_of_the_package() -> None:
    assert run("print([name for name in sys.modules if 'procession' in name])") == "[]\n"


def test_a_worker_is_told_of_and_waited_for() -> None:
    text = """
    keeper = Keeper()
    control, pid = new_worker(keeper, lambda: os._exit(7))
    assert not keeper.idle
    assert until_idle(keeper)
    print(number(control), control.recv(8), exists(pid))
    """
    assert run(text) == "7 b'' False\n"


def test_a_worker_has_nothing_of_its_keeper() -> None:
    text = """
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    keeper = Keeper()
    read, write = os.pipe()
    def look():
        changed = [n for n, handler in before.items() if signal.getsignal(n) != handler]
        os.close(read)
        os.write(write, json.dumps([changed, sorted(os.listdir("/proc/self/fd"))]).encode())
        os._exit(os.getpgrp() != os.getpid())
    other, _ = new_worker(keeper, signal.pause)
    control, _ = new_worker(keeper, look)
    changed, files = json.loads(os.read(read, 1000))
    # SIGINT means nothing until the worker says so. The standard files, `other` and the process
    # that is behind it, `write`, and the directory that is read: nothing else.
    print(changed == [signal.SIGINT], len(files))
    other.close()
    assert until_idle(keeper)
    print(number(control))
    """
    assert run(text) == "True 7\n0\n"


def test_who_is_given_up_is_killed() -> None:
    text = """
    keeper = Keeper()
    control, pid = new_worker(keeper, signal.pause)
    control.close()
    print(until_idle(keeper), exists(pid))
    """
    assert run(text) == "True False\n"


@linux
class TestOrphans:
    @pytest.mark.parametrize("deaf", [False, True])
    def test_end_with_their_worker(self, deaf) -> None:
        text = f"""
        keeper = Keeper()
        read, write = os.pipe()
        control, pid = new_worker(keeper, lambda: child(write, {deaf}))
        orphan = int(os.read(read, 20))
        kept, _ = new_worker(keeper, lambda: child(write, {deaf}))
        other = int(os.read(read, 20))
        os.kill(pid, signal.SIGKILL)
        keeper.wait()
        # At once, whatever becomes of the orphans.
        print(number(control))
        while exists(orphan):
            keeper.wait(0.1)
        print(control.recv(8), exists(other))
        keeper.end_all()
        print(exists(other), keeper.idle)
        """
        assert run(text) == "-9\nb'' True\nFalse True\n"

    def test_of_living_workers_are_left_alone_and_reaped(self) -> None:
        text = """
        keeper = Keeper()
        read, write = os.pipe()
        def leave():
            if os.fork() == 0:
                child(write)
                os._exit(0)
            os.wait()
        control, pid = new_worker(keeper, leave)
        orphan = int(os.read(read, 20))
        while orphan not in children():
            keeper.wait(0.05)
        assert mark_of(orphan) == mark_of(pid) is not None
        keeper.wait(0)
        print(exists(orphan), exists(pid))
        os.kill(orphan, signal.SIGKILL)
        while exists(orphan):
            keeper.wait(0.1)
        print(exists(pid))
        keeper.end_all()
        """
        assert run(text) == "True True\nTrue\n"

    def test_without_a_mark_end_with_the_last_worker(self) -> None:
        text = """
        keeper = Keeper()
        read, write = os.pipe()
        def unmarked():
            bear(12345)
            child(write)
        first, pid = new_worker(keeper, unmarked)
        orphan = int(os.read(read, 20))
        second, last = new_worker(keeper, signal.pause)
        os.kill(pid, signal.SIGKILL)
        while exists(pid):
            keeper.wait(0.1)
        keeper.wait(0)
        print(number(first), exists(orphan))
        os.kill(last, signal.SIGKILL)
        print(until_idle(keeper), exists(orphan))
        """
        assert run(text) == "-9 True\nTrue False\n"

    def test_of_others_are_left_alone(self) -> None:
        text = """
        own = child()
        keeper = Keeper()
        control, pid = new_worker(keeper, lambda: os._exit(0))
        print(until_idle(keeper), exists(own))
        os.kill(own, signal.SIGKILL)
        """
        assert run(text) == "True True\n"

    def test_without_subreapers_those_of_its_group_end(self) -> None:
        text = """
        _libc_prctl = None
        keeper = Keeper()
        read, write = os.pipe()
        def work():
            child(write)
            os.close(write)
        control, pid = new_worker(keeper, work)
        os.close(write)
        orphan = int(os.read(read, 20))
        os.kill(pid, signal.SIGKILL)
        print(until_idle(keeper), number(control))
        print(os.read(read, 20))
        """
        # The child closed its end of the pipe when it had told its pid: what is read is the end.
        assert run(text) == "True -9\nb''\n"


def test_children_can_be_found_without_the_kernel_s_list(monkeypatch) -> None:
    real = open

    def without(path, *arguments, **options):
        if str(path).endswith("/children"):
            raise FileNotFoundError(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(keeper, "open", without, raising=False)
    child = subprocess.Popen(["sleep", "1000"])
    try:
        assert child.pid in keeper.children()
        assert os.getppid() not in keeper.children()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(DEADLINE)


@linux
def test_a_parent_that_died_before() -> None:
    text = """
    read, write = os.pipe()
    if os.fork() == 0:
        die_with(12345678)
        os.write(write, b"alive")
        os._exit(0)
    os.close(write)
    print(os.read(read, 20), os.wait()[1] >> 8)
    """
    assert run(text) == "b'' 1\n"
