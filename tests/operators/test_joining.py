import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.arange(24, dtype=np.float32).reshape(4, 6)


def test_concat():
    a, b = np.float32([[1, 2]]), np.float32([[3, 4, 5]])
    y, lengths = run_operator("Concat", a, b)
    assert y.tolist() == [[1, 2, 3, 4, 5]]
    assert lengths.tolist() == [2, 3]
    assert lengths.dtype == np.int32


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_in_a_new_dimension(axis):
    a, b = np.float32([1, 2]), np.float32([3, 4])
    y, lengths = run_operator("Concat", a, b, axis=axis, add_axis=True)
    np.testing.assert_array_equal(y, np.stack([a, b], axis))
    assert lengths.tolist() == [1, 1]


def test_order_says_where_the_channels_are():
    y, _ = run_operator("Concat", np.zeros((1, 1, 1, 2)), np.zeros((1, 1, 1, 1)), order="NHWC")
    assert y.shape == (1, 1, 1, 3)
    parts = run_operator("Split", np.zeros((1, 2, 2, 4)), order="NHWC", n_outputs=2)
    assert [part.shape for part in parts] == [(1, 2, 2, 2)] * 2
    with pytest.raises(ValueError, match="neither 'NCHW' nor 'NHWC'"):
        run_operator("Concat", X, X, order="CHW")


def test_concat_of_strings():
    y, _ = run_operator("Concat", np.array(["a"], object), np.array(["bc"], object), axis=0)
    assert y.tolist() == ["a", "bc"]


@pytest.mark.parametrize(
    ("a", "b", "arguments", "error", "message"),
    [
        (X, X[:1], {}, ValueError, r"input 1 is \(1, 6\), input 0 is \(4, 6\): .* axis 1 only"),
        (X, X[:1], {"axis": 0, "add_axis": True}, ValueError, "may differ in nothing"),
        (X, X[0], {"axis": 0}, ValueError, "input 1 is"),
        (X[0], X[0], {}, ValueError, r"axis=1, but the inputs are \(6,\)"),
        (X, X.astype(int), {}, TypeError, "input 1 is int64, input 0 is float32"),
    ],
)
def test_concat_errors(a, b, arguments, error, message):
    with pytest.raises(error, match=message):
        run_operator("Concat", a, b, **arguments)


@pytest.mark.parametrize(
    ("arguments", "pieces", "borders"),
    [
        ({}, 2, [3]),
        ({"axis": -1}, 3, [2, 4]),
        ({"split": [1, 5]}, 2, [1]),
        ({"split": [0, 6]}, 2, [0]),
    ],
)
def test_split(arguments, pieces, borders):
    parts = run_operator("Split", X, n_outputs=pieces, **arguments)
    for part, expected in zip(parts, np.split(X, borders, 1), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_split_by_an_input():
    first, second = run_operator("Split", X, np.int32([1, 3]), axis=0, n_outputs=2)
    np.testing.assert_array_equal(first, X[:1])
    np.testing.assert_array_equal(second, X[1:])


def test_split_undoes_concat_in_a_new_dimension():
    parts = run_operator("Split", X, axis=0, add_axis=True, n_outputs=4)
    for part, row in zip(parts, X, strict=True):
        np.testing.assert_array_equal(part, row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"X \(4, 6\) cannot be cut into 4 equal parts at axis 1"),
        ({"split": [1, 4]}, r"split=\[1, 4\] for 4 outputs"),
        ({"split": [1, 1, 1, 2]}, "cut at axis 1"),
        ({"add_axis": True}, "6 slices at axis 1, for 4 outputs"),
        ({"axis": 2}, "axis=2"),
    ],
)
def test_split_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_operator("Split", X, n_outputs=4, **arguments)


def test_split_by_lengths():
    first, second = run_operator("SplitByLengths", X.T, np.int32([1, 2, 2, 1]), axis=0, n_outputs=2)
    np.testing.assert_array_equal(first, X.T[:3])
    np.testing.assert_array_equal(second, X.T[3:])
    first, second = run_operator(
        "SplitByLengths", X.T, np.int32([1, 2]), axis=0, use_scaling_lengths=True, n_outputs=2
    )
    assert (first.shape, second.shape) == ((2, 4), (4, 4))
    with pytest.raises(ValueError, match="3 lengths cannot be shared out to 2 outputs"):
        run_operator("SplitByLengths", X.T, np.int32([1, 2, 3]), axis=0, n_outputs=2)


def test_append():
    y = run_operator("Append", X[:1], X[1:])
    np.testing.assert_array_equal(y, X)


@pytest.mark.parametrize(
    ("starts", "ends", "part"),
    [
        ([0, 1], [-1, 3], np.s_[:, 1:3]),
        ([1, 1], [-1, 3], np.s_[1:, 1:3]),
        ([0, -2], [-1, -1], np.s_[:, 5:]),
        ([0, -1], [-1, -1], np.s_[:, 6:]),
        ([0, 1], [-1, -2], np.s_[:, 1:5]),
        ([1], [2], np.s_[1:2]),
        ([9], [9], np.s_[4:]),
        ([0, 0], [9, 9], np.s_[:, :]),
    ],
)
def test_slice(starts, ends, part):
    np.testing.assert_array_equal(run_operator("Slice", X, starts=starts, ends=ends), X[part])
    y = run_operator("Slice", X, np.array(starts), np.array(ends), starts=[0], ends=[0])
    np.testing.assert_array_equal(y, X[part])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "further inputs or the argument `starts`"),
        ({"starts": [0]}, "the argument `ends`"),
        ({"starts": [3], "ends": [2]}, "from 3 to 2 is no part of a length of 4"),
        ({"starts": [-9], "ends": [2]}, "from -9 to 2"),
        ({"starts": [0, 0, 0], "ends": [1, 1, 1]}, r"for X \(4, 6\)"),
    ],
)
def test_slice_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_operator("Slice", X, **arguments)


def test_tile():
    np.testing.assert_array_equal(run_operator("Tile", X, tiles=2, axis=1), np.tile(X, (1, 2)))
    np.testing.assert_array_equal(run_operator("Tile", X, tiles=3, axis=-2), np.tile(X, (3, 1)))
    y = run_operator("Tile", X, np.int32([2]), np.int64(0), tiles=5, axis=1)
    np.testing.assert_array_equal(y, np.tile(X, (2, 1)))
    for arguments in ({"tiles": 2}, {"axis": 1}, {"tiles": 2, "axis": 2}):
        with pytest.raises(ValueError, match="Tile"):
            run_operator("Tile", X, **arguments)


def test_numpy_tile():
    y = run_operator("NumpyTile", X, np.array([2, 3]))
    np.testing.assert_array_equal(y, np.tile(X, (2, 3)))
    with pytest.raises(ValueError, match=r"repeats \[2\], but X is \(4, 6\)"):
        run_operator("NumpyTile", X, np.array([2]))


@pytest.mark.parametrize(
    ("shape", "expected"), [([1, 2], (3, 2)), ([2, 3, 4], (2, 3, 4)), ([1], (3, 1))]
)
def test_expand(shape, expected):
    y = run_operator("Expand", X[:3, :1], np.array(shape))
    np.testing.assert_array_equal(y, np.broadcast_to(X[:3, :1], expected))
