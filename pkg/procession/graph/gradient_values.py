"""Gradients as values: each is written once, and read by name.

The walk back gives values the names that Caffe2 gives them, and those need not differ: an
in-place operator's gradients are called alike on both of its sides. Each reader knows which
value it means. So once all operators are there, `settle` finds the writes that would destroy what
somebody still reads, and gives them names of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from procession.errors import GradientError
from procession.graph.gradient_makers import described
from procession.graph.proto import NetDef, OperatorDef

_END = 1 << 62
NESTED = ("If", "AsyncIf", "While")
"""Operators whose nets name the blobs outside."""


def rename_in_nets(operator: OperatorDef, old: str, new: str, *, written: bool) -> None:
    """Rename a blob outside in the nets of an If or While.

    Args:
        operator: The operator.
        old: What the blob is called.
        new: What it is to be called.
        written: The blob that the nets write; otherwise the one that is there before.
    """
    for argument in operator.arg:
        if not isinstance(argument.value, NetDef):
            continue
        here = not written
        for inner in argument.value.op:
            reads, writes = old in inner.input, old in inner.output
            if here and reads:
                if inner.type in NESTED:
                    rename_in_nets(inner, old, new, written=False)
                inner.input[:] = [new if blob == old else blob for blob in inner.input]
            if writes:
                here = written
                if written:
                    if inner.type in NESTED:
                        rename_in_nets(inner, old, new, written=True)
                    inner.output[:] = [new if blob == old else blob for blob in inner.output]


class Value:
    """A gradient, or something on the way to one, in the blob that holds it."""

    __slots__ = ("after", "before", "last", "name", "output", "uses", "writer")

    def __init__(self, name: str, writer: OperatorDef | None = None, output: int = 0) -> None:
        self.name = name
        self.writer = writer
        """None: it is there before the first gradient operator runs."""
        self.output = output
        self.uses: tuple[tuple[OperatorDef, int], ...] = ()
        """(operator that reads it, which of its inputs), so far as they have been asked for."""
        self.before: Value | None = None
        """What an operator of the same gradient made of the same name for this to go on from."""
        self.after: Value | None = None
        """That, seen from here."""
        self.last = -1
        """Where it is read for the last time."""

    def rename(self, name: str) -> None:
        """Be held by another blob."""
        writer, old = self.writer, self.name
        assert writer is not None
        if writer.type in NESTED:
            rename_in_nets(writer, old, name, written=True)
        writer.output[self.output] = name
        for reader, place in self.uses:
            if reader.type in NESTED:
                if old in reader.output and self.after is not None:
                    self.after.rename(name)
                if old in reader.output:
                    raise GradientError(
                        f"the gradient {described(reader)} reads and writes {old!r}, of which one "
                        "needs another name. Give the blob that it belongs to another name inside."
                    )
                rename_in_nets(reader, old, name, written=False)
            reader.input[place] = name
        self.name = name

    def rename_all(self, name: str) -> None:
        """Rename what it was made of step by step as well."""
        value: Value | None = self
        while value is not None:
            value.rename(name)
            value = value.before

    def read_by(self, reader: OperatorDef, place: int) -> None:
        """Note an input to rename along with it."""
        self.uses = (*self.uses, (reader, place))


Values = tuple[Value, ...]
"""One gradient: a single value, or the indices and values of a sparse one."""


class Step(NamedTuple):
    """A gradient operator with what it reads and writes; None for blobs of the forward net."""

    operator: OperatorDef
    reads: list[Value | None]
    writes: list[Value]


def settle(
    steps: list[Step],
    externals: Iterable[Value],
    kept: Iterable[Value],
    forward_reads: Mapping[str, int],
    taken: Iterable[str],
) -> None:
    """See to it that no operator overwrites what is still read.

    Args:
        steps: The gradient operators, in order.
        externals: Values that are there from the start.
        kept: Values that are to be there in the end.
        forward_reads: Blob of the forward net -> the last of the steps that reads it.
        taken: Names that are not free.

    Raises:
        GradientError: A gradient is called like a blob of the forward net that is still needed.
    """
    for position, (_, reads, _) in enumerate(steps):
        for value in reads:
            if value is not None:
                value.last = position
    for value in kept:
        value.last = _END
    names: set[str] | None = None
    holders = {value.name: value for value in externals}
    for position, (operator, _, writes) in enumerate(steps):
        for value in writes:
            holder = holders.get(value.name)
            if holder is not None and holder.last > position:
                if names is None:
                    names = {blob for step in steps for blob in step.operator.output}
                    names.update(holders, taken)
                    _note_uses(steps)
                number = 0
                while (name := f"_{value.name}_autosplit_{number}") in names:
                    number += 1
                names.add(name)
                if operator.type == "While":
                    # It goes from iteration to iteration, and into the first one.
                    value.rename_all(name)
                else:
                    value.rename(name)
            holders[value.name] = value
            reader = forward_reads.get(value.name, -1)
            if reader > position:
                raise GradientError(
                    f"the gradient operator {described(steps[reader].operator)} needs "
                    f"{value.name!r}, and the gradient of another blob is written to it before, by "
                    f"{described(operator)}. Give it a name that does not look like a gradient's."
                )


def _note_uses(steps: Iterable[Step]) -> None:
    found: dict[Value, list[tuple[OperatorDef, int]]] = {}
    for operator, reads, _ in steps:
        for place, value in enumerate(reads):
            if value is not None:
                found.setdefault(value, []).append((operator, place))
    for value, uses in found.items():
        value.uses = tuple(uses)
