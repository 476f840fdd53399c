"""World: what the members of a common world do together, and how a result comes about.

The members meet in a block of memory. Who may write what there, and what becomes of the others
when one dies in the middle, is told in `procession.blobs.exchange`; how they wait for each other,
in `procession.operators.member`.

Every element of a reduction is computed from the members' values in the order of their ranks, so
all of them get the same bytes, every time. Where it is computed depends on the size: what is small,
or has two members, each computes for itself, out of all areas; else each computes a share, in the
first member's area, from where all copy it. Large tensors are read where they lie, see
`procession.operators.direct`: there, too, each member computes a share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from procession.blobs.exchange import (
    AGAIN,
    EXCHANGED,
    NEWLY,
    NOT,
    OFFER,
    PART,
    TURNS,
    word,
)
from procession.operators import direct as ways
from procession.operators.arrays import Array
from procession.operators.direct import Direct, Lent, Places, Sight, Way
from procession.operators.mail import Mailing
from procession.operators.member import Check, Clock, Venue
from procession.operators.plans import Plan, Span, Whole, flat, fold, putter

Put = Callable[[Array, Sequence[Span]], None]
Take = Callable[[Sequence[Array], Sequence[Span]], None]
Find = Callable[[Direct, Sequence[Lent], int], Way]
"""(what is known, what all lend, whose way) -> the way."""

SMALL = 1 << 14
"""Bytes up to which each computes all for itself, however many there are."""


class World(Mailing):
    """A member's handle on a common world; see `procession.operators.member.Member`."""

    def __init__(
        self, place: Venue, rank: int, timeout: float, clock: Clock, lane: int = 0
    ) -> None:
        super().__init__(place, rank, timeout, clock, lane)
        self._turn = 0
        """Which of the areas is used next."""
        self._views: dict[Any, Sequence[Sequence[Array]]] = {}
        self._at_once = PART if self.size <= 2 else SMALL
        """Bytes up to which a tensor goes through by a shorter way."""
        self._maps = ways.Maps()
        self._offers = [[word(each, OFFER + p) for each in range(self.size)] for p in (0, 1)]
        self.direct = 0
        """How many calls were made without copying large tensors to the others."""

    def exchanges(self, xs: Sequence[Array]) -> bool:
        """Whether it matters where such tensors lie: others want to read them there."""
        return self._place.shelf is None and self.size > 1 and ways.are_large(xs, self.size)

    def _let_go(self) -> None:
        super()._let_go()
        self._maps.clear()
        if self._place.shelf is not None:
            self._place.shelf.pop((self._number, self.rank), None)

    # What the members do together.

    def barrier(self, check: Check) -> None:
        """Wait until all have come here."""

        def body(plan: Plan) -> None:
            self._arrive()
            self._wait(self._arrived, check)
            self._compare(plan)

        self._do("Barrier", (), "", body)

    def allreduce(
        self,
        xs: Sequence[Array],
        outs: Sequence[Array],
        op: str,
        check: Check,
        places: Places | None = None,
    ) -> None:
        """Reduce the members' arrays elementwise; all get the result.

        Args:
            xs: C-contiguous, of one dtype; all together are one bucket.
            outs: Arrays of the same shapes, which may be `xs` themselves.
            op: Of `UFUNCS`.
            check: Raises if the run was called off.
            places: Where the arrays lie; left out, where nobody else may look.
        """

        def body(plan: Plan) -> None:
            self._reduce(plan, xs, outs, op, check, places, ways.allreduce_way)

        self._do("Allreduce", xs, op, body)

    def reduce(
        self,
        xs: Sequence[Array],
        outs: Sequence[Array],
        op: str,
        root: int,
        check: Check,
        places: Places | None = None,
    ) -> None:
        """As `allreduce`, but the root alone gets the result; the others' `outs` are empty."""

        def body(plan: Plan) -> None:
            self._reduce(plan, xs, outs, op, check, places, ways.reduce_way)

        self._do("Reduce", xs, f"{op}, root {root}", body)

    def _reduce(
        self,
        plan: Plan,
        xs: Sequence[Array],
        outs: Sequence[Array],
        op: str,
        check: Check,
        places: Places | None,
        find: Find,
    ) -> None:
        if plan.whole is None and plan.nbytes <= self._at_once:
            plan.whole = [self._whole(xs, areas) for areas in self._typed(xs[0].dtype)]
        if plan.whole is not None:
            turn = self._turn
            self._turn = turn + 1 if turn + 1 < TURNS else 0
            own, tensors = plan.whole[turn]
            if len(xs) == 1:
                np.copyto(own, xs[0])
            else:
                np.concatenate(xs, axis=None, out=own)
            self._arrive()
            self._wait(self._arrived, check)
            self._compare(plan)
            if len(xs) == 1 and self.size == 2 and outs:
                # One stream less through the caches, as the result often lies where `x` does.
                other = tensors[0][1 - self.rank]
                fold((other, xs[0]) if self.rank else (xs[0], other), outs[0], op)
                return
            for values, out in zip(tensors, outs, strict=False):
                fold(values, out, op)
            return

        def through() -> tuple[Put, Take]:
            ins, results, rank = flat(xs), flat(outs), self.rank

            def take(areas: Sequence[Array], part: Sequence[Span]) -> None:
                for array, start, stop, at in part:
                    end = at + stop - start
                    values = [area[at:end] for area in areas]
                    if rank < 2:
                        # It is in this core's cache, and read before anything is written over it.
                        values[rank] = ins[array][start:stop]
                    fold(values, results[array][start:stop], op)

            return putter(ins), take if results else _nothing

        if self._directly(plan, xs, outs, through, check, places, find, op):
            return
        put, take = through()
        if self.size > 2 and sum([x.nbytes for x in xs]) > SMALL:
            self._in_shares(plan, xs[0].dtype, put, flat(outs), op, check)
            return
        self._through(plan, xs[0].dtype, put, take, check)

    def broadcast(
        self,
        xs: Sequence[Array],
        outs: Sequence[Array],
        root: int,
        check: Check,
        places: Places | None = None,
    ) -> None:
        """All get the root's arrays. The others' have to be like them; see `allreduce`."""
        ins, results = flat(xs), flat(outs)

        def take(areas: Sequence[Array], part: Sequence[Span]) -> None:
            for array, start, stop, at in part:
                results[array][start:stop] = areas[root][at : at + stop - start]

        def find(direct: Direct, lent: Sequence[Lent], rank: int) -> Way:
            return ways.broadcast_way(direct, lent, rank, root)

        def body(plan: Plan) -> None:
            put = putter(ins) if self.rank == root else _nothing
            if self._directly(plan, xs, outs, lambda: (put, take), check, places, find):
                return
            if self.rank != root:
                self._through(plan, ins[0].dtype, put, take, check)
                return
            self._through(plan, ins[0].dtype, put, _nothing, check)
            for x, out in zip(ins, results, strict=True):
                if out is not x:
                    np.copyto(out, x)

        self._do("Broadcast", xs, f"root {root}", body)

    def allgather(
        self, xs: Sequence[Array], out: Array, check: Check, places: Places | None = None
    ) -> None:
        """All get all members' arrays, flat, one behind the other: those of rank 0 first.

        Args:
            xs: C-contiguous, of one dtype.
            out: `size` times as many elements.
            check: Raises if the run was called off.
            places: Where the arrays lie; left out, where nobody else may look.
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

        def find(direct: Direct, lent: Sequence[Lent], rank: int) -> Way:
            return ways.allgather_way(direct, lent, rank, offsets)

        def body(plan: Plan) -> None:
            put = putter(ins)
            if not self._directly(plan, xs, [out], lambda: (put, take), check, places, find):
                self._through(plan, ins[0].dtype, put, take, check)

        self._do("Allgather", xs, "", body)

    def reduce_scatter(
        self,
        xs: Sequence[Array],
        outs: Sequence[Array],
        op: str,
        check: Check,
        places: Places | None = None,
    ) -> None:
        """Reduce the members' arrays, cut into as many equal parts as there are members.

        Args:
            xs: C-contiguous, of one dtype, each with a number of elements that `size` divides.
            outs: For each a part: that of this rank.
            op: Of `UFUNCS`.
            check: Raises if the run was called off.
            places: Where the arrays lie; left out, where nobody else may look.
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
            find = ways.reduce_scatter_way
            # Small ones lie otherwise in the areas, by shares.
            if all(x.nbytes >= EXCHANGED for x in xs) and self._directly(
                plan, xs, outs, lambda: (put, take), check, places, find, op
            ):
                return
            self._through(plan, xs[0].dtype, put, take, check)

        self._do("ReduceScatter", xs, op, body, self.size)

    # Data where they lie.

    def _directly(
        self,
        plan: Plan,
        xs: Sequence[Array],
        outs: Sequence[Array],
        through: Callable[[], tuple[Put, Take]],
        check: Check,
        places: Places | None,
        find: Find,
        op: str = "",
    ) -> bool:
        """Make a call of large tensors without copies; small ones go through the areas.

        Args:
            plan: What is known of the call.
            xs: The tensors.
            outs: Where the results go.
            through: How small ones are put into areas, and taken from there.
            check: Raises if the run was called off.
            places: Where the large ones lie.
            find: What is to be done with the large ones.
            op: Of `UFUNCS`.

        Returns:
            False if they are not large, or somebody's lie where nobody else may look. Then nothing
            has been done but to meet.
        """
        known: Direct | None = plan.direct
        if known is None:
            if not ways.are_large(xs, self.size):
                return False
            known = plan.direct = Direct(xs, self.size)
        rank, turn, shelf = self.rank, self._turn, self._place.shelf
        which, results = self._calls & 1, find is ways.allreduce_way
        own: Lent | None = None
        offer = AGAIN
        if shelf is not None or self.size == 1:
            own = _lent(known, xs, outs)
            if shelf is not None:
                shelf[self._number, rank] = own
        else:
            offer = ways.offer_of(known, xs, outs, places, results)
            self._words[self._own_offers[which]] = offer
        small: Callable[[], None] | None = None
        if known.spans and offer != NOT:
            areas, (put, take) = self._typed(xs[0].dtype)[turn], through()
            put(areas[rank], known.spans)
            small = partial(take, areas, known.spans)
        self._arrive()
        self._wait(self._arrived, check)
        self._compare(plan)
        if own is not None:
            lent = [own]
            if shelf is not None:
                lent = [shelf[self._number, each] for each in range(self.size)]
            way = find(known, lent, rank)
        else:
            offers = [self._words[at] for at in self._offers[which]]
            if NOT in offers:
                return False
            self._next_turn()
            if NEWLY in offers and not self._settle(known, offer, xs, outs, results, find, check):
                return False
            assert known.sight is not None
            way = known.sight.way
        self._go(way, op, check, small)
        if shelf is not None:
            shelf.pop((self._number, rank), None)
        self.direct += 1
        return True

    def _go(self, way: Way, op: str, check: Check, small: Callable[[], None] | None) -> None:
        """Do what there is to be done between the first meeting and the last.

        Args:
            way: With large tensors.
            op: Of `UFUNCS`.
            check: Raises if the run was called off.
            small: The same with small ones.
        """
        rank, behind = self.rank, None
        for folds, copies in way.rounds:
            ways.do_folds(folds, op, rank)
            if not way.meets:
                ways.do_copies(copies)
                continue
            self._arrive()
            if behind is not None:
                self._wait(self._arrived - 1, check)
                ways.do_copies(behind)
            behind = copies
        if small is not None:
            small()
        if behind is not None:
            self._wait(self._arrived, check)
            ways.do_copies(behind)
        self._check_all_there(check)
        self._arrive()
        self._wait(self._arrived, check)

    def _settle(
        self,
        known: Direct,
        offer: int,
        xs: Sequence[Array],
        outs: Sequence[Array],
        results: bool,
        find: Find,
        check: Check,
    ) -> bool:
        """Have all members see each other's tensors; whether they can."""
        rank, size, dtype = self.rank, self.size, xs[0].dtype
        mine = known.sight.places if offer == AGAIN and known.sight is not None else known.places
        assert mine is not None
        areas = self._lane.areas[self._turn]
        ways.write_places(areas[rank], mine)
        self._arrive()
        self._wait(self._arrived, check)
        lengths = [xs[index].size for index in known.large] * (1 + results)
        lent: list[Lent] = []
        names: set[str] = set()
        try:
            for other in range(size):
                if other == rank:
                    lent.append(_lent(known, xs, outs))
                    continue
                found = ways.read_places(areas[other])
                arrays = self._maps.arrays(found, lengths, dtype)
                lent.append((arrays[: len(known.large)], arrays[len(known.large) :]))
                names.update([name for name, _, _ in found])
            seen = 1
        except (OSError, ValueError, EOFError, TypeError):
            seen = 0
        self._next_turn()
        areas = self._lane.areas[self._turn]
        areas[rank][0] = seen
        self._arrive()
        self._wait(self._arrived, check)
        all_see = all(area[0] for area in areas)
        self._next_turn()
        if not all_see:
            known.refused, known.sight = True, None
            return False
        gone = self._maps.tidy()
        for other_known in [plan.direct for plan in self._plans.values()] if gone else ():
            sight = None if other_known is None else other_known.sight
            if sight is not None and not gone.isdisjoint(sight.names):
                other_known.sight = None
        way = find(known, lent, rank)
        known.sight = Sight(list(xs), list(outs), mine, frozenset(names), way)
        return True

    def _next_turn(self) -> None:
        self._turn = self._turn + 1 if self._turn + 1 < TURNS else 0

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

    def _whole(self, xs: Sequence[Array], areas: Sequence[Array]) -> Whole:
        """Areas in which such tensors lie one behind the other, for which there is room."""
        tensors, at = [], 0
        for x in xs:
            tensors.append([area[at : at + x.size].reshape(x.shape) for area in areas])
            at += x.size
        own = areas[self.rank][:at]
        return own.reshape(xs[0].shape) if len(xs) == 1 else own, tensors

    def _typed(self, dtype: np.dtype[Any]) -> Sequence[Sequence[Array]]:
        """The areas as arrays of a dtype."""
        views = self._views.get(dtype)
        if views is None:
            room = PART // dtype.itemsize
            views = self._views[dtype] = [
                [np.frombuffer(area, dtype, room) for area in areas] for areas in self._lane.areas
            ]
        return views


def _nothing(area: Any, part: Sequence[Span]) -> None:
    """Neither put nor take."""


def _lent(known: Direct, xs: Sequence[Array], outs: Sequence[Array]) -> Lent:
    """A member's own large arrays, each as a row; all results, if they are otherwise cut."""
    results = [outs[index] for index in known.large] if len(outs) == len(xs) else outs
    return flat([xs[index] for index in known.large]), flat(results)
