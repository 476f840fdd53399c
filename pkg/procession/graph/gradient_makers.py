"""The gradient of one operator: from the registry's rules, or from a function of the user's.

Both speak by names: given the operator and the blobs with the gradients of its outputs, they
return operators and the blobs with the gradients of its inputs. `x` has its gradient in `x_grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from procession.errors import GradientError, UnknownOperatorError
from procession.graph.operator import make_operator, signature_of
from procession.graph.proto import OperatorDef
from procession.graph.source import Source, describe
from procession.operators import REGISTRY
from procession.operators.registry import Definition, Rule, Rules

GRADIENT_SUFFIX = "_grad"


class GradientSlice(NamedTuple):
    """A sparse gradient: rows of it, and which rows those are. Caffe2: core.GradientSlice."""

    indices: Any
    values: Any


Gradient = Any
"""A blob's name, a `GradientSlice` of two names, or None."""
Maker = Callable[[OperatorDef, list[Gradient]], Any]
"""(operator, gradients of its outputs) -> (operators, gradients of its inputs)."""

registered: dict[str, Maker] = {}
"""Operator type -> the function that was registered for its gradient."""


def described(operator: OperatorDef) -> str:
    """An operator for an error message, with the line that added it."""
    line = describe(operator.source)
    return signature_of(operator) + (f" (added at {line})" if line else "")


@cache
def _parsed(symbol: str) -> tuple[str, int, str]:
    """GI0_values -> ("GI", 0, "_values")."""
    head, _, tail = symbol.partition("_")
    kind = head.rstrip("0123456789")
    return kind, int(head[len(kind) :]), f"_{tail}" if tail else ""


class _Application:
    """The rules of one operator, applied."""

    __slots__ = ("g_input", "g_output", "made", "operator", "option", "read", "source", "written")

    def __init__(
        self, operator: OperatorDef, g_output: Sequence[Gradient], source: Source | None
    ) -> None:
        self.operator = operator
        self.read: list[str] = operator.input
        self.written: list[str] = operator.output
        self.g_output = g_output
        self.source = source
        self.made: list[OperatorDef] = []
        self.g_input: list[Gradient] = [None] * len(self.read)
        option = operator.__dict__.get("device_option")
        self.option = option if option is not None and option.ListFields() else None

    def apply(self, rule: Rule) -> None:
        if rule.type is None:
            target = _parsed(rule.outputs[0])[1]
            if len(rule.inputs) == 2:
                self.g_input[target] = GradientSlice(*(self.blob(each) for each in rule.inputs))
            else:
                self.g_input[target] = self.blob(rule.inputs[0], slices=True)
            return
        for symbol in sorted(rule.or_zeros):
            self._fill(_parsed(symbol)[1])
        inputs = [self.blob(symbol, symbol in rule.shapes) for symbol in rule.inputs]
        outputs = []
        for symbol in rule.outputs:
            _, number, suffix = _parsed(symbol)
            outputs.append(self.read[number] + GRADIENT_SUFFIX + suffix)
            if not suffix:
                self.g_input[number] = outputs[-1]
        arguments = rule.arguments
        if arguments is None:
            arguments = {}
            if self.operator.__dict__.get("arg"):
                known = REGISTRY[rule.type].arguments
                handed = self.operator.arguments.items()
                arguments = {key: each for key, each in handed if key in known}
        self._add(rule.type, inputs, outputs, arguments)

    def _fill(self, number: int) -> None:
        """Have zeros for the gradient of an output that nothing depends on."""
        if self.g_output[number] is None:
            blob = self.written[number]
            zeros = f"{blob}{GRADIENT_SUFFIX}_zeros"
            self._add("ConstantFill", [blob], [zeros], {"value": 0.0})
            self.g_output = [*self.g_output[:number], zeros, *self.g_output[number + 1 :]]

    def _add(
        self, type: str, inputs: list[Any], outputs: list[str], arguments: Mapping[str, Any]
    ) -> None:
        made = make_operator(type, inputs, outputs, arguments, self.source)
        made.__dict__["is_gradient_op"] = True
        if self.option is not None:
            made.device_option.CopyFrom(self.option)
        engine = self.operator.__dict__.get("engine")
        if engine:
            made.engine = engine
        self.made.append(made)

    def blob(self, symbol: str, shape_only: bool = False, slices: bool = False) -> Any:
        """The blob that a symbol stands for at this operator."""
        kind, number, suffix = _parsed(symbol)
        if kind == "GO":
            return self.incoming(number, slices)
        if kind == "GI":
            return self.read[number] + GRADIENT_SUFFIX + suffix
        if kind == "O":
            return self.written[number]
        blob = self.read[number]
        # A function of the user's gets all inputs, whether it uses them or not.
        if not shape_only and blob in self.written and self.operator.type != "Python":
            raise GradientError(
                f"the gradient of {described(self.operator)} needs its input {blob!r}, and "
                "it has been overwritten since, by the operator itself. Do not run it in place: "
                "give its output another name; or, if that must be this blob, copy it first, and "
                f"read the copy: Copy({blob}) -> before."
            )
        return blob

    def incoming(self, number: int, slices: bool) -> Gradient:
        gradient = self.g_output[number]
        blob = self.written[number]
        if gradient is None:
            raise GradientError(
                f"the gradient of {described(self.operator)} needs that of its output "
                f"{blob!r}, and nothing differentiated depends on it"
            )
        if isinstance(gradient, GradientSlice) and not slices:
            raise GradientError(
                f"the gradient of {described(self.operator)} cannot go on from a sparse gradient, "
                f"and that of its output {blob!r} is one: {gradient.values}, "
                f"at {gradient.indices}"
            )
        return gradient


