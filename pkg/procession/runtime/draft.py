"""A draft: a net's function for blobs that look a certain way, for any workspace with such blobs.

What the text says for an operation follows from the shapes and types of its inputs, as the shape
and type of a result do. So one draft serves all workspaces in which the blobs look the same: to
bind the net there is to hand the code that workspace's cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from types import CellType, CodeType
from typing import Any

import numpy as np

from procession.blobs.shared import MINIMUM
from procession.runtime.binding import Binding, Slot
from procession.runtime.generated import POLL, Line, function_of, text_of
from procession.runtime.items import Check, Item, Jump
from procession.runtime.operation import PreparedOperation, targets

SHORT = 16 * MINIMUM
"""Elementwise work on tensors of so many bytes takes some microseconds."""


class _Unseen(Exception):  # noqa: N818 - a signal, not a mistake
    """An operation has not run yet with such blobs."""


class Vocabulary:
    """All that the text of a net can speak of, but for the cells.

    Args:
        items: What the net is made of.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.variables: dict[str, int] = {}
        """Blob -> its number."""
        self.names: dict[str, Any] = {"__builtins__": {}}
        for index, item in enumerate(items):
            self.names[f"g{index}"] = item.run
            for blob in (*item.spec.inputs, *item.spec.outputs):
                self.variables.setdefault(blob, len(self.variables))
            if isinstance(item, PreparedOperation):
                self.names[f"k{index}"] = item.kernel
                self.names[f"u{index}"] = item.definition.ufunc
                self.names[f"p{index}"] = item.put
                self.names[f"o{index}"] = item.put_one
                for argument, value in item.given.items():
                    self.names[f"c{index}_{argument}"] = value

    def constant(self, index: int, operation: PreparedOperation) -> Any:
        """The result of an operation that always has the same."""
        value = self.names.get(f"q{index}")
        if value is None:
            value = self.names[f"q{index}"] = np.array(operation.kernel(**operation.arguments))
        return value


