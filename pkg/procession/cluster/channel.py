"""Channel: whole messages over a socket, with a deadline, by somebody who may die.

A message is its length, 8 bytes, and its pickle. The coordinator's end never blocks in the socket:
it waits for the socket and for the process together, because a process that died may have left
children that hold the other end open, and one that was stopped reads and writes nothing for ever.
"""

from __future__ import annotations

import math
import os
import pickle
import select
import struct
import time
from multiprocessing.connection import Connection
from typing import Any

_LENGTH = struct.Struct("=Q")
_CHUNK = 1 << 20
MILLISECONDS_MOST = 2**31 - 1
"""What poll() takes."""


class EndOfChannel(Exception):  # noqa: N818 - not an error: a process ended
    """The other side is gone."""


class OutOfTime(Exception):  # noqa: N818 - not an error by itself
    """The deadline came in the middle of a message."""


def milliseconds_until(deadline: float | None) -> int | None:
    """For poll(). Rounded up, so that nobody goes round and round in the last millisecond."""
    if deadline is None or math.isinf(deadline):
        return None
    return min(math.ceil(max(0.0, deadline - time.monotonic()) * 1000), MILLISECONDS_MOST)


class Channel:
    """One end of a connection.

    Args:
        connection: The socket; stays the caller's to close.
        sentinel: A file that is readable when the process at the other end is gone. Without one
            the channel blocks, as befits a worker.
    """

    def __init__(self, connection: Connection, sentinel: int | None = None) -> None:
        self._connection = connection
        self._sentinel = sentinel
        if sentinel is not None:
            os.set_blocking(connection.fileno(), False)

    def _file(self) -> int:
        try:
            return self._connection.fileno()
        except OSError:
            raise EndOfChannel from None  # closed on this side

    def _wait(self, event: int, deadline: float | None) -> None:
        """Until the socket is ready; what it still has to read counts more than a death."""
        if self._sentinel is None:
            return
        file, poll = self._file(), select.poll()
        poll.register(file, event)
        poll.register(self._sentinel, select.POLLIN)
        ready = dict(poll.poll(milliseconds_until(deadline)))
        if not ready:
            raise OutOfTime
        if file not in ready:
            raise EndOfChannel

    def send(self, message: Any, deadline: float | None = None) -> None:
        """Send a message, all of it.

        Raises:
            EndOfChannel: Nobody will read it.
            OutOfTime: It could not all be sent by then.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        for part in (_LENGTH.pack(len(data)) + data[:_CHUNK], memoryview(data)[_CHUNK:]):
            left = memoryview(part)
            while left:
                try:
                    left = left[os.write(self._file(), left) :]
                except BlockingIOError:
                    self._wait(select.POLLOUT, deadline)
                except OSError:
                    raise EndOfChannel from None

    def receive(self, deadline: float | None = None) -> Any:
        """The next message, all of it.

        Raises:
            EndOfChannel: There is none, and nobody who could send one.
            OutOfTime: It did not all come by then.
        """
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return pickle.loads(self._read(length, deadline))

    def _read(self, size: int, deadline: float | None) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        while left:
            try:
                count = os.readv(self._file(), [left[:_CHUNK]])
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError:
                raise EndOfChannel from None
            if count == 0:
                raise EndOfChannel
            left = left[count:]
        return data
