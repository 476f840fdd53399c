"""World: what the members of a common world do together, and how a result comes about.

The members meet in a block of memory. Who may write what there, and what becomes of the others
when one dies in the middle, is told in `procession.blobs.exchange`; how they wait for each other,
in `procession.operators.member`.

Every element of a reduction is computed from the members' values in the order of their ranks, so
all of them get the same bytes, every time. Where it is computed depends on the size: what is small,
or has two members, each computes for itself, out of all areas; else each computes a share, in the
first member's area, from where all copy it.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Sequence
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
    TURNS,
    word,
)
from procession.operators.arrays import Array
from procession.operators.member import Check, Clock, Member, Venue
from procession.operators.plans import Plan, Span, flat, fold, look_of, putter

Put = Callable[[Array, Sequence[Span]], None]
Take = Callable[[Sequence[Array], Sequence[Span]], None]

SMALL = 1 << 14
"""Bytes up to which each computes all for itself, however many there are."""


class World(Member):
    """A member's handle on a common world; see `Member`."""

    def __init__(
        self, place: Venue, rank: int, timeout: float, clock: Clock, lane: int = 0
    ) -> None:
        super().__init__(place, rank, timeout, clock, lane)
        self._turn = 0
        """Which of the areas is used next."""
        self._views: dict[Any, Sequence[Sequence[Array]]] = {}
        self._at_once = PART if self.size <= 2 else SMALL
        """Bytes up to which a tensor goes through by a shorter way."""

    # What the members do together.

    def barrier(self, check: Check) -> None:
        """Wait until all have come here."""

        def body(plan: Plan) -> None:
            self._arrive()
            self._wait(self._arrived, check)
            self._compare(plan)

        self._do("Barrier", (), "", body)

    def allreduce(self, xs: Sequence[Array], outs: Sequence[Array], op: str, check: Check) -> None:
        """Reduce the members' arrays elementwise; all get the result.

        Args:
            xs: C-contiguous, of one dtype; all together are one bucket.
            outs: Arrays of the same shapes, which may be `xs` themselves.
            op: Of `UFUNCS`.
            check: Raises if the run was called off.
        """

        def body(plan: Plan) -> None:
            self._reduce(plan, xs, outs, op, check)

        self._do("Allreduce", xs, op, body)

    def reduce(
        self, xs: Sequence[Array], outs: Sequence[Array], op: str, root: int, check: Check
    ) -> None:
        """As `allreduce`, but the root alone gets the result; the others' `outs` are empty."""

        def body(plan: Plan) -> None:
            self._reduce(plan, xs, outs, op, check)

        self._do("Reduce", xs, f"{op}, root {root}", body)

    def _reduce(
        self, plan: Plan, xs: Sequence[Array], outs: Sequence[Array], op: str, check: Check
    ) -> None:
        if plan.whole is None and len(xs) == 1 and xs[0].nbytes <= self._at_once:
            plan.whole = self._shaped(xs[0])
        if plan.whole is not None:
            turn = self._turn
            self._turn = turn + 1 if turn + 1 < TURNS else 0
            areas = plan.whole[turn]
            np.copyto(areas[self.rank], xs[0])
            self._arrive()
            self._wait(self._arrived, check)
            self._compare(plan)
            if outs:
                fold(areas, outs[0], op)
            return
        ins, results = flat(xs), flat(outs)
        put = putter(ins)
        if self.size > 2 and sum([x.nbytes for x in ins]) > SMALL:
            self._in_shares(plan, ins[0].dtype, put, results, op, check)
            return
        rank = self.rank

        def take(areas: Sequence[Array], part: Sequence[Span]) -> None:
            for array, start, stop, at in part:
                end = at + stop - start
                values = [area[at:end] for area in areas]
                if rank < 2:
                    # It is in this core's cache, and is read before anything is written over it.
                    values[rank] = ins[array][start:stop]
                fold(values, results[array][start:stop], op)

        self._through(plan, ins[0].dtype, put, take if results else _nothing, check)

    def broadcast(
        self, xs: Sequence[Array], outs: Sequence[Array], root: int, check: Check
    ) -> None:
        """All get the root's arrays. The others' have to be like them; see `allreduce`."""
        ins, results = flat(xs), flat(outs)

        def take(areas: Sequence[Array], part: Sequence[Span]) -> None:
            for array, start, stop, at in part:
                results[array][start:stop] = areas[root][at : at + stop - start]

        def body(plan: Plan) -> None:
            if self.rank != root:
                self._through(plan, ins[0].dtype, _nothing, take, check)
                return
            self._through(plan, ins[0].dtype, putter(ins), _nothing, check)
            for x, out in zip(ins, results, strict=True):
                if out is not x:
                    np.copyto(out, x)

        self._do("Broadcast", xs, f"root {root}", body)

    def allgather(self, xs: Sequence[Array], out: Array, check: Check) -> None:
        """All get all members' arrays, flat, one behind the other: those of rank 0 first.

        Args:
            xs: C-contiguous, of one dtype.
            out: `size` times as many elements.
            check: Raises if the run was called off.
        """
        ins, result = flat(xs), out.reshape(-1)
        offsets = [0]
        for x in ins:
            offsets.append(offsets[-1] + x.size)

        def take(areas: Sequence[Array], part: Sequence[Span]) -> None:
            for rank, area in enumerate(areas):
                for array, start, stop, at in part:
                    first = rank * offsets[-1] + offsets[array] + start
                    result[first : first + stop - start] = area[at : at + stop - start]

        def body(plan: Plan) -> None:
            self._through(plan, ins[0].dtype, putter(ins), take, check)

        self._do("Allgather", xs, "", body)

    def reduce_scatter(
        self, xs: Sequence[Array], outs: Sequence[Array], op: str, check: Check
    ) -> None:
        """Reduce the members' arrays, cut into as many equal parts as there are members.

        Args:
            xs: C-contiguous, of one dtype, each with a number of elements that `size` divides.
            outs: For each a part: that of this rank.
            op: Of `UFUNCS`.
            check: Raises if the run was called off.
        """
        ins, results = [x.reshape(self.size, -1) for x in xs], flat(outs)
        room = PART // self.size // xs[0].itemsize
        own = self.rank * room

        def put(area: Array, part: Sequence[Span]) -> None:
            for array, start, stop, at in part:
                for share, row in enumerate(ins[array]):
                    first = share * room + at
                    area[first : first + stop - start] = row[start:stop]

        def take(areas: Sequence[Array], part: Sequence[Span]) -> None:
            for array, start, stop, at in part:
                span = slice(own + at, own + at + stop - start)
                fold([area[span] for area in areas], results[array][start:stop], op)

        def body(plan: Plan) -> None:
            self._through(plan, xs[0].dtype, put, take, check)

        self._do("ReduceScatter", xs, op, body, self.size)

    # Data through the areas.

    def _through(
        self, plan: Plan, dtype: np.dtype[Any], put: Put, take: Take, check: Check
    ) -> None:
        """Have all parts go through the areas: what all put in, each can take."""
        typed = self._typed(dtype)
        turn, rank, parts = self._turn, self.rank, plan.parts
        put(typed[turn][rank], parts[0])
        self._arrive()
        target, last = self._arrived, len(parts) - 1
        for index, part in enumerate(parts):
            self._wait(target, check)
            if not index:
                self._compare(plan)
            following = turn + 1 if turn + 1 < TURNS else 0
            if index < last:
                # Before the others' are read, so that nobody has to wait for it.
                put(typed[following][rank], parts[index + 1])
                self._arrive()
            take(typed[turn], part)
            turn, target = following, target + 1
        self._turn = turn

    def _in_shares(
        self,
        plan: Plan,
        dtype: np.dtype[Any],
        put: Put,
        outs: Sequence[Array],
        op: str,
        check: Check,
    ) -> None:
        """Reduce part by part, each member a share of it, in the first one's area."""
        typed, rank, size = self._typed(dtype), self.rank, self.size
        for index, part in enumerate(plan.parts):
            areas = typed[self._turn]
            put(areas[rank], part)
            self._arrive()
            self._wait(self._arrived, check)
            if not index:
                self._compare(plan)
            count = sum([stop - start for _, start, stop, _ in part])
            share = slice(rank * count // size, (rank + 1) * count // size)
            fold([area[share] for area in areas], areas[0][share], op)
            self._arrive()
            self._wait(self._arrived, check)
            if outs:
                for array, start, stop, at in part:
                    outs[array][start:stop] = areas[0][at : at + stop - start]
            self._turn = (self._turn + 1) % TURNS

    def _shaped(self, x: Array) -> Sequence[Sequence[Array]]:
        """The beginnings of the areas as arrays like this one, which has room there."""
        return [
            [area[: x.size].reshape(x.shape) for area in areas] for areas in self._typed(x.dtype)
        ]

    def _typed(self, dtype: np.dtype[Any]) -> Sequence[Sequence[Array]]:
        """The areas as arrays of a dtype."""
        views = self._views.get(dtype)
        if views is None:
            room = PART // dtype.itemsize
            views = self._views[dtype] = [
                [np.frombuffer(area, dtype, room) for area in areas] for areas in self._lane.areas
            ]
        return views

    # Messages from one to another.

    def send(self, x: Array, to: int, tag: int, check: Check) -> None:
        """Send an array, and wait until it has been taken."""
        words, own = self._words, self._own
        data = x.reshape(-1).view(np.uint8) if x.size else np.empty(0, np.uint8)
        what = f"sends {look_of(x)} to rank {to}, tag {tag}"
        with self._alone():
            self._lane.put_text(self.rank, MAIL_TEXT, marshal.dumps((x.dtype.str, x.shape)))
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
                halves[put % MAIL_HALVES][: len(piece)] = piece.data
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
            dtype, shape = marshal.loads(self._lane.text(sender, MAIL_TEXT))
            its_tag = words[word(sender, MAIL_TAG)]
            array = np.empty(shape, dtype)
            data = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
            put, taken = word(sender, MAIL_PUT), word(sender, TAKEN)
            for start in range(0, len(data) or 1, PART):
                self._until(lambda: words[put] != words[taken], (sender,), what, check)
                piece = data[start : start + PART]
                half = self._lane.mail[sender][words[taken] % MAIL_HALVES]
                piece.data[:] = half[: len(piece)]
                if self._fence is not None:
                    self._fence()
                words[taken] += 1
                self._ring()
        return array, sender, its_tag


def _nothing(area: Any, part: Sequence[Span]) -> None:
    """Neither put nor take."""
