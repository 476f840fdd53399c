"""RunFuture: what is under way, and can be called off even then."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class RunFuture(Future[Any]):
    """A future whose `cancel` also ends what is running already.

    For `concurrent.futures` it is pending until it has ended, so that it can be cancelled.
    Whoever waits for its result is told at once; the run itself ends at its next step or loop
    iteration, and only then come those that wait for the same nodes.

    Args:
        call_off: Ends what is running, or keeps it from beginning; returns False if neither is
            possible any more.
    """

    def __init__(self, call_off: Callable[[RunFuture], bool]) -> None:
        super().__init__()
        self._call_off = call_off
        self._under_way = False

    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._under_way and not self.done()

    def cancel(self) -> bool:
        """Call it off, waiting or running. False when it has ended, or cannot be stopped."""
        if self.done():
            return self.cancelled()
        return self._call_off(self) and super().cancel()

    def begin(self) -> bool:
        """It begins now; False if it was cancelled."""
        self._under_way = True
        return not self.cancelled()

    def end(self, result: Any, error: BaseException | None) -> None:
        """It has ended: with a result, or an error."""
        # Tells those that wait for several futures of a cancellation, too.
        if not self.set_running_or_notify_cancel():
            return
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)
