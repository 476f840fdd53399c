from __future__ import annotations

import errno
import gc
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import procession
from procession.blobs import owner, segment, snapshot
from procession.blobs.segment import PREFIX, Segment, available
from procession.errors import OutOfSharedMemoryError

PACKAGES = str(Path(procession.__file__).parents[1])
SHM = Path("/dev/shm")
SIZE = 3 * 4096
DEADLINE = 60
PER_MAPPING = 0 if sys.version_info >= (3, 13) else 1
"""Descriptors that a mapping keeps open."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm and /proc")


@pytest.fixture
def made() -> Any:
    with_names: list[Segment] = []

    def make(size: int = SIZE) -> Segment:
        with_names.append(Segment.create(size))
        return with_names[-1]

    yield make
    for one in with_names:
        one.unlink()
        one.close()


def own_names() -> set[str]:
    return {name for name in os.listdir(SHM) if name.startswith(f"{PREFIX}{os.getpid()}-")}


def mappings(name: str) -> int:
    """How often this process has the segment mapped."""
    return sum(name in line for line in Path("/proc/self/maps").read_text().splitlines())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def start(script: str, **options: Any) -> subprocess.Popen[str]:
    """A Python of its own; the resource tracker it starts shares its standard error."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(script: str) -> tuple[str, str]:
    process = start(script)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    return out, err


# Making.


def test_a_new_segment_is_all_zero_and_as_large_as_asked(made: Any) -> None:
    one = made(SIZE + 1)
    assert one.size == len(one.memory) == SIZE + 1
    assert not any(one.memory[:])


def test_names_are_random_and_tell_the_process(made: Any) -> None:
    names = [made().name for _ in range(20)]
    assert len(set(names)) == 20
    for name in names:
        match = re.fullmatch(rf"{re.escape(owner.prefix())}[\w.]{{4}}-([\w.]+)", name)
        assert match
        # 64 random bits.
        assert len(match[1]) == 11
    assert owner.prefix().startswith(f"{PREFIX}{os.getpid()}-")
    # Unlike neighbours: no position has the same character in all of them.
    assert all(len(set(column)) > 1 for column in zip(*(n[-11:] for n in names), strict=True))


