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
        withdrawn: Called when it was cancelled. If it never began, nobody else will tell those who
            wait for several futures of that.
    """

    def __init__(
        self,
        call_off: Callable[[RunFuture], bool],
        withdrawn: Callable[[RunFuture], object],
    ) -> None:
        super().__init__()
        self._call_off = call_off
        self._withdrawn = withdrawn
        self._under_way = False
        self.has_callbacks = False
        """Whether somebody else's functions are called when it is done."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """See `concurrent.futures.Future.add_done_callback`."""
        self.has_callbacks = True
        super().add_done_callback(fn)

    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._under_way and not self.done()

    def cancel(self) -> bool:
        """Call it off, waiting or running. False when it has ended, or cannot be stopped."""
        if self.done():
            return self.cancelled()
        if not (self._call_off(self) and super().cancel()):
            return False
        self._withdrawn(self)
        return True

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
