"""Models that are built, and trained, alike by Caffe2 and by what stands in for it here.

Everything is taken from `caffe2.python`, and runs on Python 3.8 as well: `record/training.py` keeps
what Caffe2 makes of it, `test_training_recorded.py` compares.
"""

import importlib
import inspect

import numpy as np
from caffe2.python import brew, core, model_helper, optimizer, regularizer, workspace
from caffe2.python.cnn import CNNModelHelper
from caffe2.python.modeling import initializers, parameter_sharing
from caffe2.python.modeling.gradient_clipping import GradientClipping

STEPS = 10


def plain(value):
    """An argument's value as JSON has it, of float32."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (bool, int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(np.float32(value))
    if isinstance(value, str):
        return value
    return [plain(each) for each in value]


def value_of(argument):
    """What an argument holds; a list that has nothing in it is no field that is set."""
    for field in ("f", "i", "s"):
        if argument.HasField(field):
            return plain(getattr(argument, field))
    lists = (getattr(argument, field) for field in ("floats", "ints", "strings"))
    return plain(next((each for each in lists if len(each)), []))


def described(operators):
    """Type, inputs, outputs and arguments of each."""
    return [
        [
            each.type,
            list(each.input),
            list(each.output),
            {argument.name: value_of(argument) for argument in each.arg},
        ]
        for each in operators
    ]


def names(blobs):
    """Blobs as text, in lists like those that they are in."""
    if isinstance(blobs, (list, tuple)):
        return [names(each) for each in blobs]
    return None if blobs is None else str(blobs)


def model_named(name, **arguments):
    """A model of Caffe2's."""
    return model_helper.ModelHelper(name=name, **arguments)


# Layers: name -> (arguments of the model, what is added to it).

