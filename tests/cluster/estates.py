"""A worker's inside, and how it dies: for the tests of what it leaves.

As a script this is a process that forks for each line of its input: the child works on a workspace
in shared memory, and is killed in the middle of that.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from procession import ExecutionStep, Net, Node, ProcessSession, Task, TaskGroup, WorkspaceType
from procession.blobs.segment import Segment
from procession.blobs.shared import SegmentRequest, SharedPool
from procession.cluster import estate
from procession.cluster.board import BOARD_SIZE, RUN, Board, task_word
from procession.cluster.worker import _Monitor
from procession.core import execution_step
from procession.runtime.executor import Executable
from procession.runtime.program import NodeProgram
from procession.session.workspace import Workspace

F4 = np.dtype("f4")
SHAPES = {"big": [(1 << 18,), (300_000,)], "mid": [(2000,), (50, 50)], "small": [(10,), (3, 3)]}
EXTRA = ["extra0", "extra1", "extra2"]
OBJECTS = ["o0", "o1"]
KINDS = ["feed", "feed", "fill", "fill", "object", "remove", "lease", "poke", *["run"] * 6]

Model = dict[str, Any]
"""Blob -> (shape, the number that it is full of), or the object."""


class Change(NamedTuple):
    """Something that is done to a workspace."""

    kind: str
    name: str
    shape: tuple[int, ...]
    stamp: int


# Programs.


def _program(*nets: Net, private: bool = False, step: ExecutionStep | None = None) -> NodeProgram:
    kind = WorkspaceType.PRIVATE if private else WorkspaceType.GLOBAL
    with TaskGroup(kind) as group, Node("n1"):
        Task(step=step or list(nets))
    (program,) = ProcessSession.compile(group).programs
    return program


def _adds(name: str, *pairs: tuple[str, str]) -> Net:
    net = Net(name)
    for source, target in pairs:
        net.AddExternalInput(*({source, "one"} - set(net.external_inputs)))
        net.Add([source, "one"], target, broadcast=1)
    return net


def _fill(inputs: Any, outputs: Any) -> None:
    outputs[0].feed(inputs[0].data + 1)


def programs() -> dict[str, NodeProgram]:
    """What can be run, by name; the same in each process."""
    again = execution_step("again", [_adds("around", ("big", "big"), ("mid", "mid"))], num_iter=50)
    beside = execution_step(
        "beside",
        [
            execution_step("one", [_adds("first", ("big", "big"))], num_iter=3),
            execution_step("other", [_adds("second", ("mid", "mid"))], num_iter=3),
        ],
        concurrent_substeps=True,
    )
    python = Net("python")
    python.AddExternalInput("small")
    python.Python(_fill)(["small"], ["small"])
    return {
        "again": _program(step=again),
        "beside": _program(step=beside),
        "line": _program(_adds("line", ("mid", "sum"), ("small", "small"), ("sum", "sum"))),
        "python": _program(python),
        "private": _program(_adds("inner", ("big", "tmp"), ("tmp", "big")), private=True),
    }


EFFECTS: dict[str, Callable[[Model], Model]] = {
    "again": lambda model: _added(model, big=50, mid=50),
    "beside": lambda model: _added(model, big=3, mid=3),
    "line": lambda model: _added({**model, "sum": model["mid"]}, sum=2, small=1),
    "python": lambda model: _added(model, small=1),
    "private": lambda model: _added(model, big=2),
}
WRITES = {
    "again": {"big", "mid"},
    "beside": {"big", "mid"},
    "line": {"sum", "small"},
    "python": {"small"},
    "private": {"big"},
}


def _added(model: Model, **by: int) -> Model:
    return {**model, **{name: (model[name][0], model[name][1] + more) for name, more in by.items()}}


# Programs for one test each, and boards.


def words_of(program: NodeProgram, *types: str, run: int = 1) -> dict[int, int]:
    """A board on which the tasks are in the first operations of these types; "" for none."""
    numbers = {"": 0}
    for operation in program.operations():
        numbers.setdefault(operation.type, operation.number)
    found = {task_word(task): numbers[kind] for task, kind in enumerate(types)}
    return {**dict.fromkeys(map(task_word, range(600)), 0), **found, RUN: run}


def lowered(runnable: Any) -> NodeProgram:
    (program,) = ProcessSession.compile(runnable).programs
    return program


def group_of(*steps: Any, kind: WorkspaceType = WorkspaceType.GLOBAL) -> NodeProgram:
    with TaskGroup(kind) as group, Node("n1"):
        for step in steps:
            Task(step=step)
    return lowered(group)


def net_of(*operators: tuple[str, list[str], list[str]]) -> Net:
    net = Net("net")
    for kind, inputs, outputs in operators:
        for name in inputs:
            if not net.BlobIsDefined(name):
                net.AddExternalInput(name)
        getattr(net, kind)(inputs, outputs)
    return net


# Changes.


def start() -> Model:
    """What there is at first."""
    found: Model = {name: (shapes[0], 1) for name, shapes in SHAPES.items()}
    return {**found, "one": ((), 1), "o0": ["first"]}


def changes(seed: int, count: int) -> list[Change]:
    """What is done, in this order."""
    generator = random.Random(seed)
    found = []
    for _ in range(count):
        kind = generator.choice(KINDS)
        name, shape = "", ()
        if kind == "run":
            name = generator.choice(sorted(EFFECTS))
        elif kind == "object":
            name = generator.choice(OBJECTS)
        elif kind == "remove":
            name = generator.choice(EXTRA)
        elif kind in ("lease", "poke", "fill"):
            name = generator.choice(["big", "mid"])
        else:
            name = generator.choice([*SHAPES, *EXTRA])
            shape = generator.choice(SHAPES.get(name, [(), (5,), (3000,), (100_000,)]))
        found.append(Change(kind, name, shape, generator.randrange(1, 1 << 20)))
    return found


def an_object(stamp: int) -> Any:
    """Short or long."""
    return [stamp, "." * 5000] if stamp % 2 else {"stamp": stamp}


def effect(model: Model, change: Change) -> Model:
    """What there is after a change."""
    kind, name, shape, stamp = change
    if kind == "run":
        return EFFECTS[name](model)
    if kind == "feed":
        return {**model, name: (shape, stamp)}
    if kind == "object":
        return {**model, name: an_object(stamp)}
    if kind in ("poke", "fill"):
        return {**model, name: (model[name][0], stamp)}
    if kind == "remove":
        return {known: value for known, value in model.items() if known != name}
    return model


def _fill_slowly(array: Any, stamp: int) -> None:
    for part in np.array_split(array.reshape(-1), 20):
        part[...] = stamp


class Inside:
    """The workspace and the pool of a worker.

    Args:
        request: How the pool asks for a segment.
        board: The memory of its board.
        journal: Name and size of the segment for its journal.
        left: What its predecessor has left.
    """

    def __init__(
        self,
        request: SegmentRequest,
        board: Any,
        journal: tuple[str, int],
        left: estate.Estate | None = None,
    ) -> None:
        self.pool = SharedPool(request, estate.first_lease(left))
        self.workspace = Workspace(node="n1", pool=self.pool)
        estate.restore(journal, left, self.workspace, self.pool, request)
        self.board = Board(board)
        self.monitor = _Monitor(self.board.words)
        self.executables: dict[str, Executable] = {}
        self.leases: list[int] = []
        self.programs: dict[str, NodeProgram] = {}

    def begin(self) -> None:
        """Make what there is at first. All programs have been run: nets have become functions."""
        self._feed_first()
        for name in self.programs:
            self.do(Change("run", name, (), 0), 1)
        self._feed_first()
        self.workspace.remove_blob("sum")

    def _feed_first(self) -> None:
        for name, value in start().items():
            if isinstance(value, tuple):
                value = np.full(*value, F4)
            self.workspace.feed_blob(name, value)

    def lease(self, name: str) -> tuple[str, int, tuple[int, ...], str, int]:
        """Lease a blob's buffer: what a coordinator would be told."""
        blob = self.workspace.find(name)
        assert blob is not None
        number = self.pool.lease(blob.buffer)
        blob.tell_leased()
        buffer = blob.buffer
        return buffer.segment.name, buffer.offset, blob.value.shape, "f", number

    def do(self, change: Change, run: int) -> None:
        """Make a change; if it runs something, that is run number `run`."""
        kind, name, shape, stamp = change
        workspace = self.workspace
        if kind == "run":
            self.monitor.begin(run)
            if name not in self.executables:
                self.executables[name] = Executable(self.programs[name])
            self.executables[name].run(workspace, self.monitor)
        elif kind == "feed":
            workspace.feed_blob(name, np.full(shape, stamp, F4))
        elif kind == "object":
            workspace.feed_blob(name, an_object(stamp))
        elif kind == "remove":
            if workspace.has_blob(name):
                workspace.remove_blob(name)
        elif kind == "poke":
            self.monitor.begin(run)
            _fill_slowly(workspace.writable(name), stamp)
        elif kind == "fill":
            blob = workspace.make(name)
            target = blob.target(blob.value.shape, F4)
            _fill_slowly(target, stamp)
            blob.store(target)
        elif len(self.leases) < 4:
            self.leases.append(self.lease(name)[-1])
        else:
            self.pool.end_lease(self.leases.pop(0))


