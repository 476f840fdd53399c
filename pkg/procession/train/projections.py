"""Regularizers that change parameters after the optimizer: bounds, norms of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from procession import BlobReference, GraphError, Net, count_runs
from procession.core import GradientSlice, ScopedBlobReference
from procession.train.optimizer import OPTIMIZER_ITERATION_NAME
from procession.train.regularizer import EPSILON, Regularizer, above_zero


class LogBarrier(Regularizer):
    """Minus the logarithm of each element, on the loss; and none is left at 0 or below.

    Args:
        reg_lambda: The factor.
        discount_policy: How it becomes smaller; see the operator LearningRate.
        discount_options: Arguments of that; None: {"gamma": 1.0, "power": 1.0}.

    Caffe2: the same. See Nocedal and Wright, Numerical Optimization, chapter 19.
    """

    def __init__(
        self,
        reg_lambda: float,
        discount_policy: str = "inv",
        discount_options: Mapping[str, Any] | None = None,
    ) -> None:
        above_zero(reg_lambda=reg_lambda)
        self.reg_lambda = reg_lambda
        self.discount_policy = discount_policy
        self.discount_options = discount_options or {"gamma": 1.0, "power": 1.0}

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        counter = ScopedBlobReference(OPTIMIZER_ITERATION_NAME)
        iteration = count_runs(param_init_net, net, iter=counter)
        factor = net.LearningRate(
            [iteration],
            [net.NextScopedBlob(f"{param}_log_barrier_discount")],
            base_lr=-self.reg_lambda,
            policy=self.discount_policy,
            **self.discount_options,
        )
        above = net.Clip([param], [net.NextScopedBlob(f"{param}_non_neg")], min=self.kEpsilon)
        log = net.Log([above], [net.NextScopedBlob(f"{param}_log")])
        total = net.SumElements([log], [net.NextScopedBlob(f"{param}_log_sum")])
        return net.Mul([total, factor], [net.NextScopedBlob(f"{param}_log_barrier")], broadcast=1)

    def _run_after_optimizer(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any
    ) -> Any:
        self._within(net, param, grad, (0.0, None), left_open=True)


class BoundedGradientProjection(Regularizer):
    """Brings each element within bounds, after the optimizer.

    Args:
        lb: The lower bound; None: there is none.
        ub: The upper bound.
        left_open: The lower one is not reached.
        right_open: The upper one is not reached.
        epsilon: By how much not.

    Caffe2: the same. See Nocedal and Wright, Numerical Optimization, chapter 16.
    """

    def __init__(
        self,
        lb: float | None = None,
        ub: float | None = None,
        left_open: bool = False,
        right_open: bool = False,
        epsilon: float | None = None,
    ) -> None:
        self.kEpsilon = EPSILON if epsilon is None else float(epsilon)
        above_zero(epsilon=self.kEpsilon)
        self.lb = None if lb is None else float(lb)
        self.ub = None if ub is None else float(ub)
        self.left_open = left_open
        self.right_open = right_open
        if self.lb is not None and self.ub is not None:
            low = self.lb + self.kEpsilon * left_open
            if low > self.ub - self.kEpsilon * right_open:
                raise GraphError(f"nothing is between the bounds {lb} and {ub}")

    def _run_after_optimizer(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any
    ) -> Any:
        bounds = self.lb, self.ub
        self._within(net, param, grad, bounds, self.left_open, self.right_open)


class _Sparse(Regularizer):
    """What changes the rows that a sparse gradient has, after the optimizer."""

    def _rows(self, param: BlobReference, grad: Any) -> list[Any]:
        if not isinstance(grad, GradientSlice):
            raise GraphError(
                f"{type(self).__name__} is for sparse gradients, which {str(param)!r} has not"
            )
        return [param, grad.indices]


class MaxNorm(_Sparse):
    """Rows that were updated get an L2 norm of at most `norm`. Caffe2: the same."""

    _at_most = True

    def __init__(self, norm: float = 1.0) -> None:
        above_zero(norm=norm)
        self.norm = norm

    def _run_after_optimizer(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any
    ) -> Any:
        rows = self._rows(param, grad)
        net.SparseNormalize(rows, [param], use_max_norm=self._at_most, norm=self.norm)


class ConstantNorm(MaxNorm):
    """Rows that were updated get an L2 norm of `norm`. Caffe2: the same."""

    _at_most = False


class SparseLpNorm(_Sparse):
    """Rows that were updated go towards 0, as an Lp norm (p = 1 or 2) takes them there.

    Caffe2: the same.
    """

    def __init__(self, p: float, reg_lambda: float) -> None:
        if p not in (1, 2):
            raise GraphError(f"p is 1 or 2, not {p}")
        above_zero(reg_lambda=reg_lambda)
        self.p = float(p)
        self.reg_lambda = reg_lambda

    def _run_after_optimizer(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any
    ) -> Any:
        rows = self._rows(param, grad)
        net.SparseLpRegularizer(rows, [param], p=self.p, reg_lambda=self.reg_lambda)


class SparseL1Norm(SparseLpNorm):
    """`SparseLpNorm` of p = 1. Caffe2: the same."""

    def __init__(self, reg_lambda: float) -> None:
        super().__init__(1.0, reg_lambda)


class SparseL2Norm(SparseLpNorm):
    """`SparseLpNorm` of p = 2. Caffe2: the same."""

    def __init__(self, reg_lambda: float) -> None:
        super().__init__(2.0, reg_lambda)
