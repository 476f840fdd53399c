"""Direct calls, with threads as members: over segments, and without; who refuses them, and when."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operators.worlds import WITHIN, fine, go_on, together

from procession.blobs.exchange import JOINED, PART, STATE, Lane, word
from procession.blobs.segment import Segment
from procession.errors import CollectiveError
from procession.operators import direct
from procession.operators import member as module
from procession.operators.direct import rounds_of
from procession.operators.world import World

LENGTH = PART // 4 + 12_345
"""Elements of float32 that are worth it."""


@given(
    lengths=st.lists(st.integers(0, 3000), max_size=4),
    size=st.integers(1, 5),
    itemsize=st.sampled_from([1, 4, 16, 1024]),
    room=st.sampled_from([1024, 5000, 1 << 20]),
)
def test_each_element_is_in_one_share(
    lengths: list[int], size: int, itemsize: int, room: int
) -> None:
    before, direct.ROUND = direct.ROUND, room
    try:
        rounds = rounds_of(lengths, size, itemsize)
    finally:
        direct.ROUND = before
    found = []
    for shares in rounds:
        assert len(shares) == size
        assert sum(stop - start for share in shares for _, start, stop in share) * itemsize <= room
        found += [
            (array, index)
            for share in shares
            for array, start, stop in share
            for index in range(start, stop)
        ]
    assert found == [(array, i) for array, length in enumerate(lengths) for i in range(length)]


class Memory:
    """Arrays in segments of their own, and where they are."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.refuses = False
        self._lock = threading.Lock()

    def array(self, like: Any) -> Any:
        """A copy in a segment."""
        with self._lock:
            self.segments.append(Segment.create(like.nbytes))
            segment = self.segments[-1]
        array = np.ndarray(like.shape, like.dtype, buffer=segment.memory)
        np.copyto(array, like)
        return array

    def place(self, array: Any) -> Any:
        for segment in self.segments:
            if array.base is segment.memory:
                return segment.name, segment.size, 0
        return None

    def finder(self, xs: Sequence[Any], outs: Sequence[Any]) -> Any:
        """What a call wants to know."""

        def places(which: Sequence[int], results: bool) -> Any:
            found = [self.place(xs[index]) for index in which]
            found += [self.place(outs[index]) for index in which] if results else []
            return None if None in found or self.refuses else found

        return places


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    for segment in memory.segments:
        segment.unlink()
        segment.close()


def values_for(size: int, length: int = LENGTH) -> list[Any]:
    generator = np.random.default_rng(1)
    return [generator.random(length, np.float32) for _ in range(size)]


def summed(values: Sequence[Any]) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def call(world: World, memory: Memory, xs: Sequence[Any], outs: Sequence[Any]) -> int:
    """Add up; how many direct calls there have been."""
    world.allreduce(xs, outs, "sum", go_on, memory.finder(xs, outs))
    return world.direct


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("in_place", [True, False])
def test_over_segments(memory: Memory, size: int, in_place: bool) -> None:
    values = values_for(size)
    small = np.arange(7, dtype=np.float32)

    def job(world: World) -> Any:
        x = memory.array(values[world.rank])
        out = x if in_place else memory.array(x)
        few = small + world.rank
        counts = []
        for _ in range(4):
            np.copyto(x, values[world.rank])
            few_out = np.empty_like(few)
            counts.append(call(world, memory, [x], [out]))
            np.testing.assert_array_equal(out, summed(values))
            # With a small one, it is another call, of which the first goes through the areas.
            np.copyto(x, values[world.rank])
            world.allreduce([few, x], [few_out, out], "sum", go_on, lambda *_: None)
            np.testing.assert_array_equal(few_out, summed([small + r for r in range(size)]))
            np.testing.assert_array_equal(out, summed(values))
        return counts

    for counts in fine(together(size, job, bell=False)):
        assert counts == [0, 1, 2, 3]


def test_a_bucket_of_large_and_small_ones(memory: Memory) -> None:
    values, small = values_for(3), np.arange(7, dtype=np.float32)

    def job(world: World) -> Any:
        x, few = memory.array(values[world.rank]), small + world.rank
        more = memory.array(x * 2)
        outs = [np.empty_like(few), memory.array(x), more]
        for _ in range(3):
            np.copyto(more, x * 2)
            call(world, memory, [few, x, more], outs)
            np.testing.assert_array_equal(outs[0], summed([small + r for r in range(3)]))
            np.testing.assert_array_equal(outs[1], summed(values))
            np.testing.assert_array_equal(more, summed([value * 2 for value in values]))
        return world.direct

    assert fine(together(3, job, bell=False)) == [2, 2, 2]


def test_something_moves_on_one_of_them(memory: Memory) -> None:
    values = values_for(2)

    def job(world: World) -> Any:
        x, counts = memory.array(values[world.rank]), []
        out = memory.array(x)
        for turn in range(6):
            if world.rank == turn % 3:
                out = memory.array(np.zeros_like(x))
            counts.append(call(world, memory, [x], [out]))
            np.testing.assert_array_equal(out, summed(values))
        return counts

    assert fine(together(2, job, bell=False)) == [[0, 1, 2, 3, 4, 5]] * 2


