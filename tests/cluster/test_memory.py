"""The coordinator's memory of a node: segments, leases, the limit, drafts."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from procession.blobs.segment import Segment
from procession.blobs.shared import PAGE
from procession.cluster.memory import LARGE_LEASE, NodeMemory
from procession.cluster.protocol import Located, NeedSegment
from procession.errors import OutOfSharedMemoryError

F4 = np.dtype("f4")
MIB = 1 << 20
LIMIT = 30.0


class Owner:
    def __init__(self, limit: int | None = None) -> None:
        self.memory = NodeMemory("n1", limit, self.tidy)
        self.told: list[int] = []
        self.called = threading.Event()

    def tidy(self) -> bool:
        self.told += self.memory.ended()
        self.called.set()
        return True


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.memory.close()


@pytest.fixture
def memory(owner: Owner) -> NodeMemory:
    return owner.memory


def grant(memory: NodeMemory, least: int, preferred: int = 0, returned: Any = ()) -> Segment:
    return memory.grant(NeedSegment(least, preferred or least, tuple(returned)))


def own(
    memory: NodeMemory, segment: str, offset: int, shape: tuple[int, ...], dtype: Any, lease: int
) -> Any:
    """A writable array over a leased buffer."""
    draft = memory.draft(segment, offset, shape, dtype, lease)
    array = draft.array
    draft.release()
    return array


def names() -> set[str]:
    return set(os.listdir("/dev/shm"))


# Segments.


def test_what_is_granted_counts_until_it_is_taken_back(memory: NodeMemory) -> None:
    one, other = grant(memory, MIB), grant(memory, 2 * MIB)
    assert memory.size == 3 * MIB
    assert {one.name, other.name} <= names()
    memory.take_back([one.name])
    assert memory.size == 2 * MIB
    assert one.name not in names()
    third = grant(memory, PAGE, returned=[other.name])
    assert memory.size == PAGE
    assert not {one.name, other.name} & names()
    memory.close()
    assert memory.size == 0
    assert third.name not in names()


def test_views_of_what_was_taken_back_stay_good(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    array = own(memory, segment.name, 0, (10,), F4, 1)
    array[...] = 3
    memory.take_back([segment.name])
    assert (array == 3).all()
    array[...] = 4


# The limit.


def test_what_is_handed_back_makes_room() -> None:
    memory = NodeMemory("n1", 3 * MIB)
    segment = grant(memory, 2 * MIB)
    with pytest.raises(OutOfSharedMemoryError):
        grant(memory, 2 * MIB)
    assert memory.size == 2 * MIB
    grant(memory, 3 * MIB, returned=[segment.name])
    assert memory.size == 3 * MIB
    memory.close()


def test_no_more_than_the_limit_is_preferred() -> None:
    memory = NodeMemory("n1", MIB + 5000)
    grant(memory, PAGE)
    assert grant(memory, PAGE, 8 * MIB).size == MIB
    memory.close()


def test_an_error_has_all_the_figures() -> None:
    memory = NodeMemory("n1", 3 * MIB)
    grant(memory, 2 * MIB)
    with pytest.raises(OutOfSharedMemoryError) as caught:
        grant(memory, 2 * MIB)
    for part in ("'n1'", "memory limit", "2,097,152 bytes needed", "2,097,152 of 3,145,728"):
        assert part in str(caught.value)
    error = caught.value
    assert (error.needed, error.available, error.limit) == (2 * MIB, MIB, 3 * MIB)
    assert error.node == "n1"
    assert isinstance(error, MemoryError)
    with pytest.raises(OutOfSharedMemoryError) as caught:
        grant(memory, 4 * MIB)
    for part in ("'n1'", "4,194,304 bytes", "memory_limit is 3,145,728", "2,097,152 are taken"):
        assert part in str(caught.value)
    memory.close()


# Leases.


def located(segment: Segment, lease: int, shape: Any = (4, 5)) -> Located:
    return Located(segment.name, 64, shape, "f4", lease)


def test_a_view_is_a_snapshot(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    memory.target(segment.name, 64, (4, 5), F4)[...] = np.arange(20).reshape(4, 5)
    view = memory.view(located(segment, 1))
    np.testing.assert_array_equal(view, np.arange(20).reshape(4, 5))
    assert view.dtype == F4
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    assert memory.view(located(segment, 2), np.dtype(">f4")).dtype == ">f4"


def test_a_lease_ends_with_the_last_view(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    first, second = memory.view(located(segment, 7)), memory.view(located(segment, 8))
    assert memory.ended() == ()
    part = first[1:][::2]
    del first
    assert memory.ended() == ()
    del part
    assert memory.ended() == (7,)
    assert memory.ended() == ()
    with memoryview(second) as kept:
        del second
        assert memory.ended() == ()
        assert kept.readonly
    del kept
    assert memory.ended() == (8,)
    memory.end(9)
    assert memory.ended() == (9,)


@pytest.mark.parametrize("nbytes", [LARGE_LEASE - 1, LARGE_LEASE])
def test_when_a_large_lease_ends_the_worker_is_told(owner: Owner, nbytes: int) -> None:
    segment = grant(owner.memory, 2 * MIB)
    other = owner.memory.view(located(segment, 1, (10,)))
    array = owner.memory.view(Located(segment.name, 64, (nbytes,), "u1", 2))
    del other, array
    if nbytes >= LARGE_LEASE:
        assert owner.called.wait(LIMIT)
        assert owner.told == [1, 2]
    else:
        owner.memory.tidy_soon()
        assert owner.called.wait(LIMIT)
        assert owner.told == [1, 2]


def test_nobody_is_asked_while_there_are_questions(owner: Owner) -> None:
    """Those tell the worker, too. The janitor is answered that it is too early."""
    memory = owner.memory
    grant(memory, PAGE)
    assert memory._tidy_if_quiet()
    assert owner.called.is_set()
    owner.called.clear()
    memory.ended()
    assert not memory._tidy_if_quiet()
    assert not owner.called.is_set()
    assert memory._tidy_if_quiet()


def test_it_need_not_be_told(owner: Owner) -> None:
    """Nobody is there to be told of memory that is closed."""
    memory = NodeMemory("n1", None)
    segment = grant(memory, 2 * MIB)
    array = own(memory, segment.name, 0, (MIB,), np.dtype("u1"), 1)
    del array
    memory.tidy_soon()
    assert memory.ended() == (1,)
    memory.close()


def test_views_outlive_it() -> None:
    owner = Owner()
    memory = owner.memory
    called = owner.called
    segment = grant(memory, 2 * MIB)
    view = memory.view(located(segment, 1))
    large = own(memory, segment.name, 0, (MIB,), np.dtype("u1"), 2)
    draft = memory.draft(segment.name, 0, (10,), F4, 3)
    memory.close()
    memory.close()
    gone = weakref.ref(memory), weakref.ref(owner)
    del memory, owner
    assert (gone[0](), gone[1]()) == (None, None)
    large[...] = 1
    assert view.sum() != 0
    del view, large, draft
    gc.collect()
    assert not called.is_set()


def test_leases_end_in_any_thread_at_any_moment(memory: NodeMemory) -> None:
    """A collection of garbage may run in the middle of a question."""
    segment = grant(memory, MIB)
    told: list[int] = []
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 300):
                cycle: list[Any] = [memory.view(located(segment, number))]
                cycle.append(cycle)
                array = own(memory, segment.name, 0, (8,), F4, number + 10_000)
                del array, cycle
                told.extend(memory.ended())
        except BaseException as error:
            errors.append(error)

    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        threads = [threading.Thread(target=work, args=(n * 300,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    told.extend(memory.ended())
    assert not errors
    assert sorted(told) == [*range(1200), *range(10_000, 11_200)]


def test_the_interpreter_ends_with_views_alive() -> None:
    script = """
