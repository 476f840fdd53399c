"""Segments: lengths and ids, and what is reduced by them."""

import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.arange(8, dtype=np.float32).reshape(4, 2)
LENGTHS = np.int32([1, 0, 3])
IDS = np.int32([0, 0, 1, 2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LengthsToRanges", [[0, 1], [1, 0], [1, 3]]),
        ("LengthsToOffsets", [0, 1, 1]),
        ("LengthsToSegmentIds", [0, 2, 2, 2]),
        ("LengthsRangeFill", [0, 0, 1, 2]),
    ],
)
def test_lengths_turned_into_something_else(name, expected):
    y = run_operator(name, LENGTHS)
    assert y.tolist() == expected
    assert y.dtype == np.int32
    empty = run_operator(name, LENGTHS[:0])
    assert (empty.shape[0], empty.dtype) == (0, np.int32)


def test_offsets_with_the_last():
    y = run_operator("LengthsToOffsets", LENGTHS, include_last_offset=True)
    assert y.tolist() == [0, 1, 1, 4]


def test_lengths_to_shape():
    assert run_operator("LengthsToShape", np.int32([2, 2, 2])).tolist() == [3, 2]
    with pytest.raises(ValueError, match=r"the lengths \[1, 0, 3\] are not all the same"):
        run_operator("LengthsToShape", LENGTHS)


def test_lengths_to_weights():
    y = run_operator("LengthsToWeights", np.int32([1, 0, 4]), power=1.0)
    assert y.tolist() == [1, 0.25, 0.25, 0.25, 0.25]
    assert run_operator("LengthsToWeights", np.int32([4])).tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (np.int32([-1, 2]), ValueError, r"numbers from 0 up, not \[-1, 2\]"),
        (np.int32([[1]]), ValueError, "must be a vector"),
        (np.float32([1]), TypeError, "must be integers, not float32"),
    ],
)
def test_lengths_must_be_lengths(lengths, error, message):
    with pytest.raises(error, match=message):
        run_operator("LengthsToSegmentIds", lengths)


@pytest.mark.parametrize(
    ("ids", "rows", "lengths", "ranges"),
    [
        ([0, 0, 2], None, [2, 0, 1], [[0, 2], [2, 0], [2, 1]]),
        ([0, 0, 2], 4, [2, 0, 1, 0], [[0, 2], [2, 0], [2, 1], [0, 0]]),
        ([], None, [], []),
        ([], 1, [0], [[0, 0]]),
    ],
)
def test_segment_ids_turned_into_something_else(ids, rows, lengths, ranges):
    inputs = [np.array(ids, np.int32)] + ([] if rows is None else [np.zeros((rows, 2))])
    for name, expected in (("SegmentIdsToLengths", lengths), ("SegmentIdsToRanges", ranges)):
        y = run_operator(name, *inputs)
        assert y.tolist() == expected
        assert y.dtype == np.int32


@pytest.mark.parametrize("name", ["SegmentIdsToLengths", "SegmentIdsToRanges"])
def test_segment_ids_must_be_sorted_and_fit(name):
    with pytest.raises(ValueError, match="sorted"):
        run_operator(name, np.int32([1, 0]))
    with pytest.raises(ValueError, match="4 segments, more than the 2 rows"):
        run_operator(name, np.int32([0, 3]), np.zeros(2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LengthsSum", [[0, 1], [0, 0], [12, 15]]),
        ("LengthsMean", [[0, 1], [0, 0], [4, 5]]),
        ("LengthsMax", [[0, 1], [0, 0], [6, 7]]),
    ],
)
def test_reduced_by_lengths(name, expected):
    assert run_operator(name, X, LENGTHS).tolist() == expected
    with pytest.raises(ValueError, match="lengths add up to 4, but there are 3 rows"):
        run_operator(name, X[:3], LENGTHS)


def test_the_largest_of_negative_numbers():
    assert run_operator("LengthsMax", X - 9, np.int32([4, 0])).tolist() == [[-3, -2], [0, 0]]


