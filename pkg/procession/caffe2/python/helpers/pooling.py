"""`caffe2.python.helpers.pooling`: the largest, or the mean, of what a window sees."""

from procession.train.layers.pooling import average_pool, max_pool

__all__ = ["average_pool", "max_pool"]
