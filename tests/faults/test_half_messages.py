"""What breaks off, or is no message: the node is dead, and nothing of it is believed.

| what | how |
| --- | --- |
| a death with a message of 32 MiB half sent, either way | the bytes that were read are watched |
| stopped half-way, then killed; stopped half-way, then going on | the same |
| words, slots and socket filled with anything | an operator gets at its worker's channel |
| whole messages of a wrong kind, with wrong fields | what the worker sends is exchanged |
| a pickle where a tensor was promised | it would leave a file behind if it were opened |
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.moments import (
    MIB,
    Witness,
    adding,
    beside_endless,
    bytes_moved,
    gone,
    pid_of,
    send,
    stop,
    until,
)
from tests.session.process_nodes import python_net, run_on

from procession import NodeDiedError, ProcessSession

LARGE = 32 * MIB
HALF = 4 * MIB
"""Less than half, and more than a socket holds."""


class Outcome:
    """What becomes of something that another thread does."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._do, args=(action,), daemon=True)
        self._thread.start()

    def _do(self, action: Callable[[], Any]) -> None:
        try:
            self.value = action()
        except BaseException as error:
            self.error = error

    def done(self) -> bool:
        return not self._thread.is_alive()

    def wait_a_moment(self) -> bool:
        """Whether it is done, or will be as soon as what is in the socket has been read."""
        self._thread.join(0.05)
        return self.done()

    def wait(self) -> None:
        until(self.done)
        self._thread.join()


def half_way(session: ProcessSession, direction: str) -> tuple[int, Outcome]:
    """(the worker, which stands still, what sends or takes a message that is half through)."""
    pid, workspace = pid_of(session, "a"), session.workspace("a")
    value = [bytes(LARGE)]

    def make(inputs: Any, outputs: Any) -> None:
        outputs[0].feed([bytes(LARGE)])

    run_on(session, "a", python_net(make, outputs=["long"]))
    for _ in range(20):
        # Who reads does so piece by piece.
        reader = os.getpid() if direction == "up" else pid
        before = bytes_moved(reader)[0]
        if direction == "up":
            outcome = Outcome(lambda: workspace.fetch_blob("long"))
        else:
            outcome = Outcome(lambda: workspace.feed_blob("long", value))
        until(lambda: outcome.done() or bytes_moved(reader)[0] - before > HALF)  # noqa: B023
        stop(pid)
        if not outcome.wait_a_moment():
            return pid, outcome
        # The machine was faster than we were.
        send(pid, signal.SIGCONT)
    raise AssertionError("no message was caught half-way")


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("number", ["SIGKILL", "SIGSEGV"])
def test_a_death_half_way(session, direction, number):
    witness = Witness(session, "a", "b")
    pid, outcome = half_way(session, direction)
    # As long as it stands still nobody says that it is dead; the others go on.
    witness.check_node("b")
    assert not outcome.done()
    send(pid, number)
    send(pid, "SIGCONT")
    outcome.wait()
    error = outcome.error
    assert isinstance(error, NodeDiedError), error
    assert (error.node, error.pid, error.signal) == ("a", pid, number)
    assert gone([pid])
    witness.check_views()
    witness.check_node("b")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_stopped_half_way_and_going_on(session, direction):
    witness = Witness(session, "a", "b")
    pid, outcome = half_way(session, direction)
    witness.check_node("b")
    assert not outcome.done()
    send(pid, "SIGCONT")
    outcome.wait()
    assert outcome.error is None
    if direction == "up":
        assert outcome.value == [bytes(LARGE)]
    witness.check_views()
    for node in "ab":
        witness.check_node(node)


