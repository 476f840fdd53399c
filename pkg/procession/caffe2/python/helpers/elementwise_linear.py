"""`caffe2.python.helpers.elementwise_linear`: a factor and a summand for each column."""

from procession.train.layers.linear import elementwise_linear

__all__ = ["elementwise_linear"]
