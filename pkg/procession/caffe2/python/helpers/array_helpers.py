"""`caffe2.python.helpers.array_helpers`: joining."""

from procession.train.layers.algebra import concat, depth_concat

__all__ = ["concat", "depth_concat"]
