"""Channel: messages through a board and a socket, whoever sleeps, dies or writes nonsense."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procession.blobs.fence import Fence
from procession.cluster import board, channel
from procession.cluster.board import BOARD_SIZE, SLOT_SIZE, Board
from procession.cluster.channel import (
    BELL,
    LETTER,
    Channel,
    EndOfChannel,
    GarbledMessage,
    OutOfTime,
    hand_over_alarm,
    receive_alarm,
    wait,
)

LONG_ENOUGH = 50_000_000
"""Nanoseconds of patience that no machine is too slow for."""


class Pair:
    """Both ends, in one process."""

    def __init__(self, alarm: bool = False) -> None:
        self.memory = bytearray(BOARD_SIZE)
        self.above_socket, self.below_socket = multiprocessing.Pipe()
        self.sentinel, self.alive = os.pipe()
        above = below = None
        if alarm:
            above = hand_over_alarm(self.above_socket)
            below = receive_alarm(self.below_socket)
        self.above = Channel(self.above_socket, Board(self.memory), self.sentinel, above)
        self.alarms = [each for each in (above, below) if each is not None]
        self.below = Channel(self.below_socket, Board(self.memory), alarm=below)
        self.words = Board(self.memory).words

    def die(self) -> None:
        """The worker is gone."""
        self.below_socket.close()
        self.end()

    def end(self) -> None:
        """Its end is known."""
        if self.alive >= 0:
            os.close(self.alive)
            self.alive = -1

    def close(self) -> None:
        for side in (self.above, self.below):
            side.forget_alarm()
        for alarm in self.alarms:
            os.close(alarm)
        self.above_socket.close()
        self.below_socket.close()
        self.end()
        os.close(self.sentinel)


@contextlib.contextmanager
def ends(alarm: bool = False) -> Iterator[Pair]:
    pair = Pair(alarm)
    try:
        yield pair
    finally:
        pair.close()


ALARMS = [False, True] if hasattr(os, "eventfd") else [False]


@pytest.fixture(params=ALARMS, ids=lambda alarm: "alarm" if alarm else "bells")
def pair(request) -> Iterator[Pair]:
    with ends(request.param) as made:
        yield made


def in_background(job) -> threading.Thread:
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    return thread


def soon() -> float:
    return time.monotonic() + 20


def until_asleep(pair: Pair, word: int) -> None:
    end = soon()
    while not pair.words[word]:
        assert time.monotonic() < end
        time.sleep(0)


LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=200)
FLAT = LEAF | st.lists(LEAF, max_size=4).map(tuple)
PLAIN = FLAT | st.lists(FLAT, max_size=4).map(tuple)


class TestMessages:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.integers(), PLAIN), min_size=1, max_size=5))
    def test_arrive_as_they_were_sent(self, messages):
        with ends() as pair:
            for message in messages:
                pair.above.send(message)
                assert pair.below.receive() == message
                pair.below.send(message)
                assert wait([pair.above], soon()) == [pair.above]
                assert pair.above.take(soon()) == message

    @pytest.mark.parametrize(
        "size", [0, 1, SLOT_SIZE - 40, SLOT_SIZE, SLOT_SIZE + 1, 0xFFFF, 1 << 16, 5 << 20]
    )
    def test_of_any_size(self, pair, size):
        message = (1, bytes(size))
        thread = in_background(lambda: pair.below.send(pair.below.receive()))
        pair.above.send(message, soon())
        assert wait([pair.above], soon()) == [pair.above]
        assert pair.above.take(soon()) == message
        thread.join(20)

    def test_small_ones_need_no_socket_while_nobody_sleeps(self, pair):
        for number in range(1000):
            pair.above.send((number,))
            assert pair.below.receive() == (number,)
            pair.below.send((number,))
            assert pair.above.take() == (number,)
        os.set_blocking(pair.below_socket.fileno(), False)
        for socket in (pair.above_socket, pair.below_socket):
            with pytest.raises(BlockingIOError):
                os.read(socket.fileno(), 1)

    def test_from_before_the_other_end_was_made(self):
        memory = bytearray(BOARD_SIZE)
        above, below = multiprocessing.Pipe()
        with above, below:
            Channel(below, Board(memory)).send((1,))
            reading, writing = os.pipe()
            try:
                channel = Channel(above, Board(memory), reading)
                assert wait([channel], soon()) == [channel]
                assert channel.take() == (1,)
            finally:
                os.close(reading)
                os.close(writing)

    def test_are_counted(self, pair):
        pair.above.send((1, b"x" * 100))
        pair.below.receive()
        assert 100 < pair.above.bytes_sent < 130
        assert pair.below.bytes_received == pair.above.bytes_sent


class TestWaking:
    def test_who_sleeps_below_is_woken(self, pair):
        heard = []
        thread = in_background(lambda: heard.append(pair.below.receive()))
        until_asleep(pair, board.BELOW_SLEEPS)
        pair.above.send((1,))
        thread.join(20)
        assert heard == [(1,)]
        assert not pair.words[board.BELOW_SLEEPS]

    def test_who_sleeps_above_is_woken(self, pair):
        heard = []
        thread = in_background(lambda: heard.extend(wait([pair.above], soon())))
        until_asleep(pair, board.ABOVE_SLEEPS)
        pair.below.send((1,))
        thread.join(20)
        assert heard == [pair.above]
        assert pair.above.take() == (1,)

    def test_a_bell_left_over_wakes_nobody_for_long(self, pair):
        os.write(pair.above_socket.fileno(), BELL * 3)
        heard = []
        thread = in_background(lambda: heard.append(pair.below.receive()))
        thread.join(0.05)
        assert thread.is_alive()
        pair.above.send((1, bytes(2 * SLOT_SIZE)))
        thread.join(20)
        assert heard == [(1, bytes(2 * SLOT_SIZE))]
        os.write(pair.below_socket.fileno(), BELL * 3)
        assert wait([pair.above], time.monotonic() + 0.05) == []

    def test_a_message_between_the_looks_is_seen(self, pair, monkeypatch):
        # It comes when the receiver has said that it will sleep, and has not looked again.
        fence = pair.below._fence

        def late():
            monkeypatch.undo()
            pair.above.send((1,))
            fence()

        monkeypatch.setattr(pair.below, "_fence", late)
        assert pair.below.receive() == (1,)
        # The bell that was rung for it disturbs nobody.
        pair.above.send((2, bytes(2 * SLOT_SIZE)))
        assert pair.below.receive() == (2, bytes(2 * SLOT_SIZE))

    @pytest.mark.parametrize("alarm", ALARMS)
    def test_nothing_is_slept_through(self, alarm):
        # Two threads at whatever pace they come to, with every mixture of spinning and sleeping.
        seed = random.randrange(1 << 30)
        print("seed", seed)
        chance = random.Random(seed)
        with ends(alarm) as pair:

            def answer():
                for number in range(3000):
                    pair.words[board.PATIENCE] = chance.choice([0, 0, 20_000])
                    assert pair.below.receive() == (number,)
                    pair.below.send((number, bytes(chance.choice([0, 10, 2 * SLOT_SIZE]))))

            thread = in_background(answer)
            for number in range(3000):
                pair.above.send((number,), soon())
                if not pair.above.spin(chance.choice([0, 20_000])):
                    assert wait([pair.above], soon()) == [pair.above]
                assert pair.above.take(soon())[0] == number
            thread.join(20)
            assert not thread.is_alive()

    def test_several_at_once(self):
        with contextlib.ExitStack() as stack:
            pairs = [stack.enter_context(ends()) for _ in range(5)]
            above = [pair.above for pair in pairs]
            assert wait(above, time.monotonic()) == []
            pairs[3].below.send((3,))
            assert wait(above, soon()) == [above[3]]
            assert above[3].take() == (3,)
            pairs[1].die()
            assert wait(above, soon()) == [above[1]]
            with pytest.raises(EndOfChannel):
                above[1].take()

    def test_a_deadline(self, pair):
        begin = time.monotonic()
        assert wait([pair.above], begin + 0.05) == []
        assert time.monotonic() >= begin + 0.05
        assert not pair.words[board.ABOVE_SLEEPS]


class TestSpinning:
    def test_sees_what_comes(self, pair):
        heard = []
        thread = in_background(lambda: heard.append(pair.above.spin(LONG_ENOUGH * 100)))
        pair.below.send((1,))
        thread.join(20)
        assert heard == [True]

    def test_in_vain_is_given_up_for_a_while(self, pair):
        tries = []
        clock = time.perf_counter_ns

        def counting():
            tries[-1] += 1
            return clock()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(channel.time, "perf_counter_ns", counting)
            for _ in range(20):
                tries.append(0)
                assert not pair.above.spin(1)
        spun = [place for place, looks in enumerate(tries) if looks]
        assert spun == [0, 2, 6, 14]

    def test_success_brings_it_back(self, pair):
        assert not pair.above.spin(1)
        assert not pair.above.spin(1)
        pair.below.send((1,))
        assert pair.above.spin(LONG_ENOUGH)
        pair.above.take()
        pair.above.send((1,))
        pair.below.receive()
        heard = []
        thread = in_background(lambda: heard.append(pair.above.spin(LONG_ENOUGH * 100)))
        thread.join(0.02)
        pair.below.send((2,))
        thread.join(20)
        assert heard == [True]

    def test_without_patience_there_is_none(self, pair, monkeypatch):
        monkeypatch.setattr(channel.time, "perf_counter_ns", None)
        assert not pair.above.spin(0)


class TestDeath:
    def test_of_a_worker_that_said_nothing(self, pair):
        pair.die()
        assert wait([pair.above], soon()) == [pair.above]
        with pytest.raises(EndOfChannel):
            pair.above.take()

    def test_of_a_worker_whose_child_holds_the_socket(self, pair):
        pair.end()
        assert wait([pair.above], soon()) == [pair.above]
        with pytest.raises(EndOfChannel):
            pair.above.take()

    @pytest.mark.parametrize("size", [1, 2 * SLOT_SIZE])
    def test_after_its_message(self, pair, size):
        pair.below.send((1, bytes(size)))
        pair.die()
        assert wait([pair.above], soon()) == [pair.above]
        assert pair.above.take() == (1, bytes(size))
        with pytest.raises(EndOfChannel):
            pair.above.take()

    @pytest.mark.parametrize("sent", [0, 1, 5, 9, 100])
    def test_in_the_middle_of_a_letter(self, pair, sent):
        pair.words[board.UP] = 1 << 16 | channel.LONG
        letter = LETTER + (10_000).to_bytes(8, "little") + bytes(10_000)
        os.write(pair.below_socket.fileno(), letter[:sent])
        pair.die()
        assert wait([pair.above], soon()) == [pair.above]
        with pytest.raises(EndOfChannel):
            pair.above.take(soon())

    def test_before_the_head_is_written(self, pair):
        # The bytes are there, but nobody was told.
        pair.memory[-SLOT_SIZE : -SLOT_SIZE + 4] = b"half"
        pair.die()
        assert wait([pair.above], soon()) == [pair.above]
        with pytest.raises(EndOfChannel):
            pair.above.take()

    def test_between_head_and_bell(self, pair):
        heard = []
        thread = in_background(lambda: heard.extend(wait([pair.above], soon())))
        until_asleep(pair, board.ABOVE_SLEEPS)
        pair.words[board.ABOVE_SLEEPS] = 0  # so that nobody rings
        pair.below.send((7,))
        pair.die()
        thread.join(20)
        assert heard == [pair.above]
        assert pair.above.take() == (7,)

    def test_of_the_coordinator(self):
        # Where there is an alarm, a worker's lifeline sees to that.
        with ends() as pair:
            self.listens_to_the_end(pair)

    def listens_to_the_end(self, pair):
        heard = []

        def listen():
            try:
                pair.below.receive()
            except EndOfChannel:
                heard.append("end")

        thread = in_background(listen)
        until_asleep(pair, board.BELOW_SLEEPS)
        pair.above_socket.close()
        thread.join(20)
        assert heard == ["end"]

    def test_of_who_should_read_a_letter(self, pair):
        pair.die()
        with pytest.raises(EndOfChannel):
            pair.above.send((1, bytes(5 << 20)), soon())

    def test_nobody_reads_in_time(self, pair):
        with pytest.raises(OutOfTime):
            pair.above.send((1, bytes(5 << 20)), time.monotonic() + 0.05)

    def test_a_letter_that_does_not_end_in_time(self, pair):
        pair.words[board.UP] = 1 << 16 | channel.LONG
        os.write(pair.below_socket.fileno(), LETTER + b"\1")
        with pytest.raises(OutOfTime):
            pair.above.take(time.monotonic() + 0.05)


class TestNonsense:
    @pytest.mark.parametrize(
        "data",
        [b"", b"\xff\xfe", b"i\1", b"(\5", b"N", b"i\1\0\0\0", b"(\0\0\0\0"],
        ids=repr,
    )
    def test_is_no_message(self, pair, data):
        pair.memory[-SLOT_SIZE : -SLOT_SIZE + len(data)] = data
        pair.words[board.UP] = 1 << 16 | len(data)
        with pytest.raises(GarbledMessage):
            pair.above.take(soon())

    @pytest.mark.parametrize("length", [SLOT_SIZE + 1, 0xFFFE])
    def test_an_impossible_length(self, pair, length):
        pair.words[board.UP] = 1 << 16 | length
        with pytest.raises(GarbledMessage):
            pair.above.take(soon())

    def test_a_letter_without_end(self, pair):
        pair.words[board.UP] = 1 << 16 | channel.LONG
        os.write(pair.below_socket.fileno(), LETTER + b"\xff" * 8)
        with pytest.raises(GarbledMessage):
            pair.above.take(soon())


class TestFence:
    def test_can_be_called_again_after_an_interruption(self):
        fence = Fence()
        fence._release()  # Ctrl-C came here
        for _ in range(3):
            fence()

    def test_where_stores_are_not_in_order(self, pair, monkeypatch):
        monkeypatch.setattr(channel, "STORES_IN_ORDER", False)
        for number in range(100):
            pair.above.send((number,))
            assert pair.below.receive() == (number,)
            pair.below.send((number,))
            assert pair.above.take() == (number,)


class TestInterruption:
    """What Ctrl-C between two steps leaves, and how it goes on."""

    def test_a_message_stays_until_it_is_seen(self, pair):
        pair.below.send((1,))
        assert [pair.above.peek(), pair.above.peek()] == [(1,), (1,)]
        assert pair.above.heard() == 0
        pair.above.seen()
        assert pair.above.heard() == 1
        assert not pair.above.arrived()

    def test_a_letter_stays_until_it_is_seen(self, pair):
        message = (1, bytes(2 * SLOT_SIZE))
        thread = in_background(lambda: pair.below.send(message))
        until_arrived = wait([pair.above], soon())
        assert until_arrived == [pair.above]
        assert [pair.above.peek(soon()), pair.above.peek(soon())] == [message, message]
        pair.above.seen()
        thread.join(20)
        assert not pair.above.arrived()

    def test_before_its_head_is_written_it_was_not_sent(self, pair, monkeypatch):
        pair.above.send((1,))
        assert pair.below.receive() == (1,)
        monkeypatch.setattr(pair.above, "_out_slot", None)
        with pytest.raises(TypeError):
            pair.above.send((2,))
        assert pair.above.sent() == 1
        assert not pair.below.arrived()

    def test_it_is_rung_for_later(self, pair, monkeypatch):
        def interrupted(deadline: float | None) -> None:
            raise KeyboardInterrupt

        heard = []
        thread = in_background(lambda: heard.append(pair.below.receive()))
        until_asleep(pair, board.BELOW_SLEEPS)
        with monkeypatch.context() as patch:
            patch.setattr(pair.above, "_ring", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pair.above.send((1,))
        assert pair.above.sent() == 1
        pair.above.resume()
        thread.join(20)
        assert heard == [(1,)]

    def test_a_letter_goes_on_without_who_waited_for_it(self, pair, monkeypatch):
        begun, go = threading.Event(), threading.Event()
        write = Channel._write

        def slowly(self, data, deadline):
            begun.set()
            assert go.wait(20)
            write(self, data, deadline)

        def interrupt() -> None:
            assert begun.wait(20)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        monkeypatch.setattr(Channel, "_write", slowly)
        thread = in_background(interrupt)
        message = (1, bytes(2 * SLOT_SIZE))
        with pytest.raises(KeyboardInterrupt):
            pair.above.send(message)
        thread.join(20)
        assert pair.above.sending
        heard = []
        thread = in_background(lambda: heard.append(pair.below.receive()))
        go.set()
        pair.above.resume()
        thread.join(20)
        assert heard == [message]
        assert not pair.above.sending
