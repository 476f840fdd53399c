"""Gradients of operators and nets, as a workspace runs them, held against differences.

    check_net_gradient(workspace, net, ["loss"], {"x": x, "w": w}, "w")
    found = operator_gradient(workspace, operator, [x, w], 1, [0], stepsize=0.05, threshold=0.005)

`gradcheck` has the check for one operator's rules, in float64 and outside of any net. Here values
keep their types and the gradient is that which `GradientRegistry` makes, so a net, an operator
without rules, and operators given as their gradient can be checked, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from procession.errors import GradientError
from procession.graph.gradient import GradientRegistry, GradientSlice
from procession.graph.net import Net
from procession.graph.printing import to_string
from procession.graph.proto import DeviceOption, NetDef, OperatorDef
from procession.session.inference import infer_shapes_and_types
from procession.session.workspace import Workspace
from procession.testing.gradcheck import differences
from procession.testing.running import Options, feed_all


def dense_gradient(workspace: Workspace, gradient: Any, shape: tuple[int, ...]) -> Any:
    """The value of a gradient; of a sparse one with zeros in the rows that it has not.

    Args:
        workspace: Where it has been computed.
        gradient: A blob, or a `GradientSlice` of two.
        shape: The shape of what was differentiated by.
    """
    if not isinstance(gradient, GradientSlice):
        return workspace.fetch_blob(gradient)
    values = workspace.fetch_blob(gradient.values)
    indices = workspace.fetch_blob(gradient.indices).reshape(-1)
    dense = np.zeros(shape, values.dtype)
    np.add.at(dense, indices, values.reshape((indices.size, *shape[1:])))
    return dense


# Operators.


@dataclass(frozen=True, eq=False)
class Comparison:
    """A gradient, and what differences say that it is."""

    gradient: Any
    estimate: Any
    threshold: float
    """How far they may be apart, relatively and absolutely."""

    @property
    def wrong(self) -> list[int]:
        """The places, in the flat arrays, where they are further apart."""
        close = np.isclose(self.gradient, self.estimate, atol=self.threshold, rtol=self.threshold)
        return [int(place) for place in np.flatnonzero(~close)]

    @property
    def good(self) -> bool:
        """Whether they agree everywhere."""
        return not self.wrong

    def __str__(self) -> str:
        return "\n".join(
            f"at {place} the gradient is {self.gradient.flat[place]}, "
            f"not {self.estimate.flat[place]}"
            for place in self.wrong
        )


def gradient_of(op: OperatorDef) -> tuple[list[OperatorDef], list[Any]]:
    """(operators, gradients of the inputs) of one operator.

    The gradient of output `y` is to be in `y_grad`.

    Raises:
        GradientError: It has no gradient.
    """
    return GradientRegistry.GetGradientForOp(op, [f"{blob}_grad" for blob in op.output])


def loss_and_gradient(
    workspace: Workspace,
    operator: OperatorDef,
    grad_ops: Sequence[OperatorDef],
    inputs: Sequence[Any],
    input_names: Sequence[str],
    input_to_check: int,
    grad_name: Any,
    outputs_with_grads: Sequence[int],
    device_option: DeviceOption | None = None,
    input_device_options: Options | None = None,
) -> tuple[float, Any]:
    """Half the sum of the squares of an operator's outputs, and its gradient by one input.

    Args:
        workspace: Where to run.
        operator: The operator.
        grad_ops: The operators of its gradient.
        inputs: Arrays.
        input_names: The blobs to feed them to.
        input_to_check: Which input to differentiate by.
        grad_name: The gradient by that input: a blob or a `GradientSlice`.
        outputs_with_grads: Which outputs to square.
        device_option: Where inputs and gradients are to be fed.
        input_device_options: Where some inputs are to be fed instead.
    """
    feed_all(workspace, input_names, inputs, device_option, input_device_options)
    workspace.run(operator)
    loss = 0.0
    for index in outputs_with_grads:
        name = operator.output[index]
        value = workspace.fetch_blob(name)
        loss += (value**2).sum() / 2
        feed_all(workspace, [f"{name}_grad"], [value], device_option)
    for each in grad_ops:
        workspace.run(each)
    return loss, dense_gradient(workspace, grad_name, inputs[input_to_check].shape)


def operator_gradient(
    workspace: Workspace,
    operator: OperatorDef,
    inputs: Sequence[Any],
    input_to_check: int,
    outputs_with_grads: Sequence[int],
    *,
    stepsize: float,
    threshold: float,
    grad_ops: Sequence[OperatorDef] | None = None,
    device_option: DeviceOption | None = None,
    input_device_options: Options | None = None,
    ensure_outputs_are_inferred: bool = False,
    everywhere: bool = False,
) -> Comparison:
    """The gradient of `loss_and_gradient`, and what differences of the loss say that it is.

    Args:
        workspace: Where to run.
        operator: The operator.
        inputs: Arrays.
        input_to_check: Which input to differentiate by.
        outputs_with_grads: Which outputs to differentiate.
        stepsize: How far to move each number.
        threshold: How far gradients may be apart, relatively and absolutely.
        grad_ops: The operators of the gradient; left out, those that there are.
        device_option: Where inputs and gradients are to be fed.
        input_device_options: Where some inputs are to be fed instead.
        ensure_outputs_are_inferred: Refuse gradients whose shapes are not inferred.
        everywhere: Move all numbers of the input, not only the first and the last three.

    Raises:
        GradientError: The operator has no gradient, or one of another shape than the input; or
            the shape of one is not inferred, or wrongly.
    """
    made, gradients = gradient_of(operator)
    operators = made if grad_ops is None else grad_ops
    value = inputs[input_to_check]

    def at(value: Any) -> tuple[float, Any]:
        given = [*inputs]
        given[input_to_check] = value
        return loss_and_gradient(
            workspace,
            operator,
            operators,
            given,
            operator.input,
            input_to_check,
            gradients[input_to_check],
            outputs_with_grads,
            device_option,
            input_device_options,
        )

    _, gradient = at(value)
    if gradient.shape != value.shape:
        raise GradientError(
            f"{operator.type}: the gradient by {operator.input[input_to_check]} has shape "
            f"{gradient.shape}, and the input {value.shape}"
        )
    if ensure_outputs_are_inferred:
        _check_inferred(workspace, operator, operators)
    chosen = list(range(value.size))
    if not everywhere:
        chosen = sorted({*chosen[:3], *chosen[-3:]})
    estimate = differences(lambda moved: at(moved)[0], value, stepsize, chosen)
    others = np.setdiff1d(np.arange(value.size), chosen)
    estimate.flat[others] = gradient.flat[others]
    return Comparison(gradient, estimate, threshold)


def _check_inferred(
    workspace: Workspace, operator: OperatorDef, grad_ops: Sequence[OperatorDef]
) -> None:
    net = NetDef(op=[operator, *grad_ops])
    shapes, _ = infer_shapes_and_types([net], workspace=workspace)
    for blob in {blob for made in grad_ops for blob in made.output}:
        if blob not in shapes:
            raise GradientError(f"the shape of {blob} is not inferred")
        shape = workspace.fetch_blob(blob).shape
        if list(shape) != shapes[blob]:
            raise GradientError(f"{blob} has shape {shape}, not {shapes[blob]}")


# Nets.


def _run(
    workspace: Workspace,
    net: Net,
    outputs: Sequence[Any],
    differentiated: Any,
    values: Mapping[Any, Any],
    inputs: Sequence[Any],
) -> tuple[Net, list[Any], dict[Any, Any]]:
    """(the net with its gradient, values of outputs, gradients by inputs)."""
    copied = net.Clone(f"{net.Name()}_copy")
    gradients = copied.AddGradientOperators(differentiated)
    for name, value in values.items():
        workspace.feed_blob(name, value)
    for blob in inputs:
        if blob not in gradients:
            raise GradientError(f"net {net.Name()!r}: {blob} has no gradient to check")
    workspace.run(copied.message)
    found = {
        blob: dense_gradient(workspace, gradients[blob], workspace.fetch_blob(blob).shape)
        for blob in inputs
    }
    return copied, [workspace.fetch_blob(output) for output in outputs], found


def _check_close(value: Any, wanted: Any, threshold: float, message: str) -> tuple[Any, Any]:
    """(mean, largest) difference, if no number is too far off."""
    np.testing.assert_allclose(value, wanted, atol=threshold, rtol=threshold, err_msg=message)
    apart = np.abs(np.asarray(value) - wanted).ravel()
    return apart.mean(), apart.max()


def check_net_gradient(
    workspace: Workspace,
    net: Net,
    outputs_with_grad: Sequence[Any],
    input_values: Mapping[Any, Any],
    input_to_check: Any,
    step_size: float = 0.0001,
    threshold: float = 0.05,
    print_net: bool = True,
) -> tuple[Any, Any]:
    """Hold the gradient of the sum of a net's outputs against differences.

    Args:
        workspace: Where to run a copy of the net with its gradient.
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
        GradientError: There is none.

    Caffe2: gradient_checker.NetGradientChecker.Check.
    """
    copied, _, gradients = _run(
        workspace, net, [], outputs_with_grad, input_values, [input_to_check]
    )

    def loss(value: Any) -> float:
        workspace.feed_blob(input_to_check, value)
        workspace.run(copied.message)
        return float(sum(workspace.fetch_blob(blob).sum() for blob in outputs_with_grad))

    estimate = differences(loss, input_values[input_to_check], step_size)
    message = f"the gradient of net {net.Name()!r} by {input_to_check} is wrong"
    if print_net:
        message += f":\n{to_string(net, c2_syntax=False)}"
    return _check_close(gradients[input_to_check], estimate, threshold, message)


def compare_nets(
    workspace: Workspace,
    nets: Sequence[Net],
    outputs: Sequence[Sequence[Any]],
    outputs_with_grad_ids: Sequence[int],
    inputs_with_grads: Sequence[Any],
    input_values: Mapping[Any, Any] | None = None,
    threshold: float = 0.0000001,
) -> None:
    """Refuse nets that do not compute the same outputs and gradients.

    Args:
        workspace: Where to run copies of them with their gradients.
        nets: The nets.
        outputs: Each net's outputs.
        outputs_with_grad_ids: Which of them are differentiated.
        inputs_with_grads: The blobs whose gradients are compared.
        input_values: Blob -> array to feed.
        threshold: How far values may be apart, relatively and absolutely.

    Raises:
        AssertionError: They do not.
        GradientError: A blob has no gradient.

    Caffe2: gradient_checker.NetGradientChecker.CompareNets.
    """
    results = []
    for net, names in zip(nets, outputs, strict=True):
        differentiated = [names[index] for index in outputs_with_grad_ids]
        _, values, gradients = _run(
            workspace, net, names, differentiated, input_values or {}, inputs_with_grads
        )
        results.append((values, gradients))
    wanted, wanted_gradients = results[0]
    for (values, gradients), names in zip(results[1:], outputs[1:], strict=True):
        for name, first, value, good in zip(names, outputs[0], values, wanted, strict=True):
            _check_close(good, value, threshold, f"output {name} differs from {first}")
        for blob, gradient in gradients.items():
            _check_close(wanted_gradients[blob], gradient, threshold, f"gradients of {blob} differ")
