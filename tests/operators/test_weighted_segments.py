import numpy as np
import pytest

from procession.operators import rows as kernels
from procession.operators.rows import add_rows
from procession.testing.gradcheck import run_operator

RNG = np.random.default_rng(8)
TABLE = RNG.normal(size=(6, 3)).astype(np.float32)
INDICES = np.array([0, 5, 2, 2, 1])
WEIGHTS = np.float32([1, 2, -1, 0.5, 3])
IDS = np.array([0, 0, 1, 1, 1])
WEIGHED = TABLE[INDICES] * WEIGHTS[:, None]


def test_weighted_sums():
    expected = np.stack([WEIGHED[:2].sum(axis=0), WEIGHED[2:].sum(axis=0)])
    for kind in ("Sorted", "Unsorted"):
        given = (TABLE[INDICES], WEIGHTS, IDS)
        y = run_operator(f"{kind}SegmentWeightedSum", *given)
        np.testing.assert_allclose(y, expected, rtol=1e-5)
        y = run_operator(f"Sparse{kind}SegmentWeightedSum", TABLE, WEIGHTS, INDICES, IDS)
        np.testing.assert_allclose(y, expected, rtol=1e-5)
        with pytest.raises(ValueError, match=r"weights \(4,\) for data \(5, 3\)"):
            run_operator(f"{kind}SegmentWeightedSum", given[0], WEIGHTS[:4], IDS)


def test_weights_by_position():
    lengths = np.array([3, 0, 2], np.int32)
    name = "SparseLengthsPositionalWeightedSum"
    y = run_operator(name, TABLE, WEIGHTS, INDICES, lengths)
    rows = TABLE[INDICES] * WEIGHTS[[0, 1, 2, 0, 1], None]
    np.testing.assert_allclose(y[0], rows[:3].sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(y[1], np.zeros(3))
    np.testing.assert_allclose(y[2], rows[3:].sum(axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="2 weights for a segment of 3 rows"):
        run_operator(name, TABLE, WEIGHTS[:2], INDICES, lengths)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("lengths", [[2, 2, 2, 2], [1] * 8, [8], [3, 0, 4, 1], [0, 0, 8], [5, 3]])
@pytest.mark.parametrize("piece", [1, 7, 10000])
def test_segments_long_and_short(monkeypatch, dtype, lengths, piece):
    monkeypatch.setattr(kernels, "PIECE", piece)
    table = RNG.integers(-9, 9, (5, 2, 3)).astype(dtype)
    indices, weights = RNG.integers(0, 5, 8), RNG.integers(-9, 9, 8).astype(dtype)
    rows = table[indices]
    ends = np.cumsum(lengths)
    each = np.array(lengths, np.int32)

    def sums(rows):
        parts = zip(ends - lengths, ends, strict=True)
        return np.stack([rows[start:end].sum(axis=0, dtype=dtype) for start, end in parts])

    weighed = sums(rows * weights[:, None, None])
    for name, inputs, expected in [
        ("LengthsSum", (rows, each), sums(rows)),
        ("LengthsWeightedSum", (rows, weights, each), weighed),
        ("SparseLengthsSum", (table, indices, each), sums(rows)),
        ("SparseLengthsWeightedSum", (table, weights, indices, each), weighed),
    ]:
        y = run_operator(name, *inputs)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 2), (6, 0)])
@pytest.mark.parametrize("indices", [[0, 1, 5], [3, 3, 3], [1, 4, 1, 1, 0, 4], []])
def test_rows_are_added_as_often_as_they_are_named(shape, indices):
    target = RNG.integers(-9, 9, shape).astype(np.float32)
    rows = RNG.integers(-9, 9, (len(indices), *shape[1:])).astype(np.float32)
    expected = target.copy()
    for index, row in zip(indices, rows, strict=True):
        expected[index] += row
    wide = np.repeat(target, 2, axis=0)[::2]
    for made in (target.copy(), wide):
        add_rows(made, np.array(indices, np.int64), rows)
        np.testing.assert_array_equal(made, expected)
