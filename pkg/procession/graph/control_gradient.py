"""Gradients of the control operators: If, While and Do.

Their nets are differentiated on their own, and the results put into operators of the same kind. A
Do runs its net in a workspace of its own, in which blobs outside are bound to blobs inside; the
forward Do keeps that workspace, and its gradient finds there what the net computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from procession.errors import GradientError
from procession.graph import names
from procession.graph.blob import ScopedName
from procession.graph.gradient_makers import GRADIENT_SUFFIX, Gradient, GradientSlice, described
from procession.graph.gradient_values import rename_in_nets
from procession.graph.ir import IR
from procession.graph.operator import make_operator
from procession.graph.proto import Argument, NetDef, OperatorDef
from procession.graph.ssa import get_ssa, get_undefined_blobs

_INNER = "/_DO_OPERATOR_INNER_GRAD_"
_INNER_COPY = "/_DO_OPERATOR_INNER_GRAD_COPY_"

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


def disambiguate_grad_if_op_output(grad_op: OperatorDef, idx: int, new_grad_output: str) -> None:
    """Give an output of an If another name, in its nets as well. Caffe2: the same."""
    rename_in_nets(grad_op, grad_op.output[idx], new_grad_output, written=True)
    grad_op.output[idx] = new_grad_output


def _required_net(operator: OperatorDef, name: str) -> NetDef:
    net = getNetArgument(operator, name)
    if net is None:
        raise GradientError(f"{described(operator)} has no argument {name!r}, which is its net")
    return net


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
        net = _required_net(operator, "net")
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


@dataclass
class _Differentiated:
    """A net's gradient operators, and what its blobs' gradients are called."""

    operators: Operators
    gradients: dict[str, str]
    entering: set[str]
    """The blobs whose gradient is that of the value they have when the net begins."""

    @classmethod
    def of(cls, operator: OperatorDef, net: NetDef, starts: Mapping[str, str]) -> _Differentiated:
        walk = IR(net.op)
        try:
            made, found = walk.differentiate(dict(starts), operator.source)
        except GradientError as error:
            error.message += f"\n  in net {net.name!r} of operator {operator.type}"
            raise
        read_first = get_undefined_blobs(get_ssa(net)[0])
        written = {blob for each in net.op for blob in each.output}
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


def _like(forward: OperatorDef, inputs: Iterable[str], outputs: Iterable[str]) -> OperatorDef:
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


def _copy(source: str, target: str) -> OperatorDef:
    return make_operator("Copy", [source], [target], {})


def _zeros(like: str, target: str) -> OperatorDef:
    return make_operator("ConstantFill", [like], [target], {"value": 0.0})


def _distinct(
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
            copies.append(_copy(str(gradient), name))
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
    copies, found = _distinct(op, g_output)
    pairs = zip(op.output, g_output, strict=True)
    return copies, [found[blob] if given else given for blob, given in pairs]


# Do.


def gen_do_gradient(op: OperatorDef, g_output: Sequence[Gradient]) -> Answer:
    """The gradient of a Do: a Do that runs the gradient of its net. Caffe2: the same.

    What the gradient reads of the net's own blobs is listed as `saved_fwd_blobs`.

    Raises:
        GradientError: The net cannot be differentiated, or the Do is not well-formed.
    """
    bindings = _Bindings.of(op)
    made, starts = _distinct(op, g_output)
    # A workspace has no gradient.
    starts.pop(bindings.workspace, None)
    inner_starts = {bindings.inner[blob]: bindings.inner[blob] + _INNER for blob in starts}
    bound = {bindings.inner[blob] + _INNER: gradient for blob, gradient in starts.items()}
    inside = _Differentiated.of(op, bindings.net, inner_starts)
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
        make = _copy if name in inside.entering else _zeros
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
    made = _like(op, [*read, bindings.workspace], [*outputs.values(), bindings.workspace])
    net = _Differentiated(operators, {}, set()).net(bindings.net)
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

    A blob that only the other branch reads has a gradient of zeros then.

    Raises:
        GradientError: One of its nets cannot be differentiated.
    """
    copies, starts = _distinct(op, g_output)
    then_net = _required_net(op, "then_net")
    else_net = getNetArgument(op, "else_net")
    then = _Differentiated.of(op, then_net, starts)
    other = _Differentiated.of(op, else_net, starts) if else_net is not None else None
    gradients = dict(then.gradients)
    for blob, gradient in (other.gradients if other else {}).items():
        mine = then.gradients.get(blob, gradient)
        if mine not in (gradient, starts.get(blob)) and gradient != starts.get(blob):
            raise GradientError(
                f"the gradient of {blob!r} is {mine!r} in one branch and {gradient!r} in the other "
                f"of {described(op)}"
            )
        # A branch that does not touch it leaves the gradient that came in.
        gradients[blob] = gradient if mine == starts.get(blob) else mine
    branches = [(then, then_net)]
    if other is not None and else_net is not None:
        branches.append((other, else_net))
    else:
        # What is not done leaves everything as it is.
        branches.append((_Differentiated([], dict(starts), set(starts)), NetDef()))
    listed = [branch.blobs() for branch, _ in branches]
    nets = [branch.net(net) for branch, net in branches]
    if other is None:
        nets[1] = _Differentiated([], {}, set()).net(nets[0])
        nets[1].name = f"{nets[0].name}_auto_else_zero_blobs_"
    reads = dict.fromkeys(blob for read, _ in listed for blob in read)
    writes = dict.fromkeys(blob for _, written in listed for blob in written)
    for one, another in ((0, 1), (1, 0)):
        branch, net = branches[another]
        gone = _overwritten(branch, net)
        # What is written in only one branch, the other one has to fill in.
        owners: dict[str, str] = {}
        for blob, gradient in branches[one][0].gradients.items():
            owners.setdefault(gradient, blob)
        for gradient in listed[one][1]:
            if gradient in owners and gradient not in listed[another][1]:
                blob = owners[gradient]
                start = starts.get(blob)
                if start is None:
                    nets[another].op.append(_zeros(blob, gradient))
                elif blob in gone:
                    nets[another].op.append(_zeros(start, gradient))
                elif start != gradient:
                    nets[another].op.append(_copy(start, gradient))
        for blob in gone.intersection(op.input, starts):
            if gradients[blob] == starts[blob] and starts[blob] not in writes:
                nets[another].op.append(_zeros(starts[blob], starts[blob]))
                reads[starts[blob]] = writes[starts[blob]] = None
    condition = op.input[0]
    reads.pop(condition, None)
    made = _like(op, [condition, *reads], writes)
    made.arg.append(Argument.of("then_net", nets[0]))
    if nets[1].op or other is not None:
        made.arg.append(Argument.of("else_net", nets[1]))
    return [*copies, made], [gradients.get(blob) for blob in op.input]


