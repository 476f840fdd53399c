"""Models with replicas, alike by Caffe2's `data_parallel_model` and by what stands in for it here.

Everything is taken from `caffe2.python`, and runs on Python 3.8 as well: `record/parallel.py` keeps
what Caffe2 makes of it, `test_data_parallel_model.py` compares.
"""

import inspect

import numpy as np
from caffe2.python import brew, core, optimizer, workspace
from caffe2.python import data_parallel_model as parallel
from caffe2.python.model_helper import ModelHelper

STEPS, ROUNDS = 2, 2
RANDOM = np.random.RandomState(5)
EXAMPLES = RANDOM.randn(12, 5).astype(np.float32)
IMAGES = RANDOM.randn(12, 2, 5, 5).astype(np.float32)
LABELS = RANDOM.randint(0, 3, 12).astype(np.int32)


def filled(*shape):
    """Weights that are the same wherever this runs."""
    values = np.random.RandomState(sum(shape)).randn(*shape).astype(np.float32) / 2
    return ("GivenTensorFill", {"values": values.ravel().tolist()})


def nothing(model):
    """Batches are fed."""


def scaled_loss(model, scores, scale):
    """What the replicas' losses add up to is the mean over all examples."""
    _, loss = model.net.SoftmaxWithLoss([scores, "label"], ["probabilities", "loss"])
    return [model.net.Scale(loss, "scaled", scale=scale)]


def layers(model, scale):
    """Two fully connected ones."""
    hidden = brew.fc(model, "x", "hidden", 5, 4, weight_init=filled(4, 5))
    hidden = brew.tanh(model, hidden, "squashed")
    scores = brew.fc(model, hidden, "scores", 4, 3, weight_init=filled(3, 4))
    return scaled_loss(model, scores, scale)


def normalised(model, scale):
    """A convolution, and its channels normalised."""
    conv = brew.conv(model, "images", "conv", 2, 3, kernel=3, weight_init=filled(3, 2, 3, 3))
    bn = brew.spatial_bn(model, conv, "bn", 3, is_test=False)
    scores = brew.fc(model, brew.relu(model, bn, bn), "scores", 27, 3, weight_init=filled(3, 27))
    return scaled_loss(model, scores, scale)


def descend(model):
    """Plain descent, in each replica, with a rate that falls."""
    counter = brew.iter(model, "iteration")
    rate = model.net.LearningRate(
        counter, "rate", base_lr=-0.2, policy="step", stepsize=1, gamma=0.9
    )
    one = model.param_init_net.ConstantFill([], "one", shape=[1], value=1.0)
    for param in model.GetParams():
        model.net.WeightedSum([param, one, model.param_to_grad[param], rate], param)


def with_momentum(model):
    """Descent with momentum, in each replica."""
    counter = brew.iter(model, "iteration")
    rate = model.net.LearningRate(counter, "rate", base_lr=0.1, policy="fixed")
    for param in model.GetParams():
        kept = model.param_init_net.ConstantFill(param, param + "_kept", value=0.0)
        grad = model.param_to_grad[param]
        model.net.MomentumSGDUpdate([grad, kept, rate, param], [grad, kept, param], momentum=0.9)


def together(**arguments):
    """Arguments of Parallelize_CPU, and the function."""
    return parallel.Parallelize_CPU, arguments


def in_blocks(**arguments):
    """Arguments of Parallelize_CPU_BMUF, and the function."""
    return parallel.Parallelize_CPU_BMUF, arguments


def momentum(model):
    """One optimizer for all replicas."""
    return optimizer.build_sgd(model, 0.1, momentum=0.9)


def adam(model):
    """Another one."""
    return optimizer.build_adam(model, 0.05, max_gradient_norm=0.1)


