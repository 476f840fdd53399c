"""Mail: a tensor that one member of a common world sends to another.

It goes through two areas of the sender's, in parts. The sender counts the parts that it has put out
(MAIL_PUT), and the receiver those that it has taken (TAKEN): see `procession.blobs.exchange`. A
sender waits until all is taken, so each has one message under way.
"""

from __future__ import annotations

import marshal
from typing import Any

import numpy as np

from procession.blobs.exchange import (
    MAIL_FOR,
    MAIL_HALVES,
    MAIL_PUT,
    MAIL_TAG,
    MAIL_TEXT,
    PART,
    TAKEN,
    TEXT_ROOM,
    word,
)
from procession.operators.arrays import Array
from procession.operators.member import Check, Member
from procession.operators.plans import look_of


class Mailing(Member):
    """A member that sends and receives."""

    def send(self, x: Array, to: int, tag: int, check: Check) -> None:
        """Send an array, and wait until it has been taken.

        Raises:
            TypeError: Its elements have too many fields.
        """
        words, own = self._words, self._own
        look = marshal.dumps((np.lib.format.dtype_to_descr(x.dtype), x.shape))
        if len(look) > TEXT_ROOM:
            raise TypeError(f"elements of type {x.dtype} are not sent: there are too many fields")
        data = _bytes(x)
        what = f"sends {look_of(x)} to rank {to}, tag {tag}"
        with self._alone():
            self._lane.put_text(self.rank, MAIL_TEXT, look)
            words[own[MAIL_TAG]] = tag
            words[own[MAIL_FOR]] = to
            halves = self._lane.mail[self.rank]
            put, taken = words[own[MAIL_PUT]], own[TAKEN]
            for start in range(0, len(data) or 1, PART):
                self._until(
                    lambda put=put: put - words[taken] < MAIL_HALVES,  # type: ignore[misc]
                    (to,),
                    what,
                    check,
                )
                piece = data[start : start + PART]
                halves[put % MAIL_HALVES][: len(piece)] = piece
                if self._fence is not None:
                    self._fence()
                put += 1
                words[own[MAIL_PUT]] = put
                self._ring()
            self._until(lambda: words[taken] == put, (to,), what, check)

    def receive(self, source: int, tag: int, check: Check) -> tuple[Array, int, int]:
        """Take an array that is sent to this rank.

        Args:
            source: By whom; -1: by anybody.
            tag: Under which tag; -1: any.
            check: Raises if the run was called off.

        Returns:
            The array, who sent it, and the tag.
        """
        words = self._words
        senders = tuple(o for o, _ in self._others) if source < 0 else (source,)
        found: list[int] = []

        def there() -> bool:
            for other in senders:
                if (
                    words[word(other, MAIL_PUT)] != words[word(other, TAKEN)]
                    and words[word(other, MAIL_FOR)] == self.rank
                    and tag in (-1, words[word(other, MAIL_TAG)])
                ):
                    found.append(other)
                    return True
            return False

        who = "anybody" if source < 0 else f"rank {source}"
        what = f"wants a tensor from {who}, tag {'any' if tag < 0 else tag}"
        with self._alone():
            self._until(there, senders, what, check)
            sender = found[0]
            kind, shape = marshal.loads(self._lane.text(sender, MAIL_TEXT))
            its_tag = words[word(sender, MAIL_TAG)]
            array: Array = np.empty(shape, np.lib.format.descr_to_dtype(kind))
            data = _bytes(array)
            put, taken = word(sender, MAIL_PUT), word(sender, TAKEN)
            for start in range(0, len(data) or 1, PART):
                self._until(lambda: words[put] != words[taken], (sender,), what, check)
                piece = data[start : start + PART]
                half = self._lane.mail[sender][words[taken] % MAIL_HALVES]
                piece[:] = half[: len(piece)]
                if self._fence is not None:
                    self._fence()
                words[taken] += 1
                self._ring()
        return array, sender, its_tag


def _bytes(array: Array) -> Any:
    """The memory of a C-contiguous array."""
    if not array.size:
        return memoryview(bytearray())
    return array.reshape(-1).view(np.uint8).data
