"""A net, ready to run any number of times in any number of workspaces.

The first turns in a workspace go operation by operation, which finds the blobs by name and notes
down what results look like. Then the net is *bound* to the workspace: its operations become one
generated function (see `procession.runtime.generated`) over the arrays of the blobs, without a
lookup or a comparison left in it. That is right as long as every blob keeps its shape and dtype and
nobody looks at what is going to be written. The blobs tell the binding when it is not (see
`procession.blobs.blob`); the function then returns between two operations, and the rest of the turn
goes operation by operation.

What became of it decides how the next turn begins. A blob that was only looked at has moved, or
will be free again: the binding holds as soon as that is so. A blob of another shape makes a
new binding necessary. One that changes its shape again and again is not relied upon any more.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from types import CellType, CodeType
from typing import Any

import numpy as np

from procession.blobs.blob import Blob, is_tensor
from procession.blobs.shared import MINIMUM
from procession.runtime.generated import POLL, compile_text, function_of, operation_at, text_of
from procession.runtime.monitor import TaskRun
from procession.runtime.operation import PreparedOperation
from procession.runtime.program import Operation
from procession.runtime.workspace import Workspace

ONCE = (None,)
RECORDED = 2
"""So many turns in a workspace go operation by operation before the net is bound."""
STRIKES = 3
"""A blob that has ended so many bindings by changing its shape is not relied upon any more..."""
WORTHWHILE = 16
"""... unless the binding had been used so many times."""
SHORT = 16 * MINIMUM
"""Elementwise work on tensors of so many bytes takes some microseconds."""
TEXTS = 8
"""How many forms of its function a net keeps."""


class LoopEnd(Exception):  # noqa: N818 - a signal, not a mistake
    """The stop blob of a loop is true."""


class StopCheck:
    """What stands behind each net of a loop, as an operation would: ends it by its stop blob.

    Args:
        blob: The stop blob.
        stops: Whether it says to stop; raises if it holds no truth value.
    """

    def __init__(self, blob: str, stops: Callable[[Workspace, TaskRun], bool]) -> None:
        self.spec = Operation(0, "", "", (blob,), (), {}, "")
        self._stops = stops

    def run(self, workspace: Workspace, task: TaskRun) -> None:
        """Raise `LoopEnd` if the loop is over."""
        if self._stops(workspace, task):
            raise LoopEnd

    @staticmethod
    def end() -> None:
        """The loop is over."""
        raise LoopEnd


class _Slot:
    """A blob that the function may rely upon."""

    __slots__ = ("blob", "cells", "dtype", "shape", "variable")

    def __init__(self, blob: Blob, variable: int) -> None:
        self.blob = blob
        self.variable = variable
        self.shape: tuple[int, ...] = blob.value.shape
        self.dtype: np.dtype[Any] = blob.value.dtype
        self.cells: tuple[CellType, CellType] | None = None


class _Binding:
    """A net's function for one workspace. Watches the blobs that the function relies upon."""

    __slots__ = (
        "__weakref__",
        "_names",
        "_written",
        "board",
        "broken",
        "calls",
        "changes",
        "code",
        "direct",
        "function",
    )

    def __init__(self, board: bool) -> None:
        self.board = board
        self.broken = CellType(False)
        self.calls = 0
        self.changes: set[str] = set()
        """The names of blobs that have changed shape or dtype, or have gone."""
        self.function: Callable[..., int]
        self.code: CodeType
        self.direct: list[bool] = []
        """Whether the function itself, and no `PreparedOperation.run`, does an operation."""
        self._names: dict[Blob, str] = {}
        self._written: set[Blob] = set()

    def watch(self, name: str, slot: _Slot, written: bool = False) -> None:
        if slot.cells is None:
            self._names.setdefault(slot.blob, name)
            slot.cells = slot.blob.watch(self)
        if written:
            self._written.add(slot.blob)

    def changed(self, blob: Blob) -> None:
        self.changes.add(self._names[blob])
        self.broken.cell_contents = True

    def leased(self, blob: Blob) -> None:
        if blob in self._written:
            self.broken.cell_contents = True

    def mended(self) -> bool:
        """After nothing but leases: whether all that is written can be written."""
        # In this order: a lease that begins meanwhile is noted.
        self.broken.cell_contents = False
        if any(blob.buffer is not None and blob.buffer.leased for blob in self._written):
            self.broken.cell_contents = True
        return not self.broken.cell_contents


class _Home:
    """What a net knows of one workspace."""

    __slots__ = ("binding", "strikes", "turns")

    def __init__(self) -> None:
        self.binding: _Binding | None = None
        self.turns = 0
        self.strikes: Counter[str] = Counter()

    def lose(self, binding: _Binding) -> None:
        """The binding is not right any more."""
        self.binding = None
        # The next turn shows what things look like.
        self.turns = min(self.turns, RECORDED - 1)
        if binding.calls < WORTHWHILE:
            self.strikes.update(binding.changes)
        else:
            self.strikes.clear()


