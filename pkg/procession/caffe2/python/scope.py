"""`caffe2.python.scope`: name scopes and device scopes."""

from procession.graph.device import CurrentDeviceScope, DeviceScope, EmptyDeviceScope
from procession.graph.scope import CurrentNameScope, EmptyNameScope, NameScope

_NAMESCOPE_SEPARATOR = "/"

__all__ = [
    "CurrentDeviceScope",
    "CurrentNameScope",
    "DeviceScope",
    "EmptyDeviceScope",
    "EmptyNameScope",
    "NameScope",
]
