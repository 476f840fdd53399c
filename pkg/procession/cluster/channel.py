"""Channel: whole messages between a coordinator and a worker, either of which may die.

A message is a tuple of plain values, as bytes by `marshal`. The two sides take turns: a side that
has sent one waits for the other's before it sends the next.

The sender
    1. writes the bytes into its slot of the board;
    2. writes the *head*: the number of the message and of its bytes, in one word;
    3. if the word of the other side says that it may be asleep, rings: a worker by one byte,
       `BELL`, through the socket; the coordinator by the `alarm`, an eventfd, where there are any.
       A socket wakes its reader on the writer's own core, as it expects the writer to sleep. A
       coordinator that spins for the answer would be in the worker's way there. An eventfd wakes it
       wherever a core is free.
    A message that is larger than the slot has `LONG` in its head instead of a length, and goes
    through the socket after it: `LETTER`, its length in 8 bytes, its bytes. It is a *letter*.

The receiver
    1. spins on the head for as long as its patience lasts, which is nothing when no core is free
       or the last tries were in vain (see `Channel.spin`);
    2. writes into its word that it may be asleep, looks at the head once more, and sleeps until it
       is rung for;
    3. when it is woken it takes one byte from the socket, or what the alarm has counted, unless
       the head says that a letter follows. A bell that was rung for a message which it found on its
       second look has no message any more; it goes to sleep again;
    4. has `peek`ed at the message, done what it says, and then marks it as `seen`.

That nothing is slept through follows from the order of these steps on both sides, and from the
fences between them (see `board`). At most one bell is left over by each message, and each sleep
takes what is left.

Who is interrupted here, as a coordinator by Ctrl-C, between any two of these steps, loses nothing.
The head is what counts: a message whose head is not written was not sent, and one whose head is
written was, even if nobody has rung for it (`resume` does). A message that was not marked as seen
is still there to be peeked at, so what is done with it must bear being done twice. Letters are no
single step, so the main thread, the only one that Ctrl-C comes to, leaves them to an `Errand`,
which goes on whatever happens to it; the next `resume` or `peek` waits for its end.

Who dies here: the kernel closes a dead process's end of the socket, which wakes who sleeps. The
coordinator waits for the process as well (`sentinel`), because a process that died may have left
children that hold the socket open, and one that was stopped closes nothing. What was said before
dying still counts: the head is looked at once more before a side is declared gone. A head without
its bytes cannot be seen; a letter that breaks off is the end.

Somebody who writes what is no message, or half of one, is at its end for us as well
(`GarbledMessage`). `marshal` makes plain values only: no code of the sender's is run.
"""

from __future__ import annotations

import contextlib
import marshal
import math
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from procession.blobs.fence import STORES_IN_ORDER, Fence
from procession.cluster import board
from procession.cluster.board import SLOT_SIZE, Board
from procession.cluster.errand import Errand

BELL = b"\0"
LETTER = b"\1"
LONG = 0xFFFF
"""In a head, in the place of a length: the message comes as a letter."""
_LENGTH_BITS = 16
_SMALL_TUPLE = ord(")")
"""What `marshal` begins a message with."""
_NO_FLAG = 0x7F
_NUMBERS = 1 << 40
_LENGTH = struct.Struct("=Q")
_CHUNK = 1 << 20
FEW = 8
"""Up to so many channels it is not worth while to tell the kernel of them beforehand."""
MILLISECONDS_MOST = 2**31 - 1
"""What poll() takes."""
LOOKS = 8
"""How often a spinner looks at the word before it looks at the clock."""
Result = TypeVar("Result")
VAIN_MOST = 127
"""How many waits in a row are at most slept through before spinning is tried again."""


class EndOfChannel(Exception):  # noqa: N818 - not an error: a process ended
    """The other side is gone."""


class GarbledMessage(EndOfChannel):
    """What came is no message; nothing that comes after it can be relied upon."""


class OutOfTime(Exception):  # noqa: N818 - not an error by itself
    """The deadline came in the middle of a message."""


def milliseconds_until(deadline: float | None) -> int | None:
    """For poll(). Rounded up, so that nobody goes round and round in the last millisecond."""
    if deadline is None or math.isinf(deadline):
        return None
    return min(math.ceil(max(0.0, deadline - time.monotonic()) * 1000), MILLISECONDS_MOST)