GAUSSIAN = ("GaussianFill", {"std": 0.5})
ONES = ("ConstantFill", {"value": 1.0})
NHWC = {"order": "NHWC"}
LAYERS = {
    "fc": ({}, lambda m: brew.fc(m, "x", "y", 3, 2)),
    "fc_fills": ({}, lambda m: brew.fc(m, "x", "y", 3, 2, GAUSSIAN, ONES, axis=2)),
    "fc_classes": (
        {},
        lambda m: brew.fc(m, "x", "y", 3, 2, GAUSSIAN, WeightInitializer=initializers.Initializer),
    ),
    "fc_frozen": ({}, lambda m: brew.fc(m, "x", "y", 3, 2, freeze_bias=True)),
    "fc_from_elsewhere": ({"init_params": False}, lambda m: brew.fc(m, "x", "y", 3, 2)),
    "fc_lean": ({"arg_scope": {"use_cudnn": False}}, lambda m: brew.fc(m, "x", "y", 3, 2)),
    "elementwise_linear": ({}, lambda m: brew.elementwise_linear(m, "x", "y", 3)),
    "mat_mul": ({}, lambda m: brew.mat_mul(m, ["x", "y"], "z", trans_a=1)),
    "batch_mat_mul": ({}, lambda m: brew.batch_mat_mul(m, ["x", "y"], "z")),
    "conv": ({}, lambda m: brew.conv(m, "x", "y", 4, 6, 3, stride=2, pad=1)),
    "conv_nhwc": ({"arg_scope": NHWC}, lambda m: brew.conv(m, "x", "y", 4, 6, 3)),
    "conv_sides": ({}, lambda m: brew.conv(m, "x", "y", 4, 6, [3, 5], no_bias=True)),
    "conv_groups": ({}, lambda m: brew.conv(m, "x", "y", 4, 6, 3, ONES, GAUSSIAN, group=2)),
    "conv_lean": (
        {"arg_scope": {"use_cudnn": False}},
        lambda m: brew.conv(m, "x", "y", 4, 6, 3),
    ),
    "conv_nd": ({}, lambda m: brew.conv_nd(m, "x", "y", 4, 6, [1, 3, 3], pads=[0, 1, 1] * 2)),
    "conv_nd_one": ({}, lambda m: brew.conv_nd(m, "x", "y", 4, 6, 3)),
    "conv_transpose": ({}, lambda m: brew.conv_transpose(m, "x", "y", 4, 6, 3, stride=2)),
    "conv_transpose_nhwc": (
        {"arg_scope": NHWC},
        lambda m: brew.conv_transpose(m, "x", "y", 4, 6, 3),
    ),
    "group_conv": ({}, lambda m: brew.group_conv(m, "x", "y", 4, 6, 3, group=2)),
    "group_conv_deprecated": (
        {},
        lambda m: brew.group_conv_deprecated(m, "x", "y", 4, 6, 3, group=2),
    ),
    "max_pool": ({}, lambda m: brew.max_pool(m, "x", "y", kernel=2, stride=2)),
    "average_pool": ({}, lambda m: brew.average_pool(m, "x", "y", kernel=2, global_pooling=True)),
    "spatial_bn": ({}, lambda m: brew.spatial_bn(m, "x", "y", 4, is_test=False, epsilon=1e-3)),
    "spatial_bn_test": (
        {},
        lambda m: brew.spatial_bn(m, "x", "y", 4, init_scale=2.0, init_bias=1.0, is_test=True),
    ),
    "spatial_bn_from_elsewhere": (
        {"init_params": False},
        lambda m: brew.spatial_bn(m, "x", "y", 4),
    ),
    "spatial_gn": ({}, lambda m: brew.spatial_gn(m, "x", "y", 4, group=2)),
    "instance_norm": ({}, lambda m: brew.instance_norm(m, "x", "y", 4)),
    "instance_norm_test": ({}, lambda m: brew.instance_norm(m, "x", "y", 4, is_test=True)),
    "layer_norm": ({}, lambda m: brew.layer_norm(m, "x", "y", 4, initial_scale=2.0)),
    "layer_norm_deep": ({}, lambda m: brew.layer_norm(m, "x", "y", [4, 5], axis=1, epsilon=1e-3)),
    "lrn": ({}, lambda m: brew.lrn(m, "x", "y", size=3, alpha=1e-3, beta=0.5)),
    "softmax": ({}, lambda m: brew.softmax(m, "x", "y")),
    "softmax_unnamed": ({}, lambda m: brew.softmax(m, "x")),
    "dropout": ({}, lambda m: brew.dropout(m, "x", "y", ratio=0.25, is_test=False)),
    "relu": ({}, lambda m: brew.relu(m, "x", "x")),
    "tanh": ({}, lambda m: brew.tanh(m, "x", "y")),
    "prelu": ({}, lambda m: brew.prelu(m, "x", "y", num_channels=4)),
    "sum": ({}, lambda m: brew.sum(m, ["x", "y"], "z")),
    "sub": ({}, lambda m: brew.sub(m, ["x", "y"], "z")),
    "reduce_sum": ({}, lambda m: brew.reduce_sum(m, "x", "z", axes=[1])),
    "arg_min": ({}, lambda m: brew.arg_min(m, "x", "z", axis=1)),
    "transpose": ({}, lambda m: brew.transpose(m, "x", "y", axes=[1, 0])),
    "concat": ({}, lambda m: brew.concat(m, ["x", "y"], "z")),
    "concat_axis": ({}, lambda m: brew.concat(m, ["x", "y"], "z", axis=2, add_axis=1)),
    "iter": ({}, lambda m: brew.iter(m, "steps")),
}


def layer(name):
    """A model with one layer."""
    arguments, add = LAYERS[name]
    model = model_named(name, **arguments)
    with core.NameScope("part"):
        returned = names(add(model))
    return told(model, returned=returned)


def told(model, since=0, **more):
    """All about a model; of its net what came after so many operators."""
    return dict(
        more,
        net=described(model.net.Proto().op[since:]),
        init=described(model.param_init_net.Proto().op),
        params=names(model.params),
        weights=names(model.weights),
        biases=names(model.biases),
        computed=names(model.GetComputedParams("")),
    )


# Optimizers: name -> (which model, what gives it one).


