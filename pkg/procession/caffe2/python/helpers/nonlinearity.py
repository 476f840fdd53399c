"""`caffe2.python.helpers.nonlinearity`: ReLU and others."""

from procession.train.layers.activation import prelu, relu, tanh

__all__ = ["prelu", "relu", "tanh"]
