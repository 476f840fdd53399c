"""`caffe2.python.context`: objects that are current inside their `with` block."""

from procession.graph.scope import DefaultManaged, Managed

__all__ = ["DefaultManaged", "Managed"]
