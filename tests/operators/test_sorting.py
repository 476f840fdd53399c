import numpy as np
import pytest

from procession.testing.gradcheck import run_operator


def test_top_k():
    x = np.float32([[1, 3, 3, 2], [5, 4, 6, 7]])
    values, places, everywhere = run_operator("TopK", x, k=3, n_outputs=3)
    assert values.tolist() == [[3, 3, 2], [7, 6, 5]]
    assert places.tolist() == [[1, 2, 3], [3, 2, 0]]
    assert everywhere.tolist() == [1, 2, 3, 7, 6, 4]
    assert (places.dtype, everywhere.dtype) == (np.int64, np.int64)
    values, places = run_operator("TopK", x, np.array([1]), axis=0, n_outputs=2)
    assert (values.tolist(), places.tolist()) == ([[5, 4, 6, 7]], [[1, 1, 1, 1]])


def test_top_k_of_too_few():
    values, places = run_operator("TopK", np.float32([2, 5]), k=3, n_outputs=2)
    assert (values.tolist(), places.tolist()) == ([5, 2, 0], [1, 0, -1])
    dx = run_operator("TopKGradient", np.float32([1, 2, 3]), places, np.float32([2, 5]))
    assert dx.tolist() == [2, 1]


@pytest.mark.parametrize(("k", "axis"), [(0, 0), (-1, 0), (1, 1)])
def test_top_k_errors(k, axis):
    with pytest.raises(ValueError, match=rf"k={k} and axis={axis} for X \(2,\)"):
        run_operator("TopK", np.float32([2, 5]), k=k, axis=axis, n_outputs=2)


def test_lengths_top_k():
    x = np.float32([0, 1, 2, 4, 4])
    values, places = run_operator("LengthsTopK", x, np.int32([2, 0, 3]), k=2)
    assert values.tolist() == [[1, 0], [0, 0], [4, 4]]
    assert places.tolist() == [[1, 0], [-1, -1], [1, 2]]
    assert places.dtype == np.int32
    with pytest.raises(ValueError, match="at least 1"):
        run_operator("LengthsTopK", x, np.int32([5]))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_unique(dtype):
    values, places = run_operator("Unique", np.array([5, 1, 5, 2], dtype), n_outputs=2)
    assert values.tolist() == [1, 2, 5]
    assert places.tolist() == [2, 0, 2, 1]
    assert (values.dtype, places.dtype) == (dtype, np.int32)
    assert run_operator("Unique", np.array([5, 1, 5], dtype), n_outputs=1).tolist() == [1, 5]
    with pytest.raises(ValueError, match="should be a vector"):
        run_operator("Unique", np.zeros((1, 2), dtype))


def test_find():
    index = np.int32([3, 1, 3])
    y = run_operator("Find", index, np.int32([[3, 9], [1, 0]]))
    assert y.tolist() == [[2, -1], [1, -1]]
    assert y.dtype == np.int32
    assert run_operator("Find", index, np.int32([9]), missing_value=7).tolist() == [7]
    assert run_operator("Find", index[:0], np.int32([9])).tolist() == [-1]
    for wrong in (np.array([3]), np.float32([3])):
        with pytest.raises(TypeError, match="integers of one type"):
            run_operator("Find", index, wrong)


def test_find_duplicate_elements():
    y = run_operator("FindDuplicateElements", np.array([1, 2, 1, 1, 2]))
    assert y.tolist() == [2, 3, 4]
    assert y.dtype == np.int64
    words = np.array(["b", "a", "b"], object)
    assert run_operator("FindDuplicateElements", words).tolist() == [2]
    with pytest.raises(ValueError, match="should be a vector"):
        run_operator("FindDuplicateElements", np.zeros((1, 2)))