def test_gradient_of_the_largest_goes_to_all_of_them():
    y, dy = np.float32([3, 0]), np.float32([10, 20])
    name = "LengthsMaxWithMainInputAndForwardOutputGradient"
    dx = run_operator(name, y, dy, np.int32([3, 0]), np.float32([3, 1, 3]))
    assert dx.tolist() == [10, 0, 10]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SortedSegmentSum", [[2, 4], [4, 5], [6, 7]]),
        ("SortedSegmentMean", [[1, 2], [4, 5], [6, 7]]),
        ("UnsortedSegmentSum", [[2, 4], [4, 5], [6, 7]]),
        ("UnsortedSegmentMean", [[1, 2], [4, 5], [6, 7]]),
    ],
)
def test_reduced_by_ids(name, expected):
    assert run_operator(name, X, IDS).tolist() == expected
    assert run_operator(name, X[:0], IDS[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match=r"segment ids \(3,\) for"):
        run_operator(name, X, IDS[:3])


@pytest.mark.parametrize("ids", [[1, 1, 2, 2], [0, 0, 1, 3], [0, 1, 0, 1]])
def test_sorted_ids_are_sorted_and_without_gaps(ids):
    for name in ("SortedSegmentSum", "SortedSegmentMean"):
        with pytest.raises(ValueError, match="sorted without gaps"):
            run_operator(name, X, np.int32(ids))


def test_unsorted_ids():
    ids = np.array([1, 3, 1, 0])
    y = run_operator("UnsortedSegmentSum", X, ids, num_segments=5)
    assert y.tolist() == [[6, 7], [4, 6], [0, 0], [2, 3], [0, 0]]
    assert run_operator("UnsortedSegmentMean", X, ids)[:3].tolist() == [[6, 7], [2, 3], [0, 0]]
    with pytest.raises(IndexError, match="3 is out of bounds for a length of 3"):
        run_operator("UnsortedSegmentSum", X, ids, num_segments=3)


def test_weighted():
    weights = np.float32([1, 2, 3, 4])
    y = run_operator("LengthsWeightedSum", X, weights, LENGTHS)
    assert y.tolist() == [[0, 1], [0, 0], [40, 49]]
    with pytest.raises(ValueError, match=r"weights \(3,\) for data \(4, 2\)"):
        run_operator("LengthsWeightedSum", X, weights[:3], LENGTHS)


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("SparseLengthsSum", [], [[6, 7], [0, 0], [6, 8]]),
        ("SparseLengthsMean", [], [[6, 7], [0, 0], [3, 4]]),
        ("SparseLengthsWeightedSum", [np.float32([1, 2, 3])], [[6, 7], [0, 0], [18, 23]]),
    ],
)
def test_reduced_rows_that_were_gathered(name, more, expected):
    indices = np.array([3, 0, 3])
    y = run_operator(name, X, *more, indices, np.int32([1, 0, 2]))
    assert y.tolist() == expected
    with pytest.raises(IndexError, match="4 is out of bounds"):
        run_operator(name, X, *more, indices + 1, np.int32([1, 0, 2]))


@pytest.mark.parametrize("kind", ["Sorted", "Unsorted"])
def test_gathered_and_reduced_by_ids(kind):
    inputs = X, np.array([3, 0, 3]), np.int32([0, 0, 1])
    assert run_operator(f"Sparse{kind}SegmentSum", *inputs).tolist() == [[6, 8], [6, 7]]
    assert run_operator(f"Sparse{kind}SegmentMean", *inputs).tolist() == [[3, 4], [6, 7]]


@pytest.mark.parametrize("name", ["LengthsMean", "SortedSegmentMean", "UnsortedSegmentMean"])
def test_averages_are_of_floats(name):
    with pytest.raises(TypeError, match=f"{name} is for floating-point numbers, not for int64"):
        run_operator(name, np.array([1, 2]), np.int32([2, 0]))


def test_lengths_tile():
    y = run_operator("LengthsTile", X[:3], LENGTHS)
    np.testing.assert_array_equal(y, X[[0, 2, 2, 2]])
    with pytest.raises(ValueError, match=r"3 lengths for data \(4, 2\)"):
        run_operator("LengthsTile", X, LENGTHS)


WORDS = np.array([b"a", b"b", b"c", b"d"], object)
DY = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "error", "message"),
    [
        ("LengthsSum", (np.float32(1), LENGTHS), ValueError, "the data has no rows"),
        ("LengthsSum", (WORDS, LENGTHS), TypeError, "for numbers, not for object"),
        ("LengthsSum", (X > 3, LENGTHS), TypeError, "for numbers, not for bool"),
        ("LengthsWeightedSum", (X, WORDS, LENGTHS), TypeError, "not for object"),
        ("SortedSegmentSum", (X, IDS * 1.0), TypeError, "ids must be integers, not float"),
        ("UnsortedSegmentSum", (X, IDS * 1.0), TypeError, "ids must be integers, not float"),
        ("UnsortedSegmentSum", (X, IDS - 1), IndexError, "index -1 is out of bounds"),
        ("SparseLengthsSum", (np.float32(1), IDS, LENGTHS), ValueError, "the data has no rows"),
        ("SparseLengthsSum", (X, IDS, LENGTHS[:2]), ValueError, "add up to 1, but there are 4"),
        ("SparseLengthsSum", (X, IDS - 1, LENGTHS), IndexError, "index -1 is out of bounds"),
        ("SparseLengthsSum", (X, IDS + 2, LENGTHS), IndexError, "index 4 is out of bounds"),
        ("LengthsIndicesInGradientSumGradient", (DY[:2], LENGTHS, X), ValueError, "3 segments"),
        ("SortedSegmentSumGradient", (DY, IDS + 1), IndexError, "index 3 is out of bounds"),
        ("SegmentIdsToLengths", (IDS * 1.0,), TypeError, "ids must be integers"),
    ],
)
def test_what_does_not_fit(name, inputs, error, message):
    inputs = [np.asarray(each) for each in inputs]
    with pytest.raises(error, match=message):
        run_operator(name, *inputs)


def test_tables_of_halves_are_summed_up_as_floats():
    table = np.full((2, 3), 0.1, np.float16)
    indices, lengths = np.tile([0, 1], 2000), np.int32([4000])
    y = run_operator("SparseLengthsSum", table, indices, lengths)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, 4000 * np.float64(table[:1]), rtol=1e-4)


def test_weights_make_fractions_of_whole_numbers():
    rows, half = np.int32([[2, 4, 6] * 3, [1, 1, 1] * 3]), np.float32([0.5, 0.5])
    y = run_operator("LengthsWeightedSum", rows, half, np.int32([2]))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y[0], [1.5, 2.5, 3.5] * 3)
