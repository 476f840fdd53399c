"""`caffe2.python.regularizer_context`: parameters with a regularizer."""

from procession.train.modifiers import RegularizerContext, UseRegularizer

__all__ = ["RegularizerContext", "UseRegularizer"]
