import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

NAME = "SpatialSoftmaxWithLoss"
X = np.random.default_rng(4).normal(size=(2, 3, 2, 2)).astype(np.float32)
LABELS = np.array([[[0, 2], [1, 1]], [[-1, 0], [-1, 2]]], np.int32)
WEIGHTS = np.random.default_rng(5).uniform(0.5, 2, (2, 2, 2)).astype(np.float32)


def expected(weights):
    softmax = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    total = mass = 0.0
    for place in np.argwhere(LABELS >= 0):
        n, h, w = place
        total -= weights[n, h, w] * np.log(softmax[n, LABELS[n, h, w], h, w])
        mass += weights[n, h, w]
    return softmax, total / mass


@pytest.mark.parametrize("weights", [(), (WEIGHTS,)])
def test_average_over_the_pixels_that_count(weights):
    softmax, loss = run_operator(NAME, X, LABELS, *weights)
    chances, mean = expected(*weights or (np.ones((2, 2, 2)),))
    np.testing.assert_allclose(softmax, chances, rtol=1e-5)
    assert loss == pytest.approx(mean, rel=1e-5)
    assert run_operator(NAME, X, LABELS, *weights, scale=2.0)[1] == pytest.approx(2 * mean)


def test_no_pixel_counts():
    softmax, loss = run_operator(NAME, X, np.full_like(LABELS, -1))
    assert loss == 0
    dx = run_operator(f"{NAME}Gradient", X, np.full_like(LABELS, -1), softmax, np.float32(1))
    np.testing.assert_array_equal(dx, np.zeros_like(X))


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((X, LABELS + 1), {}, r"label 3 is neither in \[0, 3\) nor -1"),
        ((X, LABELS - 1), {}, r"label -2 is neither in"),
        ((X, LABELS[:, None]), {}, r"labels are \(2, 1, 2, 2\), for X \(2, 3, 2, 2\)"),
        ((X, LABELS, WEIGHTS[0]), {}, r"weights are \(2, 2\)"),
        ((X[0], LABELS), {}, "images have four dimensions"),
        ((X, LABELS), {"order": "NHWC"}, "none but 'NCHW'"),
    ],
)
def test_errors(inputs, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator(NAME, *inputs, **options)
    with pytest.raises(TypeError, match="labels are integers, not float32"):
        run_operator(NAME, X, WEIGHTS)


def test_no_images():
    x, labels = np.zeros((0, 3, 2, 2), np.float32), np.zeros((0, 2, 2), np.int32)
    softmax, loss = run_operator("SpatialSoftmaxWithLoss", x, labels)
    assert softmax.shape == x.shape
    assert loss == 0
    dx = run_operator("SpatialSoftmaxWithLossGradient", x, labels, softmax, np.float32(1))
    assert dx.shape == x.shape
