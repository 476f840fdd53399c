"""`caffe2.python.model_helper`: a net, the net that makes its parameters, and the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procession.caffe2.python import core
from procession.graph.blob import BlobReference, ScopedBlobReference


class ModelHelper:
    """Two nets: `net`, and `param_init_net`, which is run once before it.

    Args:
        name: What the first is called; the second is called `name_init`.
        init_params: Whether `create_param` adds an operator that makes the parameter; otherwise
            it is only read.
        arg_scope: Arguments that the helpers in `brew` give to their operators.
    """

    def __init__(
        self,
        name: str | None = None,
        init_params: bool = True,
        arg_scope: dict[str, Any] | None = None,
    ) -> None:
        self.name = name or "model"
        self.net = core.Net(self.name)
        self.param_init_net = core.Net(f"{self.name}_init")
        self.init_params = init_params
        self.arg_scope: dict[str, Any] = dict(arg_scope or {})
        self.params: list[BlobReference] = []
        self.weights: list[BlobReference] = []
        self.biases: list[BlobReference] = []
        self.param_to_grad: dict[BlobReference, Any] = {}

    def Proto(self) -> Any:
        """The message of `net`."""
        return self.net.Proto()

    def InitProto(self) -> Any:
        """The message of `param_init_net`."""
        return self.param_init_net.Proto()

    def create_param(
        self, param_name: str, shape: Sequence[int], initializer: tuple[str, dict[str, Any]]
    ) -> BlobReference:
        """A parameter: `param_init_net` makes it, `net` is to read it.

        Args:
            param_name: A name in the scope in force.
            shape: Its shape.
            initializer: An operator that fills, and its arguments but for the shape.
        """
        parameter = ScopedBlobReference(param_name, self.net)
        if self.init_params:
            operator, arguments = initializer
            getattr(self.param_init_net, operator)([], parameter, shape=list(shape), **arguments)
        self.params.append(parameter)
        return parameter

    def GetParams(self, namescope: str | None = None) -> list[BlobReference]:
        """The parameters, of all scopes or of one."""
        chosen = self.params
        if namescope is not None:
            prefix = namescope if namescope.endswith("/") or not namescope else f"{namescope}/"
            chosen = [each for each in chosen if each.GetNameScope() == prefix]
        return list(chosen)

    def AddGradientOperators(self, *args: Any, **kwargs: Any) -> Any:
        """`Net.AddGradientOperators` of `net`; notes the parameters' gradients."""
        gradients = self.net.AddGradientOperators(*args, **kwargs)
        self.param_to_grad = {each: gradients[each] for each in self.params if each in gradients}
        return gradients

    def __getattr__(self, operator: str) -> Any:
        if operator.startswith("_"):
            raise AttributeError(operator)
        return getattr(self.net, operator)
