import numpy as np
import pytest

from procession import LocalSession, Net
from procession.caffe2.python import core, workspace
from procession.errors import UnknownArgumentError
from procession.testing.gradcheck import run_operator


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
        ({"policy": "poly", "power": 1.0}, "'poly' needs the argument 'max_iter'"),
        ({"policy": "alter", "active_period": 1}, "'alter' needs the argument 'inactive_period'"),
        ({"policy": "cosine", "period": 0}, "period=0 is not positive"),
        ({"policy": "composite"}, "'composite' needs the argument 'sub_policy_num_iters'"),
        ({"policy": "composite", "sub_policy_num_iters": [3]}, "'sub_policy_0_policy' must be"),
        (
            {
                "policy": "composite",
                "sub_policy_num_iters": [3],
                "sub_policy_0_policy": "exp",
            },
            "'exp' needs the argument 'sub_policy_0_gamma'",
        ),
    ],
)
def test_learning_rate_errors(arguments, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        run_operator("LearningRate", np.array([1]), base_lr=1.0, **arguments)


def test_composite_in_a_net():
    net = Net("rates")
    net.Iter("i", "i")
    parts = {"sub_policy_0_policy": "fixed", "sub_policy_1_policy": "exp"}
    net.LearningRate(
        "i",
        "lr",
        base_lr=2.0,
        policy="composite",
        sub_policy_num_iters=[2, 5],
        sub_policy_0_lr_scale=0.5,
        sub_policy_1_gamma=0.5,
        **parts,
    )
    session = LocalSession()
    session.workspace().feed_blob("i", np.array([0]))
    rates = []
    for _ in range(4):
        session.run(net)
        rates.append(float(session.workspace().fetch_blob("lr")))
    assert rates == [1, 1, 0.25, 0.125]


def test_composite_in_a_net_of_caffe2():
    # Those take no notice of arguments that an operator does not have; these it has.
    net = core.Net("rates")
    policy = {"sub_policy_0_policy": "exp", "sub_policy_0_gamma": 0.5, "sub_policy_1_policy": 3}
    rate = net.LearningRate(
        ["i"], base_lr=2.0, policy="composite", sub_policy_num_iters=[9], **policy
    )
    workspace.FeedBlob("i", np.array([3]))
    workspace.RunNetOnce(net)
    assert workspace.FetchBlob(rate) == 0.25


def test_only_parts_of_a_policy_have_arguments_of_any_name():
    with pytest.raises(UnknownArgumentError, match="no argument 'part_0_policy'"):
        Net("rates").LearningRate("i", "lr", base_lr=2.0, policy="fixed", part_0_policy="fixed")


def test_adaption_goes_on_where_the_gradients_agree():
    lr, one = np.float32([-0.5]), np.float32([3, 4])
    rate = run_operator("LearningRateAdaption", lr, one, one, lr_alpha=0.1)
    assert (rate.shape, rate.dtype) == ((1,), np.float32)
    np.testing.assert_allclose(rate, [-0.45])
    rate = run_operator(
        "LearningRateAdaption", lr, one, -one, lr_alpha=0.1, normalized_lr_adaption=False
    )
    np.testing.assert_allclose(rate, [2.0])


def test_lars_of_nothing():
    one = np.float32([1])
    zeros = np.zeros(3, np.float32)
    assert run_operator("Lars", zeros, zeros + 1, one, one, one * 5).tolist() == [1]
