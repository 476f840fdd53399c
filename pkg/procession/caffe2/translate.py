"""Errors as scripts for Caffe2 expect them: RuntimeErrors, and a Python operator's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from procession.errors import OperatorError, ProcessionError, RunnableTypeError

_PYTHON = ("Python", "PythonGradient")


_made: dict[str, type[ProcessionError]] = {}


def _also_runtime_error(kind: type[ProcessionError]) -> type[ProcessionError]:
    """The same error, which is a RuntimeError as well."""
    key = f"{kind.__module__}.{kind.__qualname__}"
    if key not in _made:
        _made[key] = type(kind.__name__, (kind, RuntimeError), {"__doc__": kind.__doc__})
    return _made[key]


def _raised_by_function(error: OperatorError) -> BaseException | None:
    """What a function of the script's raised inside an operator."""
    innermost: BaseException = error
    while isinstance(innermost, OperatorError) and innermost.__cause__ is not None:
        if innermost.operator in _PYTHON and not isinstance(innermost.__cause__, OperatorError):
            return innermost.__cause__
        innermost = innermost.__cause__
    return None


@contextmanager
def caffe2_errors() -> Iterator[None]:
    """What fails inside is a RuntimeError as well, and says "enforce fail".

    What a Python operator's function raised comes out as it is.
    """
    try:
        yield
    except RunnableTypeError:
        raise
    except ProcessionError as error:
        if isinstance(error, OperatorError):
            own = _raised_by_function(error)
            if own is not None:
                raise own from own.__cause__
        if not isinstance(error, RuntimeError):
            made = _also_runtime_error(type(error))(error.message)
            made.__dict__.update(error.__dict__)
            made.message = f"[enforce fail] {error.message}"
            raise made.with_traceback(error.__traceback__) from error.__cause__
        if not error.message.startswith("[enforce fail"):
            error.message = f"[enforce fail] {error.message}"
        raise
