"""One operator of a program, ready to run: kernel, buffers, errors."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from procession.blobs.blob import Blob, is_tensor
from procession.errors import (
    BlobNotFoundError,
    OperatorError,
    OutOfSharedMemoryError,
    TornBlobError,
)
from procession.operators import Definition
from procession.operators.registry import REQUIRED, WRITTEN
from procession.runtime.program import NetProgram, Operation
from procession.runtime.run import TaskRun
from procession.runtime.workspace import Workspace

_RAISED_BY = "procession_operator_error"
"""Where a KeyboardInterrupt keeps which operator it came out of."""


def interrupt_as_failure(error: KeyboardInterrupt) -> OperatorError:
    """What a KeyboardInterrupt is where nobody pressed anything: one that an operator raised."""
    known: OperatorError | None = vars(error).pop(_RAISED_BY, None)
    return known or OperatorError("an operator raised KeyboardInterrupt")


@dataclass
class OperationContext:
    """See `procession.operators.registry.Context`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    workspace: Any
    state: dict[str, Any]
    task: TaskRun
    number: int
    """That of the operation."""
    failure: BaseException | None = None
    """What a net raised that the kernel ran."""

    def check(self) -> None:
        """Raise if the run was called off, for kernels that wait."""
        try:
            self.task.enter(self.number)
        except BaseException as error:
            self.failure = error
            raise

    def run(self, net: NetProgram, workspace: Workspace | None = None) -> None:
        """Run a net that is an argument, in the operator's workspace or in a child of it."""
        if not isinstance(net, NetProgram):
            raise TypeError(f"a net to run is given as its message, net.Proto(), not as {net!r}")
        try:
            self.task.net(net, self.workspace if workspace is None else workspace)
            self.task.enter(self.number)
        except BaseException as error:
            self.failure = error
            raise


def describe(value: Any) -> str:
    """`float32(2, 3)` for a tensor, the type for anything else."""
    if is_tensor(value):
        return f"{value.dtype}{value.shape}".replace(",)", ")")
    return type(value).__name__


Look = tuple[tuple[int, ...], np.dtype[Any]]


def look(values: Iterable[Any]) -> list[Look | None]:
    """What inputs look like: shape and dtype of each, None for what is no tensor."""
    return [(value.shape, value.dtype) if is_tensor(value) else None for value in values]


def targets(
    inputs: Sequence[Any], outputs: Sequence[Any], in_place: Collection[tuple[int, int]]
) -> list[bool]:
    """For each output, whether a kernel that takes `outs` may be handed the memory of its blob.

    It may not if another output is that blob as well, or an input is that the kernel does not
    declare to be `in_place` with it. What stands for the blobs is compared by identity.
    """
    return [
        not any(other is blob for place, other in enumerate(outputs) if place != index)
        and all((read, index) in in_place for read, each in enumerate(inputs) if each is blob)
        for index, blob in enumerate(outputs)
    ]


def describe_exception(error: BaseException) -> str:
    """Type and message, whatever its own methods do."""
    name = type(error).__qualname__
    if type(error).__module__ not in ("builtins", "__main__"):
        name = f"{type(error).__module__}.{name}"
    try:
        text = str(error)
    except BaseException:
        return f"{name} (its message could not be made)"
    return f"{name}: {text}" if text else name


