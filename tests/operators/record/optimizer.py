"""Record what Caffe2's optimizers make of ten steps with random gradients.

What belongs to one run is one recording: each input and output has the steps as its first
dimension.

Run it with a Python that has Caffe2, in the root of the repository:

    PYTHONPATH=. python tests/operators/record/optimizer.py
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, Recorded, record, run, write

RANDOM = np.random.RandomState(5)
STEPS = 10
RATE = np.float32([-0.1])


def f32(*shape):
    return RANDOM.uniform(-1, 1, shape).astype(np.float32)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def rows():
    """Indices, some of them more than once, and a gradient for each."""
    return RANDOM.randint(0, 6, 6).astype(np.int64), f32(6, 3)


def steps(name, operator, state, others, homes, n_outputs=None, **arguments):
    """Ten steps, each of them from where the last one ended.

    `state` are the inputs that change, by their place; `others(step)` gives the rest, by theirs;
    `homes` says which output becomes which input.
    """
    read, written = [], []
    for step in range(STEPS):
        inputs = {**state, **others(step)}
        values = [inputs[place] for place in range(len(inputs))]
        outputs = run(Case(name, operator, values, arguments, n_outputs or len(homes), homes))
        state = {place: outputs[output] for output, place in homes.items() if place in state}
        read.append(values)
        written.append(outputs)
    return together(name, operator, arguments, read, written)


def together(name, operator, arguments, read, written):
    """One recording of several runs."""
    inputs, outputs = ([np.stack(each) for each in zip(*runs)] for runs in (read, written))  # noqa: B905
    return Recorded(name, operator, inputs, arguments, outputs)


def momentum(name, operator, **arguments):
    return steps(
        name,
        operator,
        {1: zeros(4, 3), **({3: f32(4, 3)} if operator.endswith("Update") else {})},
        lambda step: {0: f32(4, 3), 2: -RATE},
        {0: 0, 1: 1, **({2: 3} if operator.endswith("Update") else {})},
        **arguments,
    )


def sparse_momentum(name, **arguments):
    def others(step):
        which, gradient = rows()
        return {0: gradient, 2: -RATE, 4: which}

    state = {1: zeros(6, 3), 3: f32(6, 3)}
    operator = "SparseMomentumSGDUpdate"
    return steps(name, operator, state, others, {0: 0, 1: 1, 2: 3}, **arguments)


def plain(name, operator, moments, n_outputs=None, counted=False, **arguments):
    """Inputs: the parameter, moments, the gradient, the learning rate, perhaps the iteration."""
    count = 1 + len(moments)
    state = dict(enumerate([f32(4, 3), *moments]))

    def others(step):
        last = {count + 2: np.int64([step])} if counted else {}
        return {count: f32(4, 3), count + 1: RATE, **last}

    homes = {place: place for place in range(count)}
    return steps(name, operator, state, others, homes, n_outputs, **arguments)


def sparse(name, operator, moments, n_outputs=None, counted=False, swapped=False, **arguments):
    """Inputs: the parameter, moments, indices, the gradient, the rate, perhaps the iteration."""
    count = 1 + len(moments)
    state = dict(enumerate([f32(6, 3), *moments]))

    def others(step):
        which, gradient = rows()
        pair = (gradient, which) if swapped else (which, gradient)
        last = {count + 3: np.int64([step])} if counted else {}
        return {count: pair[0], count + 1: pair[1], count + 2: RATE, **last}

    homes = {place: place for place in range(count)}
    return steps(name, operator, state, others, homes, n_outputs, **arguments)


def rms(name, **arguments):
    state = {1: np.abs(f32(4, 3)), 2: zeros(4, 3)}
    return steps(
        name,
        "RmsProp",
        state,
        lambda step: {0: f32(4, 3), 3: RATE},
        {0: 0, 1: 1, 2: 2},
        **arguments,
    )


def leader(name, operator, shape=(4, 3), rate=None, **arguments):
    state = {0: f32(*shape), 1: zeros(*shape, 2)}

    def others(step):
        return {2: f32(*shape), **({} if rate is None else {3: np.float32([rate])})}

    return steps(name, operator, state, others, {0: 0, 1: 1}, **arguments)


def sparse_leader(name, **arguments):
    def others(step):
        which, gradient = rows()
        return {2: which, 3: gradient}

    state = {0: f32(6, 3), 1: zeros(6, 3, 2)}
    return steps(name, "SparseFtrl", state, others, {0: 0, 1: 1}, **arguments)


def table(name, operator, **arguments):
    """What changes some rows of a parameter."""

    def others(step):
        which, gradient = rows()
        return {1: which, 2: gradient}

    return steps(name, operator, {0: 3 * f32(6, 3)}, others, {0: 0}, **arguments)


def counts(name, **arguments):
    def others(step):
        return {2: rows()[0].astype(np.int64), 3: np.int64([2 * step + 1])}

    state = {0: np.zeros(6, np.int64), 1: np.zeros(6, np.float64)}
    return steps(name, "RowWiseCounter", state, others, {0: 0, 1: 1}, **arguments)


def tunes(name, **arguments):
    """YellowFin: the parameter, its moment, and much state of the tuner."""
    width = arguments.get("curv_win_width", 20)
    state = [f32(4, 3), zeros(4, 3), np.float32([0.1]), np.float32([0.2]), zeros(width)]
    state = dict(enumerate([*state, zeros(4, 3), zeros(4, 3), zeros(5)]))
    homes = {place: place for place in range(8)}

    def others(step):
        return {8: f32(4, 3), 9: np.int64([step + 1])}

    return steps(name, "YellowFin", state, others, homes, **arguments)


def one(*shape):
    return np.ones(shape, np.float32)


BETAS = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
LEADER = {"alpha": 0.1, "beta": 0.5, "lambda1": 0.4, "lambda2": 0.05}

RECORDINGS = [
    momentum("momentum", "MomentumSGD", momentum=0.9),
    momentum("momentum-nesterov", "MomentumSGD", momentum=0.9, nesterov=1),
    momentum("momentum-update", "MomentumSGDUpdate", momentum=0.8),
    momentum("momentum-update-none", "MomentumSGDUpdate"),
    momentum("momentum-update-nesterov", "MomentumSGDUpdate", momentum=0.8, nesterov=1),
    sparse_momentum("momentum-sparse", momentum=0.9),
    sparse_momentum("momentum-sparse-nesterov", momentum=0.9, nesterov=1),
    plain("adagrad", "Adagrad", [zeros(4, 3)]),
    plain("adagrad-3", "Adagrad", [zeros(4, 3)], 3, epsilon=1e-2, decay=0.9),
    plain("adagrad-4", "Adagrad", [zeros(4, 3)], 4, weight_decay=0.1),
    plain("adagrad-decay", "Adagrad", [zeros(4, 3)], decay=0.8, weight_decay=0.3),
    sparse("adagrad-sparse", "SparseAdagrad", [zeros(6, 3)], epsilon=1e-3),
    sparse("adagrad-sparse-decay", "SparseAdagrad", [zeros(6, 3)], weight_decay=0.2),
    sparse("adagrad-rows", "RowWiseSparseAdagrad", [zeros(6)], epsilon=1e-3),
    sparse("adagrad-rows-decay", "RowWiseSparseAdagrad", [zeros(6)], weight_decay=0.2),
    plain("adadelta", "Adadelta", [zeros(4, 3), zeros(4, 3)]),
    plain("adadelta-decay", "Adadelta", [one(4, 3), one(4, 3)], decay=0.5, epsilon=0.1),
    sparse("adadelta-sparse", "SparseAdadelta", [zeros(6, 3), zeros(6, 3)], epsilon=1e-2),
    rms("rmsprop"),
    rms("rmsprop-momentum", momentum=0.8, decay=0.7, epsilon=0.01),
    plain("adam", "Adam", [zeros(4, 3), zeros(4, 3)], counted=True),
    plain("adam-4", "Adam", [zeros(4, 3), zeros(4, 3)], 4, counted=True, **BETAS),
    sparse("adam-sparse", "SparseAdam", [zeros(6, 3), zeros(6, 3)], counted=True),
    sparse("adam-sparse-4", "SparseAdam", [zeros(6, 3), zeros(6, 3)], 4, counted=True, **BETAS),
    sparse("radam", "SparseAdam", [zeros(6, 3), zeros(6, 3)], counted=True, enableRAdam=True),
    sparse(
        "radam-4", "SparseAdam", [zeros(6, 3), zeros(6, 3)], 4, counted=True, enableRAdam=1, **BETAS
    ),
    sparse("adam-rows", "RowWiseSparseAdam", [zeros(6, 3), zeros(6)], counted=True),
    sparse("adam-rows-4", "RowWiseSparseAdam", [zeros(6, 3), zeros(6)], 4, counted=True, **BETAS),
    plain("storm", "Storm", [zeros(4, 3), zeros(1)]),
    plain("storm-beta", "Storm", [zeros(4, 3), zeros(1)], momentum=3.0, beta=2.0),
    sparse("storm-sparse", "SparseStorm", [zeros(6, 3), zeros(1)], swapped=True, beta=1.0),
    plain("wngrad", "Wngrad", [one(1)]),
    plain("wngrad-3", "Wngrad", [one(1)], 3, epsilon=0.1),
    plain("wngrad-4", "Wngrad", [one(1)], 4),
    sparse("wngrad-sparse", "SparseWngrad", [one(1)], epsilon=0.1),
    leader("ftrl", "Ftrl", **LEADER),
    leader("ftrl-defaults", "Ftrl"),
    leader("ftrl-rate", "Ftrl", rate=0.2, lambda1=0.3),
    sparse_leader("ftrl-sparse", **LEADER),
    leader("gftrl", "GFtrl", **LEADER),
    leader("gftrl-vector", "GFtrl", (4,), **LEADER),
    leader("gftrl-3d", "GFtrl", (2, 3, 2), rate=0.2, lambda1=0.5),
    table("normalize", "SparseNormalize"),
    table("normalize-exactly", "SparseNormalize", use_max_norm=False, norm=2.0),
    table("lp", "SparseLpRegularizer"),
    table("lp-1", "SparseLpRegularizer", p=1.0, reg_lambda=0.2),
    table("lp-2", "SparseLpRegularizer", p=2.0, reg_lambda=0.2),
    table("clipped", "EnsureClipped", min=-0.5, max=1.0),
    counts("counts", counter_halflife=3),
    counts("counts-none"),
    tunes("yellowfin"),
    tunes("yellowfin-window", curv_win_width=3, nesterov=1, beta=0.9),
    tunes("yellowfin-biased", zero_debias=False, epsilon=1e-3, beta=0.99),
]

POLICIES = {
    "fixed": {},
    "alter": {"active_period": 3, "inactive_period": 2},
    "alter-last": {"active_period": 3, "inactive_period": 2, "active_first": False},
    "step": {"stepsize": 3, "gamma": 0.5},
    "exp": {"gamma": 0.9},
    "gate": {"multiplier_1": 0.3, "multiplier_2": 0.7, "num_iter": 5},
    "gate-defaults": {},
    "inv": {"gamma": 0.3, "power": 0.75},
    "poly": {"max_iter": 40, "power": 1.5},
    "linearWarmup": {"start_multiplier": 0.2, "num_iter": 10},
    "linearWarmup-zero": {"num_iter": 10},
    "constantWarmup": {"multiplier": 0.3, "num_iter": 10},
    "constantWarmup-half": {"num_iter": 10},
    "pieceWarmup": {"m1": 0.1, "n1": 3, "m2": 0.4, "n2": 8, "m3": 0.9},
    "pieceWarmup-defaults": {"m1": 0.1, "n1": 3},
    "hill": {
        "num_iter": 7,
        "start_multiplier": 0.1,
        "gamma": 0.5,
        "power": 1.2,
        "end_multiplier": 0.2,
    },
    "slope": {"num_iter_1": 4, "multiplier_1": 0.9, "num_iter_2": 20, "multiplier_2": 0.1},
    "cyclical": {"max_lr": 0.7, "stepsize": 4},
    "cyclical-decay": {"max_lr": 0.7, "stepsize": 5, "decay": 0.6},
    "cosine": {"max_lr": 0.6, "min_lr": 0.05, "period": 7, "lr_shrink": 0.8},
    "cosine-longer": {"max_lr": 0.6, "min_lr": 0.05, "period": 5, "t_mult": 2.0},
    "cosine-defaults": {},
    "constantThenLinearWarmup": {
        "start_warmup_multiplier": 0.2,
        "constant_warmup_num_iter": 4,
        "linear_warmup_num_iter": 6,
    },
    "constantThenLinearWarmup-defaults": {},
    "compositeCyclical": {
        "start_warmup_multiplier": 0.2,
        "constant_warmup_num_iter": 4,
        "linear_warmup_num_iter": 6,
        "cyclical_max_lr": 0.5,
        "cyclical_step_size": 3,
        "cyclical_decay": 0.9,
    },
    "compositeCosine": {
        "start_warmup_multiplier": 0.2,
        "constant_warmup_num_iter": 4,
        "linear_warmup_num_iter": 6,
        "cosine_max_lr": 0.5,
        "cosine_min_lr": 0.2,
        "cosine_period": 8,
        "cosine_t_mult": 1.5,
        "cosine_lr_shrink": 0.9,
    },
    "composite": {
        "sub_policy_num_iters": [5, 6, 4],
        "sub_policy_0_policy": "fixed",
        "sub_policy_0_lr_scale": 0.5,
        "sub_policy_1_policy": "exp",
        "sub_policy_1_gamma": 0.8,
        "sub_policy_2_policy": "cosine",
        "sub_policy_2_period": 6,
        "sub_policy_2_lr_scale": 2.0,
    },
}


def rates():
    """The learning rates that the policies make of some iterations."""
    for name, arguments in POLICIES.items():
        # A composite counts from 1, and says nothing of what is before.
        iterations = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 14, 15, 16, 21, 37][name == "composite" :]
        arguments = {"base_lr": 0.4, "policy": name.partition("-")[0], **arguments}
        read = [[np.int64([each])] for each in iterations]
        written = [run(Case(name, "LearningRate", inputs, arguments)) for inputs in read]
        yield together(name, "LearningRate", arguments, read, written)


def numbers(*values):
    return [np.float32([value]) for value in values]


def others():
    for index, arguments in enumerate(
        [{}, {"lr_alpha": 0.3}, {"lr_alpha": 0.3, "normalized_lr_adaption": False}]
    ):
        inputs = [RATE, f32(4, 3), f32(4, 3)]
        yield Case(f"adaption/{index}", "LearningRateAdaption", inputs, arguments)
    for index, (values, arguments) in enumerate(
        [
            ((0.1, 0.5, 10), {}),
            ((0.1, 0.5, 0.1), {"offset": 0.0}),
            ((0.1, 0.001, 10), {"lr_min": 0.3}),
        ]
    ):
        yield Case(f"lars/{index}", "Lars", [f32(5), f32(5), *numbers(*values)], arguments)
    yield Case("lars/zeros", "Lars", [zeros(5), f32(5), *numbers(0.1, 0.5, 10)])
    for iteration in range(8):
        arguments = {"stepsize": 2, "upper_bound_iter": 5, "scale": 0.5}
        inputs = [f32(3), np.int64([iteration])]
        yield Case(f"scale/{iteration}", "WeightScale", inputs, arguments)
    yield Case("scale/defaults", "WeightScale", [f32(3), np.int64([3])])
    for index, value in enumerate([0.5, 3.0]):
        inputs = [f32(3), *numbers(value)]
        yield Case(f"clip/{index}", "ClipTensorByScaling", inputs, {"threshold": 1.5})
        inputs = [f32(3), *numbers(value, 0.2)]
        yield Case(f"clip-more/{index}", "ClipTensorByScaling", inputs, {"threshold": 1.5})


if __name__ == "__main__":
    of_rows = [each for each in RECORDINGS if "Sparse" in each.operator]
    write(
        RECORDED / "optimizer.npz", [each for each in RECORDINGS if "Sparse" not in each.operator]
    )
    write(RECORDED / "optimizer_rows.npz", of_rows)
    write(RECORDED / "learning_rate.npz", list(rates()))
    record(RECORDED / "parameter.npz", list(others()))
