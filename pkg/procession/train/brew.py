"""Layers by name, with the arguments that a model or an `arg_scope` gives them.

    y = brew.fc(model, "x", "y", 4, 2)

What a helper is not given, it takes from the innermost `arg_scope` for it, and then from the
`arg_scope` of the model. `Register` makes a function of one's own a helper.
"""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, cast

from procession import GraphError
from procession.errors import UnknownArgumentError, UnknownOperatorError, did_you_mean
from procession.train.layers import (
    activation,
    algebra,
    convolution,
    linear,
    measuring,
    normalization,
    pooling,
    recurrent,
)
from procession.train.model import ModelHelper

Given = ParamSpec("Given")
Made = TypeVar("Made")

_NONE: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
_defaults: ContextVar[Mapping[str, Mapping[str, Any]]] = ContextVar("_defaults", default=_NONE)
"""Name of a helper -> the arguments that it is given where the caller gives none."""


def get_current_scope() -> dict[str, dict[str, Any]]:
    """Helper's name -> the arguments that the `arg_scope`s around give it; a copy."""
    return {name: dict(arguments) for name, arguments in _defaults.get().items()}


@contextmanager
def arg_scope(single_helper_or_list: Any, **kwargs: Any) -> Iterator[None]:
    """Give helpers these arguments inside, where the caller gives none.

    Args:
        single_helper_or_list: A helper, or a list of them.
        **kwargs: The arguments. Those of a scope around are kept.

    Raises:
        GraphError: Something that is no helper.

    Caffe2: brew.arg_scope.
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


def _unknown(
    helper: str, argument: str, known: list[str], error: UnknownArgumentError | None = None
) -> UnknownArgumentError:
    """What to raise of an argument that neither a helper has nor, by `error`, its operator."""
    operator = None if error is None else error.operator
    passed_on = "" if error is None else f" What else it is given, goes to its operator: {error}"
    return UnknownArgumentError(
        f"brew.{helper} has no argument {argument!r}.{did_you_mean(argument, known)} "
        f"It has: {', '.join(known)}.{passed_on}",
        operator=operator,
        argument=argument,
    )


class Helpers:
    """Helpers by name.

    Args:
        others: Helpers that these stand on: they are among them, but nothing is added to them.
    """

    def __init__(self, others: Helpers | None = None) -> None:
        self.known: ChainMap[str, Callable[..., Any]] = (
            ChainMap() if others is None else others.known.new_child()
        )

    def add(self, function: Callable[Given, Made]) -> Callable[Given, Made]:
        """Have a function among them; returns the helper, which heeds the scopes."""
        parameters = inspect.signature(function).parameters.values()
        names = {each.name for each in parameters}
        known = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
        takes_more = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
        name = function.__name__

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            model = args[0] if args else kwargs.get("model")
            if not isinstance(model, ModelHelper):
                raise GraphError(f"the first argument of brew.{name} is a model, not {model!r}")
            # Arguments that its operators do not have, a strict net would refuse.
            lax = takes_more and not model.net.strict
            own = {key: deepcopy(v) for key, v in model.arg_scope.items() if lax or key in names}
            given = {**own, **_defaults.get().get(name, {}), **kwargs}
            unknown = [key for key in given if key not in names]
            if unknown and not takes_more:
                raise _unknown(name, unknown[0], known)
            try:
                return function(*args, **given)
            except UnknownArgumentError as error:
                if error.argument not in unknown:
                    raise
                raise _unknown(name, error.argument, known, error) from None

        self.known[name] = call
        return cast("Callable[Given, Made]", call)

    def register(self, helper: Callable[..., Any]) -> None:
        """Have a function of the user's among them.

        Raises:
            GraphError: There is one of that name.
        """
        if helper.__name__ in self.known:
            raise GraphError(f"brew has a helper {helper.__name__!r} already")
        self.add(helper)

    def has(self, helper_or_helper_name: Any) -> bool:
        """Whether there is one of that name, or of that function's."""
        return getattr(helper_or_helper_name, "__name__", helper_or_helper_name) in self.known

    def get(self, name: str) -> Callable[..., Any]:
        """The one of that name.

        Raises:
            UnknownOperatorError: There is none.
        """
        if name not in self.known:
            raise UnknownOperatorError(
                f"brew has no helper {name!r}.{did_you_mean(name, self.known)}"
            )
        return self.known[name]


HELPERS = Helpers()

fc = HELPERS.add(linear.fc)
elementwise_linear = HELPERS.add(linear.elementwise_linear)
mat_mul = HELPERS.add(linear.mat_mul)
batch_mat_mul = HELPERS.add(linear.batch_mat_mul)
conv = HELPERS.add(convolution.conv)
conv_nd = HELPERS.add(convolution.conv_nd)
conv_transpose = HELPERS.add(convolution.conv_transpose)
group_conv = HELPERS.add(convolution.group_conv)
group_conv_deprecated = HELPERS.add(convolution.group_conv_deprecated)
max_pool = HELPERS.add(pooling.max_pool)
average_pool = HELPERS.add(pooling.average_pool)
spatial_bn = HELPERS.add(normalization.spatial_bn)
spatial_gn = HELPERS.add(normalization.spatial_gn)
instance_norm = HELPERS.add(normalization.instance_norm)
layer_norm = HELPERS.add(normalization.layer_norm)
moments_with_running_stats = HELPERS.add(normalization.moments_with_running_stats)
lrn = HELPERS.add(normalization.lrn)
softmax = HELPERS.add(normalization.softmax)
dropout = HELPERS.add(normalization.dropout)
relu = HELPERS.add(activation.relu)
prelu = HELPERS.add(activation.prelu)
tanh = HELPERS.add(activation.tanh)
sigmoid = HELPERS.add(activation.sigmoid)
sum = HELPERS.add(algebra.sum)
sub = HELPERS.add(algebra.sub)
reduce_sum = HELPERS.add(algebra.reduce_sum)
arg_min = HELPERS.add(algebra.arg_min)
transpose = HELPERS.add(algebra.transpose)
concat = HELPERS.add(algebra.concat)
depth_concat = HELPERS.add(algebra.depth_concat)
lstm = HELPERS.add(recurrent.lstm)
accuracy = HELPERS.add(measuring.accuracy)
iter = HELPERS.add(measuring.iter)
add_weight_decay = HELPERS.add(measuring.add_weight_decay)


def Register(helper: Callable[..., Any]) -> None:
    """Make a function `brew.<its name>`; its first argument is the model.

    Raises:
        GraphError: There is one of that name.

    Caffe2: brew.Register.
    """
    HELPERS.register(helper)


def has_helper(helper_or_helper_name: Any) -> bool:
    """Whether there is a helper of that name, or of that function's. Caffe2: brew.has_helper."""
    return HELPERS.has(helper_or_helper_name)


def __getattr__(name: str) -> Any:
    return HELPERS.get(name)
