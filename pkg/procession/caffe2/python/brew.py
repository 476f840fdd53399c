"""`caffe2.python.brew`: operators together with their parameters, for a `ModelHelper`.

Those of Caffe2's that need nothing but operators which exist here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import MappingProxyType
from typing import Any, TypeVar

from procession.caffe2.python import core
from procession.caffe2.python.model_helper import BIAS, WEIGHT, ModelHelper
from procession.errors import GraphError, UnknownOperatorError, did_you_mean

__all__ = [
    "Register",
    "accuracy",
    "arg_scope",
    "concat",
    "fc",
    "has_helper",
    "mat_mul",
    "relu",
    "softmax",
    "sub",
    "sum",
    "tanh",
]

Helper = TypeVar("Helper", bound=Callable[..., Any])

_NONE: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
_helpers: dict[str, Callable[..., Any]] = {}
_defaults: ContextVar[Mapping[str, Mapping[str, Any]]] = ContextVar("_defaults", default=_NONE)
"""Name of a helper -> the arguments that it is given where the caller gives none."""


def _helper(function: Helper) -> Helper:
    """Have a function among the helpers, and `arg_scope` reach it."""
    name = function.__name__

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{**_defaults.get().get(name, {}), **kwargs})

    _helpers[name] = call
    return call  # type: ignore[return-value]


def Register(helper: Callable[..., Any]) -> None:
    """Make a function `brew.<its name>`; its first argument is the model.

    Raises:
        GraphError: There is one of that name.
    """
    if helper.__name__ in _helpers:
        raise GraphError(f"brew has a helper {helper.__name__!r} already")
    _helper(helper)


def has_helper(helper_or_helper_name: Any) -> bool:
    """Whether there is a helper of that name, or of that function's."""
    name = getattr(helper_or_helper_name, "__name__", helper_or_helper_name)
    return name in _helpers


def __getattr__(name: str) -> Any:
    if name not in _helpers:
        raise UnknownOperatorError(f"brew has no helper {name!r}.{did_you_mean(name, _helpers)}")
    return _helpers[name]


@contextmanager
def arg_scope(single_helper_or_list: Any, **kwargs: Any) -> Iterator[None]:
    """Give helpers these arguments inside, where the caller gives none.

    Args:
        single_helper_or_list: A helper, or a list of them.
        **kwargs: The arguments. Those of a scope around are kept.

    Raises:
        GraphError: Something that is no helper.
    """
    helpers = single_helper_or_list
    inside = dict(_defaults.get())
    for helper in helpers if isinstance(helpers, list) else [helpers]:
        if not callable(helper):
            raise GraphError(f"arg_scope takes helpers, such as brew.fc, not {helper!r}")
        name = helper.__name__
        inside[name] = {**inside.get(name, {}), **kwargs}
    token = _defaults.set(inside)
    try:
        yield
    finally:
        _defaults.reset(token)


Fill = tuple[str, Mapping[str, Any]]
"""The operator that fills a parameter, and its arguments."""


def _parameter(model: ModelHelper, name: str, shape: list[int], fill: Fill, tag: str) -> Any:
    if model.init_params:
        operator, arguments = fill
        made = getattr(model.param_init_net, operator)([], name, shape=shape, **arguments)
    else:
        made = core.ScopedBlobReference(name, model.param_init_net)
    model.AddParameter(made, tag)
    return made


@_helper
def fc(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    **kwargs: Any,
) -> Any:
    """A fully connected layer, with the parameters `blob_out`_w and `blob_out`_b.

    Args:
        model: Where it is added.
        blob_in: Its input.
        blob_out: Its output.
        dim_in: How long the rows of the input are.
        dim_out: How long those of the output are.
        weight_init: What fills the weight, of shape (dim_out, dim_in): ("XavierFill", {}).
        bias_init: What fills the bias, of shape (dim_out,): ("ConstantFill", {}).
        **kwargs: Arguments of FC.
    """
    blob_out = blob_out or model.net.NextName()
    weight = _parameter(
        model, f"{blob_out}_w", [dim_out, dim_in], weight_init or ("XavierFill", {}), WEIGHT
    )
    bias = _parameter(model, f"{blob_out}_b", [dim_out], bias_init or ("ConstantFill", {}), BIAS)
    return model.net.FC([blob_in, weight, bias], blob_out, **kwargs)


@_helper
def accuracy(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Accuracy; returns nothing."""
    model.net.Accuracy(blob_in, blob_out, **kwargs)


@_helper
def concat(model: ModelHelper, blobs_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Concat; its second output is called _`blob_out`_concat_dims."""
    return model.net.Concat(blobs_in, [blob_out, f"_{blob_out}_concat_dims"], **kwargs)[0]


@_helper
def mat_mul(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator MatMul."""
    return model.net.MatMul(blob_in, blob_out, **kwargs)


@_helper
def relu(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Relu."""
    return model.net.Relu(blob_in, blob_out, **kwargs)


@_helper
def softmax(model: ModelHelper, blob_in: Any, blob_out: Any = None, **kwargs: Any) -> Any:
    """The operator Softmax."""
    return model.net.Softmax(blob_in, blob_out, **kwargs)


@_helper
def sub(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Sub."""
    return model.net.Sub(blob_in, blob_out, **kwargs)


@_helper
def sum(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Sum."""
    return model.net.Sum(blob_in, blob_out, **kwargs)


@_helper
def tanh(model: ModelHelper, blob_in: Any, blob_out: Any, **kwargs: Any) -> Any:
    """The operator Tanh."""
    return model.net.Tanh(blob_in, blob_out, **kwargs)