def test_a_program_half_way(session):
    """The first run ships the program, which is large; its other node is called off."""
    witness = Witness(session, "a", "b")
    pid, ballast = pid_of(session, "a"), bytes(LARGE)

    def carry(inputs: Any, outputs: Any) -> None:
        len(ballast)

    stop(pid)
    before = bytes_moved(pid)[0]
    outcome = Outcome(lambda: session.run(beside_endless("a", python_net(carry), "b")))
    send(pid, signal.SIGCONT)
    until(lambda: bytes_moved(pid)[0] - before > HALF)
    send(pid, "SIGKILL")
    outcome.wait()
    assert isinstance(outcome.error, NodeDiedError), outcome.error
    assert outcome.error.signal == "SIGKILL"
    witness.check_views()
    witness.check_node("b")


# Nonsense.


def own_channel() -> Any:
    """In a worker: its end of the channel."""
    import gc

    from procession.cluster.channel import Channel

    (channel,) = (thing for thing in gc.get_objects() if type(thing) is Channel)
    return channel


def fill_the_slot(channel: Any, data: bytes, length: int) -> None:
    """Put bytes there and say that they are a message."""
    channel._out_slot[: len(data)] = data
    number = (channel._words[channel._out] >> 16) + 1
    channel._words[channel._out] = number << 16 | length
    os.write(channel.file(), b"\0")


def letter(channel: Any, data: bytes) -> None:
    """Say that a letter comes, and send that."""
    number = (channel._words[channel._out] >> 16) + 1
    channel._words[channel._out] = number << 16 | 0xFFFF
    os.write(channel.file(), b"\0" + data)


def saying(data: bytes) -> Callable[[Any, Any], None]:
    """An operator that puts bytes into the slot, and says nothing else."""

    def talk(inputs: Any, outputs: Any) -> None:
        fill_the_slot(own_channel(), data, len(data))
        signal.pause()

    return talk


