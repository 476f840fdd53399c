"""`caffe2.python.model_helper`: a net, the net that makes its parameters, and what those are."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python import core, scope
from procession.errors import GradientError


class ModelHelper:
    """Two nets: `net`, and `param_init_net`, which is run once before it.

    Args:
        name: What the first is called; the second is called `name_init`.
        init_params: Whether `param_init_net` gets operators that fill the parameters. If not, they
            are expected to be in the workspace.
    """

    def __init__(self, name: str | None = None, init_params: bool = True) -> None:
        self.name = name or "model"
        self.net = core.Net(self.name)
        self.param_init_net = core.Net(f"{self.name}_init")
        self.init_params = init_params
        self.params: list[Any] = []
        self.param_to_grad: dict[Any, Any] = {}
        """Parameter -> its gradient, of those that have one."""
        self.gradient_ops_added = False

    def Proto(self) -> Any:
        """The message of `net`."""
        return self.net.Proto()

    def InitProto(self) -> Any:
        """The message of `param_init_net`."""
        return self.param_init_net.Proto()

    def AddParameter(self, param: Any) -> None:
        """Count a blob among the parameters."""
        self.params.append(param)

    def GetParams(self, namescope: str | None = None) -> list[Any]:
        """The parameters whose names begin with a name scope; left out: with the one in force."""
        if namescope is None:
            namescope = scope.CurrentNameScope()
        elif namescope and not namescope.endswith("/"):
            namescope += "/"
        return [param for param in self.params if param.GetNameScope().startswith(namescope)]

    def AddGradientOperators(self, *args: Any, **kwargs: Any) -> Any:
        """`Net.AddGradientOperators` of `net`, once.

        Raises:
            GradientError: It has been called before.
        """
        if self.gradient_ops_added:
            raise GradientError(f"model {self.name!r} has its gradient operators already")
        gradients = self.net.AddGradientOperators(*args, **kwargs)
        self.gradient_ops_added = True
        self.param_to_grad = {each: gradients[each] for each in self.params if each in gradients}
        return gradients

    def __getattr__(self, operator: str) -> Any:
        if operator.startswith("_"):
            raise AttributeError(operator)
        return getattr(self.net, operator)
