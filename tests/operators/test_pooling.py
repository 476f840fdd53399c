import numpy as np
import pytest
from tests.operators.make import f32

from procession.operators import REGISTRY, pooling
from procession.testing.gradcheck import run_operator

X = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6)

FUNCTIONS = {
    "MaxPool": np.max,
    "AveragePool": np.mean,
    "LpPool": lambda seen: np.sqrt(np.square(seen).sum()),
}


def expected(function, x, kernel, stride, pad):
    """Pooling by its definition, window by window; x is (N, C, height, width)."""
    rows, columns = ((size + 2 * pad - kernel) // stride + 1 for size in x.shape[2:])
    y = np.zeros((*x.shape[:2], rows, columns))
    for n, c, row, column in np.ndindex(*y.shape):
        top, left = row * stride - pad, column * stride - pad
        seen = x[n, c, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
        y[n, c, row, column] = function(seen)
    return y


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 2), (2, 3, 1)])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_pooling(name, kernel, stride, pad, order):
    x = f32(2, 3, 7, 6)
    want = expected(FUNCTIONS[name], x, kernel, stride, pad)
    given = np.moveaxis(x, 1, -1) if order == "NHWC" else x
    y = run_operator(name, given, kernel=kernel, stride=stride, pad=pad, order=order)
    y = np.moveaxis(y, -1, 1) if order == "NHWC" else y
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_global_pooling(name):
    x = f32(2, 3, 4, 5)
    want = np.array([[FUNCTIONS[name](channel) for channel in image] for image in x])
    y = run_operator(name, x, global_pooling=1)
    assert y.shape == (2, 3, 1, 1)
    np.testing.assert_allclose(y[..., 0, 0], want, rtol=1e-5, atol=1e-6)


def test_border_counts_if_it_is_to():
    ones = np.ones((1, 1, 4, 4), np.float32)
    y = run_operator("AveragePool", ones, kernel=3, stride=2, pad=1)
    np.testing.assert_allclose(y[0, 0], np.ones((2, 2)))
    y = run_operator("AveragePool", ones, kernel=3, stride=2, pad=1, count_include_pad=1)
    np.testing.assert_allclose(y[0, 0], np.float32([[4, 6], [6, 9]]) / 9, rtol=1e-6)


def test_border_is_never_the_largest():
    y = run_operator("MaxPool", -X - 1, kernel=3, stride=3, pad=1)
    assert y.max() < 0


def test_whoever_is_largest_gets_the_gradient():
    x = np.float32([[[[1, 1], [0, 1]]]])
    dx = run_operator("MaxPoolGradient", x, x[..., :1, :1], 2 * x[..., :1, :1], kernel=2)
    np.testing.assert_array_equal(dx, [[[[2, 2], [0, 2]]]])


@pytest.mark.parametrize("place", range(4))
def test_nan_is_the_largest(place):
    x = np.ones((1, 1, 2, 2), np.float32)
    x.flat[place] = np.nan
    assert np.isnan(run_operator("MaxPool", x, kernel=2)).all()


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0])
def test_lp_of_zeros_has_no_slope(p):
    x = np.zeros((1, 1, 4, 2), np.float32)
    x[..., 2:, 0] = 3
    y = run_operator("LpPool", x, kernel=2, stride=2, p=p)
    dx = run_operator("LpPoolGradient", x, y, np.ones_like(y), kernel=2, stride=2, p=p)
    assert np.isfinite(dx).all()
    assert not dx[..., :2, :].any()
    assert (dx[..., 2:, 0] > 0).all()


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool"])
def test_what_no_window_sees_has_no_slope(name):
    y = run_operator(name, X, kernel=2, stride=4)
    dx = run_operator(f"{name}Gradient", X, y, np.ones_like(y), kernel=2, stride=4)
    assert dx[..., :2, :2].any()
    assert not dx[..., 2:4, :].any()
    assert not dx[..., :, 2:4].any()


