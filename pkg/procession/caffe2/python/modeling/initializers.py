"""`caffe2.python.modeling.initializers`: what parameters begin with."""

from procession.train.initializers import ExternalInitializer, Initializer, update_initializer

__all__ = ["ExternalInitializer", "Initializer", "update_initializer"]
