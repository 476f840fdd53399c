import numpy as np
import pytest

from procession.operators import REGISTRY
from procession.testing.gradcheck import run_operator

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    "name", ["Alias", "CopyFromCPUInput", "CopyOnDeviceLike", "EnsureCPUOutput", "EnsureDense"]
)
def test_copies(name):
    inputs = [X] * REGISTRY[name].min_inputs
    y = run_operator(name, *inputs)
    np.testing.assert_array_equal(y, X)
    assert not np.may_share_memory(y, X)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [((3, 4), [], [3, 4]), ((3, 4), [1, 0], [4, 3]), ((3, 4), [1], [4]), ((), [], [])],
)
def test_shape(shape, axes, expected):
    y = run_operator("Shape", np.zeros(shape), axes=axes)
    assert y.dtype == np.int64
    assert y.tolist() == expected
    assert y.ndim == 1


def test_shape_has_no_such_axis():
    with pytest.raises(ValueError, match=r"axes=\[2\], but X is \(3, 4\)"):
        run_operator("Shape", X, axes=[2])


def test_size():
    for shape, expected in (((3, 4), 12), ((), 1), ((0, 3), 0)):
        y = run_operator("Size", np.zeros(shape))
        assert (y.dtype, y.shape, int(y)) == (np.int64, (), expected)


@pytest.mark.parametrize(
    ("old", "asked", "new"),
    [
        ((3, 4), [0, 2, -1], (3, 2, 2)),
        ((3, 4), [-1], (12,)),
        ((3, 4), (4, 3), (4, 3)),
        ((0, 4), [-1, 4], (0, 4)),
        ((0, 4), [0, -1], (0, 0)),
        ((1,), [], ()),
        ((), [1], (1,)),
    ],
)
def test_reshape(old, asked, new):
    x = np.arange(np.prod(old), dtype=np.float32).reshape(old)
    y, old_shape = run_operator("Reshape", x, shape=asked)
    np.testing.assert_array_equal(y, x.reshape(new))
    assert y.shape == new
    assert old_shape.dtype == np.int64
    assert old_shape.tolist() == list(old)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_reshape_to_what_an_input_says(dtype):
    y, old_shape = run_operator("Reshape", X, np.array([6, 2], dtype), shape=[12])
    assert y.shape == (6, 2)
    assert old_shape.dtype == dtype


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([5, -1], r"X \(3, 4\) does not fit into shape=\[5, -1\]"),
        ([-1, -1], "leaves more than one length open"),
        ([0, 0, 0], "does not fit"),
        ([-2, 6], "a length of -2"),
        (None, "second input or the argument"),
    ],
)
def test_reshape_errors(shape, message):
    with pytest.raises(ValueError, match=message):
        run_operator("Reshape", X, shape=shape)


def test_resize_like():
    assert run_operator("ResizeLike", X, np.zeros((2, 6), bool)).shape == (2, 6)
    with pytest.raises(ValueError, match=r"\(3, 4\) does not fit into \(5,\)"):
        run_operator("ResizeLike", X, np.zeros(5))


@pytest.mark.parametrize(("axis", "shape"), [(0, (1, 24)), (1, (2, 12)), (2, (6, 4)), (3, (24, 1))])
def test_flatten(axis, shape):
    assert run_operator("Flatten", np.zeros((2, 3, 4)), axis=axis).shape == shape


@pytest.mark.parametrize(("name", "arguments"), [("Flatten", {}), ("FlattenToVec", {})])
def test_a_number_is_not_flattened(name, arguments):
    with pytest.raises(ValueError, match=name):
        run_operator(name, 1.0, **arguments)


@pytest.mark.parametrize(
    ("dims", "shape"), [([0, 2], (1, 2, 1)), ([1, 0], (1, 1, 2)), ([1, 1], (2, 1))]
)
def test_expand_dims(dims, shape):
    assert run_operator("ExpandDims", np.zeros(2), dims=dims).shape == shape


@pytest.mark.parametrize(("dims", "shape"), [([0, 2], (2,)), ([0], (2, 1)), ([2], (1, 2))])
def test_squeeze(dims, shape):
    assert run_operator("Squeeze", np.zeros((1, 2, 1)), dims=dims).shape == shape


@pytest.mark.parametrize("name", ["ExpandDims", "Squeeze"])
@pytest.mark.parametrize("dims", [[5], [-1], []])
def test_dims_must_exist(name, dims):
    with pytest.raises(ValueError, match="must be dimensions from 0 to"):
        run_operator(name, np.zeros((1, 2, 1)), dims=dims)


def test_only_length_1_is_squeezed():
    with pytest.raises(ValueError, match=r"dims=\[1\], but X is \(1, 2, 1\)"):
        run_operator("Squeeze", np.zeros((1, 2, 1)), dims=[1])


def test_merge_and_prepend_dim():
    merged = run_operator("MergeDim", np.zeros((2, 3, 4)))
    assert merged.shape == (6, 4)
    assert run_operator("PrependDim", merged, dim_size=2).shape == (2, 3, 4)
    with pytest.raises(ValueError, match=r"dim_size=4 does not divide X \(6, 4\)"):
        run_operator("PrependDim", merged, dim_size=4)
    with pytest.raises(ValueError, match="two dimensions"):
        run_operator("MergeDim", np.zeros(3))


def test_transpose():
    np.testing.assert_array_equal(run_operator("Transpose", X), X.T)
    x = np.arange(24).reshape(2, 3, 4)
    y = run_operator("Transpose", x, axes=[2, 0, 1])
    np.testing.assert_array_equal(y, np.transpose(x, (2, 0, 1)))
    assert y.flags.c_contiguous
    for axes in ([0], [0, 0, 1], [-1, 0, 1]):
        with pytest.raises(ValueError, match="does not permute"):
            run_operator("Transpose", x, axes=axes)


def test_orders_of_images():
    x = np.arange(24).reshape(1, 2, 3, 4)
    y = run_operator("NCHW2NHWC", x)
    np.testing.assert_array_equal(y, np.moveaxis(x, 1, -1))
    np.testing.assert_array_equal(run_operator("NHWC2NCHW", y), x)
    with pytest.raises(ValueError, match="three dimensions"):
        run_operator("NCHW2NHWC", X)
