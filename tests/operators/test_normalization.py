import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.random.default_rng(5).normal(size=(2, 5, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 11])
def test_lrn(size):
    y, scale = run_operator("LRN", X, size=size, alpha=0.3, beta=0.7, bias=2.0, n_outputs=2)
    for channel in range(5):
        first = channel - (size - 1) // 2
        window = X[:, max(first, 0) : first + size]
        expected = 2 + 0.3 / size * (window**2).sum(axis=1)
        np.testing.assert_allclose(scale[:, channel], expected, rtol=1e-5)
        np.testing.assert_allclose(y[:, channel], X[:, channel] * expected**-0.7, rtol=1e-5)


def test_lrn_with_channels_last():
    options = {"size": 3, "alpha": 0.3, "beta": 0.7, "n_outputs": 1}
    (y,) = run_operator("LRN", X, **options)
    (last,) = run_operator("LRN", X.transpose(0, 2, 3, 1), order="NHWC", **options)
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), y, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X[0], {"size": 3}, "of four dimensions"),
        (X, {"size": 0}, "size=0 is not positive"),
        (X, {"size": 3, "order": "NCWH"}, "neither 'NCHW' nor 'NHWC'"),
    ],
)
def test_lrn_errors(x, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator("LRN", x, **options)