class PreparedNet:
    """A net's operations, and the functions that they have become.

    The body of a loop, which is several nets with a `StopCheck` behind each, is prepared like a
    net.

    Args:
        name: What it is called.
        operations: Its operations.
    """

    def __init__(self, name: str, operations: Sequence[PreparedOperation | StopCheck]) -> None:
        self.name = name
        self.operations = tuple(operations)
        self._homes: weakref.WeakKeyDictionary[Workspace, _Home] = weakref.WeakKeyDictionary()
        # The workspace of the last run, so as not to look it up; replaced as one.
        self._last: tuple[Callable[[], Workspace | None], _Home] = (lambda: None, _Home())
        self._codes: dict[str, CodeType] = {}
        self._names: dict[str, Any] = {}
        self._variables: dict[str, int] = {}

    def run(self, workspace: Workspace, task: TaskRun, turns: Iterable[Any] = ONCE) -> None:
        """Run it once for each of `turns`.

        Raises:
            Cancelled: And whatever the monitor raises.
            Exception: See `PreparedOperation.run`.
        """
        last, home = self._last
        if last() is not workspace:
            home = self._homes.setdefault(workspace, _Home())
            self._last = weakref.ref(workspace), home
        left = iter(turns)
        while True:
            binding = home.binding
            if (
                binding is None
                or binding.broken.cell_contents
                or binding.board is (task.note is None)
            ):
                binding = self._renewed(workspace, task, home)
                if binding is None:
                    for _ in left:
                        self._slowly(workspace, task, 0)
                        break
                    else:
                        break
                    continue
            binding.calls += 1
            try:
                if binding.board:
                    index = binding.function(
                        left, workspace, task, task.stop, task.note, task.called, task.run
                    )
                else:
                    index = binding.function(left, workspace, task, task.stop)
            except BaseException as error:
                index = self._after(error, binding, workspace, task)
                if index < 0:
                    raise
            if index < 0:
                break
            self._slowly(workspace, task, index)
        if task.note is not None:
            task.note[0] = 0

    def _slowly(self, workspace: Workspace, task: TaskRun, start: int) -> None:
        """One turn, or the rest of it, operation by operation."""
        if not self.operations:
            task.check()
        for operation in islice(self.operations, start, None):
            task.enter(operation.spec.number)
            operation.run(workspace, task)

    def _after(
        self, error: BaseException, binding: _Binding, workspace: Workspace, task: TaskRun
    ) -> int:
        """What to do about an error out of the function.

        Returns:
            -1 to raise it as it is, else the operation to go on with.
        """
        if isinstance(error, (KeyboardInterrupt, LoopEnd)) or not self.operations:
            return -1
        index = operation_at(binding.code, error)
        if not binding.direct[index]:
            return -1
        if binding.broken.cell_contents:
            # Another thread changed a blob at the wrong moment.
            return index
        operation = self.operations[index]
        assert isinstance(operation, PreparedOperation)
        found = (workspace.find(name) for name in operation.spec.inputs)
        values = [blob.value for blob in found if blob is not None]
        operation.fail(error, workspace, task, values)

    # Binding.

    def _renewed(self, workspace: Workspace, task: TaskRun, home: _Home) -> _Binding | None:
        """A binding that is right; None if this turn has to go operation by operation."""
        board = task.note is not None
        binding = home.binding
        if binding is not None and binding.changes:
            home.lose(binding)
        elif binding is not None and binding.board is board:
            return binding if binding.mended() else None
        if home.turns < RECORDED:
            home.turns += 1
            return None
        binding = home.binding = self._bound(workspace, board, home.strikes)
        if binding.changes:
            # Another thread was at it meanwhile.
            return None
        return binding if binding.mended() else None

    def _bound(self, workspace: Workspace, board: bool, strikes: Counter[str]) -> _Binding:
        if not self._names:
            self._name()
        slots: dict[str, _Slot | None] = {}
        for name, variable in self._variables.items():
            blob = workspace.find(name)
            steady = blob is not None and is_tensor(blob.value) and strikes[name] < STRIKES
            slots[name] = _Slot(blob, variable) if blob is not None and steady else None
        binding = _Binding(board)
        scratch: dict[str, CellType] = {}
        calls, polled = [], []
        for index, operation in enumerate(self.operations):
            call, short = self._call(index, operation, slots, binding, scratch)
            binding.direct.append(call is not None)
            calls.append(call or f"g{index}(workspace, task)")
            polled.append(index % POLL == 0 or not short)
        numbers = [operation.spec.number for operation in self.operations]
        text = text_of(calls, numbers, polled if board else None)
        cells = {"broken": binding.broken, **scratch}
        for slot in slots.values():
            if slot is not None and slot.cells is not None:
                cells[f"v{slot.variable}"], cells[f"w{slot.variable}"] = slot.cells
        code = self._codes.get(text)
        if code is None:
            if len(self._codes) >= TEXTS:
                self._codes.clear()
            code = compile_text(text, list(cells), f"<net {self.name}>")
            self._codes[text] = code
        binding.code = code
        binding.function = function_of(code, self._names, cells)
        return binding

    def _name(self) -> None:
        """Give names to all that the text can speak of, but for the cells."""
        names: dict[str, Any] = {"__builtins__": {}}
        variables: dict[str, int] = {}
        for index, operation in enumerate(self.operations):
            names[f"g{index}"] = operation.run
            for blob in (*operation.spec.inputs, *operation.spec.outputs):
                variables.setdefault(blob, len(variables))
            if isinstance(operation, StopCheck):
                names[f"e{index}"] = operation.end
                continue
            names[f"k{index}"] = operation.kernel
            names[f"u{index}"] = operation.definition.ufunc
            names[f"p{index}"] = operation.put
            for argument, value in operation.given.items():
                names[f"c{index}_{argument}"] = value
        self._variables, self._names = variables, names

    def _call(
        self,
        index: int,
        operation: PreparedOperation | StopCheck,
        slots: dict[str, _Slot | None],
        binding: _Binding,
        scratch: dict[str, CellType],
    ) -> tuple[str | None, bool]:
        """(The text that does an operation, whether it is sure to be short).

        No text if the operation has to find its blobs by itself.
        """
        spec = operation.spec
        inputs: list[_Slot] = []
        for name in spec.inputs:
            slot = slots[name]
            if slot is None:
                return None, False
            inputs.append(slot)
        if isinstance(operation, StopCheck):
            if inputs[0].blob.value.size != 1:
                return None, False
            self._watch(binding, spec.inputs, inputs)
            return f"v{inputs[0].variable}.item() and e{index}()", True
        if operation.wants_context:
            return None, False
        if operation.definition.constant and not inputs:
            constant = self._constant(index, operation, slots, binding)
            if constant is not None:
                return constant, True
        arguments = [f"{name}=c{index}_{name}" for name in operation.given]
        if not operation.takes_out:
            self._watch(binding, spec.inputs, inputs)
            values = ", ".join([*(f"v{slot.variable}" for slot in inputs), *arguments])
            return f"p{index}(workspace, k{index}({values}))", False
        target, record = slots[spec.outputs[0]], operation.record
        if target is None or record is None or record[1:] != (target.shape, target.dtype):
            return None, False
        if record[0] != [(slot.shape, slot.dtype) for slot in inputs]:
            return None, False
        self._watch(binding, spec.inputs, inputs)
        binding.watch(spec.outputs[0], target, written=True)
        out = f"w{target.variable}"
        short = all(slot.blob.value.nbytes <= SHORT for slot in (*inputs, target))
        if operation.as_ufunc({slot.dtype for slot in inputs}, target.dtype):
            values = ", ".join(f"w{slot.variable}" for slot in inputs)
            if target.blob.value.size == 1 and any(slot.blob is target.blob for slot in inputs):
                # NumPy takes four times as long to write one number in place.
                scratch[f"s{index}"] = CellType(np.empty(target.shape, target.dtype))
                return f"u{index}({values}, s{index}); {out}[...] = s{index}", short
            return f"u{index}({values}, {out})", short
        values = ", ".join([*(f"v{slot.variable}" for slot in inputs), f"out={out}", *arguments])
        return f"(r := k{index}({values})) is {out} or p{index}(workspace, r)", short

    def _constant(
        self,
        index: int,
        operation: PreparedOperation,
        slots: dict[str, _Slot | None],
        binding: _Binding,
    ) -> str | None:
        """The text for an operation whose result is always the same, if that is small."""
        (name,) = operation.spec.outputs
        target = slots[name]
        if target is None or target.blob.value.nbytes >= MINIMUM:
            return None
        value = self._names.get(f"q{index}")
        if value is None:
            value = self._names[f"q{index}"] = np.array(operation.kernel(**operation.arguments))
        if (value.shape, value.dtype) != (target.shape, target.dtype):
            return None
        binding.watch(name, target, written=True)
        return f"w{target.variable}[...] = q{index}"

    @staticmethod
    def _watch(binding: _Binding, names: Sequence[str], slots: Sequence[_Slot]) -> None:
        for name, slot in zip(names, slots, strict=True):
            binding.watch(name, slot)