def most_memory() -> int:
    """The most bytes that this process has had in memory so far."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) << 10


NONSENSE: dict[str, Callable[[Any], None]] = {
    "no bytes": lambda channel: fill_the_slot(channel, b"", 0),
    "no marshal": lambda channel: fill_the_slot(channel, b"\xff\xfe\xfd", 3),
    "half a tuple": lambda channel: fill_the_slot(channel, b"(\x05\0\0\0N", 6),
    "no tuple": lambda channel: fill_the_slot(channel, b"N", 1),
    "an empty tuple": lambda channel: fill_the_slot(channel, b"(\0\0\0\0", 5),
    "an impossible length": lambda channel: fill_the_slot(channel, b"N", 0xFFF0),
    "a letter of 2**60 bytes": lambda channel: letter(
        channel, b"\1" + (1 << 60).to_bytes(8, "little")
    ),
    "a letter of 2**64 - 1 bytes": lambda channel: letter(channel, b"\1" + b"\xff" * 8),
    "a letter of nonsense": lambda channel: letter(
        channel, b"\1" + (5000).to_bytes(8, "little") + b"\xfe" * 5000
    ),
    "a letter that is no tuple": lambda channel: letter(
        channel, b"\1" + (1).to_bytes(8, "little") + b"N"
    ),
}
"""What a worker does to its channel in the midst of a run."""


def check_declared_dead(session: ProcessSession, pid: int, error: BaseException) -> None:
    assert type(error) is NodeDiedError, error
    assert (error.node, error.pid) == ("a", pid)
    assert "no message" in str(error)
    assert gone([pid])
    with pytest.raises(NodeDiedError):
        session.workspace("a").fetch_blob("kept small")


class TestNonsense:
    @pytest.mark.parametrize("what", NONSENSE)
    def test_on_the_board_and_the_socket(self, session, what):
        write = NONSENSE[what]

        def talk(inputs: Any, outputs: Any) -> None:
            write(own_channel())
            signal.pause()  # so that nothing else is said

        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        with pytest.raises(NodeDiedError) as caught:
            session.run(beside_endless("a", python_net(talk), "b"))
        check_declared_dead(session, pid, caught.value)
        assert caught.value.operator == "Python"
        witness.check_views()
        witness.check_node("b")

    def test_random_bytes(self, chance):
        """Whatever they are, they are no message, or a wrong one."""
        for _ in range(20):
            # Without what announces a list of up to 2**31 parts: see "a tuple without end".
            known = chance.randbytes(chance.randrange(1, 4096)).translate(None, b"([\xa8\xdb")
            begin = chance.choice([b"", b")\4", b")\2)\0", b")\3i"])
            said = begin + known

            with ProcessSession(["a", "b"]) as session:
                witness = Witness(session, "a", "b")
                pid = pid_of(session, "a")
                with pytest.raises(NodeDiedError) as caught:
                    run_on(session, "a", python_net(saying(said)))
                check_declared_dead(session, pid, caught.value)
                witness.check_views()
                witness.check_node("b")

    def test_a_tuple_without_end(self, session):
        """Nobody makes room for the parts of it, of which there are none."""
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        before = most_memory()
        with pytest.raises(NodeDiedError) as caught:
            run_on(session, "a", python_net(saying(b"(" + (1 << 27).to_bytes(4, "little"))))
        check_declared_dead(session, pid, caught.value)
        assert most_memory() - before < 200 * MIB
        witness.check_views()
        witness.check_node("b")

    def test_while_nothing_was_asked(self, session, tmp_path):
        def leave_a_thread(heard: str) -> Callable[[Any, Any], None]:
            def leave(inputs: Any, outputs: Any) -> None:
                import threading

                channel = own_channel()

                def later() -> None:
                    # Not before the run's own answer has been read, which lies in the same place.
                    while not os.path.exists(heard):
                        pass
                    fill_the_slot(channel, b"\xff", 1)

                threading.Thread(target=later, daemon=True).start()

            return leave

        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        numbers = itertools.count()

        def ask() -> bool:
            # The answer to what is asked meanwhile may be written over it: then once more.
            heard = tmp_path / f"heard{next(numbers)}"
            try:
                run_on(session, "a", python_net(leave_a_thread(str(heard))))
                heard.touch()
                session.workspace("a").fetch_blob("kept large")
            except NodeDiedError as error:
                check_declared_dead(session, pid, error)
                return True
            return False

        until(ask)
        witness.check_views()
        witness.check_node("b")


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def send_instead(session: ProcessSession, node: str, change: Callable[[list[Any]], Any]) -> None:
    """From the next answer on, have the worker send what `change` makes of each.

    Args:
        change: Is given the kind of the message, and its fields by name; returns the name of a kind
            and the fields that are to be sent, or None to let it pass.
    """

    def work(inputs: Any, outputs: Any) -> None:
        from procession.cluster import protocol, worker

        real = worker.packed

        def packed(message: Any, *rest: Any) -> Any:
            changed = change(message)
            return real(message if changed is None else changed, *rest)

        worker.packed = packed
        assert protocol.Value

    run_on(session, node, python_net(work))


def kinds() -> Any:
    from procession.cluster import protocol

    return protocol


# Each is given an answer, and returns another; what is not meant passes.


def a_value_for_a_run(answer: Any) -> Any:
    return kinds().Value((b"", (0,), "<f8")) if type(answer).__name__ == "Ran" else None


def a_run_for_a_fetch(answer: Any) -> Any:
    if type(answer).__name__ == "Value":
        return kinds().Ran(1, (), None, False, True, (), (), ())
    return None


def done_for_a_fetch(answer: Any) -> Any:
    return kinds().Done() if type(answer).__name__ == "Value" else None


def ready_again(answer: Any) -> Any:
    return kinds().Ready(1)


def a_question(answer: Any) -> Any:
    return kinds().Fetch("kept large")


def value(*fields: Any) -> Callable[[Any], Any]:
    """Another value for every one that is fetched."""

    def change(answer: Any) -> Any:
        return kinds().Value(tuple(fields)) if type(answer).__name__ == "Value" else None

    return change


def located(**changes: Any) -> Callable[[Any], Any]:
    """A value that lies elsewhere than it should, for every one that is fetched."""

    def change(answer: Any) -> Any:
        if type(answer).__name__ != "Value" or len(answer.value) != 5:
            return None
        return kinds().Value(tuple(kinds().Located(*answer.value)._replace(**changes)))

    return change


def done(*fields: Any) -> Callable[[Any], Any]:
    """Odd news with whatever was done."""

    def change(answer: Any) -> Any:
        return kinds().Done(*fields) if type(answer).__name__ == "Done" else None

    return change


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a value for a run": (a_value_for_a_run, "run"),
    "a run's end for a fetch": (a_run_for_a_fetch, "fetch"),
    "done for a fetch": (done_for_a_fetch, "fetch"),
    "ready again": (ready_again, "fetch"),
    "a question": (a_question, "fetch"),
    "a value of one field too many": (value(b"", (0,), "<f8", 1), "fetch"),
    "a value that is text": (value("text"), "fetch"),
    "bytes too few for the shape": (value(b"1234", (100,), "<f8"), "fetch"),
    "bytes of no dtype": (value(b"12345678", (1,), "nonsense"), "fetch"),
    "bytes that are objects": (value(b"12345678", (1,), "|O"), "fetch"),
    "a negative shape": (value(b"12345678", (-1,), "<f8"), "fetch"),
    "another's segment": (located(segment="procession-1-nowhere"), "fetch"),
    "a file for a segment": (located(segment="../etc/passwd"), "fetch"),
    "no segment's name": (located(segment=7), "fetch"),
    "an offset out of range": (located(offset=1 << 40), "fetch"),
    "a negative offset": (located(offset=-8), "fetch"),
    "a shape out of range": (located(shape=(1 << 40,)), "fetch"),
    "a shape that overflows": (located(shape=(1 << 62, 1 << 62)), "fetch"),
    "objects in shared memory": (located(dtype="|O"), "fetch"),
    "news of the wrong type": (done(7, 7, 7), "feed"),
    "blobs without names": (done((1, 2), (), ()), "feed"),
    "segments that it never had": (done((), (), ("procession-1-nowhere",)), "feed"),
}
"""What is sent instead of the right answer, and what was asked for."""


class TestWrongMessages:
    @pytest.mark.parametrize("what", WRONG)
    def test_are_no_answers(self, session, what):
        change, asked = WRONG[what]
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")
        ask: dict[str, Callable[[], Any]] = {
            "run": lambda: session.run(beside_endless("a", adding("kept small", 10), "b")),
            "fetch": lambda: session.workspace("a").fetch_blob("kept large"),
            "feed": lambda: session.workspace("a").feed_blob("x", 1),
        }
        run_on(session, "a", adding("kept small", 10))
        with pytest.raises(NodeDiedError) as caught:  # noqa: PT012
            # Its own answer may already be the wrong one.
            send_instead(session, "a", change)
            ask[asked]()
        check_declared_dead(session, pid, caught.value)
        witness.check_views()
        witness.check_node("b")

    @pytest.mark.parametrize("where", ["an output", "a blob"])
    def test_nothing_of_it_is_unpickled(self, session, tmp_path, where):
        """A pickle in the place of a tensor's bytes, of a name, of a whole message."""
        import pickle

        left = tmp_path / "left"
        bomb = pickle.dumps(Bomb(left))
        assert pickle.loads(pickle.dumps(Bomb(tmp_path / "works"))) is None
        assert (tmp_path / "works").exists()
        witness = Witness(session, "a", "b")
        pid = pid_of(session, "a")

        def change(answer: Any) -> Any:
            kind = type(answer).__name__
            if kind == "Value":
                return kinds().Value((bomb, (len(bomb) + 8,), "|u1"))
            return None

        def talk(inputs: Any, outputs: Any) -> None:
            fill_the_slot(own_channel(), bomb, len(bomb))
            signal.pause()

        with pytest.raises(NodeDiedError) as caught:  # noqa: PT012
            if where == "a blob":
                send_instead(session, "a", change)
                session.workspace("a").fetch_blob("kept small")
            else:
                run_on(session, "a", python_net(talk))
        check_declared_dead(session, pid, caught.value)
        assert not left.exists()
        witness.check_views()
        witness.check_node("b")
