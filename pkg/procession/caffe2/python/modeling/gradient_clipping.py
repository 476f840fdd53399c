"""`caffe2.python.modeling.gradient_clipping`: keeping gradients small, each by itself."""

from procession.train.gradient_clipping import GradientClipping

__all__ = ["GradientClipping"]
