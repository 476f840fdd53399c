"""Where one is while building: `with NameScope("t1"):`, `with Node("n1"):`, `with TaskGroup():`.

Each thread, and each asyncio task, has its own idea of where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from procession.errors import GraphError

Self = TypeVar("Self", bound="Managed")

_name_scope: ContextVar[str] = ContextVar("procession name scope", default="")


def CurrentNameScope() -> str:
    """The prefix of blob names in force, empty or ending in a slash. Caffe2: the same."""
    return _name_scope.get()


@contextmanager
def NameScope(prefix: str, reset: bool = False) -> Iterator[str]:
    """Put `prefix/` before the names of blobs made inside. Caffe2: the same.

    Args:
        prefix: Nothing, or a name; a slash is added.
        reset: Start anew instead of adding to the scope around.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"NameScope takes a string, not {prefix!r}")
    around = "" if reset else _name_scope.get()
    token = _name_scope.set(f"{around}{prefix}/" if prefix else around)
    try:
        yield _name_scope.get()
    finally:
        _name_scope.reset(token)


class Managed:
    """An object that is current inside its own `with` block."""

    _stack: ClassVar[ContextVar[tuple[Any, ...]]]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._stack = ContextVar(f"procession {cls.__name__}", default=())

    @classmethod
    def current(cls: type[Self], value: Self | None = None, required: bool = True) -> Self | None:
        """`value` if given, else the innermost one whose `with` block this is.

        Raises:
            GraphError: There is none, and it is required.
        """
        if value is not None:
            return value
        stack = cls._stack.get()
        if stack:
            return stack[-1]  # type: ignore[no-any-return]
        if required:
            raise GraphError(f"no current {cls.__name__}: this belongs in a `with {cls.__name__}`")
        return None

    def __enter__(self: Self) -> Self:
        self._stack.set((*self._stack.get(), self))
        return self

    def __exit__(self, *exception: object) -> None:
        stack = self._stack.get()
        if not stack or stack[-1] is not self:
            raise GraphError(f"{self} was left in another order than entered")
        self._stack.set(stack[:-1])


class DefaultManaged(Managed):
    """A `Managed` that is never missing: outside any block there is a default one."""

    @classmethod
    def current(cls: type[Self], value: Self | None = None, required: bool = True) -> Self:
        """`value` if given, else the innermost one, else a new one made with no arguments."""
        found = super().current(value, required=False)
        return cls() if found is None else found
