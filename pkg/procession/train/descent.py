"""Optimizers that follow the gradient as it is: SGD, with momentum or without; weight decay."""

from __future__ import annotations

from typing import Any

from procession import GraphError, Net, count_runs
from procession.core import CurrentDeviceScope, GradientSlice, ScopedBlobReference
from procession.train.optimizer import OPTIMIZER_ITERATION_NAME, Optimizer
from procession.train.parameter import ParameterInfo


class SgdOptimizer(Optimizer):
    """Stochastic gradient descent: WeightedSum, or MomentumSGDUpdate.

    Args:
        base_learning_rate: The learning rate; with 0, nothing is updated.
        policy: How it changes; see the operator LearningRate.
        momentum: Which part of a step is in the next one, too.
        nesterov: With momentum: look ahead, as Nesterov does.
        sparse_dedup_aggregator: What becomes of rows that a sparse gradient has twice: "sum" or
            "mean"; None: each is an update.
        lars: The offset of layer-wise adaptive scaling of the rate; None: without.
        **kwargs: Arguments of LearningRate: `gamma`, `stepsize`, ...

    Caffe2: optimizer.SgdOptimizer.
    """

    _rate = "base_learning_rate"

    def __init__(
        self,
        base_learning_rate: float = 0.01,
        policy: str = "fixed",
        momentum: float = 0.0,
        nesterov: bool = True,
        sparse_dedup_aggregator: str | None = None,
        lars: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.base_learning_rate = base_learning_rate
        self.policy = policy
        self.momentum = momentum
        self.nesterov = nesterov
        self.sparse_dedup_aggregator = sparse_dedup_aggregator
        self.lars = lars
        self.init_kwargs = kwargs

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.base_learning_rate == 0:
            return
        if self.base_learning_rate < 0:
            raise GraphError(f"a learning rate cannot be below 0: {self.base_learning_rate}")
        if self.momentum < 0:
            raise GraphError(f"a momentum cannot be below 0: {self.momentum}")
        # What takes momentum takes the rate as it is; sums take what is to be added.
        sign = -1 if self.momentum else 1
        rate, _ = self._learning_rate(net, param_init_net, param_info, self.lars, sign)
        one = self._one(param_init_net)
        self._aux_params.shared.append(one)
        param, grad = param_info.blob, param_info.grad
        if self.momentum == 0:
            if (slices := self._slices(net, grad)) is None:
                net.WeightedSum([param, one, grad, rate], param)
            else:
                inputs = [param, one, slices.indices, slices.values, rate]
                net.ScatterWeightedSum(inputs, param)
            return
        kept = self._kept(param_init_net, param_info, "_momentum")
        options = {"momentum": self.momentum, "nesterov": self.nesterov}
        if (slices := self._slices(net, grad)) is None:
            net.MomentumSGDUpdate([grad, kept, rate, param], [grad, kept, param], **options)
        else:
            values = slices.values
            inputs = [values, kept, rate, param, slices.indices]
            net.SparseMomentumSGDUpdate(inputs, [values, kept, param], **options)


class RmsPropOptimizer(Optimizer):
    """Steps divided by a running mean of squares: RmsProp, then MomentumSGDUpdate.

    Args:
        alpha: The learning rate.
        decay: Which part of the mean stays.
        momentum: Which part of a step is in the next one, too.
        epsilon: What is added to the mean.
        policy: How the rate changes; see the operator LearningRate.
        engine: Kept with the operator, without effect.
        **kwargs: Arguments of LearningRate.

    Caffe2: optimizer.RmsPropOptimizer.
    """

    def __init__(
        self,
        alpha: float = 0.01,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-5,
        policy: str = "fixed",
        engine: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.decay = decay
        self.momentum = momentum
        self.epsilon = epsilon
        self.policy = policy
        self.engine = engine
        self.init_kwargs = kwargs

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            raise GraphError(f"a learning rate has to be above 0: {self.alpha}")
        grad = self._dense_only(param_info)
        one = self._one(param_init_net, with_node=False)
        rate, _ = self._learning_rate(net, param_init_net, param_info, sign=-1)
        param = param_info.blob
        step = self._filled(param_init_net, param_info, "_grad_o")
        squares = self._kept(param_init_net, param_info, "_mean_squares")
        kept = self._kept(param_init_net, param_info, "_momentum")
        net.RmsProp(
            [grad, squares, kept, one],
            [step, squares, kept],
            decay=self.decay,
            momentum=self.momentum,
            epsilon=self.epsilon,
            engine=self.engine,
        )
        net.MomentumSGDUpdate([step, kept, rate, param], [step, kept, param])


class YellowFinOptimizer(Optimizer):
    """SGD that finds rate and momentum by itself, for each parameter: YellowFin.

    Args:
        alpha: The learning rate that it begins with.
        mu: The momentum that it begins with.
        beta: Which part of its running means stays.
        curv_win_width: Over how many steps it looks at the curvature.
        zero_debias: Correct the running means for beginning at 0.
        epsilon: What is added to what is divided by.
        policy: For the sake of Caffe2's signature: "fixed".
        sparse_dedup_aggregator: The same: None, as sparse gradients are refused.

    Caffe2: optimizer.YellowFinOptimizer.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        mu: float = 0.0,
        beta: float = 0.999,
        curv_win_width: int = 20,
        zero_debias: bool = True,
        epsilon: float = 0.1**6,
        policy: str = "fixed",
        sparse_dedup_aggregator: str | None = None,
    ) -> None:
        super().__init__()
        if policy != "fixed" or sparse_dedup_aggregator is not None:
            raise GraphError("YellowFin finds the learning rate by itself, and has no sparse way")
        self.alpha = alpha
        self.mu = mu
        self.beta = beta
        self.curv_win_width = curv_win_width
        self.zero_debias = zero_debias
        self.epsilon = epsilon

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            raise GraphError(f"a learning rate has to be above 0: {self.alpha}")
        grad = self._dense_only(param_info)

        def filled(suffix: str, value: float = 0.0, length: int | None = None) -> Any:
            shape = None if length is None else [length]
            return self._filled(param_init_net, param_info, suffix, value, shape)

        moment = filled("_moment")
        window = filled("_curv_win", length=self.curv_win_width)
        mean, square = filled("_g_avg"), filled("_g2_avg")
        rate, momentum = filled("_lr_avg", self.alpha, 1), filled("_mu_avg", self.mu, 1)
        scalars = filled("_scalars_memory", length=5)
        iteration = count_runs(
            param_init_net, net, iter=ScopedBlobReference(OPTIMIZER_ITERATION_NAME)
        )
        self._aux_params.shared.append(iteration)
        state = [param_info.blob, moment, rate, momentum, window, mean, square, scalars]
        self._aux_params.local.extend(state[1:])
        net.YellowFin(
            [*state, grad, iteration],
            state,
            beta=self.beta,
            epsilon=self.epsilon,
            curv_win_width=self.curv_win_width,
            zero_debias=self.zero_debias,
        )


class WeightDecayBuilder(Optimizer):
    """Adds a part of each parameter to its gradient.

    Args:
        weight_decay: Which part.

    Caffe2: optimizer.WeightDecayBuilder.
    """

    def __init__(self, weight_decay: float) -> None:
        super().__init__()
        self.weight_decay = weight_decay

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if isinstance(param_info.grad, GradientSlice):
            raise GraphError(
                f"weight decay reaches all of {param_info.name!r}: its gradient cannot be sparse"
            )
        one = self._one(param_init_net, with_node=False)
        device = CurrentDeviceScope()
        kind, number = (0, 0) if device is None else (device.device_type, device.device_id)
        decay = param_init_net.ConstantFill(
            [], f"wd_{kind}_{number}", shape=[1], value=self.weight_decay
        )
        grad = param_info.grad
        net.WeightedSum([grad, one, param_info.blob, decay], grad)
