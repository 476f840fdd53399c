"""Which names of nets and steps are taken, in this process.

Blob names derive from net names, and two nets that meet in one workspace must not write the
same blobs by accident; so the second `Net("train")` of a process is called `train_1`, as in
Caffe2, and so is the second step that is not given a name. A graph that is built again in a
`fresh()` scope gets the same names again.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_lock = threading.Lock()
_taken: dict[str, dict[str, int]] = {}
"""Kind -> name -> the last number that was put behind it to get a free one."""


def unique(kind: str, base: str) -> str:
    """Take `base`, or the first free one of `base_1`, `base_2`, ..., among names of that kind."""
    with _lock:
        taken = _taken.setdefault(kind, {})
        name, index = base, taken.get(base, 0)
        while name in taken:
            index += 1
            name = f"{base}_{index}"
        if name != base:
            taken[base] = index
        taken[name] = 0
        return name


_prefix: ContextVar[str] = ContextVar("procession name prefix", default="")


def prefix() -> str:
    """What comes before the names of new nets, e.g. the name of the `NetBuilder` one is in."""
    return _prefix.get()


@contextmanager
def within(prefix: str) -> Iterator[None]:
    """Call nets that are made inside `prefix/name`."""
    token = _prefix.set(prefix)
    try:
        yield
    finally:
        _prefix.reset(token)


def number_of(text: str) -> int:
    """A number of at most 32 bits that is the same for the same text in every process."""
    return zlib.crc32(text.encode())


def reset() -> None:
    """Forget all names. Graphs built before keep theirs, and may collide with later ones."""
    with _lock:
        _taken.clear()


@contextmanager
def fresh() -> Iterator[None]:
    """Build inside as if nothing had been built before; the names taken outside come back after."""
    global _taken
    with _lock:
        outside, _taken = _taken, {}
    try:
        yield
    finally:
        with _lock:
            _taken = outside
