"""Whose the segments are, who lives, and what a sweeper takes. Owners are real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import procession
from procession.blobs import owner
from procession.blobs.segment import Segment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="owners are in /dev/shm")

PACKAGES = str(Path(procession.__file__).parents[1])
SHM = Path("/dev/shm")
NOBODY = 999_999_999
"""A process id that is never given."""
DEADLINE = 60


class Process:
    """Another Python, which does what it is told and then waits until it is killed."""

    def __init__(self, script: str) -> None:
        code = "import sys\n" + textwrap.dedent(script) + "\nsys.stdout.flush(); sys.stdin.read()"
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": PACKAGES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.words = self.line().split()

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def kill(self, *others: int) -> None:
        for pid in (*others, self.popen.pid):
            os.kill(pid, signal.SIGKILL)
        self.popen.communicate(timeout=DEADLINE)

    def end(self) -> None:
        _, err = self.popen.communicate(timeout=DEADLINE)
        assert (self.popen.returncode, err) == (0, "")

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.popen.wait(DEADLINE)


MAKES_ONE = """
    from multiprocessing import resource_tracker
    from procession.blobs.segment import Segment
    one = Segment.create(8192)
    print(one.name, resource_tracker._resource_tracker._pid)
"""


def owner_of(name: str) -> str:
    return name.rpartition("-")[0]


def sweep_all(prefix: str) -> None:
    """Sweep until nothing is left: somebody else on this machine may be sweeping it just then."""
    deadline = time.monotonic() + DEADLINE
    while owner.left_by(prefix):
        assert time.monotonic() < deadline, "it is not removed"
        owner.sweep(prefix)


class Fake:
    """An owner as another process namespace may have one: his id is nobody's here."""

    def __init__(self, letters: str, *, locked: bool, segments: int = 2) -> None:
        self.owner = f"{owner.PREFIX}{NOBODY}-{letters}"
        self.names = [f"{self.owner}-{n:011}" for n in range(segments)]
        self.path = Path(owner.DIRECTORY) / self.owner
        self.descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if locked:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        for n, name in enumerate(self.names):
            self.path.with_name(name).write_bytes(bytes(n + 1))

    def left(self) -> list[str]:
        return sorted(owner.left_by(self.owner))

    def all(self) -> list[str]:
        return sorted([self.owner, *self.names])

    def remove(self) -> None:
        os.close(self.descriptor)
        for name in self.left():
            os.unlink(self.path.with_name(name))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where nobody else sweeps, in place of /dev/shm."""
    monkeypatch.setattr(owner, "DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.fixture
def fakes(place: Path) -> Iterator[Any]:
    made: list[Fake] = []

    def make(letters: str = "abcdefghij", *, locked: bool = False, segments: int = 2) -> Fake:
        made.append(Fake(letters, locked=locked, segments=segments))
        return made[-1]

    yield make
    for one in made:
        one.remove()


# The owner.


def test_the_lock_file_is_there_while_there_are_segments() -> None:
    assert owner.left_by(owner.prefix()) == []
    first, second = Segment.create(4096), Segment.create(4096)
    path = SHM / owner_of(first.name)
    assert owner_of(second.name) == path.name
    status = os.stat(path)
    assert (status.st_size, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    with open(path) as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    first.unlink()
    assert path.exists()
    second.unlink()
    assert owner.left_by(owner.prefix()) == []
    third = Segment.create(4096)
    assert owner_of(third.name) != path.name
    third.unlink()


def test_the_lock_file_is_not_handed_to_other_programs() -> None:
    one = Segment.create(4096)
    (descriptor,) = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}")
        and os.readlink(f"/proc/self/fd/{name}").endswith(owner_of(one.name))
    ]
    assert not os.get_inheritable(descriptor)
    one.unlink()


def test_an_owner_who_is_locked_or_unlinked_at_his_start_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By sweepers, who come in between making the file and locking it."""
    opened, interventions = os.open, ["lock", "unlink", "lock and unlink"]
    held: list[int] = []

    def open_and_sweep(path: Any, flags: int, mode: int = 0o777) -> int:
        descriptor = opened(path, flags, mode)
        if flags & os.O_CREAT and interventions:
            what = interventions.pop(0)
            if "lock" in what.split():
                held.append(opened(path, os.O_RDONLY))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            if "unlink" in what:
                os.unlink(path)
        return descriptor

    monkeypatch.setattr(owner.os, "open", open_and_sweep)
    one = Segment.create(4096)
    monkeypatch.undo()
    assert interventions == []
    for descriptor in held:
        os.close(descriptor)
    assert sorted(owner.left_by(owner.prefix())) == [owner_of(one.name), one.name]
    assert owner.sweep(owner.prefix()) == []
    one.unlink()
    assert owner.left_by(owner.prefix()) == []


