"""A session, the model of what it holds, and what its workers' deaths must be like.

Actions are done one after the other, by one thread. Now and then the killer is armed, and goes off
at whatever moment that is. The death must be told to the caller as it was; what was fetched before
must not change; the survivors must hold what they held, and so must the dead node when the session
brings it back. All choices come from one seed; when a killer goes off does not.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import psutil

import procession
from procession import NodeDiedError, ProcessSession, RunTimeoutError, TaskGroup
from procession.cluster import forkserver
from stress import actions, work
from stress.actions import ACTIONS, Action, Wrong
from stress.killer import Killer, Shot
from stress.model import ABSENT, TORN, Change, NodeModel, is_plain, same, shown
from stress.report import Report
from stress.watchdog import Watchdog

T = TypeVar("T")

POLICIES = ("raise", "restart")
SIGNALS = ["SIGKILL"] * 12 + ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGTERM"]
MOST_SNAPSHOTS = 80
MOST_GROUPS = 60
DEATHS_OF_A_SESSION = 12
"""After so many the session is replaced, even if it goes on."""
MISSED_WITHIN = 10.0
"""Seconds in which a worker that was killed must be missed by those who call it."""
CLOSED_WITHIN = 8.0
CHILDREN_GONE_WITHIN = 2.0
STOPPED_FOR = 0.05
SHOOTING, STALLING, CHECKING = 0.12, 0.001, 0.03
"""How much of what is done is to kill somebody (STALLING: by stopping him); to look at all."""
ENOUGH_PROBLEMS = 20


@dataclass
class Snapshot:
    """What was fetched, and what it must be for as long as it is kept."""

    what: str
    value: Any
    wanted: Any


class Call:
    """One call, or several at once: what it is about, when it began and ended, what it changes."""

    def __init__(
        self,
        soak: Soak,
        what: str,
        nodes: Sequence[str],
        changes: Mapping[str, Mapping[str, Change]],
    ) -> None:
        self._soak = soak
        self.what = what
        self.nodes = nodes
        self._changes = changes
        self.start = self.end = 0

    def caught(self) -> None:
        """The error is in the caller's hands, but the block does not end yet."""
        self.end = time.monotonic_ns()

    def __enter__(self) -> Call:
        self._soak.watchdog.begin(f"{self.what} on {', '.join(self.nodes) or 'no node'}")
        self.start = time.monotonic_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end = self.end or time.monotonic_ns()
        self._soak.watchdog.end()
        self._soak.calls.append(self)
        if error is None and len(self.nodes) == 1:
            # It has come to this one: so it has ended what it was still in.
            self._soak.owed[self.nodes[0]].clear()
        for node, changes in self._changes.items():
            model = self._soak.model[node]
            if error is not None:
                model.interrupt(changes, died=node in dead_nodes(error))
                self._soak.owed[node].update(changes)
                continue
            for name, change in changes.items():
                model.write(name, change.final)


