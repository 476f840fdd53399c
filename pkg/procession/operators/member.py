"""Member: a seat in a common world: beginning a call, waiting, what is wrong, and leaving.

A member that waits looks at the word that it waits for again and again while there is a core for
each member, then lets others have the core between looks, and then sleeps for moments: soon, if
there are fewer cores than members. Where members are threads of one process, they wake each other.
Meanwhile it looks at the states of those who are missing, and whether the run was called off.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

from procession.blobs import exchange
from procession.blobs.exchange import (
    ARRIVED,
    CALL,
    CALLED_OFF,
    CALLS,
    DEAD,
    ENDED,
    GIVEN_UP,
    JOINED,
    LEFT,
    MAIL_FOR,
    MAIL_PUT,
    OFFER,
    RUN,
    STATE,
    TAKEN,
    TEXT,
    WHY_TEXT,
    Lane,
    Use,
    word,
)
from procession.blobs.fence import STORES_IN_ORDER, Fence
from procession.errors import (
    CollectiveError,
    CollectiveTimeoutError,
    ProcessionError,
    SerializationError,
)
from procession.operators.arrays import Array
from procession.operators.plans import Plan, difference, plan_of, shown

Check = Callable[[], None]
Self = TypeVar("Self", bound="Member")

SPIN = 100
"""So many looks at a word before the core is lent to others."""
LENDING = 4000
"""So many times it is lent before whoever waits sleeps."""
CROWDED = 3
"""The same where there are more members than cores: those who wait would take turns with those who
are waited for."""
POLL = 50
"""After how many of those the others' states are looked at."""
QUIET = 2
"""So many threads has a worker that does one thing: the second waits for the coordinator's end."""
SHORTEST, LONGEST = 20e-6, 1e-3
"""Seconds to sleep at a time, at first and at most."""
GRACE = 5.0
"""Seconds within which a run ends in which another member has failed; its own error comes first."""
PLANS = 256
"""So many calls are remembered that look different."""
TIMEOUT = 30.0
"""Seconds that are waited for a member, where nothing else is said."""


class Venue(NamedTuple):
    """Where a world is, and who is in it: what a member needs to join."""

    name: str
    members: tuple[str, ...]
    """The nodes, by rank."""
    lanes: int
    memory: Any
    bell: threading.Condition | None = None
    """What wakes those who wait, if some of the others are threads of this process."""
    shelf: dict[tuple[int, int], Any] | None = None
    """If all of them are: what they hand each other, by lane and rank."""


class Clock:
    """The number of the run that is under way on a node."""

    __slots__ = ("run",)

    def __init__(self, run: int = 0) -> None:
        self.run = run


