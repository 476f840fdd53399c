"""The gradient of While: a loop that takes the iterations back, the last one first.

The forward loop leaves a workspace per iteration. What it carries hands its gradient on from one to
the one before; the gradients of what it only reads are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from procession.errors import GradientError
from procession.graph import names
from procession.graph.blob import ScopedName
from procession.graph.gradient_makers import GRADIENT_SUFFIX, Gradient, described
from procession.graph.gradient_reads import reads_value
from procession.graph.net_gradient import (
    Answer,
    Differentiated,
    Operators,
    copied,
    distinct,
    getNetArgument,
    like,
    rename_written,
    required_net,
    zeros,
)
from procession.graph.operator import make_operator
from procession.graph.proto import Argument, NetDef, OperatorDef
from procession.graph.ssa import get_ssa, get_undefined_blobs


def gen_while_gradient(op: OperatorDef, g_output: Sequence[Gradient]) -> Answer:
    """The gradient of a While: a While that takes back one forward workspace after the other.

    The blobs that the loop carries hand their gradients from iteration to iteration; the gradients
    of those that it only reads are summed up over them. Caffe2: the same; there the latter have the
    gradient of the first iteration only. If the gradient flows through the net of the condition,
    that is taken back in each iteration as well, and once more for the run before the first one.

    Raises:
        GradientError: Its body is not a single Do with workspaces of its own; or the body's net
            or the condition's cannot be differentiated.
    """
    copies, starts = distinct(op, g_output)
    body = required_net(op, "loop_net")
    if len(body.op) != 1 or not _keeps_workspaces(body.op[0]):
        raise GradientError(
            f"the gradient of {described(op)} needs a body that is one Do, without "
            f"reuse_workspace: it takes back the workspaces of the iterations one by one"
        )
    workspace = body.op[0].output[-1]
    loop = _Loop(op, body, starts)
    condition = getNetArgument(op, "cond_net") or NetDef()
    asked = {blob for each in condition.op for blob in each.output}
    if not any(blob in loop.own or loop.inside.entering_gradient(blob) for blob in asked):
        _refuse_changed(op, loop.inside.operators, loop.written)
        made, gradients = loop.gradient(workspace, apart=False)
        return [*copies, *made], [gradients.get(blob) for blob in op.input]
    if any(each.type == "Do" and not _keeps_workspaces(each) for each in condition.op):
        raise GradientError(
            f"a gradient flows through the condition of {described(op)}, whose Do must not "
            f"have reuse_workspace then"
        )
    # The condition runs first, and then once after each iteration.
    iteration = NetDef()
    iteration.CopyFrom(body)
    iteration.op.extend(condition.op)
    loop = _Loop(op, iteration, starts)
    made, gradients = loop.gradient(workspace, apart=True)
    first = Differentiated.of(
        op, condition, {blob: gradients[blob] for blob in asked if blob in gradients}
    )
    _refuse_changed(op, loop.inside.operators, loop.written)
    _refuse_changed(op, first.operators, loop.written)
    made += first.operators
    for blob in dict.fromkeys(op.input):
        early = first.entering_gradient(blob)
        late = None if blob in asked else gradients.get(blob)
        if early:
            # In a blob that only this writes: the loop has its own of the other names.
            pieces = [early, late] if late else [early]
            gradients[blob] = f"{blob}{GRADIENT_SUFFIX}_before"
            made.append(make_operator("Sum", pieces, [gradients[blob]], {}))
        elif blob in asked:
            gradients.pop(blob, None)
    return [*copies, *made], [gradients.get(blob) for blob in op.input]


def _keeps_workspaces(operator: OperatorDef) -> bool:
    return operator.type == "Do" and not operator.arguments.get("reuse_workspace")


def _refuse_changed(op: OperatorDef, operators: Operators, changed: set[str]) -> None:
    """Refuse what reads blobs as they are in the end, where it needs what they were once.

    A body that copies external blobs keeps what they were. A condition does not.
    """
    body = required_net(op, "loop_net").op[0]
    keeps = body.arguments.get("copy_external_blobs")
    made: set[str] = set()
    for operator in operators:
        if not keeps or body.output[-1] not in operator.output:
            # A Do takes from its workspace, which comes last, what was computed there.
            read = operator.input[:-1] if operator.type == "Do" else operator.input
            for blob in read:
                if blob in changed and blob not in made and reads_value(operator, blob):
                    raise GradientError(
                        f"the gradient of {described(op)} needs {blob!r} as it was in each "
                        f"iteration, and the loop has overwritten it since. In the net that reads "
                        f"it, copy it first, and read the copy: Copy({blob}) -> before"
                    )
        made.update(operator.output)


class _Loop:
    """An iteration of a While, differentiated with the gradients of all that the loop carries."""

    def __init__(self, op: OperatorDef, body: NetDef, starts: Mapping[str, str]) -> None:
        self.op = op
        self.body = body
        self.starts = starts
        self.written = {blob for each in body.op for blob in each.output}
        # What comes in may be wanted elsewhere, too; so the loop hands copies on.
        self.own = {blob: f"{start}_carried" for blob, start in starts.items()}
        while True:
            self.inside = Differentiated.of(op, body, self.own)
            # What a later iteration reads has a gradient, though nothing behind the loop has.
            more = [
                blob
                for blob in dict.fromkeys(op.input)
                if blob in self.written
                and blob not in self.own
                and self.inside.entering_gradient(blob)
            ]
            if not more:
                return
            for blob in more:
                name = f"{blob}{GRADIENT_SUFFIX}_carried"
                while name in self.own.values():
                    name += "_carried"
                self.own[blob] = name

    def _start(self, blob: str, target: str) -> OperatorDef:
        start = self.starts.get(blob)
        return copied(start, target) if start else zeros(blob, target)

    def gradient(self, workspace: str, apart: bool) -> tuple[Operators, dict[str, str]]:
        """The While that goes back, what comes before it, and the gradients it leaves.

        Args:
            workspace: The blob with the workspaces of the iterations.
            apart: Use no names that other gradients of the same blobs may have.
        """
        inside, own, op = self.inside, self.own, self.op
        operators, gradients = list(inside.operators), dict(inside.gradients)
        if not any(workspace in each.output for each in operators):
            # No gradient flows through the body, and yet its workspaces are what is counted.
            take = make_operator("Do", [workspace], [workspace], {"net": NetDef()})
            take.is_gradient_op = True
            operators.append(take)
        before: Operators = []
        """What is to be done before the loop, beside asking for its condition."""
        between: Operators = []
        kept: list[str] = []
        """What goes from one iteration to the next."""
        for blob, name in own.items():
            before.append(self._start(blob, name))
            handed = inside.entering_gradient(blob)
            if handed == name or blob not in self.written:
                continue
            back = f"{name}_back"
            if handed is None:
                operators.append(zeros(name, back))
            elif apart or handed in self.starts.values():
                rename_written(operators, handed, back)
            else:
                back = handed
            gradients[blob] = back
            before.append(self._start(blob, back))
            between.append(copied(back, name))
            kept.append(back)
        for blob in dict.fromkeys(op.input):
            gradient = gradients.get(blob)
            if gradient is None or blob in own or blob in self.written:
                continue
            gradients[blob] = total = f"{blob}{GRADIENT_SUFFIX}" + ("_loop" if apart else "")
            step = f"{gradient}_iteration"
            rename_written(operators, gradient, step)
            operators.append(make_operator("Sum", [total, step], [total], {}))
            before.append(zeros(blob, total))
        iteration = Differentiated(operators, {}, set())
        reads, writes = iteration.blobs()
        condition = _net_of(names.unique("net", "gradient_loop_cond_net"), [])
        asked = ScopedName(f"{condition.name}/cond")
        ask = make_operator("HasScope", [workspace], [asked], {})
        condition = _net_of(condition.name, [ask, *between])
        made = like(op, [asked, *dict.fromkeys([*reads, *kept])], writes)
        made.arg.append(Argument.of("loop_net", iteration.net(self.body)))
        made.arg.append(Argument.of("cond_net", condition))
        first = make_operator("HasScope", [workspace], [asked], {})
        return [first, *before, made], gradients


def _net_of(name: str, operators: Operators) -> NetDef:
    made = NetDef(name=name)
    made.op.extend(operators)
    made.external_input.extend(sorted(get_undefined_blobs(get_ssa(made)[0])))
    return made
