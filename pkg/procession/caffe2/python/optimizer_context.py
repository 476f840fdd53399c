"""`caffe2.python.optimizer_context`: parameters with an optimizer of their own."""

from procession.train.modifiers import DEFAULT_OPTIM, OptimizerContext, UseOptimizer

__all__ = ["DEFAULT_OPTIM", "OptimizerContext", "UseOptimizer"]
