"""Lines: who may use which node, in the order in which they asked.

Each node serves one *turn* at a time. A turn may want several nodes: it takes its place in all of
their lines at once, and begins when it is first in each. As all lines see turns in the same order,
no two wait for each other. A turn that does not care stands in no line until a node that it may
have is free.

Whoever takes a turn leaves it again, whatever happens, and whether or not it had begun: `leave` is
the last thing it does. A turn that has begun is nobody else's business, but for `call_off`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from procession.errors import SessionBusyError, SessionClosedError


class Turn:
    """Somebody's turn at some nodes.

    Args:
        nodes: All of them, none twice; or, for `anywhere`, those of which one will do.
        begin: Called when it begins, in any thread, and quick; left out, `Lines.enter` waits for
            that. It may be called twice when Ctrl-C comes in between.
        anywhere: Whether one of the nodes is enough. When it begins, `nodes` has that one only.
    """

    __slots__ = (
        "__weakref__",
        "anywhere",
        "begin",
        "called_off",
        "gate",
        "monitor",
        "nodes",
        "refused",
        "thread",
    )

    def __init__(
        self,
        nodes: Sequence[str],
        begin: Callable[[], object] | None = None,
        anywhere: bool = False,
    ) -> None:
        self.nodes = nodes
        self.begin = begin
        self.anywhere = anywhere
        self.called_off = False
        """Whether what is done in it should end."""
        self.refused = False
        """Whether it will never begin, because the session was closed."""
        self.monitor: Any = None
        """For who takes the turn: what watches the run."""
        self.thread: int | None = threading.get_ident() if begin is None else None
        """The thread that waits for it, or uses it."""
        self.gate: Any = None

    def close_gate(self) -> None:
        """Have `wait` wait."""
        self.gate = threading.Lock()
        self.gate.acquire()

    def wake(self) -> None:
        """It begins, or never will."""
        if self.begin is not None:
            self.begin()
        elif self.gate is not None and self.gate.locked():
            self.gate.release()

    def wait(self, timeout: float = -1) -> None:
        """Until it begins."""
        self.gate.acquire(timeout=timeout)


class Lines:
    """The lines of all nodes of one session. Safe to use from several threads.

    What changes them can be done again from the beginning when Ctrl-C has interrupted it.

    Args:
        usable: Whether a node can do anything. One that cannot gets no turn that would do with
            another node; left out, all can.
    """

    def __init__(self, usable: Callable[[str], bool] = lambda node: True) -> None:
        self._usable = usable
        self._lock = threading.RLock()
        self._inside = False
        self._lines: dict[str, deque[Turn]] = {}
        self._anywhere: list[Turn] = []
        self._closed = False
        self.running: set[Turn] = set()
        """The turns that have begun and not been left."""

    def enter(self, turn: Turn, timeout: float = -1) -> None:
        """Take a turn's places. Without a `begin` of its own, wait until it begins.

        Args:
            turn: One that has not been taken yet.
            timeout: Seconds to wait at most; below 0 for as long as it takes. A turn that has not
                begun by then still waits, until it is left.

        Raises:
            SessionBusyError: This very thread is in the middle of a turn at one of the nodes.
            SessionClosedError: `close` was called.
        """
        with self._lock:
            if self._inside:
                # A signal handler, called by this thread in the middle of what follows.
                raise _busy()
            try:
                self._inside = True
                if self._closed:
                    raise _closed()
                if self._take_places(turn):
                    self.running.add(turn)
                    if turn.begin is not None:
                        turn.begin()
                    return
                if turn.begin is not None:
                    return
                turn.close_gate()
            finally:
                self._inside = False
        turn.wait(timeout)
        if turn.refused:
            raise _closed()

    def _take_places(self, turn: Turn) -> bool:
        """Whether it can begin."""
        lines = self._lines
        if turn.anywhere:
            for node in self._candidates(turn):
                if not lines.get(node):
                    turn.nodes = (node,)
                    break
            else:
                self._anywhere.append(turn)
                return False
        first = True
        for node in turn.nodes:
            line = lines.get(node)
            if line is None:
                line = lines[node] = deque()
            elif line:
                first = False
                if turn.thread is not None and any(turn.thread == each.thread for each in line):
                    raise _busy()
            line.append(turn)
        return first

    def leave(self, turn: Turn) -> None:
        """Give up a turn, wherever it stands. Nothing happens for one that has none."""
        with self._lock:
            if turn.anywhere and turn in self._anywhere:
                # It may have a place by now, if Ctrl-C came in between.
                self._anywhere.remove(turn)
            waiting = False
            for node in turn.nodes:
                line = self._lines.get(node)
                if line and line[0] is turn:
                    line.popleft()
                elif line and turn in line:
                    line.remove(turn)
                waiting = waiting or bool(line)
            self.running.discard(turn)
            if waiting or self._anywhere:
                self._begin_next(turn.nodes)

    def _begin_next(self, nodes: Sequence[str]) -> None:
        """Begin what has come to the head of these lines."""
        for node in nodes:
            line = self._lines.get(node)
            if line is None:
                continue
            if not line:
                for turn in self._anywhere:
                    if node in self._candidates(turn):
                        turn.nodes = (node,)
                        line.append(turn)
                        self._anywhere.remove(turn)
                        break
                else:
                    continue
            turn = line[0]
            if turn not in self.running and all(self._lines[n][0] is turn for n in turn.nodes):
                turn.wake()
                self.running.add(turn)

    def _candidates(self, turn: Turn) -> Sequence[str]:
        """The nodes for a turn at one of them. When none of them is usable it may learn that."""
        return [node for node in turn.nodes if self._usable(node)] or turn.nodes

    def withdraw(self, turn: Turn) -> bool:
        """Give up a turn if it has not begun; whether it had not."""
        with self._lock:
            if turn in self.running:
                return False
            self.leave(turn)
            return True

    def call_off(self, turn: Turn, stop: Callable[[Turn], object]) -> None:
        """Have the run of a turn end: `stop` is called, if it has begun and has not ended."""
        with self._lock:
            turn.called_off = True
            if turn in self.running:
                stop(turn)

    def close(self) -> list[Turn]:
        """Let nobody in any more. Those that wait are refused.

        Returns:
            The refused turns that have a `begin` of their own.
        """
        with self._lock:
            self._closed = True
            waiting = dict.fromkeys(self._anywhere)
            for line in self._lines.values():
                waiting.update((turn, None) for turn in line if turn not in self.running)
            for turn in waiting:
                turn.refused = True
            for turn in waiting:
                self.leave(turn)
        for turn in waiting:
            if turn.begin is None:
                turn.wake()
        return [turn for turn in waiting if turn.begin is not None]

    def in_turn(self) -> bool:
        """Whether this very thread is in the middle of a turn, in which a signal came."""
        thread = threading.get_ident()
        return any(turn.thread == thread for turn in list(self.running))

    def empty(self, timeout: float = -1) -> bool:
        """After `close`: wait until every turn of other threads has ended; whether that came."""
        last = Turn([])
        try:
            with self._lock:
                last.nodes = [
                    node
                    for node, line in self._lines.items()
                    if line and not any(turn.thread == last.thread for turn in line)
                ]
                if not last.nodes:
                    return True
                self._take_places(last)
                last.close_gate()
            last.wait(timeout)
            return last in self.running
        finally:
            self.leave(last)


def _busy() -> SessionBusyError:
    return SessionBusyError(
        "this session is in the middle of something that the same thread asked of it: a signal "
        "handler cannot use it now. Let the handler set a flag, and look at that after the run."
    )


def _closed() -> SessionClosedError:
    return SessionClosedError("the session has been closed")
