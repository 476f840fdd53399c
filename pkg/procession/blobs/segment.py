"""Segments of shared memory, and who cleans them up.

The coordinator makes every segment and unlinks it; a worker only maps what it is told the name
of. Making one registers the name with the resource tracker of `multiprocessing`, a
process that outlives the coordinator and unlinks what it left if it was killed. A worker must
therefore not register what it maps: the tracker would unlink it, or warn, when the worker ends.
So mapping goes through `shm_open` itself, on both sides, and `SharedMemory` is used
for what it is good at: making, tracking, unlinking. Should the tracker be killed together with
the coordinator, as when a whole process group is, the fork server unlinks what they left.

Pages are reserved when a segment is made. Without that, /dev/shm running full would kill
whoever touches the next page with SIGBUS; with it, making the segment raises an error.

Names tell the coordinator's process id but cannot be guessed, and the mode is 0600. Unlinking
takes away the name only: every mapping stays good until its last view is garbage, which is how a
fetched array outlives its session.
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]
import contextlib
import errno
import mmap
import os
import secrets
import sys
from multiprocessing import resource_tracker, shared_memory

from procession.errors import OutOfSharedMemoryError

PREFIX = "procession-"
_DIRECTORY = "/dev/shm"


def _map(name: str, size: int, reserve: bool) -> mmap.mmap:
    descriptor = _posixshmem.shm_open("/" + name, os.O_RDWR, 0o600)
    try:
        if reserve and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        if sys.version_info >= (3, 13):
            # Before that, each mapping keeps a descriptor open.
            return mmap.mmap(descriptor, size, trackfd=False)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def available() -> int | None:
    """Free bytes of shared memory on this machine, None where that cannot be told."""
    try:
        status = os.statvfs(_DIRECTORY)
    except OSError:
        return None
    # Where there is no limit, all figures are 0.
    return status.f_bavail * status.f_frsize if status.f_blocks else None


class Segment:
    """A mapped segment. `create` in the coordinator, `attach` in a worker."""

    def __init__(
        self, name: str, memory: mmap.mmap, owned: shared_memory.SharedMemory | None
    ) -> None:
        self.name = name
        self.size = len(memory)
        self.memory = memory
        self._owned = owned

    @classmethod
    def create(cls, size: int) -> Segment:
        """Make a segment of `size` bytes, all zero, all reserved.

        Raises:
            OutOfSharedMemoryError: There is not that much shared memory left.
        """
        name = f"{PREFIX}{os.getpid()}-{secrets.token_urlsafe(8)}"
        free = available()
        if free is not None and size > free:
            # The kernel would find out, too, but when it refuses to map so much, `SharedMemory`
            # has the tracker forget a name that it was never told, and the tracker complains.
            raise _full(size, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        owned = None
        try:
            # The same goes for descriptors: two are needed at once.
            for descriptor in os.pipe():
                os.close(descriptor)
            owned = shared_memory.SharedMemory(name=name, create=True, size=size)
            # The object's own mapping goes at once: it cannot be closed while views of it live.
            owned.close()
            return cls(name, _map(name, size, reserve=True), owned)
        except OSError as error:
            if owned is not None:
                owned.unlink()
            raise _full(size, error) from error
        except BaseException:
            # Ctrl-C may have come before the tracker was told.
            _remove(name)
            raise

    @classmethod
    def attach(cls, name: str, size: int) -> Segment:
        """Map a segment that the coordinator made."""
        return cls(name, _map(name, size, reserve=False), None)

    def unlink(self) -> None:
        """Take the name away; twice is fine. Only for the one who made it."""
        if self._owned is not None:
            owned, self._owned = self._owned, None
            try:
                owned.unlink()
            except KeyboardInterrupt:
                _remove(self.name)
                raise

    def close(self) -> None:
        """Let go of this mapping, which goes when nothing looks at it; twice is fine."""
        # It must not be closed: `np.ndarray(buffer=...)` refers to the mapping but does not keep
        # it open, and would be left looking at nothing.
        if hasattr(self, "memory"):
            del self.memory


def _remove(name: str) -> None:
    """Take away a name that may be there or not, and that the tracker may know or not."""
    # It complains when it is to forget what it was never told. Telling it twice is fine.
    resource_tracker.register("/" + name, "shared_memory")
    with contextlib.suppress(FileNotFoundError):
        _posixshmem.shm_unlink("/" + name)
    resource_tracker.unregister("/" + name, "shared_memory")


def _full(size: int, error: OSError) -> OutOfSharedMemoryError:
    free = available()
    text = f"{size:,} bytes of shared memory could not be had: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.ENOSPC, errno.ENOMEM):
        text = f"shared memory is full: {size:,} bytes needed"
        if free is not None:
            text += f", {free:,} free in {_DIRECTORY}"
        text += (
            ". Remove blobs, close other sessions, or enlarge it "
            "(mount -o remount,size=..., or docker run --shm-size=...)."
        )
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        text += ". Large tensors take an open file each: raise the limit (ulimit -n)."
    return OutOfSharedMemoryError(text, needed=size, available=free)


def left_by(pid: int) -> list[str]:
    """The names of the segments that a process made and did not unlink."""
    try:
        names = os.listdir(_DIRECTORY)
    except OSError:
        return []
    return [name for name in names if name.startswith(f"{PREFIX}{pid}-")]


def unlink_left_by(pid: int) -> None:
    """Unlink the segments of a process that is dead."""
    for name in left_by(pid):
        with contextlib.suppress(FileNotFoundError):
            _posixshmem.shm_unlink("/" + name)
