import numpy as np
import pytest

from procession.testing.gradcheck import KernelContext, run_operator

X = np.arange(6, dtype=np.float32).reshape(3, 2)
VECTOR = np.arange(6, dtype=np.float32)
RANGES = np.array([[[0, 1], [2, 2]], [[4, 1], [5, 1]]], np.int32)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_gather(dtype):
    indices = np.array([[2, 0], [1, -1]], dtype)
    np.testing.assert_array_equal(run_operator("Gather", X, indices), X[indices])
    y = run_operator("Gather", X, np.array([1], dtype), axis=-1)
    np.testing.assert_array_equal(y, X[:, 1:])
    assert run_operator("Gather", X, np.array([], dtype)).shape == (0, 2)


def test_gather_with_outer_dimensions_in_common():
    y = run_operator("Gather", X, np.array([[1], [0], [1]]), axis=1, match_outer=True)
    assert y.tolist() == [[1], [2], [5]]
    y = run_operator("BatchGather", X.T, np.array([[2, 0], [1, 1]]), match_outer=True)
    assert y.tolist() == [[4, 0], [3, 3]]
    with pytest.raises(ValueError, match="match_outer: the first 1 dimensions"):
        run_operator("Gather", X, np.array([[1], [0]]), axis=1, match_outer=True)


@pytest.mark.parametrize(
    ("indices", "arguments", "wrong"),
    [
        ([3], {}, "3 is out of bounds for a length of 3"),
        ([-4], {}, "-4 is out of bounds"),
        ([-1], {"axis": 1}, "-1 is out of bounds for a length of 2"),
    ],
)
def test_gather_out_of_bounds(indices, arguments, wrong):
    with pytest.raises(IndexError, match=wrong):
        run_operator("Gather", X, np.array(indices), **arguments)


def test_gather_wraps_where_it_is_told_to():
    y = run_operator("Gather", X, np.array([-1]), axis=1, wrap_indices=True)
    np.testing.assert_array_equal(y, X[:, 1:])


def test_indices_are_integers():
    with pytest.raises(TypeError, match="indices must be integers, not float32"):
        run_operator("Gather", X, np.float32([1]))


def test_batch_gather():
    y = run_operator("BatchGather", X, np.array([1, 1, 0]))
    np.testing.assert_array_equal(y, X[:, [1, 1, 0]])


def test_gather_ranges():
    y, lengths = run_operator("GatherRanges", VECTOR, RANGES)
    assert y.tolist() == [0, 2, 3, 4, 5]
    assert lengths.tolist() == [3, 2]
    assert lengths.dtype == np.int32
    with pytest.raises(IndexError, match="2 elements from 5 on, of 6"):
        run_operator("GatherRanges", VECTOR, np.array([[[5, 2]]]))
    with pytest.raises(ValueError, match="takes a vector and ranges"):
        run_operator("GatherRanges", X, RANGES)


def test_lengths_gather():
    y = run_operator("LengthsGather", VECTOR, np.int32([1, 2, 3]), np.array([2, 0]))
    assert y.tolist() == [3, 4, 5, 0]
    with pytest.raises(IndexError, match="3 is out of bounds"):
        run_operator("LengthsGather", VECTOR, np.int32([1, 2, 3]), np.array([3]))


def test_scatter_assign():
    slices = np.float32([[7, 8], [9, 10]])
    y = run_operator("ScatterAssign", X, np.int32([2, 0]), slices)
    assert y.tolist() == [[9, 10], [2, 3], [7, 8]]
    assert run_operator("ScatterAssign", VECTOR[:3], np.array([2, 2]), VECTOR[4:])[2] == 5
    with pytest.raises(IndexError, match="3 is out of bounds"):
        run_operator("ScatterAssign", X, np.int32([3, 0]), slices)
    with pytest.raises(ValueError, match=r"the slices are \(1, 2\), and should be \(2, 2\)"):
        run_operator("ScatterAssign", X, np.int32([2, 0]), slices[:1])


