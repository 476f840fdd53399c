import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
NAMES = ["ResizeNearest", "UpsampleBilinear"]


def test_twice_as_large():
    y = run_operator("ResizeNearest", X, width_scale=2.0, height_scale=2.0)
    np.testing.assert_array_equal(y, X.repeat(2, axis=2).repeat(2, axis=3))
    y = run_operator("ResizeNearest", X, np.float32([1, 0.5]))
    np.testing.assert_array_equal(y, X[..., ::2])


def test_what_lies_between():
    y = run_operator("UpsampleBilinear", X, width_scale=2.5, height_scale=5 / 3)
    # X is a plane, and corners lie on corners.
    rows, columns = np.linspace(0, 2, 5), np.linspace(0, 3, 10)
    np.testing.assert_allclose(y[0, 0], 4 * rows[:, None] + columns, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last(name):
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    options = {"width_scale": 1.5, "height_scale": 0.5}
    y = run_operator(name, x, **options)
    last = run_operator(name, x.transpose(0, 2, 3, 1), order="NHWC", **options)
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((X[0],), {}, "images have four dimensions"),
        ((X,), {"width_scale": 0.0}, "scales of 1.0 and 0.0 are not positive"),
        ((X, np.float32([1, -1])), {}, "scales of 1.0 and -1.0 are not positive"),
        ((X, np.float32([1])), {}, r"scales are \(1,\)"),
        ((X,), {"order": "HW"}, "neither 'NCHW' nor 'NHWC'"),
    ],
)
def test_errors(name, inputs, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, *inputs, **options)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_another_shape(name):
    with pytest.raises(ValueError, match=r"dY is \(1, 1, 3, 4\), and of X .* \(1, 1, 3, 8\)"):
        run_operator(f"{name}Gradient", X, X, width_scale=2.0)
