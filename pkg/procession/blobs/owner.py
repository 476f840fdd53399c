"""Owners: to whom the segments in /dev/shm belong, and whether he lives.

A process that makes segments is their owner, for as long as any of them has its name. He shows
that he lives by a lock, which the kernel takes from him when he dies, however that happens. A
process id would not do: it is given again, and means nothing in another container that has the
same /dev/shm.

    procession-PID-OWNER            the lock file: empty, mode 0600, `flock`ed by the owner
    procession-PID-OWNER-RANDOM     a segment of his

PID is the owner's process id, for people; OWNER has six letters that are the process's and four
that are new for each lock file. Where there is no /dev/shm there are no owners, and nobody sweeps.

Who does what
-------------

    the owner       makes the lock file before his first segment (`new_name`), and locks it. He may
                    find it locked, or unlinked, by a sweeper who came in between: then he begins
                    again with another name. He takes his segments away himself, and after the last
                    the lock file, still locked (`forget`).
    a fork of him   closes its copy of the file: a second holder would keep the lock. It is the
                    owner of what it makes itself, under a lock file of its own.
    a sweeper       is whoever starts a session (`sweep`), `python -m procession clean`, and the
                    fork server of a coordinator that died. He opens the lock file and locks it
                    without waiting. If that fails the owner lives, or somebody else is sweeping.
                    If it works, and the file still has its name, the owner is dead: his segments
                    go, then the lock file, then the lock. A sweeper who dies leaves what
                    the next one takes.
    the tracker     of `multiprocessing` is told of the lock file as it is of the segments, and
                    takes all of it away when its process has died.

So nobody takes away what he has not locked, with one exception: a segment whose lock file is
gone, as when a tracker was killed half way. It goes if no process has the owner's id here.

A sweeper touches regular files of his own user, and only those whose names are exactly as above.
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]
import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import resource_tracker

PREFIX = "procession-"
DIRECTORY = "/dev/shm"
_NAME = re.compile(r"(procession-([1-9][0-9]{0,8})-[A-Za-z0-9_.]{10})(?:-[A-Za-z0-9_.]{11})?")
_SHORT = re.compile(r"procession-[1-9][0-9]{0,8}-[A-Za-z0-9_.]{11}")
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 100


def _random(nbytes: int) -> str:
    return secrets.token_urlsafe(nbytes).replace("-", ".")


# ---- the owner


class _Lock:
    """A lock file of this process. `names` are those that keep it."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.owner = os.path.basename(path)
        self.names: set[str] = set()
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._file = status.st_dev, status.st_ino

    def _status(self) -> os.stat_result | None:
        """Of the file, if it is still open: some programs close all that they find open."""
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return None
        return status if (status.st_dev, status.st_ino) == self._file else None

    def holds(self) -> bool:
        """Whether the file is locked and has its name."""
        status = self._status()
        return status is not None and status.st_nlink > 0

    def close(self) -> None:
        """Let go of the lock; twice is fine."""
        if self._status() is not None:
            os.close(self._descriptor)
        self._descriptor = -1


# Held while the lock file is opened or closed, and while the process forks, so that the copy knows
# which file to close. The tracker has a lock, too, so it is told when this one is free.
_guard = threading.RLock()
_letters = _random(6)[:6]
_lock: _Lock | None = None


def is_segment(name: str) -> bool:
    """Whether that could be a segment's name, of whomever."""
    match = _NAME.fullmatch(name)
    # Without /dev/shm they are shorter.
    return (match is not None and match[1] != name) or _SHORT.fullmatch(name) is not None


def guarded() -> bool:
    """Whether this very thread is opening or closing a lock file."""
    return _guard._is_owned()  # type: ignore[attr-defined, no-any-return]


def prefix() -> str:
    """What all names that this process gives begin with, and no others."""
    return f"{PREFIX}{os.getpid()}-{_letters}"


def new_name() -> str:
    """A name for a segment that is about to be made: the owner's lock is held from here on.

    Raises:
        OSError: The lock file cannot be made.
    """
    random = _random(8)
    if not os.path.isdir(DIRECTORY):
        return f"{PREFIX}{os.getpid()}-{random}"
    for _ in range(_ATTEMPTS):
        name = _name_under_lock(random)
        if name is None:
            path = os.path.join(DIRECTORY, f"{prefix()}{_random(3)}")
            used = False
            try:
                tell("register", path)
                used = _lock_with(path)
            finally:
                if not used:
                    take_away(path)
            name = _name_under_lock(random)
        if name is not None:
            return name
    raise OSError(errno.EAGAIN, "each lock file that is made is taken away", DIRECTORY)


def _name_under_lock(random: str) -> str | None:
    with _guard:
        lock = _lock
        if lock is None or not lock.holds():
            return None
        name = f"{lock.owner}-{random}"
        lock.names.add(name)
        # A finalizer may have taken away the last name before this one was noted down.
        return name if lock is _lock else None


def _lock_with(path: str) -> bool:
    """Make a lock file the one of this process. False if there is one, or a sweeper was faster."""
    global _lock
    with _guard:
        if _lock is not None:
            if _lock.holds():
                return False
            _lock.close()
            _lock = None
        descriptor = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink > 0:
                _lock = _Lock(path, descriptor)
        except BlockingIOError:
            pass
        finally:
            if _lock is None:
                os.close(descriptor)
        return _lock is not None