def test_result_may_not_be_written_over_what_is_still_read():
    x = f32(2, 3, 5, 5)
    want = run_operator("MaxPool", x, kernel=3, pad=1)
    assert np.array_equal(REGISTRY["MaxPool"].kernel(x, kernel=3, pad=1, out=x), want)


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "LpPool"])
def test_errors(name):
    with pytest.raises(ValueError, match="not smaller than the kernel"):
        run_operator(name, X, kernel=2, pad=2)
    with pytest.raises(ValueError, match="smaller than the kernel"):
        run_operator(name, X, kernel=7)
    with pytest.raises(ValueError, match=r"kernels of .* are not 2 numbers from 1 on"):
        run_operator(name, X)
    with pytest.raises(ValueError, match="have no places"):
        run_operator(name, X[..., :0], global_pooling=1)
    with pytest.raises(TypeError, match="floating-point"):
        run_operator(name, X.astype(np.int32), kernel=2)
    with pytest.raises(ValueError, match=r"are \(1, 1, 5, 5\), not"):
        run_operator(f"{name}Gradient", X, X, X, kernel=2)
    with pytest.raises(TypeError, match="has no argument 'kernal'"):
        run_operator(name, X, kernal=2)


def test_errors_of_some():
    with pytest.raises(ValueError, match="MaxPool3D is for images of 3 dimensions"):
        run_operator("MaxPool3D", X, kernel=2)
    with pytest.raises(ValueError, match=r"p=0.0 is not larger than 0"):
        run_operator("LpPool", X, kernel=2, p=0)


@pytest.mark.parametrize(
    "arguments", [{"dilation": 2}, {"dilations": [1, 2]}, {"dilation_h": 2, "dilation_w": 1}]
)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_dilations_are_refused(name, arguments):
    with pytest.raises(ValueError, match=f"{name}: pooling is without dilations"):
        run_operator(name, X, kernel=2, **arguments)
    run_operator(name, X, kernel=2, dilation=1)


def test_average_of_nothing():
    # The last window of Caffe's way begins behind the image.
    x = np.ones((1, 1, 2, 2), np.float32)
    y = run_operator("AveragePool", x, kernel=1, stride=2, legacy_pad=3)
    assert y.shape == (1, 1, 2, 2)
    assert np.isnan(y).sum() == 3
    assert y[0, 0, 0, 0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel": 3, "stride": 2, "pad": 1},
        {"kernel": 3, "pads": [0, 1, 2, 0]},
        {"kernels": [2, 3], "stride": 1},
        {"kernels": [2, 4], "stride_h": 3, "stride_w": 2, "pad": 1},
        {"kernel": 2, "stride": 2},
        {"global_pooling": 1},
    ],
)
def test_gradient_of_the_largest_by_its_definition(arguments, monkeypatch):
    x = np.round(f32(3, 5, 8, 7) * 4)  # some are the largest together
    y = run_operator("MaxPool", x, **arguments)
    dy = f32(*y.shape)
    want = np.zeros_like(x)
    unit = np.arange(x[0, 0].size, dtype=np.float32).reshape(1, 1, 8, 7)
    columns = arguments if "kernel" in arguments or "kernels" in arguments else {"kernels": [8, 7]}
    size = columns.get("kernels", [columns.get("kernel")] * 2)
    places = run_operator("Im2Col", unit + 1, **columns).reshape(np.prod(size), *y.shape[2:])
    for row, column in np.ndindex(*y.shape[2:]):
        for place in places[:, row, column].astype(int):
            if place:
                at = (..., *divmod(place - 1, 7))
                want[at] += dy[..., row, column] * (x[at] == y[..., row, column])
    last = [np.moveaxis(each, 1, -1) for each in (x, y, dy)]
    made = run_operator("MaxPoolGradient", x, y, dy, **arguments)
    np.testing.assert_allclose(made, want, rtol=1e-5, atol=1e-6)
    made = run_operator("MaxPoolGradient", *last, order="NHWC", **arguments)
    np.testing.assert_allclose(np.moveaxis(made, -1, 1), want, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(pooling, "PIECE", 1000)
    made = run_operator("MaxPoolGradient", x, y, dy, **arguments)
    np.testing.assert_allclose(made, want, rtol=1e-5, atol=1e-6)
