"""What is done with a session: each function does one thing with a node, and checks what comes.

All of it says beforehand what it changes, so that the soak knows what may be there if the worker
dies meanwhile. Deaths are not seen to here.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

import procession
from procession import ProcessSession
from stress import inside, work
from stress.model import ABSENT, Change

if TYPE_CHECKING:
    from stress.soak import Call, Soak

NAMES = [f"x{number}" for number in range(12)]
# From nothing to a segment of its own. Whole numbers in float64: sums are exact.
SHAPES = [(), (0, 3), (7,), (25, 20), (512,), (2000,), (70, 130), (40_000,), (300_000,)]
DTYPES = [np.int8, np.int32, np.uint64, np.float32, np.bool_, np.complex64]
ONE = np.ones((), np.float32)
"""What `work.group` leaves in the blob "one"."""
MOST_BETWEEN = 2_000
"""Of blobs with more numbers than this, not each step of a loop is kept in mind."""


class Wrong(Exception):
    """Something is wrong with the session: the kind, and what."""


def feed(soak: Soak, node: str) -> None:
    """Feed an array, plain data, an object, or what was fetched from anywhere."""
    chance, name = soak.random, soak.random.choice(NAMES)
    draw = chance.random()
    value: Any = np.full(chance.choice(SHAPES), float(chance.randrange(100)))
    if draw < 0.1:
        value = {"text": "é" * chance.choice([1, 3_000, 100_000]), "list": [name, draw, None]}
    elif draw < 0.15:
        value = inside.Thing(chance.randrange(100))
    elif draw < 0.25 and (snapshot := soak.pick(soak.snapshots)) is not None:
        value = snapshot.value
    elif draw < 0.35:
        value = value.T.astype(chance.choice(DTYPES))
    elif draw < 0.4:
        value = np.array([name, "a text", "é" * chance.choice([1, 5_000])], object)
    wanted = np.array(value) if isinstance(value, np.ndarray) else value
    with soak.asking("feeding", [node], {node: {name: Change(wanted)}}):
        soak.session.workspace(node).feed_blob(name, value)


def fill_in_place(soak: Soak, node: str) -> None:
    """Write into the memory of a new blob."""
    name, number = soak.random.choice(NAMES), float(soak.random.randrange(100))
    shape = soak.random.choice(SHAPES)
    changes = {node: {name: Change(np.full(shape, number), tears=False)}}
    with (
        soak.asking("writing", [node], changes),
        soak.session.workspace(node).new_blob(name, shape, np.float64) as array,
    ):
        array[...] = number


def fetch(soak: Soak, node: str) -> None:
    """Fetch a blob, or one that is not there."""
    soak.look(node, soak.random.choice(NAMES))


def remove(soak: Soak, node: str) -> None:
    """Remove a blob, if it is there."""
    name = soak.random.choice(NAMES)
    if soak.model[node].has(name):
        with soak.asking("removing", [node], {node: {name: Change(ABSENT, tears=False)}}):
            soak.session.workspace(node).remove_blob(name)


def counted(value: Any, times: int) -> Change:
    """What adding 1 so many times, in place, does to a blob."""

    def between() -> Iterable[Any]:
        steps = range(1, times) if value.size <= MOST_BETWEEN or times < 30 else ()
        return [np.asarray(value + step) for step in steps]

    return Change(np.asarray(value + times), between)


def count(soak: Soak, node: str, kind: str = "count", seconds: float = 0.0) -> None:
    """Count a blob up in place, perhaps many times; or do so and fail."""
    blob, times = soak.tensor(node), soak.random.choice([1, 1, 20])
    if blob is None:
        return
    if kind == "fail":
        times = 1
    changes = {blob: counted(soak.model[node].value(blob), times), "one": Change(ONE)}
    group = soak.group(kind, ((node, blob),), "", times, seconds)
    with soak.asking("computing", [node], {node: changes}):
        try:
            soak.session.run(group)
        except procession.OperatorError as error:
            if kind != "fail" or error.node != node or not isinstance(error.__cause__, ValueError):
                raise
            soak.report.outcomes["OperatorError"] += 1
        else:
            if kind == "fail":
                raise Wrong("wrong errors", "a failing operator did not fail")


def compute(soak: Soak, node: str) -> None:
    """Count a blob up, in an operator that takes its time."""
    count(soak, node, "busy", soak.random.choice([0.0005, 0.003]))


def fail(soak: Soak, node: str) -> None:
    """Run an operator that raises."""
    count(soak, node, "fail")


def double(soak: Soak, node: str) -> None:
    """Write twice a blob to another."""
    blob, target = soak.tensor(node), soak.random.choice(NAMES)
    if blob is None:
        return
    changes = {target: Change(np.asarray(2 * soak.model[node].value(blob)))}
    with soak.asking("computing", [node], {node: changes}):
        soak.session.run(soak.group("double", ((node, blob),), target, 1))


def write(soak: Soak, node: str) -> None:
    """Write a large tensor, several times."""
    target, times = soak.random.choice(NAMES), soak.random.choice([1, 8])
    with soak.asking("writing", [node], {node: {target: Change(work.SEVENS)}}):
        soak.session.run(soak.group("fill", ((node, ""),), target, times))


def load(soak: Soak, node: str) -> None:
    """Send what takes its time to be unpickled: as a blob, or to a function."""
    name, thing = soak.random.choice(NAMES), inside.SlowToLoad(soak.random.randrange(100))
    if soak.random.random() < 0.5:
        with soak.asking("unpickling", [node], {node: {name: Change(thing)}}):
            soak.session.workspace(node).feed_blob(name, thing)
        return
    with soak.asking("unpickling", [node]):
        number = soak.session.submit(inside.number_of, thing, node=node).result()
    soak.compare("a function's result", number, thing.number)


def reply(soak: Soak, node: str) -> None:
    """Have a function return what is large, and takes its time to be pickled."""
    number = soak.random.randrange(100) * soak.random.choice([1, 20])
    with soak.asking("replying", [node]):
        result = soak.session.submit(inside.thing_of, number, node=node).result()
    if result != [inside.SlowToDump(number), "x" * (number * 1000)]:
        raise Wrong("wrong bytes", f"thing_of({number}) returned something else")


def large_text(soak: Soak, node: str) -> None:
    """Feed a text that no pipe holds, and fetch it again."""
    name = soak.random.choice(NAMES)
    text = soak.random.choice("abc") * soak.random.choice([300_000, 4_000_000])
    with soak.asking("feeding", [node], {node: {name: Change(text)}}):
        soak.session.workspace(node).feed_blob(name, text)
    soak.look(node, name)


def private(soak: Soak, node: str) -> None:
    """Run a private group: it changes global blobs, hands results back, and leaves no more."""
    # Its net writes "one" into the global workspace if there is one, be it torn; else into its own.
    nodes = [node for node in soak.nodes if soak.model[node].value("one") is not None]
    places = tuple((node, blob) for node in nodes if (blob := soak.tensor(node)))
    if not places:
        return
    group, changes, wanted = soak.group("private", places, "result", 1), {}, []
    for node, blob in places:
        after = counted(soak.model[node].value(blob), 1)
        wanted.append(np.asarray(3 * after.final))
        changes[node] = {blob: after, "result": Change(wanted[-1])}
        if soak.model[node].value("one") is not ABSENT:
            changes[node]["one"] = Change(ONE)
    with soak.asking("computing", [node for node, _ in places], changes):
        soak.session.run(group)
    for (node, _), task, value in zip(places, group.tasks(), wanted, strict=True):
        soak.keep(f"result of {node}", task.outputs()[0].fetch(), value)


def at_once(soak: Soak, node: str) -> None:
    """Begin runs on all nodes, and calls of a function, and wait for all of them."""
    groups, changes = [], {}
    for each in soak.nodes:
        blob, times = soak.tensor(each), soak.random.choice([1, 20])
        if blob is not None:
            groups.append(soak.group("count", ((each, blob),), "", times))
            value = soak.model[each].value(blob)
            changes[each] = {blob: counted(value, times), "one": Change(ONE)}
    left = soak.random.randrange(100)
    with soak.asking("computing", soak.nodes, changes) as call:
        runs = [soak.session.run_async(group) for group in groups]
        sums = [soak.session.submit(inside.added, left, right) for right in range(3)]
        gather(call, [*runs, *sums])
    soak.compare("sums", [future.result() for future in sums], [left, left + 1, left + 2])


def gather(call: Call, futures: list[Any]) -> None:
    """Wait for futures; the first of their errors, when all have ended."""
    done, others = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
    errors = [error for future in done if (error := future.exception()) is not None]
    if not errors:
        return
    call.caught()
    concurrent.futures.wait(others)
    raise errors[0]


def mapped(soak: Soak, node: str) -> None:
    """Map a function over arrays of all sizes, on all nodes."""
    arrays = [np.full(soak.random.choice(SHAPES), float(number)) for number in range(4)]
    with soak.asking("computing", soak.nodes):
        results = list(soak.session.map(inside.doubled, arrays, nodes=soak.nodes))
    for array, result in zip(arrays, results, strict=True):
        soak.compare("what map returned", result, 2 * array)


def cancel(soak: Soak, node: str) -> None:
    """Call off a run that counts, sooner or later."""
    blob, times = soak.tensor(node, MOST_BETWEEN), 60
    if blob is None:
        return
    changes = {blob: counted(soak.model[node].value(blob), times), "one": Change(ONE)}
    group = soak.group("busy", ((node, blob),), "", times, 0.0003)
    delay = soak.random.random() * 0.015
    everything = soak.random.random() < 0.3
    with soak.asking("computing", [node], {node: changes}):
        future = soak.session.run_async(group)
        time.sleep(delay)
        stopped = True
        if everything:
            soak.session.cancel()
        else:
            stopped = future.cancel()
        try:
            future.result()
        except (concurrent.futures.CancelledError, procession.RunCancelledError) as error:
            if not stopped or getattr(error, "killed", None):
                raise
            soak.report.outcomes[type(error).__name__] += 1
            soak.model[node].interrupt(changes, died=soak.under_fire)
            changes.clear()
    for name in (blob, "one"):
        soak.look(node, name)


def time_out(soak: Soak, node: str) -> None:
    """Give a run that goes on for long no time for it."""
    group = soak.group("spin", ((node, ""),), "", 1_000_000, 0.0003)
    with soak.asking("computing", [node]):
        try:
            soak.session.run(group, timeout=0.01)
        except procession.RunTimeoutError as error:
            if error.killed:
                raise
            soak.report.outcomes["RunTimeoutError"] += 1
        else:
            raise Wrong("wrong errors", "a run of minutes ended within 10 ms")


def pause(soak: Soak, node: str) -> None:
    """Stop a worker for a moment: nothing comes of it."""
    pid = soak.session.stats()[node].pid
    soak.send(pid, signal.SIGSTOP)
    timer = threading.Timer(0.01 * soak.random.random(), soak.send, (pid, signal.SIGCONT))
    timer.start()
    try:
        count(soak, node)
    finally:
        timer.join()


def leave_a_child(soak: Soak, node: str) -> None:
    """Have a worker start a process that stays: it has to go with the worker."""
    if len(soak.children[node]) < 3:
        with soak.asking("computing", [node]):
            pid = soak.session.submit(inside.leave_a_child, node=node).result()
        # It may have gone with the worker by now.
        with contextlib.suppress(psutil.NoSuchProcess):
            soak.children[node].append(psutil.Process(pid))


def read_torn(soak: Soak, node: str) -> None:
    """Run what reads a torn blob."""
    blob = soak.pick(soak.model[node].torn())
    if blob is None:
        return
    group = work.group("double", ((node, blob),), soak.random.choice(NAMES), 1)
    with soak.asking("computing", [node]):
        try:
            soak.session.run(group)
        except procession.TornBlobError as error:
            if (error.blob, error.node) != (blob, node):
                raise
            soak.report.outcomes["TornBlobError"] += 1
        else:
            raise Wrong("wrong bytes", f"a run read {blob} of {node}, which is torn")


def guest(soak: Soak, node: str) -> None:
    """Open another session for a moment, and look whether the two know of each other."""
    if soak.under_fire:  # the killer might take its worker for ours
        return
    value = np.full(5_000, float(soak.random.randrange(100)))
    with soak.asking("guest", []), ProcessSession([node]) as session:
        session.workspace(node).feed_blob("guest", value)
        found = session.workspace(node).fetch_blob("guest")
        names = session.workspace(node).names()
    soak.compare("the names in a second session", names, ["guest"])
    soak.keep("a blob of a second session", found, value)


Action = Callable[["Soak", str], None]
ACTIONS: list[tuple[Action, float]] = [
    (feed, 30),
    (fetch, 30),
    (count, 12),
    (double, 8),
    (fail, 2),
    (remove, 5),
    (fill_in_place, 5),
    (write, 4),
    (compute, 5),
    (load, 5),
    (reply, 4),
    (large_text, 1),
    (private, 5),
    (at_once, 4),
    (mapped, 2),
    (cancel, 2),
    (time_out, 1),
    (pause, 0.5),
    (leave_a_child, 0.5),
    (read_torn, 4),
    (guest, 0.3),
]
"""What there is to do, and how often it is done beside the rest."""