# The process that dies.


def _die_at(count: int) -> None:
    """Die at that opcode from here on."""
    left = count

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def _say(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _hear() -> Any:
    return json.loads(sys.stdin.buffer.readline())


def _live(order: Any, known: dict[str, NodeProgram]) -> None:
    def request(least: int, preferred: int, returned: Sequence[str], world: str = "") -> Segment:
        trace = sys.gettrace()
        sys.settrace(None)
        _say(least=least, preferred=preferred, returned=list(returned))
        granted = Segment.attach(*_hear())
        sys.settrace(trace)
        return granted

    board = Segment.attach(order["board"], BOARD_SIZE)
    inside = Inside(request, board.memory, order["journal"])
    inside.programs = known
    inside.begin()
    _say(held=[inside.lease("big"), inside.lease("mid")])
    progress = memoryview(Segment.attach(order["progress"], 4096).memory).cast("Q")
    wanted = changes(order["seed"], 4000)
    for number, change in enumerate(wanted, 1):
        if number == order["first"]:
            if "seconds" in order:
                signal.setitimer(signal.ITIMER_REAL, order["seconds"])
            else:
                _die_at(order["opcodes"])
        progress[0] = number
        inside.do(change, number)
        progress[1] = number
    os._exit(3)


def main() -> None:
    """Fork for each line."""
    known = programs()
    _say(ready=True)
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        order = json.loads(line)
        if isinstance(order, list):
            # A segment for one that has died meanwhile.
            continue
        child = os.fork()
        if child == 0:
            try:
                _live(order, known)
            except BaseException:
                sys.settrace(None)
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        _say(ended=os.waitstatus_to_exitcode(status), pid=child)


if __name__ == "__main__":
    main()