def test_where_there_is_no_directory_names_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where a name has 31 characters at most, the slash before it among them."""
    monkeypatch.setattr(owner, "DIRECTORY", "/does/not/exist")
    name = owner.new_name()
    assert re.fullmatch(rf"{PREFIX}{os.getpid()}-[\w.]{{11}}", name)
    assert len(name) < 31
    owner.forget(name)
    assert owner.sweep() == owner.survey() == []


@linux
def test_only_the_user_may_open_it(made: Any) -> None:
    before = os.umask(0)
    try:
        status = os.stat(SHM / made().name)
    finally:
        os.umask(before)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()


@linux
@pytest.mark.parametrize("size", [1, 4096, 4097, 5 << 20])
def test_its_pages_are_reserved(made: Any, size: int) -> None:
    status = os.stat(SHM / made(size).name)
    assert status.st_size == size
    assert status.st_blocks * 512 >= size


@linux
def test_making_one_takes_one_mapping_and_its_descriptors(made: Any) -> None:
    made()  # The resource tracker's pipe is open now.
    before = descriptors()
    one = made()
    assert mappings(one.name) == 1
    assert descriptors() == before + PER_MAPPING


# Attaching.


def test_both_sides_see_the_same_bytes(made: Any) -> None:
    mine = made()
    theirs = Segment.attach(mine.name, mine.size)
    mine.memory[0] = 1
    theirs.memory[SIZE - 1] = 2
    assert (theirs.name, theirs.size) == (mine.name, mine.size)
    assert (theirs.memory[0], mine.memory[SIZE - 1]) == (1, 2)
    theirs.close()


def test_one_who_attached_cannot_take_the_name_away(made: Any) -> None:
    mine = made()
    theirs = Segment.attach(mine.name, mine.size)
    theirs.unlink()
    theirs.close()
    Segment.attach(mine.name, mine.size).close()


def test_what_is_not_there_cannot_be_attached() -> None:
    with pytest.raises(FileNotFoundError):
        Segment.attach(f"{PREFIX}none", SIZE)


# Taking the name away.


@linux
def test_unlinking_takes_the_name_and_leaves_the_mappings(made: Any) -> None:
    mine = made()
    theirs = Segment.attach(mine.name, mine.size)
    mine.unlink()
    assert not (SHM / mine.name).exists()
    mine.memory[7] = 7
    assert theirs.memory[7] == 7
    with pytest.raises(FileNotFoundError):
        Segment.attach(mine.name, mine.size)
    theirs.close()
    assert mine.memory[7] == 7


def test_unlinking_and_closing_twice_is_fine(made: Any) -> None:
    one = made()
    one.unlink()
    one.unlink()
    one.close()
    one.close()
    one.unlink()
    assert one.size == SIZE


# Letting go of the memory.


@linux
def test_a_mapping_that_nobody_looks_at_goes_at_once(made: Any) -> None:
    made()
    before = descriptors()
    one = made()
    one.close()
    assert mappings(one.name) == 0
    assert descriptors() == before
    # The name is another matter.
    assert (SHM / one.name).exists()


VIEWS: dict[str, Callable[[Any], Any]] = {
    "array": lambda memory: np.ndarray((SIZE,), np.uint8, buffer=memory),
    "part": lambda memory: np.ndarray((SIZE,), np.uint8, buffer=memory)[::2],
    "from buffer": lambda memory: np.frombuffer(memory, np.uint8),
    "memoryview": memoryview,
    "snapshot": lambda memory: snapshot.over(memory, 64, (SIZE - 64,), np.uint8)[0],
    "part of a snapshot": lambda memory: snapshot.over(memory, 0, (SIZE,), np.uint8)[0][4096:],
    "view of a snapshot": lambda memory: memoryview(snapshot.over(memory, 0, (8, 8), ">i4")[0]),
}


@linux
@pytest.mark.parametrize("look", VIEWS.values(), ids=VIEWS)
def test_a_closed_mapping_stays_good_until_its_last_view_is_garbage(
    made: Any, look: Callable[[Any], Any]
) -> None:
    made()
    before = descriptors()
    one = made()
    np.ndarray((SIZE,), np.uint8, buffer=one.memory)[...] = 3
    view = look(one.memory)
    copy = bytes(view)
    one.unlink()
    one.close()
    # Had it gone, these would have come to lie in its place.
    others = [made(SIZE) for _ in range(2)]
    assert mappings(one.name) == 1
    assert bytes(view) == copy
    second = view[1:]
    del view
    assert mappings(one.name) == 1
    assert bytes(second[:8])
    del second
    assert mappings(one.name) == 0
    assert descriptors() == before + PER_MAPPING * len(others)


@linux
def test_a_segment_that_is_garbage_lets_go_of_its_mapping(made: Any) -> None:
    one = made()
    theirs = Segment.attach(one.name, one.size)
    assert mappings(one.name) == 2
    del theirs
    gc.collect()
    assert mappings(one.name) == 1


# No memory.


@linux
def test_more_than_there_is_says_so_and_leaves_nothing(made: Any) -> None:
    made()
    names, open_before = own_names(), descriptors()
    free = available()
    assert free is not None
    wanted = free + (1 << 30)
    with pytest.raises(OutOfSharedMemoryError, match="shared memory is full") as caught:
        Segment.create(wanted)
    error = caught.value
    assert isinstance(error, MemoryError)
    assert error.needed == wanted
    assert error.available is not None
    assert f"{wanted:,} bytes needed, {error.available:,} free in /dev/shm" in str(error)
    assert "--shm-size" in str(error)
    assert own_names() == names
    del caught, error
    assert descriptors() == open_before


@linux
def test_the_kernel_has_the_last_word(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another process takes the memory after it was seen to be free."""
    made()
    names, open_before = own_names(), descriptors()
    status = os.statvfs(SHM)
    if not status.f_blocks:
        pytest.skip("there is no limit here")
    monkeypatch.setattr(segment, "available", lambda: None)
    wanted = status.f_blocks * status.f_frsize + 4096
    with pytest.raises(OutOfSharedMemoryError, match="shared memory is full") as caught:
        Segment.create(wanted)
    assert caught.value.needed == wanted
    assert caught.value.available is None
    assert "free in" not in str(caught.value)
    del caught
    assert own_names() == names
    assert descriptors() == open_before


