"""Optimizers that follow the regularized leader, which leaves parameters at 0: FTRL."""

from __future__ import annotations

from procession import Net
from procession.train.optimizer import Optimizer
from procession.train.parameter import ParameterInfo


class FtrlOptimizer(Optimizer):
    """Follow the proximally regularized leader: Ftrl, SparseFtrl.

    Args:
        alpha: The learning rate; nothing is updated if it is not above 0.
        beta: What smooths it.
        lambda1: How much of L1 regularization.
        lambda2: How much of L2 regularization.
        sparse_dedup_aggregator: See `SgdOptimizer`.
        engine: Kept with the operator, without effect.

    Caffe2: optimizer.FtrlOptimizer.
    """

    def __init__(
        self,
        alpha: float = 0.01,
        beta: float = 1e-4,
        lambda1: float = 0,
        lambda2: float = 0,
        sparse_dedup_aggregator: str | None = None,
        engine: str = "",
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.sparse_dedup_aggregator = sparse_dedup_aggregator
        self.engine = engine

    def _options(self) -> dict[str, float | str]:
        names = ("alpha", "beta", "lambda1", "lambda2", "engine")
        return {name: getattr(self, name) for name in names}

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            return
        param = param_info.blob
        kept = self._kept(param_init_net, param_info, "_ftrl_nz", extra_shape=[2])
        grad = self._slices(net, param_info.grad)
        if grad is None:
            net.Ftrl([param, kept, param_info.grad], [param, kept], **self._options())
        else:
            inputs = [param, kept, grad.indices, grad.values]
            net.SparseFtrl(inputs, [param, kept], **self._options())


class GFtrlOptimizer(FtrlOptimizer):
    """The same in groups, which go to 0 together: GFtrl. Gradients cannot be sparse.

    Caffe2: optimizer.GFtrlOptimizer.
    """

    def _run(self, net: Net, param_init_net: Net, param_info: ParameterInfo) -> None:
        if self.alpha <= 0:
            return
        param, grad = param_info.blob, self._dense_only(param_info)
        kept = self._kept(param_init_net, param_info, "_gftrl_nz", extra_shape=[2])
        net.GFtrl([param, kept, grad], [param, kept], **self._options())
