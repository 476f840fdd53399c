"""Gradients of the nets inside operators: what those of If, While and Do share.

A net is differentiated on its own, and what comes of it is put into an operator like the forward
one. Its names then have to get along with those outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from procession.errors import GradientError
from procession.graph.gradient_makers import GRADIENT_SUFFIX, Gradient, GradientSlice, described
from procession.graph.gradient_values import NESTED, rename_in_nets
from procession.graph.ir import IR
from procession.graph.operator import make_operator
from procession.graph.proto import NetDef, OperatorDef

Operators = list[OperatorDef]
Answer = tuple[Operators, list[Gradient]]


def getNetArgument(op: OperatorDef, net_name: str) -> NetDef | None:
    """The net in an argument of that name, None without one. Caffe2: the same."""
    for argument in op.arg:
        if argument.name == net_name:
            value = argument.value
            if not isinstance(value, NetDef):
                raise GradientError(
                    f"the argument {net_name!r} of {described(op)} must be a net, not {value!r}"
                )
            return value
    return None


def required_net(operator: OperatorDef, name: str) -> NetDef:
    """The net in an argument of that name.

    Raises:
        GradientError: There is no such argument, or it is no net.
    """
    net = getNetArgument(operator, name)
    if net is None:
        raise GradientError(f"{described(operator)} has no argument {name!r}, which is its net")
    return net


@dataclass
class Differentiated:
    """A net's gradient operators, and what its blobs' gradients are called."""

    operators: Operators
    gradients: dict[str, str]
    entering: set[str]
    """The blobs whose gradient is that of the value they have when the net begins."""

    @classmethod
    def of(cls, operator: OperatorDef, net: NetDef, starts: Mapping[str, str]) -> Differentiated:
        """Differentiate a net.

        Args:
            operator: The operator that has it, for messages.
            net: The net.
            starts: Blob of the net -> the blob that holds its gradient.

        Raises:
            GradientError: It cannot be differentiated, or has a sparse gradient of what comes in.
        """
        walk = IR(net.op)
        try:
            made, found = walk.differentiate(dict(starts), operator.source)
        except GradientError as error:
            error.message += f"\n  in net {net.name!r} of operator {operator.type}"
            raise
        read_first: set[str] = set()
        written: set[str] = set()
        for each, _, _ in walk.ssa:
            read_first.update(blob for blob in each.input if blob not in written)
            written.update(each.output)
        entering = {
            blob
            for blob, version in walk.gradient_frontier.items()
            if version == 0 and (blob in read_first or blob not in written)
        }
        gradients = {}
        for blob, gradient in found.items():
            if not isinstance(gradient, GradientSlice):
                gradients[str(blob)] = str(gradient)
            elif str(blob) in entering:
                raise GradientError(
                    f"the gradient of {str(blob)!r} in net {net.name!r} is sparse, and only dense "
                    f"gradients can leave the net of {described(operator)}"
                )
        return cls(made, gradients, entering)

    def entering_gradient(self, blob: str) -> str | None:
        """The gradient of what a blob was when the net began; None if it is zero."""
        return self.gradients.get(blob) if blob in self.entering else None

    def blobs(self) -> tuple[list[str], list[str]]:
        """What the operators read before they write it, and what they write."""
        read: dict[str, None] = {}
        written: dict[str, None] = {}
        for operator in self.operators:
            read.update(dict.fromkeys(blob for blob in operator.input if blob not in written))
            written.update(dict.fromkeys(operator.output))
        return list(read), list(written)

    def net(self, forward: NetDef) -> NetDef:
        """The operators as a net like the forward one."""
        made = NetDef()
        made.CopyFrom(forward)
        if made.name:
            made.name += GRADIENT_SUFFIX
        for field in (made.external_input, made.external_output, made.op):
            del field[:]
        made.op.extend(self.operators)
        return made


def like(forward: OperatorDef, inputs: Iterable[str], outputs: Iterable[str]) -> OperatorDef:
    """A gradient operator of the same kind, without arguments."""
    made = OperatorDef()
    made.CopyFrom(forward)
    if made.name:
        made.name += GRADIENT_SUFFIX
    made.input[:] = inputs
    made.output[:] = outputs
    del made.arg[:]
    del made.control_input[:]
    made.is_gradient_op = True
    return made


def copied(source: str, target: str) -> OperatorDef:
    """An operator that copies a blob."""
    return make_operator("Copy", [source], [target], {})


def zeros(blob: str, target: str) -> OperatorDef:
    """An operator that makes zeros of a blob's shape."""
    return make_operator("ConstantFill", [blob], [target], {"value": 0.0})


def distinct(
    operator: OperatorDef, g_output: Sequence[Gradient]
) -> tuple[Operators, dict[str, str]]:
    """Output -> its gradient, each in a blob of its own; and the copies that takes."""
    copies: Operators = []
    found: dict[str, str] = {}
    for blob, gradient in zip(operator.output, g_output, strict=True):
        if isinstance(gradient, GradientSlice):
            raise GradientError(
                f"the gradient of {described(operator)} cannot go on from a sparse gradient, and "
                f"that of its output {blob!r} is one"
            )
        if not gradient or blob in found:
            continue
        name = str(gradient)
        if name in found.values():
            name = f"{blob}_{gradient}_DEDUP"
            copies.append(copied(str(gradient), name))
        found[blob] = name
    return copies, found


def dedupe_g_output(
    op: OperatorDef, g_output: Sequence[Gradient]
) -> tuple[Operators, list[Gradient]]:
    """Copies, so that no blob is the gradient of two of an operator's outputs. Caffe2: the same.

    Args:
        op: The operator.
        g_output: The gradient of each of its outputs, None for those that have none.

    Returns:
        The operators that copy, and the gradient of each output then.

    Raises:
        GradientError: A gradient is sparse.
    """
    copies, found = distinct(op, g_output)
    pairs = zip(op.output, g_output, strict=True)
    return copies, [found[blob] if given else given for blob, given in pairs]


def rename_read(operators: Operators, old: str, new: str) -> None:
    """Rename what operators read, and none of them writes."""
    for operator in operators:
        if old in operator.input:
            if operator.type in NESTED:
                rename_in_nets(operator, old, new, written=False)
            operator.input[:] = [new if blob == old else blob for blob in operator.input]


def rename_written(operators: Operators, old: str, new: str) -> None:
    """Rename what operators write, and where they go on from it."""
    for number, operator in enumerate(operators):
        if old in operator.output:
            rename_read(operators[number + 1 :], old, new)
            break
    for operator in operators:
        if old in operator.output:
            if operator.type in NESTED:
                rename_in_nets(operator, old, new, written=True)
            operator.output[:] = [new if blob == old else blob for blob in operator.output]