def dense(name):
    """Two layers, which learn to tell three classes."""
    model = model_named(name, arg_scope={"use_cudnn": False})
    hidden = brew.tanh(model, brew.fc(model, "x", "h", 3, 4), "t")
    out = brew.fc(model, hidden, "y", 4, 3)
    _, loss = model.net.SoftmaxWithLoss([out, "label"], ["p", "loss"])
    model.AddGradientOperators([loss])
    return model


def sparse(name):
    """A table of rows, of which each batch has some."""
    model = model_named(name, arg_scope={"use_cudnn": False})
    fill = initializers.Initializer("UniformFill", min=-1.0, max=1.0)
    table = model.create_param("table", [6, 4], fill, tags="WEIGHT")
    rows = model.net.Gather([table, "ids"], "rows")
    distance = model.net.SquaredL2Distance([rows, "target"], "distance")
    loss = model.net.AveragedLoss(distance, "loss")
    model.AddGradientOperators([loss])
    return model


def decayed(model):
    """SGD with weight decay."""
    optimizer.add_weight_decay(model, 0.1)
    return optimizer.build_sgd(model, 0.1)


def decayed_by_brew(model):
    """The same by the helper."""
    brew.add_weight_decay(model, 0.1)
    return optimizer.build_sgd(model, 0.1)


def clipped(method, **arguments):
    """SGD with gradients clipped one by one."""

    def add(model):
        GradientClipping(method, **arguments)(model.net, grad_map=model.param_to_grad)
        return optimizer.build_sgd(model, 0.5)

    return add


