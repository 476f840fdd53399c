"""The walk back through a list of operators: reverse mode, on the graph.

A blob may be written more than once, so a value is a blob and a version. Going forward, `IR`
notes who reads and writes which; going back, the gradients that the readers of a value contribute
are its *pieces*, and where the walk comes to its first reader they are summed into one. Operators,
their order, and names are Caffe2's: `x_grad`, with further pieces in `_x_grad_autosplit_0`, ...,
and `loss_autogen_grad` for the gradient one starts from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from procession.errors import GradientError
from procession.graph.blob import BlobReference, ScopedName
from procession.graph.device import CurrentDeviceScope
from procession.graph.gradient_makers import (
    Gradient,
    GradientSlice,
    checked_starts,
    described,
    gradient_for,
    named,
)
from procession.graph.gradient_pieces import Piece, Sum, merged, options_of, sums_of
from procession.graph.gradient_reads import CONTROL, keeps_copy, reads_value, with_unlisted_reads
from procession.graph.gradient_values import Step, Value, Values, settle
from procession.graph.operator import make_operator, signature_of
from procession.graph.proto import DeviceOption, OperatorDef
from procession.graph.source import Source, user_line
from procession.operators import REGISTRY


class OpSSA(NamedTuple):
    """An operator, and which versions of its blobs it reads and writes. Caffe2: core.OpSSA."""

    op: OperatorDef
    in_versions: dict[str, int]
    out_versions: dict[str, int]


T = TypeVar("T")


def _by_blob(table: dict[tuple[str, int], T]) -> dict[str, dict[int, T]]:
    found: dict[str, dict[int, T]] = {}
    for (blob, version), each in table.items():
        found.setdefault(blob, {})[version] = each
    return found


def _option_of(operator: OperatorDef) -> DeviceOption | None:
    return operator.__dict__.get("device_option")


class IR:
    """What is known of a list of operators when gradients are asked for. Caffe2: core.IR.

    Args:
        operators: The operators, in order.

    Raises:
        GradientError: The output of a StopGradient is not read, so that it stops nothing.
    """

    IS_AUTO_GEN_SUM_OPS_TAG = "is_auto_gen_sum_ops"
    ONLY_KEEP_IS_AUTO_GEN_SUM_OPS_TAG = "only_keep_is_auto_gen_sum_ops_tag"
    AUTOGEN_GRAD_SUFFIX = "_autogen_grad"

    def __init__(self, operators: Iterable[OperatorDef]) -> None:
        self.ssa: list[OpSSA] = []
        self.frontier: defaultdict[str, int] = defaultdict(int)
        """Blob -> the version that is there when all operators have run."""
        self._readers: dict[tuple[str, int], int] = {}
        """Version of a blob -> how many read it, the user who asks for its gradient included."""
        self._first: dict[tuple[str, int], int] = {}
        """Version of a blob -> the number of the operator that reads it first."""
        self._starts: list[tuple[str, int]] = []
        self.gradient_frontier: dict[str, int] = {}
        """Blob -> the version that its gradient belongs to, at this point of the walk back."""
        self._pieces: dict[tuple[str, int], list[Piece]] = {}
        self._gradients: dict[str, Values | None] = {}
        self._ended: dict[str, Values] = {}
        """Blob -> the gradient of what was written over it on every path; before, it has none."""
        self._steps: list[Step] = []
        self._externals: dict[str, Value] = {}
        self._forward_reads: dict[str, int] = {}
        self._source: Source | None = None
        operators = list(operators)
        for operator in operators:
            self.Play(operator)
        self.SanityCheck(operators)

    # Forward.

    def Play(self, op: OperatorDef) -> None:
        """Note what an operator reads and writes. Caffe2: IR.Play."""
        frontier, index = self.frontier, len(self.ssa)
        op = with_unlisted_reads(op)
        read: dict[str, int] = {}
        written: dict[str, int] = {}
        for blob in op.input:
            version = read[blob] = frontier[blob]
            value = blob, version
            if value in self._first:
                self._readers[value] += 1
            else:
                self._first[value], self._readers[value] = index, 1
        for blob in op.output:
            if blob in frontier:
                frontier[blob] += 1
            written[blob] = frontier[blob]
        self.ssa.append(OpSSA(op, read, written))

    def SanityCheck(self, operators: Iterable[OperatorDef]) -> None:
        """Refuse a StopGradient whose output nobody reads. Caffe2: IR.SanityCheck."""
        stops = [operator for operator in operators if operator.type == "StopGradient"]
        read = {blob for blob, _ in self._first} if stops else set()
        for operator in stops:
            if operator.output[0] not in read:
                raise GradientError(
                    f"StopGradient's output {operator.output[0]!r} is orphan: no operator reads "
                    f"it, so nothing is stopped. Usually it runs in place, with the output called "
                    f"like the input. {described(operator)}"
                )

    @property
    def input_usages(self) -> dict[str, dict[int, list[int]]]:
        """Blob -> version -> the numbers of the operators that read it."""
        found: dict[tuple[str, int], list[int]] = {}
        for index, (operator, read, _) in enumerate(self.ssa):
            for blob in operator.input:
                found.setdefault((blob, read[blob]), []).append(index)
        for value in self._starts:
            found.setdefault(value, []).append(len(self.ssa))
        return _by_blob(found)

    @property
    def gradient_generators(self) -> dict[str, dict[int, list[Piece]]]:
        """Blob -> version -> what its readers, if several, contributed to its gradient so far."""
        return _by_blob(self._pieces)

    @property
    def in_version_history(self) -> dict[str, list[tuple[OperatorDef, int]]]:
        """Blob -> (operator that reads it, version), in order."""
        found = defaultdict(list)
        for operator, read, _ in self.ssa:
            for blob in operator.input:
                found[blob].append((operator, read[blob]))
        return found

    @property
    def out_version_history(self) -> dict[str, list[tuple[OperatorDef, int]]]:
        """Blob -> (operator that writes it, version), in order."""
        found = defaultdict(list)
        for operator, _, written in self.ssa:
            for blob in operator.output:
                found[blob].append((operator, written[blob]))
        return found

    # Back.

    def GetBackwardPass(self, ys: Any) -> tuple[list[OperatorDef], dict[BlobReference, Any]]:
        """`differentiate`, from where the user calls it. Caffe2: IR.GetBackwardPass."""
        return self.differentiate(ys, user_line())

    def differentiate(
        self,
        ys: Any,
        source: Source | None = None,
        net: Any = None,
        wanted: Iterable[Any] | None = None,
    ) -> tuple[list[OperatorDef], dict[BlobReference, Any]]:
        """The gradient operators, and the gradient of every blob on the way.

        Args:
            ys: The blobs to differentiate: a list, each starting with a gradient of ones; or a
                mapping of blob to the blob or `GradientSlice` with its gradient, None for ones.
            source: The user's line, for messages.
            net: The net that the references in the answer are to belong to.
            wanted: The blobs whose gradients are wanted. What no such gradient is made of is left
                out; None for nothing.

        Raises:
            GradientError: A gradient passes through an operator that has none, or needs a blob
                that was overwritten since, or a blob has both sparse and dense gradients.
            TypeError: `ys` is neither a list nor a mapping.
        """
        starts = checked_starts(ys)
        self._source = source
        for y in starts:
            version = self.gradient_frontier[y] = self.frontier[y]
            self._starts.append((y, version))
            self._readers[y, version] = self._readers.get((y, version), 0) + 1
        for y, gradient in starts.items():
            self._start(y, gradient)
        names = None if wanted is None else [str(blob) for blob in wanted]
        for index in self._on_the_way(names):
            self._back(index)
            self._accumulate(index)
        found = {
            blob: known
            for blob, values in self._gradients.items()
            if (known := values or self._ended.get(blob)) is not None
        }
        if names is not None:
            found = self._only(found, names)
        # A gradient that the user gave may be overwritten when it has served.
        own = (v for vs in found.values() for v in vs if v.writer or v.name in self.frontier)
        settle(self._steps, self._externals.values(), own, self._forward_reads, self.frontier)
        gradients: dict[BlobReference, Any] = {}
        for blob, values in found.items():
            references = [BlobReference(value.name, net) for value in values]
            gradients[BlobReference(blob, net)] = (
                references[0] if len(references) == 1 else GradientSlice(*references)
            )
        return [step.operator for step in self._steps], gradients

    def _on_the_way(self, wanted: Iterable[str] | None) -> list[int]:
        """The numbers of the operators to go back through, the last one first.

        Those through which no wanted gradient flows need not have one, as what reads the data.
        """
        if wanted is None:
            return list(reversed(range(len(self.ssa))))
        names, moved = set(wanted), set[tuple[str, int]]()
        start, found = frozenset(names), []
        for index, (_, read, written) in enumerate(self.ssa):
            if any(blob in start or (blob, read[blob]) in moved for blob in read):
                moved.update(written.items())
                names.update(written)
                found.append(index)
            elif not names.isdisjoint(written):
                found.append(index)  # what it overwrites ends there
        found.reverse()
        return found

    def _only(self, found: dict[str, Values], wanted: Iterable[str]) -> dict[str, Values]:
        """Leave out the operators, and the outputs, that no wanted gradient is made of."""
        for blob in wanted:
            if blob not in found:
                raise GradientError(f"the gradient of {blob!r} is wanted, and there is none of it")
        needed = {value for blob in wanted for value in found[blob]}
        kept: list[Step] = []
        for step in reversed(self._steps):
            if step.writes and needed.isdisjoint(step.writes):
                continue
            operator, _, writes = step
            definition = REGISTRY.get(operator.type)
            if (
                definition is not None
                and definition.spare_last
                and len(writes) > definition.min_outputs
                and writes[-1] not in needed
            ):
                del operator.output[-1], writes[-1]
            needed.update(value for value in step.reads if value is not None)
            kept.append(step)
        kept.reverse()
        self._steps = kept
        self._forward_reads = {
            step.operator.input[place]: position
            for position, step in enumerate(kept)
            for place, value in enumerate(step.reads)
            if value is None
        }
        made = {value for step in kept for value in step.writes}
        return {
            blob: values
            for blob, values in found.items()
            if all(value.writer is None or value in made for value in values)
        }

    def _external(self, name: str) -> Value:
        value = self._externals.get(name)
        if value is None:
            value = self._externals[name] = Value(name)
        return value

    def _emit(self, made: OperatorDef, reads: list[Value | None]) -> list[Value]:
        """Append an operator of which it is known what it reads."""
        for place, value in enumerate(reads):
            if value is None:
                self._forward_reads[made.input[place]] = len(self._steps)
        writes = [Value(blob, made, place) for place, blob in enumerate(made.output)]
        self._steps.append(Step(made, reads, writes))
        return writes

    def _start(self, y: str, gradient: Gradient) -> None:
        if gradient is None:
            name = ScopedName(y + self.AUTOGEN_GRAD_SUFFIX)
            fill = make_operator("ConstantFill", [y], [name], {"value": 1.0}, self._source)
            self._put_in_scope(fill)
            values: Values = (self._emit(fill, [None])[0],)
            piece = Piece(values, (True,), _option_of(fill))
        else:
            blobs = gradient if isinstance(gradient, GradientSlice) else (gradient,)
            values = tuple(map(self._external, blobs))
            piece = Piece(values, (False,) * len(values), None)
        self._gradients[y] = values
        self._pieces[y, self.frontier[y]] = [piece]

    @staticmethod
    def _put_in_scope(operator: OperatorDef) -> None:
        scope = CurrentDeviceScope()
        if scope is not None:
            operator.device_option.CopyFrom(scope)

    def _back(self, index: int) -> None:
        """Add what the gradient of one operator needs."""
        operator = self.ssa[index].op
        held = [self._gradients.get(blob) for blob in operator.output]
        if operator.type != "ZeroGradient" and not any(held):
            return
        g_output: list[Gradient] = []
        for values in held:
            if values is None:
                g_output.append(None)
            elif len(values) == 1:
                g_output.append(values[0].name)
            else:
                g_output.append(GradientSlice(values[0].name, values[1].name))
        made, g_input = gradient_for(operator, g_output, self._source)
        given = [named(gradient) for gradient in g_input]
        if len(given) > len(operator.input):
            raise GradientError(
                f"the gradient function of {described(operator)} returned {len(given)} gradients "
                f"of inputs, and there are {len(operator.input)}: {given}"
            )
        _Contribution(self, index, held, made, given).add()

    def _stale(self, index: int, blob: str, name: str) -> NoReturn:
        operator, _, written = self.ssa[index]
        version = written[blob]
        writers = self.out_version_history[blob]
        later = next((each for each, number in writers if number > version), operator)
        raise GradientError(
            f"the gradient of {described(operator)} needs that of {blob!r} as this operator "
            f"wrote it (version {version}), and {name!r} is the gradient of a later one "
            f"(version {self.gradient_frontier[blob]}): {described(later)} overwrites it, and "
            f"what is differentiated depends on no operator that reads it before. Leave out the "
            f"operator that writes it in vain, or give its output another name. "
            f"{self._writers(blob)}"
        )

    def _overwritten(self, index: int, blob: str, version: int) -> NoReturn:
        raise GradientError(
            f"the gradient of {described(self.ssa[index].op)} needs {blob!r} as it was then "
            f"(version {version}), and it has been overwritten since (version "
            f"{self.frontier[blob]}). Give the output of what overwrites it another name; or, if "
            f"that must be this blob, copy it first, and read the copy: Copy({blob}) -> before. "
            f"{self._writers(blob)}"
        )

    def _writers(self, blob: str) -> str:
        writers = [signature_of(operator) for operator, _ in self.out_version_history[blob]]
        return f"Its writers, in order: {'; '.join(writers)}."

    # Summing up.

    def _accumulate(self, index: int) -> None:
        """Sum the pieces of what this operator is the first to read."""
        operator, versions, _ = self.ssa[index]
        for blob in dict.fromkeys(operator.input):
            value = blob, versions[blob]
            if self._readers[value] < 2 or self._first[value] != index:
                continue
            pieces = self._pieces.get(value, [])
            if len(pieces) < 2:
                continue
            options = options_of(blob, pieces, operator)
            self._gradients[blob] = tuple(
                self._sum(each, options) for each in sums_of(blob, pieces)
            )

    def _sum(self, what: Sum, options: Sequence[DeviceOption]) -> Value:
        names = [value.name for value in what.values]
        made = make_operator(what.type, names, what.outputs, what.arguments, self._source)
        self._put_in_scope(made)
        merged(
            options,
            made.device_option,
            f"{self.IS_AUTO_GEN_SUM_OPS_TAG}:1",
            f"{self.ONLY_KEEP_IS_AUTO_GEN_SUM_OPS_TAG}:1",
        )
        return self._emit(made, [*what.values])[0]


class _Contribution:
    """What the gradient of one operator adds: operators, and pieces of its inputs' gradients."""

    def __init__(
        self,
        ir: IR,
        index: int,
        held: Sequence[Values | None],
        operators: Sequence[OperatorDef],
        g_input: list[Gradient],
    ) -> None:
        self.ir = ir
        self.index = index
        self.forward, self.in_versions, self.out_versions = ir.ssa[index]
        self.operators = operators
        self.g_input = g_input
        self.incoming: dict[str, tuple[str, Value]] = {}
        """Name of a gradient of an output -> that output, and the value."""
        for blob, values in zip(self.forward.output, held, strict=False):
            for value in values or ():
                self.incoming.setdefault(value.name, (blob, value))
        self.local: dict[str, Value] = {}
        """What the operators wrote so far."""

    def add(self) -> None:
        written: list[Value] = []
        for operator in self.operators:
            written += self._add(operator)
        targets: dict[str, int] = {}
        """Name of a gradient -> the first input that has it."""
        for number, gradient in enumerate(self.g_input):
            if gradient is not None:
                blobs = gradient if isinstance(gradient, GradientSlice) else (gradient,)
                for blob in blobs:
                    targets.setdefault(blob, number)
        superseded = {id(value.before) for value in written if value.before is not None}
        half_made: dict[int, OperatorDef] = {}
        for value in written:
            number = targets.get(value.name, -1)
            if number < 0 or id(value) in superseded:
                continue
            assert value.writer is not None
            if isinstance(self.g_input[number], GradientSlice):
                half_made.setdefault(number, value.writer)
            else:
                self._piece(number, Piece((value,), (True,), _option_of(value.writer)))
        # An operator in place has the same name on both sides: look all up before any changes.
        found: list[Values | None] = []
        for gradient in self.g_input:
            if gradient is None:
                found.append(None)
            elif isinstance(gradient, GradientSlice):
                found.append(tuple(map(self._resolve, gradient)))
            else:
                found.append((self._resolve(gradient),))
        gradients = self.ir._gradients
        for number, values in enumerate(found):
            blob, gradient = self.forward.input[number], self.g_input[number]
            if values is None:
                # Unless the operator runs in place, an earlier reader's gradient stays.
                if blob in self.out_versions and blob not in self._having():
                    gradients[blob] = None
                continue
            if isinstance(gradient, GradientSlice):
                made = tuple(each in self.local for each in gradient)
                writer = half_made.get(number, self.forward)
                self._piece(number, Piece(values, made, _option_of(writer)))
            else:
                first = self.forward.input[targets[gradient]]
                if gradient not in self.local or first != blob:
                    self._piece(number, Piece(values, (False,), _option_of(self.forward)))
            gradients[blob] = values
            self.ir.gradient_frontier[blob] = self.in_versions[blob]
        if self.forward.type in CONTROL:
            self._end()

    def _end(self) -> None:
        """What was there before a branch or a body wrote over it, is worth nothing."""
        gradients = self.ir._gradients
        for blob, version in self.out_versions.items():
            values = gradients.get(blob)
            if version and blob not in self.in_versions and values is not None:
                self.ir._ended[blob] = values
                gradients[blob] = None

    def _having(self) -> set[str]:
        """The inputs that get a gradient."""
        pairs = zip(self.forward.input, self.g_input, strict=False)
        return {blob for blob, gradient in pairs if gradient is not None}

    def _piece(self, number: int, piece: Piece) -> None:
        blob = self.forward.input[number]
        value = blob, self.in_versions[blob]
        if self.ir._readers[value] > 1:
            self.ir._pieces.setdefault(value, []).append(piece)

    def _add(self, operator: OperatorDef) -> list[Value]:
        reads = [self._read(blob, operator) for blob in operator.input]
        writes = self.ir._emit(operator, reads)
        if self.local:
            for place, read in enumerate(reads):
                if read is not None and read.name in self.local:
                    read.read_by(operator, place)
            for value in writes:
                before = self.local.get(value.name)
                if before is not None and before in reads and self._by_steps(value.name):
                    value.before, before.after = before, value
        for value in writes:
            self.local[value.name] = value
        return writes

    def _by_steps(self, name: str) -> bool:
        """Whether one gradient is written more than once; not so where inputs share it."""
        written: int = sum(each.output.count(name) for each in self.operators)
        return written > self.g_input.count(name)

    def _read(self, blob: str, reader: OperatorDef) -> Value | None:
        """What is meant by a name that a gradient operator reads; None: a blob of the net."""
        if blob in self.local and (blob not in self.incoming or self._by_steps(blob)):
            return self.local[blob]
        if blob in self.incoming:
            return self._received(blob)
        versions = self.out_versions if blob in self.out_versions else self.in_versions
        if blob not in versions:
            known = [*self.forward.input, *self.forward.output, *self.incoming, *self.local]
            raise GradientError(
                f"the gradient of {described(self.forward)} reads {blob!r}, which is neither one "
                f"of its blobs, nor the gradient of one, nor made by its own gradient operators: "
                f"{', '.join(dict.fromkeys(known))}"
            )
        if (
            versions[blob] != self.ir.frontier[blob]
            and not keeps_copy(self.forward, blob)
            and reads_value(reader, blob)
        ):
            self.ir._overwritten(self.index, blob, versions[blob])
        return None

    def _received(self, name: str) -> Value:
        blob, value = self.incoming[name]
        if self.out_versions[blob] != self.ir.gradient_frontier[blob]:
            self.ir._stale(self.index, blob, name)
        return value

    def _resolve(self, name: str) -> Value:
        """The value of a gradient that is returned."""
        if name in self.local:
            return self.local[name]
        if name in self.incoming:
            return self._received(name)
        return self.ir._external(name)
