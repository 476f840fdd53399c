"""An operator, as a workspace runs it, held against functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from procession.graph.device import DeviceScope
from procession.graph.gradient import GradientRegistry, GradientSlice
from procession.graph.net import Net
from procession.graph.proto import DeviceOption, NetDef, OperatorDef
from procession.session.inference import infer_shapes_and_types
from procession.session.workspace import Workspace
from procession.testing.running import Options, feed_all, placed


def _check_count(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise AssertionError(f"{found} {what}, and not {wanted}")


def check_same(
    name: str, value: Any, wanted: Any, threshold: float, atol: float | None = None
) -> None:
    """Refuse an array that differs: strings at all, numbers by more than they may.

    Args:
        name: What it is, for the error.
        value: The array.
        wanted: What it should be.
        threshold: How far numbers may be apart, relatively.
        atol: And absolutely; left out, as far.

    Raises:
        AssertionError: It differs.
    """
    if value.dtype.kind in "SO":
        np.testing.assert_array_equal(value, wanted, err_msg=name)
    else:
        absolute = threshold if atol is None else atol
        np.testing.assert_allclose(value, wanted, rtol=threshold, atol=absolute, err_msg=name)


def check_reference(
    workspace: Workspace,
    operator: OperatorDef,
    inputs: Sequence[Any],
    reference: Callable[..., Any],
    *,
    threshold: float = 1e-4,
    atol: float | None = None,
    output_to_grad: str | None = None,
    grad_reference: Callable[..., Any] | None = None,
    outputs_to_check: Sequence[int] | None = None,
    ensure_outputs_are_inferred: bool = False,
    device_option: DeviceOption | None = None,
    input_device_options: Options | None = None,
) -> list[Any]:
    """Refuse an operator that does not make what `reference(*inputs)` returns.

    Args:
        workspace: Where to run it.
        operator: The operator.
        inputs: Arrays.
        reference: Returns a tuple or a list of what the outputs should be.
        threshold: How far numbers may be apart, relatively.
        atol: And absolutely; left out, as far.
        output_to_grad: The output to differentiate; its gradient is its value.
        grad_reference: What the gradients by the inputs should be, of the gradient of that output,
            the outputs and the inputs: a tuple, with None for an input that has none and
            (values, indices) for a sparse one; indices may be None, they are not compared then.
        outputs_to_check: Which outputs to compare; left out, all.
        ensure_outputs_are_inferred: Refuse outputs whose shapes are not inferred.
        device_option: Where to run.
        input_device_options: Where some inputs are to be fed instead.

    Returns:
        The outputs that were compared.

    Raises:
        AssertionError: It does not; or a gradient is to be compared, and of no output.
        RuntimeError: The reference returns something else.

    Caffe2: hypothesis_test_util.HypothesisTestCase.assertReferenceChecks.
    """
    made = placed(operator, device_option)
    feed_all(workspace, made.input, inputs, device_option, input_device_options)
    net = NetDef(name="opnet", op=[made])
    shapes: dict[str, list[int]] = {}
    if ensure_outputs_are_inferred:
        shapes, _ = infer_shapes_and_types([net], workspace=workspace)
    workspace.run(net)
    wanted = reference(*inputs)
    if not isinstance(wanted, (tuple, list)):
        raise RuntimeError(f"a reference returns a tuple or a list of arrays, not {wanted!r}")
    if not outputs_to_check:
        _check_count(f"outputs of {made.type}", len(made.output), len(wanted))
        outputs_to_check = range(len(made.output))
    found = []
    for index, good in zip(outputs_to_check, wanted, strict=False):
        name = made.output[index]
        value = workspace.fetch_blob(name)
        check_same(name, value, good, threshold, atol)
        if ensure_outputs_are_inferred and shapes.get(name) != list(value.shape):
            raise AssertionError(f"{name} has shape {value.shape}; inferred is {shapes.get(name)}")
        found.append(value)
    if grad_reference is not None:
        if output_to_grad is None:
            raise AssertionError("a grad_reference needs output_to_grad")
        with DeviceScope(device_option or DeviceOption()):
            _check_gradients(
                workspace, made, inputs, wanted, output_to_grad, grad_reference, threshold
            )
    return found


def _check_gradients(
    workspace: Workspace,
    operator: OperatorDef,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    output_to_grad: str,
    reference: Callable[..., Any],
    threshold: float,
) -> None:
    value = workspace.fetch_blob(output_to_grad)
    name = f"{output_to_grad}_grad"
    operators, gradients = GradientRegistry.GetBackwardPass([operator], {output_to_grad: name})
    wanted = reference(value, outputs, inputs)
    workspace.feed_blob(name, value)
    for each in operators:
        workspace.run(each)
    _check_count("gradients of the reference", len(wanted), len(inputs))
    by_name = {str(blob): gradient for blob, gradient in gradients.items()}

    def check(blob: Any, good: Any, threshold: float) -> None:
        check_same(str(blob), workspace.fetch_blob(blob), good, threshold)

    for blob, good in zip(operator.input, wanted, strict=False):
        gradient = by_name.get(blob)
        if not gradient:
            if good is not None:
                raise AssertionError(f"{blob} has no gradient, and the reference has one")
        elif isinstance(gradient, GradientSlice):
            values, indices = good
            check(gradient.values, values, threshold)
            if indices is not None:
                check(gradient.indices, indices, 1e-4)
        else:
            check(gradient, good, threshold)


def check_validation(
    workspace: Workspace,
    operator: OperatorDef,
    inputs: Sequence[Any],
    validator: Callable[..., Any],
    *,
    as_kwargs: bool = True,
    init_net: Net | NetDef | None = None,
    device_option: DeviceOption | None = None,
    input_device_options: Options | None = None,
) -> None:
    """Hand inputs and outputs of an operator to a function, which raises if they are wrong.

    Args:
        workspace: Where to run it.
        operator: The operator.
        inputs: Arrays.
        validator: The function.
        as_kwargs: Hand them over by their blobs' names; otherwise as `inputs` and `outputs`.
        init_net: A net to run before; what the operator reads is fed before that.
        device_option: Where to run.
        input_device_options: Where some inputs are to be fed instead.

    Raises:
        AssertionError: A blob is both input and output, and is to be handed over by its name.

    Caffe2: hypothesis_test_util.HypothesisTestCase.assertValidationChecks.
    """
    names = [*operator.input, *operator.output]
    if as_kwargs and len(set(names)) < len(names):
        raise AssertionError("a blob is there twice: use as_kwargs=False")
    made = placed(operator, device_option)
    feed_all(workspace, made.input, inputs, device_option, input_device_options)
    if init_net:
        workspace.run(init_net)
    workspace.run(made)
    outputs = [workspace.fetch_blob(name) for name in made.output]
    if as_kwargs:
        validator(**dict(zip(names, [*inputs, *outputs], strict=True)))
    else:
        validator(inputs=inputs, outputs=outputs)