def forget(name: str) -> None:
    """The segment's name has been taken away; with the last one goes the lock file."""
    global _lock
    with _guard:
        lock = _lock
        if lock is None:
            return
        lock.names.discard(name)
        if lock.names:
            return
        _lock = None
    try:
        take_away(lock.path)
    except BaseException:
        take_away(lock.path)
        raise
    finally:
        with _guard:
            lock.close()


def tell(what: str, path: str) -> None:
    """Tell the resource tracker of a file in /dev/shm: `what` is "register" or "unregister"."""
    getattr(resource_tracker, what)("/" + os.path.basename(path), "shared_memory")


def take_away(path: str) -> None:
    """Unlink what may be there or not, and have the tracker forget it, which may know it or not."""
    with contextlib.suppress(FileNotFoundError):
        _posixshmem.shm_unlink("/" + os.path.basename(path))
    # It complains when it is to forget what it was never told. Telling it twice is fine.
    tell("register", path)
    tell("unregister", path)


def _after_fork() -> None:
    global _lock, _letters
    if _lock is not None:
        _lock.close()
        _lock = None
    _letters = _random(6)[:6]
    _guard.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_after_fork
    )


# ---- the sweeper


@dataclass
class Holding:
    """What one owner has, or had, in /dev/shm.

    `segments` are names with sizes, `since` is when the oldest of the files was made, as in
    `time.time()`. `why` says for people why the owner counts as dead, or why his segments stay.
    """

    owner: str
    pid: int
    dead: bool
    why: str
    since: float = 0.0
    segments: dict[str, int] = field(default_factory=dict)


def left_by(prefix: str) -> list[str]:
    """The names of all files that begin like that: lock files and segments of an owner."""
    return [name for name in _names() if name.startswith(prefix)]


def sweep(prefix: str = PREFIX, *, remove: bool = True) -> list[Holding]:
    """Take away the segments of owners that are dead, and tell what those were.

    Costs some microseconds if there are none. Never raises.

    Args:
        prefix: Only of owners whose names begin like that.
        remove: Whether to take away anything at all.
    """
    return [found for found in _look(prefix, living=False, remove=remove) if found.dead]


def survey(*, remove: bool = False) -> list[Holding]:
    """The same, and those that stay: of living owners and of other users. Takes longer."""
    return list(_look(PREFIX, living=True, remove=remove))


def _names() -> list[str]:
    try:
        return os.listdir(DIRECTORY)
    except OSError:
        return []


def _owners(names: Iterable[str]) -> dict[str, int]:
    """Owner -> process id."""
    found = {}
    for name in names:
        if name.startswith(PREFIX):
            match = _NAME.fullmatch(name)
            if match:
                found[match[1]] = int(match[2])
    return found


def _look(prefix: str, *, living: bool, remove: bool) -> Iterator[Holding]:
    for owner, pid in _owners(left_by(prefix)).items():
        if _lock is not None and owner == _lock.owner:
            if living:
                yield _holding(owner, pid, "this process")
            continue
        with contextlib.ExitStack() as files:
            try:
                dead, why = _state(owner, pid, files)
                if dead:
                    # Looked up again: the owner may have made more before he died.
                    found = _holding(owner, pid, why, dead=True)
                    if not found.since:
                        continue  # another sweeper was faster
                    if found.dead and remove:
                        _remove(found)
                    if found.dead or living:
                        yield found
                elif living:
                    yield _holding(owner, pid, why)
            except OSError as error:
                if living:
                    yield _holding(owner, pid, error.strerror or "cannot be looked at")


def _state(owner: str, pid: int, files: contextlib.ExitStack) -> tuple[bool, str]:
    """Whether the owner is dead, and why; if he is, his lock is ours until `files` are closed."""
    path = os.path.join(DIRECTORY, owner)
    try:
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        if process_exists(pid):
            return False, f"there is a process {pid}, which may be theirs; their lock file is gone"
        return True, f"there is no process {pid}, and no lock file"
    except PermissionError:
        return False, "of another user"
    files.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return False, "no lock file but something else has that name"
    if status.st_uid != os.geteuid():
        return False, f"of another user, {status.st_uid}"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False, f"process {pid} lives"
    if os.fstat(descriptor).st_nlink == 0:
        return False, "another process removes them at this moment"
    return True, f"process {pid} is dead"


def _holding(owner: str, pid: int, why: str, *, dead: bool = False) -> Holding:
    found = Holding(owner, pid, dead, why)
    times = []
    for name in _names():
        match = _NAME.fullmatch(name)
        if match is None or match[1] != owner:
            continue
        try:
            status = os.stat(os.path.join(DIRECTORY, name), follow_symlinks=False)
        except FileNotFoundError:
            continue
        times.append(status.st_mtime)
        if name != owner:
            found.segments[name] = status.st_size
        if dead and (status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode)):
            found.dead, found.why = False, f"{name} is of another user, or no regular file"
    found.since = min(times, default=0.0)
    return found


def _remove(found: Holding) -> None:
    """Unlink segments, then the lock file, which is locked if it is there."""
    for name in [*found.segments, found.owner]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(DIRECTORY, name))


def process_exists(pid: int) -> bool:
    """Whether there is a process of that number here. One that only waits to be reaped is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return True
