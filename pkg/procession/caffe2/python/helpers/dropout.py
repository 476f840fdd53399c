"""`caffe2.python.helpers.dropout`: elements that become 0."""

from procession.train.layers.normalization import dropout

__all__ = ["dropout"]
