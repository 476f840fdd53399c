"""Whether stores and loads take effect in the order in which they stand, and a fence if not.

x86 shows all stores of a core to the others in program order; ARM and others need not. Where two
processes tell each other something through shared memory, that matters: see
`procession.cluster.board` and `procession.blobs.exchange`.
"""

from __future__ import annotations

import platform
import threading

STORES_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
"""Whether stores reach other cores, and loads are made, in program order."""


class Fence:
    """Called: all stores and loads before come before all after. One per thread at a time.

    Python has no fence, but it has locks: this releases one and takes it again. Nothing earlier
    moves below a release, nothing later moves above an acquire, and on x86 (where both are locked
    instructions) and ARMv8 (where a load-acquire never overtakes a store-release) the acquire stays
    behind the release. So nothing moves across the pair.
    """

    __slots__ = ("_acquire", "_release")

    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self._acquire = lock.acquire
        self._release = lock.release

    def __call__(self) -> None:
        """Draw the line."""
        # Ctrl-C may have come between these two the last time. `suppress` takes twice as long.
        try:  # noqa: SIM105
            self._release()
        except RuntimeError:
            pass
        self._acquire(False)
