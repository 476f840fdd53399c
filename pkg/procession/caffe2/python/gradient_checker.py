"""`caffe2.python.gradient_checker`: gradients held against differences."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import core, workspace
from procession.errors import GradientError

__all__ = ["GradientChecker", "NetGradientChecker", "getGradientForOp"]


def getGradientForOp(op: Any) -> Any:
    """(operators, gradients of the inputs) of one operator."""
    return core.GradientRegistry.GetGradientForOp(op, [f"{blob}_grad" for blob in op.output])


def _dense(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The value of a gradient, a sparse one with zeros in the rows that it has not."""
    if not isinstance(gradient, core.GradientSlice):
        return workspace.FetchBlob(str(gradient))
    values = workspace.FetchBlob(str(gradient.values))
    indices = workspace.FetchBlob(str(gradient.indices)).reshape(-1)
    dense = np.zeros(shape, values.dtype)
    np.add.at(dense, indices, values.reshape((indices.size, *shape[1:])))
    return dense


def _close(value: Any, wanted: Any, threshold: float, message: str) -> tuple[Any, Any]:
    np.testing.assert_allclose(value, wanted, atol=threshold, rtol=threshold, err_msg=message)
    apart = np.abs(np.asarray(value) - wanted).ravel()
    return apart.mean(), apart.max()


def _differences(
    loss: Callable[[Any], float], value: Any, step: float, chosen: Sequence[int]
) -> Any:
    """The gradient of a loss at `chosen` places of a value, 0 at all others."""
    estimate = np.zeros_like(value)
    for place in chosen:
        around = []
        for sign in (1, -1):
            moved = value.copy()
            moved.flat[place] += sign * step
            around.append(loss(moved))
        estimate.flat[place] = (around[0] - around[1]) / step / 2
    return estimate


class NetGradientChecker:
    """Checks the gradients of nets."""

    @staticmethod
    def _run(net: Any, outputs: Any, differentiated: Any, values: Any, inputs: Any) -> Any:
        copied = net.Clone(f"{net.Name()}_copy")
        gradients = copied.AddGradientOperators(differentiated)
        for name, value in (values or {}).items():
            workspace.FeedBlob(name, value)
        for blob in inputs:
            if blob not in gradients:
                raise GradientError(f"net {net.Name()!r}: {blob} has no gradient to check")
        workspace.RunNetOnce(copied)
        results = [workspace.FetchBlob(str(output)) for output in outputs]
        found = {
            blob: _dense(gradients[blob], workspace.FetchBlob(str(blob)).shape) for blob in inputs
        }
        return copied, results, found

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
        """Refuse nets that do not compute the same outputs and gradients.

        Args:
            nets: The nets.
            outputs: Each net's outputs.
            outputs_with_grad_ids: Which of them are differentiated.
            inputs_with_grads: The blobs whose gradients are compared.
            input_values: Blob -> array to feed.
            threshold: How far values may be apart, relatively and absolutely.
            print_net_images: Not supported.

        Raises:
            AssertionError: They do not.
        """
        runs = [
            NetGradientChecker._run(
                net,
                names,
                [names[index] for index in outputs_with_grad_ids],
                input_values,
                inputs_with_grads,
            )
            for net, names in zip(nets, outputs, strict=True)
        ]
        _, wanted, wanted_gradients = runs[0]
        for (_, results, gradients), names in zip(runs[1:], outputs[1:], strict=True):
            for name, first, value, good in zip(names, outputs[0], results, wanted, strict=True):
                _close(good, value, threshold, f"output {name} differs from {first}")
            for blob, gradient in gradients.items():
                _close(wanted_gradients[blob], gradient, threshold, f"gradients of {blob} differ")

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
        """Hold the gradient of the sum of outputs against differences.

        Args:
            net: The net.
            outputs_with_grad: The outputs to differentiate.
            input_values: Blob -> array to feed.
            input_to_check: The input to differentiate by.
            step_size: How far to move each number.
            threshold: How far gradients may be apart, relatively and absolutely.
            print_net: Show the net in the error.

        Returns:
            The mean and the largest difference.

        Raises:
            AssertionError: The gradient is wrong.
        """
        copied, _, gradients = NetGradientChecker._run(
            net, [], outputs_with_grad, input_values, [input_to_check]
        )

        def loss(value: Any) -> float:
            workspace.FeedBlob(input_to_check, value)
            workspace.RunNetOnce(copied)
            return float(sum(workspace.FetchBlob(str(blob)).sum() for blob in outputs_with_grad))

        value = input_values[input_to_check]
        estimate = _differences(loss, value, step_size, range(value.size))
        message = f"the gradient of net {net.Name()!r} by {input_to_check} is wrong"
        if print_net:
            message += f": {net.Proto()}"
        return _close(gradients[input_to_check], estimate, threshold, message)


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
        for name, value in zip(input_names, inputs, strict=False):
            place = self._input_device_options.get(name, self._device_option)
            workspace.FeedBlob(name, value, place)
        workspace.RunOperatorOnce(op)
        loss = 0.0
        for index in outputs_with_grads:
            value = workspace.FetchBlob(op.output[index])
            loss += (value**2).sum() / 2
            workspace.FeedBlob(f"{op.output[index]}_grad", value, self._device_option)
        workspace.RunOperatorsOnce(grad_ops)
        return loss, _dense(grad_name, inputs[input_to_check].shape)

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
        """Hold the gradient of an operator against differences.

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
        made, gradients = getGradientForOp(op)
        grad_ops = made if grad_ops is None else grad_ops
        name = gradients[input_to_check]
        value = inputs[input_to_check]

        def at(value: Any) -> tuple[float, Any]:
            given = [*inputs]
            given[input_to_check] = value
            return self.GetLossAndGrad(
                op, grad_ops, given, op.input, input_to_check, name, outputs_with_grads
            )

        with workspace.WorkspaceGuard(self._workspace_name):
            _, gradient = at(value)
            if gradient.shape != value.shape:
                raise GradientError(
                    f"{op.type}: the gradient by {op.input[input_to_check]} has shape "
                    f"{gradient.shape}, and the input {value.shape}"
                )
            if ensure_outputs_are_inferred:
                self._assertInferTensorChecks(op, grad_ops)
            chosen = list(range(value.size))
            if os.getenv("CAFFE2_FULL_GRAD_CHECK") != "1":
                chosen = sorted({*chosen[:3], *chosen[-3:]})
            estimate = _differences(lambda moved: at(moved)[0], value, self._stepsize, chosen)
            others = np.setdiff1d(np.arange(value.size), chosen)
            estimate.flat[others] = gradient.flat[others]
            if self._workspace_name != "default":
                workspace.ResetWorkspace()
        good = np.isclose(gradient, estimate, atol=self._threshold, rtol=self._threshold)
        for place in np.flatnonzero(~good):
            print(f"at {place} the gradient is {gradient.flat[place]}, not {estimate.flat[place]}")
        return bool(good.all()), gradient, estimate

    def _assertInferTensorChecks(self, op: Any, grad_ops: Sequence[Any]) -> None:
        net = caffe2_pb2.NetDef()
        net.op.extend([op, *grad_ops])
        shapes, _ = workspace.InferShapesAndTypes([net], nets_proto=True)
        for blob in {blob for made in grad_ops for blob in made.output}:
            if blob not in shapes:
                raise GradientError(f"the shape of {blob} is not inferred")
            value = workspace.FetchBlob(blob)
            if list(value.shape) != list(shapes[blob]):
                raise GradientError(f"{blob} has shape {value.shape}, not {shapes[blob]}")
