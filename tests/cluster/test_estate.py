"""What a worker leaves that dies at any moment, and what the next one makes of it."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cluster.estates import (
    F4,
    WRITES,
    Change,
    Inside,
    Model,
    changes,
    effect,
    group_of,
    net_of,
    programs,
    start,
    words_of,
)

from procession.blobs.journal import JOURNAL_SIZE, ObjectIn, Torn
from procession.blobs.segment import Segment
from procession.cluster import estate
from procession.cluster.board import BOARD_SIZE, Board
from procession.cluster.estate import Estate
from procession.cluster.memory import NodeMemory
from procession.cluster.protocol import Located, NeedSegment
from procession.errors import BlobNotFoundError, TornBlobError
from procession.runtime.program import NodeProgram

ROOT = Path(__file__).resolve().parents[2]


class Mother:
    """Starts processes that die, and serves them meanwhile."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(ROOT), *sys.path])
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/cluster/estates.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
            bufsize=0,
        )
        try:
            assert self.hear() == {"ready": True}
        except BaseException:
            self.close()
            raise

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def say(self, what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


@pytest.fixture(scope="module")
def mother() -> Iterator[Mother]:
    mother = Mother()
    yield mother
    mother.close()


@pytest.fixture(scope="module")
def known() -> dict[str, NodeProgram]:
    return programs()


class House:
    """The coordinator's side of one node."""

    def __init__(self) -> None:
        self.memory = NodeMemory("n1", None)
        self.segments: list[Segment] = []
        self.board = self.segment(BOARD_SIZE)
        self.words = Board(self.board.memory).words
        self.progress = self.segment(4096)
        self.journal = self.segment(JOURNAL_SIZE)
        self.held: list[Any] = []
        self.values: list[Any] = []
        self.insides: list[Inside] = []

    def segment(self, size: int) -> Segment:
        self.segments.append(Segment.create(size))
        return self.segments[-1]

    def request(
        self, least: int, preferred: int, returned: Sequence[str], world: str = ""
    ) -> Segment:
        granted = self.memory.grant(NeedSegment(least, preferred, tuple(returned), world))
        return Segment.attach(granted.name, granted.size)

    def hold(self, at: Any) -> None:
        """Fetch what is leased."""
        segment, offset, shape, _, lease = at
        array = self.memory.view(Located(segment, offset, tuple(shape), "f", lease), F4)
        self.held.append(array)
        self.values.append(array.copy())

    def check_held(self) -> None:
        for array, value in zip(self.held, self.values, strict=True):
            np.testing.assert_array_equal(array, value)

    def inherit(
        self, run: int | None = None, program: NodeProgram | None = None, generation: int = 1
    ) -> Estate:
        return estate.inherit(
            node="n1",
            pid=123,
            journal=self.journal.memory,
            memory=self.memory,
            generation=generation,
            words=self.words,
            run=run,
            program=program,
            how="node 'n1' (process 123) was killed by SIGKILL\n  somewhere",
        )

    def successor(self, left: Estate, known: dict[str, NodeProgram]) -> Inside:
        self.journal = self.segment(JOURNAL_SIZE)
        place = self.journal.name, self.journal.size
        inside = Inside(self.request, self.board.memory, place, left)
        inside.programs = known
        self.insides.append(inside)
        return inside

    def first(self, known: dict[str, NodeProgram]) -> Inside:
        inside = Inside(
            self.request, self.board.memory, (self.journal.name, self.journal.size), None
        )
        inside.programs = known
        self.insides.append(inside)
        return inside

    def close(self) -> None:
        self.held.clear()
        for inside in self.insides:
            # The test's own names for them live longer than this.
            vars(inside).clear()
        gc.collect()
        self.memory.close()
        self.words.release()
        for segment in self.segments:
            segment.unlink()
            segment.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def same(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, tuple):
        return bool(value == wanted)
    shape, number = wanted
    return value.shape == shape and value.dtype == F4 and bool((value == number).all())


def check(inside: Inside, model: Model) -> None:
    assert set(inside.workspace.names()) == set(model)
    for name, wanted in model.items():
        assert same(inside.workspace.fetch_blob(name), wanted), name


# Death at any moment.

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_was_not_being_written_is_whole(
    mother: Mother, house: House, known: dict[str, NodeProgram], seed: int
) -> None:
    generator = random.Random(seed)
    order: dict[str, Any] = {
        "seed": seed,
        "first": generator.randrange(1, 30),
        "board": house.board.name,
        "progress": house.progress.name,
        "journal": (house.journal.name, house.journal.size),
    }
    if seed % 2:
        order["seconds"] = generator.uniform(0.0001, 0.02)
    else:
        order["opcodes"] = generator.randrange(1, 20_000)
    mother.say(order)
    while "ended" not in (said := mother.hear()):
        if "held" in said:
            for at in said["held"]:
                house.hold(at)
        else:
            segment = house.request(said["least"], said["preferred"], said["returned"])
            mother.say((segment.name, segment.size))
    assert said["ended"] in (-signal.SIGKILL, -signal.SIGALRM)
    begun, ended = memoryview(house.progress.memory).cast("Q")[:2]
    assert begun - ended in (0, 1)
    wanted = changes(seed, begun)
    model, exposed = start(), set()
    for change in wanted[:ended]:
        model = effect(model, change)
        if change.kind == "poke":
            exposed.add(change.name)
    current = wanted[-1] if begun > ended else None
    if current is None:
        left = house.inherit()
    else:
        running = current.kind in ("run", "poke")
        left = house.inherit(
            begun if running else None,
            known[current.name] if current.kind == "run" else None,
        )
    house.check_held()
    inside = house.successor(left, known)
    house.check_held()
    assert set(inside.workspace.names()) == set(left.names)
    assert dict(inside.workspace.torn) == left.torn
    after = check_against(inside, model, current, exposed)
    go_on(house, inside, after, seed, known)


def check_against(inside: Inside, model: Model, current: Change | None, exposed: set[str]) -> Model:
    """What was not being written is as it was; the rest is torn, or whole."""
    touched: set[str] = set()
    after = model
    if current is not None:
        after = effect(model, current)
        if current.kind == "run":
            touched = WRITES[current.name] | exposed
        elif current.kind == "poke":
            touched = {current.name} | exposed
        elif current.kind != "lease":
            touched = {current.name}
    found: Model = {}
    workspace = inside.workspace
    assert set(workspace.torn) <= touched
    for name in {*model, *after}:
        if name in workspace.torn:
            assert not workspace.has_blob(name)
            with pytest.raises(TornBlobError, match=name):
                workspace.fetch_blob(name)
            continue
        if not workspace.has_blob(name):
            assert name in touched
            assert name not in model or name not in after
            continue
        value = workspace.fetch_blob(name)
        if name not in touched:
            assert same(value, model[name]), name
            found[name] = model[name]
        elif current is not None and current.kind == "run" and name in WRITES[current.name]:
            # Some of its operations have been done.
            first = value.flat[0]
            assert (value == first).all(), name
            assert name not in model or name == "sum" or model[name][1] <= first <= after[name][1]
            found[name] = value.shape, first
        else:
            options = [each[name] for each in (model, after) if name in each]
            (found[name],) = [each for each in options if same(value, each)][:1]
    assert set(workspace.names()) == set(found)
    return found


def go_on(
    house: House, inside: Inside, model: Model, seed: int, known: dict[str, NodeProgram]
) -> None:
    """The new worker does as well as the one before, and can itself be followed by another."""
    for name in ("big", "mid", "small", "one"):
        if name not in model:
            value = start()[name]
            inside.workspace.feed_blob(name, np.full(*value, F4))
            model = {**model, name: value}
    for change in changes(seed + 1000, 25):
        inside.do(change, 10_000)
        model = effect(model, change)
    house.check_held()
    model_names = {name for name in model if name not in inside.workspace.torn}
    model = {name: model[name] for name in model_names}
    check(inside, model)
    # The coordinator lets go of what it holds.
    numbers = {lease.number for lease in house.memory.leases()}
    house.held.clear()
    house.values.clear()
    told = set(house.memory.ended())
    assert told == numbers
    for number in (*told, *inside.leases):
        inside.pool.end_lease(number)
    assert not inside.pool._leases
    left = house.inherit(generation=2)
    assert left.leases == ()
    third = house.successor(left, known)
    check(third, model)
    assert dict(third.workspace.torn) == dict(inside.workspace.torn)


# What becomes of it.


@pytest.fixture
def inside(house: House) -> Inside:
    return house.first({})


def relu(source: str = "x", target: str = "y") -> NodeProgram:
    return group_of(net_of(("Relu", [source], [target])))


def test_nothing_is_torn_while_nothing_runs(house: House, inside: Inside) -> None:
    inside.workspace.feed_blob("x", np.ones(3))
    program = relu("x", "x")
    for task, number in words_of(program, "Relu", run=7).items():
        house.words[task] = number
    assert house.inherit(None, None).torn == {}
    assert house.inherit(8, program).torn == {}
    left = house.inherit(7, program)
    assert left.torn["x"].operator == "Relu"
    reason = left.torn["x"].reason
    assert (
        reason == "operator Relu was writing it when node 'n1' (process 123) was killed by SIGKILL"
    )
    assert left.names == frozenset()
    assert left.segments == ()
    assert house.memory.size == 0


def test_what_is_not_used_is_unlinked(house: House, inside: Inside) -> None:
    workspace = inside.workspace
    workspace.feed_blob("keep", np.ones(1 << 18))
    workspace.feed_blob("drop", np.ones(1 << 18))
    workspace.feed_blob("held", np.ones(1 << 18))
    house.hold(inside.lease("held"))
    workspace.remove_blob("drop")
    workspace.remove_blob("held")
    assert len(house.memory.sizes()) == 3
    left = house.inherit()
    assert len(house.memory.sizes()) == len(left.segments) == 2
    (lease,) = left.leases
    assert lease == house.memory.leases()[0]
    after = house.successor(left, {})
    assert after.workspace.names() == ["keep"]
    # What is held is neither written nor used again.
    for number in range(5):
        after.workspace.feed_blob("keep", np.full(1 << 18, number))
        after.workspace.feed_blob("other", np.full(1 << 18, number))
    house.check_held()
    assert after.lease("keep")[-1] > 1 << 40


def test_objects(house: House, inside: Inside) -> None:
    workspace = inside.workspace
    plain = {"short": [1, "a"], "long": b"." * 100_000, "text": np.array(["a", None], object)}
    for name, value in plain.items():
        workspace.feed_blob(name, value)
    workspace.feed_blob("none", None)
    workspace.feed_blob("lock", threading.Lock())
    workspace.fetch_blob("short").append("later")
    for generation in (1, 2):
        left = house.inherit(generation=generation)
        assert set(left.torn) == {"lock"}
        workspace = house.successor(left, {}).workspace
        assert workspace.names() == ["long", "none", "short", "text"]
        for name, value in plain.items():
            assert repr(workspace.fetch_blob(name)) == repr(value)
        with pytest.raises(TornBlobError, match="it held a lock, which lives and dies with"):
            workspace.fetch_blob("lock")


def test_an_object_that_cannot_be_read_again_is_torn(house: House, inside: Inside) -> None:
    inside.workspace.feed_blob("x", [1])
    left = house.inherit()
    left = left._replace(objects={"x": ObjectIn(b"no pickle")})
    workspace = house.successor(left, {}).workspace
    with pytest.raises(TornBlobError, match="cannot be read again"):
        workspace.fetch_blob("x")


def test_a_tensor_whose_record_makes_no_sense_is_torn(house: House, inside: Inside) -> None:
    inside.workspace.feed_blob("x", np.ones(10))
    inside.workspace.feed_blob("y", np.ones(10))
    left = house.inherit()
    tensors = {"x": left.tensors["x"]._replace(shape=(1 << 40,)), "y": left.tensors["y"]}
    workspace = house.successor(left._replace(tensors=tensors), {}).workspace
    with pytest.raises(TornBlobError, match="cannot be read again"):
        workspace.fetch_blob("x")
    assert workspace.names() == ["y"]


def test_all_is_lost_when_the_journal_was_overwritten(house: House, inside: Inside) -> None:
    inside.workspace.feed_blob("x", np.ones(10))
    inside.workspace.feed_blob("y", np.ones(10))
    house.journal.memory[70:90] = b"\xff" * 20
    left = estate.inherit(
        node="n1", pid=5, journal=house.journal.memory, memory=house.memory, generation=1,
        words=house.words, run=None, program=None, names=["x", "y"],
    )  # fmt: skip
    assert left.names == frozenset()
    assert set(left.torn) == {"x", "y"}
    assert "process 5 of node 'n1' died, and something had overwritten" in left.torn["x"].reason


def test_the_same_estate_serves_again(house: House, inside: Inside) -> None:
    workspace = inside.workspace
    workspace.feed_blob("large", np.arange(1 << 18))
    workspace.feed_blob("small", np.arange(10))
    workspace.feed_blob("object", "." * 10_000)
    house.hold(inside.lease("large"))
    left = house.inherit()
    for generation in (1, 2, 3):
        # It dies before it is ready, and whatever it has asked for is of no use.
        house.successor(left, {})
        house.request(1 << 20, 1 << 20, ())
        left = estate.again(left, house.memory)
        assert left.generation == generation + 1
        assert set(house.memory.sizes()) == {name for name, _ in left.segments}
    workspace = house.successor(left, {}).workspace
    np.testing.assert_array_equal(workspace.fetch_blob("large"), np.arange(1 << 18))
    np.testing.assert_array_equal(workspace.fetch_blob("small"), np.arange(10))
    assert workspace.fetch_blob("object") == "." * 10_000
    house.check_held()


def test_a_draft_can_be_finished_after_a_death(house: House, inside: Inside) -> None:
    lease, buffer = inside.pool.reserve(1 << 20)
    draft = house.memory.draft(buffer.segment.name, buffer.offset, (1 << 18,), F4, lease)
    draft.array[...] = 5
    after = house.successor(house.inherit(), {})
    assert draft.finish()
    blob = after.workspace.make("x")
    blob.take(after.pool.claim(lease), (1 << 18,), F4)
    after.workspace.keep("x", blob)
    assert same(after.workspace.fetch_blob("x"), ((1 << 18,), 5))
    draft.release()
    again = house.successor(house.inherit(generation=2), {})
    assert same(again.workspace.fetch_blob("x"), ((1 << 18,), 5))


def test_a_program_that_reads_what_is_torn_says_so(house: House, inside: Inside) -> None:
    inside.workspace.feed_blob("x", np.ones(3))
    inside.workspace.tear("x", Torn("because", "Mul"))
    inside.programs = {"relu": relu()}
    with pytest.raises(
        TornBlobError, match=r"(?s)'x' .*because.*wanted by operator Relu"
    ) as caught:
        inside.do(Change("run", "relu", (), 0), 1)
    error = caught.value
    assert (error.blob, error.node, error.operator, error.task) == ("x", "n1", "Mul", "n1/task")
    assert not isinstance(error, BlobNotFoundError)
    inside.workspace.feed_blob("x", np.ones(3))
    inside.do(Change("run", "relu", (), 0), 2)
    assert inside.workspace.names() == ["x", "y"]
    assert dict(inside.workspace.torn) == {}
    assert house.inherit().torn == {}
