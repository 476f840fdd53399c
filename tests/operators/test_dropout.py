import numpy as np
import pytest

from procession import LocalSession, Net
from procession.testing.gradcheck import run_operator

X = np.random.default_rng(3).normal(size=(200, 50)).astype(np.float32)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.9])
def test_what_stays_is_made_larger(ratio):
    y, mask = run_operator("Dropout", X, is_test=0, ratio=ratio)
    assert mask.dtype == np.bool_
    np.testing.assert_allclose(y, np.where(mask, X / (1 - ratio), 0), rtol=1e-6)
    assert mask.mean() == pytest.approx(1 - ratio, abs=0.02)


def test_in_a_test_everything_stays():
    (y,) = run_operator("Dropout", X, is_test=1, ratio=0.9)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(run_operator("DropoutGrad", X, is_test=1, ratio=0.9), X)


def test_in_a_test_a_mask_may_be_named():
    net = Net("drop")
    net.Dropout("x", ["y", "mask"], is_test=1)
    with LocalSession() as session:
        session.workspace().feed_blob("x", X)
        session.run(net)
        np.testing.assert_array_equal(session.workspace().fetch_blob("y"), X)
        assert session.workspace().fetch_blob("mask").all()


def test_gradient_is_that_of_what_stays():
    mask = X > 0
    dx = run_operator("DropoutGrad", X, mask, ratio=0.75)
    np.testing.assert_allclose(dx, np.where(mask, 4 * X, 0), rtol=1e-6)
    for wrong in ((), (mask[:3],)):
        with pytest.raises(ValueError, match="a mask in the shape of dY"):
            run_operator("DropoutGrad", X, *wrong)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_ratio_out_of_range(ratio):
    with pytest.raises(ValueError, match=r"is not in \[0, 1\)"):
        run_operator("Dropout", X, is_test=0, ratio=ratio)


def test_in_a_net_each_run_draws_anew_and_the_seed_decides():
    def masks():
        net = Net("drop")
        net.set_rand_seed(5)
        net.Dropout("x", ["x", "mask"], is_test=0)
        with LocalSession() as session:
            blobs, drawn = session.workspace(), []
            for _ in range(2):
                blobs.feed_blob("x", X)
                session.run(net)
                mask = blobs.fetch_blob("mask").copy()
                x = blobs.fetch_blob("x")
                np.testing.assert_allclose(x, np.where(mask, 2 * X, 0), rtol=1e-6)
                drawn.append(mask)
        return drawn

    first, second = masks()
    assert (first != second).any()
    for mask, again in zip((first, second), masks(), strict=True):
        np.testing.assert_array_equal(mask, again)
