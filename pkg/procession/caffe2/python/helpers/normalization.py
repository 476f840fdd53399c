"""`caffe2.python.helpers.normalization`: of batches, channels, instances, groups, layers."""

from procession.train.layers.normalization import (
    instance_norm,
    layer_norm,
    lrn,
    moments_with_running_stats,
    softmax,
    spatial_bn,
    spatial_gn,
)

__all__ = [
    "instance_norm",
    "layer_norm",
    "lrn",
    "moments_with_running_stats",
    "softmax",
    "spatial_bn",
    "spatial_gn",
]
