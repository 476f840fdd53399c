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
        self._has_callbacks = False
        self._first: Callable[[], object] = _nothing

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """See `concurrent.futures.Future.add_done_callback`."""
        self._has_callbacks = True
        self._first()
        super().add_done_callback(fn)

    def before_callbacks(self, first: Callable[[], object]) -> None:
        """Have this done before callbacks are called, if there are any: once or more."""
        self._first = first
        if self._has_callbacks:
            first()

    def __repr__(self) -> str:
        text = super().__repr__()
        return text.replace("state=pending", "state=running", 1) if self.running() else text

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
        self._forget()
        return True

    def begin(self) -> bool:
        """It begins now; False if it was cancelled."""
        self._under_way = True
        return not self.cancelled()

    def end(self, result: Any, error: BaseException | None) -> None:
        """It has ended: with a result, or an error."""
        # Tells those that wait for several futures of a cancellation, too.
        if self.set_running_or_notify_cancel():
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)
        self._forget()

    def _forget(self) -> None:
        """Whoever keeps the future for its result keeps nothing else alive."""
        self._call_off, self._withdrawn, self._first = _too_late, _too_late, _nothing


def _nothing() -> None:
    pass


def _too_late(future: RunFuture) -> bool:
    return False
