"""`caffe2.python.modeling.parameter_info`: what is known of a parameter."""

from procession.train.parameter import ParameterInfo, ParameterTags

__all__ = ["ParameterInfo", "ParameterTags"]
