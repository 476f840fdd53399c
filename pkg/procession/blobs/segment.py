"""Segments of shared memory, and who cleans them up.

The coordinator makes every segment and unlinks it; a worker only maps what it is told the name
of. Making one tells the name to the resource tracker of `multiprocessing`, a
process that outlives the coordinator and unlinks what it left if it was killed. A worker must
therefore not tell what it maps: the tracker would unlink it, or warn, when the worker ends. Should
the tracker be killed together with the coordinator, as when a whole process group is, the fork
server unlinks what they left, and should all three be killed, whoever starts a session next: see
`owner`, which also knows by what names.

Pages are reserved when a segment is made. Without that, /dev/shm running full would kill
whoever touches the next page with SIGBUS; with it, making the segment raises an error.

A segment of another node may be looked at, by who was told its name (`look`): that mapping is
read-only, and cannot be made another.

Names cannot be guessed, and the mode is 0600. Unlinking takes away the name only: every mapping
stays good until its last view is garbage, which is how a fetched array outlives its session.
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]
import errno
import mmap
import os
import resource
import sys

from procession.blobs import owner
from procession.errors import OutOfSharedMemoryError

PREFIX = owner.PREFIX
_DIRECTORY = owner.DIRECTORY


def _make(name: str, size: int) -> mmap.mmap:
    owner.tell("register", name)
    descriptor = _posixshmem.shm_open("/" + name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
        return _map(descriptor, size)
    finally:
        os.close(descriptor)


def _map(descriptor: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        # Before that, each mapping keeps a descriptor open.
        return mmap.mmap(descriptor, size, trackfd=False)
    return mmap.mmap(descriptor, size)


def look(name: str, size: int) -> mmap.mmap:
    """Map the beginning of a segment of another node, to be read and never to be written.

    Raises:
        OSError: There is none of that name, or this process may not map it.
        ValueError: It is no name of a segment, or the segment is not that large.
    """
    if not owner.is_segment(name):
        raise ValueError(f"{name!r} is no segment's name")
    descriptor = _posixshmem.shm_open("/" + name, os.O_RDONLY, 0o600)
    try:
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        if sys.version_info >= (3, 13):
            return mmap.mmap(descriptor, size, flags, mmap.PROT_READ, trackfd=False)
        return mmap.mmap(descriptor, size, flags, mmap.PROT_READ)
    finally:
        os.close(descriptor)


def is_there(name: str) -> bool:
    """Whether a segment has its name still."""
    try:
        os.close(_posixshmem.shm_open("/" + name, os.O_RDONLY, 0o600))
    except FileNotFoundError:
        return False
    except OSError:
        pass  # it is there, and may not be opened
    return True


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

    def __init__(self, name: str, memory: mmap.mmap, maker: int | None) -> None:
        self.name = name
        self.size = len(memory)
        self.memory = memory
        self._maker = maker
        """The process that is to take the name away, if that is still to be done."""

    @classmethod
    def create(cls, size: int) -> Segment:
        """Make a segment of `size` bytes, all zero, all reserved.

        Raises:
            OutOfSharedMemoryError: There is not that much shared memory left, or this process may
                not have it.
        """
        free = available()
        if free is not None and size > free:
            raise refusal(size, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        limit = _limit(resource.RLIMIT_FSIZE)
        if limit is not None and size > limit:
            # Trying it would send SIGXFSZ, which ends a program that only embeds Python.
            raise refusal(size, OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
        name = None
        try:
            name = owner.new_name()
            return cls(name, _make(name, size), os.getpid())
        except BaseException as error:
            if name is not None:
                _remove(name)
            if isinstance(error, OSError):
                raise refusal(size, error) from error
            raise

    @classmethod
    def attach(cls, name: str, size: int) -> Segment:
        """Map a segment that the coordinator made.

        Raises:
            FileNotFoundError: There is none of that name.
            OutOfSharedMemoryError: This process may not map it, or not open it.
        """
        try:
            descriptor = _posixshmem.shm_open("/" + name, os.O_RDWR, 0o600)
            try:
                return cls(name, _map(descriptor, size), None)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _OF_THIS_PROCESS:
                raise refusal(size, error) from error
            raise

    def unlink(self) -> None:
        """Take the name away; twice is fine. Only the process that made it does."""
        if self._maker == os.getpid():
            # First: of two threads, one does it.
            self._maker = None
            try:
                _remove(self.name)
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
    try:
        owner.take_away(os.path.join(_DIRECTORY, name))
    finally:
        owner.forget(name)


NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG)
"""What the system says when there is no memory, or none for this process."""
_OF_THIS_PROCESS = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)


def _limit(which: int) -> int | None:
    limit = resource.getrlimit(which)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def refusal(size: int, error: OSError) -> OutOfSharedMemoryError:
    """In words for people: why `size` bytes could not be had, and the way out."""
    free, limit = available(), None
    number = error.errno or 0
    text = f"{size:,} bytes of shared memory could not be had: {os.strerror(number)}"
    if number == errno.EFBIG:
        limit = _limit(resource.RLIMIT_FSIZE)
        if limit is not None:
            text += (
                f". This process may not write files of more than {limit:,} bytes, and shared "
                f"memory counts as files: raise the limit (ulimit -f, or "
                f"resource.setrlimit(resource.RLIMIT_FSIZE, ...))."
            )
    elif number in (errno.ENOMEM, errno.EAGAIN) and (free is None or free >= size):
        # Not that there is none: it cannot be mapped.
        limit = _limit(resource.RLIMIT_AS)
        if limit is not None:
            text += (
                f". This process may map {limit:,} bytes in all: raise the limit (ulimit -v, or "
                f"resource.setrlimit(resource.RLIMIT_AS, ...)), remove blobs, or let go of "
                f"fetched arrays."
            )
        else:
            text += (
                ". It is not full, but the number of mappings of a process is limited, too "
                "(sysctl vm.max_map_count), and so is locked memory (ulimit -l)."
            )
    elif number in (errno.ENOSPC, errno.ENOMEM):
        text = f"shared memory is full: {size:,} bytes needed"
        if free is not None:
            text += f", {free:,} free in {_DIRECTORY}"
            if free >= size:
                text += " but no more files can be made there"
        text += (
            ". Remove blobs, close other sessions, or enlarge it "
            "(mount -o remount,size=..., or docker run --shm-size=...). What sessions have left "
            "that were killed is removed by `python -m procession clean`."
        )
    elif number in (errno.EMFILE, errno.ENFILE):
        text += (
            f". Large tensors take an open file each, and this process may have "
            f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}: raise the limit (ulimit -n, or "
            f"resource.setrlimit(resource.RLIMIT_NOFILE, ...))."
        )
    return OutOfSharedMemoryError(text, needed=size, available=free, limit=limit)