def test_scatter_weighted_sum():
    one, ten = np.float32([1]), np.float32([10])
    first, second = np.float32([[1, 2]]), np.float32([[3, 4]])
    y = run_operator("ScatterWeightedSum", X, one, np.int32([1]), first, ten, second, one)
    assert y.tolist() == [[0, 1], [2 + 10 + 3, 3 + 20 + 4], [4, 5]]
    # An index that occurs twice is scaled twice.
    y = run_operator(
        "ScatterWeightedSum", X, np.float32([2]), np.int32([1, 1]), np.ones((2, 2), "f"), ten
    )
    assert y.tolist() == [[0, 1], [28, 32], [4, 5]]
    with pytest.raises(ValueError, match="the last slices have no weight"):
        run_operator("ScatterWeightedSum", X, one, np.int32([1]), first, ten, second)


def test_scatter():
    data = np.zeros((3, 3), np.float32)
    indices = np.array([[0, 1, 2], [2, 0, 0]])
    updates = np.float32([[1, 2, 3], [4, 5, 6]])
    y = run_operator("Scatter", data, indices, updates, axis=0)
    assert y.tolist() == [[1, 5, 6], [0, 2, 0], [4, 0, 3]]
    y = run_operator("Scatter", data, indices[:, :1], updates[:, :1])
    assert y.tolist() == [[1, 0, 0], [0, 0, 4], [0, 0, 0]]
    with pytest.raises(ValueError, match="do not fit together"):
        run_operator("Scatter", data, indices, updates[:1])


def test_sparse_to_dense():
    indices = np.int32([2, 0, 2])
    assert run_operator("SparseToDense", indices, np.float32([1, 2, 3])).tolist() == [2, 0, 4]
    assert run_operator("SparseToDense", indices, X).tolist() == [[2, 3], [0, 0], [4, 6]]
    like = np.zeros((4, 9))
    y = run_operator("SparseToDense", indices, np.array([1, 2, 3]), like)
    assert y.tolist() == [2, 0, 4, 0]
    with pytest.raises(IndexError, match="2 is out of bounds for a length of 1"):
        run_operator("SparseToDense", indices, X, like[:1])


def test_sparse_to_dense_mask():
    ids, values, default = np.array([5, 1, 9]), np.float32([1, 2, 3]), np.float32(-1)
    y = run_operator("SparseToDenseMask", ids, values, default, mask=[1, 2, 5])
    assert y.tolist() == [2, -1, 1]
    y, present = run_operator(
        "SparseToDenseMask",
        ids,
        values,
        default,
        np.int32([1, 2]),
        mask=[1, 2, 5],
        return_presence_mask=True,
        n_outputs=2,
    )
    assert y.tolist() == [[-1, -1, 1], [2, -1, -1]]
    assert present.tolist() == [[False, False, True], [True, False, False]]
    with pytest.raises(ValueError, match="two outputs with return_presence_mask"):
        run_operator("SparseToDenseMask", ids, values, default, mask=[1], n_outputs=2)
    with pytest.raises(ValueError, match="lengths add up to 2, but there are 3"):
        run_operator("SparseToDenseMask", ids, values, default, np.int32([2]), mask=[1])


