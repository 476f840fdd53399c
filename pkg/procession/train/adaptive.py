"""Optimizers that give each element a rate of its own: Adagrad, Adadelta, Adam; and relatives."""

from __future__ import annotations

from typing import Any, NamedTuple

from procession import GraphError, Net
from procession.core import DataType
from procession.train.optimizer import Optimizer
from procession.train.parameter import ParameterInfo


class WeightScale(NamedTuple):
    """Multiply a parameter, every so many steps, as long as there are fewer than so many.

    Caffe2: any object with these attributes.
    """

    stepsize: int
    upper_bound_iter: int
    scale: float
    to_aux: bool = False
    """Also what the optimizer keeps for it."""


def _effective(param_info: ParameterInfo, rate: bool, update: bool) -> list[str]:
    """The outputs that tell which rate, and which step, each element got."""
    blob = param_info.blob
    told = [f"{blob}_effective_lr"] if rate or update else []
    return [*told, f"{blob}_update"] if update else told


class AdagradOptimizer(Optimizer):
    """Steps divided by the root of the sum of squares: Adagrad, SparseAdagrad.

    Args:
        alpha: The learning rate; nothing is updated if it is not above 0.
        epsilon: What is added to the root.
        decay: Which part of the sum stays; sparse gradients take 1 only.
        weight_decay: Which part of a parameter is added to its gradient, but not for vectors.
        policy: How the rate changes; see the operator LearningRate.
        sparse_dedup_aggregator: See `SgdOptimizer`.
        rowWise: One rate for each row: RowWiseSparseAdagrad, for sparse gradients.
        engine: Kept with the operator, without effect.
        lars: See `SgdOptimizer`.
        output_effective_lr: Also tell which rate each element got, in "..._effective_lr".
        output_effective_lr_and_update: Also tell that, and the steps, in "..._update".
        pruning_options: None; masks are not supported.
        swa_options: None; averaging parameters is not supported.
        ema_options: The same.
        weight_scale: See `WeightScale`.
        counter_halflife: Above 0: count the updates of each row, in "..._update_counter", each
            counting half after so many steps; for sparse gradients.
        **kwargs: Arguments of LearningRate.

    Caffe2: optimizer.AdagradOptimizer.
    """

    def __init__(
        self,
        alpha: float = 0.01,
        epsilon: float = 1e-4,
        decay: float = 1,
        weight_decay: float = 0.0,
        policy: str = "fixed",
        sparse_dedup_aggregator: str | None = None,
        rowWise: bool = False,
        engine: str = "",
        lars: float | None = None,
        output_effective_lr: bool = False,
        output_effective_lr_and_update: bool = False,
        pruning_options: Any = None,
        swa_options: Any = None,
        ema_options: Any = None,
        weight_scale: Any = None,
        counter_halflife: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if pruning_options or swa_options or ema_options:
            raise GraphError("Adagrad: pruning_options, swa_options, ema_options are not supported")
        self.alpha = alpha
        self.epsilon = epsilon
        self.decay = decay
        self.weight_decay = float(weight_decay)
        self.policy = policy
        self.sparse_dedup_aggregator = sparse_dedup_aggregator
        self.rowWise = rowWise
        self.engine = engine
        self.lars = lars
        self.output_effective_lr = output_effective_lr
        self.output_effective_lr_and_update = output_effective_lr_and_update
        self.weight_scale = weight_scale
        self.counter_halflife = counter_halflife
        self.init_kwargs = kwargs

    def _options(self, param_init_net: Net, param_info: ParameterInfo) -> dict[str, Any]:
        options: dict[str, Any] = {"epsilon": self.epsilon, "engine": self.engine}
        if self.weight_decay > 0:
            shape = self._shape(param_init_net, param_info)
            if shape is None:
                raise GraphError(
                    f"nobody says the shape of {param_info.name!r}, which weight decay asks for"
                )
            if len(shape) > 1:
                options["weight_decay"] = self.weight_decay
        return options

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            return
        if self.lars is not None and self.weight_decay:
            raise GraphError("Adagrad takes lars or weight_decay, not both")
        rate, iteration = self._learning_rate(net, param_init_net, param_info, self.lars)
        if self.counter_halflife > 0:
            self._aux_params.shared.append(iteration)
        if self.rowWise:
            squares = self._rows(param_init_net, param_info, "_avg_squared_sum")
        else:
            squares = self._kept(param_init_net, param_info, "_squared_sum")
        param, grad = param_info.blob, self._slices(net, param_info.grad)
        options = self._options(param_init_net, param_info)
        if grad is None:
            if self.rowWise:
                raise GraphError(
                    f"rowWise is for sparse gradients, which {param_info.name!r} has not. Make "
                    f"the tables in UseOptimizer({type(self).__name__}(..., rowWise=True)), and "
                    f"build without rowWise"
                )
            told = _effective(
                param_info, self.output_effective_lr, self.output_effective_lr_and_update
            )
            net.Adagrad(
                [param, squares, param_info.grad, rate],
                [param, squares, *told],
                decay=float(self.decay),
                **options,
            )
        else:
            if self.decay != 1:
                raise GraphError(f"a sparse gradient takes no decay but 1, not {self.decay}")
            update = net.RowWiseSparseAdagrad if self.rowWise else net.SparseAdagrad
            update([param, squares, grad.indices, grad.values, rate], [param, squares], **options)
            if self.counter_halflife > 0:
                self._count(net, param_init_net, param_info, grad.indices, iteration)
        if self.weight_scale:
            self._scale(net, param, iteration)
            if self.weight_scale.to_aux:
                self._scale(net, squares, iteration)

    def _count(
        self, net: Net, param_init_net: Net, param_info: ParameterInfo, rows: Any, iteration: Any
    ) -> None:
        counter = self._rows(param_init_net, param_info, "_update_counter", DataType.DOUBLE)
        last = self._rows(param_init_net, param_info, "_prev_update_iter", DataType.INT64)
        net.RowWiseCounter(
            [last, counter, rows, iteration],
            [last, counter],
            counter_halflife=self.counter_halflife,
        )

    def _scale(self, net: Net, blob: Any, iteration: Any) -> None:
        net.WeightScale(
            [blob, iteration],
            [blob],
            stepsize=self.weight_scale.stepsize,
            upper_bound_iter=self.weight_scale.upper_bound_iter,
            scale=float(self.weight_scale.scale),
        )


class WngradOptimizer(Optimizer):
    """One rate for all elements of a parameter, divided by a sum of norms: Wngrad, SparseWngrad.

    Args:
        alpha: The learning rate; nothing is updated if it is not above 0.
        epsilon: What is added to what is divided by.
        policy: How the rate changes; see the operator LearningRate.
        sparse_dedup_aggregator: See `SgdOptimizer`.
        engine: Kept with the operator, without effect.
        moment_init: What the sum begins with.
        lars: See `SgdOptimizer`.
        output_effective_lr: See `AdagradOptimizer`.
        output_effective_lr_and_update: See `AdagradOptimizer`.
        **kwargs: Arguments of LearningRate.

    Caffe2: optimizer.WngradOptimizer.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        epsilon: float = 1e-9,
        policy: str = "fixed",
        sparse_dedup_aggregator: str | None = None,
        engine: str = "",
        moment_init: float = 100.0,
        lars: float | None = None,
        output_effective_lr: bool = False,
        output_effective_lr_and_update: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.epsilon = epsilon
        self.policy = policy
        self.sparse_dedup_aggregator = sparse_dedup_aggregator
        self.engine = engine
        self.moment_init = moment_init
        self.lars = lars
        self.output_effective_lr = output_effective_lr
        self.output_effective_lr_and_update = output_effective_lr_and_update
        self.init_kwargs = kwargs

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            return
        rate, _ = self._learning_rate(net, param_init_net, param_info, self.lars)
        kept = self._kept(param_init_net, param_info, "_moment", self.moment_init, [1])
        param, grad = param_info.blob, self._slices(net, param_info.grad)
        options = {"epsilon": self.epsilon, "engine": self.engine}
        if grad is not None:
            net.SparseWngrad(
                [param, kept, grad.indices, grad.values, rate], [param, kept], **options
            )
            return
        told = _effective(param_info, self.output_effective_lr, self.output_effective_lr_and_update)
        net.Wngrad([param, kept, param_info.grad, rate], [param, kept, *told], **options)


class StormOptimizer(Optimizer):
    """Momentum and rate that follow the sum of squared norms: Storm, SparseStorm.

    Args:
        lr: The learning rate; nothing is updated if it is not above 0.
        momentum: What the momentum is multiples of.
        beta: What the sum begins with where it is divided by.
        grad_sq_init: What the sum begins with.
        policy: How the rate changes; see the operator LearningRate.
        sparse_dedup_aggregator: See `SgdOptimizer`.
        lars: See `SgdOptimizer`.
        **kwargs: Arguments of LearningRate.

    Caffe2: optimizer.StormOptimizer.
    """

    _rate = "lr"

    def __init__(
        self,
        lr: float = 0.1,
        momentum: float = 10.0,
        beta: float = 0.1,
        grad_sq_init: float = 0.01,
        policy: str = "fixed",
        sparse_dedup_aggregator: str | None = None,
        lars: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum
        self.beta = beta
        self.grad_sq_init = grad_sq_init
        self.policy = policy
        self.sparse_dedup_aggregator = sparse_dedup_aggregator
        self.lars = lars
        self.init_kwargs = kwargs

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.lr <= 0:
            return
        rate, _ = self._learning_rate(net, param_init_net, param_info, self.lars)
        state = [
            param_info.blob,
            self._kept(param_init_net, param_info, "_moment"),
            self._kept(param_init_net, param_info, "_grad_sq_sum", self.grad_sq_init, [1]),
        ]
        options = {"momentum": self.momentum, "beta": self.beta}
        grad = self._slices(net, param_info.grad)
        if grad is None:
            net.Storm([*state, param_info.grad, rate], state, **options)
        else:
            net.SparseStorm([*state, grad.values, grad.indices, rate], state, **options)


class AdadeltaOptimizer(Optimizer):
    """Steps in the ratio of running means of squares: Adadelta, SparseAdadelta.

    Args:
        alpha: The learning rate; nothing is updated if it is not above 0.
        epsilon: What is added to the means.
        decay: Which part of the means stays.
        policy: How the rate changes; see the operator LearningRate.
        sparse_dedup_aggregator: See `SgdOptimizer`.
        engine: Kept with the operator, without effect.
        **kwargs: Arguments of LearningRate.

    Caffe2: optimizer.AdadeltaOptimizer.
    """

    def __init__(
        self,
        alpha: float = 0.01,
        epsilon: float = 1e-4,
        decay: float = 0.95,
        policy: str = "fixed",
        sparse_dedup_aggregator: str | None = None,
        engine: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.epsilon = epsilon
        self.decay = decay
        self.policy = policy
        self.sparse_dedup_aggregator = sparse_dedup_aggregator
        self.engine = engine
        self.init_kwargs = kwargs

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            return
        rate, _ = self._learning_rate(net, param_init_net, param_info)
        state = [
            param_info.blob,
            self._kept(param_init_net, param_info, "_squared_moment"),
            self._kept(param_init_net, param_info, "_squared_moment_update"),
        ]
        options = {"epsilon": self.epsilon, "decay": self.decay, "engine": self.engine}
        grad = self._slices(net, param_info.grad)
        if grad is None:
            net.Adadelta([*state, param_info.grad, rate], state, **options)
        else:
            net.SparseAdadelta([*state, grad.indices, grad.values, rate], state, **options)


class AdamOptimizer(Optimizer):
    """Steps in the ratio of running means, corrected for their beginning: Adam, SparseAdam.

    Args:
        alpha: The learning rate; nothing is updated if it is not above 0.
        beta1: Which part of the mean of gradients stays.
        beta2: Which part of the mean of squares stays.
        epsilon: What is added to the root.
        policy: How the rate changes; see the operator LearningRate.
        use_lr_adaption: Also let the rate follow how gradients agree: LearningRateAdaption.
        lr_alpha: How fast it does.
        normalized_lr_adaption: By their direction alone.
        sparse_dedup_aggregator: See `SgdOptimizer`.
        rowWise: One mean of squares for each row: RowWiseSparseAdam, for sparse gradients.
        engine: For the sake of Caffe2's signature; it has no effect.
        enableRAdam: Rectify the rate; for sparse gradients, and not by row.
        **kwargs: Arguments of LearningRate.

    Caffe2: optimizer.AdamOptimizer.
    """

    def __init__(
        self,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        policy: str = "fixed",
        use_lr_adaption: bool = False,
        lr_alpha: float = 0.01,
        normalized_lr_adaption: bool = True,
        sparse_dedup_aggregator: str | None = None,
        rowWise: bool = False,
        engine: str = "",
        enableRAdam: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if rowWise and enableRAdam:
            raise GraphError("Adam: rowWise goes without enableRAdam")
        self.alpha = alpha
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.policy = policy
        self.use_lr_adaption = use_lr_adaption
        self.lr_alpha = lr_alpha
        self.normalized_lr_adaption = normalized_lr_adaption
        self.sparse_dedup_aggregator = sparse_dedup_aggregator
        self.rowWise = rowWise
        self.engine = engine
        self.enableRAdam = enableRAdam
        self.init_kwargs = kwargs

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            return
        rate, iteration = self._learning_rate(net, param_init_net, param_info)
        first = self._kept(param_init_net, param_info, "_first_moment")
        if self.rowWise:
            second = self._rows(param_init_net, param_info, "_avg_second_moment")
        else:
            second = self._kept(param_init_net, param_info, "_second_moment")
        self._aux_params.shared.append(iteration)
        state = [param_info.blob, first, second]
        effective = f"{param_info.blob}_effective_grad"
        outputs = [*state, effective] if self.use_lr_adaption else state
        options: dict[str, Any] = {
            "beta1": self.beta1,
            "beta2": self.beta2,
            "epsilon": self.epsilon,
        }
        grad = self._slices(net, param_info.grad)
        if grad is None:
            if self.rowWise:
                raise GraphError(
                    f"rowWise is for sparse gradients, which {param_info.name!r} has not. Make "
                    f"the tables in UseOptimizer({type(self).__name__}(..., rowWise=True)), and "
                    f"build without rowWise"
                )
            values = param_info.grad
            net.Adam([*state, values, rate, iteration], outputs, **options)
        else:
            values = grad.values
            inputs = [*state, grad.indices, values, rate, iteration]
            if self.rowWise:
                net.RowWiseSparseAdam(inputs, outputs, **options)
            else:
                net.SparseAdam(inputs, outputs, enableRAdam=self.enableRAdam, **options)
        if self.use_lr_adaption:
            net.LearningRateAdaption(
                [rate, values, effective],
                [rate],
                lr_alpha=self.lr_alpha,
                normalized_lr_adaption=self.normalized_lr_adaption,
            )
