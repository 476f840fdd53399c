"""Gradients of the control operators If and Do; that of While is in `loop_gradient`.

Their nets are differentiated on their own, and the results put into operators of the same kind. A
Do runs its net in a workspace of its own, in which blobs outside are bound to blobs inside; the
forward Do keeps that workspace, and its gradient finds there what the net computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from procession.errors import GradientError
from procession.graph.gradient_makers import GRADIENT_SUFFIX, Gradient, described
from procession.graph.gradient_values import rename_in_nets
from procession.graph.net_gradient import (
    Answer,
    Differentiated,
    Operators,
    copied,
    distinct,
    getNetArgument,
    like,
    rename_read,
    rename_written,
    required_net,
    zeros,
)
from procession.graph.proto import Argument, NetDef, OperatorDef

_INNER = "/_DO_OPERATOR_INNER_GRAD_"
_INNER_COPY = "/_DO_OPERATOR_INNER_GRAD_COPY_"


def disambiguate_grad_if_op_output(grad_op: OperatorDef, idx: int, new_grad_output: str) -> None:
    """Give an output of an If another name, in its nets as well. Caffe2: the same."""
    rename_in_nets(grad_op, grad_op.output[idx], new_grad_output, written=True)
    grad_op.output[idx] = new_grad_output


def _texts(value: Any) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in value or ()]


@dataclass
class _Bindings:
    """What a Do runs, and how its blobs are called outside and inside."""

    net: NetDef
    inner: dict[str, str]
    """Blob outside -> blob inside."""
    outer: dict[str, str]
    """Blob inside -> blob outside."""
    workspace: str
    """The blob with the workspaces of the forward runs."""

    @classmethod
    def of(cls, operator: OperatorDef) -> _Bindings:
        def refuse(why: str) -> GradientError:
            return GradientError(f"{described(operator)} makes no sense as a Do: {why}")

        arguments = operator.arguments
        net = required_net(operator, "net")
        inside = _texts(arguments.get("inner_blobs"))
        places = [int(place) for place in arguments.get("outer_blobs_idx") or ()]
        if not inside or len(inside) != len(places):
            raise refuse(
                f"inner_blobs and outer_blobs_idx must be of one length, and not empty; they are "
                f"{inside} and {places}"
            )
        if not operator.input or not operator.output or operator.input[-1] != operator.output[-1]:
            raise refuse("its last input and its last output must be the blob of its workspaces")
        read, written = operator.input[:-1], operator.output[:-1]
        for what, blobs in (("inner_blobs", inside), ("inputs", read), ("outputs", written)):
            if len(set(blobs)) < len(blobs):
                raise refuse(f"a blob occurs twice among its {what}: {blobs}")
        outside = read + written
        wrong = [place for place in places if not 0 <= place < len(outside)]
        if wrong:
            raise refuse(f"outer_blobs_idx is about {len(outside)} inputs and outputs, not {wrong}")
        bound = [outside[place] for place in places]
        if len(set(bound)) < len(bound) or set(bound) != set(outside):
            raise refuse(
                f"each of its inputs and outputs must be bound to one blob inside: bound are "
                f"{bound}, it has {outside}"
            )
        return cls(
            net,
            dict(zip(bound, inside, strict=True)),
            dict(zip(inside, bound, strict=True)),
            operator.output[-1],
        )


# Do.


def gen_do_gradient(op: OperatorDef, g_output: Sequence[Gradient]) -> Answer:
    """The gradient of a Do: a Do that runs the gradient of its net. Caffe2: the same.

    What the gradient reads of the net's own blobs is listed as `saved_fwd_blobs`.

    Raises:
        GradientError: The net cannot be differentiated, or the Do is not well-formed.
    """
    bindings = _Bindings.of(op)
    made, starts = distinct(op, g_output)
    # A workspace has no gradient.
    starts.pop(bindings.workspace, None)
    inner_starts = {bindings.inner[blob]: bindings.inner[blob] + _INNER for blob in starts}
    bound = {bindings.inner[blob] + _INNER: gradient for blob, gradient in starts.items()}
    inside = Differentiated.of(op, bindings.net, inner_starts)
    operators = list(inside.operators)
    g_input: list[Gradient] = []
    outputs: dict[str, str] = {}
    """Blob inside -> gradient outside."""
    for blob in op.input[:-1]:
        name = bindings.inner[blob]
        gradient = inside.gradients.get(name)
        if gradient is None:
            g_input.append(None)
            continue
        target, number = blob + GRADIENT_SUFFIX, 0
        while target in bound.values():
            target = f"_{blob}{GRADIENT_SUFFIX}_autosplit_{number}"
            number += 1
        # What was overwritten unread is worth nothing.
        make = copied if name in inside.entering else zeros
        operators.append(make(gradient, name + _INNER_COPY))
        outputs[name + _INNER_COPY] = target
        g_input.append(target)
    if not operators:
        return [], []
    inputs: dict[str, str] = {}
    """Blob inside -> blob outside."""
    saved: dict[str, None] = {}
    written: set[str] = set()
    for each in operators:
        for blob in each.input:
            if blob in written:
                continue
            outer = bindings.outer.get(blob) or bound.get(blob)
            if outer is not None:
                inputs[blob] = outer
            elif blob not in outputs:
                saved[blob] = None
        written.update(each.output)
    return [*made, _gradient_do(op, bindings, operators, inputs, outputs, list(saved))], g_input


def _gradient_do(
    op: OperatorDef,
    bindings: _Bindings,
    operators: Operators,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    saved: list[str],
) -> OperatorDef:
    outside = list(dict.fromkeys(inputs.values()))
    outside += outputs.values()
    bound = {**outputs, **inputs}
    read = dict.fromkeys(inputs.values())
    made = like(op, [*read, bindings.workspace], [*outputs.values(), bindings.workspace])
    net = Differentiated(operators, {}, set()).net(bindings.net)
    for name, value in (
        ("net", net),
        ("inner_blobs", list(bound)),
        ("outer_blobs_idx", [outside.index(blob) for blob in bound.values()]),
        ("saved_fwd_blobs", saved),
    ):
        made.arg.append(Argument.of(name, value))
    _Bindings.of(made)
    return made


# If.


def gen_if_gradient(op: OperatorDef, g_output: Sequence[Gradient]) -> Answer:
    """The gradient of an If: an If that runs the gradient of the branch taken. Caffe2: the same.

    A blob that only the other branch reads has a gradient of zeros then, as has one that the branch
    overwrites without having read it; one that the branch leaves as it was hands its gradient on.

    Raises:
        GradientError: One of its nets cannot be differentiated.
    """
    copies, starts = distinct(op, g_output)
    then_net = required_net(op, "then_net")
    else_net = getNetArgument(op, "else_net")
    then = _branch(op, then_net, starts)
    other = _branch(op, else_net, starts) if else_net is not None else None
    branches = [then, other or Differentiated([], dict(starts), set(starts))]
    nets = [then.net(then_net)]
    if other is not None and else_net is not None:
        nets.append(other.net(else_net))
    else:
        nets.append(Differentiated([], {}, set()).net(nets[0]))
        nets[1].name = f"{nets[0].name}_auto_else_zero_blobs_"
    listed = [branch.blobs() for branch in branches]
    reads = dict.fromkeys(blob for read, _ in listed for blob in read)
    writes = dict.fromkeys(blob for _, written in listed for blob in written)
    lasts = {
        blob: [branch.entering_gradient(blob) for branch in branches]
        for blob in dict.fromkeys(op.input)
    }
    gradients: dict[str, str] = {}
    """Blob -> its gradient, which both branches leave in the same blob."""
    for blob, found in lasts.items():
        common = _common(found, [written for _, written in listed])
        if common is not None:
            gradients[blob] = common
    for blob, found in lasts.items():
        if blob in gradients or not any(found):
            continue
        gradients[blob] = target = _target(blob, lasts, {*starts.values(), *gradients.values()})
        for net, last in zip(nets, found, strict=True):
            if last == target:
                continue
            # What is read from outside must be listed, the shape of a blob need not be.
            source = last or starts.get(blob, blob)
            if source in starts.values():
                reads[source] = None
            net.op.append((copied if last else zeros)(source, target))
            writes[target] = None
    condition = op.input[0]
    reads.pop(condition, None)
    made = like(op, [condition, *reads], writes)
    made.arg.append(Argument.of("then_net", nets[0]))
    if nets[1].op or other is not None:
        made.arg.append(Argument.of("else_net", nets[1]))
    return [*copies, made], [gradients.get(blob) for blob in op.input]


def _branch(op: OperatorDef, net: NetDef, starts: Mapping[str, str]) -> Differentiated:
    """A branch, differentiated so that it does not write over the gradients that come in."""
    inside = {blob: f"{start}{_INNER}" for blob, start in starts.items()}
    branch = Differentiated.of(op, net, inside)
    taken = {blob for each in branch.operators for blob in (*each.input, *each.output)}
    new_names = {}
    for blob, start in starts.items():
        if start in taken:
            number = 0
            while (name := f"_{start}_autosplit_{number}") in taken:
                number += 1
            taken.add(name)
            rename_written(branch.operators, start, name)
            new_names[start] = name
        rename_read(branch.operators, inside[blob], start)
    new_names.update((inside[blob], start) for blob, start in starts.items())
    gradients = {blob: new_names.get(each, each) for blob, each in branch.gradients.items()}
    return Differentiated(branch.operators, gradients, branch.entering)


def _common(found: Sequence[str | None], written: Sequence[Iterable[str]]) -> str | None:
    """The blob that holds a gradient after either branch, made by both, or by neither."""
    first = found[0]
    if first is None or any(each != first for each in found):
        return None
    made = [first in each for each in written]
    return first if all(made) or not any(made) else None


def _target(blob: str, lasts: Mapping[str, Sequence[str | None]], taken: set[str]) -> str:
    """What a blob's gradient is called in both branches, where it is called otherwise in each."""
    taken = taken | {each for other in lasts if other != blob for each in lasts[other] if each}
    name, number = next(filter(None, lasts[blob]), ""), 0
    if name in taken:
        name = blob + GRADIENT_SUFFIX
    while name in taken:
        name = f"_{blob}{GRADIENT_SUFFIX}_autosplit_{number}"
        number += 1
    return name
