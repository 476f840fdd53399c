import numpy as np
import pytest
from tests.operators.make import f32

from procession.testing.gradcheck import run_operator

X = f32(2, 4, 3, 5)


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("shape", "kernel", "size", "arguments"),
    [
        ((2, 4, 3, 5), (4, 3, 2, 3), (4, 7), {"kernels": [2, 3]}),
        ((2, 4, 3, 5), (4, 3, 3, 3), (5, 9), {"kernel": 3, "stride": 2, "pad": 1}),
        ((2, 4, 3, 5), (4, 3, 3, 3), (6, 9), {"kernel": 3, "stride": 2, "pad": 1, "adjs": [1, 0]}),
        ((2, 4, 3, 5), (4, 2, 2, 2), (7, 11), {"kernel": 2, "stride": 2, "group": 2, "adj": 1}),
        ((2, 4, 6), (4, 3, 3), (18,), {"kernel": 3, "stride": 3}),
        ((1, 2, 2, 3, 2), (2, 3, 2, 2, 2), (3, 4, 3), {"kernel": 2}),
    ],
)
def test_is_the_transposed_of_conv(shape, kernel, size, arguments, order):
    """<conv(big), small> = <big, conv_transpose(small)>, for all of both."""
    channels = kernel[1] * arguments.get("group", 1)
    small, w, big = f32(*shape), f32(*kernel), f32(shape[0], channels, *size)
    if order == "NHWC":
        small, w, big = (np.moveaxis(each, 1, -1) for each in (small, w, big))
    made = run_operator("ConvTranspose", small, w, order=order, **arguments)
    assert made.shape == big.shape
    given = {name: value for name, value in arguments.items() if not name.startswith("adj")}
    seen = run_operator("Conv", big, w, order=order, **given)
    # With an adjustment Conv may find one place more, which there is none of.
    seen = seen[tuple(slice(length) for length in small.shape)]
    left, right = (float((a * b).sum(dtype=np.float64)) for a, b in ((seen, small), (big, made)))
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-3)


def test_bias_is_also_where_no_kernel_gets():
    w, b = np.zeros((4, 3, 2, 2), np.float32), np.float32([1, 2, 3])
    y = run_operator("ConvTranspose", X, w, b, kernel=2, stride=3, adj=3)
    assert y.shape == (2, 3, 11, 17)
    np.testing.assert_array_equal(y, np.broadcast_to(b[:, None, None], y.shape))


def test_gradient_of_an_adjusted_one():
    # The rows that adj adds count for the bias alone.
    x, w = f32(1, 1, 2, 2), f32(1, 1, 2, 2)
    dy = np.zeros((1, 1, 6, 6), np.float32)
    dy[..., 4:, :] = dy[..., 4:] = 1
    dw, db, dx = run_operator("ConvTransposeGradient", x, w, dy, kernel=2, stride=2, adj=2)
    assert db == [20]
    assert not dw.any()
    assert not dx.any()


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 2, 2, 2), {"kernel": 2}, r"are \(4, 2, 2, 2\), not \(3, 2, 2, 2\)"),
        ((4, 2, 2), {"kernel": 2}, "have 4 dimensions, kernels .* 3"),
        ((4, 2, 2, 2), {"kernel": 2, "adj": 2}, r"adjs of \(2, 2\) are larger than strides"),
        ((4, 2, 2, 2), {"kernel": 2, "group": 3}, "divided into 3 groups"),
        ((4, 2, 1, 1), {"kernel": 1, "pad": 2}, "nothing is left of the result"),
        ((4, 2, 2, 2), {"kernel": 2, "order": "x"}, "neither 'NCHW' nor 'NHWC'"),
    ],
)
def test_errors(shape, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator("ConvTranspose", X, np.ones(shape, np.float32), **options)


def test_other_errors():
    w = np.ones((4, 2, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"the bias is \(4,\), for 2 channels it is \(2,\)"):
        run_operator("ConvTranspose", X, w, np.ones(4, np.float32), kernel=2)
    with pytest.raises(ValueError, match=r"the gradient of the result is \(2, 2, 4, 6\), not"):
        run_operator("ConvTransposeGradient", X, w, X, kernel=2)
    with pytest.raises(TypeError, match="floating-point"):
        run_operator("ConvTranspose", X.astype(np.int64), w, kernel=2)