def _overwritten(branch: _Differentiated, net: NetDef) -> set[str]:
    """The blobs that a branch writes without having read them: what they were, is worth nothing."""
    return {blob for each in net.op for blob in each.output if blob not in branch.entering}


# While.


def gen_while_gradient(op: OperatorDef, g_output: Sequence[Gradient]) -> Answer:
    """The gradient of a While: a While that takes back one forward workspace after the other.

    The blobs that the loop carries hand their gradients from iteration to iteration; the gradients
    of those that it only reads are summed up over them. Caffe2: the same; there the latter have the
    gradient of the first iteration only.

    Raises:
        GradientError: Its body is not a single Do with workspaces of its own, or the body's net
            cannot be differentiated.
    """
    copies, starts = _distinct(op, g_output)
    body = _required_net(op, "loop_net")
    if len(body.op) != 1 or body.op[0].type != "Do" or body.op[0].arguments.get("reuse_workspace"):
        raise GradientError(
            f"the gradient of {described(op)} needs a body that is one Do, without "
            f"reuse_workspace: it takes back the workspaces of the iterations one by one"
        )
    do = body.op[0]
    workspace = do.output[-1]
    # What comes in may be wanted elsewhere, too; so the loop hands copies on.
    own = {blob: f"{start}_carried" for blob, start in starts.items()}
    inside = _Differentiated.of(op, body, own)
    operators = list(inside.operators)
    gradients = inside.gradients
    before: Operators = []
    """What is to be done before the loop, beside asking for its condition."""
    between: Operators = []
    kept: list[str] = []
    """What goes from one iteration to the next."""
    for blob, start in starts.items():
        before.append(_copy(start, own[blob]))
        handed = gradients.get(blob)
        if handed is None or handed == own[blob]:
            continue
        if handed in starts.values():
            gradients[blob] = f"{own[blob]}_back"
            _rename_written(operators, handed, gradients[blob])
        before.append(_copy(start, gradients[blob]))
        between.append(_copy(gradients[blob], own[blob]))
        kept.append(gradients[blob])
    for blob in dict.fromkeys(op.input):
        gradient = gradients.get(blob)
        if gradient is None or blob in do.output:
            continue
        gradients[blob] = total = blob + GRADIENT_SUFFIX
        step = f"{gradient}_iteration"
        _rename_written(operators, gradient, step)
        operators.append(make_operator("Sum", [total, step], [total], {}))
        before.append(_zeros(blob, total))
    inside.operators = operators
    reads, writes = inside.blobs()
    condition = _net_of(names.unique("net", "gradient_loop_cond_net"), [])
    asked = ScopedName(f"{condition.name}/cond")
    ask = make_operator("HasScope", [workspace], [asked], {})
    condition = _net_of(condition.name, [ask, *between])
    made = _like(op, [asked, *dict.fromkeys([*reads, *kept])], writes)
    made.arg.append(Argument.of("loop_net", inside.net(body)))
    made.arg.append(Argument.of("cond_net", condition))
    first = make_operator("HasScope", [workspace], [asked], {})
    return [*copies, first, *before, made], [gradients.get(blob) for blob in op.input]


def _rename_written(operators: Operators, old: str, new: str) -> None:
    for operator in operators:
        operator.output[:] = [new if blob == old else blob for blob in operator.output]


def _net_of(name: str, operators: Operators) -> NetDef:
    made = NetDef(name=name)
    made.op.extend(operators)
    made.external_input.extend(sorted(get_undefined_blobs(get_ssa(made)[0])))
    return made
