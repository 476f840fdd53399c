"""ModelHelper: a net, the net that makes its parameters, and what those are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from procession import BlobReference, GradientError, GraphError, Net
from procession.core import CurrentNameScope, GradientSlice, IsOperator
from procession.train.modifiers import OptimizerContext, RegularizerContext
from procession.train.parameter import ParameterInfo, ParameterTags
from procession.train.sharing import parameter_sharing_context

_FROM_INIT = "/param_init_net"


def _tags(tags: Any) -> set[str]:
    return set(tags or ()) if isinstance(tags, (list, tuple, set, type(None))) else {tags}


class ModelHelper:
    """Two nets: `net`, and `param_init_net`, which is run once before it.

    The helpers of `procession.train.brew` add layers with their parameters. Operators are methods,
    as they are of `net`.

    Args:
        name: What `net` is called; the other one is called `name_init`.
        init_params: Whether `param_init_net` fills the parameters. If not, they are expected to be
            in the workspace.
        allow_not_known_ops: Whether operators other than `known_operators` may be added as
            methods.
        skip_sparse_optim: Leave parameters with sparse gradients out of
            `GetOptimizationParamInfo`, so that no optimizer updates them.
        param_model: A model to share `param_init_net` and all parameters with, e.g. one that
            trains what this one tests.
        arg_scope: Arguments for all helpers of `brew` that have them: {"order": "NHWC"}.

    Caffe2: model_helper.ModelHelper.
    """

    net_type: ClassVar[type[Net]] = Net
    """Of which class its nets are."""
    default_arg_scope: ClassVar[Mapping[str, Any]] = {"order": "NCHW"}
    known_operators: ClassVar[frozenset[str]] = frozenset()
    """Operators that are methods of all models."""

    def __init__(
        self,
        name: str | None = None,
        init_params: bool = True,
        allow_not_known_ops: bool = True,
        skip_sparse_optim: bool = False,
        param_model: ModelHelper | None = None,
        arg_scope: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name or "model"
        self.net = self.net_type(self.name)
        self.init_params = init_params
        self.allow_not_known_ops = allow_not_known_ops
        self.skip_sparse_optim = skip_sparse_optim
        self.weights: list[BlobReference] = []
        """The parameters with the tag "WEIGHT"."""
        self.biases: list[BlobReference] = []
        """Those with the tag "BIAS"."""
        self.gradient_ops_added = False
        self.grad_map: dict[Any, Any] = {}
        """Blob -> its gradient, as `AddGradientOperators` returned it."""
        self._arg_scope: dict[str, Any] = {**self.default_arg_scope, **(arg_scope or {})}
        if param_model is None:
            self.param_init_net = self.net_type(f"{self.name}_init")
            self.params: list[BlobReference] = []
            """Those that are learned."""
            self.param_to_grad: dict[BlobReference, Any] = {}
            """Parameter -> its gradient, of those that have one."""
            self._parameters_info: dict[BlobReference | str, ParameterInfo] = {}
            self._computed_params: list[BlobReference] = []
        else:
            self.param_init_net = param_model.param_init_net
            self.params = param_model.params
            self.param_to_grad = param_model.param_to_grad
            self._parameters_info = param_model._parameters_info
            self._computed_params = param_model._computed_params

    @property
    def arg_scope(self) -> dict[str, Any]:
        """The arguments for all helpers that have them."""
        return self._arg_scope

    def get_name(self) -> str:
        """Its name."""
        return self.name

    def Proto(self) -> Any:
        """The message of `net`."""
        return self.net.Proto()

    def InitProto(self) -> Any:
        """The message of `param_init_net`."""
        return self.param_init_net.Proto()

    # Parameters.

    def create_param(
        self,
        param_name: str | BlobReference,
        shape: Sequence[int],
        initializer: Any,
        tags: Any = None,
    ) -> BlobReference:
        """A parameter; one that there is already is found again.

        Args:
            param_name: A name in the name scope in force, or in the one that this stands for (see
                `ParameterSharing`); or a blob.
            shape: Its shape.
            initializer: What fills it; see `initializers`.
            tags: "WEIGHT", "BIAS", "COMPUTED_PARAM", or a list of them.

        Raises:
            GraphError: It is there, but has another shape.
            TypeError: `param_name` is neither a name nor a blob.
        """
        if isinstance(param_name, BlobReference):
            name = str(param_name)
        elif isinstance(param_name, str):
            name = parameter_sharing_context.get_parameter_name(param_name)
        else:
            raise TypeError(f"a parameter's name is a string or a blob, not {param_name!r}")
        known = self._parameters_info.get(name)
        if known is not None:
            if list(known.shape or ()) != list(shape):
                raise GraphError(
                    f"parameter {name!r} of model {self.name!r} has the shape {known.shape}: it "
                    f"cannot have {list(shape)} as well. Layers of one name share parameters"
                )
            return known.blob
        info: ParameterInfo = initializer.create_param(
            param_name=BlobReference(name), init_net=self.param_init_net, shape=shape
        )
        own = OptimizerContext.current().chosen(sorted(_tags(tags)))
        if own is not None:
            info.optimizer = own
        info.regularizer = RegularizerContext.current().chosen(sorted(_tags(tags)))
        self._parameters_info[name] = info
        self.AddParameter(info.blob, tags)
        return info.blob

    def get_param_info(self, param: BlobReference) -> ParameterInfo | None:
        """What is known of a parameter; None if it is none, or was added by `AddParameter` alone.

        Raises:
            GraphError: It is no `BlobReference`.
        """
        if not isinstance(param, BlobReference):
            raise GraphError(f"a parameter is a BlobReference, not {param!r}")
        return self._parameters_info.get(param)

    def AddParameter(self, param: BlobReference, tags: Any = None) -> None:
        """Count a blob among the parameters.

        Args:
            param: The blob.
            tags: "WEIGHT", "BIAS", "COMPUTED_PARAM", or a list of them. What is computed is not
                among `params`, as it is not learned.

        Raises:
            GraphError: It is no `BlobReference`.
        """
        if not isinstance(param, BlobReference):
            raise GraphError(f"a parameter is a BlobReference, not {param!r}")
        given = _tags(tags)
        computed = ParameterTags.COMPUTED_PARAM in given
        (self._computed_params if computed else self.params).append(param)
        if ParameterTags.WEIGHT in given:
            self.weights.append(param)
        if ParameterTags.BIAS in given:
            self.biases.append(param)

    @staticmethod
    def _within(params: list[BlobReference], namescope: str | None) -> list[BlobReference]:
        if namescope is None:
            namescope = CurrentNameScope()
        elif namescope and not namescope.endswith("/"):
            namescope += "/"
        return [param for param in params if param.GetNameScope().startswith(namescope)]

    def GetParams(
        self, namescope: str | None = None, top_scope: bool = False
    ) -> list[BlobReference]:
        """The parameters whose names begin with a name scope; left out: with the one in force."""
        return self._within(self.params, namescope)

    def GetComputedParams(self, namescope: str | None = None) -> list[BlobReference]:
        """The same of those that are computed."""
        return self._within(self._computed_params, namescope)

    def GetAllParams(self, namescope: str | None = None) -> list[BlobReference]:
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

    # Gradients.

    def AddGradientOperators(
        self,
        ys: Any,
        skip: int = 0,
        wanted: str | BlobReference | Iterable[str | BlobReference] | None = None,
    ) -> Any:
        """`Net.AddGradientOperators` of `net`, once; parameters learn what their gradients are.

        Args:
            ys: The blobs to differentiate, such as the loss.
            skip: How many operators at the beginning to leave alone.
            wanted: The blobs whose gradients are wanted, or one; left out, all parameters that the
                blobs are made of. That saves the gradient of the data.

        Raises:
            GradientError: It has been called before; or see `Net.AddGradientOperators`.
            GraphError: A parameter was added twice.
        """
        if self.gradient_ops_added:
            raise GradientError(f"model {self.name!r} has its gradient operators already")
        self.Validate()
        self.grad_map = self._gradients(ys, skip, wanted)
        self.gradient_ops_added = True
        self.param_to_grad = self.get_param_to_grad(self.params)
        for param, gradient in self.param_to_grad.items():
            info = self._parameters_info.get(param)
            if info is None:
                shape = self._shape_in_init(str(param))
                info = self._parameters_info[param] = ParameterInfo(None, param, shape=shape)
            info.grad = gradient
        return self.grad_map

    def _gradients(self, ys: Any, skip: int, wanted: Any) -> Any:
        add = self.net.AddGradientOperators
        if wanted is not None:
            return add(ys, skip, wanted=wanted)
        made_of = {str(y) for y in ys}
        for operator in reversed(self.net.message.op):
            if not made_of.isdisjoint(operator.output):
                made_of.update(operator.input)
        params = [param for param in self.params if str(param) in made_of]
        try:
            return add(ys, skip, wanted=params)
        except GradientError:
            # One of them may be out of reach: behind a StopGradient, say.
            return add(ys, skip)

    def _shape_in_init(self, param: str) -> list[int] | None:
        """The shape that the operator which fills a parameter is given."""
        for operator in self.param_init_net.message.op:
            if param in operator.output and "shape" in operator.arguments:
                return list(operator.arguments["shape"])
        return None

    def get_param_to_grad(self, params: Iterable[BlobReference]) -> dict[BlobReference, Any]:
        """Parameter -> its gradient, of those that have one.

        Raises:
            GradientError: `AddGradientOperators` has not been called.
        """
        if not self.gradient_ops_added:
            raise GradientError(f"model {self.name!r} has no gradients: AddGradientOperators first")
        return {each: self.grad_map[str(each)] for each in params if str(each) in self.grad_map}

    def GetOptimizationParamInfo(
        self, params: Iterable[BlobReference] | None = None
    ) -> list[ParameterInfo]:
        """What is known of the parameters that an optimizer is to update, gradients included.

        Args:
            params: Which; left out, all that have gradients.

        Raises:
            GradientError: `AddGradientOperators` has not been called.
        """
        gradients = self.get_param_to_grad(params or self.params)
        return [
            self._parameters_info[param]
            for param, gradient in gradients.items()
            if not (self.skip_sparse_optim and isinstance(gradient, GradientSlice))
        ]

    # The nets as a whole.

    def GetCompleteNet(self) -> Net:
        """A net of the operators of both, those of `param_init_net` marked in their debug_info."""
        whole = self.param_init_net.Clone(f"{self.name}_complete_net", keep_schema=True)
        for operator in whole.Proto().op:
            operator.debug_info += _FROM_INIT
        whole.AppendNet(self.net)
        if self.net.message.HasField("type"):
            whole.Proto().type = self.net.message.type
        return whole

    def ConstructInitTrainNetfromNet(self, net: Net) -> None:
        """Take both nets out of one that `GetCompleteNet` made."""
        first: list[int] = []
        rest: list[int] = []
        for index, operator in enumerate(net.message.op):
            (first if operator.debug_info.endswith(_FROM_INIT) else rest).append(index)

        def part(name: str, indices: list[int]) -> Net:
            return net.Clone(
                f"{net.Name()}/{name}",
                keep_schema=True,
                op_id_mask=indices,
                update_external_list=True,
            )

        self.param_init_net = part("generated_param_init_net", first)
        self.net = part("generated_net", rest)

    def __getattr__(self, operator: str) -> Any:
        if operator.startswith("_") or "net" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no {operator!r}")
        if not self.allow_not_known_ops and operator not in self.known_operators:
            raise AttributeError(
                f"model {self.name!r} was told to take no operators like {operator!r} "
                "(allow_not_known_ops): add it to its net"
            )
        if not IsOperator(operator):
            try:
                return getattr(self.net, operator)
            except AttributeError as error:
                raise AttributeError(
                    f"{type(self).__name__} has no {operator!r}: {error}"
                ) from None
        return getattr(self.net, operator)
