"""What parameters begin with: an initializer adds the operator that fills one to a net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from procession import BlobReference, GraphError, Net
from procession.core import ScopedBlobReference
from procession.train.parameter import ParameterInfo

Fill = tuple[str, Mapping[str, Any]]
"""The operator that fills a parameter, and its arguments: ("GaussianFill", {"std": 0.1})."""


class Initializer:
    """Fills a parameter by an operator.

    Args:
        operator_name: The operator, such as "XavierFill".
        **kwargs: Its arguments but for the shape.

    Caffe2: initializers.Initializer.
    """

    def __init__(self, operator_name: str | None = None, **kwargs: Any) -> None:
        self.operator_name = operator_name
        self.operator_kwargs: Mapping[str, Any] = kwargs

    def update(self, operator_name: str, kwargs: Mapping[str, Any]) -> None:
        """Say by which operator, if that was left open.

        Raises:
            GraphError: It was not.
        """
        if self.operator_name is not None:
            raise GraphError(
                f"this initializer fills by {self.operator_name}; it cannot by {operator_name}, too"
            )
        self.operator_name, self.operator_kwargs = operator_name, kwargs

    def create_param(
        self, param_name: str | BlobReference, init_net: Net, shape: Sequence[int]
    ) -> ParameterInfo:
        """Have a net fill a parameter.

        Args:
            param_name: The blob; a string is a name in the scope in force.
            init_net: The net.
            shape: Its shape.

        Raises:
            GraphError: It was left open by which operator.
        """
        if self.operator_name is None:
            raise GraphError(f"no operator to fill parameter {str(param_name)!r} with: `update`")
        fill = getattr(init_net, self.operator_name)
        made = fill([], param_name, shape=list(shape), **self.operator_kwargs)
        return ParameterInfo(param_id=None, param=made, shape=shape)


class ExternalInitializer:
    """Fills nothing: the parameter is expected to be in the workspace.

    Caffe2: initializers.ExternalInitializer.
    """

    def create_param(
        self, param_name: str | BlobReference, init_net: Net, shape: Sequence[int]
    ) -> ParameterInfo:
        """A parameter that exists already; see `Initializer.create_param`.

        Raises:
            TypeError: `param_name` is neither a name nor a blob.
        """
        if isinstance(param_name, BlobReference):
            found = BlobReference(param_name, init_net)
        elif isinstance(param_name, str):
            found = ScopedBlobReference(param_name, init_net)
        else:
            raise TypeError(f"a parameter's name is a string or a blob, not {param_name!r}")
        return ParameterInfo(param_id=None, param=found, shape=shape)


def update_initializer(
    initializer_class: Any,
    operator_name_and_kwargs: Fill | None,
    default_operator_name_and_kwargs: Fill,
) -> Any:
    """The initializer that three ways of asking for one come to.

    Args:
        initializer_class: A class such as `Initializer`, which is called with the operator's name
            and its arguments; or an initializer, which is the answer; or None: `Initializer`.
        operator_name_and_kwargs: The operator and its arguments, or None.
        default_operator_name_and_kwargs: Those if it is None.

    Caffe2: initializers.update_initializer.
    """
    if initializer_class is not None and not isinstance(initializer_class, type):
        return initializer_class
    operator, arguments = operator_name_and_kwargs or default_operator_name_and_kwargs
    return (initializer_class or Initializer)(operator, **arguments)
