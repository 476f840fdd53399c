"""The memory through which members of a common world work together, and who may write where.

A world has members, called by their *rank*, 0, 1, 2, ... It has a block of memory that all of them
map, and nobody else but the coordinator, who only looks at states. The block is made of one
*lane* or several, all alike: a world and each of its clones have one of their own. A lane has, for
each rank, a *line* of control words and texts, and then areas for data.

    word STATE      its rank        ABSENT, JOINED, and then LEFT, GIVEN_UP or CALLED_OFF for good
                    coordinator     DEAD, when the rank's process has ended: nobody else writes then
    word ARRIVED    its rank        how often it has come to a point at which all meet; only grows
    word CALLS      its rank        how many calls it has begun
    word RUN        its rank        the run in which it was last in here
    word ENDED      its rank        the last run whose program has ended well on its node
    word CALL + p   its rank        what the call is, as a number; p is that of the call, modulo 2
    text CALL + p   its rank        the same for people (see `procession.operators.plans`)
    word OFFER + p  its rank        in a call of large tensors: whether the others may read them
                                    where they lie (NOT, NEWLY or AGAIN)
    words of mail   its rank        whom a message is for, its tag, how many parts it has put out
    text MAIL       its rank        dtype and shape of the message
    text WHY        its rank        why it has given up
    word TAKEN      who receives    how many parts were taken; whom the message is for writes it
    areas           see below

A word is written in one store, so a death leaves the old one or the new one. What a rank has
written before it arrives may be read by all when they have seen it arrive (see
`procession.blobs.fence`).

Calls
-----

All members make the same calls, in the same order. A call begins with what it is (CALL), and with
the data that the rank puts into its area, and then the rank arrives. When all have arrived, each
compares what all say that the call is: if they do not say the same, each finds that out. Since
nobody can arrive at the next call before all have arrived at this one, and compares before that,
two words and two texts are enough, in turn.

Data go through the areas in parts. There are `TURNS` areas for each rank, used in turn. A rank
writes into area t + 3 only when it has seen all others arrive at t + 2, and they do so only when
they have read what was in t. Between two arrivals at one part, the rank r may also write
the r-th share of the first rank's area, which nobody else reads or writes until it arrives again.

Without copies
--------------

Large tensors need not go through the areas: members read each other's where they lie, and nobody
writes into the memory of another. The buffer of a blob that is exchanged in a world lies in a
segment of its node that holds nothing else, not at any time (see `procession.blobs.shared`). The
others map it to be read only. Where the members are threads of one process, they hand each other
the arrays.

Each rank makes an OFFER before it arrives. It is NOT in the first call that looks like this, which
may be the only one, and when a tensor of its own, or of its results, lies elsewhere: then all see
that, and the call goes through the areas. It is AGAIN when all lie where they lay in the call
before that looked alike, and everything was mapped then. If any rank's is NEWLY, all first put into
their areas where their tensors lie, and arrive; map what they do not have, put into their areas
whether that could be done, and arrive. If somebody could not, the call goes through the areas, and
so do all that look alike.

Then, with small tensors in the areas as ever:

 1. Rank r reduces the r-th share of everybody's inputs, in the order of ranks, into the same
    share of its *own* results, and arrives.
 2. When all have arrived it copies the others' shares from their results to its own.
 3. It looks at the others' STATE: they are JOINED. It arrives, and waits for the others. From
    then on its tensors may be changed.

What is large is done in rounds, of which 2 follows one round behind 1, so that what is copied is
in the cache still. The result may lie where the input does: share s of it is read by rank s only,
before that arrives behind 1, and written by the others afterwards. A call that reduces nothing, or
the result of which one member gets, is made of reading and 3.

But for 1 and 2, a rank does not change its tensors from its first arrival on until all have arrived
behind 3, unless it gives up. It gives up, in STATE, before anything of it is changed.
So who has read something, and *then* sees that all are JOINED, has read what is right: that is 3.
The coordinator writes DEAD before it has another process go on with the memory of a dead one.

What if the other side dies here
--------------------------------

Before it has arrived: the others wait, look at its state now and then, and see that it is DEAD, as
the coordinator wrote; or their run is called off first. After it has arrived: what it put there
is whole, and they go on to the next point at which it is missing. In the midst of its share: it
does not arrive a second time, so nobody takes what is half written. A message of which a part is
missing is not taken.

Whoever leaves a call without having ended it, by an error or because the run was called off, may
have left the others at another point than it is at itself. It gives up: nobody can use the world
any more, and all who wait for it, or try, are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ABSENT, JOINED, LEFT, GIVEN_UP, CALLED_OFF, DEAD = range(6)

NOT, NEWLY, AGAIN = range(3)

STATE = 0
ARRIVED = 1
CALLS = 2
RUN = 3
ENDED = 4
CALL = 5
OFFER = 8
MAIL_FOR = 16
MAIL_TAG = 17
MAIL_PUT = 18
TAKEN = 24

WORDS = 32
"""A line begins with so many words, of 8 bytes each."""
LINE = 4096
TEXT_SIZE = 960
"""Bytes of a text, of which the first two are its length."""
TEXT = (256, 1216)
"""Where the texts begin."""
MAIL_TEXT = 2176
WHY_TEXT = 3136
TEXT_ROOM = TEXT_SIZE - 2

TURNS = 3
"""How many areas a rank has, to be used in turn."""
MAIL_HALVES = 2
PART = 1 << 18
"""Bytes of an area: so many go through at a time."""
EXCHANGED = 1 << 16
"""Smaller tensors always go through the areas."""
_PAGE = 4096


class Use:
    """How a member uses its world."""

    __slots__ = ("full", "over")

    def __init__(self) -> None:
        self.over = False
        """Whether it does not any more."""
        self.full = False
        """Whether there was no memory to move a blob to where others may look."""


def lane_size(size: int) -> int:
    """Bytes of a lane for so many members."""
    control = -(-size * LINE // _PAGE) * _PAGE
    return control + size * (TURNS + MAIL_HALVES) * PART


def block_size(size: int, lanes: int) -> int:
    """Bytes of a world's memory."""
    return lane_size(size) * lanes


