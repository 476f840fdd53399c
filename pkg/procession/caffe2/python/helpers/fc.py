"""`caffe2.python.helpers.fc`: fully connected layers."""

from procession.train.layers.linear import fc

__all__ = ["fc"]
