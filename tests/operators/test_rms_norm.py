import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(("axis", "size"), [(1, 20), (2, 5), (-1, 5)])
def test_rms_norm(axis, size):
    gamma, beta = np.arange(2 * size, dtype=np.float32).reshape(2, size)
    y, inverse = run_operator("RMSNorm", X, gamma, beta, axis=axis, eps=0.25)
    rows = X.reshape(*X.shape[:axis], size)
    wanted = 1 / np.sqrt((rows**2).mean(axis=-1) + 0.25)
    np.testing.assert_allclose(inverse, wanted, rtol=1e-5)
    expected = rows * wanted[..., None] * gamma + beta
    np.testing.assert_allclose(y.reshape(rows.shape), expected, rtol=1e-4, atol=1e-4)


def test_errors():
    ones = np.ones(20, np.float32)
    with pytest.raises(ValueError, match=r"gamma is \(5,\), an example has 20 elements"):
        run_operator("RMSNorm", X, ones[:5], ones)
    with pytest.raises(ValueError, match=r"beta is \(5,\), an example has 20 elements"):
        run_operator("RMSNorm", X, ones, ones[:5])
    with pytest.raises(TypeError, match="floating-point"):
        run_operator("RMSNorm", X.astype(int), ones, ones)
