"""Incarnation: one worker process of a node, from its start to its end, and what only it has.

That is the process itself, its board, its end of the channel and its alarm. All of it goes when the
process has ended; the node's memory and what is known of its blobs may go on, with the next
incarnation.

Whoever makes one calls `close` in the end, however it ended. Nothing is left behind by one
that cannot be made. It is made in an errand: Ctrl-C in the middle of it would leave files that
nobody knows of.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import resource
from collections.abc import Mapping
from functools import partial
from typing import Any

from procession.blobs.segment import Segment
from procession.cluster.board import BOARD_SIZE, Board
from procession.cluster.channel import Channel, hand_over_alarm
from procession.cluster.estate import JOURNAL_SIZE
from procession.cluster.launch import start_worker
from procession.cluster.logs import LogPump
from procession.cluster.protocol import Start
from procession.errors import NodeDiedError, OutOfFilesError, OutOfSharedMemoryError

WORKER = "procession.cluster.worker:main"
"""What a worker process runs."""
FILES_PER_NODE = 7
"""Files that a node takes in the coordinator at most: its connection, its control, its pidfd, its
alarm, what it prints (two), and the mapping of its board."""


class Incarnation:
    """A worker process, and how to talk to it.

    Args:
        start: What it is told; the name of its board is filled in here.
        method: How to start the process; None for the default.
        environment: Variables for the process, on top of this process's own.
        logs: What passes on what it prints; None has it write to our own files.
        journaled: Whether it is to keep a journal of its blobs.
        timeout: Seconds in which there must be a process.

    Raises:
        NodeDiedError: There is none.
    """

    __slots__ = (
        "__weakref__",
        "_board",
        "_closed",
        "_journal",
        "_segment",
        "channel",
        "process",
        "words",
    )

    def __init__(
        self,
        start: Start,
        *,
        method: str | None,
        environment: Mapping[str, str],
        logs: LogPump | None,
        journaled: bool,
        timeout: float,
    ) -> None:
        self._closed = False
        with contextlib.ExitStack() as undo:
            self._segment = Segment.create(BOARD_SIZE)
            undo.callback(self._segment.close)
            undo.callback(self._segment.unlink)
            self._board = Board(self._segment.memory)
            undo.callback(self._board.release)
            self.words = self._board.words
            start = start._replace(board=self._segment.name)
            self._journal: Segment | None = None
            if journaled:
                self._journal = journal = Segment.create(JOURNAL_SIZE)
                undo.callback(journal.close)
                undo.callback(journal.unlink)
                start = start._replace(journal=(journal.name, journal.size))
            with contextlib.nullcontext((1, 2)) if logs is None else logs.add(start.node) as files:
                begin = partial(
                    start_worker,
                    WORKER,
                    pickle.dumps(start),
                    method=method,
                    environment=environment,
                    stdout=files[0],
                    stderr=files[1],
                    timeout=timeout,
                )
                try:
                    self.process = process = begin()
                except (TimeoutError, RuntimeError) as error:
                    text = f"node {start.node!r} could not be started: {error}"
                    raise NodeDiedError(text, node=start.node) from error
                undo.callback(process.close)
                undo.callback(process.kill)
            alarm = None
            # A worker that has died at once has no use for it; its first answer will not come.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                alarm = hand_over_alarm(process.connection)
            if alarm is not None:
                process.close_too(io.FileIO(alarm, "r+"))
            self.channel = Channel(process.connection, self._board, process.sentinel, alarm)
            undo.pop_all()

    @property
    def journal(self) -> Any:
        """The memory of its journal, until `close`."""
        assert self._journal is not None
        return self._journal.memory

    def kill(self) -> None:
        """End the process at once, and see it gone."""
        self.process.kill()
        self.process.join(10)

    def close(self) -> None:
        """Let go of everything. A process that still runs ends by that. Twice is fine."""
        if self._closed:
            return
        self.channel.finish()
        self.channel.forget_alarm()
        self.process.close()
        self._board.release()
        self._segment.unlink()
        self._segment.close()
        if self._journal is not None:
            self._journal.unlink()
            self._journal.close()
        self._closed = True


def check_files(node: str, error: BaseException) -> None:
    """A node could not be started; see whether that was for want of files.

    Raises:
        OutOfFilesError: It was.
    """
    cause = error.__cause__ if isinstance(error, OutOfSharedMemoryError) else error
    if not isinstance(cause, OSError) or cause.errno not in (errno.EMFILE, errno.ENFILE):
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    what = os.strerror(cause.errno).lower()
    refused = OutOfFilesError(
        f"node {node!r} cannot be started: {what}. This process may have {limit:,} open, and each "
        f"node takes {FILES_PER_NODE}. Raise the limit (ulimit -n, or "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ...)), or use fewer nodes.",
        limit=limit,
        node=node,
    )
    refused.errno = cause.errno
    try:
        raise refused from error
    finally:
        # The frame, which its traceback keeps, would keep it.
        del refused