def test_whose_lock_file_was_closed_makes_another() -> None:
    """As by programs that close all files they find, before they turn into daemons."""
    with Process(
        """
        import os
        from procession.blobs import owner
        from procession.blobs.segment import Segment
        first = Segment.create(4096)
        (lock,) = [
            fd for fd in range(3, 100)
            if os.path.exists(f"/proc/self/fd/{fd}")
            and os.readlink(f"/proc/self/fd/{fd}") == f"/dev/shm/{first.name.rpartition('-')[0]}"
        ]
        other = os.open(os.devnull, os.O_RDONLY)
        os.dup2(other, lock)
        second = Segment.create(4096)
        first.unlink(); second.unlink()
        os.fstat(lock)
        print(first.name, second.name, *owner.left_by(owner.prefix()))
        """
    ) as process:
        first, second, *left = process.words
        assert owner_of(first) != owner_of(second)
        # The first lock was lost, so the file may have been swept.
        assert left in ([owner_of(first)], [])
        sweep_all(owner_of(first))


def test_a_fork_holds_no_lock_takes_nothing_away_and_owns_what_it_makes() -> None:
    with Process(
        """
        import os
        from procession.blobs import owner
        from procession.blobs.segment import Segment
        mine = Segment.create(4096)
        ready, wait = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(wait[1])
            mine.unlink()
            theirs = Segment.create(4096)
            os.write(ready[1], theirs.name.encode())
            os.read(wait[0], 1)
            theirs.unlink()
            os._exit(0)
        name = os.read(ready[0], 1000).decode()
        print(pid, mine.name, name, os.path.exists("/dev/shm/" + mine.name), flush=True)
        """
    ) as process:
        pid, mine, theirs, exists = process.words
        assert mine.startswith(f"{owner.PREFIX}{process.popen.pid}-")
        assert theirs.startswith(f"{owner.PREFIX}{pid}-")
        assert exists == "True"
        assert owner.sweep(owner_of(mine)) == owner.sweep(owner_of(theirs)) == []
        process.popen.kill()
        process.popen.wait(DEADLINE)
        # The fork lives, and holds only its own lock; and ends with its pipe.
        sweep_all(owner_of(mine))