STEPWISE = {"policy": "step", "gamma": 0.5, "stepsize": 3}
OPTIMIZERS = {
    "sgd": (dense, lambda m: optimizer.build_sgd(m, 0.1)),
    "sgd_policy": (dense, lambda m: optimizer.build_sgd(m, 0.1, **STEPWISE)),
    "sgd_momentum": (
        dense,
        lambda m: optimizer.build_sgd(m, 0.1, momentum=0.9, nesterov=False),
    ),
    "sgd_nesterov": (dense, lambda m: optimizer.build_sgd(m, 0.1, momentum=0.9)),
    "sgd_global_norm": (dense, lambda m: optimizer.build_sgd(m, 0.5, max_gradient_norm=0.2)),
    "sgd_injected": (
        dense,
        lambda m: optimizer.build_sgd(m, 0.5, max_gradient_norm=0.2, allow_lr_injection=True),
    ),
    "sgd_lars": (dense, lambda m: optimizer.build_sgd(m, 0.5, lars=0.5)),
    "sgd_decay": (dense, decayed),
    "sgd_decay_brew": (dense, decayed_by_brew),
    "sgd_clipped_by_norm": (dense, clipped("by_norm", clip_threshold=0.05)),
    "sgd_clipped_by_l1": (dense, clipped("by_norm", clip_norm_type="l1_norm")),
    "sgd_clipped_to_parameters": (
        dense,
        clipped("by_norm", use_parameter_norm=True, compute_norm_ratio=True),
    ),
    "sgd_clipped_by_value": (dense, clipped("by_value", clip_max=0.01, clip_min=-0.02)),
    "adagrad": (dense, lambda m: optimizer.build_adagrad(m, 0.1)),
    "adagrad_decays": (
        dense,
        lambda m: optimizer.build_adagrad(m, 0.1, decay=0.9, weight_decay=0.1),
    ),
    "adagrad_told": (
        dense,
        lambda m: optimizer.build_adagrad(m, 0.1, output_effective_lr_and_update=True),
    ),
    "adadelta": (dense, lambda m: optimizer.build_adadelta(m, 1.0)),
    "adam": (dense, lambda m: optimizer.build_adam(m, 0.05)),
    "adam_policy": (dense, lambda m: optimizer.build_adam(m, 0.05, beta1=0.8, **STEPWISE)),
    "adam_adaption": (dense, lambda m: optimizer.build_adam(m, 0.05, use_lr_adaption=True)),
    "rms_prop": (dense, lambda m: optimizer.build_rms_prop(m, 0.05)),
    "rms_prop_momentum": (dense, lambda m: optimizer.build_rms_prop(m, 0.05, momentum=0.5)),
    "ftrl": (
        dense,
        lambda m: optimizer.build_ftrl(m, engine="", alpha=0.5, lambda1=1e-3, lambda2=1e-3),
    ),
    "gftrl": (dense, lambda m: optimizer.build_gftrl(m, alpha=0.5, lambda1=1e-3, lambda2=0.0)),
    "wngrad": (dense, lambda m: optimizer.build_wngrad(m, 1.0, moment_init=1.0)),
    "storm": (dense, lambda m: optimizer.build_storm(m, 0.1)),
    "yellowfin": (dense, lambda m: optimizer.build_yellowfin(m, 0.1)),
    "sparse_sgd": (sparse, lambda m: optimizer.build_sgd(m, 0.1)),
    "sparse_sgd_momentum": (
        sparse,
        lambda m: optimizer.build_sgd(m, 0.1, momentum=0.9, sparse_dedup_aggregator="sum"),
    ),
    "sparse_adagrad": (sparse, lambda m: optimizer.build_adagrad(m, 0.1)),
    "sparse_adagrad_mean": (
        sparse,
        lambda m: optimizer.build_adagrad(m, 0.1, sparse_dedup_aggregator="mean"),
    ),
    "rowwise_adagrad": (
        sparse,
        lambda m: optimizer.build_adagrad(m, 0.1, rowWise=True, weight_decay=0.01),
    ),
    "rowwise_adagrad_counted": (
        sparse,
        lambda m: optimizer.build_adagrad(
            m, 0.1, rowWise=True, counter_halflife=5, sparse_dedup_aggregator="sum"
        ),
    ),
    "sparse_adadelta": (
        sparse,
        lambda m: optimizer.build_adadelta(m, 1.0, sparse_dedup_aggregator="sum"),
    ),
    "sparse_adam": (
        sparse,
        lambda m: optimizer.build_adam(m, 0.05, sparse_dedup_aggregator="sum"),
    ),
    "rectified_adam": (
        sparse,
        lambda m: optimizer.build_adam(m, 0.05, sparse_dedup_aggregator="sum", enableRAdam=True),
    ),
    "rowwise_adam": (
        sparse,
        lambda m: optimizer.build_adam(m, 0.05, rowWise=True, sparse_dedup_aggregator="sum"),
    ),
    "sparse_ftrl": (
        sparse,
        lambda m: optimizer.build_ftrl(
            m, engine="", alpha=0.5, lambda1=1e-3, lambda2=0.0, sparse_dedup_aggregator="sum"
        ),
    ),
    "sparse_wngrad": (sparse, lambda m: optimizer.build_wngrad(m, 1.0, moment_init=1.0)),
    "sparse_storm": (sparse, lambda m: optimizer.build_storm(m, 0.1)),
}


FIRST_STEP_ONLY = {"sgd_clipped_to_parameters"}
"""Caffe2 multiplies the threshold with the parameter's norm again at each step."""


def optimized(name):
    """(model, optimizer, how many operators were there before it)."""
    optimizer._optimizer_instance_count.clear()
    kind, add = OPTIMIZERS[name]
    model = kind(name)
    before = len(model.net.Proto().op)
    return model, add(model), before


def updates(name):
    """All that an optimizer adds."""
    model, made, before = optimized(name)
    kept = made.get_auxiliary_parameters()
    return told(model, before, local=names(kept.local), shared=names(kept.shared))


def batch(step):
    """Blob -> value: what both kinds of models read in a step."""
    random = np.random.RandomState(100 + step)
    return {
        "x": random.normal(size=(5, 3)).astype(np.float32),
        "label": random.randint(0, 3, 5).astype(np.int32),
        "ids": random.randint(0, 6, 5).astype(np.int64),
        "target": random.normal(size=(5, 4)).astype(np.float32),
    }


