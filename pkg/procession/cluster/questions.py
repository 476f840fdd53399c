"""Questions: what a node can be asked about its blobs, and to call a function.

Each method is one question, or a few, to which the worker answers at once, but for `call`. They are
for whoever has the node's turn, as everything that asks is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from procession.blobs import snapshot
from procession.blobs.blob import as_value, is_tensor
from procession.blobs.shared import MINIMUM
from procession.blobs.unfinished import Unfinished
from procession.cluster import calls, protocol
from procession.cluster.channel import GarbledMessage
from procession.cluster.datatypes import pack_dtype, unpack_dtype
from procession.cluster.memory import LARGE_LEASE, NodeMemory
from procession.cluster.protocol import (
    Adopt,
    Call,
    Commit,
    Done,
    Feed,
    Fetch,
    Inline,
    Lend,
    Lent,
    Located,
    Pickled,
    Place,
    Remove,
    Reserve,
    Reserved,
    Returned,
    Value,
)
from procession.cluster.serial import Report, dumps, loads

Answer = TypeVar("Answer")
Ask = Callable[[Any, type[Any]], Any]
"""(question, the kind of answer) -> the answer."""


class Questions:
    """The blobs of one node.

    Args:
        node: Its name.
        memory: Its memory.
        ask: How to ask it.
        garbled: Called when an answer makes no sense; raises the error.
        sent: The number of the last message that was sent to it.
        abandon: Called when writing into a blob's memory was interrupted, with its name; perhaps
            not before the worker's next answer.
    """

    def __init__(
        self,
        node: str,
        memory: NodeMemory,
        ask: Ask,
        garbled: Callable[[], BaseException],
        sent: Callable[[], int],
        abandon: Callable[[str], object],
    ) -> None:
        self._node = node
        self._memory = memory
        self._ask = ask
        self._garbled = garbled
        self._sent = sent
        self._abandon = abandon
        self._in_place: bool | None = None
        """Whether a feed writes over the blob's value, as far as the worker has said so."""
        self._given_up: str | None = None
        """The blob of a feed that was interrupted before it was said to be whole."""

    def fetch(self, name: str) -> Any:
        """A blob's value."""
        answer = self._ask(Fetch(name), Value)
        try:
            return self.value(answer.value, name)
        except KeyboardInterrupt:
            # Of the view that there may have been nobody knows.
            self.drop([answer.value])
            raise

    def value(self, value: tuple[Any, ...], name: str) -> Any:
        """What a worker handed back, of the blob of that name."""
        try:
            payload = protocol.payload(value)
            if not isinstance(payload, Pickled):
                dtype, shape = unpack_dtype(payload.dtype), payload.shape
                if dtype.hasobject or (shape and min(shape) < 0):
                    raise GarbledMessage
                if isinstance(payload, Inline):
                    return snapshot.of_bytes(payload.data, shape, dtype)
                if payload.offset < 0:
                    raise GarbledMessage
                return self._memory.view(payload, dtype)
            if type(payload.data) is not bytes:
                raise GarbledMessage
        except (GarbledMessage, *protocol.NONSENSE):
            raise self._garbled() from None
        what = f"blob {name!r} of node {self._node!r}"
        found = loads(payload.data, what)
        return snapshot.of_copy(found) if isinstance(found, np.ndarray) else found

    def drop(self, values: Sequence[tuple[Any, ...]]) -> None:
        """Let go of values that were handed back and nobody has looked at."""
        for value in values:
            payload = protocol.payload(value)
            if isinstance(payload, Located):
                self._memory.end(payload.lease)

    def feed(self, name: str, value: Any) -> None:
        """Give a blob a value: a large tensor's bytes are written into the worker's own memory."""
        value = as_value(value, name)
        if is_tensor(value) and value.nbytes >= MINIMUM:
            self._in_place = self._given_up = None
            number = -1
            try:
                answer = self._ask(Reserve(name, value.shape, pack_dtype(value.dtype)), Reserved)
                target = self._there(answer.segment, answer.offset, value.shape, value.dtype)
                number = self._sent()
                np.copyto(target, value)
                self._ask(Commit(), Done)
            except BaseException:
                if number in (-1, self._sent()):
                    self._give_up(name)
                raise
        elif is_tensor(value):
            inline = Inline(value.tobytes(), value.shape, pack_dtype(value.dtype))
            self._ask(Feed(name, tuple(inline)), Done)
        else:
            what = f"the {type(value).__name__} fed to blob {name!r}"
            self._ask(Feed(name, tuple(Pickled(dumps(value, what)))), Done)

    def reserved(self, answer: Reserved) -> None:
        """Note what a worker has said, whether or not anybody still waits for it."""
        self._in_place = answer.in_place
        if self._given_up is not None:
            self._give_up(self._given_up)

    def _give_up(self, name: str) -> None:
        """Nobody will say that a blob is whole; the worker takes what was in place for torn."""
        self._given_up = name
        if self._in_place:
            self._abandon(name)

    def _there(self, segment: str, offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
        try:
            return self._memory.target(segment, offset, shape, dtype)
        except protocol.NONSENSE:
            raise self._garbled() from None

    def remove(self, name: str) -> None:
        """Remove a blob."""
        self._ask(Remove(name), Done)
        self._memory.tidy_soon()

    def lend(self, sizes: Sequence[int]) -> list[Place]:
        """Buffers of so many bytes that no blob owns, leased to us."""
        answer = self._ask(Lend(tuple(sizes)), Lent)
        return self._places(answer.places, sizes)

    def _places(self, places: Any, sizes: Sequence[int] | None = None) -> list[Place]:
        try:
            found = [Place._make(place) for place in places]
            for place in found:
                room = len(self._memory.whole(place.segment)) - place.nbytes
                if not (0 <= place.offset <= room and place.nbytes >= 0 and place.lease > 0):
                    raise ValueError
        except protocol.NONSENSE:
            raise self._garbled() from None
        if sizes is not None and [place.nbytes for place in found] != list(sizes):
            raise self._garbled()
        return found

    def draft(self, nbytes: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """An array of so many bytes to be filled. Its `buffer` is the lease to `adopt` it by."""
        (place,) = self.lend([nbytes])
        draft = self._memory.draft(place.segment, place.offset, shape, dtype, place.lease)
        draft.buffer = place.lease
        return draft

    def adopt(self, name: str, lease: int, shape: tuple[int, ...], dtype: Any) -> None:
        """Make a lent buffer the value of a blob."""
        self._ask(Adopt(name, lease, shape, pack_dtype(dtype)), Done)

    def call(self, run: int, name: str, function: bytes, arguments: calls.Packed, ask: Ask) -> Any:
        """Have the worker call a function; what it returns.

        Args:
            run: The number of this call among the runs.
            name: The function's, for messages.
            function: By cloudpickle.
            arguments: What it is called with.
            ask: How to ask for as long as it takes.

        Raises:
            BaseException: Whatever the function raises.
            NodeDiedError, SerializationError, OutOfSharedMemoryError: On the way there or back.
        """
        places = self.lend(arguments.sizes) if arguments.buffers else []
        try:
            for buffer, place in zip(arguments.buffers, places, strict=True):
                calls.write(buffer, self._memory.whole(place.segment), place.offset)
        except BaseException:
            for place in places:
                self._memory.end(place.lease)
            raise
        leases = tuple(place.lease for place in places)
        answer = ask(Call(run, function, arguments.data, leases), Returned)
        results = self._places(answer.places)
        if any(place.nbytes >= LARGE_LEASE for place in (*places, *results)):
            self._memory.tidy_soon()
        if answer.failure is not None:
            raise calls.raised(Report._make(answer.failure))
        windows = [self._window(place) for place in results]
        return calls.unpack(answer.data, windows, f"the result of {name}")

    def _window(self, place: Place) -> memoryview:
        """The bytes of a leased buffer that is ours alone."""
        self._memory.note(place.lease, place.segment, place.offset, place.nbytes)
        end = partial(self._memory.end, place.lease, place.nbytes)
        whole = self._memory.whole(place.segment)
        return calls.window(whole, place.offset, place.nbytes, end)
