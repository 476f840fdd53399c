"""The janitor does what it was asked for when it is quiet, and is in nobody's way."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from procession.cluster.janitor import LONGEST, QUIET, Chore

LIMIT = 30.0


class Owner:
    """Has something to be done, after having been busy a number of times."""

    def __init__(self, busy: int = 0, doing: Callable[[], Any] = lambda: None) -> None:
        self.busy = busy
        self.doing = doing
        self.times: list[float] = []
        self.threads: list[str] = []
        self.done = threading.Event()

    def work(self) -> bool:
        self.times.append(time.monotonic())
        self.threads.append(threading.current_thread().name)
        if self.busy:
            self.busy -= 1
            return False
        self.done.set()
        self.doing()
        return True


def started(owner: Owner) -> Chore:
    chore = Chore(owner.work)
    chore.start()
    return chore


def test_a_chore_is_done_by_a_thread_of_its_own() -> None:
    owner = Owner()
    chore = started(owner)
    before = time.monotonic()
    chore.ask()
    assert owner.done.wait(LIMIT)
    assert owner.times[0] - before >= QUIET
    assert owner.threads == ["procession-janitor"]
    assert [t.daemon for t in threading.enumerate() if t.name == "procession-janitor"] == [True]


def test_asking_often_is_asking_once() -> None:
    owner, last = Owner(), Owner()
    chore = started(owner)
    for _ in range(1000):
        chore.ask()
    assert owner.done.wait(LIMIT)
    started(last).ask()
    assert last.done.wait(LIMIT)
    assert len(owner.times) == 1


def test_it_can_be_asked_again_while_it_is_done() -> None:
    again = Owner()
    owner = Owner(doing=lambda: again.busy or chore.ask())
    chore = started(owner)
    chore.ask()
    assert owner.done.wait(LIMIT)
    owner.done.clear()
    again.busy = 1
    assert owner.done.wait(LIMIT)


def test_who_was_busy_is_asked_again_ever_later() -> None:
    owner = Owner(busy=3)
    started(owner).ask()
    assert owner.done.wait(LIMIT)
    gaps = [after - before for before, after in zip(owner.times, owner.times[1:], strict=False)]
    assert len(gaps) == 3
    for number, gap in enumerate(gaps):
        assert gap >= QUIET * 2**number * 0.99


def test_a_busy_one_does_not_hold_up_others() -> None:
    busy = Owner(busy=1 << 30)
    others = [Owner() for _ in range(3)]
    started(busy).ask()
    for other in others:
        started(other).ask()
        assert other.done.wait(LIMIT)
    busy.busy = 0
    assert busy.done.wait(LIMIT)


def test_requests_without_end_do_not_put_it_off_for_good() -> None:
    owner = Owner()
    chores = [started(Owner()) for _ in range(3)]
    begin = time.monotonic()
    started(owner).ask()
    while not owner.done.wait(QUIET / 10):
        assert time.monotonic() - begin < LIMIT
        for chore in chores:
            chore.ask()
    assert owner.times[0] - begin >= LONGEST * 0.99


def test_an_owner_that_is_garbage_has_nothing_to_do() -> None:
    owner, last = Owner(), Owner()
    times = owner.times
    chore = started(owner)
    seen = weakref.ref(owner)
    chore.ask()
    del owner
    assert seen() is None
    started(last).ask()
    assert last.done.wait(LIMIT)
    assert times == []


def test_an_error_ends_neither_the_thread_nor_anything_else() -> None:
    def fail() -> None:
        raise RuntimeError("not now")

    owner, last = Owner(doing=fail), Owner()
    started(owner).ask()
    assert owner.done.wait(LIMIT)
    started(last).ask()
    assert last.done.wait(LIMIT)
    assert len(owner.times) == 1


def test_finalizers_may_ask() -> None:
    """Also one that runs in the middle of asking."""
    owner = Owner()
    chore = started(owner)

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            chore.ask()

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(2000):
            Cycle()
            chore.ask()
    finally:
        gc.set_threshold(*before)
    assert owner.done.wait(LIMIT)


def test_with_nothing_to_do_it_does_not_wake() -> None:
    owner = Owner()
    started(owner).ask()
    assert owner.done.wait(LIMIT)
    (thread,) = [t for t in threading.enumerate() if t.name == "procession-janitor"]
    assert thread.native_id is not None

    def asleep() -> int | None:
        """How often it has gone to sleep, None when it is not sleeping."""
        with open(f"/proc/self/task/{thread.native_id}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        if not fields["State"].strip().startswith("S"):
            return None
        return int(fields["voluntary_ctxt_switches"])

    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        first = asleep()
        threading.Event().wait(6 * QUIET)
        if first is not None and asleep() == first:
            return
    pytest.fail("it wakes up with nothing to do")


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PRELUDE = """
import atexit, os, sys, threading
from procession.cluster.janitor import Chore
class Owner:
    done = threading.Event()
    def work(self):
        self.done.set()
        return not busy
busy = False
owner = Owner()
chore = Chore(owner.work)
"""


@pytest.mark.parametrize(
    "rest",
    [
        "chore.start()",
        "chore.start(); chore.ask()",
        "chore.start(); chore.ask(); owner.done.wait(30)",
        "busy = True; chore.start(); chore.ask(); owner.done.wait(30)",
        "atexit.register(chore.ask); chore.start()",
        "atexit.register(chore.start); atexit.register(chore.ask)",
        "class Late:\n    def __del__(self, ask=chore.ask): ask()\nlate = sys.late = Late()\n"
        "chore.start()",
    ],
)
def test_the_interpreter_ends_as_ever(rest: str) -> None:
    ended = run(PRELUDE + rest)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_forked_copy_has_a_janitor_of_its_own() -> None:
    ended = run(
        "import warnings\n"
        + PRELUDE
        + """
chore.start()
chore.ask()
assert owner.done.wait(30)
owner.done.clear()
warnings.simplefilter("ignore")  # of forking a process that has threads
pid = os.fork()
if pid == 0:
    chore.ask()  # to nobody
    assert threading.active_count() == 1
    chore = Chore(owner.work)
    chore.start()
    chore.ask()
    os._exit(0 if owner.done.wait(30) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
chore.ask()
assert owner.done.wait(30)
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_there_is_one_thread_whatever_happens() -> None:
    owners = [Owner() for _ in range(8)]
    begin = threading.Barrier(8)

    def work(owner: Owner) -> None:
        begin.wait(LIMIT)
        started(owner).ask()

    threads = [threading.Thread(target=work, args=(owner,)) for owner in owners]
    for thread in threads:
        thread.start()
    for thread, owner in zip(threads, owners, strict=True):
        thread.join(LIMIT)
        # A chore that nobody has is done all the same.
        assert owner.done.wait(LIMIT)
    names = [t.name for t in threading.enumerate() if t.name == "procession-janitor"]
    assert len(names) == 1
