"""Operator: one line of a net."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from procession.errors import OperatorSignatureError, UnknownArgumentError, did_you_mean
from procession.operators import REGISTRY, Definition
from procession.operators.registry import REQUIRED, signature


@dataclass(frozen=True)
class Operator:
    """A use of a registered operator: which blobs in, which out, with which arguments."""

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: Mapping[str, Any]
    name: str = ""
    source: tuple[str, int] | None = None
    """(file, line) of the user's script that added it."""

    def __str__(self) -> str:
        return signature(self.type, self.inputs, self.outputs, self.arguments)


def _span(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"


def check_arguments(definition: Definition, arguments: Iterable[str]) -> None:
    """Refuse arguments that the operator has not, and the lack of those that it needs."""
    given = set(arguments)
    for argument in given:
        if argument not in definition.arguments:
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


def check_operator(operator: Operator) -> None:
    """Hold an operator against its registration.

    Raises:
        UnknownOperatorError: There is no such operator.
        UnknownArgumentError: It has no such argument.
        OperatorSignatureError: Too many or too few inputs or outputs, or an argument missing.
    """
    definition = REGISTRY[operator.type]
    check_arguments(definition, operator.arguments)
    for what, blobs, least, most in (
        ("input", operator.inputs, definition.min_inputs, definition.max_inputs),
        ("output", operator.outputs, definition.min_outputs, definition.max_outputs),
    ):
        if len(blobs) < least or (most is not None and len(blobs) > most):
            names = f" ({', '.join(definition.input_names)})" if what == "input" else ""
            raise OperatorSignatureError(
                f"operator {operator.type} takes {_span(least, most)} "
                f"{what}{'' if most == 1 else 's'}{names}, "
                f"not {len(blobs)}: {list(blobs)}",
                operator=operator.type,
            )