def test_threads_that_make_and_unlink_share_the_lock() -> None:
    def make_and_unlink() -> None:
        for _ in range(40):
            one = Segment.create(4096)
            assert (SHM / owner_of(one.name)).exists()
            one.unlink()
            one.close()

    threads = [threading.Thread(target=make_and_unlink) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert owner.left_by(owner.prefix()) == []


# The sweeper.


def test_what_a_dead_owner_left_is_removed(place: Path, fakes: Any) -> None:
    dead = fakes()
    for remove in (False, True):
        (found,) = owner.sweep(remove=remove)
        assert (found.owner, found.pid, found.dead) == (dead.owner, NOBODY, True)
        assert found.segments == {dead.names[0]: 1, dead.names[1]: 2}
        assert found.why == f"process {NOBODY} is dead"
        assert os.listdir(place) == [] if remove else dead.left() == dead.all()
    assert owner.sweep() == []


def test_a_process_that_is_killed_with_its_tracker_leaves_what_is_removed() -> None:
    with Process(MAKES_ONE) as process:
        name, tracker = process.words
        process.kill(int(tracker))
    sweep_all(owner_of(name))


def test_what_a_living_process_has_stays() -> None:
    with Process(MAKES_ONE) as process:
        name = process.words[0]
        assert owner.sweep(owner_of(name)) == []
        assert sorted(owner.left_by(owner_of(name))) == [owner_of(name), name]
        (found,) = [one for one in owner.survey() if one.owner == owner_of(name)]
        assert (found.dead, found.why) == (False, f"process {process.popen.pid} lives")


def test_what_somebody_has_who_cannot_be_seen_from_here_stays(fakes: Any) -> None:
    elsewhere = fakes(locked=True)
    assert owner.sweep() == []
    assert elsewhere.left() == elsewhere.all()
    (found,) = owner.survey(remove=True)
    assert found.segments == {elsewhere.names[0]: 1, elsewhere.names[1]: 2}
    assert not found.dead


def test_a_process_id_that_was_given_again_protects_nothing(place: Path, fakes: Any) -> None:
    """There is a process of the owner's id, but it does not hold the lock."""
    dead = fakes()
    for name in dead.left():
        (place / name).rename(place / name.replace(str(NOBODY), str(os.getpid())))
    (found,) = owner.sweep()
    assert found.pid == os.getpid()
    assert os.listdir(place) == []


def test_without_a_lock_file_the_process_id_decides(place: Path, fakes: Any) -> None:
    gone, here = fakes("gone......"), fakes("here......")
    for one in (gone, here):
        one.path.unlink()
    for name in here.left():
        (place / name).rename(place / name.replace(str(NOBODY), str(os.getpid())))
    assert [one.owner for one in owner.sweep()] == [gone.owner]
    assert gone.left() == []
    (found,) = owner.survey(remove=True)
    assert (found.dead, len(found.segments)) == (False, 2)
    assert "lock file is gone" in found.why
    assert sorted(os.listdir(place)) == sorted(found.segments)


def test_a_process_that_was_not_reaped_is_gone() -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert not owner.process_exists(zombie.pid)
    zombie.wait()
    assert not owner.process_exists(zombie.pid)
    assert owner.process_exists(os.getpid())
    assert not owner.process_exists(NOBODY)


@pytest.mark.parametrize(
    "name",
    [
        f"procession-{NOBODY}-",
        f"procession-{NOBODY}-abcdefghi",
        f"procession-{NOBODY}-abcdefghijk",
        f"procession-{NOBODY}-abcdefghij-",
        f"procession-{NOBODY}-abcdefghij-0123456789",
        f"procession-{NOBODY}-abcdefghij-0123456789ab",
        f"procession-{NOBODY}-abcdefghi\u00e9",
        f"procession-{NOBODY}-abcdefghij\n",
        f"procession-0{NOBODY}-abcdefghij",
        f"procession-{NOBODY}{NOBODY}-abcdefghij",
        "procession-0-abcdefghij",
        "procession--1-abcdefghij",
        f"Procession-{NOBODY}-abcdefghij",
        f"my-procession-{NOBODY}-abcdefghij",
    ],
)
def test_other_names_are_left_alone(place: Path, name: str) -> None:
    (place / name).touch()
    assert owner.sweep() == owner.survey(remove=True) == []
    assert (place / name).exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_left_alone(kind: str, place: Path) -> None:
    (place / "mine").write_text("precious")
    name = f"{owner.PREFIX}{NOBODY}-{kind:.<10}"
    lock, segment = place / name, place / f"{name}-01234567890"
    for path in (lock, segment):
        if kind == "link":
            path.symlink_to(place / "mine")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
    assert owner.sweep() == []
    assert [one.dead for one in owner.survey(remove=True)] == [False]
    # Nor when there is no lock file, or a right one.
    lock.rename(place / "away")
    for _ in range(2):
        assert owner.sweep() == []
        assert [one.dead for one in owner.survey(remove=True)] == [False]
        lock.touch()
    assert os.path.lexists(segment)
    assert (place / "mine").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_what_other_users_have_is_left_alone(fakes: Any) -> None:
    theirs, mixed = fakes("theirs...."), fakes("mixed.....")
    os.chown(theirs.path, 65534, 65534)
    os.chown(mixed.path.with_name(mixed.names[1]), 65534, 65534)
    assert owner.sweep() == []
    found = {one.owner: one for one in owner.survey(remove=True)}
    assert found[theirs.owner].why == "of another user, 65534"
    assert "another user" in found[mixed.owner].why
    assert len(theirs.left()) == len(mixed.left()) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_may_not_even_look(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        monkeypatch.setattr(owner, "DIRECTORY", folder)
        dead = Fake("abcdefghij", locked=False)
        script = f"""
            import os
            from procession.blobs import owner
            owner.DIRECTORY = {folder!r}
            os.setuid(65534)
            assert owner.sweep() == []
            print(*[one.why for one in owner.survey(remove=True)])
        """
        with Process(script) as process:
            assert process.words == ["of", "another", "user"]
            process.end()
        assert dead.left() == dead.all()
        dead.remove()


def test_two_sweepers_at_once_take_all_and_each_only_once(fakes: Any) -> None:
    dead = [fakes(f"dead..{n:04}") for n in range(40)]
    living = fakes("living....", locked=True)
    begin, found = threading.Barrier(4), []

    def sweep() -> None:
        begin.wait(DEADLINE)
        found.extend(one.owner for one in owner.sweep(f"{owner.PREFIX}{NOBODY}-"))

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(found) == [one.owner for one in dead]
    assert not any(one.left() for one in dead)
    assert len(living.left()) == 3


def test_owners_that_start_and_end_among_sweepers_lose_nothing() -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            owner.sweep()

    script = """
        import threading
        from procession.blobs import owner
        print(flush=True)
        told = threading.Thread(target=sys.stdin.read)
        told.start()
        while told.is_alive():
            owner.sweep()
    """
    with Process(script) as other:
        thread = threading.Thread(target=sweep)
        thread.start()
        try:
            for _ in range(200):
                one = Segment.create(4096)
                Segment.attach(one.name, one.size).close()
                assert sorted(owner.left_by(owner.prefix())) == [owner_of(one.name), one.name]
                one.unlink()
                one.close()
        finally:
            stop.set()
            thread.join(DEADLINE)
        other.end()
    assert owner.left_by(owner.prefix()) == []


STATES = st.sampled_from(["dead", "living", "no lock"])


@settings(max_examples=40, deadline=None)
@given(states=st.lists(STATES, max_size=6), sweepers=st.integers(1, 3))
def test_whoever_lives_keeps_all_and_whoever_is_dead_nothing(
    states: list[str], sweepers: int
) -> None:
    """Owners whose process ids are nobody's here, in any mixture."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "DIRECTORY", folder)
        check_a_mixture(states, sweepers)


def check_a_mixture(states: list[str], sweepers: int) -> None:
    owners = [
        Fake(f"state.{n:04}", locked=state == "living", segments=n)
        for n, state in enumerate(states)
    ]
    try:
        for one, state in zip(owners, states, strict=True):
            if state == "no lock":
                one.path.unlink()
        threads = [threading.Thread(target=owner.sweep) for _ in range(sweepers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        for one, state in zip(owners, states, strict=True):
            assert one.left() == (one.all() if state == "living" else [])
    finally:
        for one in owners:
            one.remove()
