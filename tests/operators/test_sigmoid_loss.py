import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

NAME = "SigmoidCrossEntropyWithLogits"
LOGITS = np.float32([[-2, 0, 3, 0.5], [1, -1, -4, 4]])
TARGETS = np.float32([[0, 1, 0.25, 1], [1, 0, 1, 0]])
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
JOINED = -(TARGETS * np.log(P) + (1 - TARGETS) * np.log(1 - P))


@pytest.mark.parametrize(
    ("options", "losses"),
    [
        ({}, JOINED),
        ({"log_D_trick": True}, -(2 * TARGETS - 1) * np.log(P)),
        ({"unjoined_lr_loss": True}, -(TARGETS * LOGITS + (1 - TARGETS) * np.log(1 - P))),
    ],
)
def test_average_over_the_last_dimension(options, losses):
    y = run_operator(NAME, LOGITS, TARGETS, **options)
    assert (y.dtype, y.shape) == (np.float32, (2,))
    np.testing.assert_allclose(y, losses.mean(axis=1), rtol=1e-5)
    (one,) = run_operator(NAME, LOGITS[:1], TARGETS[:1], **options)
    assert one == pytest.approx(run_operator(NAME, LOGITS[0], TARGETS[0], **options)[()])


def test_weights():
    weights = np.float32([[1, 2, 3, 4], [0, 0, 1, 0]])
    y = run_operator(f"Weighted{NAME}", LOGITS, TARGETS, weights)
    np.testing.assert_allclose(y, (JOINED * weights).mean(axis=1), rtol=1e-5)


def test_large_logits_are_no_trouble():
    logits, targets = np.float32([[1000, -1000, 1000]]), np.float32([[1, 0, 0]])
    assert run_operator(NAME, logits, targets)[0] == pytest.approx(1000 / 3)
    dx = run_operator(f"{NAME}Gradient", np.float32([3]), logits, targets)
    np.testing.assert_array_equal(dx, [[0, 0, 1]])


def test_targets_may_be_integers():
    whole = (TARGETS > 0.5).astype(np.int32)
    y = run_operator(NAME, LOGITS, whole)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, run_operator(NAME, LOGITS, whole.astype(np.float32)))


@pytest.mark.parametrize("suffix", ["", "Gradient"])
def test_errors(suffix):
    lead = (np.ones(2, np.float32),) if suffix else ()
    name = NAME + suffix
    with pytest.raises(ValueError, match=rf"{name}: targets are \(2, 3\), the logits \(2, 4\)"):
        run_operator(name, *lead, LOGITS, TARGETS[:, :3])
    with pytest.raises(ValueError, match="log_D_trick and unjoined_lr_loss: one of them"):
        run_operator(name, *lead, LOGITS, TARGETS, log_D_trick=True, unjoined_lr_loss=True)
    with pytest.raises(TypeError, match="for floating-point numbers"):
        run_operator(name, *lead, LOGITS.astype(np.int32), TARGETS)
    with pytest.raises(ValueError, match=r"weights are \(2, 3\)"):
        run_operator("Weighted" + name, *lead, LOGITS, TARGETS, TARGETS[:, :3])


def test_divergence_of_chances():
    x, t = np.float32([0.25, 0, 1, 0]), np.float32([0.25, 1, 1, 0])
    y = run_operator("BernoulliJSD", x, t)
    np.testing.assert_allclose(y, [0, np.log(2), 0, 0], atol=1e-6)
    dx = run_operator("BernoulliJSDGradient", np.ones(4, np.float32), x, t)
    np.testing.assert_allclose(dx, [0, np.log(1e-20) / 2, 0, 0], rtol=1e-5, atol=1e-6)
