"""The board: a few pages of memory that a coordinator shares with one worker.

It has words of 8 bytes, each with one writer, and two slots for messages:

    word CANCEL            coordinator   the number of the run to be called off
    word DOWN              coordinator   the head of its latest message (see `channel`)
    word ABOVE_SLEEPS      coordinator   whether it may be asleep
    word PATIENCE          coordinator   nanoseconds that the worker may spin before it sleeps
    word RUN               worker        the number of the run it is in, or was in last
    word UP                worker        the head of its latest message
    word BELOW_SLEEPS      worker        whether it may be asleep
    word FIRST_TASK + t    worker        the operation that task t is in, 0 for none
    slot DOWN, slot UP                   the bytes of these messages, when they are few

The two writers' words lie in different cache lines. A word is written in one store, so a death
leaves the old one or the new one.

The order of stores
-------------------

x86 shows all stores of a core to the others in program order; ARM and others need not. Two things
depend on it. A reader that sees the head of a message must see its bytes, and all that was
written to shared memory before. And of a sender that writes a head and then looks whether the
other side sleeps, and a receiver that notes down that it will sleep and then looks for a head, at
least one must see what the other wrote, or the receiver sleeps through a message. The second is
not so even on x86, which lets a load overtake an earlier store.

Python has no fence: `procession.blobs.fence` makes one.
"""

from __future__ import annotations

from typing import Any

CANCEL = 0
DOWN = 1
ABOVE_SLEEPS = 2
PATIENCE = 3
RUN = 8
UP = 9
BELOW_SLEEPS = 10
FIRST_TASK = 16
SLOT_SIZE = 4096
WORDS_SIZE = 4096
BOARD_SIZE = WORDS_SIZE + 2 * SLOT_SIZE
TASKS = WORDS_SIZE // 8 - FIRST_TASK


def task_word(task: int) -> int:
    """The word of a task. Beyond the board's end tasks share words: better than none."""
    return FIRST_TASK + task % TASKS


class Board:
    """One side's view of the memory.

    Args:
        memory: `BOARD_SIZE` bytes.
    """

    __slots__ = ("down", "up", "words")

    def __init__(self, memory: Any) -> None:
        whole = memoryview(memory)
        self.words = whole.cast("Q")
        self.down = whole[WORDS_SIZE : WORDS_SIZE + SLOT_SIZE]
        self.up = whole[WORDS_SIZE + SLOT_SIZE : BOARD_SIZE]

    def release(self) -> None:
        """Let go of the memory. Whoever uses the board after that gets a ValueError."""
        for view in (self.words, self.down, self.up):
            view.release()