def _by_rules(
    operator: OperatorDef, g_output: Sequence[Gradient], source: Source | None
) -> tuple[list[OperatorDef], list[Gradient]]:
    definition: Definition | None
    try:
        definition = REGISTRY[operator.type]
    except UnknownOperatorError:
        definition = None
    rules: Rules | None = None
    if definition is not None:
        if callable(definition.gradient):
            rules = definition.rules(len(operator.input), operator.arguments, len(operator.output))
        else:
            rules = definition.gradient
    if rules is None:
        what = "has no gradient" if definition is not None else "is not registered"
        raise GradientError(
            f"operator {operator.type} {what}, and a gradient is asked for through it: "
            f"{described(operator)}. Put a StopGradient behind it if none should flow there, or "
            "register one with GradientRegistry.RegisterGradient."
        )
    applied = _Application(operator, g_output, source)
    for rule in rules:
        applied.apply(rule)
    return applied.made, applied.g_input


def gradient_for(
    operator: OperatorDef, g_output: Sequence[Gradient], source: Source | None = None
) -> tuple[list[OperatorDef], list[Gradient]]:
    """The gradient operators of one operator, and the gradients of its inputs.

    The operator's own rules come first. Where it has none, or they cannot be applied, a function
    that was registered for its type is asked.

    Args:
        operator: The operator.
        g_output: Per output the blob with its gradient, a `GradientSlice`, or None.
        source: The user's line, kept with the operators made.

    Raises:
        GradientError: It has no gradient, or one that would be wrong.
    """
    try:
        return _by_rules(operator, g_output, source)
    except GradientError:
        maker = registered.get(operator.type)
        if maker is None:
            raise
    answer = maker(operator, list(g_output))
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise GradientError(
            f"the gradient function registered for {operator.type} returned {answer!r}; "
            "it must return the operators and the gradients of the inputs"
        )
    made, g_input = answer
    if made is None:
        made = []
    elif not isinstance(made, (list, tuple)):
        made = [made]
    return list(made), list(g_input)


def named(gradient: Gradient) -> Gradient:
    """A gradient with its blobs as plain names."""
    if gradient is None or type(gradient) is str:
        return gradient
    if isinstance(gradient, GradientSlice):
        return GradientSlice(str(gradient.indices), str(gradient.values))
    return str(gradient) or None


def checked_starts(ys: Any) -> dict[str, Gradient]:
    """What to differentiate: blob -> the blob with its gradient, None for ones.

    Raises:
        TypeError: It is neither a list nor a mapping.
    """
    if isinstance(ys, Mapping):
        return {str(y): named(gradient) for y, gradient in ys.items()}
    if isinstance(ys, (list, tuple)):
        return {str(y): None for y in ys}
    raise TypeError(f"a gradient takes a list or a dict of blobs, not {ys!r}")
