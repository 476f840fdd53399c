"""`caffe2.python.data_parallel_model`: replicas of a model in one net, with equal parameters.

They run in one process, on the CPU. What trains a model in several processes is
`procession.train.data_parallel`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from procession.caffe2.parallelizing import (
    Builder,
    Rendezvous,
    add_backward,
    add_forward,
    add_updates,
    begin,
    begin_alike,
    reduce_gradients,
    refuse_what_is_missing,
)
from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import core, model_helper, scope, workspace
from procession.caffe2.replicas import (
    PREFIX,
    Replicas,
    combine_batch_norm,
    option,
    share_parameters,
    stripped,
)
from procession.errors import GraphError

__all__ = [
    "AddBlobSync",
    "ConvertNetForDevice",
    "CreateNet",
    "ExtractPredictorNet",
    "FinalizeAfterCheckpoint",
    "GetCheckpointParams",
    "GetLearningRateBlobNames",
    "Parallelize",
    "Parallelize_BMUF",
    "Parallelize_CPU",
    "Parallelize_CPU_BMUF",
    "RunInitNet",
    "RunNet",
    "RunWarmup",
    "Synchronize",
    "stripBlobName",
]

log = logging.getLogger("data_parallel_model")

_DEFAULT_TIMEOUT_SEC = 30
_DEFAULT_BARRIER_NET_TIMEOUT_SEC = 300


def Parallelize_CPU(*args: Any, **kwargs: Any) -> None:
    """`Parallelize` with `cpu_device=True`."""
    Parallelize(*args, **{**kwargs, "cpu_device": True})


def Parallelize_CPU_BMUF(*args: Any, **kwargs: Any) -> None:
    """`Parallelize_BMUF` with `cpu_device=True`."""
    Parallelize_BMUF(*args, **{**kwargs, "cpu_device": True})


def Parallelize(
    model_helper_obj: model_helper.ModelHelper,
    input_builder_fun: Builder,
    forward_pass_builder_fun: Builder,
    param_update_builder_fun: Builder | None = None,
    optimizer_builder_fun: Builder | None = None,
    post_sync_builder_fun: Builder | None = None,
    pre_grad_net_transformer_fun: Builder | None = None,
    net_transformer_fun: Builder | None = None,
    devices: Sequence[int] | None = None,
    rendezvous: Rendezvous = None,
    net_type: str = "dag",
    broadcast_computed_params: bool = True,
    optimize_gradient_memory: bool = False,
    dynamic_memory_management: bool = False,
    blobs_to_keep: Collection[str] | None = None,
    use_nccl: bool = False,
    max_concurrent_distributed_ops: int = 16,
    cpu_device: bool = False,
    ideep: bool = False,
    num_threads_per_device: int = 4,
    shared_model: bool = False,
    combine_spatial_bn: bool = False,
    barrier_net_timeout_sec: int = _DEFAULT_BARRIER_NET_TIMEOUT_SEC,
) -> None:
    """Fill a model with replicas, one for each device, that make the same updates.

    Those are by the sum of the replicas' gradients, so losses are to be scaled by what the forward
    pass is given for that. Without a function for updates, there are no gradients: that is for
    tests.

    Args:
        model_helper_obj: The model, which may have parameters that belong to no replica.
        input_builder_fun: Adds what reads a batch; called with the model in each replica.
        forward_pass_builder_fun: Adds the layers, and returns the list of losses; called with the
            model and 1 / number of replicas.
        param_update_builder_fun: Adds the updates; called with the model in each replica.
        optimizer_builder_fun: Instead of it: adds the updates of all replicas; called with the
            model, and returns the optimizer.
        post_sync_builder_fun: Called with the model in each replica, when what makes parameters
            equal has been added to `param_init_net`.
        pre_grad_net_transformer_fun: Called with the model before gradients are added.
        net_transformer_fun: Called behind that with the model, the number of replicas, "cpu",
            and the type of device.
        devices: The numbers of the replicas; left out, one for each core.
        rendezvous: None, or one with a single shard: several machines cannot meet in here.
        net_type: What the net's message says of how to run it.
        broadcast_computed_params: In each step, give the first replica's computed parameters, such
            as running means, to the others.
        optimize_gradient_memory: False: blobs do not share memory.
        dynamic_memory_management: False, as well.
        blobs_to_keep: None, as it goes with that.
        use_nccl: False: that is for GPUs.
        max_concurrent_distributed_ops: About several machines.
        cpu_device: True: there are no other devices.
        ideep: False.
        num_threads_per_device: What the net's message says of threads, for each replica.
        shared_model: All replicas use the first one's parameters.
        combine_spatial_bn: Normalise by the batches of all replicas together.
        barrier_net_timeout_sec: About several machines.

    Raises:
        GraphError: Something is not as it should be, or does not exist here.
    """
    refuse_what_is_missing(
        model_helper_obj,
        rendezvous,
        cpu_device,
        ideep=ideep,
        use_nccl=use_nccl,
        optimize_gradient_memory=optimize_gradient_memory,
        dynamic_memory_management=dynamic_memory_management,
        blobs_to_keep=blobs_to_keep,
    )
    if param_update_builder_fun is not None and optimizer_builder_fun is not None:
        raise GraphError("give param_update_builder_fun or optimizer_builder_fun, not both")
    trains = param_update_builder_fun is not None or optimizer_builder_fun is not None
    if combine_spatial_bn and not trains:
        raise GraphError("combine_spatial_bn is for models that are trained")
    model = model_helper_obj
    if not trains and model.init_params:
        log.warning(
            "model %r has no updates, so it is for tests, and yet it fills parameters, which "
            "overwrites those that were trained: ModelHelper(init_params=False)",
            model.name,
        )
    replicas = begin(model, devices, net_type, num_threads_per_device, shared_model)
    add_forward(replicas, input_builder_fun, forward_pass_builder_fun, trains)
    if shared_model:
        share_parameters(replicas)
    replicas.grouped.update(replicas.group(model.params))
    computed = replicas.group(model.GetComputedParams(""))
    replicas.grouped.update(computed)
    if pre_grad_net_transformer_fun is not None:
        pre_grad_net_transformer_fun(model)
    if trains:
        add_backward(replicas)
    if net_transformer_fun is not None:
        net_transformer_fun(model, len(replicas.devices), PREFIX, caffe2_pb2.CPU)
    if trains:
        if combine_spatial_bn:
            combine_batch_norm(replicas)
        if broadcast_computed_params:
            replicas.copy_out(model.net, computed)
        reduce_gradients(replicas)
        if param_update_builder_fun is not None:
            add_updates(replicas, param_update_builder_fun)
        elif optimizer_builder_fun is not None:
            model._optimizer = optimizer_builder_fun(model)
        begin_alike(replicas)
        if post_sync_builder_fun is not None:
            replicas.each(post_sync_builder_fun)
    replicas.init_nets = [model.param_init_net]
    replicas.nets = [(model.net, None)]


def Parallelize_BMUF(
    model_helper_obj: model_helper.ModelHelper,
    input_builder_fun: Builder,
    forward_pass_builder_fun: Builder,
    param_update_builder_fun: Builder,
    block_learning_rate: float = 1.0,
    block_momentum: float | None = None,
    devices: Sequence[int] | None = None,
    rendezvous: Rendezvous = None,
    net_type: str = "dag",
    master_device: int | None = None,
    use_nccl: bool = False,
    nesterov: bool = False,
    optimize_gradient_memory: bool = False,
    reset_momentum_sgd: bool = False,
    warmup_iterations: int | None = None,
    max_concurrent_distributed_ops: int = 4,
    add_blobs_to_sync: Collection[str] | None = None,
    num_threads_per_device: int = 4,
    cpu_device: bool = False,
    barrier_net_timeout_sec: int = _DEFAULT_BARRIER_NET_TIMEOUT_SEC,
) -> None:
    """Fill a model with replicas that train alone for some steps, and then move together.

    After `RunNet(model, steps)` the change of the parameters' mean, smoothed by a momentum, is what
    all replicas go on from: block-wise model update filtering.

    Args:
        model_helper_obj: See `Parallelize`, as for all that is not told here.
        input_builder_fun: See there.
        forward_pass_builder_fun: See there.
        param_update_builder_fun: See there.
        block_learning_rate: By what the change of the mean is multiplied.
        block_momentum: Which part of a change is in the next one, too; left out, 1 - 1 / number of
            replicas.
        devices: See there.
        rendezvous: See there.
        net_type: See there.
        master_device: The replica that does this; left out, the first one. No other can.
        use_nccl: See there.
        nesterov: Look ahead, as Nesterov does.
        optimize_gradient_memory: See there.
        reset_momentum_sgd: Begin anew each time with the momenta of MomentumSGDUpdate.
        warmup_iterations: How many steps `RunWarmup` runs, to give the first replica's parameters
            to all others.
        max_concurrent_distributed_ops: See there.
        add_blobs_to_sync: Names of blobs that the first replica gives to the others each time.
        num_threads_per_device: See there.
        cpu_device: See there.
        barrier_net_timeout_sec: See there.

    Raises:
        GraphError: Something is not as it should be, or does not exist here.
    """
    refuse_what_is_missing(
        model_helper_obj,
        rendezvous,
        cpu_device,
        use_nccl=use_nccl,
        optimize_gradient_memory=optimize_gradient_memory,
    )
    model = model_helper_obj
    replicas = begin(model, devices, net_type, num_threads_per_device, shared=False)
    if master_device not in (None, replicas.master):
        raise GraphError(f"master_device is the first of {replicas.devices}, not {master_device}")
    add_forward(replicas, input_builder_fun, forward_pass_builder_fun, trains=True)
    params = replicas.group(model.params)
    replicas.grouped.update(params)
    add_backward(replicas)
    add_updates(replicas, param_update_builder_fun)
    init, block = core.Net("global_model_init"), core.Net("global_model")
    for net in (init, block):
        net.Proto().type, net.Proto().num_workers = net_type, model.net.Proto().num_workers
    count = len(replicas.devices)
    momentum = 1 - 1 / count if block_momentum is None else block_momentum
    replicas.add_up(block, params)
    with core.DeviceScope(option(replicas.master)):
        for name in params:
            param = replicas.blob(replicas.master, name)
            kept, change, before = f"{param}_g", f"{param}_v", f"{param}_prev"
            init.Copy(param, kept)
            for blob in (change, before) if nesterov else (change,):
                init.ConstantFill(param, blob, value=0.0)
            block.Scale(param, param, scale=1 / count)
            step = block.Scale(block.Sub([param, kept]), scale=float(block_learning_rate))
            block.Add([block.Scale(change, change, scale=float(momentum)), step], change)
            block.Add([kept, change], kept)
            if nesterov:
                ahead = block.Scale(block.Sub([change, before]), scale=float(momentum))
                block.Sub([kept, ahead], kept)
                block.Copy(change, before)
            block.Copy(kept, param)
    replicas.copy_out(block, params)
    if add_blobs_to_sync is not None:
        AddBlobSync(model, add_blobs_to_sync, net=block)
    if reset_momentum_sgd:
        for operator in model.net.Proto().op:
            if operator.type == "MomentumSGDUpdate":
                with core.DeviceScope(operator.device_option):
                    block.ConstantFill(operator.input[1], operator.input[1], value=0.0)
    if warmup_iterations is not None:
        broadcast = core.Net("warmup-broadcast")
        replicas.copy_out(broadcast, params)
        for name in params:
            param = replicas.blob(replicas.master, name)
            broadcast.Copy(param, f"{param}_g")
        replicas.warmup = warmup_iterations, broadcast
    replicas.init_nets = [model.param_init_net, init]
    replicas.nets = [(model.net, None), (block, 1)]


def _replicas(model: Any) -> Replicas:
    found = vars(model).get("_replicas")
    if not isinstance(found, Replicas):
        raise GraphError(f"model {model.name!r} has no replicas: Parallelize_CPU adds them")
    return found


# Running.


def CreateNet(model: model_helper.ModelHelper, overwrite: bool = False) -> None:
    """Create the nets of a round of training in the current workspace."""
    for net, _ in _replicas(model).nets:
        workspace.CreateNet(net, overwrite=overwrite)


def RunInitNet(model: model_helper.ModelHelper) -> None:
    """Fill the parameters, alike in all replicas, and create the nets."""
    for net in _replicas(model).init_nets:
        workspace.RunNetOnce(net)
    CreateNet(model)


def RunNet(model: model_helper.ModelHelper, num_iterations: int) -> None:
    """Run so many steps; with `Parallelize_BMUF`, and let the replicas move together then."""
    for net, times in _replicas(model).nets:
        workspace.RunNet(net, num_iterations if times is None else times)


def RunWarmup(model: model_helper.ModelHelper) -> None:
    """Run `warmup_iterations` steps, and give the first replica's parameters to all.

    Raises:
        GraphError: `Parallelize_BMUF` was not given any.
    """
    replicas = _replicas(model)
    if replicas.warmup is None:
        raise GraphError(f"model {model.name!r} was not given warmup_iterations")
    steps, broadcast = replicas.warmup
    workspace.RunNet(model.net, steps)
    workspace.RunNetOnce(broadcast)


def Synchronize(
    model: model_helper.ModelHelper, timeout_sec: int = _DEFAULT_BARRIER_NET_TIMEOUT_SEC
) -> None:
    """Wait for other machines, of which there are none."""
    _replicas(model)


def AddBlobSync(model: model_helper.ModelHelper, blobs: Iterable[str], net: Any = None) -> None:
    """Have a net, left out that of the model, give blobs of the first replica to the others.

    Args:
        model: The model.
        blobs: Their names, without the scope of a replica.
        net: The net.

    Raises:
        GraphError: A name has such a scope.
    """
    replicas, names = _replicas(model), [str(blob) for blob in blobs]
    for name in names:
        if name.startswith(f"{PREFIX}_"):
            raise GraphError(f"the name of a blob in all replicas begins with none: {name!r}")
        replicas.grouped[name] = {each: replicas.blob(each, name) for each in replicas.devices}
    replicas.copy_out(model.net if net is None else net, names)


# State.


def GetCheckpointParams(model: model_helper.ModelHelper) -> set[Any]:
    """What is to be saved: the first replica's state, and counters of steps that are nobody's."""
    replicas = _replicas(model)
    master = f"{replicas.scope(replicas.master)}/"
    if replicas.shared:
        state = {each for each in model.GetComputedParams("") if str(each).startswith(master)}
    else:
        state = {replicas.blob(replicas.master, name) for name in replicas.filled()}
    counters = {
        operator.output[0]
        for operator in model.net.Proto().op
        if operator.type in ("Iter", "AtomicIter")
        and not operator.output[0].startswith(f"{PREFIX}_")
    }
    return state | counters


def FinalizeAfterCheckpoint(
    model: model_helper.ModelHelper, blobs: Iterable[Any] | None = None, cpu_mode: bool = False
) -> None:
    """Give the first replica's state, which was loaded, to the others.

    Args:
        model: The model.
        blobs: Which blobs; left out, all that `param_init_net` fills in replicas.
        cpu_mode: Says nothing that is not known: there is the CPU only.
    """
    replicas = _replicas(model)
    names = replicas.to_synchronise() if blobs is None else [stripped(blob) for blob in blobs]
    net = core.Net("checkpoint_sync_net")
    replicas.copy_out(net, dict.fromkeys(names))
    workspace.RunNetOnce(net)


def GetLearningRateBlobNames(model: model_helper.ModelHelper) -> list[str]:
    """The learning rates of a model: the optimizer's, or those of the replicas' updates."""
    _replicas(model)
    rates = [each.output[0] for each in model.net.Proto().op if each.type == "LearningRate"]
    optimizer = vars(model).get("_optimizer")
    if optimizer is not None:
        rates = [name for name in rates if name == optimizer.get_cpu_blob_name("lr")]
    return list(dict.fromkeys(rates))


def ExtractPredictorNet(
    model: model_helper.ModelHelper, inputs: Sequence[Any], outputs: Sequence[Any], device: Any
) -> tuple[Any, list[str]]:
    """What is needed to predict, of the first replica; see `model_helper.ExtractPredictorNet`.

    Args:
        model: The model.
        inputs: What will be fed, by names without the scope of a replica.
        outputs: What is to be predicted, the same.
        device: Where the operators are to run; None: where they did.
    """
    replicas = _replicas(model)
    names = [str(blob) for blob in (*inputs, *outputs)]
    own = {name: str(replicas.blob(replicas.master, name)) for name in names}
    return model_helper.ExtractPredictorNet(
        model.net.Proto(),
        [own[str(blob)] for blob in inputs],
        [own[str(blob)] for blob in outputs],
        device=device,
        renames={blob: name for name, blob in own.items()},
    )


def stripBlobName(param: Any) -> str:
    """A blob's name without the scope of a replica; of a `GradientSlice`, both of them.

    Raises:
        GraphError: It is in no name scope.
    """
    return stripped(param)


def ConvertNetForDevice(net: Any, device: Any = None) -> Any:
    """A copy of a net in the name scope, and on the device, of a replica.

    It can be appended to a model's net where a replica is filled.

    Args:
        net: The net.
        device: The device; left out, that of the scope in force.

    Raises:
        GraphError: There is no device; or the net has nets inside.
    """
    device = scope.CurrentDeviceScope() if device is None else device
    if device is None or device.device_type != caffe2_pb2.CPU:
        raise GraphError(f"a replica is on a CPU with a number, not on {device}")
    made = copy.deepcopy(net)
    message = made.Proto()
    for operator in message.op:
        if any(argument.HasField("n") or len(argument.nets) for argument in operator.arg):
            raise GraphError(f"{operator.type} runs nets, and cannot be moved to a name scope")
        operator.device_option.CopyFrom(device)
    for blobs in (
        *(each.input for each in message.op),
        *(each.output for each in message.op),
        *(each.control_input for each in message.op),
        message.external_input,
        message.external_output,
    ):
        scoped = [f"{PREFIX}_{device.device_id}/{blob}" for blob in blobs]
        del blobs[:]
        blobs.extend(scoped)
    return made
