"""Regularizers that are a term of the loss: norms of parameters."""

from __future__ import annotations

from math import sqrt
from typing import Any

from procession import BlobReference, GraphError, Net
from procession.train.regularizer import Regularizer, above_zero, not_below_zero


def _term(net: Net, param: BlobReference, suffix: str) -> Any:
    return net.NextScopedBlob(f"{param}{suffix}")


def _norm(net: Net, param: BlobReference, out: Any, p: int, factor: float) -> Any:
    net.LpNorm([param], [out], p=p)
    net.Scale([out], [out], scale=factor)
    return out


def _trimmed(net: Net, param: BlobReference, out: Any, k: int, factor: float) -> Any:
    """The L1 norm of all elements of a vector but the k largest."""
    sizes = net.Abs([param], [net.NextScopedBlob("abs")])
    total = net.SumElements([sizes], [net.NextScopedBlob("sum_abs")], average=False)
    names = [net.NextScopedBlob(name) for name in ("topk", "id", "flat_id")]
    largest = net.TopK([sizes], names, k=k)[0]
    kept = net.SumElements([largest], [net.NextScopedBlob("topk_sum")], average=False)
    net.Sub([total, kept], [out])
    net.Scale([out], [out], scale=factor)
    return out


def _by_feature(net: Net, param: BlobReference) -> Any:
    """The L2 norm of each column of a matrix."""
    squares = net.Mul([param, param], [net.NextScopedBlob("param_mul")])
    sums = net.ReduceFrontSum([squares], [net.NextScopedBlob("param_reduced")])
    out = net.NextScopedBlob("grouped_feature_weight_vec")
    return net.Pow([sums], [out], exponent=0.5)


class L1Norm(Regularizer):
    """The sum of absolute values, times `reg_lambda`, on the loss. Caffe2: the same."""

    def __init__(self, reg_lambda: float) -> None:
        not_below_zero(reg_lambda=reg_lambda)
        self.reg_lambda = reg_lambda

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        return _norm(net, param, _term(net, param, "_l1_regularization"), 1, self.reg_lambda)


class L2Norm(Regularizer):
    """The sum of squares, times `reg_lambda`, on the loss. Caffe2: the same."""

    def __init__(self, reg_lambda: float) -> None:
        not_below_zero(reg_lambda=reg_lambda)
        self.reg_lambda = reg_lambda

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        return _norm(net, param, _term(net, param, "_l2_regularization"), 2, self.reg_lambda)


class ElasticNet(Regularizer):
    """Absolute values times `l1` and squares times `l2`, on the loss. Caffe2: the same."""

    def __init__(self, l1: float, l2: float) -> None:
        self.l1 = l1
        self.l2 = l2

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        out = _term(net, param, "_elastic_net_regularization")
        squares, sizes = _term(net, param, "_l2_blob"), _term(net, param, "_l1_blob")
        net.LpNorm([param], [squares], p=2)
        net.LpNorm([param], [sizes], p=1)
        net.Scale([squares], [squares], scale=self.l2)
        net.Scale([sizes], [sizes], scale=self.l1)
        net.Add([sizes, squares], [out])
        return out


class L1NormTrimmed(Regularizer):
    """Absolute values but the `k` largest, times `reg_lambda`, on the loss; for vectors.

    Caffe2: the same. See Bertsimas and others, arXiv 1708.04527.
    """

    def __init__(self, reg_lambda: float, k: int) -> None:
        not_below_zero(reg_lambda=reg_lambda)
        if not isinstance(k, int) or k < 1:
            raise GraphError(f"k is a whole number from 1 on, not {k!r}")
        self.reg_lambda = reg_lambda
        self.k = k

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        out = _term(net, param, "_l1_trimmed_regularization")
        return _trimmed(net, param, out, self.k, self.reg_lambda)


class ElasticNetL1NormTrimmed(Regularizer):
    """`ElasticNet` without the `k` largest of the absolute values; for vectors.

    Caffe2: the same.
    """

    def __init__(self, l1: float, l2: float, k: int) -> None:
        self.l1 = l1
        self.l2 = l2
        self.k = k

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        out = _term(net, param, "_elastic_net_l1_trimmed_regularization")
        squares = _norm(net, param, _term(net, param, "_l2_blob"), 2, self.l2)
        sizes = _trimmed(net, param, _term(net, param, "_l1_blob"), self.k, self.l1)
        net.Add([sizes, squares], [out])
        return out