def trained(name):
    """Parameter -> what it is after each step."""
    workspace.ResetWorkspace()
    model = optimized(name)[0]
    for blob, value in batch(0).items():
        workspace.FeedBlob(blob, value)
    workspace.RunNetOnce(model.param_init_net)
    random = np.random.RandomState(1)
    for param in model.params:
        shape = workspace.FetchBlob(param).shape
        workspace.FeedBlob(param, random.normal(size=shape).astype(np.float32))
    workspace.CreateNet(model.net)
    found = {str(param): [] for param in model.params}
    for step in range(STEPS):
        for blob, value in batch(step).items():
            workspace.FeedBlob(blob, value)
        workspace.RunNet(model.net)
        for param, values in found.items():
            values.append(workspace.FetchBlob(param).copy())
    return {param: np.stack(values) for param, values in found.items()}


# Regularizers: name -> (shape of the parameter, regularizer).

REGULARIZERS = {
    "l1": ([3, 4], lambda: regularizer.L1Norm(0.1)),
    "l2": ([3, 4], lambda: regularizer.L2Norm(0.1)),
    "elastic": ([3, 4], lambda: regularizer.ElasticNet(0.1, 0.2)),
    "l1_trimmed": ([6], lambda: regularizer.L1NormTrimmed(0.1, 2)),
    "elastic_trimmed": ([6], lambda: regularizer.ElasticNetL1NormTrimmed(0.1, 0.2, 2)),
    "lp": ([3, 4], lambda: regularizer.LpNorm(0.1, 0.5)),
    "l0": ([3, 4], lambda: regularizer.L0ApproxNorm(0.1, alpha=0.3)),
    "l0_budget": ([3, 4], lambda: regularizer.L0ApproxNorm(0.1, alpha=0.3, budget=1)),
    "groups": ([3, 4], lambda: regularizer.GroupL1Norm(0.1, [1, 3])),
    "groups_stable": ([3, 4], lambda: regularizer.GroupL1Norm(0.1, [2, 2], 1e-3)),
    "barrier": ([3, 4], lambda: regularizer.LogBarrier(0.1)),
}
PROJECTIONS = {
    "max_norm": (True, lambda: regularizer.MaxNorm(0.5)),
    "constant_norm": (True, lambda: regularizer.ConstantNorm(0.5)),
    "sparse_l1": (True, lambda: regularizer.SparseL1Norm(0.1)),
    "sparse_l2": (True, lambda: regularizer.SparseL2Norm(0.1)),
    "barrier_after": (False, lambda: regularizer.LogBarrier(0.1)),
    "bounds": (False, lambda: regularizer.BoundedGradientProjection(-0.5, 0.25)),
    "bounds_sparse": (True, lambda: regularizer.BoundedGradientProjection(lb=0.0, left_open=True)),
}


def parameter_of(model, shape):
    """A parameter."""
    fill = initializers.Initializer("ConstantFill", value=1.0)
    return model.create_param("w", shape, fill, tags="WEIGHT")


def penalty(name):
    """(what a regularizer adds for the loss, its value, the gradient of the parameter)."""
    shape, make = REGULARIZERS[name]
    workspace.ResetWorkspace()
    model = model_named("penalty_" + name)
    param = parameter_of(model, shape)
    term = make()(model.net, model.param_init_net, param, by="on_loss")
    added = told(model, returned=names(term))
    gradients = model.net.AddGradientOperators([term])
    workspace.RunNetOnce(model.param_init_net)
    values = np.random.RandomState(2).uniform(0.1, 1, shape).astype(np.float32)
    workspace.FeedBlob(param, values)
    workspace.RunNetOnce(model.net)
    found = [workspace.FetchBlob(each) for each in (term, gradients[str(param)])]
    return added, np.ravel(found[0]), found[1]


def projection(name):
    """(what a regularizer adds after an optimizer, the parameter then)."""
    has_rows, make = PROJECTIONS[name]
    workspace.ResetWorkspace()
    model = model_named("projection_" + name)
    param = parameter_of(model, [3, 4])
    gradient = core.BlobReference("w_grad")
    if has_rows:
        gradient = core.GradientSlice(core.BlobReference("rows"), core.BlobReference("values"))
    make()(model.net, model.param_init_net, param, gradient, by="after_optimizer")
    random = np.random.RandomState(3)
    workspace.RunNetOnce(model.param_init_net)
    workspace.FeedBlob(param, random.normal(size=(3, 4)).astype(np.float32))
    workspace.FeedBlob("rows", np.array([0, 2], np.int64))
    workspace.FeedBlob("values", random.normal(size=(2, 4)).astype(np.float32))
    workspace.RunNetOnce(model.net)
    return told(model), workspace.FetchBlob(param)


