"""`caffe2.python.modeling.net_modifier`: what adds to a net that is there."""

from procession.train.gradient_clipping import NetModifier

__all__ = ["NetModifier"]
