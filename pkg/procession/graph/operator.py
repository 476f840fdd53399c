"""Operators as messages: making them, and holding them against the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from procession.errors import GraphError, OperatorSignatureError, UnknownArgumentError, did_you_mean
from procession.graph.blob import BlobReference, ScopedName
from procession.graph.device import CurrentDeviceScope
from procession.graph.message import Message, Repeated
from procession.graph.proto import Argument, DeviceOption, OperatorDef, field_of
from procession.graph.source import Source, describe, user_line
from procession.operators import REGISTRY, Definition
from procession.operators.registry import REQUIRED, signature


def blob_names(blobs: Any, operator: str) -> list[str]:
    """What a caller may give as inputs or outputs, as names: strings are in the scope in force.

    Raises:
        OperatorSignatureError: Something that is no blob.
    """
    names = []
    for blob in blobs if isinstance(blobs, (list, tuple)) else [blobs]:
        if isinstance(blob, str):
            names.append(ScopedName(blob))
        elif isinstance(blob, BlobReference):
            names.append(str(blob))
        elif isinstance(blob, bytes):
            names.append(ScopedName(blob.decode()))
        else:
            hint = ""
            if isinstance(blob, (int, float, np.ndarray, np.generic)):
                hint = " (for a constant, use net.Const(value))"
            raise OperatorSignatureError(
                f"net.{operator}: a blob is a BlobReference or a name, not {blob!r} of type "
                f"{type(blob).__name__}{hint}",
                operator=operator,
            )
    return names


def kept(value: Any) -> Any:
    """An argument's value, safe from what the caller does to it later."""
    if isinstance(value, (range, set)):
        return list(value)
    if isinstance(value, (list, dict, np.ndarray)):
        return value.copy()
    if isinstance(value, BlobReference):
        return str(value)
    return value


DESCRIPTIONS = frozenset(
    ("name", "control_input", "device_option", "arg", "engine", "debug_info", "random_seed")
)
"""Keywords that are no arguments of the operator."""


def _holdable(value: Any) -> bool:
    if isinstance(value, (Message, BlobReference)):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, np.ndarray):
        # One of objects has text, or is none that could be told apart from a list.
        known = value.ravel().tolist() if value.dtype.hasobject else value
        return not value.size or field_of(known) is not None
    if isinstance(value, (list, tuple, range, set)):
        # Nothing in it is no mistake.
        return not value or field_of(list(value)) is not None
    return field_of(value) is not None


