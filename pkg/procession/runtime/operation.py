"""One operator of a program, ready to run: kernel, buffers, errors."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np

from procession.blobs.blob import Blob, is_tensor
from procession.errors import BlobNotFoundError, OperatorError, SharedMemoryError
from procession.operators import Definition
from procession.operators.registry import REQUIRED
from procession.runtime.program import Operation
from procession.runtime.workspace import Workspace, not_found


@dataclass
class OperationContext:
    """See `procession.operators.registry.Context`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    workspace: Any
    state: dict[str, Any]


def describe(value: Any) -> str:
    """`float32(2, 3)` for a tensor, the type for anything else."""
    if is_tensor(value):
        return f"{value.dtype}{value.shape}".replace(",)", ")")
    return type(value).__name__


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


class PreparedOperation:
    """An operation with its kernel at hand, and what it keeps from run to run.

    A kernel that takes `out` is handed the output blob's own memory from the second run on, for as
    long as the inputs have the shapes and dtypes they had: what the result will look
    like was noted down the first time.
    """

    def __init__(self, spec: Operation, definition: Definition) -> None:
        self.spec = spec
        self._kernel = definition.kernel
        self._arguments = {
            name: value for name, value in definition.arguments.items() if value is not REQUIRED
        } | dict(spec.arguments)
        self._takes_out = "out" in definition.requests
        self._wants_context = "context" in definition.requests
        if "rng" in definition.requests:
            self._arguments["rng"] = np.random.default_rng(spec.seed)
        self._state: dict[str, Any] = {}
        # (what the inputs looked like, what the result looked like), replaced as one because
        # instances of a step share the operation.
        self._record: tuple[Any, tuple[int, ...], np.dtype[Any]] | None = None

    def run(self, workspace: Workspace, task: str) -> None:
        """Read the inputs, call the kernel, store the outputs.

        Raises:
            BlobNotFoundError: An input is not there.
            OperatorError: The kernel raised, or did not return what it should.
            SharedMemoryError: No memory for the outputs.
        """
        spec = self.spec
        blobs: list[Blob] = []
        for name in spec.inputs:
            blob = workspace.find(name)
            if blob is None:
                raise self._missing(name, workspace, task)
            blobs.append(blob)
        values = [blob.value for blob in blobs]
        try:
            if self._takes_out:
                self._run_with_out(workspace, values)
            else:
                self._run_without(workspace, values)
        except SharedMemoryError as error:
            error.message += f"\n  while running {self._where(workspace, task, values)}"
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # SystemExit and its like, too: an operator does not end the process.
            raise self._failed(error, workspace, task, values) from error

    def _run_with_out(self, workspace: Workspace, values: list[Any]) -> None:
        name = self.spec.outputs[0]
        blob = workspace.make(name)
        seen = [(value.shape, value.dtype) if is_tensor(value) else None for value in values]
        record = self._record
        if record is not None and record[0] == seen:
            target = blob.target(record[1], record[2])
            try:
                result = self._kernel(*values, out=target, **self._arguments)
            except BaseException:
                blob.discard()
                raise
            blob.store(result, given=result is not target)
        else:
            result = self._kernel(*values, **self._arguments)
            if isinstance(result, (np.generic, int, float)):
                # NumPy gives scalars where an array would have no dimension.
                result = np.asarray(result)
            # What objects will make of it cannot be told.
            known = is_tensor(result) and None not in seen
            self._record = (seen, result.shape, result.dtype) if known else None
            blob.store(result, given=True)
        workspace.keep(name, blob)

    def _run_without(self, workspace: Workspace, values: list[Any]) -> None:
        spec = self.spec
        if self._wants_context:
            context = OperationContext(spec.inputs, spec.outputs, workspace, self._state)
            result = self._kernel(*values, context=context, **self._arguments)
        else:
            result = self._kernel(*values, **self._arguments)
        if len(spec.outputs) == 1 and not isinstance(result, tuple):
            result = (result,)
        elif not spec.outputs and result is None:
            result = ()
        if not isinstance(result, tuple) or len(result) != len(spec.outputs):
            count = len(result) if isinstance(result, tuple) else 1
            raise ValueError(f"the kernel returned {count} values for {len(spec.outputs)} outputs")
        for name, value in zip(spec.outputs, result, strict=True):
            blob = workspace.make(name)
            value = np.asarray(value) if isinstance(value, np.generic) else value
            # A user's function may hold on to what it put out; a kernel gives it away.
            blob.store(value, given=not self._wants_context)
            workspace.keep(name, blob)

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
        if spec.source:
            text += f"\n  added at {spec.source}"
        return text

    def _missing(self, name: str, workspace: Workspace, task: str) -> BlobNotFoundError:
        spec = self.spec
        where = f"the workspace of node {workspace.node!r}"
        error = not_found(name, where, workspace.names(), node=workspace.node)
        error.task = task
        error.message += f"\n  wanted by operator {spec} of net {spec.net!r} (task {task!r})"
        if spec.source:
            error.message += f"\n  added at {spec.source}"
        return error

    def _failed(
        self, error: BaseException, workspace: Workspace, task: str, values: list[Any]
    ) -> OperatorError:
        return OperatorError(
            f"{describe_exception(error)}\n  in {self._where(workspace, task, values)}",
            net=self.spec.net,
            operator=self.spec.type,
            node=workspace.node,
            task=task,
            source=self.spec.source,
            remote_traceback=format_traceback(error),
        )