import sys, numpy as np
from procession.cluster.memory import NodeMemory
from procession.cluster.protocol import Located, NeedSegment
class Owner:
    def tidy(self): return True
owner = Owner()
memory = NodeMemory("n", None, owner.tidy)
segment = memory.grant(NeedSegment(1 << 22, 1 << 22, ()))
name = segment.name
sys.kept = [memory.view(Located(name, 0, (1 << 20,), "u1", 1)),
            memory.draft(name, 0, (1 << 20,), np.dtype("u1"), 3).array]
cycle = [memory.view(Located(name, 0, (1 << 20,), "u1", 4))]
cycle.append(cycle)
if len(sys.argv) > 1:
    memory.close()
else:
    segment.unlink()
"""
    for arguments in ([], ["closed"]):
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


# Drafts.


def test_a_draft_is_leased_until_nobody_has_it(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    draft = memory.draft(segment.name, 64, (100,), F4, 4)
    array = draft.array
    array[...] = 2
    assert draft.finish()
    draft.release()
    assert memory.ended() == ()
    assert (memory.target(segment.name, 64, (100,), F4) == 2).all()
    part = array[3:]
    del array
    assert memory.ended() == ()
    del part
    assert memory.ended() == (4,)


def test_a_draft_that_nobody_kept(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    draft = memory.draft(segment.name, 64, (100,), F4, 4)
    draft.array[...] = 2
    # Not before it is released: it must be adopted until then.
    assert draft.finish()
    assert memory.ended() == ()
    draft.release()
    assert memory.ended() == (4,)


def test_a_draft_that_failed(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    draft = memory.draft(segment.name, 64, (100,), F4, 4)
    array = draft.array
    draft.release()
    assert memory.ended() == ()
    array[...] = 1
    del array
    assert memory.ended() == (4,)


# What outlives the worker.


def test_the_leases_that_have_not_ended(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    name = segment.name
    assert memory.leases() == []
    view = memory.view(located(segment, 1, (10,)))
    at = memory.leases()[0]
    assert (at.number, at.segment, at.nbytes) == (1, name, view.nbytes)
    draft = memory.draft(name, 4096, (3, 4), F4, 2)
    memory.note(3, name, 8192, 100)
    assert memory.leases()[1:] == [(2, name, 4096, 48), (3, name, 8192, 100)]
    draft.release()
    memory.end(3)
    assert memory.leases() == [at]
    part = view[2:3]
    del view
    assert memory.leases() == [at]
    del part
    assert memory.leases() == []
    assert sorted(memory.ended()) == [1, 2, 3]


def test_what_nobody_needs_is_unlinked_and_the_rest_is_kept(memory: NodeMemory) -> None:
    one, other, third = grant(memory, MIB), grant(memory, 2 * MIB), grant(memory, PAGE)
    view = memory.view(located(other, 1))
    before = view.copy()
    memory.keep_only([one.name, "of somebody else"])
    assert memory.sizes() == {one.name: MIB}
    assert memory.size == MIB
    assert one.name in names()
    assert not {other.name, third.name} & names()
    np.testing.assert_array_equal(view, before)
    del view
    assert memory.ended() == (1,)


def test_leases_can_be_listed_while_others_end(memory: NodeMemory) -> None:
    segment = grant(memory, MIB)
    held = [memory.view(located(segment, number)) for number in range(100)]
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            memory.view(located(segment, 1000))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(300):
            found = {lease.number for lease in memory.leases()}
            assert set(range(100)) <= found <= {*range(100), 1000}
    finally:
        over.set()
        thread.join(LIMIT)
    del held
    assert memory.leases() == []