CASES = {
    "alone": (1, layers, together(param_update_builder_fun=descend)),
    "two": (2, layers, together(param_update_builder_fun=descend)),
    "three": (3, layers, together(param_update_builder_fun=descend, net_type="simple")),
    "momentum": (2, layers, together(optimizer_builder_fun=momentum)),
    "adam": (3, layers, together(optimizer_builder_fun=adam, num_threads_per_device=2)),
    "shared": (2, layers, together(param_update_builder_fun=descend, shared_model=True)),
    "shared_adam": (3, layers, together(optimizer_builder_fun=adam, shared_model=True)),
    "normalised": (2, normalised, together(param_update_builder_fun=descend)),
    "each_for_itself": (
        2,
        normalised,
        together(param_update_builder_fun=descend, broadcast_computed_params=False),
    ),
    "combined": (
        3,
        normalised,
        together(param_update_builder_fun=descend, combine_spatial_bn=True),
    ),
    "blocks": (2, layers, in_blocks(param_update_builder_fun=descend)),
    "blocks_ahead": (
        2,
        layers,
        in_blocks(param_update_builder_fun=descend, nesterov=True, block_momentum=0.7),
    ),
    "blocks_reset": (
        2,
        layers,
        in_blocks(
            param_update_builder_fun=with_momentum,
            reset_momentum_sgd=True,
            block_learning_rate=0.5,
            add_blobs_to_sync=["squashed"],
        ),
    ),
    "blocks_warm": (
        3,
        layers,
        in_blocks(param_update_builder_fun=with_momentum, warmup_iterations=2),
    ),
}


def built(name):
    """The model of a case, and its parts of a batch in the workspace."""
    devices, forward, (parallelize, arguments) = CASES[name]
    workspace.ResetWorkspace()
    optimizer._optimizer_instance_count.clear()
    lean = {"order": "NCHW", "use_cudnn": False, "cudnn_exhaustive_search": False}
    model = ModelHelper(name=f"net_of_{name}", arg_scope=lean)
    parallelize(model, nothing, forward, devices=list(range(devices)), **arguments)
    for blob, whole in (("x", EXAMPLES), ("images", IMAGES), ("label", LABELS)):
        for device, part in enumerate(np.array_split(whole, devices)):
            workspace.FeedBlob(f"cpu_{device}/{blob}", part)
    return model


def trained(name):
    """Parameters, losses and running means after each round."""
    model = built(name)
    parallel.RunInitNet(model)
    if "warmup_iterations" in CASES[name][2][1]:
        parallel.RunWarmup(model)
    kept = [*model.params, *model.GetComputedParams("")]
    kept += [f"cpu_{device}/loss" for device in range(CASES[name][0])]
    values = {str(blob): [] for blob in kept}
    for _ in range(ROUNDS):
        parallel.RunNet(model, STEPS)
        for blob, found in values.items():
            found.append(workspace.FetchBlob(blob))
    return {blob: np.array(found) for blob, found in values.items()}


def told(name):
    """What is known of the model of a case."""
    model = built(name)
    message = model.net.Proto()
    return {
        "params": sorted(map(str, model.params)),
        "gradients": sorted(map(str, model.param_to_grad.values())),
        "checkpoint": sorted(map(str, parallel.GetCheckpointParams(model))),
        "devices": model.GetDevices(),
        "type": message.type,
        "workers": message.num_workers,
        "operators": [
            [each.type, *([blob.replace(message.name, "net") for blob in blobs] for blobs in ends)]
            for each in message.op
            for ends in [(each.input, each.output)]
        ],
    }


def predictor():
    """What predicts, taken out of the first replica."""
    model = built("two")
    net, params = parallel.ExtractPredictorNet(model, ["x"], ["scores"], core.DeviceOption(0, 0))
    operators = net.Proto().op
    return {
        "operators": [[each.type, list(each.input), list(each.output)] for each in operators],
        "params": sorted(map(str, params)),
    }


FUNCTIONS = [
    "AddBlobSync",
    "ConvertNetForDevice",
    "CreateNet",
    "ExtractPredictorNet",
    "FinalizeAfterCheckpoint",
    "GetCheckpointParams",
    "GetLearningRateBlobNames",
    "Parallelize",
    "Parallelize_BMUF",
    "RunInitNet",
    "RunNet",
    "RunWarmup",
    "Synchronize",
    "stripBlobName",
]


def signatures():
    """Function -> its parameters and their defaults, as text."""
    return {
        name: [
            [each.name, "" if each.default is each.empty else repr(each.default)]
            for each in inspect.signature(getattr(parallel, name)).parameters.values()
        ]
        for name in FUNCTIONS
    }
