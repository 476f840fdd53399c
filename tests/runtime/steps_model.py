"""What steps mean: an interpreter of them without operators, threads and clocks.

A net is an event: its name, appended to the trace. Where things run at once the order of events is
open, so a step means a set of traces. The interpreter is a term that can make moves. A move is
an event, or silent: a stop blob read or written, the one execution of an `only_once` step taken, a
workspace made, a failure noticed. Any thread of the term may make the next move; once a failure
is noticed, none does.

What happens every so often happens here once, at the end: intervals are taken to be very long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, eq=False)
class NetModel:
    """A net that notes its name, and may then write a stop blob, or fail."""

    name: str
    writes: str | None = None
    after: int = 1
    """From its so-many-th run on it writes True, before that False."""
    fails_at: int | None = None
    """It fails in its so-many-th run."""


@dataclass(frozen=True, eq=False)
class StepModel:
    """A step. It runs nets, or steps (nothing else at once); those that recur run at the end."""

    name: str
    parts: tuple[NetModel | StepModel, ...]
    iterations: int | None = None
    stop: str | None = None
    only_once: bool = False
    concurrent: bool = False
    instances: int = 1
    create_workspace: bool = False
    recurs: bool = False
    report: NetModel | None = None

    @property
    def runs_nets(self) -> bool:
        return all(isinstance(part, NetModel) for part in self.parts)

    @property
    def most(self) -> int | None:
        """How many iterations there can be."""
        if self.stop is None:
            return 1 if self.iterations is None else self.iterations
        return 1 if self.only_once else None


Workspaces = tuple[tuple[str, int], ...]
"""Which execution of which step they were made for; innermost first."""

GLOBAL = ("", 0)


# Terms. A tuple of terms is a sequence, a frozenset of (term, how many of it) runs at once.


@dataclass(frozen=True)
class Run:
    """A net is about to run."""

    net: NetModel
    inside: Workspaces


@dataclass(frozen=True)
class Write:
    """A net has run, and its output is not visible yet."""

    blob: str
    value: bool
    inside: Workspaces


@dataclass(frozen=True)
class Fail:
    """A net has failed, and nobody knows yet."""

    net: str


@dataclass(frozen=True)
class Once:
    """About to take the only execution of a step."""

    step: StepModel
    inside: Workspaces


@dataclass(frozen=True)
class Enter:
    """About to make the step's workspace."""

    step: StepModel
    inside: Workspaces


@dataclass(frozen=True)
class Read:
    """About to read the stop blob; what follows if it is not true."""

    blob: str
    inside: Workspaces
    following: Iteration


@dataclass(frozen=True)
class Iteration:
    """At a part of an iteration of a step's loop."""

    step: StepModel
    inside: Workspaces
    count: int
    index: int


@dataclass(frozen=True)
class State:
    """All that moves depend on."""

    term: Any
    blobs: frozenset[tuple[tuple[str, int], str, bool]]
    once: frozenset[str] = frozenset()
    counts: frozenset[tuple[str, int]] = frozenset()
    """How often nets have run, and steps with a workspace of their own."""
    failed: str | None = None

    def counted(self, name: str) -> tuple[int, State]:
        """One more of that: how many now."""
        counts = dict(self.counts)
        counts[name] = counts.get(name, 0) + 1
        return counts[name], replace(self, counts=frozenset(counts.items()))

    def home(self, blob: str, inside: Workspaces) -> tuple[str, int] | None:
        """The innermost workspace that has the blob."""
        having = {where for where, name, _ in self.blobs if name == blob}
        return next((where for where in inside if where in having), None)

    def true(self, blob: str, inside: Workspaces) -> bool:
        return (self.home(blob, inside), blob, True) in self.blobs

    def written(self, blob: str, value: bool, inside: Workspaces) -> State:
        home = self.home(blob, inside)
        home = inside[0] if home is None else home
        others = {each for each in self.blobs if each[:2] != (home, blob)}
        return replace(self, blobs=frozenset(others | {(home, blob, value)}))


DONE: tuple[Any, ...] = ()


def sequence(*terms: Any) -> Any:
    """One after the other, flat, starting with something that can move."""
    flat: list[Any] = []
    for term in terms:
        flat += term if isinstance(term, tuple) else [term]
    while flat:
        first = settle(flat[0])
        if first == DONE:
            flat.pop(0)
        elif isinstance(first, tuple):
            flat[:1] = first
            break
        else:
            flat[0] = first
            break
    return flat[0] if len(flat) == 1 else tuple(flat)


def at_once(terms: Iterable[Any]) -> Any:
    """All at once."""
    left = Counter(term for term in map(settle, terms) if term != DONE)
    return together(left)


def together(threads: Counter[Any]) -> Any:
    """So many of each term at once."""
    if threads.total() == 1:
        return next(iter(threads))
    return frozenset(threads.items()) or DONE


def settle(term: Any) -> Any:
    """Unfold what depends on nothing but the step itself."""
    if isinstance(term, Iteration):
        return iteration(term)
    return term


def iteration(at: Iteration) -> Any:
    step, inside = at.step, at.inside
    parts = [part for part in step.parts if not (isinstance(part, StepModel) and part.recurs)]
    if at.index == 0 and step.most is not None and at.count >= step.most:
        return DONE
    copies = 1 if step.runs_nets else step.instances
    # Without a limit iterations are all alike, and so are the states between them.
    following = replace(at, index=0, count=at.count + 1 if step.most is not None else 0)
    if step.concurrent or copies > 1 or not parts:
        now = at_once(execution(part, inside) for part in parts for _ in range(copies))
    else:
        now = execution(parts[at.index], inside)
        if at.index + 1 < len(parts):
            following = replace(at, index=at.index + 1)
    return sequence(now, following if step.stop is None else Read(step.stop, inside, following))


