"""Gradients of lists of operators, and the gradients that users register.

The work is done in `ir` (the walk back through the operators), `gradient_makers` (one
operator's gradient), `control_gradient` (those of If and Do) and `loop_gradient` (While).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from procession.graph import gradient_makers
from procession.graph.blob import BlobReference
from procession.graph.control_gradient import gen_do_gradient, gen_if_gradient
from procession.graph.gradient_makers import Gradient, GradientSlice, Maker, gradient_for
from procession.graph.ir import IR, OpSSA
from procession.graph.loop_gradient import gen_while_gradient
from procession.graph.proto import OperatorDef
from procession.graph.source import user_line

__all__ = ["IR", "GradientRegistry", "GradientSlice", "OpSSA"]

Function = TypeVar("Function", bound=Maker)


class GradientRegistry:
    """Operator types and their gradients. Caffe2: core.GradientRegistry.

    An operator of the registry of operators has its rules there. For those that have none, and
    for operators that are not registered at all, a function can be registered here.
    """

    gradient_registry_: ClassVar[dict[str, Maker]] = gradient_makers.registered

    @classmethod
    def RegisterGradient(cls, op_type: str) -> Callable[[Function], Function]:
        """Register the decorated function as the gradient of an operator type.

        It is called with the operator and, per output, the blob with its gradient (or a
        `GradientSlice`, or None), and returns the gradient operators (one, a list, or None)
        and, per input, the blob with its gradient, or None.
        """

        def register(function: Function) -> Function:
            cls.gradient_registry_[op_type] = function
            return function

        return register

    @classmethod
    def GetGradientForOp(
        cls, op: OperatorDef, g_output: Iterable[Gradient]
    ) -> tuple[list[OperatorDef], list[Gradient]]:
        """The gradient operators of one operator, and the gradients of its inputs.

        Raises:
            GradientError: It has no gradient, or one that would be wrong.
        """
        return gradient_for(op, [gradient_makers.named(each) for each in g_output], user_line())

    @classmethod
    def GetBackwardPass(
        cls, operators: Iterable[OperatorDef], ys: Any, ys_generate_gradient: bool = False
    ) -> tuple[list[OperatorDef], dict[BlobReference, Any]]:
        """The operators that compute gradients, and the gradient of every blob on the way.

        Args:
            operators: The operators to differentiate, in order.
            ys: The blobs to differentiate: a list, each starting with a gradient of ones; or a
                mapping of blob to the blob or `GradientSlice` with its gradient, None for ones.
            ys_generate_gradient: Without effect, as in Caffe2.

        Raises:
            GradientError: A gradient passes through an operator that has none, or needs a blob
                that was overwritten since, or a blob has both sparse and dense gradients.
            TypeError: `ys` is neither a list nor a mapping.
        """
        return IR(operators).differentiate(ys, user_line())


GradientRegistry.RegisterGradient("Do")(gen_do_gradient)
GradientRegistry.RegisterGradient("If")(gen_if_gradient)
GradientRegistry.RegisterGradient("While")(gen_while_gradient)
