"""Soak a ProcessSession: random work, checked against a NumPy model of what each blob must hold.

Whatever is fetched must not change for as long as it is kept. Now and then a worker is killed
while it is busy, or stopped so that a run must time out: the right error has to come, the other
nodes must hold what they held, and the session is replaced. At the end no process, segment of
shared memory, file or thread may be left, and the exit code is 1 if anything was wrong.

    scripts/stress [--seconds S] [--seed N] [--nodes N]

Equal seeds do the same until the first kill. A hang is reported a minute late, with all stacks.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from typing import Any

import numpy as np

import procession
from procession import Net, NodeDiedError, OperatorError, ProcessSession, Task, TaskGroup
from procession.testing import leaks

NAMES = [f"x{number}" for number in range(12)]
# From nothing to a segment of its own. Whole numbers in float64: sums are exact.
SHAPES = [(), (0, 3), (7,), (25, 20), (512,), (2000,), (70, 130), (40_000,), (300_000,)]


def expect(condition: Any, what: str) -> None:
    """Raise an error that says what is wrong unless the condition holds."""
    if not condition:
        raise RuntimeError(what)


def same(got: Any, wanted: Any) -> bool:
    """Whether two values are equal, arrays down to dtype and shape."""
    if not isinstance(wanted, np.ndarray) or not isinstance(got, np.ndarray):
        return type(got) is type(wanted) and bool(got == wanted)
    return (got.dtype, got.shape) == (wanted.dtype, wanted.shape) and np.array_equal(got, wanted)


def fail(inputs: Any, outputs: Any) -> None:
    """A Python operator that raises."""
    raise ValueError("on purpose")


def build(kind: str, places: tuple[tuple[str, str], ...], target: str, times: int) -> TaskGroup:
    """A group that does something with one blob on each of some nodes, so many times."""
    with TaskGroup("private" if kind == "private" else "global") as group:
        for node, blob in places:
            net = Net(kind)
            if kind == "double":
                net.Add([blob, blob], [target])
            else:
                net.Add([blob, net.Const(1.0, "one")], [blob])
            if kind == "fail":
                net.Python(fail)([], [])
            if kind == "private":
                net.Add([net.Add([blob, blob], ["private"]), blob], [target])
            outputs = [target] if kind == "private" else None
            Task(procession.execution_step(kind, net, num_iter=times), outputs, node=node)
    return group


class Soak:
    """A session, the model of it, and what can be done to both."""

    def __init__(self, seed: int, nodes: int) -> None:
        self.random = random.Random(seed)
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self.snapshots: list[tuple[str, Any, Any]] = []
        self.groups: dict[Any, TaskGroup] = {}
        self.counts: Counter[str] = Counter()
        self.open()

    def open(self) -> None:
        """Begin with a new session; the old one ends as garbage."""
        self.session = ProcessSession(self.nodes)
        self.model: dict[str, dict[str, Any]] = {node: {} for node in self.nodes}

    def tensor(self, node: str) -> str | None:
        """A blob of the node that nets can work on, if there is one."""
        tensors = [n for n in NAMES if isinstance(self.model[node].get(n), np.ndarray)]
        return self.random.choice(tensors) if tensors else None

    def work(self, *key: Any) -> TaskGroup:
        """Run what `build` makes of these, perhaps a group that the workers know."""
        if len(self.groups) > 60:  # the workers are to forget one
            del self.groups[self.random.choice(list(self.groups))]
        group = self.groups.setdefault(key, build(*key))
        self.session.run(group)
        return group

    def feed(self, node: str) -> None:
        """Feed an array, an object, or what was fetched from anywhere."""
        name, draw = self.random.choice(NAMES), self.random.random()
        value: Any = np.full(self.random.choice(SHAPES), float(self.random.randrange(100)))
        if draw < 0.1:
            value = {"text": "é" * self.random.choice([1, 100_000]), "list": [name, draw]}
        elif draw < 0.2 and self.snapshots:
            value = self.random.choice(self.snapshots)[1]
        elif draw < 0.3:
            value = value.T
        self.session.workspace(node).feed_blob(name, value)
        self.model[node][name] = np.array(value) if isinstance(value, np.ndarray) else value

    def fetch(self, node: str) -> None:
        """Fetch a blob, or one that is not there."""
        name = self.random.choice(NAMES)
        try:
            value = self.session.workspace(node).fetch_blob(name)
        except procession.BlobNotFoundError:
            expect(name not in self.model[node], f"{name} of {node} is lost")
        else:
            expect(name in self.model[node], f"{name} of {node} should not be there")
            self.keep(f"{name} of {node}", value, self.model[node][name])

    def remove(self, node: str) -> None:
        """Remove a blob, if it is there."""
        name = self.random.choice(NAMES)
        if self.model[node].pop(name, None) is not None:
            self.session.workspace(node).remove_blob(name)

    def run(self, node: str) -> None:
        """Count a blob up in place, or do so and fail, or write its double to a blob."""
        kind, times = self.random.choice([("count", 1), ("count", 20), ("double", 1), ("fail", 1)])
        blob, target, model = self.tensor(node), self.random.choice(NAMES), self.model[node]
        if blob is None:
            return
        try:
            self.work(kind, ((node, blob),), target, times)
            expect(kind != "fail", "a failing operator did not fail")
        except OperatorError as error:
            expect(kind == "fail" and error.node == node, f"wrong error: {error}")
        if kind == "double":
            model[target] = np.asarray(2 * model[blob])
        else:
            model[blob] = np.asarray(model[blob] + times)
            model["one"] = np.ones((), np.float32)

    def private(self) -> None:
        """Run a private group: it changes global blobs, hands results back, and leaves no more."""
        places = tuple((node, blob) for node in self.nodes if (blob := self.tensor(node)))
        tasks = self.work("private", places, "result", 1).tasks() if places else []
        for (node, blob), task in zip(places, tasks, strict=True):
            model = self.model[node]
            model[blob] = np.asarray(model[blob] + 1)
            model["result"] = np.asarray(3 * model[blob])
            self.keep(f"result of {node}", task.outputs()[0].fetch(), model["result"])

    def keep(self, what: str, value: Any, wanted: Any) -> None:
        """Check a value, and keep it for a while if it is an array."""
        expect(same(value, wanted), f"{what} is wrong")
        if isinstance(value, np.ndarray):
            expect(not value.flags.writeable, f"{what} can be written")
            self.snapshots.append((what, value, np.array(wanted)))
        while len(self.snapshots) > 200:
            del self.snapshots[self.random.randrange(len(self.snapshots))]

    def check(self, but: str | None = None) -> None:
        """Check all that was kept, and every blob of every node but one."""
        for what, value, wanted in self.snapshots:
            expect(same(value, wanted), f"{what}, fetched earlier, has changed")
        for node, model in self.model.items():
            if node != but:
                workspace = self.session.workspace(node)
                expect(workspace.names() == sorted(model), f"{node} has other blobs")
                for name in workspace.names():
                    self.keep(f"{name} of {node}", workspace.fetch_blob(name), model[name])

    def kill(self) -> None:
        """Kill a worker while it is busy with one thing and another."""
        node, delay = self.random.choice(self.nodes), self.random.choice([0, 0.002, 0.02])
        pid, deadline = self.session.stats()[node].pid, time.monotonic() + 30
        killer = threading.Timer(delay * self.random.random(), os.kill, (pid, signal.SIGKILL))
        killer.start()
        try:
            while time.monotonic() < deadline:
                self.random.choice([self.feed, self.fetch, self.remove, self.run])(node)
            raise RuntimeError("a killed worker was not missed")
        except NodeDiedError as error:
            expect((error.pid, error.signal) == (pid, "SIGKILL"), f"wrong error: {error}")
        killer.join()
        self.replace(node)

    def stall(self) -> None:
        """Stop a worker, so that a run must time out and end it."""
        node = self.random.choice(self.nodes)
        os.kill(self.session.stats()[node].pid, signal.SIGSTOP)
        try:
            self.session.run(build("idle", ((node, "x"),), "", 0), timeout=0.05)
            raise RuntimeError("a stopped worker ran something")
        except procession.RunTimeoutError as error:
            expect(error.killed == (node,), f"wrong error: {error}")
        self.replace(node)

    def replace(self, dead: str) -> None:
        """Check what is left of the session, and drop it for a new one."""
        self.check(but=dead)
        self.open()

    def go_on(self, seconds: float) -> None:
        """Do one thing after another, and end the session."""
        works: list[Any] = [self.feed, self.fetch, self.run, self.remove]
        others: list[Any] = [self.private, self.check, self.kill, self.stall]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            action = self.random.choices(works + others, [30, 30, 25, 5, 6, 1, 0.4, 0.02])[0]
            self.counts[action.__name__] += 1
            action(*([] if action in others else [self.random.choice(self.nodes)]))
        self.check()
        self.session.close()
        self.model.clear()
        self.check()


def main() -> int:
    """Read the command line, soak, look for what was left."""
    parser = argparse.ArgumentParser(description="Soak a session; exit code 1 when it is wrong.")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what to do")
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes (default 3)")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.nodes} nodes, {options.seconds:g} s", flush=True)
    faulthandler.dump_traceback_later(options.seconds + 60, exit=True)
    leaks.warm_up()
    before, wrong, soak = leaks.Belongings.now(), [], Soak(options.seed, options.nodes)
    try:
        soak.go_on(options.seconds)
    except Exception:
        wrong.append(traceback.format_exc())
        soak.session.close()
    counts = soak.counts
    del soak
    wrong += [f"left behind: {what}" for what in leaks.wait_for_none_left(before)]
    print(", ".join(f"{name} {count}" for name, count in counts.most_common()))
    print(*wrong, "FAILED" if wrong else f"all right, {sum(counts.values())} actions", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
