"""Reductions over the first and last dimensions, with lengths and without."""

import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

A = np.arange(6, dtype=np.float32).reshape(2, 3)
T = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_front_and_back(dtype, dimensions):
    x = (np.arange(24) * 7 % 24 - 12).reshape(2, 3, 4).astype(dtype)
    front, back = tuple(range(dimensions)), tuple(range(3 - dimensions, 3))
    for name, axes in (("Front", front), ("Back", back)):
        total = run_operator(f"Reduce{name}Sum", x, num_reduce_dim=dimensions)
        mean = run_operator(f"Reduce{name}Mean", x, num_reduce_dim=dimensions)
        assert total.dtype == mean.dtype == dtype
        np.testing.assert_array_equal(total, x.sum(axis=axes))
        expected = np.asarray(x.mean(axis=axes)).astype(dtype)  # which cuts, and rounds nothing
        np.testing.assert_allclose(mean, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["ReduceFrontSum", "ReduceBackMean"])
@pytest.mark.parametrize("dimensions", [3, -1])
def test_too_few_dimensions(name, dimensions):
    with pytest.raises(ValueError, match=rf"num_reduce_dim={dimensions}, but X is \(2, 3\)"):
        run_operator(name, A, num_reduce_dim=dimensions)


@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_largest_of_front_and_back(dimensions):
    front, back = tuple(range(dimensions)), tuple(range(3 - dimensions, 3))
    for name, axes in (("ReduceFrontMax", front), ("ReduceBackMax", back)):
        y = run_operator(name, T, num_reduce_dim=dimensions)
        np.testing.assert_array_equal(y, T.max(axis=axes))


@pytest.mark.parametrize("name", ["ReduceFrontMax", "ReduceFrontMean", "ReduceFrontSum"])
def test_of_nothing(name):
    y = run_operator(name, np.zeros((0, 3), np.float32))
    assert y.tolist() == [0, 0, 0]
    assert run_operator(name.replace("Front", "Back"), np.zeros((2, 0))).tolist() == [0, 0]


KINDS = {"Sum": np.sum, "Mean": np.mean, "Max": np.max}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_lengths(kind, dtype):
    lengths = np.array([1, 2, 1, 2, 2, 1, 1, 1, 2, 2, 1, 2], dtype)
    y = run_operator(f"ReduceFront{kind}", T, lengths)
    columns = T.reshape(2, 12).T
    expected = [KINDS[kind](column[:n]) for column, n in zip(columns, lengths, strict=True)]
    np.testing.assert_allclose(y, np.reshape(expected, (3, 4)), rtol=1e-6)
    lengths = np.array([4, 1, 2, 3, 1, 4], dtype)
    y = run_operator(f"ReduceBack{kind}", T, lengths)
    expected = [KINDS[kind](row[:n]) for row, n in zip(T.reshape(6, 4), lengths, strict=True)]
    np.testing.assert_allclose(y, np.reshape(expected, (2, 3)), rtol=1e-6)


def test_a_length_of_zero():
    lengths = np.array([0, 2])
    assert run_operator("ReduceBackSum", A, lengths).tolist() == [0, 7]
    assert run_operator("ReduceBackMean", A, lengths).tolist() == [0, 3.5]
    with pytest.raises(ValueError, match="no largest of no numbers"):
        run_operator("ReduceBackMax", A, lengths)


@pytest.mark.parametrize("name", ["ReduceBackSum", "ReduceBackMax"])
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 2, 3], r"lengths \(3,\) for 2 results"),
        ([[1, 2]], r"lengths \(1, 2\) for 2 results"),
        ([1, 4], r"lengths are from 0 to 3, not \[1, 4\]"),
        ([-1, 2], r"lengths are from 0 to 3, not \[-1, 2\]"),
    ],
)
def test_lengths_that_do_not_fit(name, lengths, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, A, np.array(lengths))


def test_lengths_go_over_one_dimension():
    with pytest.raises(ValueError, match="num_reduce_dim=2 and lengths"):
        run_operator("ReduceFrontSum", T, np.array([1, 2, 1, 2]), num_reduce_dim=2)


def test_rows_and_columns_of_matrices():
    np.testing.assert_array_equal(run_operator("RowwiseMax", T), T.max(axis=2))
    np.testing.assert_array_equal(run_operator("ColwiseMax", T), T.max(axis=1))
    with pytest.raises(ValueError, match=r"of three dimensions, not \(2, 3\)"):
        run_operator("RowwiseMax", A)


def test_rows_summed():
    np.testing.assert_allclose(
        run_operator("ReduceTailSum", T), T.sum(axis=(1, 2)), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="no rows"):
        run_operator("ReduceTailSum", np.float32(1))


def test_weighted_rows():
    w = np.float32([2, -3])
    y = run_operator("ReduceFrontWeightedSum", T, w)
    np.testing.assert_allclose(y, 2 * T[0] - 3 * T[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"weights \(3,\) for X \(2, 3\)"):
        run_operator("ReduceFrontWeightedSum", A, np.ones(3, np.float32))


@pytest.mark.parametrize("name", ["FrontSum", "FrontMean", "BackSum", "BackMean"])
@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_the_gradient_needs_no_more_than_the_shape(name, dimensions):
    dy = run_operator(f"Reduce{name}", T, num_reduce_dim=dimensions)
    gradient = f"Reduce{name}Gradient"
    by_x = run_operator(gradient, dy, T, num_reduce_dim=dimensions)
    by_shape = run_operator(gradient, dy, np.array(T.shape), num_reduce_dim=dimensions)
    assert by_shape.dtype == np.float32
    np.testing.assert_array_equal(by_shape, by_x)