def execution(part: NetModel | StepModel, inside: Workspaces) -> Any:
    """What running a part means."""
    if isinstance(part, NetModel):
        return Run(part, inside)
    if part.only_once and part.stop is None:
        return Once(part, inside)
    return copies_of(part, inside)


def copies_of(step: StepModel, inside: Workspaces) -> Any:
    """A step of nets is copied as a whole, since it has no substeps to be copied."""
    copies = step.instances if step.runs_nets else 1
    one = Enter(step, inside) if step.create_workspace else body(step, inside)
    return at_once([one] * copies)


def body(step: StepModel, inside: Workspaces) -> Any:
    beside = [part for part in step.parts if isinstance(part, StepModel) and part.recurs]
    last = [execution(part, inside) for part in beside]
    if step.report is not None:
        last.append(Run(step.report, inside))
    return sequence(Iteration(step, inside, 0, 0), at_once(last))


Move = tuple[str | None, Any, State]
"""(event or None, what is left of the term, state without regard to its term)."""


def moves(term: Any, state: State) -> Iterator[Move]:
    """What a term can do next."""
    if isinstance(term, tuple):
        for event, first, after in moves(term[0], state) if term else ():
            yield event, sequence(first, *term[1:]), after
    elif isinstance(term, frozenset):
        for thread, _ in term:
            for event, rest, after in moves(thread, state):
                left = Counter(dict(term))
                left.subtract([thread])
                left.update([] if rest == DONE else [rest])
                yield event, together(+left), after
    elif isinstance(term, Run):
        yield ran(term, state)
    elif isinstance(term, Write):
        yield None, DONE, state.written(term.blob, term.value, term.inside)
    elif isinstance(term, Fail):
        yield None, DONE, replace(state, failed=term.net)
    elif isinstance(term, Once):
        first = term.step.name not in state.once
        rest = copies_of(term.step, term.inside) if first else DONE
        yield None, rest, replace(state, once=state.once | {term.step.name})
    elif isinstance(term, Enter):
        number, after = state.counted(term.step.name)
        yield None, body(term.step, ((term.step.name, number), *term.inside)), after
    elif isinstance(term, Read):
        stops = state.true(term.blob, term.inside)
        yield None, DONE if stops else settle(term.following), state


def ran(term: Run, state: State) -> Move:
    net = term.net
    count, after = state.counted(net.name)
    rest: Any = DONE
    if net.fails_at == count:
        rest = Fail(net.name)
    elif net.writes is not None:
        rest = Write(net.writes, count >= net.after, term.inside)
    return net.name, rest, after


def start(step: StepModel, blobs: Mapping[str, bool]) -> State:
    """The state in which nothing has happened."""
    fed = frozenset((GLOBAL, name, value) for name, value in blobs.items())
    return State(sequence(execution(replace(step, recurs=False), (GLOBAL,))), fed)


def next_states(state: State) -> list[tuple[str | None, State]]:
    """(event or None, state after it), for all moves there are."""
    if state.failed is not None:
        return []
    return [(event, replace(after, term=left)) for event, left, after in moves(state.term, state)]


MOST = 300
"""How many states are looked at between two events."""


class TooLargeError(Exception):
    """So much happens at once that it would take ages to look at every order of it."""


def quiet(states: Iterable[State]) -> set[State]:
    """These states, and all that can be reached from them without an event."""
    found = set(states)
    new = list(found)
    while new:
        for event, state in next_states(new.pop()):
            if event is None and state not in found:
                if len(found) == MOST:
                    raise TooLargeError
                found.add(state)
                new.append(state)
    return found


def allows(
    step: StepModel, trace: Sequence[str], blobs: Mapping[str, bool], failed: str | None = None
) -> bool:
    """Whether a run of the step may have that trace, and fail by that net (None: end well)."""
    states = quiet([start(step, blobs)])
    for happened in trace:
        after = (s for state in states for event, s in next_states(state) if event == happened)
        states = quiet(after)
    if failed is None:
        return any(state.failed is None and state.term == DONE for state in states)
    return any(state.failed == failed for state in states)


def a_trace(
    step: StepModel, blobs: Mapping[str, bool], choose: Callable[[list[Any]], Any]
) -> tuple[list[str], str | None]:
    """A trace that the step may have, and the net by which it fails, as moves are chosen."""
    state, trace = start(step, blobs), []
    while possible := next_states(state):
        event, state = choose(possible)
        if event is not None:
            trace.append(event)
    return trace, state.failed


def all_traces(step: StepModel, blobs: Mapping[str, bool]) -> set[tuple[tuple[str, ...], Any]]:
    """All (trace, net that failed) the step may have. For steps that are small."""
    found, seen = set(), set()
    new: list[tuple[tuple[str, ...], State]] = [((), start(step, blobs))]
    while new:
        trace, state = new.pop()
        possible = next_states(state)
        if not possible:
            found.add((trace, state.failed))
        for event, after in possible:
            reached = (trace if event is None else (*trace, event), after)
            if reached not in seen:
                seen.add(reached)
                new.append(reached)
    return found
