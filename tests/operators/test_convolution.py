import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(2, 4, 7, 6)).astype(np.float32)


def expected(x, w, stride, dilation, pads, group):
    """Convolution by its definition, one number after the other."""
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, width, height_k, width_k = w.shape
    rows = (x.shape[2] - (height_k - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (x.shape[3] - (width_k - 1) * dilation[1] - 1) // stride[1] + 1
    y = np.zeros((len(x), len(w), rows, columns))
    for n, m, row, column in np.ndindex(*y.shape):
        first = m // (len(w) // group) * width
        for c, i, j in np.ndindex(width, height_k, width_k):
            place = row * stride[0] + i * dilation[0], column * stride[1] + j * dilation[1]
            y[n, m, row, column] += x[(n, first + c, *place)] * w[m, c, i, j]
    return y


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pads", "group"),
    [
        ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1),
        ((3, 2), (2, 1), (1, 1), (1, 1, 1, 1), 1),
        ((2, 3), (1, 3), (2, 1), (0, 1, 2, 0), 2),
        ((2, 2), (1, 1), (1, 3), (0, 0, 0, 0), 4),
    ],
)
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_conv(kernel, stride, dilation, pads, group, order):
    w = RANDOM.normal(size=(4, 4 // group, *kernel)).astype(np.float32)
    b = RANDOM.normal(size=4).astype(np.float32)
    options = {"kernels": kernel, "strides": stride, "dilations": dilation, "pads": pads}
    last = order == "NHWC"
    given = [np.ascontiguousarray(np.moveaxis(each, 1, -1)) if last else each for each in (X, w)]
    y = run_operator("Conv", *given, b, group=group, order=order, **options)
    y = np.moveaxis(y, -1, 1) if last else y
    want = expected(X, w, stride, dilation, pads, group)
    np.testing.assert_allclose(y, want + b[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 4, 2, 2), {"kernel": 2, "order": "CHWN"}, "neither 'NCHW' nor 'NHWC'"),
        ((3, 4, 2, 2), {"kernel": 3}, r"is \(3, 4, 3, 3\), not \(3, 4, 2, 2\)"),
        ((3, 4, 2, 2), {}, "a kernel of"),
        ((3, 4, 2, 2), {"kernel": 2, "stride": 0}, "a stride of"),
        ((3, 4, 2, 2), {"kernel": 2, "group": 3}, "in 3 groups"),
        ((3, 4, 8, 8), {"kernel": 8}, "are smaller than the kernel"),
        ((3, 4, 2), {"kernel": 2}, "have four dimensions"),
        ((3, 4, 2, 2), {"kernel": 2, "pads": [1, 1]}, "are not four numbers"),
    ],
)
def test_conv_errors(shape, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator("Conv", X, np.ones(shape, np.float32), **options)
