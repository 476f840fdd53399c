"""Which names are taken: the one piece of process-wide state of the graph.

Blob names derive from net names, and two nets that meet in one workspace must not write the
same blobs by accident; so the second `Net("train")` of a process is called `train_1`, as in
Caffe2, and so is the second step that is not given a name. A graph that is built again in a
`fresh()` scope gets the same names again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_taken: dict[str, set[str]] = {}


def unique(kind: str, base: str) -> str:
    """Take `base`, or the first free one of `base_1`, `base_2`, ..., among names of that kind."""
    with _lock:
        taken = _taken.setdefault(kind, set())
        name, index = base, 0
        while name in taken:
            index += 1
            name = f"{base}_{index}"
        taken.add(name)
        return name


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