def test_sparse_to_dense_mask_of_no_columns():
    given = np.array([5, 1]), np.float32([1, 2]), np.float32(-1)
    for mask in ([], [1, -5], [1, 5, 1]):
        with pytest.raises(ValueError, match="at least one, each once, none of them negative"):
            run_operator("SparseToDenseMask", *given, mask=mask)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_sparse_to_dense_mask_skips_so_many_examples(dtype):
    # Two of three examples have ids that are none; those that are merely not wanted do not count.
    ids = np.array([1, -5, -7, 9, 8, np.iinfo(dtype).max, 2], dtype)
    values, default = np.arange(7, dtype=np.float32), np.float32(-1)
    lengths = np.int32([3, 2, 2])

    def run(context=None, ids=ids, lengths=lengths, **arguments):
        inputs = ids, values, default, lengths
        return run_operator(
            "SparseToDenseMask", *inputs[: 4 if lengths is not None else 3],
            mask=[1, 2], context=context, **arguments
        )  # fmt: skip

    for most in (3, -1, 50):
        assert run(max_skipped_indices=most).tolist() == [[0, -1], [-1, -1], [-1, 6]]
    for most in (0, 1, 2):
        with pytest.raises(ValueError, match=rf"2 examples with invalid ids .*\[-5, -7.*={most}"):
            run(max_skipped_indices=most)
    # All is one example.
    assert run(lengths=None, max_skipped_indices=2).tolist() == [0, 6]
    with pytest.raises(ValueError, match="1 examples with invalid ids"):
        run(lengths=None, max_skipped_indices=1)
    with pytest.raises(ValueError, match="max_skipped_indices=0"):
        run(ids=np.abs(ids), max_skipped_indices=0)
    # They are counted from run to run.
    context = KernelContext(("i", "v", "d", "l"), ("y",))
    for _ in range(24):
        run(context)
    with pytest.raises(ValueError, match="50 examples with invalid ids so far"):
        run(context)


def test_one_hots():
    y = run_operator("OneHot", np.array([1, 0, 3]), np.array([3]))
    assert y.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert y.dtype == np.float32
    y = run_operator("SegmentOneHot", np.int32([1, 2]), np.array([1, 2, 0]), np.array([3]))
    assert y.tolist() == [[0, 1, 0], [1, 0, 1]]
    data = np.array([[11, 12], [21, 12]])
    y = run_operator("BatchOneHot", data, np.int32([2, 1]), np.array([11, 21, 12]))
    assert y.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert y.dtype == np.int64
    with pytest.raises(ValueError, match="do not fit together"):
        run_operator("BatchOneHot", data, np.int32([2, 2]), np.array([11, 21, 12]))


@pytest.mark.parametrize(
    ("name", "inputs", "error", "message"),
    [
        ("OneHot", ([1], [-2]), ValueError, "size must be from 0 up, not -2"),
        ("SparseToDense", ([0.0], [[1.0]]), TypeError, "indices must be integers"),
        ("SparseToDense", ([0], [True]), TypeError, "for numbers, not for bool"),
        ("LengthsGather", ([1.0, 2.0], [-1, 3], [0]), ValueError, "numbers from 0 up"),
        ("GatherRanges", ([1.0], [[[0.0, 1.0]]]), TypeError, "ranges must be integers"),
        ("BatchOneHot", ([[1]], [-1], [1]), ValueError, "numbers from 0 up"),
        ("ScatterAssign", ([[1.0]], [0], [[1j]]), TypeError, "slices are complex128"),
        ("ScatterWeightedSum", ([True], [1.0], [0], [True], [1.0]), TypeError, "not for bool"),
        ("BatchGatherGradient", ([[1.0]], [1], [[1.0]]), IndexError, "index 1 is out of bounds"),
    ],
)
def test_what_does_not_fit(name, inputs, error, message):
    with pytest.raises(error, match=message):
        run_operator(name, *(np.array(each) for each in inputs))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("match_outer", [False, True])
def test_gradient_of_what_was_gathered_more_than_once(axis, match_outer):
    rng = np.random.default_rng(4)
    data = rng.normal(size=(2, 3, 4))
    outer = data.shape[:axis] if match_outer else ()
    indices = rng.integers(0, data.shape[axis], (*outer, 5))
    arguments = {"axis": axis, "match_outer": match_outer}
    dy = rng.normal(size=run_operator("Gather", data, indices, **arguments).shape)
    dx = run_operator("BatchGatherGradient", data, indices, dy, **arguments)
    # What is gathered is linear in the data, so dY times it is dX times the data.
    y = run_operator("Gather", data, indices, **arguments)
    np.testing.assert_allclose((dy * y).sum(), (dx * data).sum())
