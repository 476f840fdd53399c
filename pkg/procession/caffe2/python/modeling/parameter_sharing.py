"""`caffe2.python.modeling.parameter_sharing`: name scopes that stand for others."""

from procession.train.sharing import (
    ParameterSharing,
    ParameterSharingContext,
    parameter_sharing_context,
)

__all__ = ["ParameterSharing", "ParameterSharingContext", "parameter_sharing_context"]