class Channel:
    """One end.

    Args:
        connection: The socket; stays the caller's to close.
        shared: The board, on this side.
        sentinel: A file that is readable when the process at the other end is gone: this is the
            coordinator's end. Without one it is the worker's, which blocks when it writes.
        alarm: An eventfd of both sides by which the coordinator wakes the worker.
    """

    def __init__(
        self,
        connection: Connection,
        shared: Board,
        sentinel: int | None = None,
        alarm: int | None = None,
    ) -> None:
        self._connection = connection
        self._words = shared.words
        self._fence = Fence()
        self._number = 0
        self.sending: Errand[None] | None = None
        """The letter that may be on its way, until `send` or `resume` has waited for it."""
        self._incoming: tuple[int, Errand[bytearray]] | None = None
        """The head of the letter that is being received, and what does it."""
        self._vain = 0
        self._skip = 0
        self._alarm = alarm
        self.sentinel = sentinel
        self.files = (connection.fileno(), sentinel)
        self.bytes_sent = 0
        self.bytes_received = 0
        if sentinel is not None:
            os.set_blocking(connection.fileno(), False)
            self._out, self._in = board.DOWN, board.UP
            self._out_slot, self._in_slot = shared.down, shared.up
            self._asleep, self._other_asleep = board.ABOVE_SLEEPS, board.BELOW_SLEEPS
        else:
            self._out, self._in = board.UP, board.DOWN
            self._out_slot, self._in_slot = shared.up, shared.down
            self._asleep, self._other_asleep = board.BELOW_SLEEPS, board.ABOVE_SLEEPS
        # Not what stands there: the other side may have spoken before this was made.
        self._seen = 0
        self._peeked = (0, 0)

    def file(self) -> int:
        """The number of the socket's file."""
        try:
            return self._connection.fileno()
        except OSError:
            raise EndOfChannel from None  # closed on this side

    def forget_alarm(self) -> None:
        """Use it no more: it is about to be closed."""
        self._alarm = None

    def finish(self) -> None:
        """Wait for other threads that still use the files: the other side is gone, they end."""
        for errand in (self.sending, None if self._incoming is None else self._incoming[1]):
            if errand is not None:
                with contextlib.suppress(Exception):
                    errand.run(1.0)

    # Sending.

    def send(self, message: tuple[Any, ...], deadline: float | None = None) -> None:
        """Send a message, all of it.

        Args:
            message: What `marshal` takes.
            deadline: By `time.monotonic`.

        Raises:
            EndOfChannel: Nobody will read it.
            OutOfTime: It could not all be sent by then.
        """
        data = marshal.dumps(message)
        length = len(data)
        self._number = number = (self._number + 1) % _NUMBERS
        words = self._words
        if length <= SLOT_SIZE:
            self._out_slot[:length] = data
            if not STORES_IN_ORDER:
                self._fence()
            words[self._out] = number << _LENGTH_BITS | length
            self._fence()
            if words[self._other_asleep]:
                self._ring(deadline)
        else:
            self.sending = self._errand(partial(self._post, number, data, deadline))
            self.sending.run()
            self.sending = None
        self.bytes_sent += length

    def _errand(self, job: Callable[[], Result]) -> Errand[Result]:
        return Errand(job, interruptible=self.sentinel is not None)

    def _post(self, number: int, data: bytes, deadline: float | None) -> None:
        self._words[self._out] = number << _LENGTH_BITS | LONG
        self._ring(deadline)
        self._write(LETTER + _LENGTH.pack(len(data)) + data[:_CHUNK], deadline)
        self._write(memoryview(data)[_CHUNK:], deadline)

    def sent(self) -> int:
        """The number of the last message that was sent, 0 before the first."""
        return self._words[self._out] >> _LENGTH_BITS

    def resume(self, deadline: float | None = None) -> bool:
        """See that a message whose sending may have been interrupted arrives, if it was sent.

        Returns:
            Whether that was done by the deadline. A letter that was not is still on its way.
        """
        if self.sending is not None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                self.sending.run(left)
            except TimeoutError:
                return False
            self.sending = None
        elif self._words[self._other_asleep]:
            self._ring(None)
        return True

    def _ring(self, deadline: float | None) -> None:
        alarm = self._alarm
        if alarm is not None and self.sentinel is not None:
            try:
                os.eventfd_write(alarm, 1)
            except OSError:
                raise EndOfChannel from None  # closed, as at the interpreter's end
        else:
            self._write(BELL, deadline)

    def _write(self, data: bytes | memoryview, deadline: float | None) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self.file(), left) :]
            except BlockingIOError:
                self._wait_for_socket(select.POLLOUT, deadline)
            except OSError:
                raise EndOfChannel from None

    def _wait_for_socket(self, event: int, deadline: float | None) -> None:
        """Until the socket is ready; what it still has to read counts more than a death."""
        file, poll = self.file(), select.poll()
        poll.register(file, event)
        assert self.sentinel is not None
        poll.register(self.sentinel, select.POLLIN)
        ready = dict(poll.poll(milliseconds_until(deadline)))
        if not ready:
            raise OutOfTime
        if file not in ready:
            raise EndOfChannel

    # Receiving.

    def arrived(self) -> bool:
        """Whether a message is there, or begins to be."""
        return self._words[self._in] != self._seen

    def peek(self, deadline: float | None = None) -> Any:
        """The message that has arrived, all of it. It stays until it is `seen`.

        Raises:
            EndOfChannel: There is none, and nobody who could send one.
            OutOfTime: It did not all come by then.
        """
        head = self._words[self._in]
        if head == self._seen:
            raise EndOfChannel
        length = head & LONG
        if length <= SLOT_SIZE:
            if not STORES_IN_ORDER:
                self._fence()
            data: Any = self._in_slot[:length]
        elif length == LONG:
            if self._incoming is None or self._incoming[0] != head:
                self._incoming = head, self._errand(partial(self._letter, deadline))
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                data = self._incoming[1].run(left)
            except TimeoutError:
                # It was begun by somebody who had more time, and was interrupted.
                raise OutOfTime from None
            length = len(data)
        else:
            raise GarbledMessage
        try:
            # Of another tuple the reader would believe any length, and make room for that.
            if data[0] & _NO_FLAG != _SMALL_TUPLE:
                raise GarbledMessage
            message = marshal.loads(data)
        except (ValueError, EOFError, TypeError, IndexError):
            raise GarbledMessage from None
        if not message:
            raise GarbledMessage
        self._peeked = head, length
        return message

    def seen(self) -> None:
        """What was peeked at has been done."""
        head, length = self._peeked
        self.bytes_received += length
        self._seen = head
        if self._incoming is not None:
            self._incoming = None  # its bytes may be many

    def take(self, deadline: float | None = None) -> Any:
        """`peek`, for who does not mind to lose the message when he is interrupted."""
        message = self.peek(deadline)
        self.seen()
        return message

    def heard(self) -> int:
        """The number of the last message that was seen."""
        return self._seen >> _LENGTH_BITS

    def _letter(self, deadline: float | None) -> bytearray:
        # Bells may have been left over by earlier messages.
        while self._read(1, deadline) != LETTER:
            pass
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return self._read(length, deadline)

    def _read(self, size: int, deadline: float | None) -> bytearray:
        try:
            data = bytearray(size)
        except (MemoryError, OverflowError):
            raise GarbledMessage from None
        left = memoryview(data)
        while left:
            try:
                count = os.readv(self.file(), [left[:_CHUNK]])
            except BlockingIOError:
                self._wait_for_socket(select.POLLIN, deadline)
                continue
            except OSError:
                raise EndOfChannel from None
            if count == 0:
                raise EndOfChannel
            left = left[count:]
        return data

    # Waiting.

    def spin(self, limit: int) -> bool:
        """Look at the head again and again for so many nanoseconds; whether to `peek` at what came.

        Spinning is in vain when the other side takes longer, and does harm when it waits for the
        very core that the spinner is on. The spinner cannot tell, but that nothing came of it: then
        it does not spin for some waits, and for twice as many if the next try is in vain, too.
        """
        words, place, seen = self._words, self._in, self._seen
        try:
            if self.rests(limit):
                return bool(words[place] != seen)
            clock = time.perf_counter_ns
            end = clock() + limit
            while True:
                for _ in range(LOOKS):
                    if words[place] != seen:
                        self.spun(in_vain=False)
                        return True
                if clock() >= end:
                    self.spun(in_vain=True)
                    return False
        except ValueError:
            return True  # the board is gone: the session was closed, by a signal handler

    def rests(self, limit: int) -> bool:
        """Whether there is to be no spinning this time."""
        if not limit:
            return True
        if self._skip:
            self._skip -= 1
            return True
        return False

    def spun(self, in_vain: bool) -> None:
        """Remember what came of spinning."""
        self._vain = min(2 * self._vain + 1, VAIN_MOST) if in_vain else 0
        self._skip = self._vain

    def lie_down(self) -> bool:
        """Ask to be woken by the next message; whether it has come already."""
        self._words[self._asleep] = 1
        self._fence()
        return self.arrived()

    def stand_up(self) -> None:
        """No bell is needed any more."""
        # The board is gone when the session was closed meanwhile, by a signal handler.
        with contextlib.suppress(ValueError):
            self._words[self._asleep] = 0

    def answer_bell(self, file: int | None = None) -> bool:
        """A file can be read. Whether a message has arrived, or its sender is gone.

        Args:
            file: The sentinel, or the socket, which it is when left out.
        """
        if file is not None and file == self.sentinel:
            return True
        head = self._words[self._in]
        if head != self._seen and head & LONG == LONG:
            return True  # what is in the socket may be the letter
        try:
            byte = os.read(self.file(), 1)
        except BlockingIOError:
            return self.arrived()
        except (OSError, EndOfChannel):
            return True
        return not byte or self.arrived()

    def _sleep(self) -> bool:
        """Until somebody rings; whether a message has arrived, or nobody is there. A worker's."""
        if self._alarm is None:
            return self.answer_bell()
        # That the coordinator is gone the socket would say; but the lifeline ends us then (see
        # `child`), and this is one system call where another would be three.
        os.eventfd_read(self._alarm)
        return self.arrived()

    def receive(self, spinning: bool = True) -> Any:
        """The next message; a worker's way to wait.

        Args:
            spinning: Whether to spin first, for as long as the coordinator allows.

        Raises:
            EndOfChannel: The coordinator is gone.
        """
        if not (spinning and self.spin(self._words[board.PATIENCE])):
            try:
                while not self.lie_down() and not self._sleep():
                    pass
            finally:
                self.stand_up()
        return self.take()