# Whole models.


def shared():
    """Scopes that stand for others."""
    model = model_named("shared")
    overrides = {"b/inner": "b", "b": "a", "c": "b/inner"}
    with core.NameScope("top"), parameter_sharing.ParameterSharing(overrides):
        for name in ("a", "b", "b/inner", "b/other", "c", "d", "bb"):
            with core.NameScope(name):
                brew.fc(model, "x", "fc", 2, 2)
    return told(model)


def lenet():
    """A small network for images, by `CNNModelHelper`."""
    model = CNNModelHelper(name="lenet", use_cudnn=False)
    model.Conv("data", "conv1", 1, 4, 3, ("MSRAFill", {}), model.ConstantInit(0.5), pad=1)
    model.SpatialBN("conv1", "bn1", 4, is_test=False)
    model.Relu("bn1", "bn1")
    model.MaxPool("bn1", "pool1", kernel=2, stride=2)
    model.Dropout("pool1", "drop1", is_test=False, ratio=0.5)
    model.FC("drop1", "fc", 64, 3)
    model.Softmax("fc", "softmax")
    model.Accuracy(["softmax", "label"], "accuracy")
    return told(model)


WHOLE = {"shared": shared, "lenet": lenet}


# Signatures.

MODULES = {
    "cnn": ["CNNModelHelper"],
    "helpers.algebra": ["transpose", "sum", "reduce_sum", "sub", "mat_mul", "arg_min"],
    "helpers.array_helpers": ["concat", "depth_concat"],
    "helpers.control_ops": ["cond", "loop"],
    "helpers.conv": ["conv", "conv_nd", "conv_transpose", "group_conv", "group_conv_deprecated"],
    "helpers.dropout": ["dropout"],
    "helpers.nonlinearity": ["prelu", "relu", "tanh"],
    "helpers.normalization": [
        "lrn",
        "softmax",
        "instance_norm",
        "spatial_bn",
        "layer_norm",
        "moments_with_running_stats",
    ],
    "helpers.pooling": ["max_pool", "average_pool"],
    "helpers.train": ["iter", "accuracy", "add_weight_decay"],
    "model_helper": ["ModelHelper", "ExtractPredictorNet"],
    "modeling.gradient_clipping": ["GradientClipping"],
    "modeling.initializers": ["Initializer", "ExternalInitializer", "update_initializer"],
    "modeling.parameter_info": ["ParameterInfo"],
    "modeling.parameter_sharing": ["ParameterSharing"],
    "optimizer": [
        name
        for name in vars(optimizer)
        if name.startswith(("build_", "add_", "get_", "set_")) or name.endswith("Optimizer")
        if "fp16" not in name.lower() and "multi" not in name.lower()
    ],
    "regularizer": [
        name
        for name, value in vars(regularizer).items()
        if isinstance(value, type) and issubclass(value, regularizer.Regularizer)
    ],
}


def signature(function):
    """Its parameters that can be given by name, and their defaults as text."""
    return [
        [each.name, "" if each.default is each.empty else repr(each.default)]
        for each in inspect.signature(function).parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"
    ]


def signatures():
    """Module and name, with those of a class's methods -> parameters."""
    found = {}
    for module, members in MODULES.items():
        for name in members:
            value = getattr(importlib.import_module("caffe2.python." + module), name)
            found[f"{module}.{name}"] = signature(value)
            for method in dir(value) if isinstance(value, type) and module != "cnn" else ():
                function = getattr(value, method)
                if inspect.isfunction(function) and not method.startswith("_"):
                    found[f"{module}.{name}.{method}"] = signature(function)
    return found
