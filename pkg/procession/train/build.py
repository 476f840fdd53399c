"""One call that gives a model an optimizer: `build_sgd(model, 0.1)`.

model.AddGradientOperators([loss])
build_adam(model, base_learning_rate=0.001, max_gradient_norm=1.0)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from procession import BlobReference, GraphError, NameScope
from procession.core import DeviceOption, DeviceScope, GradientSlice
from procession.train.adaptive import (
    AdadeltaOptimizer,
    AdagradOptimizer,
    AdamOptimizer,
    StormOptimizer,
    WngradOptimizer,
)
from procession.train.descent import (
    RmsPropOptimizer,
    SgdOptimizer,
    WeightDecayBuilder,
    YellowFinOptimizer,
)
from procession.train.ftrl import FtrlOptimizer, GFtrlOptimizer
from procession.train.model import ModelHelper
from procession.train.optimizer import Optimizer
from procession.train.parameter import ParameterInfo

LEARNING_RATE_INJECTION = "lr_injection"
"""The blob that all learning rates are multiplied with if `allow_lr_injection` is given."""

Chosen = TypeVar("Chosen", bound=Optimizer)


def get_param_device(
    param_name: str,
    grad: Any,
    param_to_device: Mapping[str, Any] | None = None,
    default_device: Any = None,
) -> Any:
    """Where a parameter is: where it is written, else where its gradient is.

    Args:
        param_name: The parameter.
        grad: Its gradient.
        param_to_device: Blob -> the device option of what writes it.
        default_device: For what nobody writes.

    Raises:
        GraphError: Nobody writes either, and no default is given.

    Caffe2: optimizer.get_param_device.
    """
    gradients = [grad.values, grad.indices] if isinstance(grad, GradientSlice) else [grad]
    for blob in [param_name, *gradients]:
        if str(blob) in (param_to_device or {}):
            return (param_to_device or {})[str(blob)]
    if default_device is None:
        raise GraphError(f"no operator writes {param_name!r} or its gradient: on which device?")
    return default_device


def _norm_ratio(
    model: ModelHelper, params: list[ParameterInfo], devices: Mapping[str, Any], largest: float
) -> Any:
    """A blob: by what all gradients are multiplied, so that their norm is at most this."""
    net = model.net
    with NameScope("norm_clipped_grad_update"):
        squares = []
        for index, info in enumerate(params):
            with DeviceScope(get_param_device(info.name, info.grad, devices)):
                sparse = isinstance(info.grad, GradientSlice)
                values = info.grad.values if sparse else info.grad
                square = net.SumSqrElements(values, f"grad_{index}_squared_sum")
                squares.append(net.EnsureCPUOutput(square))
        with DeviceScope(DeviceOption(0)):
            total = net.Sum(squares, "grad_squared_full_sum")
            norm = net.Pow(total, "global_norm", exponent=0.5)
            limit = model.param_init_net.ConstantFill(
                [], "clip_norm", shape=[], value=float(largest)
            )
            return net.Div([limit, net.Max([norm, limit], "max_norm")], "norm_ratio")


def build(
    model: ModelHelper,
    optimizer: Chosen,
    weights_only: bool = False,
    use_param_info_optim: bool = True,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    parameters: Iterable[BlobReference] | None = None,
) -> Chosen:
    """Have an optimizer update the parameters of a model that has its gradients.

    Args:
        model: The model.
        optimizer: The optimizer.
        weights_only: Only those with the tag "WEIGHT".
        use_param_info_optim: Parameters that have an optimizer of their own (`UseOptimizer`) get
            that.
        max_gradient_norm: If the norm of all gradients together is larger, learning rates become
            smaller in that ratio.
        allow_lr_injection: Multiply learning rates with the blob "lr_injection", which begins at 1
            and may be fed.
        parameters: Only these; left out, all that have gradients.

    Returns:
        The optimizer.

    Raises:
        GradientError: The model has no gradients.
        GraphError: A parameter was added twice, or the optimizer has no way to update one.
    """
    devices = {
        blob: operator.device_option
        for net in (model.net, model.param_init_net)
        for operator in net.message.op
        for blob in operator.output
    }
    model.Validate()
    weights = set(model.weights)
    params = [
        info
        for info in model.GetOptimizationParamInfo(parameters)
        if not weights_only or info.blob in weights
    ]
    multiplier: Any = None
    if max_gradient_norm is not None and params:
        multiplier = _norm_ratio(model, params, devices, max_gradient_norm)
    if allow_lr_injection:
        injected: Any = LEARNING_RATE_INJECTION
        if not model.net.BlobIsDefined(injected):
            injected = model.param_init_net.ConstantFill([], injected, shape=[1], value=1.0)
        if multiplier is None:
            multiplier = injected
        else:
            multiplier = model.net.Mul([multiplier, injected], "lr_multiplier", broadcast=1)
    optimizer.add_lr_multiplier(multiplier)
    for info in params:
        chosen = optimizer
        if info.optimizer and use_param_info_optim:
            chosen = info.optimizer
            chosen.add_lr_multiplier(multiplier)
        with DeviceScope(get_param_device(info.name, info.grad, devices)):
            before = len(model.net.message.op)
            chosen(model.net, model.param_init_net, info)
        added = list(model.net.message.op)[before:]
        info.updates += any(info.name in operator.output for operator in added)
    return optimizer


def add_weight_decay(model: ModelHelper, weight_decay: float) -> None:
    """Add a part of each weight to its gradient; to be called before `build_...`.

    Args:
        model: The model, with gradients.
        weight_decay: Which part.

    Caffe2: optimizer.add_weight_decay.
    """
    build(model, WeightDecayBuilder(weight_decay), weights_only=True, use_param_info_optim=False)


def build_sgd(
    model: ModelHelper,
    base_learning_rate: float,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    **kwargs: Any,
) -> SgdOptimizer:
    """`build` with a `SgdOptimizer` of the other arguments. Caffe2: optimizer.build_sgd."""
    return build(
        model,
        SgdOptimizer(base_learning_rate, **kwargs),
        max_gradient_norm=max_gradient_norm,
        allow_lr_injection=allow_lr_injection,
    )


def build_adagrad(
    model: ModelHelper,
    base_learning_rate: float,
    parameters: Iterable[BlobReference] | None = None,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    **kwargs: Any,
) -> AdagradOptimizer:
    """`build` with an `AdagradOptimizer` of the other arguments.

    Caffe2: optimizer.build_adagrad.
    """
    return build(
        model,
        AdagradOptimizer(alpha=base_learning_rate, **kwargs),
        max_gradient_norm=max_gradient_norm,
        allow_lr_injection=allow_lr_injection,
        parameters=parameters,
    )


def build_wngrad(
    model: ModelHelper,
    base_learning_rate: float,
    parameters: Iterable[BlobReference] | None = None,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    **kwargs: Any,
) -> WngradOptimizer:
    """`build` with a `WngradOptimizer` of the other arguments. Caffe2: optimizer.build_wngrad."""
    return build(
        model,
        WngradOptimizer(alpha=base_learning_rate, **kwargs),
        max_gradient_norm=max_gradient_norm,
        allow_lr_injection=allow_lr_injection,
        parameters=parameters,
    )


def build_storm(
    model: ModelHelper,
    base_learning_rate: float,
    parameters: Iterable[BlobReference] | None = None,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    **kwargs: Any,
) -> StormOptimizer:
    """`build` with a `StormOptimizer` of the other arguments. Caffe2: optimizer.build_storm."""
    return build(
        model,
        StormOptimizer(lr=base_learning_rate, **kwargs),
        max_gradient_norm=max_gradient_norm,
        allow_lr_injection=allow_lr_injection,
        parameters=parameters,
    )


def build_adadelta(
    model: ModelHelper,
    base_learning_rate: float,
    parameters: Iterable[BlobReference] | None = None,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    **kwargs: Any,
) -> AdadeltaOptimizer:
    """`build` with an `AdadeltaOptimizer` of the other arguments.

    Caffe2: optimizer.build_adadelta.
    """
    return build(
        model,
        AdadeltaOptimizer(alpha=base_learning_rate, **kwargs),
        max_gradient_norm=max_gradient_norm,
        allow_lr_injection=allow_lr_injection,
        parameters=parameters,
    )


def build_adam(
    model: ModelHelper,
    base_learning_rate: float,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    **kwargs: Any,
) -> AdamOptimizer:
    """`build` with an `AdamOptimizer` of the other arguments. Caffe2: optimizer.build_adam."""
    return build(
        model,
        AdamOptimizer(alpha=base_learning_rate, **kwargs),
        max_gradient_norm=max_gradient_norm,
        allow_lr_injection=allow_lr_injection,
    )


def build_rms_prop(
    model: ModelHelper,
    base_learning_rate: float,
    max_gradient_norm: float | None = None,
    allow_lr_injection: bool = False,
    **kwargs: Any,
) -> RmsPropOptimizer:
    """`build` with a `RmsPropOptimizer` of the other arguments.

    Caffe2: optimizer.build_rms_prop.
    """
    return build(
        model,
        RmsPropOptimizer(alpha=base_learning_rate, **kwargs),
        max_gradient_norm=max_gradient_norm,
        allow_lr_injection=allow_lr_injection,
    )


def build_yellowfin(
    model: ModelHelper, base_learning_rate: float = 0.1, **kwargs: Any
) -> YellowFinOptimizer:
    """`build` with a `YellowFinOptimizer` of the other arguments.

    Caffe2: optimizer.build_yellowfin.
    """
    return build(model, YellowFinOptimizer(alpha=base_learning_rate, **kwargs))


def build_ftrl(model: ModelHelper, engine: str = "", **kwargs: Any) -> FtrlOptimizer:
    """`build` with a `FtrlOptimizer` of the other arguments. Caffe2: optimizer.build_ftrl."""
    return build(model, FtrlOptimizer(engine=engine, **kwargs))


def build_gftrl(model: ModelHelper, engine: str = "", **kwargs: Any) -> GFtrlOptimizer:
    """`build` with a `GFtrlOptimizer` of the other arguments. Caffe2: optimizer.build_gftrl."""
    return build(model, GFtrlOptimizer(engine=engine, **kwargs))
