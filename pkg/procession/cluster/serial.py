"""Objects and exceptions as bytes, and what to say when that cannot be.

Plans and Python objects go as cloudpickle. An exception goes as its own pickle *and* as text,
because what a user's code raises need not survive pickling.
"""

from __future__ import annotations

import contextlib
import inspect
import pickle
from typing import Any, NamedTuple

import cloudpickle

from procession.errors import (
    ProcessionError,
    RemoteError,
    RemoteTraceback,
    SerializationError,
)
from procession.runtime.operation import describe_exception, format_traceback
from procession.runtime.program import NetProgram, NodeProgram


def dumps(value: Any, what: str) -> bytes:
    """The value as cloudpickle; `what` says in an error what it is.

    Raises:
        SerializationError: It cannot be pickled.
    """
    try:
        return cloudpickle.dumps(value)  # type: ignore[no-any-return]
    except Exception as error:
        raise SerializationError(
            f"{what} cannot be pickled: {type(error).__name__}: {error}", what=what
        ) from error


def loads(data: bytes, what: str) -> Any:
    """The value back.

    Raises:
        SerializationError: It cannot be unpickled here.
    """
    try:
        return pickle.loads(data)
    except Exception as error:
        raise SerializationError(
            f"{what} cannot be unpickled here: {type(error).__name__}: {error}", what=what
        ) from error


def _picklable(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:
        return False
    return True


def _builder_arguments(builder: Any, args: Any = (), kwargs: Any = None) -> list[tuple[str, Any]]:
    """(what, value) for what the builder of a Python operator's function is called with."""
    kwargs = kwargs or {}
    names: list[Any] = [*range(len(args)), *kwargs]
    values = [*args, *kwargs.values()]
    try:
        parameters = [*inspect.signature(builder).parameters.values()]
    except (TypeError, ValueError):
        parameters = []  # as of some that are written in C
    positional = [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    names[: len(args)] = (positional + names[len(positional) : len(args)])[: len(args)]
    of = f"of builder {getattr(builder, '__qualname__', repr(builder))}"
    return [(f"argument {name} {of}", each) for name, each in zip(names, values, strict=True)]


def _inside(function: Any) -> list[tuple[str, Any]]:
    """(what, value) for what a function takes along; see `operators.python` for builders."""
    if isinstance(function, (tuple, list)):
        if function and callable(function[0]):
            found = _inside(function[0])
            with contextlib.suppress(TypeError):
                found += _builder_arguments(*function)
            return found
        return [(f"item {place}", part) for place, part in enumerate(function)]
    code = getattr(function, "__code__", None)
    if code is None:
        bound = getattr(function, "__self__", None)
        state = getattr(function if bound is None else bound, "__dict__", {})
        return [(f"its attribute {name!r}", value) for name, value in state.items()]
    found = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((f"its variable {name!r}", cell.cell_contents))
        except ValueError:
            continue  # not assigned yet
    names = {name for name in code.co_names if name in function.__globals__}
    return found + [(f"the global {name!r}", function.__globals__[name]) for name in sorted(names)]


def dump_program(program: NodeProgram) -> bytes:
    """A node's program as cloudpickle.

    Raises:
        SerializationError: Something in it cannot be pickled; the message says which
            argument of which operator, and for a function, which variable of it.
    """
    try:
        return cloudpickle.dumps(program)  # type: ignore[no-any-return]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        cause: Exception = error
    for task, net in program.nets():
        for operation in net.operations:
            for argument, value in operation.arguments.items():
                # What is wrong with a net among them is told by its own operators' arguments.
                values = value if isinstance(value, (list, tuple)) else (value,)
                if any(isinstance(each, NetProgram) for each in values) or _picklable(value):
                    continue
                culprit = f"{value!r}"
                for what, inner in _inside(value):
                    if not _picklable(inner):
                        culprit += f", for {what} = {inner!r},"
                        break
                raise SerializationError(
                    f"{culprit} cannot be pickled: {reason}\n"
                    f"  it is argument {argument!r} of operator {operation} in net {net.name!r} "
                    f"(task {task!r}), which is to run on node {program.node!r}\n"
                    f"  added at {operation.source}",
                    what=culprit,
                ) from cause
    for definition in program.definitions:
        if not _picklable(definition):
            what = f"the operator {definition.name!r}"
            raise SerializationError(f"{what} cannot be pickled: {reason}", what=what) from cause
    raise SerializationError(
        f"the program for node {program.node!r} cannot be pickled: {reason}", what="program"
    ) from cause


CAUSES_MOST = 10
"""How many causes of an exception are brought along."""


class Report(NamedTuple):
    """An exception on its way from a worker."""

    error: bytes | None
    """The exception by pickle; None when it does not survive that."""
    text: str
    """Its type and message."""
    cause: tuple[Any, ...] | None
    """The report of its cause, as a plain tuple."""
    traceback: str

    @classmethod
    def of(cls, error: BaseException, cause: BaseException | None = None, depth: int = 0) -> Report:
        """Pack an exception and its cause, to a reasonable depth: causes can go in a circle."""
        data = None
        try:
            data = cloudpickle.dumps(error)
            pickle.loads(data)
        except BaseException:
            # What its methods do when they are pickled is anybody's guess; the text has to do.
            data = None
        cause = cause or error.__cause__
        if depth == CAUSES_MOST:
            cause = None
        return cls(
            error=data,
            text=describe_exception(error),
            cause=None if cause is None else tuple(cls.of(cause, depth=depth + 1)),
            traceback=format_traceback(error),
        )

    def unpack(self, depth: int = 0) -> BaseException:
        """The exception again, or a `RemoteError` with its text; the causes chained behind it."""
        error: BaseException | None = None
        if self.error is not None:
            try:
                error = pickle.loads(self.error)
            except BaseException:
                # A class that cannot be imported on this side.
                error = None
        if not isinstance(error, BaseException):
            error = RemoteError(self.text)
        if self.cause is not None:
            error.__cause__ = Report._make(self.cause).unpack(depth + 1)
        elif depth or not isinstance(error, ProcessionError):
            error.__cause__ = RemoteTraceback(self.traceback)
        return error