class Member:
    """A member's handle on a common world.

    One call at a time: operators that may run at once need a clone each. A call raises

    - CollectiveError: Another member makes another call, has ended its program with fewer calls,
      has left or died, or somebody has given up before;
    - CollectiveTimeoutError: Somebody did not come in time;
    - whatever `check` raises, which is called now and then while it waits.

    After an error in the middle of a call the world cannot be used any more.

    Args:
        place: Where it is.
        rank: Which member this is.
        timeout: Seconds to wait for another member.
        clock: Knows the number of the present run.
        lane: Which lane of the memory.
    """

    def __init__(
        self, place: Venue, rank: int, timeout: float, clock: Clock, lane: int = 0
    ) -> None:
        self.name = place.name
        self.members = place.members
        self.size = len(place.members)
        self.rank = rank
        self.timeout = timeout
        self._place = place
        self._clock = clock
        self._bell = place.bell
        self._lane = Lane(place.memory, self.size, lane)
        self._number = lane
        self._words = self._lane.words
        self._others = tuple(
            (other, word(other, ARRIVED)) for other in range(self.size) if other != rank
        )
        self._own = {which: word(rank, which) for which in range(exchange.WORDS)}
        self._fence = None if STORES_IN_ORDER else Fence()
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._arrived = 0
        self._calls = 0
        self._run = 0
        self._texts: list[bytes] = [b"", b""]
        self._plans: dict[Any, Plan] = {}
        self._own_calls = tuple(word(rank, CALL + which) for which in (0, 1))
        self._own_offers = tuple(word(rank, OFFER + which) for which in (0, 1))
        self._own_count, self._own_arrived = word(rank, CALLS), word(rank, ARRIVED)
        self._why: str | None = None
        """Why it cannot be used any more."""
        self.use = Use()
        self.key = repr((place.name, place.members))
        """The same for all worlds of that name and these members, one after the other."""
        self._pid = 0
        """The process that sits here; in a copy of it the handle is nobody's."""
        self._family = [0] if lane == 0 else []
        """How many clones it has, for the first of them."""
        crowded = self.size > _cores()
        self._spin = SPIN if self._bell is None and not crowded else 0
        self._lending = CROWDED if crowded else LENDING
        state = self._words[self._own[STATE]]
        if state != exchange.ABSENT:
            raise self._error(
                f"rank {rank} has joined it before in this run. A world is created once in a run: "
                f"not in a loop, not by several instances of a task, and not by two operators"
            )
        self._words[self._own[RUN]] = clock.run
        self._words[self._own[STATE]] = JOINED
        self._pid = os.getpid()

    # Calls.

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            self._lock.release()

    def _do(
        self,
        kind: str,
        xs: Sequence[Array],
        detail: str,
        body: Callable[[Plan], None],
        shares: int = 1,
    ) -> None:
        """Make a call."""
        key = (kind, detail, *[x.shape for x in xs], xs[0].dtype if xs else None)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            plan = self._plans[key] = plan_of(kind, xs, detail, shares)
        self._enter()
        try:
            words = self._words
            calls = self._calls = self._calls + 1
            which = calls & 1
            words[self._own_calls[which]] = plan.number
            if self._texts[which] is not plan.text:
                self._lane.put_text(self.rank, TEXT[which], plan.text)
                self._texts[which] = plan.text
            words[self._own_count] = calls
            body(plan)
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            self._lock.release()

    def _enter(self) -> None:
        if not self._lock.acquire(False):
            what = "two operators use it at once, so that nobody knows in which order. "
            if self._bell is not None:
                what += (
                    "If two nodes share this workspace, as they do in a plain LocalSession, the "
                    "world of each needs a blob with a name of its own. "
                )
            raise self._error(f"{what}Operators of one node need a world each: CloneCommonWorld")
        if self._why is not None:
            self._lock.release()
            raise self._error(f"it cannot be used any more: {self._why}. {_ANEW}")
        run = self._clock.run
        if run != self._run:
            self._run = self._words[self._own[RUN]] = run

    def _arrive(self) -> None:
        if self._fence is not None:
            self._fence()
        self._arrived += 1
        self._words[self._own_arrived] = self._arrived
        if self._bell is not None:
            self._ring()

    def _ring(self) -> None:
        if self._bell is not None:
            with self._bell:
                self._bell.notify_all()

    def _wait(self, target: int, check: Check) -> None:
        """Wait until all have arrived so many times."""
        words = self._words
        for other, at in self._others:
            if words[at] < target:
                looks = self._spin
                while looks and words[at] < target:
                    looks -= 1
                if words[at] < target:
                    self._linger(lambda at=at: words[at] >= target, (other,), "", check)  # type: ignore[misc]
        if self._fence is not None:
            self._fence()

    def _check_all_there(self, check: Check) -> None:
        """See that what was read of the others' tensors was whole: they are still in the call."""
        words = self._words
        if self._fence is not None:
            self._fence()
        for other, arrived in self._others:
            if words[arrived + STATE - ARRIVED] != JOINED:
                self._linger(lambda: False, (other,), "", check)

    def _until(
        self, ready: Callable[[], bool], whom: Sequence[int], what: str, check: Check
    ) -> None:
        """Wait for a message, or for its being taken."""
        looks = self._spin
        while looks and not ready():
            looks -= 1
        if not ready():
            self._linger(ready, whom, what, check)
        if self._fence is not None:
            self._fence()

    def _linger(
        self, ready: Callable[[], bool], whom: Sequence[int], what: str, check: Check
    ) -> None:
        """Wait for longer, and look at those who are missing meanwhile.

        Args:
            ready: What is waited for.
            whom: Who has to come.
            what: What is waited for, in words; empty in a call of all.
            check: Raises if the run was called off.
        """
        watch = _Watch(time.monotonic())
        looks, nap = 0, SHORTEST
        # Other threads of this process would wait for the GIL, and compute meanwhile.
        lending = self._lending if threading.active_count() <= QUIET else 0
        bell, near, let_others = self._bell, self._place.shelf is not None, self._poll.poll
        while not ready():
            looks += 1
            if bell is not None:
                with bell:
                    if not ready():
                        bell.wait(_WAKE if near else nap)
                nap = min(nap * 1.2, LONGEST)
            elif looks < lending:
                os.sched_yield()
                # That keeps the GIL; this lets others have it.
                let_others(0)
                if looks % POLL:
                    continue
            else:
                time.sleep(nap)
                nap = min(nap * 1.2, LONGEST)
            check()
            self._look_around(ready, whom, what, watch)

    def _look_around(
        self, ready: Callable[[], bool], whom: Sequence[int], what: str, watch: _Watch
    ) -> None:
        """Raise if those who are waited for will not come."""
        words, now, run = self._words, time.monotonic(), self._clock.run
        hopeless = 0
        for other in whom:
            state = words[word(other, STATE)]
            ended = words[word(other, ENDED)] == run
            its_run = words[word(other, RUN)]
            elsewhere = self._elsewhere(other, what)
            if self._fence is not None:
                self._fence()
            if ready():
                return
            if not (ended or elsewhere or state > JOINED):
                continue
            hopeless += 1
            if hopeless < len(whom):
                continue
            if ended:
                self._missing(other, f"has ended its program after {self._calls_of(other)}", what)
            if elsewhere:
                self._missing(other, elsewhere, what)
            if state == LEFT:
                self._missing(other, f"has left after {self._calls_of(other)}", what)
            # The run is about to be called off, with the error that it was.
            watch.noticed = watch.noticed or now
            if its_run != run or now > watch.noticed + GRACE:
                self._missing(other, self._how(other, state), what)
        if now > watch.begun + self.timeout:
            self._late(whom, what)

    def _elsewhere(self, other: int, what: str) -> str:
        """What another member does that waits for this one, while this one waits for it."""
        words = self._words
        calls = words[word(other, CALLS)]
        if what and calls > self._calls:
            return f"is in call {calls} of all, {self._call_of(other, calls)}"
        if (
            words[word(other, MAIL_PUT)] != words[word(other, TAKEN)]
            and words[word(other, MAIL_FOR)] == self.rank
            and not what.startswith("wants")
        ):
            return "sends this one a tensor, which nobody takes"
        return ""

    def _compare(self, plan: Plan) -> None:
        """See that all say that the call is the same."""
        words, at = self._words, CALL - ARRIVED + (self._calls & 1)
        for other, arrived in self._others:
            if words[arrived + at] != plan.number:
                texts = [
                    f"\n  rank {rank} (node {node!r}): {self._call_of(rank, self._calls)}"
                    for rank, node in enumerate(self.members)
                ]
                which = TEXT[self._calls & 1]
                its = self._lane.text(other, which)
                texts.append(difference(plan.text, its, self.rank, other))
                raise self._error(
                    f"its members do not make the same call, as call {self._calls}:"
                    + "".join(texts),
                    other,
                )

    # What is said when something is wrong.

    def _call_of(self, rank: int, number: int) -> str:
        return shown(self._lane.text(rank, TEXT[number & 1]))

    def _calls_of(self, other: int) -> str:
        calls = self._words[word(other, CALLS)]
        return f"{calls} call{'' if calls == 1 else 's'}"

    def _doing(self, what: str) -> str:
        if what:
            return what
        return f"is in call {self._calls}, {self._call_of(self.rank, self._calls)}"

    def _how(self, other: int, state: int) -> str:
        if state == DEAD:
            return "is gone: its process ended, or it never joined"
        if state == CALLED_OFF:
            return "has given up, as its run was called off or failed"
        why = self._lane.text(other, WHY_TEXT).decode("utf-8", "replace")
        return f"has given up: {why}"

    def _missing(self, other: int, how: str, what: str) -> NoReturn:
        raise self._error(
            f"it {self._doing(what)}; but rank {other} (node {self.members[other]!r}) {how}", other
        )

    def _late(self, whom: Sequence[int], what: str) -> NoReturn:
        words = self._words
        late = list(whom)
        if not what:
            target = self._arrived
            late = [o for o, at in self._others if words[at] < target] or late
        told = []
        for other in late:
            absent = words[word(other, STATE)] == exchange.ABSENT
            made = "has not joined" if absent else f"has begun {self._calls_of(other)}"
            told.append(f"rank {other} (node {self.members[other]!r}), which {made}")
        raise self._error(
            f"it {self._doing(what)}; within {self.timeout:g} s there came nothing from "
            f"{', '.join(told)}",
            *late,
            kind=CollectiveTimeoutError,
        )

    def _error(
        self, text: str, *others: int, kind: type[CollectiveError] = CollectiveError
    ) -> CollectiveError:
        return kind(
            f"common world {self.name!r}, rank {self.rank} of {self.size} "
            f"(node {self.members[self.rank]!r}): {text}",
            world=self.name,
            rank=self.rank,
            node=self.members[self.rank],
            others=tuple(self.members[other] for other in others),
        )

    def _give_up(self, error: BaseException) -> None:
        called_off = not isinstance(error, (ProcessionError, ValueError, MemoryError, TypeError))
        self._why = "a call was called off" if called_off else "a call of this member has failed"
        if not called_off:
            self._lane.put_text(self.rank, WHY_TEXT, str(error).encode())
        self._end(CALLED_OFF if called_off else GIVEN_UP)
        self._ring()
        self._let_go()

    # The end.

    def clone(self: Self) -> Self:
        """Another world of the same members, whose calls do not wait for those of this one.

        All members have to make their clones in the same order.
        """
        family = self._family
        if family[0] + 1 >= self._place.lanes:
            raise self._error(
                "there is no room for one more clone of it: clones are made in the runnable that "
                "creates the world, each by an operator of its own, and in no loop"
            )
        family[0] += 1
        made = type(self)(self._place, self.rank, self.timeout, self._clock, family[0])
        made._family = family
        return made

    def leave(self) -> None:
        """Make no more calls. Who waits for this member is told."""
        self._why = self._why or "it was destroyed"
        self._end(LEFT)
        self._ring()
        self._let_go()

    def _let_go(self) -> None:
        """Keep nothing of the others' tensors."""
        self._plans.clear()

    def ended(self, run: int) -> None:
        """The program of a run has ended well on this member's node."""
        self._words[self._own[ENDED]] = run
        self._ring()

    def _end(self, state: int) -> None:
        self.use.over = True
        if self._words[self._own[STATE]] == JOINED and self._pid == os.getpid():
            if self._fence is not None:
                self._fence()
            self._words[self._own[STATE]] = state
            if self._fence is not None:
                # Whoever reads what this member changes from here on sees that it is gone.
                self._fence()

    def __del__(self) -> None:
        # It may come in the middle of anything, also while this thread holds another world's bell:
        # who waits looks around by himself.
        if self.__dict__.get("_pid"):
            words, own = self._words, self._own
            well = words[own[ENDED]] == words[own[RUN]]
            self._end(LEFT if well else CALLED_OFF)

    def __reduce__(self) -> Any:
        raise SerializationError(
            f"common world {self.name!r} cannot be copied or sent: this is one member's seat in it",
            what=f"the common world {self.name!r}",
        )

    def __repr__(self) -> str:
        return f"<World {self.name!r}, rank {self.rank} of {self.size}>"


class _Watch:
    """How long something has been waited for."""

    __slots__ = ("begun", "noticed")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.noticed = 0.0
        """When somebody was first seen to have failed."""


_ANEW = "Run what creates it again (CreateCommonWorld), on all of its nodes"
_WAKE = 0.05
"""Seconds after which threads that wait look around."""


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