def dead_nodes(error: BaseException) -> tuple[str | None, ...]:
    """The nodes that an error says are dead."""
    if isinstance(error, NodeDiedError):
        return (error.node,)
    if isinstance(error, (RunTimeoutError, procession.RunCancelledError)):
        return tuple(error.killed)
    return ()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Soak:
    """See the module.

    Args:
        seed: For all choices.
        nodes: How many.
        policies: Of POLICIES, for sessions to choose from.
        report: Told of everything.
        killer: Kills.
        watchdog: Told of every call.
    """

    def __init__(
        self,
        seed: int,
        nodes: int,
        policies: Sequence[str],
        report: Report,
        killer: Killer,
        watchdog: Watchdog,
    ) -> None:
        self.random = random.Random(seed)
        self._housekeeping = random.Random(seed)
        """For choices among as many things as there are, which depends on how things went."""
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self.report = report
        self.watchdog = watchdog
        self.snapshots: list[Snapshot] = []
        self.calls: deque[Call] = deque(maxlen=100)
        self.model = {node: NodeModel() for node in self.nodes}
        self.owed: dict[str, dict[str, Change]] = {node: {} for node in self.nodes}
        """What nodes may still be at, since the caller was told of another one's death."""
        self.children: dict[str, list[psutil.Process]] = {node: [] for node in self.nodes}
        self._done: deque[str] = deque(maxlen=8)
        self._killer = killer
        self._killing = False
        """Whether workers may be killed; not before the first session is there."""
        self._policies = policies
        self._groups: dict[Any, TaskGroup] = {}
        self._shot: Shot | None = None
        self._deaths: dict[str, int] = {}
        self.open()

    # Sessions.

    def open(self) -> None:
        """Begin with a new session; perhaps one of its workers is killed on the way."""
        for node in self.nodes:
            self.model[node].clear()
            self.owed[node].clear()
        self._deaths = dict.fromkeys(self.nodes, 0)
        self._policy = self.random.choice(self._policies)
        self._restarts = self.random.choice([2, 1000]) if self._policy == "restart" else 0
        options: dict[str, Any] = {"on_node_failure": self._policy}
        if self._policy == "restart":
            options["max_restarts"] = self._restarts
        if self._killing and self.random.random() < 0.06:
            self._shoot_newborn()
        self.report.sessions += 1
        while True:
            try:
                with self.asking("starting", self.nodes):
                    self.session = ProcessSession(self.nodes, **options)
                break
            except NodeDiedError as error:
                self._died(error)
        if self._killer.armed:
            # It was through before the killer was.
            self._shot = self._killer.fired()
            stats = self.session.stats()
            for node in self.nodes:
                if self._shot is not None and stats[node].pid == self._shot.pid:
                    self.go_on_until_missed(node)
                    break

    def close(self) -> None:
        """End the session in one of several ways; perhaps a worker is killed meanwhile."""
        self._shot_over()
        how = self.random.choice(["close", "close", "twice", "garbage", "error", "busy"])
        node = self.random.choice(self.nodes)
        if self._killing and self.random.random() < 0.2:
            pid = self.session.stats()[node].pid
            self._killer.arm("kill", pid, "SIGKILL", 0.004 * self.random.random())
        futures = []
        if how == "busy":
            group = self.group("spin", ((node, ""),), "", 1_000_000, 0.0003)
            futures = [self.session.run_async(group) for _ in range(2)]
        with self.asking("closing", self.nodes) as call:
            self._end(how)
            for future in futures:
                # Whatever they were told: they were told.
                future.exception() if not future.cancelled() else None
        if call.end - call.start > CLOSED_WITHIN * 1e9:
            self.report.wrong("hangs", f"closing took {(call.end - call.start) / 1e9:.1f} s")
        self._shot_over()
        for each in self.nodes:
            self._see_children_go(each)

    def _end(self, how: str) -> None:
        if how == "garbage":
            del self.session
            gc.collect()
        elif how == "error":
            with contextlib.suppress(LookupError), self.session:
                raise LookupError("on purpose")
        else:
            self.session.close()
            if how == "twice":
                self.session.close()

    def replace(self) -> None:
        """Go on with a new session."""
        self.close()
        self.check_snapshots()
        self.open()

    # What actions need.

    def asking(
        self,
        what: str,
        nodes: Sequence[str],
        changes: Mapping[str, Mapping[str, Change]] | None = None,
    ) -> Call:
        """A `with` block around a call.

        Args:
            what: What its nodes do meanwhile.
            nodes: The nodes that it needs.
            changes: What it changes: node -> blob -> change.
        """
        return Call(self, what, nodes, changes or {})

    @property
    def under_fire(self) -> bool:
        """Whether a worker may be dead, or die, without anybody having been told."""
        return self._killer.armed or self._shot is not None

    def pick(self, items: Sequence[T]) -> T | None:
        """One of these, if there are any; at the cost of one random number however many there are.

        How many there are may depend on how far something came.
        """
        draw = self.random.random()
        return items[int(draw * len(items))] if items else None

    def tensor(self, node: str, most: int | None = None) -> str | None:
        """A blob of the node that nets can work on, if there is one of at most so many numbers."""
        model = self.model[node]
        found = [n for n in model.tensors() if most is None or model.value(n).size <= most]
        found = [name for name in found if name in actions.NAMES]
        return self.pick(found)

    def group(self, *key: Any) -> TaskGroup:
        """What `work.group` makes of these; perhaps one that workers know."""
        if len(self._groups) > MOST_GROUPS:  # the workers are to forget one
            del self._groups[self._housekeeping.choice(list(self._groups))]
        if key not in self._groups:
            self._groups[key] = work.group(*key)
        return self._groups[key]

    def compare(self, what: str, got: Any, wanted: Any) -> None:
        """A value must be what it must be."""
        self.report.values += 1
        if not same(got, wanted):
            raise Wrong("wrong bytes", f"{what} is {shown(got)}, and should be {shown(wanted)}")

    def keep(self, what: str, value: Any, wanted: Any) -> None:
        """Compare a value, and keep it for a while if it is an array."""
        self.compare(what, value, wanted)
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            if value.flags.writeable:
                raise Wrong("wrong bytes", f"{what} can be written")
            self.snapshots.append(Snapshot(what, value, np.array(wanted)))
        while len(self.snapshots) > MOST_SNAPSHOTS:
            del self.snapshots[self._housekeeping.randrange(len(self.snapshots))]

    def look(self, node: str, name: str) -> None:
        """Fetch a blob; it must be something that it may be, and be torn only if it may be."""
        model, value, error = self.model[node], None, None
        with self.asking("fetching", [node]):
            try:
                value = self.session.workspace(node).fetch_blob(name)
            except procession.TornBlobError as torn:
                value, error = TORN, torn
            except procession.BlobNotFoundError:
                value = ABSENT
        states = model.states(name)
        if not model.found(name, value):
            wanted = " or ".join(map(shown, states))
            kind = "wrong errors" if value is TORN else "wrong bytes"
            what = f"{name} of {node} is {shown(value)}, and should be {wanted}"
            raise Wrong(kind, what + (f"\n{error}" if error else ""))
        self.report.values += 1
        if value is TORN:
            self.report.outcomes["TornBlobError"] += 1
            if error is not None and (error.blob, error.node) != (name, node):
                raise Wrong("wrong errors", f"it is about {name} of {node}: {error}")
        if isinstance(value, np.ndarray):
            self.keep(f"{name} of {node}", value, model.value(name))

    def send(self, pid: int, number: int) -> None:
        """Send a signal to a process that may be gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    # Looking.

    def check_snapshots(self) -> None:
        """What was fetched, from workers dead or alive, must be as it was."""
        for snapshot in self.snapshots[:]:
            self.report.values += 1
            if not same(snapshot.value, snapshot.wanted):
                self.snapshots.remove(snapshot)
                what = f"{snapshot.what}, fetched earlier, has become {shown(snapshot.value)}"
                self.report.wrong("wrong bytes", what)

    def check(self, but: str | None = None) -> None:
        """Look at all that was kept, and at every blob of every node but one."""
        self.check_snapshots()
        for node, model in self.model.items():
            if node == but:
                continue
            for name in model.known():
                self.look(node, name)
            with self.asking("listing", [node]):
                names = self.session.workspace(node).names()
            if wrong := model.wrong_names(names):
                raise Wrong("wrong bytes", f"the blobs of {node}: {', '.join(wrong)}")

    # Kills.

    def _shoot_newborn(self) -> None:
        server = forkserver.running_server().pid
        delay = self.random.choice([0.0, 0.005, 0.03]) * self.random.random()
        self._killer.arm("newborn", server, "SIGKILL", delay)

    def shoot(self) -> None:
        """Have a worker killed, and do one thing after another until somebody misses it."""
        node = self.random.choice(self.nodes)
        name = self.random.choice(SIGNALS)
        delay = self.random.choice([0.0005, 0.005, 0.03]) * self.random.random()
        self._killer.arm("kill", self.session.stats()[node].pid, name, delay)
        if self.random.random() < 0.12:
            self._shot = self._killer.fired()  # while it is idle
        self.go_on_until_missed(node)

    def go_on_until_missed(self, node: str) -> None:
        """Do one thing after another with a node whose worker is being killed."""
        deadline = time.monotonic() + MISSED_WITHIN
        while self.under_fire:
            self.step(node)
            if self._killer.armed:
                self._shot = self._killer.fired(0)
            if self._shot is not None and not self._shot.moment:
                self._shot = None
                return  # there was nobody to kill
            if time.monotonic() > deadline:
                what = f"{self._shot}, but the worker of {node} is not missed"
                what += f" ({self.session.stats()[node]})"
                self._shot_over()
                raise Wrong("wrong errors", what)

    def _shot_over(self) -> None:
        """Wait for a shot whose death nobody has been told of, and count it."""
        if self._killer.armed:
            self._shot = self._killer.fired()
        if self._shot is not None and self._shot.moment:
            self._count(self._shot, None)
        self._shot = None

    def _count(self, shot: Shot, node: str | None) -> str:
        """Count a kill by what its worker was doing, which is returned."""
        phase = "idle"
        for call in self.calls:
            if call.start <= shot.moment <= call.end and (node is None or node in call.nodes):
                phase = call.what
        if shot.mode == "newborn":
            phase = "starting"
        self.report.kills[phase] += 1
        self.report.signals[shot.signal] += 1
        return phase

    def _died(self, error: NodeDiedError) -> None:
        """Whether the death is the one that there was, and when it was told."""
        call = self.calls[-1]
        shot = self._shot or (self._killer.fired() if self._killer.armed else None)
        self._shot = None
        if shot is None or not shot.moment:
            raise Wrong("wrong errors", f"nobody was killed: {error}")
        phase = self._count(shot, error.node)
        if (error.pid, error.signal) != (shot.pid, shot.signal):
            raise Wrong("wrong errors", f"{shot.pid} was killed by {shot.signal}: {error}")
        waiting = call.start <= shot.moment
        seconds = (call.end - max(shot.moment, call.start)) / 1e9
        self.report.took(seconds, f"{shot.signal} while {phase}, told while {call.what}", waiting)
        self.report.outcomes["NodeDiedError"] += 1

    def _bury(self, node: str, error: procession.ProcessionError) -> None:
        """A node is dead: see what is left, and whether it comes back."""
        self._see_children_go(node)
        self.model[node].interrupt(self.owed[node], died=True)
        self.owed[node].clear()
        self._deaths[node] += 1
        goes_on = self._policy == "restart" and self._deaths[node] <= self._restarts
        if isinstance(error, NodeDiedError):
            if error.restarts != goes_on:
                died = f"death {self._deaths[node]} of {node}, max_restarts={self._restarts}"
                raise Wrong("wrong errors", f"{died}, but restarts is {error.restarts}: {error}")
            self._see_torn(node, error)
        if not goes_on:
            self._see_it_stays_dead(node)
            self.check(but=node)
            self.replace()
            return
        self.report.restarts += 1
        self.model[node].lose_objects()
        if sum(self._deaths.values()) >= DEATHS_OF_A_SESSION:
            self.check()
            self.replace()
        elif self._killing and self.random.random() < 0.1:
            self._shoot_newborn()
            self.go_on_until_missed(node)
        elif self.random.random() < 0.7:
            self.check()

    def _see_torn(self, node: str, error: NodeDiedError) -> None:
        for name in error.torn if self._policy == "restart" else ():
            states = self.model[node].states(name)
            if not any(state is TORN or not is_plain(state) for state in states):
                raise Wrong("wrong errors", f"{name} is {states}, and cannot be torn: {error}")

    def _see_it_stays_dead(self, node: str) -> None:
        if self.random.random() < 0.3:
            with self.asking("fetching", [node]):
                try:
                    self.session.workspace(node).feed_blob("x", 1.0)
                except NodeDiedError as error:
                    if error.node == node:
                        return
                    raise
            raise Wrong("wrong errors", f"{node} is dead, and was fed")

    def _see_children_go(self, node: str) -> None:
        children, self.children[node] = self.children[node], []
        _, alive = psutil.wait_procs(children, timeout=CHILDREN_GONE_WITHIN)
        for child in filter(_is_alive, alive):
            what = f"a child of the worker of {node} outlives it: process {child.pid}"
            self.report.wrong("leaked processes", what)
            child.kill()

    def stall(self) -> None:
        """Stop a worker for good, so that a run must time out and end it."""
        node = self.random.choice(self.nodes)
        self.look(node, actions.NAMES[0])  # so that there is a worker
        self.send(self.session.stats()[node].pid, signal.SIGSTOP)
        group = self.group("spin", ((node, ""),), "", 1, 0.0)
        stopped: RunTimeoutError | None = None
        try:
            with self.asking("stopped", [node]):
                self.session.run(group, timeout=STOPPED_FOR)
        except RunTimeoutError as error:
            if error.killed != (node,):
                raise
            stopped = error
        if stopped is None:
            raise Wrong("wrong errors", "a stopped worker ran something")
        self.report.outcomes["RunTimeoutError"] += 1
        self.report.stops += 1
        stopped.__traceback__ = stopped.__context__ = stopped.__cause__ = None
        self._bury(node, stopped)

    # One thing after another.

    def step(self, node: str | None = None) -> None:
        """Do something, and see to what comes of it."""
        names, weights = zip(*ACTIONS, strict=True)
        action = self.random.choices(names, weights)[0]
        self.guarded(action, node or self.random.choice(self.nodes))

    def guarded(self, action: Action, node: str) -> None:
        """Do something with a node; a death that was due is no surprise."""
        self.report.operations[action.__name__] += 1
        self._done.append(f"{action.__name__} {node}")
        dead: tuple[str, procession.ProcessionError] | None = None
        try:
            action(self, node)
        except NodeDiedError as error:
            self._died(error)
            dead = str(error.node), error
        except (RunTimeoutError, procession.RunCancelledError) as error:
            # It was killed just when time was up.
            if not self.under_fire or len(error.killed) != 1:
                raise
            self._shot_over()
            dead = error.killed[0], error
        if dead is not None:
            # Not in there: a session that is in the traceback of an error is no garbage.
            dead[1].__traceback__ = dead[1].__context__ = dead[1].__cause__ = None
            self._bury(*dead)

    def surviving(self, what: Callable[[], object]) -> None:
        """Do something; if anything is wrong, report it, and go on with another session."""
        try:
            what()
        except Exception as error:
            done = sum(self.report.operations.values())
            kind, text = error.args if isinstance(error, Wrong) else ("wrong errors", None)
            where = f"after {done:,} operations, {self.report.killed:,} kills, {self._policy}"
            where += f"; the last ones: {', '.join(self._done)}"
            text = traceback.format_exc() if text is None else text
            self.report.wrong(kind, f"{text}\n  ({where})")
            with contextlib.suppress(Exception):
                self._shot_over()
                self.session.close()
            self.open()

    def go_on(
        self,
        kills: int | None,
        operations: int | None,
        until: float,
        progress: Callable[[], object],
    ) -> None:
        """Do one thing after another, and end the session.

        Args:
            kills: Stop after so many; None for no limit, 0 for none at all.
            operations: Stop after so many; None for no limit.
            until: Stop then, by `time.monotonic`.
            progress: Called after everything that was done.
        """
        self._killing = kills != 0
        while time.monotonic() < until and len(self.report.problems) < ENOUGH_PROBLEMS:
            if kills and self.report.killed >= kills:
                break
            if operations is not None and sum(self.report.operations.values()) >= operations:
                break
            draw = self.random.random()
            if draw < SHOOTING and kills != 0:
                self.surviving(self.stall if draw < STALLING else self.shoot)
            elif draw < SHOOTING + CHECKING:
                self.surviving(self.check)
            else:
                self.surviving(self.step)
            progress()
        self._killing = False
        self.surviving(self.check)
        self.close()
        self.check_snapshots()
        self.snapshots.clear()
