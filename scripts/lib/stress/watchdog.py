"""A thread that sees that nothing takes forever: what does is a hang, and ends the process.

Should even Python's threads be stuck, because somebody holds the GIL, the interpreter's own
watchdog prints the stacks and ends the process.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

import psutil


def _print_stacks(file: TextIO) -> None:
    file.flush()
    faulthandler.dump_traceback(file=file, all_threads=True)
    for child in psutil.Process().children(recursive=True):
        try:
            line = " ".join(child.cmdline())[:100]
            print(f"process {child.pid}, {child.status()}: {line}", file=file)
        except psutil.Error:
            continue


class Watchdog:
    """Begin and end operations with it.

    Args:
        limit: Seconds that an operation may take.
        hung: Called with a line of text when one takes longer, before the process is ended
            with exit code 1.
    """

    def __init__(self, limit: float, hung: Callable[[str], object]) -> None:
        self._limit = limit
        self._hung = hung
        self._now: tuple[str, float] | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def begin(self, what: str) -> None:
        """An operation begins; the one before has ended."""
        self._now = what, time.monotonic()

    def end(self) -> None:
        """None is under way."""
        self._now = None

    def close(self) -> None:
        """Watch no more."""
        self._end.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while not self._end.wait(self._limit / 10):
            faulthandler.dump_traceback_later(2 * self._limit + 30, exit=True)
            now = self._now
            if now is not None and time.monotonic() - now[1] > self._limit:
                what, since = now
                took = time.monotonic() - since
                print(f"HANG: {what} has taken {took:.1f} s so far", file=sys.stderr)
                _print_stacks(sys.stderr)
                self._hung(f"{what} took more than {self._limit:g} s")
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(1)