class LpNorm(Regularizer):
    """The Lp norm of the L2 norms of the columns, times `reg_lambda`, on the loss.

    It takes whole columns of a matrix to 0. Caffe2: the same.
    """

    def __init__(self, reg_lambda: float, p_value: float = 0.5) -> None:
        above_zero(reg_lambda=reg_lambda, p_value=p_value)
        self.reg_lambda = reg_lambda
        self.p_value = p_value

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        out = _term(net, param, "_dense_feature_regularization")
        norms = _by_feature(net, param)
        raised = net.Pow([norms], [net.NextScopedBlob("lp_vec_raised")], exponent=self.p_value)
        total = net.ReduceFrontSum([raised], [net.NextScopedBlob("lp_vec_summed")])
        norm = net.Pow([total], [net.NextScopedBlob("lp_vec")], exponent=1 / self.p_value)
        net.Scale([norm], [out], scale=self.reg_lambda)
        return out


class L0ApproxNorm(Regularizer):
    """About how many columns are not 0, times `reg_lambda`, on the loss.

    Args:
        reg_lambda: The factor.
        alpha: From which L2 norm on a column counts in full.
        budget: How many columns cost nothing.

    Caffe2: the same.
    """

    def __init__(self, reg_lambda: float, alpha: float = 0.01, budget: float = 0) -> None:
        above_zero(reg_lambda=reg_lambda, alpha=alpha)
        not_below_zero(budget=budget)
        self.reg_lambda = reg_lambda
        self.alpha = alpha
        self.budget = float(budget)

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        out = _term(net, param, "_dense_feature_regularization")
        sizes = net.Abs([_by_feature(net, param)], [net.NextScopedBlob("l0_abs")])
        limited = net.Clip([sizes], [net.NextScopedBlob("l0_min")], max=self.alpha)
        total = net.ReduceFrontSum([limited], [net.NextScopedBlob("l0_summed")])
        count = net.Scale([total], [net.NextScopedBlob("l0_norm")], scale=1 / self.alpha)
        if self.budget:
            free = net.ConstantFill([], "budget", shape=[1], value=self.budget)
            over = net.Sub([count, free], [net.NextScopedBlob("l0_budget")])
            count = net.Relu([over], [net.NextScopedBlob("relu_l0_sub_budget")])
        net.Scale([count], [out], scale=self.reg_lambda)
        return out


class GroupL1Norm(Regularizer):
    """The L2 norms of groups of columns, times the root of their sizes, on the loss.

    Args:
        reg_lambda: The factor.
        groups: How many columns each group has; together all of them.
        stabilizing_val: What is added under the root, whose gradient is large near 0.

    Caffe2: the same. See Scardapane and others, Neurocomputing 241 (2017).
    """

    def __init__(self, reg_lambda: float, groups: list[int], stabilizing_val: float = 0) -> None:
        not_below_zero(reg_lambda=reg_lambda)
        if not isinstance(groups, list):
            raise GraphError(f"groups is a list of numbers of columns, not {groups!r}")
        self.reg_lambda = reg_lambda
        self.groups = groups
        self.stabilizing_val = stabilizing_val

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        count = len(self.groups)
        columns = net.ReduceSum(net.Sqr(param), axes=[0], keepdims=0)
        lengths = net.GivenTensorIntFill([], 1, shape=[count], values=self.groups)
        sums = net.LengthsSum([columns, lengths])
        if self.stabilizing_val:
            more = net.ConstantFill([], 1, value=self.stabilizing_val)
            net.Add([sums, more], [sums], broadcast=1)
        norms = net.Sqrt(sums)
        factors = [sqrt(size) * self.reg_lambda for size in self.groups]
        scaled = net.Mul(
            [norms, net.GivenTensorFill([], shape=[count], values=factors)],
            ["normalized_l2_norm_scaled"],
        )
        return net.LpNorm(scaled, ["group_l1_nrom"], p=1)