class Lane:
    """One lane: its words, its texts and its areas.

    Args:
        memory: The block.
        size: How many members there are.
        index: Which lane of the block it is.
    """

    __slots__ = ("areas", "bytes", "mail", "words")

    def __init__(self, memory: Any, size: int, index: int = 0) -> None:
        one = lane_size(size)
        whole = memoryview(memory)[index * one : (index + 1) * one]
        control = one - size * (TURNS + MAIL_HALVES) * PART
        self.bytes = whole[:control]
        self.words = self.bytes.cast("Q")
        # Areas of one turn lie side by side.
        self.areas: Sequence[Sequence[memoryview]] = [
            [_piece(whole, control, turn * size + rank) for rank in range(size)]
            for turn in range(TURNS)
        ]
        self.mail: Sequence[Sequence[memoryview]] = [
            [_piece(whole, control, (TURNS + half) * size + rank) for half in range(MAIL_HALVES)]
            for rank in range(size)
        ]

    def text(self, rank: int, at: int) -> bytes:
        """A text; what is there may be anything, if its writer is not done with it."""
        start = rank * LINE + at
        length = self.bytes[start] + (self.bytes[start + 1] << 8)
        return bytes(self.bytes[start + 2 : start + 2 + min(length, TEXT_ROOM)])

    def put_text(self, rank: int, at: int, text: bytes) -> None:
        """Write a text, as much of it as there is room for."""
        start, text = rank * LINE + at, text[:TEXT_ROOM]
        self.bytes[start : start + 2] = len(text).to_bytes(2, "little")
        self.bytes[start + 2 : start + 2 + len(text)] = text


def _piece(whole: memoryview, control: int, index: int) -> memoryview:
    start = control + index * PART
    return whole[start : start + PART]


def word(rank: int, which: int) -> int:
    """The index of a rank's word among all words of a lane."""
    return rank * (LINE // 8) + which


class Seats:
    """What the coordinator sees of a world's memory: who sits there still.

    Args:
        memory: The block.
        size: How many members there are.
        lanes: How many lanes.
    """

    def __init__(self, memory: Any, size: int, lanes: int) -> None:
        one = lane_size(size)
        whole = memoryview(memory)
        self._words = [
            whole[lane * one : lane * one + size * LINE].cast("Q") for lane in range(lanes)
        ]
        self.size = size

    def dead(self, rank: int) -> None:
        """The process of a rank has ended."""
        for words in self._words:
            words[word(rank, STATE)] = DEAD

    def ended_without(self, rank: int, run: int) -> None:
        """The program of a run has ended, and the rank has not joined."""
        if self._words[0][word(rank, STATE)] == ABSENT:
            self._words[0][word(rank, ENDED)] = run

    def never_came(self, rank: int) -> None:
        """A rank can not come any more, if it has not."""
        if self._words[0][word(rank, STATE)] == ABSENT:
            self.dead(rank)

    def deserted(self) -> bool:
        """Whether nobody can use the world any more."""
        return all(
            words[word(rank, STATE)] not in (ABSENT, JOINED)
            for words in self._words[:1]
            for rank in range(self.size)
        )
