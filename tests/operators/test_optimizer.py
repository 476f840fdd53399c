import numpy as np
import pytest

from procession import LocalSession, Net
from procession.operators import REGISTRY
from procession.testing.gradcheck import run_operator

G, M, LR = np.float32([0, 1, 2]), np.float32([1, 1, 1]), np.float32([0.5])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_iter_counts(shape, dtype):
    count = run_operator("Iter", np.full(shape, 5, dtype))
    assert (count.dtype, count.shape, int(count.reshape(()))) == (dtype, shape, 6)


def test_iter_counts_in_its_output():
    net = Net("count")
    net.Iter([], "iteration")
    session = LocalSession()
    for _ in range(3):
        session.run(net)
    count = session.workspace().fetch_blob("iteration")
    assert (count.dtype, count.tolist()) == (np.int64, [3])
    session.workspace().feed_blob("iteration", np.array([10]))
    session.run(net)
    assert session.workspace().fetch_blob("iteration").tolist() == [11]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"policy": "fixed"}, [1, 1, 1, 1, 1]),
        ({"policy": "step", "stepsize": 2, "gamma": 0.5}, [1, 1, 0.5, 0.5, 0.03125]),
        ({"policy": "exp", "gamma": 0.5}, [1, 0.5, 0.25, 0.125, 2**-10]),
        (
            {"policy": "inv", "gamma": 0.5, "power": 0.75},
            [1, 0.7377880, 0.5946036, 0.5029734, 0.2608474],
        ),
        ({"policy": "poly", "max_iter": 10, "power": 2}, [1, 0.81, 0.64, 0.49, 0]),
        (
            {"policy": "linearWarmup", "start_multiplier": 0.1, "num_iter": 10},
            [0.1, 0.19, 0.28, 0.37, 1],
        ),
        ({"policy": "constantWarmup", "multiplier": 0.1, "num_iter": 3}, [0.1, 0.1, 0.1, 1, 1]),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_learning_rate(arguments, expected, shape):
    rates = [
        run_operator("LearningRate", np.full(shape, i), base_lr=-0.1, **arguments)
        for i in (0, 1, 2, 3, 10)
    ]
    assert {(rate.dtype, rate.shape) for rate in rates} == {(np.dtype(np.float32), ())}
    np.testing.assert_allclose(rates, -0.1 * np.array(expected), rtol=1e-6)


def test_poly_ends_at_zero():
    rate = run_operator("LearningRate", 100, base_lr=1.0, policy="poly", max_iter=10, power=2)
    assert rate == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "stpe"}, "'stpe' is not a policy. Did you mean 'step'"),
        ({"policy": "step", "gamma": 0.5}, "'step' needs the argument 'stepsize'"),
        ({"policy": "step", "stepsize": 2}, "'step' needs the argument 'gamma'"),
        ({"policy": "step", "stepsize": 0, "gamma": 0.5}, "stepsize=0 is not positive"),
        ({"policy": "exp"}, "'exp' needs the argument 'gamma'"),
        ({"policy": "inv", "gamma": 1.0}, "'inv' needs the argument 'power'"),
    ],
)
def test_learning_rate_errors(arguments, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        run_operator("LearningRate", np.array([1]), base_lr=1.0, **arguments)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_weighted_sum(shape):
    two, three = np.full(shape, 2, np.float32), np.full(shape, 3, np.float32)
    y = run_operator("WeightedSum", G, two, M, three, G, two)
    assert y.dtype == np.float32
    assert y.tolist() == [3, 7, 11]


def test_weighted_sum_is_a_step_of_gradient_descent_in_place():
    w, one, rate = M.copy(), np.ones(1, np.float32), np.float32([-0.5])
    assert REGISTRY["WeightedSum"].kernel(w, one, G, rate, out=w) is w
    assert w.tolist() == [1, 0.5, 0]


def test_weighted_sum_has_the_type_of_its_first_input():
    y = run_operator("WeightedSum", G, np.array(2.0), G.astype(np.float64), np.array(0.1))
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((G, LR, G), "3 inputs: they come in pairs"),
        ((G, LR, G[:2], LR), r"input 2 is \(2,\), input 0 is \(3,\)"),
        ((G, LR, G, G), r"the weight of input 2 must be a single number, not of shape \(3,\)"),
    ],
)
def test_weighted_sum_errors(inputs, message):
    with pytest.raises(ValueError, match=message):
        run_operator("WeightedSum", *inputs)


@pytest.mark.parametrize(
    ("arguments", "change", "velocity"),
    [
        ({}, [0, 0.5, 1], [0, 0.5, 1]),
        ({"momentum": 0.9}, [0.9, 1.4, 1.9], [0.9, 1.4, 1.9]),
        ({"momentum": 0.9, "nesterov": 1}, [0.81, 1.76, 2.71], [0.9, 1.4, 1.9]),
    ],
)
def test_momentum(arguments, change, velocity):
    results = run_operator("MomentumSGD", G, M, LR, **arguments)
    np.testing.assert_allclose(results, [change, velocity], rtol=1e-6)
    results = run_operator("MomentumSGDUpdate", G, M, LR, G, **arguments)
    np.testing.assert_allclose(results, [change, velocity, G - change], rtol=1e-6, atol=1e-7)
    assert {each.dtype for each in results} == {np.dtype(np.float32)}


def test_momentum_errors():
    with pytest.raises(ValueError, match=r"the gradient is \(3,\), its momentum \(2,\)"):
        run_operator("MomentumSGD", G, M[:2], LR)
    with pytest.raises(ValueError, match=r"the gradient is \(3,\), its parameter \(2,\)"):
        run_operator("MomentumSGDUpdate", G, M, LR, G[:2])
    with pytest.raises(ValueError, match=r"the learning rate must be a single number"):
        run_operator("MomentumSGD", G, M, G)


def test_weighted_sum_gradient():
    x, y, dy = np.float32([1, 2]), np.float32([3, 4]), np.float32([10, 20])
    weights = np.float32([2]), np.float32(3)
    dx0, dx1 = run_operator("WeightedSumGradient", dy, x, weights[0], y, weights[1])
    assert (dx0.tolist(), dx1.tolist()) == ([20, 40], [30, 60])
    made = run_operator("WeightedSumGradient", dy, x, weights[0], y, weights[1], grad_on_w=True)
    assert [each.shape for each in made] == [(2,), (2,), (1,), ()]
    assert (made[2].tolist(), made[3].tolist()) == ([50], 110)
