"""`caffe2.python.control_ops_util`: If and While operators made of nets."""

from procession.graph.control_ops import add_if_op, add_while_op, get_external_blob_names

__all__ = ["add_if_op", "add_while_op", "get_external_blob_names"]
