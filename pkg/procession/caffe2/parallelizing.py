"""What fills a model with replicas, step by step: forward, backward, gradients, updates."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import core, model_helper, scope
from procession.caffe2.replicas import PREFIX, Replicas, option
from procession.errors import GraphError

Builder = Callable[..., Any]
Rendezvous = Mapping[str, Any] | None


def refuse_what_is_missing(
    model: Any, rendezvous: Rendezvous, cpu_device: bool, **options: Any
) -> None:
    """Refuse what replicas cannot be given: `options` are such as are not to be set.

    Raises:
        GraphError: There is something of that; or a scope in which replicas cannot be added.
    """
    if not isinstance(model, model_helper.ModelHelper):
        raise GraphError(f"a ModelHelper is to be filled with replicas, not {model!r}")
    if not cpu_device:
        raise GraphError("there are no GPUs here: Parallelize_CPU, or cpu_device=True")
    for name, value in options.items():
        if value:
            raise GraphError(f"{name} does not exist here: leave it out")
    if rendezvous is not None and rendezvous["num_shards"] > 1:
        raise GraphError(
            "there is no rendezvous of several machines here: replicas are in one net. What trains "
            "a model in several processes is procession.train.data_parallel"
        )
    device = scope.CurrentDeviceScope()
    if device is not None and device.device_type != caffe2_pb2.CPU:
        raise GraphError(f"replicas are on the CPU, and cannot be added in the scope of {device}")
    if scope.CurrentNameScope():
        raise GraphError(
            f"replicas have name scopes of their own: leave {scope.CurrentNameScope()!r} before"
        )


def begin(
    model: model_helper.ModelHelper,
    devices: Sequence[int] | None,
    net_type: str,
    threads: int,
    shared: bool,
) -> Replicas:
    """A model's replicas, of which there is nothing yet.

    Args:
        model: The model.
        devices: Their numbers; None: one for each core.
        net_type: What the net's message says of how to run it.
        threads: What it says of threads, for each replica.
        shared: Whether they all use the first one's parameters.

    Raises:
        GraphError: There are no devices, or one of them twice.
    """
    numbers = list(range(os.cpu_count() or 1) if devices is None else devices)
    if not numbers or len(set(numbers)) != len(numbers):
        raise GraphError(f"devices are one or more different numbers, not {devices}")
    message = model.net.Proto()
    message.type, message.num_workers = net_type, threads * len(numbers)
    replicas = Replicas(model, numbers, shared)
    model._replicas = replicas
    model._devices = numbers
    model._device_prefix = PREFIX
    model._device_type = caffe2_pb2.CPU
    model._device_grouped_blobs = replicas.grouped
    return replicas


def add_forward(replicas: Replicas, read: Builder, forward: Builder, trains: bool) -> None:
    """Fill each replica with what reads a batch, and with the layers.

    Raises:
        GraphError: The replicas are to be trained, and there is no list of losses.
    """
    scale = 1.0 / len(replicas.devices)

    def add(model: Any) -> Any:
        read(model)
        return forward(model, scale)

    replicas.losses = replicas.each(add)
    for losses in replicas.losses.values() if trains else ():
        blobs = losses if isinstance(losses, list) else [None]
        if not all(isinstance(blob, core.BlobReference) for blob in blobs):
            raise GraphError(
                f"forward_pass_builder_fun returns a list of losses, which are blobs: {losses!r}"
            )
    replicas.model.Validate()


def add_backward(replicas: Replicas) -> None:
    """Differentiate all losses, each by 1."""
    given = {}
    for device, losses in replicas.losses.items():
        with core.DeviceScope(option(device)):
            for loss in losses:
                given[str(loss)] = replicas.model.net.ConstantFill(loss, f"{loss}_grad", value=1.0)
    replicas.model.AddGradientOperators(given)


def reduce_gradients(replicas: Replicas) -> None:
    """Add gradients up over the replicas, the last ones first: they are there first."""
    model = replicas.model
    if replicas.shared:
        return
    in_order = [model.param_to_grad[each] for each in model.params if each in model.param_to_grad]
    groups = replicas.group(dict.fromkeys(in_order))
    replicas.grouped.update(groups)
    for name, by_device in reversed(groups.items()):
        if not isinstance(by_device[replicas.master], core.GradientSlice):
            replicas.add_up(model.net, [name])
        elif len(by_device) > 1:
            whole = replicas.join_slices(model.net, by_device)
            _tell(model, {by_device[device]: each for device, each in whole.items()})


def _tell(model: Any, whole: Mapping[Any, Any]) -> None:
    """Have a model know other sparse gradients than those that its net has made."""
    for param, gradient in list(model.param_to_grad.items()):
        if gradient in whole:
            model.param_to_grad[param] = model.grad_map[str(param)] = whole[gradient]
            model.get_param_info(param).grad = whole[gradient]


def add_updates(replicas: Replicas, update: Builder) -> None:
    """Add the updates of each replica, or of the one whose parameters are shared."""
    if replicas.shared:
        with replicas.inside(replicas.master):
            update(replicas.model)
    else:
        replicas.each(update)


def begin_alike(replicas: Replicas) -> None:
    """Have `param_init_net` give all that it has filled for the first replica to the others."""
    names = replicas.to_synchronise()
    for name in names:
        replicas.grouped[name] = {each: replicas.blob(each, name) for each in replicas.devices}
    replicas.copy_out(replicas.model.param_init_net, names)
