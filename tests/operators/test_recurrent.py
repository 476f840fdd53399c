import numpy as np
import pytest

from procession import Net, Workspace
from procession.testing.gradcheck import run_operator

RANDOM = np.random.default_rng(3)
H, C = RANDOM.normal(size=(2, 1, 3, 2)).astype(np.float32)
GATES = RANDOM.normal(size=(1, 3, 8)).astype(np.float32)
LENGTHS = np.array([2, 1, 3], np.int32)
STEP = np.array([1], np.int32)


def squash(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("forget_bias", [0.0, 0.5])
def test_lstm_unit(forget_bias):
    hidden, cell = run_operator(
        "LSTMUnit", H, C, GATES, LENGTHS, STEP, forget_bias=forget_bias, n_outputs=2
    )
    for row in (0, 2):
        into, forget, out, new = GATES[0, row].reshape(4, 2)
        expected = squash(forget + forget_bias) * C[0, row] + squash(into) * np.tanh(new)
        np.testing.assert_allclose(cell[0, row], expected, rtol=1e-5)
        np.testing.assert_allclose(hidden[0, row], squash(out) * np.tanh(expected), rtol=1e-5)
    np.testing.assert_array_equal(hidden[0, 1], H[0, 1])
    np.testing.assert_array_equal(cell[0, 1], C[0, 1])


def test_lstm_unit_that_drops_what_is_at_its_end():
    hidden, cell = run_operator(
        "LSTMUnit", H, C, GATES, LENGTHS, STEP, drop_states=True, n_outputs=2
    )
    assert not hidden[0, 1].any()
    assert not cell[0, 1].any()
    assert hidden[0, 0].all()


def test_lstm_unit_without_lengths_goes_on():
    some = run_operator("LSTMUnit", H, C, GATES, LENGTHS, STEP, n_outputs=2)
    every = run_operator("LSTMUnit", H, C, GATES, STEP, sequence_lengths=False, n_outputs=2)
    for each, other in zip(some, every, strict=True):
        np.testing.assert_array_equal(each[0, ::2], other[0, ::2])
        assert (each[0, 1] != other[0, 1]).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((H, C, GATES, STEP), "has 5 inputs, not 4"),
        ((H[0], C, GATES, LENGTHS, STEP), r"states are \(1, N, D\)"),
        ((H, C, GATES[..., :6], LENGTHS, STEP), r"gates are \(1, 3, 6\)"),
        ((H, C, GATES, LENGTHS[:2], STEP), r"lengths are \(2,\)"),
    ],
)
def test_lstm_unit_errors(inputs, message):
    with pytest.raises(ValueError, match=message):
        run_operator("LSTMUnit", *inputs, n_outputs=2)


@pytest.mark.parametrize("asked", ["hidden", "cell"])
def test_the_gradient_of_one_output_does_without_that_of_the_other(asked):
    found = []
    for zeros in (False, True):
        net = Net("net")
        made = net.LSTMUnit(["h", "c", "gates", "lengths", "step"], ["hidden", "cell"])
        (other,) = (blob for blob in made if str(blob) != asked)
        if zeros:
            net.ZeroGradient(other, [])
        gradients = net.AddGradientOperators([asked])
        assert not {"lengths", "step"} & {str(blob) for blob in gradients}
        workspace = Workspace()
        fed = {"h": H, "c": C, "gates": GATES, "lengths": LENGTHS, "step": STEP}
        for name, value in fed.items():
            workspace.feed_blob(name, value)
        workspace.run(net)
        found.append([workspace.fetch_blob(gradients[name]) for name in ("h", "c", "gates")])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
    assert found[0][2].any()
