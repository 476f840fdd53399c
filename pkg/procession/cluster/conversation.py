"""Conversation: questions to one worker and its answers, over its channel, interrupted or not.

One question is under way at a time. One whose answer nobody has waited for is *owed* it. What was
sent stands on the board, and all that a worker says carries the number of what it has heard last
(see `channel` and `protocol`). So nothing has to be remembered in the very moment in which Ctrl-C
may come: nothing is sent twice, nothing is waited for that will not come, and what was only half
taken in is taken in again.

A worker begins by owing that it is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from procession.cluster import protocol
from procession.cluster.channel import Channel, GarbledMessage
from procession.cluster.memory import NodeMemory
from procession.cluster.protocol import Failed, Granted, NeedSegment, packed, unpacked
from procession.cluster.serial import Report
from procession.errors import OutOfSharedMemoryError


class Conversation:
    """The coordinator's side. All methods raise what their channel does.

    Args:
        channel: Our end of it.
        memory: The node's.
        take_in: Called with each answer; it may happen that it is called twice with one.
    """

    __slots__ = ("_answered", "_granted", "_memory", "_take_in", "_telling", "channel")

    def __init__(
        self, channel: Channel, memory: NodeMemory, take_in: Callable[[Any], object]
    ) -> None:
        self.channel = channel
        self._memory = memory
        self._take_in = take_in
        self._answered = -1
        """The number of the last message that was answered."""
        self._telling: tuple[int, ...] = ()
        """Leases that the worker may not have been told of, because that was interrupted."""
        self._granted: tuple[int, Granted | Failed] = (-1, Failed(()))
        """The number of what the last request for memory followed, and its answer."""

    def owes(self) -> bool:
        """Whether the worker has something to answer."""
        channel = self.channel
        try:
            return channel.sent() != self._answered or channel.sending is not None
        except ValueError:
            return True  # the board is gone; who goes on hears why

    def ask(self, question: Any, deadline: float | None = None) -> None:
        """Send a question, and with it the leases that have ended."""
        ended = self._memory.ended()
        if ended:
            self._telling += ended
        self.channel.send(packed(question, self._telling), deadline)
        if self._telling:
            self._telling = ()

    def hear(self, deadline: float | None) -> Any:
        """The answer that is there; None for what is none: a request for memory, which is granted.

        Nothing in here is done for good before the message is marked as seen.
        """
        channel = self.channel
        message, number = unpacked(channel.peek(deadline))
        if number != channel.sent():
            # To a question that is answered already, as far as we know.
            channel.seen()
            return None
        try:
            if type(message) is not NeedSegment:
                self._take_in(message)
            else:
                self._grant(message, number)
                message = None
        except protocol.NONSENSE:
            raise GarbledMessage from None
        if message is None:
            channel.send(packed(self._granted[1]), deadline)
        else:
            self._answered = number
        channel.seen()
        return message

    def _grant(self, wanted: NeedSegment, number: int) -> None:
        if self._granted[0] == number:
            return  # and was interrupted before it could be sent
        try:
            segment = self._memory.grant(wanted)
            self._granted = number, Granted(segment.name, segment.size)
        except OutOfSharedMemoryError as error:
            self._granted = number, Failed(tuple(Report.of(error)))