class Draft:
    """The function of a net for blobs that look a certain way.

    An operation of which too little is known, because it has not run yet with such blobs, as in a
    branch that was not taken, *waits*: when it has run, the function returns, so that a better one
    may be made.

    Args:
        items: What the net is made of.
        vocabulary: Its vocabulary.
        slots: Its blobs, those that are there; None for one that is not to be relied upon.
        board: Whether there is a board.
        tried: Items that are not to wait.
        code: Compiles the text of a function, in which some names are cells.
    """

    def __init__(
        self,
        items: Sequence[Item],
        vocabulary: Vocabulary,
        slots: Mapping[str, Slot | None],
        board: bool,
        tried: Set[int],
        code: Callable[[str, list[str]], CodeType],
    ) -> None:
        self._vocabulary = vocabulary
        self._slots = slots
        self._board = board
        self._tried = tried
        self._direct: list[bool] = []
        self._watched: dict[str, bool] = {}
        """Blobs to rely upon -> whether they are written."""
        self._scratch: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._special: dict[str, Callable[[], Callable[..., object] | None]] = {}
        """What makes the functions that stand for kernels: each binding has its own."""
        lines = [self._line(index, item) for index, item in enumerate(items)]
        self._waits = frozenset(index for index, line in enumerate(lines) if line.kind == "wait")
        cells = ["broken", *self._scratch, *self._special]
        for name in self._watched:
            cells += (f"v{vocabulary.variables[name]}", f"w{vocabulary.variables[name]}")
        self._code = code(text_of(lines, board), cells)
        # What the blobs looked like is all that matters of them.
        del self._slots

    def bind(self, slots: Mapping[str, Slot | None]) -> Binding:
        """The function, for blobs that look like those that it was made for."""
        binding = Binding(self._board, self._code, tuple(self._direct), self._waits)
        cells = {"broken": binding.broken}
        for name, (shape, dtype) in self._scratch.items():
            cells[name] = CellType(np.empty(shape, dtype))
        for name, make in self._special.items():
            cells[name] = CellType(make())
        for name, written in self._watched.items():
            slot = slots[name]
            assert slot is not None
            variable = slot.variable
            cells[f"v{variable}"], cells[f"w{variable}"] = binding.rely(name, slot, written)
        binding.function = function_of(self._code, self._vocabulary.names, cells)
        return binding

    def _line(self, index: int, item: Item) -> Line:
        """What the function says for an item."""
        itself = f"g{index}(workspace, task)"
        poll = index % POLL == 0
        if isinstance(item, Check):
            value = self._truth(item)
            self._direct.append(value is not None)
            holds, fails = (itself, f"not {itself}") if value is None else (value, f"not {value}")
            if item.unless and value is not None:
                holds, fails = fails, holds
            polled = poll or value is None
            if item.skip is None:
                return Line(holds, 0, polled, "leave")
            return Line(fails, 0, polled, "pass", item.skip)
        if isinstance(item, Jump):
            self._direct.append(False)
            return Line("", 0, False, "else", item.skip)
        text, short = None, False
        waits = False
        if isinstance(item, PreparedOperation) and not item.wants_context:
            try:
                text, short = self._call(index, item)
            except _Unseen:
                waits = index not in self._tried
        self._direct.append(text is not None)
        kind = "wait" if waits else "do"
        return Line(text or itself, item.spec.number, poll or not short, kind)

    def _slot(self, name: str) -> Slot | None:
        """What is known of a blob; None if it is not to be relied upon.

        Raises:
            _Unseen: There is none yet.
        """
        if name not in self._slots:
            raise _Unseen
        return self._slots[name]

    def _truth(self, check: Check) -> str | None:
        """The text for the truth value of a blob that a check looks at."""
        for name in check.spec.inputs:
            slot = self._slots.get(name)
            if slot is None or slot.size != 1:
                return None
            if check.boolean and slot.dtype != np.bool_:
                return None
            self._rely(name)
            return f"v{slot.variable}.item()"
        return None

    def _call(self, index: int, operation: PreparedOperation) -> tuple[str | None, bool]:
        """(The text that does an operation, whether it is sure to be short).

        No text if the operation has to find its blobs by itself.

        Raises:
            _Unseen: It has not run yet with such blobs.
        """
        spec = operation.spec
        inputs: list[Slot] = []
        for name in spec.inputs:
            slot = self._slot(name)
            if slot is None:
                return None, False
            inputs.append(slot)
        if operation.definition.constant and not inputs:
            constant = self._constant(index, operation)
            if constant is not None:
                return constant, True
        arguments = [f"{name}=c{index}_{name}" for name in operation.given]
        if operation.takes_outs:
            return self._call_with_outs(index, operation, inputs, arguments)
        if not operation.takes_out:
            self._rely(*spec.inputs)
            values = ", ".join([*(f"v{slot.variable}" for slot in inputs), *arguments])
            return f"p{index}(workspace, k{index}({values}))", False
        target = self._slot(spec.outputs[0])
        if target is None:
            return None, False
        looks = [(slot.shape, slot.dtype) for slot in inputs]
        if operation.record != (looks, target.shape, target.dtype):
            raise _Unseen
        self._rely(*spec.inputs)
        self._rely(spec.outputs[0], written=True)
        out = f"w{target.variable}"
        short = all(slot.nbytes <= SHORT for slot in (*inputs, target))
        special = self._specialized(index, operation, inputs, [target])
        if special is not None:
            return special, short
        if operation.as_ufunc({slot.dtype for slot in inputs}, target.dtype):
            values = ", ".join(f"w{slot.variable}" for slot in inputs)
            if target.size == 1 and any(slot.blob is target.blob for slot in inputs):
                # NumPy takes four times as long to write one number in place.
                # One for each blob: who works on another in another thread has another.
                scratch = f"s{target.variable}"
                self._scratch[scratch] = target.shape, target.dtype
                return f"u{index}({values}, {scratch}); {out}[...] = {scratch}", short
            return f"u{index}({values}, {out})", short
        values = ", ".join([*(f"v{slot.variable}" for slot in inputs), f"out={out}", *arguments])
        return f"(r := k{index}({values})) is {out} or p{index}(workspace, r)", short

    def _call_with_outs(
        self, index: int, operation: PreparedOperation, inputs: list[Slot], arguments: list[str]
    ) -> tuple[str | None, bool]:
        """What `_call` says of an operation whose kernel takes `outs`."""
        spec, records = operation.spec, operation.records
        if records is None or records[0] != [(slot.shape, slot.dtype) for slot in inputs]:
            raise _Unseen
        outputs = [self._slot(name) for name in spec.outputs]
        fit = targets(
            [slot.blob for slot in inputs],
            [None if slot is None else slot.blob for slot in outputs],
            operation.definition.in_place,
        )
        outs = ["None"] * len(outputs)
        for place, (slot, form) in enumerate(zip(outputs, records[1], strict=True)):
            if form is None:
                continue
            if slot is None:
                return None, False
            if fit[place]:
                if (slot.shape, slot.dtype) != form:
                    raise _Unseen
                outs[place] = f"w{slot.variable}"
        self._rely(*spec.inputs)
        given = [slot for slot, out in zip(outputs, outs, strict=True) if slot and out != "None"]
        self._rely(
            *(name for name, out in zip(spec.outputs, outs, strict=True) if out != "None"),
            written=True,
        )
        short = len(given) == len(outs) and all(slot.nbytes <= SHORT for slot in (*inputs, *given))
        if len(given) == len(outs):
            special = self._specialized(index, operation, inputs, given)
            if special is not None:
                return special, short
        values = [f"v{slot.variable}" for slot in inputs]
        handed = f"outs=({''.join(f'{out}, ' for out in outs)})"
        text = f"r = k{index}({', '.join([*values, handed, *arguments])})"
        for place, out in enumerate(outs):
            stored = f"o{index}(workspace, {place}, r[{place}])"
            text += f"; {stored}" if out == "None" else f"; r[{place}] is {out} or {stored}"
        return text, short

    def _specialized(
        self, index: int, operation: PreparedOperation, inputs: list[Slot], outputs: list[Slot]
    ) -> str | None:
        """The text that calls what is made for such tensors in the kernel's place, if it is."""
        specialize = operation.definition.specialize
        if specialize is None:
            return None
        looks = ([(slot.shape, slot.dtype) for slot in slots] for slots in (inputs, outputs))
        make = partial(specialize, *looks, **operation.arguments)
        if make() is None:
            return None
        self._special[f"f{index}"] = make
        return f"f{index}({', '.join(f'w{slot.variable}' for slot in (*inputs, *outputs))})"

    def _constant(self, index: int, operation: PreparedOperation) -> str | None:
        """The text for an operation whose result is always the same, if that is small."""
        (name,) = operation.spec.outputs
        target = self._slot(name)
        if target is None or target.nbytes >= MINIMUM:
            return None
        value = self._vocabulary.constant(index, operation)
        if (value.shape, value.dtype) != (target.shape, target.dtype):
            return None
        self._rely(name, written=True)
        return f"w{target.variable}[...] = q{index}"

    def _rely(self, *names: str, written: bool = False) -> None:
        for name in names:
            self._watched[name] = written or self._watched.get(name, False)
