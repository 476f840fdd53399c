"""From a net's operators to those that compute its gradients: reverse mode, on the graph.

A blob may be written more than once, so a value is a (blob, version). Walking the operators
backwards, the gradients that the readers of a value contribute are its *pieces*; when the walk
reaches the value's writer they are summed into one. Names are Caffe2's: `x_grad`, with further
pieces in `_x_grad_autosplit_0`, ..., and `loss_autogen_grad` for the gradient one starts from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from procession.errors import GradientError
from procession.graph.operator import Operator
from procession.operators import REGISTRY
from procession.operators.registry import Rule

Value = tuple[str, int]


def gradient_operators(
    operators: Sequence[Operator],
    starts: Mapping[str, str | None],
    skip: int = 0,
    source: tuple[str, int] | None = None,
) -> tuple[list[Operator], dict[str, str]]:
    """The operators to append, and the gradient blob of every blob that has one.

    Args:
        operators: The net's, in order.
        starts: The blobs to differentiate -> the blob with their gradient, None for ones.
        skip: How many operators at the beginning to leave alone.
        source: The user's line, for messages.

    Raises:
        GradientError: A gradient passes through an operator that has none, or needs a blob
            that was overwritten since.
    """
    walk = _Walk(operators, skip, source)
    for blob, gradient in starts.items():
        walk.start(blob, gradient)
    for index in reversed(range(skip, len(operators))):
        walk.back(index)
    walk.finish()
    return walk.emitted, walk.gradients


class _Walk:
    def __init__(
        self, operators: Sequence[Operator], skip: int, source: tuple[str, int] | None
    ) -> None:
        self.operators = operators
        self.skip = skip
        self.source = source
        self.emitted: list[Operator] = []
        self.gradients: dict[str, str] = {}
        self.pieces: dict[Value, list[str]] = {}
        self.shared: set[str] = set()
        """Gradient blobs that stand for more than one value: not to be written again."""
        self.waiting: dict[Value, str] = {}
        """The gradients one starts from, until the walk has come by."""
        self.overwritten: set[str] = set()
        """What the gradient operators write."""
        self.splits: dict[str, int] = {}
        self.version: dict[str, int] = {}
        self.read: list[tuple[Value, ...]] = []
        self.written: list[tuple[Value, ...]] = []
        for operator in operators:
            self.read.append(tuple((blob, self.version.get(blob, 0)) for blob in operator.inputs))
            for blob in operator.outputs:
                self.version[blob] = self.version.get(blob, 0) + 1
            self.written.append(tuple((blob, self.version[blob]) for blob in operator.outputs))

    def emit(
        self,
        type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        arguments: Mapping[str, object],
    ) -> None:
        self.overwritten.update(outputs)
        self.emitted.append(
            Operator(type, tuple(inputs), tuple(outputs), dict(arguments), "", self.source)
        )

    def start(self, blob: str, gradient: str | None) -> None:
        if gradient is None:
            gradient = f"{blob}_autogen_grad"
            self.emit("ConstantFill", [blob], [gradient], {"value": 1.0})
        value = blob, self.version.get(blob, 0)
        self.pieces[value] = [gradient]
        self.waiting[value] = gradient
        self.gradients[blob] = gradient

    def back(self, index: int) -> None:
        operator = self.operators[index]
        incoming = [self.total(value) for value in self.written[index]]
        if not any(incoming):
            return
        for value in self.written[index]:
            self.waiting.pop(value, None)
        rules = REGISTRY[operator.type].rules(len(operator.inputs), operator.arguments)
        if rules is None:
            raise GradientError(
                f"operator {operator.type} has no gradient, and one is asked for through it: "
                f"{operator}. Put a StopGradient behind it if none should flow there."
            )
        made: dict[str, str] = {}
        for number, rule in enumerate(rules):
            later = {symbol for after in rules[number + 1 :] for symbol in after.inputs}
            self.apply(rule, index, incoming, made, later)
        for symbol, name in made.items():
            self.pieces.setdefault(self.read[index][int(symbol[2:])], []).append(name)

    def apply(
        self,
        rule: Rule,
        index: int,
        incoming: list[str | None],
        made: dict[str, str],
        later: set[str],
    ) -> None:
        operator = self.operators[index]
        if rule.type is None:
            source = self.resolve(rule.inputs[0], index, incoming, made)
            made[rule.outputs[0]] = source
            self.shared.add(source)
            return
        inputs = [self.resolve(symbol, index, incoming, made) for symbol in rule.inputs]
        outputs = []
        # An in-place operator's gradients are called alike on both of its sides; where a further
        # rule still reads the one, the other needs another name.
        kept = {name for number, name in enumerate(incoming) if name and f"GO{number}" in later}
        for symbol in rule.outputs:
            if symbol not in made:
                made[symbol] = self.piece_name(self.read[index][int(symbol[2:])], made, kept)
            outputs.append(made[symbol])
        arguments = rule.arguments
        if arguments is None:
            known = REGISTRY[rule.type].arguments
            arguments = {key: v for key, v in operator.arguments.items() if key in known}
        self.emit(rule.type, inputs, outputs, arguments)

    def resolve(
        self, symbol: str, index: int, incoming: list[str | None], made: dict[str, str]
    ) -> str:
        """The blob that a symbol of a rule stands for at this operator."""
        operator = self.operators[index]
        kind, number = symbol.rstrip("0123456789"), int(symbol.lstrip("IOG"))
        if kind == "GI":
            return made[symbol]
        if kind == "GO":
            gradient = incoming[number]
            if gradient is None:
                raise GradientError(
                    f"the gradient of {operator} needs that of its output "
                    f"{operator.outputs[number]!r}, and nothing differentiated depends on it"
                )
            return gradient
        blob, version = (self.read if kind == "I" else self.written)[index][number]
        if version != self.version.get(blob, 0):
            writers = [str(o) for o in self.operators if blob in o.outputs]
            raise GradientError(
                f"the gradient of {operator} needs {blob!r} as it was then, and it has been "
                f"overwritten since. Its writers, in order: {'; '.join(writers)}. "
                f"Give one of them another output name."
            )
        if blob in self.overwritten:
            raise GradientError(
                f"the gradient of {operator} needs {blob!r}, and the gradient of another blob is "
                f"written to it before. Give it a name that does not look like a gradient's."
            )
        return blob

    def piece_name(self, value: Value, made: Mapping[str, str], kept: set[str]) -> str:
        """A blob to write one more piece of this value's gradient to."""
        blob = value[0]
        name = f"{blob}_grad"
        taken = {*self.pieces.get(value, ()), *made.values(), *self.shared, *kept}
        taken.update(self.waiting.values())
        while name in taken:
            split = self.splits.get(blob, 0)
            self.splits[blob] = split + 1
            name = f"_{blob}_grad_autosplit_{split}"
        return name

    def total(self, value: Value) -> str | None:
        """The blob with the whole gradient of this value; several pieces are summed."""
        pieces = self.pieces.get(value)
        if pieces is None:
            return None
        if len(pieces) > 1:
            name = f"{value[0]}_grad"
            others = (g for other, g in self.waiting.items() if other != value)
            if name in self.shared or name in others:
                name = self.piece_name(value, {}, set())
            self.emit("Sum", pieces, [name], {})
            self.pieces[value] = pieces = [name]
        self.gradients[value[0]] = pieces[0]
        return pieces[0]

    def finish(self) -> None:
        """Sum the gradients of what was there before the first operator of the walk."""
        walked = {value for written in self.written[self.skip :] for value in written}
        for value in list(self.pieces):
            if value not in walked:
                self.total(value)
