"""`caffe2.python.model_helper`: a net, the net that makes its parameters, and what those are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from procession.caffe2.python import _import_c_extension as C
from procession.caffe2.python import core, scope
from procession.errors import GradientError, GraphError, did_you_mean

_FROM_INIT = "/param_init_net"
WEIGHT, BIAS, COMPUTED_PARAM = "WEIGHT", "BIAS", "COMPUTED_PARAM"
"""The tags of parameters."""


class ModelHelper:
    """Two nets: `net`, and `param_init_net`, which is run once before it.

    Args:
        name: What the first is called; the second is called `name_init`.
        init_params: Whether `param_init_net` gets operators that fill the parameters. If not, they
            are expected to be in the workspace.
        param_model: A model to share the second net and all parameters with.
    """

    def __init__(
        self,
        name: str | None = None,
        init_params: bool = True,
        *,
        param_model: ModelHelper | None = None,
    ) -> None:
        self.name = name or "model"
        self.net = core.Net(self.name)
        self.init_params = init_params
        self.weights: list[Any] = []
        """The parameters with the tag "WEIGHT"."""
        self.biases: list[Any] = []
        """Those with the tag "BIAS"."""
        self.gradient_ops_added = False
        self.grad_map: Any = {}
        """Blob -> its gradient, as `AddGradientOperators` returned it."""
        if param_model is None:
            self.param_init_net = core.Net(f"{self.name}_init")
            self.params: list[Any] = []
            self.param_to_grad: dict[Any, Any] = {}
            """Parameter -> its gradient, of those that have one."""
            self._computed_params: list[Any] = []
        else:
            self.param_init_net = param_model.param_init_net
            self.params = param_model.params
            self.param_to_grad = param_model.param_to_grad
            self._computed_params = param_model._computed_params

    def get_name(self) -> str:
        """Its name."""
        return self.name

    def Proto(self) -> Any:
        """The message of `net`."""
        return self.net.Proto()

    def InitProto(self) -> Any:
        """The message of `param_init_net`."""
        return self.param_init_net.Proto()

    def AddParameter(self, param: Any, tags: Any = None) -> None:
        """Count a blob among the parameters.

        Args:
            param: The blob.
            tags: "WEIGHT", "BIAS", "COMPUTED_PARAM", or a list of them. What is computed is not
                among `params`, as it is not learned.

        Raises:
            GraphError: It is no `BlobReference`.
        """
        if not isinstance(param, core.BlobReference):
            raise GraphError(f"a parameter is a BlobReference, not {param!r}")
        given = set(tags or ()) if isinstance(tags, (list, type(None))) else {tags}
        (self._computed_params if COMPUTED_PARAM in given else self.params).append(param)
        if WEIGHT in given:
            self.weights.append(param)
        if BIAS in given:
            self.biases.append(param)

    @staticmethod
    def _within(params: list[Any], namescope: str | None) -> list[Any]:
        if namescope is None:
            namescope = scope.CurrentNameScope()
        elif namescope and not namescope.endswith("/"):
            namescope += "/"
        return [param for param in params if param.GetNameScope().startswith(namescope)]

    def GetParams(self, namescope: str | None = None, top_scope: bool = False) -> list[Any]:
        """The parameters whose names begin with a name scope; left out: with the one in force."""
        return self._within(self.params, namescope)

    def GetComputedParams(self, namescope: str | None = None) -> list[Any]:
        """The same of those that are computed."""
        return self._within(self._computed_params, namescope)

    def GetAllParams(self, namescope: str | None = None) -> list[Any]:
        """Both, the computed ones behind the others."""
        return self.GetParams(namescope) + self.GetComputedParams(namescope)

    def _Validate(self) -> list[str]:
        names = [str(param) for param in self.params]
        return sorted({name for name in names if names.count(name) > 1})

    def Validate(self) -> None:
        """Refuse a parameter that was added twice.

        Raises:
            GraphError: There is one.
        """
        twice = self._Validate()
        if twice:
            raise GraphError(f"model {self.name!r} has the same parameters twice: {twice}")

    def AddGradientOperators(self, *args: Any, **kwargs: Any) -> Any:
        """`Net.AddGradientOperators` of `net`, once.

        Raises:
            GradientError: It has been called before.
            GraphError: A parameter was added twice.
        """
        if self.gradient_ops_added:
            raise GradientError(f"model {self.name!r} has its gradient operators already")
        self.Validate()
        self.grad_map = self.net.AddGradientOperators(*args, **kwargs)
        self.gradient_ops_added = True
        self.param_to_grad = self.get_param_to_grad(self.params)
        return self.grad_map

    def get_param_to_grad(self, params: Iterable[Any]) -> dict[Any, Any]:
        """Parameter -> its gradient, of those that have one.

        Raises:
            GradientError: `AddGradientOperators` has not been called.
        """
        if not self.gradient_ops_added:
            raise GradientError(f"model {self.name!r} has no gradients: AddGradientOperators first")
        return {each: self.grad_map[str(each)] for each in params if str(each) in self.grad_map}

    def RunAllOnGPU(self, *args: Any, **kwargs: Any) -> None:
        """Have both nets on a GPU; a run of them is then refused."""
        self.param_init_net.RunAllOnGPU(*args, **kwargs)
        self.net.RunAllOnGPU(*args, **kwargs)

    def GetCompleteNet(self) -> Any:
        """A net of the operators of both, those of `param_init_net` marked in their debug_info."""
        whole = self.param_init_net.Clone(f"{self.name}_complete_net", keep_schema=True)
        for operator in whole.Proto().op:
            operator.debug_info += _FROM_INIT
        whole.AppendNet(self.net)
        if self.net.Proto().HasField("type"):
            whole.Proto().type = self.net.Proto().type
        return whole

    def ConstructInitTrainNetfromNet(self, net: Any) -> None:
        """Take both nets out of one that `GetCompleteNet` made."""
        first: list[int] = []
        rest: list[int] = []
        for index, operator in enumerate(net.Proto().op):
            (first if operator.debug_info.endswith(_FROM_INIT) else rest).append(index)

        def part(name: str, indices: list[int]) -> Any:
            return net.Clone(
                f"{net.Name()}/{name}",
                keep_schema=True,
                op_id_mask=indices,
                update_external_list=True,
            )

        self.param_init_net = part("generated_param_init_net", first)
        self.net = part("generated_net", rest)

    def __getattr__(self, operator: str) -> Any:
        if operator.startswith("_") or not core.IsOperator(operator):
            raise AttributeError(
                f"ModelHelper has no {operator!r}, and there is no operator of that name."
                f"{did_you_mean(operator, C.registered_operators())}"
            )
        return getattr(self.net, operator)
