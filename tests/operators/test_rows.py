"""Rows in order, in rounds, reduced and changed."""

import numpy as np
import pytest

from procession.operators import rows as kernels
from procession.operators.rows import by_rows, in_order, reduce_segments, rounds, runs

RNG = np.random.default_rng(12)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.uint64])
@pytest.mark.parametrize("values", [[], [3], [5, 0, 5, 2, 0, 5], [200, 200], [7, 6, 5]])
def test_in_order(dtype, values):
    ordered, places = in_order(np.array(values, dtype))
    expected = sorted(range(len(values)), key=values.__getitem__)
    assert places.tolist() == expected
    assert ordered.tolist() == sorted(values)
    assert ordered.dtype == np.int64


def test_numbers_that_leave_no_room_for_a_place():
    ordered, places = in_order(np.array([2**62, 1, 2**62, 2**61]))
    assert ordered.tolist() == [1, 2**61, 2**62, 2**62]
    assert places.tolist() == [1, 3, 0, 2]


def test_runs():
    starts, lengths = runs(np.array([1, 1, 4, 5, 5, 5]))
    assert starts.tolist() == [0, 2, 3]
    assert lengths.tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("counts", "alone", "expected"),
    [
        ([1, 1, 1], 2, [3]),
        ([3, 2, 2, 1], 2, [4, 3, 1]),
        ([1000, 2, 1], 2, [3, 2]),
        ([1000], 2, []),
        ([4, 1], np.inf, [2, 1, 1, 1]),
    ],
)
def test_as_many_rounds_as_are_worth_it(counts, alone, expected):
    assert rounds(np.array(counts), alone) == expected


LENGTHS = [[4, 4, 4], [1] * 12, [12], [0, 3, 0, 9], [0, 0, 0], [5, 1, 0, 2, 1, 3], [2, 300, 1, 2]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0,)])
@pytest.mark.parametrize("piece", [1, 50, 64 * 1024])
def test_reduce_segments(monkeypatch, dtype, lengths, shape, piece):
    monkeypatch.setattr(kernels, "PIECE", piece)
    each = np.array(lengths)
    count = int(each.sum())
    table = RNG.integers(-9, 9, (7, *shape)).astype(dtype)
    chosen, weights = RNG.integers(0, 7, count), RNG.integers(1, 4, count).astype(dtype)
    ends = np.cumsum(each)
    for reduce in (np.add, np.maximum):
        rows = table[chosen] * weights.reshape(-1, *[1] * len(shape))
        out = np.full((each.size, *shape), 77, dtype)
        reduce_segments(reduce, table, each, out, chosen, weights)
        for made, start, end in zip(out, ends - each, ends, strict=True):
            expected = reduce.reduce(rows[start:end], axis=0) if end > start else np.zeros(shape)
            np.testing.assert_array_equal(made, expected)
        again = np.empty_like(out)
        reduce_segments(reduce, rows, each, again)
        np.testing.assert_array_equal(again, out)


def test_a_table_of_columns_is_read_right():
    table = RNG.normal(size=(9, 8)).astype(np.float32).T
    out = np.empty((2, 9), np.float32)
    reduce_segments(np.add, table, np.array([5, 3]), out)
    np.testing.assert_allclose(out, [table[:5].sum(axis=0), table[5:].sum(axis=0)], rtol=1e-5)


@pytest.mark.parametrize("piece", [1, 7, 64 * 1024])
@pytest.mark.parametrize("hot", [0, 60])
def test_rows_change_one_after_the_other(monkeypatch, piece, hot):
    monkeypatch.setattr(kernels, "PIECE", piece)
    indices = np.array([3, 0, *[3] * hot, 1, 3, 0, 5])
    gradients = RNG.integers(1, 5, (indices.size, 2)).astype(np.float64)
    state, count = RNG.integers(0, 5, (6, 2)).astype(np.float64), np.zeros(6)
    expected, times, changed = state.copy(), count.copy(), np.empty_like(gradients)
    for place, index in enumerate(indices):
        expected[index] = expected[index] / 2 + gradients[place]
        changed[place] = expected[index]
        times[index] += 1

    def update(g, s, c):
        s /= 2
        s += g
        c += 1
        g.fill(np.nan)  # it is the update's own
        return s.copy()

    def several(g, s, c):
        for row in g:
            s[...] = s / 2 + row
        c += len(g)

    untouched = gradients.copy()
    for seen_to in (None, several):
        s, c = state.copy(), count.copy()
        changes = np.zeros_like(gradients)
        by_rows(update, [s, c], indices, gradients, None if seen_to else changes, seen_to)
        np.testing.assert_allclose(s, expected, rtol=1e-12)
        np.testing.assert_array_equal(c, times)
        np.testing.assert_array_equal(gradients, untouched)
        if not seen_to:
            np.testing.assert_allclose(changes, changed, rtol=1e-12)
