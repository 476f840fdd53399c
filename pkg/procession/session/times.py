"""Times that users give, checked."""

from __future__ import annotations

import math


def checked_timeout(seconds: float | None) -> float | None:
    """Seconds that a run may take; infinity is as long as it takes.

    Raises:
        ValueError: It is no number above 0.
    """
    return None if seconds is None or seconds == math.inf else checked_seconds(seconds, "timeout")


def checked_seconds(seconds: float, what: str) -> float:
    """Seconds that something may take at most.

    Raises:
        ValueError: It is no finite number above 0.
    """
    if isinstance(seconds, (int, float)) and 0 < seconds < math.inf:
        return seconds
    raise ValueError(f"{what} is a number of seconds above 0, not {seconds!r}")