def check_holdable(operator: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an argument that a message of Caffe2's could not hold.

    Those are numbers, text, messages, arrays of numbers or text, and lists of one kind of these.
    Operators that are not Procession's own, and those that call functions, take anything.

    Raises:
        GraphError: An argument is something else.
    """
    for name, value in arguments.items():
        if value is None or name in DESCRIPTIONS or _holdable(value):
            continue
        if operator in REGISTRY:
            definition = REGISTRY[operator]
            if "func" in definition.arguments or not definition.own:
                continue
        raise GraphError(
            f"argument {name!r} of operator {operator} cannot be {value!r} of type "
            f"{type(value).__name__}: it is a number, text, a message, an array, or a list of one "
            f"kind of these"
        )


def make_operator(
    type: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    arguments: Mapping[str, Any],
    source: Source | None = None,
) -> OperatorDef:
    """An operator of names and values as they are; arguments that are None are left out."""
    made = OperatorDef.__new__(OperatorDef)
    fields = made.__dict__
    fields["input"] = Repeated("string", inputs)
    fields["output"] = Repeated("string", outputs)
    fields["type"] = type
    if arguments:
        given = [Argument.of(name, v) for name, v in arguments.items() if v is not None]
        fields["arg"] = Repeated(Argument, given)
    fields["source"] = source
    return made


def CreateOperator(
    operator_type: str,
    inputs: Any,
    outputs: Any,
    name: str = "",
    control_input: Any = None,
    device_option: DeviceOption | None = None,
    arg: Iterable[Argument] | None = None,
    engine: str | None = None,
    debug_info: str | None = None,
    **kwargs: Any,
) -> OperatorDef:
    """An operator by itself, for `extend_ops` and for running once. Caffe2: core.CreateOperator.

    It is held against the registry when it comes into a net or is run, not here.

    Args:
        operator_type: E.g. "Relu".
        inputs: A blob or a list of blobs; a string is a name in the scope in force.
        outputs: The same.
        name: Of the operator, for the reader.
        control_input: Blobs that the operator is to wait for; kept, and without effect, as
            operators run in order.
        device_option: Left out, that of the device scope in force.
        arg: Arguments as messages.
        engine: Kept, and without effect: there is one implementation.
        debug_info: A line for the reader; errors of the operator end with it.
        kwargs: The operator's arguments; those that are None are left out. `random_seed` is the
            seed of its device option.
    """
    seed = kwargs.pop("random_seed", None)
    made = make_operator(
        operator_type,
        blob_names(inputs, operator_type),
        blob_names(outputs, operator_type),
        {key: kept(value) for key, value in kwargs.items()},
        user_line(),
    )
    describe_operator(made, name, control_input, device_option, arg, engine, debug_info)
    if seed is not None:
        made.device_option.random_seed = seed
    return made


def describe_operator(
    made: OperatorDef,
    name: str = "",
    control_input: Any = None,
    device_option: DeviceOption | None = None,
    arg: Iterable[Argument] | None = None,
    engine: str | None = None,
    debug_info: str | None = None,
) -> None:
    """Set what an operator has besides blobs and arguments; see `CreateOperator`."""
    if name:
        made.name = name
    if control_input:
        made.control_input.extend(blob_names(control_input, made.type))
    if device_option is None:
        device_option = CurrentDeviceScope()
    if device_option is not None:
        made.device_option.CopyFrom(device_option)
    if arg is not None:
        made.arg.extend(arg)
    if engine is not None:
        made.engine = engine
    if debug_info is not None:
        made.debug_info = debug_info


def python_arguments(
    f: Any,
    grad_f: Any = None,
    python_func_type: Any = None,
    pass_workspace: bool = False,
    grad_output_indices: Sequence[int] | None = None,
    grad_input_indices: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The arguments of a Python operator; see `Net.Python`.

    Raises:
        OperatorSignatureError: `f` is no function.
    """
    function = f[0] if isinstance(f, (tuple, list)) and f else f
    if python_func_type is None and not callable(function):
        raise OperatorSignatureError(
            f"net.Python takes a function, or (builder, args, kwargs), not {f!r}; what it "
            f"returns is called with inputs and outputs: net.Python(f)([x], [y])",
            operator="Python",
        )
    if python_func_type is not None:
        instance = python_func_type(f)
        f, grad_f = instance.forward, instance.backward
    return {
        "func": f,
        "grad_func": grad_f,
        "pass_workspace": pass_workspace,
        "grad_output_indices": grad_output_indices,
        "grad_input_indices": grad_input_indices,
    }


def signature_of(operator: OperatorDef) -> str:
    """`FC(x, w, b) -> y`."""
    return signature(operator.type, operator.input, operator.output, operator.arguments)


def wanted_by(operator: OperatorDef, net: str | None = None) -> str:
    """Further lines for a message about what an operator reads: which it is, where it was added."""
    text = f"\n  wanted by operator {signature_of(operator)}"
    if net is not None:
        text += f" of net {net!r}"
    return text + (f"\n  added at {describe(operator.source)}" if operator.source else "")


def _span(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"


def check_arguments(definition: Definition, arguments: Iterable[str], strict: bool = True) -> None:
    """Refuse arguments that the operator has not, and the lack of those that it needs."""
    given = set(arguments)
    for argument in given if strict else ():
        if not definition.takes(argument):
            known = ", ".join(definition.arguments) or "none"
            raise UnknownArgumentError(
                f"operator {definition.name} has no argument {argument!r}."
                f"{did_you_mean(argument, definition.arguments)} It has: {known}.",
                operator=definition.name,
                argument=argument,
            )
    for argument, default in definition.arguments.items():
        if default is REQUIRED and argument not in given:
            raise OperatorSignatureError(
                f"operator {definition.name} needs the argument {argument!r}",
                operator=definition.name,
            )


def _count_error(
    operator: OperatorDef, what: str, blobs: list[str], least: int, most: int | None, names: str
) -> OperatorSignatureError:
    return OperatorSignatureError(
        f"operator {operator.type} takes {_span(least, most)} "
        f"{what}{'' if most == 1 else 's'}{names}, not {len(blobs)}: {list(blobs)}",
        operator=operator.type,
    )


def check_operator(operator: OperatorDef, strict: bool = True) -> Definition:
    """Hold an operator against its registration, and return that.

    Args:
        operator: The operator.
        strict: Refuse arguments that it does not have. Caffe2 takes no notice of them.

    Raises:
        UnknownOperatorError: There is no such operator.
        UnknownArgumentError: It has no such argument.
        OperatorSignatureError: Too many or too few inputs or outputs, or an argument missing.
    """
    definition = REGISTRY[operator.type]
    arguments = operator.__dict__.get("arg", ())
    if arguments or definition.arguments:
        check_arguments(definition, [each.__dict__["name"] for each in arguments], strict)
    least, most = definition.min_inputs, definition.max_inputs
    if len(operator.input) < least or (most is not None and len(operator.input) > most):
        names = f" ({', '.join(definition.input_names)})"
        raise _count_error(operator, "input", operator.input, least, most, names)
    least, most = definition.min_outputs, definition.max_outputs
    if len(operator.output) < least or (most is not None and len(operator.output) > most):
        raise _count_error(operator, "output", operator.output, least, most, "")
    return definition


def IsOperator(op_type: str) -> bool:
    """Whether there is an operator of that name. Caffe2: core.IsOperator."""
    return op_type in REGISTRY


def IsOperatorWithEngine(op_type: str, engine: str) -> bool:
    """The same: every operator has one implementation. Caffe2: core.IsOperatorWithEngine."""
    return op_type in REGISTRY and engine in ("DEFAULT", "")
