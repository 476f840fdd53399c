"""`caffe2.python.control_ops_grad`: the gradients of Do, If and While."""

from procession.graph.control_gradient import (
    disambiguate_grad_if_op_output,
    gen_do_gradient,
    gen_if_gradient,
)
from procession.graph.loop_gradient import gen_while_gradient
from procession.graph.net_gradient import dedupe_g_output, getNetArgument

__all__ = [
    "dedupe_g_output",
    "disambiguate_grad_if_op_output",
    "gen_do_gradient",
    "gen_if_gradient",
    "gen_while_gradient",
    "getNetArgument",
]
