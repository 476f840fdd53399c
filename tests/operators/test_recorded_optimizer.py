"""Optimizers and learning rates against what Caffe2 made of the same steps."""

import numpy as np
import pytest
from tests.operators.recordings import RECORDED, check, replay

from procession.operators import REGISTRY
from procession.testing.gradcheck import run_operator

RUNS = [*replay(RECORDED / "optimizer.npz"), *replay(RECORDED / "optimizer_rows.npz")]
RATES = list(replay(RECORDED / "learning_rate.npz"))


def params(recordings):
    return [pytest.param(each, id=each.id) for each in recordings]


def run_step(recorded, inputs, outs):
    return REGISTRY[recorded.operator].kernel(*inputs, outs=outs, **recorded.arguments)


def close(actual, expected):
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("recorded", params(RUNS))
@pytest.mark.parametrize("in_place", [False, True])
def test_optimizer(recorded, in_place):
    """Step for step from Caffe2's first inputs, each from where our own last one ended."""
    homes = {
        written: read
        for read, written in REGISTRY[recorded.operator].in_place
        # The gradient is not carried on, though it may be written over.
        if np.array_equal(recorded.inputs[read][1:], recorded.outputs[written][:-1])
    }
    assert homes
    state = {read: recorded.inputs[read][0] for read in homes.values()}
    for number in range(len(recorded.inputs[0])):
        inputs = [state.get(place, each[number]) for place, each in enumerate(recorded.inputs)]
        outs = [
            inputs[homes[index]] if in_place and index in homes else None
            for index in range(len(recorded.outputs))
        ]
        made = run_step(recorded, inputs, tuple(outs))
        for index, expected in enumerate(recorded.outputs):
            close(made[index], expected[number])
            assert outs[index] is None or made[index] is outs[index]
        state = {read: made[written] for written, read in homes.items()}


@pytest.mark.parametrize("recorded", params(RATES))
def test_learning_rate(recorded):
    for iteration, rate in zip(recorded.inputs[0], recorded.outputs[0], strict=True):
        made = run_operator("LearningRate", iteration, **recorded.arguments)
        assert (made.shape, made.dtype) == (rate.shape, rate.dtype)
        np.testing.assert_allclose(made, rate, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("recorded", params(replay(RECORDED / "parameter.npz")))
def test_parameter(recorded):
    check(recorded, rtol=1e-5)
