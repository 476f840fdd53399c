"""`caffe2.python.helpers.conv`: convolutions."""

from procession.train.layers.convolution import (
    conv,
    conv_nd,
    conv_transpose,
    group_conv,
    group_conv_deprecated,
)

__all__ = ["conv", "conv_nd", "conv_transpose", "group_conv", "group_conv_deprecated"]