def hand_over_alarm(connection: Connection) -> int | None:
    """Make an alarm, and send it through the socket before anything else; None without eventfds."""
    if not hasattr(os, "eventfd"):
        return None
    alarm = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as to:
            socket.send_fds(to, [BELL], [alarm])
    except BaseException:
        os.close(alarm)
        raise
    return alarm


def receive_alarm(connection: Connection) -> int | None:
    """In the worker: what `hand_over_alarm` sent.

    Raises:
        EndOfChannel: The coordinator is gone.
    """
    if not hasattr(os, "eventfd"):
        return None
    with socket.socket(fileno=os.dup(connection.fileno())) as source:
        data, files, _, _ = socket.recv_fds(source, 1, 1)
    if not data or not files:
        raise EndOfChannel
    os.set_inheritable(files[0], False)
    return files[0]


class Ears:
    """Waits for several channels, on the coordinator's side, until each is `done`.

    Args:
        channels: Those to wait for.
    """

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._left = dict.fromkeys(channels)
        self._by_file: dict[int, Channel] = {}
        self._poll: Any = None
        self._seconds = 1.0

    def __enter__(self) -> Ears:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody is listened to any more."""
        if self._poll is not None:
            for channel in self._left:
                channel.stand_up()
            if hasattr(self._poll, "close"):
                self._poll.close()

    def spin(self, limit: int) -> list[Channel]:
        """Look at all heads again and again for so many nanoseconds; see `Channel.spin`."""
        left = list(self._left)
        if left[0].rests(limit):
            return []
        end = time.perf_counter_ns() + limit
        while True:
            speaking = [channel for channel in left if channel.arrived()]
            if speaking:
                left[0].spun(in_vain=False)
                return speaking
            if time.perf_counter_ns() >= end:
                left[0].spun(in_vain=True)
                return []

    def wait(self, deadline: float | None, patience: int = 0) -> list[Channel]:
        """Those on which something has arrived, or nobody is any more.

        Args:
            deadline: By `time.monotonic`; when it has come, the list is empty.
            patience: Nanoseconds to spin before sleeping.
        """
        if patience and self._poll is None:
            speaking = self.spin(patience)
            if speaking:
                return speaking
        speaking = []
        if self._poll is None:
            speaking = [channel for channel in self._left if channel.arrived()]
            if not speaking:
                self._begin()
                speaking = [channel for channel in self._left if channel.lie_down()]
        while not speaking:
            milliseconds = milliseconds_until(deadline)
            timeout = None if milliseconds is None else milliseconds * self._seconds
            ready = self._poll.poll(timeout)
            if not ready:
                break
            for file, _ in ready:
                channel = self._by_file[file]
                if channel.answer_bell(file) and channel not in speaking:
                    speaking.append(channel)
        return speaking

    def _begin(self) -> None:
        """Have the kernel listen, too. From here on whoever speaks rings."""
        poll: Any
        if len(self._left) > FEW and hasattr(select, "epoll"):
            poll, self._seconds = select.epoll(), 0.001
        else:
            poll = select.poll()
        self._poll = poll
        for channel in self._left:
            assert channel.sentinel is not None
            for file in (channel.file(), channel.sentinel):
                poll.register(file, select.POLLIN)
                self._by_file[file] = channel

    def done(self, channel: Channel) -> None:
        """Nothing more is expected of that one."""
        del self._left[channel]
        if self._poll is not None:
            channel.stand_up()
            for file in [file for file in channel.files if file in self._by_file]:
                del self._by_file[file]
                with contextlib.suppress(OSError):
                    self._poll.unregister(file)


def wait(channels: Iterable[Channel], deadline: float | None) -> list[Channel]:
    """Those of the channels on which something has arrived, or nobody is any more; see `Ears`."""
    with Ears(channels) as ears:
        return ears.wait(deadline)