def format_traceback(error: BaseException) -> str:
    """The traceback as text, as far as the exception lets itself be printed."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return "".join(traceback.format_tb(error.__traceback__)) + describe_exception(error)


def _same(one: Any, other: Any) -> bool:
    """Whether two arguments are the same, for sure."""
    return type(one) in (bool, int, float, str) and bool(one == other)


class PreparedOperation:
    """An operation with its kernel at hand, and what it keeps from run to run.

    A kernel that takes `out` or `outs` is handed the output blobs' own memory from the second run
    on, for as long as the inputs have the shapes and dtypes they had: what the results will look
    like was noted down the first time.
    """

    skip: int | None = None

    def __init__(self, spec: Operation, definition: Definition) -> None:
        self.spec = spec
        self.definition = definition
        self.kernel = definition.kernel
        self.arguments = {
            name: value for name, value in definition.arguments.items() if value is not REQUIRED
        }
        self.takes_out = "out" in definition.requests
        self.takes_outs = "outs" in definition.requests
        self.wants_context = "context" in definition.requests
        self.given = dict(spec.arguments)
        """Those arguments that the kernel does not know by itself."""
        if "rng" in definition.requests:
            self.given["rng"] = np.random.default_rng(spec.seed)
        self.arguments |= self.given
        self.plain = (
            definition.ufunc is not None
            and len(spec.inputs) == getattr(definition.ufunc, "nin", None)
            and all(_same(self.given[name], definition.arguments[name]) for name in self.given)
        )
        """Whether the ufunc will do for inputs of one type; see `as_ufunc`."""
        self._state: dict[str, Any] = {}
        # Replaced as one because instances of a step share the operation.
        self.record: tuple[Any, tuple[int, ...], np.dtype[Any]] | None = None
        """(what the inputs looked like, shape of the result, its dtype), if `out` can be given."""
        self.records: tuple[Any, list[Look | None]] | None = None
        """(what the inputs looked like, what each result does), if `outs` can be given."""

    def as_ufunc(self, inputs: set[np.dtype[Any]], result: np.dtype[Any]) -> bool:
        """Whether the ufunc does what the kernel does, for inputs of these types."""
        if not self.plain or len(inputs) != 1:
            return False
        (dtype,) = inputs
        ufunc: Any = self.definition.ufunc
        try:
            return bool(ufunc(*[np.ones(1, dtype)] * ufunc.nin).dtype == result)
        except TypeError:
            return False

    def blob(self, name: str, workspace: Workspace, task: TaskRun) -> Blob:
        """A blob that it reads.

        Raises:
            BlobNotFoundError: It is not there.
            TornBlobError: Its value is lost.
        """
        blob = workspace.find(name)
        if blob is None:
            raise self._missing(name, workspace, task.name)
        return blob

    def run(self, workspace: Workspace, task: TaskRun) -> None:
        """Read the inputs, call the kernel, store the outputs.

        Raises:
            BlobNotFoundError: An input is not there.
            OperatorError: The kernel raised, or did not return what it should.
            OutOfSharedMemoryError: No memory for the outputs.
            Exception: What a net raised that the operator ran.
        """
        values = [self.blob(name, workspace, task).value for name in self.spec.inputs]
        if self.wants_context:
            self._run_with_context(workspace, values, task)
            return
        try:
            if self.takes_out:
                self._run_with_out(workspace, values)
            elif self.takes_outs:
                self._run_with_outs(workspace, values, self.arguments)
            else:
                result = self.kernel(*values, **self.arguments)
                self.put(workspace, result)
        except BaseException as error:
            self.fail(error, workspace, task, values)

    def _run_with_context(self, workspace: Workspace, values: list[Any], task: TaskRun) -> None:
        spec = self.spec
        context = OperationContext(
            spec.inputs, spec.outputs, workspace, self._state, task, spec.number
        )
        try:
            if self.takes_outs:
                self._run_with_outs(workspace, values, {"context": context, **self.arguments})
            else:
                self.put(workspace, self.kernel(*values, context=context, **self.arguments))
        except BaseException as error:
            if error is context.failure:
                raise
            self.fail(error, workspace, task, values)

    def _run_with_out(self, workspace: Workspace, values: list[Any]) -> None:
        name = self.spec.outputs[0]
        blob = workspace.make(name)
        seen = look(values)
        record = self.record
        if record is not None and record[0] == seen:
            target = blob.target(record[1], record[2])
            try:
                result = self.kernel(*values, out=target, **self.arguments)
            except BaseException:
                blob.discard()
                raise
            blob.store(result, given=result is not target)
        else:
            result = self.kernel(*values, **self.arguments)
            if isinstance(result, (np.generic, int, float)):
                # NumPy gives scalars where an array would have no dimension.
                result = np.asarray(result)
            # What objects will make of it cannot be told.
            known = is_tensor(result) and None not in seen
            self.record = (seen, result.shape, result.dtype) if known else None
            blob.store(result, given=True)
        workspace.keep(name, blob)

    def _run_with_outs(
        self, workspace: Workspace, values: list[Any], arguments: dict[str, Any]
    ) -> None:
        spec = self.spec
        blobs = [workspace.make(name) for name in spec.outputs]
        inputs = [workspace.find(name) for name in spec.inputs]
        seen = look(values)
        records = self.records
        outs: list[Any] = [None] * len(blobs)
        known = records is not None and records[0] == seen
        try:
            if records is not None:
                fit = targets(inputs, blobs, self.definition.in_place)
                forms = records[1] if known else self._carried_on(inputs, blobs, seen)
                for index, (blob, form) in enumerate(zip(blobs, forms, strict=True)):
                    if form is not None and fit[index]:
                        outs[index] = blob.target(*form)
            result = self.kernel(*values, outs=tuple(outs), **arguments)
            if not isinstance(result, tuple):
                raise TypeError("a kernel that takes `outs` returns a tuple of its results")
            results = self._values(result)
            if not known:
                # What objects will make of it cannot be told.
                self.records = seen, [None] * len(results) if None in seen else look(results)
            for name, blob, value, out in zip(spec.outputs, blobs, results, outs, strict=True):
                if value is not WRITTEN:
                    blob.store(value, given=value is not out)
                    workspace.keep(name, blob)
                elif out is not None:
                    blob.discard()
        except BaseException:
            for blob, out in zip(blobs, outs, strict=True):
                if out is not None:
                    blob.discard()
            raise

    def _carried_on(
        self, inputs: list[Any], outputs: list[Any], seen: list[Look | None]
    ) -> list[Look | None]:
        """What results look like that are written over their inputs, whatever the others are."""
        forms: list[Look | None] = [None] * len(outputs)
        for read, written in self.definition.in_place:
            there = read < len(inputs) and written < len(outputs)
            if there and inputs[read] is outputs[written]:
                forms[written] = seen[read]
        return forms

    def put(self, workspace: Workspace, result: Any) -> None:
        """Store what the kernel returned.

        Raises:
            ValueError: There are not as many values as outputs.
        """
        if result is WRITTEN:
            return
        for name, value in zip(self.spec.outputs, self._values(result), strict=True):
            if value is WRITTEN:
                continue
            blob = workspace.make(name)
            # A user's function may hold on to what it put out; a kernel gives it away.
            blob.store(value, given=not self.wants_context)
            workspace.keep(name, blob)

    def put_one(self, workspace: Workspace, index: int, value: Any) -> None:
        """Store one of the results of a kernel that takes `outs`."""
        name = self.spec.outputs[index]
        blob = workspace.make(name)
        blob.store(np.asarray(value) if isinstance(value, np.generic) else value, given=True)
        workspace.keep(name, blob)

    def _values(self, result: Any) -> tuple[Any, ...]:
        spec = self.spec
        if len(spec.outputs) == 1 and not isinstance(result, tuple):
            result = (result,)
        elif not spec.outputs and result is None:
            result = ()
        if not isinstance(result, tuple) or len(result) != len(spec.outputs):
            count = len(result) if isinstance(result, tuple) else 1
            raise ValueError(f"the kernel returned {count} values for {len(spec.outputs)} outputs")
        return tuple(np.asarray(v) if isinstance(v, np.generic) else v for v in result)

    def _where(self, workspace: Workspace, task: str, values: list[Any]) -> str:
        spec = self.spec
        text = f"operator {spec} of net {spec.net!r} (task {task!r}, node {workspace.node!r})"
        inputs = ", ".join(
            f"{name} {describe(value)}" for name, value in zip(spec.inputs, values, strict=False)
        )
        text += f"\n  inputs: {inputs or 'none'}"
        objects = [n for n, v in zip(spec.inputs, values, strict=False) if isinstance(v, list)]
        if objects:
            text += f"\n  ({objects[0]} is a list: for a tensor, feed numpy.array(...))"
        return text + spec.origin

    def _missing(
        self, name: str, workspace: Workspace, task: str
    ) -> BlobNotFoundError | TornBlobError:
        spec = self.spec
        error = workspace.not_found(name)
        error.task = task
        error.message += f"\n  wanted by operator {spec} of net {spec.net!r} (task {task!r})"
        error.message += spec.origin
        return error

    def fail(
        self, error: BaseException, workspace: Workspace, task: TaskRun, values: list[Any]
    ) -> NoReturn:
        """Raise what an error of the kernel, or of storing its results, is to the caller."""
        if isinstance(error, OutOfSharedMemoryError):
            error.message += f"\n  while running {self._where(workspace, task.name, values)}"
            raise error
        # SystemExit and its like, too: an operator does not end the process.
        failed = OperatorError(
            f"{describe_exception(error)}\n  in {self._where(workspace, task.name, values)}",
            net=self.spec.net,
            operator=self.spec.type,
            node=workspace.node,
            task=task.name,
            source=self.spec.source,
            remote_traceback=format_traceback(error),
        )
        if isinstance(error, KeyboardInterrupt):
            # Most likely Ctrl-C, which is the caller's own.
            vars(error).setdefault(_RAISED_BY, failed)
            raise error
        raise failed from error