def test_it_lies_elsewhere_on_one_of_them_for_a_while(memory: Memory) -> None:
    values = values_for(2)

    def job(world: World) -> Any:
        x, counts = memory.array(values[world.rank]), []
        out, elsewhere = memory.array(x), np.empty_like(x)
        for turn in range(5):
            here = elsewhere if world.rank and turn in (1, 3) else out
            counts.append(call(world, memory, [x], [here]))
            np.testing.assert_array_equal(here, summed(values))
        return counts

    assert fine(together(2, job, bell=False)) == [[0, 0, 1, 1, 2]] * 2


def test_one_of_them_cannot_map_something(memory: Memory) -> None:
    """All go through the areas then, this time and from there on."""
    values = values_for(3)

    def job(world: World) -> Any:
        x = memory.array(values[world.rank])
        out = memory.array(x)
        if world.rank == 1:
            memory.segments[-1].unlink()
            memory.segments[0].unlink()
            memory.segments[1].unlink()
        for _ in range(4):
            assert call(world, memory, [x], [out]) == 0
            np.testing.assert_array_equal(out, summed(values))

    fine(together(3, job, bell=False))


def test_what_was_given_back_is_let_go_of(memory: Memory) -> None:
    values = values_for(2)
    meet = threading.Barrier(2, timeout=WITHIN)

    def job(world: World) -> Any:
        x = memory.array(values[world.rank])
        out = memory.array(x)
        call(world, memory, [x], [out])
        call(world, memory, [x], [out])
        assert len(world._maps._maps) == 2
        meet.wait()
        if world.rank == 0:
            for segment in memory.segments:
                segment.unlink()
        meet.wait()
        longer = memory.array(np.append(x, x))
        call(world, memory, [longer], [longer])
        call(world, memory, [longer], [longer])
        assert len(world._maps._maps) == 1
        np.testing.assert_array_equal(longer[:LENGTH], summed([summed(values)] * 2))
        world.leave()
        assert not world._maps._maps

    fine(together(2, job, bell=False))


def test_nothing_of_another_can_be_written(memory: Memory) -> None:
    values = values_for(2)

    def job(world: World) -> Any:
        x = memory.array(values[world.rank])
        for _ in range(2):
            call(world, memory, [x], [x])
        for mapped in world._maps._maps.values():
            with pytest.raises(TypeError):
                memoryview(mapped)[0] = 1
            with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
                np.frombuffer(mapped, np.uint8).flags.writeable = True

    fine(together(2, job, bell=False))


@pytest.mark.parametrize("bell", [True, False])
def test_without_copies_or_with_it_is_the_same_to_the_bit(memory: Memory, bell: bool) -> None:
    """Sums of many sizes, which depend on the order."""
    generator = np.random.default_rng(1)
    values = [
        (generator.standard_normal(LENGTH) * 10.0 ** generator.integers(-5, 5, LENGTH)).astype("f")
        for _ in range(4)
    ]

    def job(world: World) -> Any:
        x = memory.array(values[world.rank])
        copied = np.empty_like(x)
        memory.refuses = True
        world.allreduce([x], [copied], "mean", go_on)
        world.barrier(go_on)
        memory.refuses = False
        for _ in range(3):
            np.copyto(x, values[world.rank])
            world.allreduce([x], [x], "mean", go_on, memory.finder([x], [x]))
        return copied.tobytes(), x.tobytes(), world.direct

    results = fine(together(4, job, bell=bell))
    assert len({each for copied, x, _ in results for each in (copied, x)}) == 1
    # Threads hand each other arrays, so that none has to be asked for.
    assert {count for *_, count in results} == {4 if bell else 3}


@pytest.mark.parametrize("bell", [True, False])
def test_who_gives_up_may_have_changed_what_was_read(
    memory: Memory, bell: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All reduced their shares. One gives up before it takes the others', the other after that."""
    monkeypatch.setattr(module, "GRACE", 0.05)
    values = values_for(2)
    copies, ranks = direct.do_copies, threading.local()

    def do_copies(them: Any) -> None:
        if ranks.rank == 1:
            raise LookupError("one of them gives up")
        words = ranks.words
        while words[word(1, STATE)] == JOINED:
            pass
        copies(them)

    def job(world: World) -> Any:
        ranks.rank, ranks.words = world.rank, Lane(world._place.memory, 2).words
        x = memory.array(values[world.rank])
        if not bell:
            call(world, memory, [x], [x])
            np.copyto(x, values[world.rank])
        world.barrier(go_on)
        if world.rank == 0:
            monkeypatch.setattr(direct, "do_copies", do_copies)
        world.barrier(go_on)
        call(world, memory, [x], [x])

    first, second = together(2, job, bell=bell)
    assert isinstance(second, LookupError)
    assert isinstance(first, CollectiveError)
    assert first.others == ("n1",)


def test_large_and_small_ones_do_not_meet() -> None:
    """What differs is found whichever way a member would have gone."""

    def job(world: World) -> Any:
        x = np.zeros(LENGTH if world.rank else 3, np.float32)
        world.allreduce([x], [x], "sum", go_on)

    for result in together(2, job):
        assert isinstance(result, CollectiveError)
        assert f"float32({LENGTH})" in result.message
