"""Forks: copies of this process, which may look at shared memory for as long as they live.

A forked copy of the coordinator has all arrays that were fetched before, and their memory is the
same. That the original lets go of one says nothing of the copy. So a lease that went on when the
process was forked does not end before the copy has ended, or has become another program.

The kernel tells of that: the copy holds the writing end of a pipe, and nobody else does but copies
of its own. When all of them are gone the reading end, which the original has, is at its end. A
process that closes all of its files, as a daemon does, counts as gone.

Nothing is done, and no file opened, by a fork while no lease goes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Collection
from typing import Protocol
from weakref import WeakSet


class Copy:
    """A forked copy of this process.

    Args:
        reader: Our end of the pipe; None when there was no file to be had. Then it is taken to live
            for ever.
    """

    __slots__ = ("reader",)

    def __init__(self, reader: int | None) -> None:
        self.reader = reader

    def lives(self) -> bool:
        """Whether it, or a copy of it, may still look at what we had when it was made."""
        if self.reader is None:
            return True
        poll = select.poll()
        poll.register(self.reader, select.POLLIN)
        return not poll.poll(0)


class Leases(Protocol):
    """Who has given leases out."""

    def has_leases(self) -> bool:
        """Whether one goes on."""

    def copied(self, copy: Copy) -> None:
        """All that go on at this moment go on at least as long as the copy lives."""


class _Forks:
    one: threading.RLock
    """Held while this process is copied: one copy after the other."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin, as in a copy that knows of no other."""
        self.forking = 0
        self.copies: list[Copy] = []
        self.leases: WeakSet[Leases] = WeakSet()
        self.pipe: tuple[int, int] | None = None
        self.one = threading.RLock()

    def before(self) -> None:
        self.one.acquire()
        # From here on no lease ends until the copy is known.
        self.forking += 1
        self.pipe = None
        self.prune()
        if any(leases.has_leases() for leases in self.givers()):
            with contextlib.suppress(OSError):
                self.pipe = os.pipe()

    def after_in_parent(self) -> None:
        try:
            copy = Copy(None)
            if self.pipe is not None:
                copy.reader = self.pipe[0]
                self.copies.append(copy)
                os.close(self.pipe[1])
            for leases in self.givers():
                leases.copied(copy)
        finally:
            self.forking -= 1
            self.one.release()

    def givers(self) -> list[Leases]:
        while True:
            try:
                return list(self.leases)
            except RuntimeError:
                continue  # another thread came between

    def after_in_child(self) -> None:
        # The writing end stays open, and nobody knows its number.
        if self.pipe is not None:
            os.close(self.pipe[0])
        for copy in self.copies:
            if copy.reader is not None:
                os.close(copy.reader)
        self.reset()

    def prune(self) -> None:
        # In another thread than the one that copies, too: only one of them closes it.
        with self.one:
            self._prune()

    def _prune(self) -> None:
        for copy in [copy for copy in self.copies if not copy.lives()]:
            self.copies.remove(copy)
            assert copy.reader is not None
            os.close(copy.reader)


_forks = _Forks()


def watch(leases: Leases) -> None:
    """Have somebody told when this process is copied."""
    _forks.leases.add(leases)


def under_way() -> bool:
    """Whether this process is just being copied: then no lease may end."""
    return _forks.forking > 0


def living(copies: Collection[Copy]) -> list[Copy]:
    """Those of the copies that live."""
    _forks.prune()
    return [copy for copy in copies if copy.reader is None or copy in _forks.copies]


os.register_at_fork(
    before=_forks.before,
    after_in_parent=_forks.after_in_parent,
    after_in_child=_forks.after_in_child,
)
