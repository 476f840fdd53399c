"""World over plain memory, with threads as members: results, and what is wrong is told."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operators.worlds import RUN, fine, go_on, together, venue

from procession.blobs.exchange import DEAD, JOINED, PART, STATE, Lane, Seats, lane_size
from procession.errors import CollectiveError, CollectiveTimeoutError, SerializationError
from procession.operators import member as module
from procession.operators.member import Clock
from procession.operators.plans import UFUNCS, parts_of
from procession.operators.world import World

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "complex64"]
BIG = PART // 4 * 2 + 1000
"""Elements of float32 that take three parts."""


def expected(op: str, values: list[Any]) -> Any:
    """What NumPy makes of it, in the order of the ranks."""
    dtype = values[0].dtype
    if op == "mean" and dtype.kind in "iu":
        total = sum([value.astype(np.int64) for value in values])
        return np.asarray(total // len(values)).astype(dtype)
    if op == "mean" and dtype == np.float16:
        return np.asarray(np.mean(values, axis=0, dtype=np.float32)).astype(dtype)
    result = reduce(UFUNCS[op], values)
    return result / result.dtype.type(len(values)) if op == "mean" else result


def values_for(size: int, shape: tuple[int, ...], dtype: str, seed: int = 1) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [np.asarray(generator.random(shape) * 9).astype(dtype) for _ in range(size)]


class TestResults:
    @given(
        size=st.integers(1, 4),
        shapes=st.lists(
            st.lists(st.sampled_from([0, 1, 2, 3, 70, 5000]), max_size=2).map(tuple),
            min_size=1,
            max_size=3,
        ),
        dtype=st.sampled_from(DTYPES),
        op=st.sampled_from(sorted(UFUNCS)),
        bell=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_allreduce_is_what_numpy_makes_in_the_order_of_ranks(
        self, size: int, shapes: list[tuple[int, ...]], dtype: str, op: str, bell: bool
    ) -> None:
        # A bucket of several tensors; each member sees those of all.
        shapes = [shape if np.prod(shape) < 1 << 20 else (1,) for shape in shapes]
        columns = [values_for(size, shape, dtype, seed) for seed, shape in enumerate(shapes)]

        def job(world: World) -> Any:
            xs = [column[world.rank] for column in columns]
            outs = [np.empty_like(x) for x in xs]
            world.allreduce(xs, outs, op, go_on)
            again = [x.copy() for x in xs]
            world.allreduce(again, again, op, go_on)
            return outs, again

        with np.errstate(all="ignore"):
            wanted = [expected(op, column) for column in columns]
            for outs, again in fine(together(size, job, bell=bell)):
                for out, same, right in zip(outs, again, wanted, strict=True):
                    np.testing.assert_array_equal(out, right)
                    np.testing.assert_array_equal(same, right)

    @pytest.mark.parametrize("size", [1, 2, 3, 4])
    @pytest.mark.parametrize("shape", [(), (0,), (5, 7), (BIG,), (BIG // 3, 3)])
    def test_all_calls_one_after_the_other(self, size: int, shape: tuple[int, ...]) -> None:
        values = values_for(size, shape, "float32")
        total, last = expected("sum", values), values[-1]

        def job(world: World) -> Any:
            x, rank = values[world.rank], world.rank
            for _ in range(2):
                out = np.empty_like(x)
                world.allreduce([x], [out], "sum", go_on)
                np.testing.assert_array_equal(out, total)
                world.barrier(go_on)
                out = x.copy()
                world.broadcast([out], [out], size - 1, go_on)
                np.testing.assert_array_equal(out, last)
                gathered = np.empty((size, *shape), x.dtype)
                world.allgather([x], gathered, go_on)
                np.testing.assert_array_equal(gathered, np.stack(values))
                out = np.full_like(x, -1)
                world.reduce([x], [out] if rank == size - 1 else [], "sum", size - 1, go_on)
                np.testing.assert_array_equal(
                    out, total if rank == size - 1 else np.full_like(x, -1)
                )
                rows = np.stack([x + share for share in range(size)])
                world.reduce_scatter([rows], [out], "max", go_on)
                np.testing.assert_array_equal(out, expected("max", values) + rank)

        fine(together(size, job))

    def test_allgather_of_several_tensors_is_flat(self) -> None:
        def job(world: World) -> Any:
            xs = [np.full((2, 2), world.rank), np.full(1, 10 + world.rank)]
            out = np.empty(10, int)
            world.allgather(xs, out, go_on)
            return out.tolist()

        assert fine(together(2, job)) == [[0, 0, 0, 0, 10, 1, 1, 1, 1, 11]] * 2

    @pytest.mark.parametrize("size", [2, 3])
    @pytest.mark.parametrize("length", [3, BIG])
    @pytest.mark.parametrize(
        ("dtype", "value"), [("float16", 60_000), ("int8", 100), ("int16", -30_000)]
    )
    def test_a_mean_of_which_the_sum_has_no_place(
        self, size: int, length: int, dtype: str, value: int
    ) -> None:
        def job(world: World) -> Any:
            x = np.full(length, value, dtype)
            world.allreduce([x], [x], "mean", go_on)
            return x

        for got in fine(together(size, job)):
            assert (got == np.array(value, dtype)).all()

    def test_every_time_the_same_bytes(self) -> None:
        values = values_for(3, (BIG,), "float32")

        def job(world: World) -> Any:
            outs = [np.empty_like(values[0]) for _ in range(3)]
            for out in outs:
                world.allreduce([values[world.rank]], [out], "sum", go_on)
            # Small pieces go another way than large ones.
            for start in range(0, 9000, 3000):
                piece = np.s_[start : start + 3000]
                world.allreduce([values[world.rank][piece]], [outs[0][piece]], "sum", go_on)
            return [out.tobytes() for out in outs]

        results = fine(together(3, job))
        assert len({each for result in results for each in result}) == 1

    def test_not_a_number_comes_through(self) -> None:
        def job(world: World) -> Any:
            x = np.array([np.nan, 1.0] if world.rank else [1.0, np.nan])
            world.allreduce([x], [x], "max", go_on)
            return np.isnan(x).all()

        assert fine(together(2, job)) == [True, True]

    def test_strings_are_broadcast(self) -> None:
        def job(world: World) -> Any:
            x = np.array(["abc", "d"] if world.rank else ["", "xyz"])
            world.broadcast([x], [x], 1, go_on)
            return x.tolist()

        assert fine(together(2, job)) == [["abc", "d"]] * 2

    def test_without_order_of_stores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "STORES_IN_ORDER", False)
        self.test_all_calls_one_after_the_other(3, (5, 7))
        TestMessages().test_a_message("float32", (BIG,))

    def test_members_that_sleep_while_they_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LENDING", 3)
        late = threading.Event()

        def job(world: World) -> None:
            if world.rank:
                late.wait(0.1)
            world.barrier(go_on)

        fine(together(2, job, bell=False))

    @given(
        st.lists(st.integers(0, 30), min_size=1, max_size=5),
        st.integers(1, 12),
    )
    def test_parts_are_all_there_is_in_order(self, lengths: list[int], room: int) -> None:
        parts = parts_of(lengths, room)
        assert parts
        seen: list[tuple[int, int]] = []
        for part in parts:
            at = 0
            for span in part:
                assert span.at == at
                at += span.stop - span.start
                seen += [(span.array, each) for each in range(span.start, span.stop)]
            assert at <= room
        assert all(sum(s.stop - s.start for s in part) == room for part in parts[:-1])
        assert seen == [(a, each) for a, length in enumerate(lengths) for each in range(length)]


class TestMessages:
    @pytest.mark.parametrize("dtype", ["float32", "int8", "<U3", "bool"])
    @pytest.mark.parametrize("shape", [(), (0, 2), (3,), (BIG,)])
    def test_a_message(self, dtype: str, shape: tuple[int, ...]) -> None:
        value = np.asarray(np.random.default_rng(1).random(shape) * 100).astype(dtype)

        def job(world: World) -> Any:
            if world.rank:
                return world.receive(0, 4, go_on)
            return world.send(value, 1, 4, go_on)

        got, sender, tag = fine(together(2, job))[1]
        assert (got.dtype, got.shape, sender, tag) == (value.dtype, value.shape, 0, 4)
        np.testing.assert_array_equal(got, value)

    @pytest.mark.parametrize(
        "value",
        [
            np.ones((1,) * 32, np.float32),
            np.array([(1, 2.5)], [("a", "i4"), ("b", ">f4", (2,))]),
            np.array(["2020"], "M8[Y]"),
        ],
    )
    def test_a_message_of_another_kind(self, value: Any) -> None:
        def job(world: World) -> Any:
            if world.rank:
                return world.receive(0, 0, go_on)[0]
            return world.send(value, 1, 0, go_on)

        got = fine(together(2, job))[1]
        assert (got.dtype, got.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(got, value)

    def test_too_many_fields(self) -> None:
        def job(world: World) -> None:
            if world.rank == 0:
                fields = [(f"field {number}", "i4") for number in range(200)]
                with pytest.raises(TypeError, match="too many fields"):
                    world.send(np.zeros(1, fields), 1, 0, go_on)
            world.barrier(go_on)

        fine(together(2, job))

    def test_by_tag_and_from_anybody(self) -> None:
        def job(world: World) -> Any:
            if world.rank == 0:
                return [world.receive(-1, tag, go_on)[0].item() for tag in (2, 1)]
            return world.send(np.array(world.rank * 10), 0, world.rank, go_on)

        assert fine(together(3, job))[0] == [20, 10]

    def test_one_after_the_other_in_order(self) -> None:
        def job(world: World) -> Any:
            if world.rank == 1:
                return [world.receive(0, -1, go_on)[0].item() for _ in range(50)]
            for number in range(50):
                world.send(np.array(number), 1, 0, go_on)
            return None

        assert fine(together(2, job, bell=False))[1] == list(range(50))

    def test_both_send(self) -> None:
        results = together(2, lambda world: world.send(np.ones(3), 1 - world.rank, 0, go_on))
        assert all(isinstance(result, CollectiveError) for result in results)
        assert any("sends this one a tensor" in str(result) for result in results)

    def test_a_message_beside_a_call(self) -> None:
        def job(world: World) -> None:
            if world.rank:
                world.send(np.ones(3), 0, 0, go_on)
            else:
                world.barrier(go_on)

        results = together(2, job)
        assert all(isinstance(result, CollectiveError) for result in results)

    def test_of_a_member_that_ends_without_sending(self) -> None:
        def job(world: World) -> None:
            if world.rank:
                world.ended(RUN)
            else:
                world.receive(-1, -1, go_on)

        error = together(2, job)[0]
        assert isinstance(error, CollectiveError)
        assert "wants a tensor from anybody" in str(error)
        assert error.others == ("n1",)


class TestWhatIsWrong:
    @pytest.mark.parametrize("size", [2, 3])
    def test_all_are_told_of_calls_that_differ(self, size: int) -> None:
        def job(world: World) -> None:
            x = np.zeros(3 + (world.rank == 1))
            world.allreduce([x], [x], "sum", go_on)

        for rank, error in enumerate(together(size, job)):
            assert isinstance(error, CollectiveError)
            assert error.rank == rank
            assert "rank 0 (node 'n0'): Allreduce(sum, float64(3))" in error.message
            assert "rank 1 (node 'n1'): Allreduce(sum, float64(4))" in error.message

    @pytest.mark.parametrize("count", [24, 200])
    def test_of_many_tensors_the_first_that_differs_is_told(self, count: int) -> None:
        def job(world: World) -> None:
            xs = [np.zeros((number % 90 + 10, 64), np.float32) for number in range(count)]
            xs[-1] = xs[-1][world.rank :]
            world.allreduce(xs, xs, "sum", go_on)

        rows = (count - 1) % 90 + 10
        errors = [str(error) for error in together(2, job)]
        for mine, its in ((0, 1), (1, 0)):
            assert f"Allreduce(sum, {count} tensors: float32(10, 64), " in errors[mine]
            assert (
                f"tensor {count - 1} is float32({rows - mine}, 64) on rank {mine}, "
                f"and float32({rows - its}, 64) on rank {its}"
            ) in errors[mine]

    def test_of_many_tensors_the_op_is_told(self) -> None:
        def job(world: World) -> None:
            xs = [np.zeros((number + 1, 64), np.float32) for number in range(100)]
            world.allreduce(xs, xs, "max" if world.rank else "sum", go_on)

        for error in together(2, job):
            assert "rank 0 (node 'n0'): Allreduce(sum, 100 tensors: float32(1, 64), " in str(error)
            assert "rank 1 (node 'n1'): Allreduce(max, 100 tensors: float32(1, 64), " in str(error)

    @pytest.mark.parametrize("change", ["op", "root", "type", "dtype", "order"])
    def test_every_kind_of_difference(self, change: str) -> None:
        def job(world: World) -> None:
            other = world.rank == 1
            x = np.zeros(3, np.float32 if change == "dtype" and other else np.float64)
            if change == "type" and other:
                world.allgather([x], np.zeros(6), go_on)
            elif change == "root":
                world.broadcast([x], [x], world.rank, go_on)
            elif change == "order":
                for step in (0, 1) if other else (1, 0):
                    if step:
                        world.barrier(go_on)
                    else:
                        world.allreduce([x], [x], "sum", go_on)
            else:
                world.allreduce([x], [x], "max" if change == "op" and other else "sum", go_on)

        for error in together(2, job):
            assert isinstance(error, CollectiveError)
            assert "do not make the same call" in error.message

    def test_afterwards_it_cannot_be_used(self) -> None:
        def job(world: World) -> Any:
            if world.rank:
                with pytest.raises(CollectiveError):
                    world.allreduce([np.ones(1)], [np.ones(1)], "sum", go_on)
            else:
                with pytest.raises(CollectiveError):
                    world.barrier(go_on)
            for _ in range(2):
                with pytest.raises(CollectiveError, match="cannot be used any more"):
                    world.barrier(go_on)
            return True

        assert together(2, job) == [True, True]

    def test_fewer_calls(self) -> None:
        def job(world: World) -> None:
            for _ in range(3 if world.rank else 5):
                world.barrier(go_on)
            world.ended(RUN)

        error, other = together(2, job)
        assert other is None
        assert isinstance(error, CollectiveError)
        assert "call 4" in error.message
        assert "ended its program after 3 calls" in error.message

    def test_an_end_in_another_run_is_none(self) -> None:
        told = threading.Event()

        def job(world: World) -> None:
            if world.rank:
                world.ended(RUN - 1)
                told.set()
            else:
                told.wait()
            world.barrier(go_on)

        fine(together(2, job))

    def test_a_member_that_left_or_was_dropped(self) -> None:
        def job(world: World) -> None:
            if world.rank:
                world.leave()
            world.barrier(go_on)

        error, own = together(2, job)
        assert "rank 1 (node 'n1') has left after 0 calls" in str(error)
        assert "it was destroyed" in str(own)

    def test_a_member_that_is_garbage(self) -> None:
        place = venue(2)
        world, other = (World(place, rank, 5, Clock(RUN)) for rank in range(2))
        other.ended(RUN)
        del other
        gc.collect()
        world._clock.run = RUN + 1
        with pytest.raises(CollectiveError, match="has left"):
            world.barrier(go_on)

    def test_a_member_that_died(self) -> None:
        place = venue(2)
        world, other = (World(place, rank, 5, Clock(RUN)) for rank in range(2))
        Seats(place.memory, 2, 1).dead(1)
        world._clock.run = RUN + 1
        with pytest.raises(CollectiveError, match=r"rank 1 \(node 'n1'\) is gone"):
            world.barrier(go_on)
        del other

    def test_of_a_member_that_fails_in_this_run_one_waits_to_be_called_off(self) -> None:
        """What has made it fail is to be told, not that it has."""

        class CalledOffError(Exception):
            pass

        failed = threading.Event()

        def check() -> None:
            if failed.is_set():
                raise CalledOffError

        def job(world: World) -> None:
            if world.rank:
                try:
                    world.barrier(lambda: 1 / 0)
                finally:
                    failed.set()
            else:
                world.allreduce([np.ones(2)], [np.ones(2)], "sum", check)

        def slow(world: World) -> None:
            world.rank or failed.wait()
            job(world)

        results = together(2, slow)
        assert [type(result) for result in results] in (
            [CalledOffError, ZeroDivisionError],
            [CollectiveError, ZeroDivisionError],
        )

    def test_after_a_while_it_is_told_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "GRACE", 0.05)

        late = threading.Event()

        def check() -> None:
            raise MemoryError("no room")

        def job(world: World) -> None:
            if world.rank == 0:
                late.wait(0.1)
            world.barrier(check if world.rank else go_on)

        def twice(world: World) -> None:
            job(world)
            job(world)

        error, own = together(2, twice)
        assert isinstance(own, MemoryError)
        assert "has given up: no room" in str(error)

    def test_nobody_comes(self) -> None:
        begun = threading.Event()

        def job(world: World) -> None:
            if world.rank == 0:
                world.barrier(go_on)
            begun.set()

        error = together(3, job, timeout=0.1)[0]
        assert isinstance(error, CollectiveTimeoutError)
        assert isinstance(error, TimeoutError)
        assert error.others == ("n1", "n2")
        assert "0.1 s" in error.message

    def test_who_has_not_joined_is_told_of(self) -> None:
        world = World(venue(2), 0, 0.1, Clock(RUN))
        with pytest.raises(CollectiveTimeoutError, match="which has not joined"):
            world.barrier(go_on)

    def test_who_will_not_join_is_told_of(self) -> None:
        place = venue(2)
        world = World(place, 0, 5, Clock(RUN))
        Seats(place.memory, 2, 1).ended_without(1, RUN)
        with pytest.raises(CollectiveError, match="ended its program after 0 calls"):
            world.barrier(go_on)

    def test_two_operators_at_once(self) -> None:
        world = World(venue(2), 0, 5, Clock(RUN))
        inside, leave = threading.Event(), threading.Event()

        def check() -> None:
            inside.set()
            leave.wait()
            raise InterruptedError

        def wait() -> None:
            with pytest.raises(InterruptedError):
                world.barrier(check)

        thread = threading.Thread(target=wait)
        thread.start()
        assert inside.wait(20)
        with pytest.raises(
            CollectiveError, match=r"a blob with a name of its own.*CloneCommonWorld"
        ):
            world.barrier(go_on)
        leave.set()
        thread.join()

    def test_a_seat_is_taken_once(self) -> None:
        place = venue(2)
        world = World(place, 0, 5, Clock(RUN))
        with pytest.raises(
            CollectiveError, match=r"joined it before in this run\. A world is created once"
        ):
            World(place, 0, 5, Clock(RUN))
        gc.collect()
        assert not Seats(place.memory, 2, 1).deserted()
        assert world._words[STATE] == JOINED
        assert "rank 0 of 2" in repr(world)

    def test_clones(self) -> None:
        def job(world: World) -> Any:
            clones = [world.clone(), world.clone()]
            for each in (clones[1], world, clones[0]):
                each.barrier(go_on)
            with pytest.raises(CollectiveError, match="no room"):
                clones[0].clone()
            return True

        assert together(2, job, lanes=3) == [True, True]

    def test_it_is_not_copied(self) -> None:
        world = World(venue(1), 0, 5, Clock(RUN))
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(SerializationError, match="'all'"):
                make(world)


def test_seats_of_several_lanes() -> None:
    place = venue(2, lanes=2)
    worlds = [World(place, rank, 5, Clock(RUN)) for rank in range(2)]
    clone = worlds[0].clone()
    seats = Seats(place.memory, 2, 2)
    assert not seats.deserted()
    seats.dead(0)
    assert clone._words[STATE] == DEAD
    worlds[1].leave()
    assert seats.deserted()
    assert len(place.memory) == 2 * lane_size(2)
    assert Lane(place.memory, 2, 1).words[STATE] == DEAD