@linux
@pytest.mark.parametrize(
    ("failure", "raised", "text"),
    [
        (OSError(errno.ENOSPC, "full"), OutOfSharedMemoryError, "shared memory is full"),
        (OSError(errno.ENOMEM, "none"), OutOfSharedMemoryError, "max_map_count"),
        (OSError(errno.EMFILE, "many"), OutOfSharedMemoryError, os.strerror(errno.EMFILE)),
        (KeyboardInterrupt("now"), KeyboardInterrupt, "now"),
    ],
    ids=["no space", "no memory", "no descriptor", "interrupted"],
)
def test_one_that_cannot_be_mapped_is_unlinked(
    made: Any,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    raised: type[BaseException],
    text: str,
) -> None:
    made()
    names, open_before = own_names(), descriptors()

    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(segment, "_map", fail)
    with pytest.raises(raised, match=text) as caught:
        Segment.create(SIZE)
    assert caught.value is failure or caught.value.__cause__ is failure
    assert own_names() == names
    assert descriptors() == open_before


@linux
@pytest.mark.parametrize("told", [False, True])
def test_an_interruption_leaves_nothing(told: bool) -> None:
    script = f"""
        from multiprocessing import resource_tracker
        from procession.blobs.segment import Segment

        register, unregister = resource_tracker.register, resource_tracker.unregister
        Segment.create(4096).unlink()

        def interrupted(does):
            def call(*args):
                resource_tracker.register, resource_tracker.unregister = register, unregister
                if {told}:
                    does(*args)
                raise KeyboardInterrupt
            return call

        kept = Segment.create(4096)
        resource_tracker.register = interrupted(register)
        try:
            Segment.create(4096)
        except KeyboardInterrupt:
            print("making")
        resource_tracker.unregister = interrupted(unregister)
        try:
            kept.unlink()
        except KeyboardInterrupt:
            print("unlinking")
    """
    process = start(script)
    out, err = process.communicate(timeout=DEADLINE)
    assert (out.split(), err) == (["making", "unlinking"], "")
    assert not list(SHM.glob(f"{PREFIX}{process.pid}-*"))


def test_a_size_beyond_reason_confuses_nobody() -> None:
    """The resource tracker would write to standard error of a name it was not told."""
    out, err = run(
        """
        from multiprocessing import resource_tracker
        from procession.blobs.segment import Segment
        from procession.errors import OutOfSharedMemoryError

        resource_tracker.ensure_running()
        for size in (1 << 50, 1 << 62, 1 << 70):
            try:
                Segment.create(size)
            except OutOfSharedMemoryError as error:
                print(error.needed == size)
        """
    )
    assert out.split() == ["True"] * 3
    assert err == ""


def test_where_room_cannot_be_told_or_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_DIRECTORY", "/does/not/exist")
    assert available() is None
    monkeypatch.setattr(segment.os, "statvfs", lambda _: os.statvfs_result((4096,) + (0,) * 9))
    assert available() is None


# Other processes, and their ends.


@linux
def test_a_worker_that_ends_leaves_the_name_and_says_nothing(made: Any) -> None:
    mine = made()
    out, err = run(
        f"""
        from procession.blobs.segment import Segment

        segment = Segment.attach({mine.name!r}, {mine.size})
        segment.memory[0] = 5
        print("attached")
        """
    )
    assert (out.strip(), err) == ("attached", "")
    assert (SHM / mine.name).exists()
    assert mine.memory[0] == 5


def test_a_coordinator_that_unlinks_leaves_the_tracker_nothing_to_say() -> None:
    out, err = run(
        """
        from procession.blobs.segment import Segment

        segment = Segment.create(4096)
        array = memoryview(segment.memory)
        segment.unlink()
        segment.close()
        print(array[0])
        """
    )
    assert (out.strip(), err) == ("0", "")


@linux
def test_a_killed_coordinator_s_names_are_taken_away() -> None:
    coordinator = start(
        """
        import sys
        from procession.blobs.segment import Segment

        segments = [Segment.create(8192) for _ in range(3)]
        for segment in segments:
            segment.memory[0] = 9
        print(*(segment.name for segment in segments), flush=True)
        sys.stdin.read()
        """,
        stdin=subprocess.PIPE,
    )
    assert coordinator.stdout is not None
    names = coordinator.stdout.readline().split()
    worker = Segment.attach(names[0], 8192)
    assert all((SHM / name).exists() for name in names)
    coordinator.send_signal(signal.SIGKILL)
    # Standard error ends when the tracker does, which has unlinked by then.
    _, err = coordinator.communicate(timeout=DEADLINE)
    assert coordinator.returncode == -signal.SIGKILL
    assert not any((SHM / name).exists() for name in names)
    assert "resource_tracker" in err
    assert worker.memory[0] == 9
    worker.close()
