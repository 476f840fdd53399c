"""`caffe2.python.gradient_checker`: gradients held against differences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import _import_c_extension as C
from procession.caffe2.python import workspace
from procession.testing import gradients
from procession.testing.gradients import gradient_of as getGradientForOp

__all__ = ["GradientChecker", "NetGradientChecker", "getGradientForOp"]


class NetGradientChecker:
    """Checks the gradients of nets."""

    @staticmethod
    def CompareNets(
        nets: Sequence[Any],
        outputs: Sequence[Sequence[Any]],
        outputs_with_grad_ids: Sequence[int],
        inputs_with_grads: Sequence[Any],
        input_values: Mapping[Any, Any] | None = None,
        threshold: float = 0.0000001,
        print_net_images: bool = False,
    ) -> None:
        """Refuse nets that do not compute the same; see `testing.gradients.compare_nets`.

        `print_net_images` is not supported.
        """
        gradients.compare_nets(
            C.Workspace.current,
            nets,
            outputs,
            outputs_with_grad_ids,
            inputs_with_grads,
            input_values,
            threshold,
        )

    @staticmethod
    def Check(
        net: Any,
        outputs_with_grad: Sequence[Any],
        input_values: Mapping[Any, Any],
        input_to_check: Any,
        step_size: float = 0.0001,
        threshold: float = 0.05,
        print_net: bool = True,
    ) -> tuple[Any, Any]:
        """Hold a net's gradient against differences; see `testing.gradients.check_net_gradient`."""
        return gradients.check_net_gradient(
            C.Workspace.current,
            net,
            outputs_with_grad,
            input_values,
            input_to_check,
            step_size,
            threshold,
            print_net,
        )


class GradientChecker:
    """Checks the gradients of operators.

    Args:
        stepsize: How far to move each number.
        threshold: How far gradients may be apart, relatively and absolutely.
        device_option: Where to run.
        workspace_name: The workspace to run in, which is emptied after.
        input_device_options: Where inputs are to be fed.
    """

    def __init__(
        self,
        stepsize: float,
        threshold: float,
        device_option: Any = None,
        workspace_name: str = "gradient_check",
        input_device_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._stepsize = stepsize
        self._threshold = threshold
        self._device_option = device_option or caffe2_pb2.DeviceOption()
        self._workspace_name = workspace_name
        self._input_device_options = input_device_options or {}

    def GetLossAndGrad(
        self,
        op: Any,
        grad_ops: Sequence[Any],
        inputs: Sequence[Any],
        input_names: Sequence[str],
        input_to_check: int,
        grad_name: Any,
        outputs_with_grads: Sequence[int],
    ) -> tuple[float, Any]:
        """Half the sum of the squares of outputs, and its gradient by one input."""
        return gradients.loss_and_gradient(
            C.Workspace.current,
            op,
            grad_ops,
            inputs,
            input_names,
            input_to_check,
            grad_name,
            outputs_with_grads,
            self._device_option,
            self._input_device_options,
        )

    def CheckSimple(
        self,
        op: Any,
        inputs: Sequence[Any],
        input_to_check: int,
        outputs_with_grads: Sequence[int],
        grad_ops: Sequence[Any] | None = None,
        input_device_options: Mapping[str, Any] | None = None,
        ensure_outputs_are_inferred: bool = False,
    ) -> tuple[bool, Any, Any]:
        """Hold the gradient of an operator against differences; what is wrong is printed.

        Only the first and the last three numbers of the input are moved, unless the environment
        variable CAFFE2_FULL_GRAD_CHECK is 1.

        Args:
            op: The operator; it gets the checker's device option.
            inputs: Arrays.
            input_to_check: Which input to differentiate by.
            outputs_with_grads: Which outputs to differentiate.
            grad_ops: The operators of the gradient; left out, those that there are.
            input_device_options: Where inputs are to be fed.
            ensure_outputs_are_inferred: Refuse gradients whose shapes are not inferred.

        Returns:
            Whether it is right, the gradient, and what it should be.
        """
        op.device_option.CopyFrom(self._device_option)
        with workspace.WorkspaceGuard(self._workspace_name):
            found = gradients.operator_gradient(
                C.Workspace.current,
                op,
                inputs,
                input_to_check,
                outputs_with_grads,
                stepsize=self._stepsize,
                threshold=self._threshold,
                grad_ops=grad_ops,
                device_option=self._device_option,
                input_device_options=input_device_options or self._input_device_options,
                ensure_outputs_are_inferred=ensure_outputs_are_inferred,
                everywhere=os.getenv("CAFFE2_FULL_GRAD_CHECK") == "1",
            )
            if self._workspace_name != "default":
                workspace.ResetWorkspace()
        if not found.good:
            print(found)
        return found.good, found.gradient, found.estimate
