"""`caffe2.python.helpers.train`: accuracy, a counter, weight decay."""

from procession.train.layers.measuring import accuracy, add_weight_decay, iter

__all__ = ["accuracy", "add_weight_decay", "iter"]
