"""Where one is while building: `with NameScope("t1"):`, `with Node("n1"):`, `with TaskGroup():`.

Each thread, and each asyncio task, has its own idea of where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ClassVar, Literal, TypeVar, overload

from procession.errors import ContextError

Self = TypeVar("Self", bound="Managed")
Function = TypeVar("Function", bound=Callable[..., Any])

_name_scope: ContextVar[str] = ContextVar("procession name scope", default="")


def CurrentNameScope() -> str:
    """The prefix of blob names in force, empty or ending in a slash. Caffe2: the same."""
    return _name_scope.get()


@contextmanager
def NameScope(prefix: str | None, reset: bool = False) -> Iterator[str]:
    """Put `prefix/` before the names of blobs made inside. Caffe2: the same.

    Args:
        prefix: A name, to which a slash is added; None or an empty one: nothing.
        reset: Start anew instead of adding to the scope around.
    """
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"NameScope takes a string, not {prefix!r}")
    around = "" if reset else _name_scope.get()
    token = _name_scope.set(f"{around}{prefix}/" if prefix else around)
    try:
        yield _name_scope.get()
    finally:
        _name_scope.reset(token)


@contextmanager
def EmptyNameScope() -> Iterator[str]:
    """Put nothing before the names of blobs made inside. Caffe2: the same."""
    with NameScope(None, reset=True) as scope:
        yield scope


class Managed:
    """An object that is current inside its own `with` block, and for its bases as well.

    As a decorator, it is current inside the function. Caffe2: context.Managed.
    """

    _stack: ClassVar[ContextVar[tuple[Any, ...]]] = ContextVar("procession Managed", default=())

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._stack = ContextVar(f"procession {cls.__name__}", default=())

    @classmethod
    def _stacks(cls) -> list[ContextVar[tuple[Any, ...]]]:
        """Those that an object of the class stands on: one for each kind of `with` block it is."""
        return [
            base._stack
            for base in cls.__mro__
            if issubclass(base, Managed) and base not in (Managed, DefaultManaged)
        ]

    @overload
    @classmethod
    def current(
        cls: type[Self], value: Self | None = None, required: Literal[True] = True
    ) -> Self: ...

    @overload
    @classmethod
    def current(cls: type[Self], value: Self | None = None, *, required: bool) -> Self | None: ...

    @classmethod
    def current(cls: type[Self], value: Self | None = None, required: bool = True) -> Self | None:
        """`value` if given, else the innermost one whose `with` block this is.

        Raises:
            ContextError: There is none, and it is required; or `value` is of another class.
        """
        if value is not None:
            if not isinstance(value, cls):
                raise ContextError(f"{cls.__name__}.current takes a {cls.__name__}, not {value!r}")
            return value
        stack = cls._stack.get()
        if stack:
            return stack[-1]  # type: ignore[no-any-return]
        return cls._outside() if required else None

    @classmethod
    def _outside(cls: type[Self]) -> Self:
        raise ContextError(f"no current {cls.__name__}: this belongs in a `with {cls.__name__}`")

    def __enter__(self: Self) -> Self:
        for stack in self._stacks():
            stack.set((*stack.get(), self))
        return self

    def __exit__(self, *exception: object) -> None:
        stacks = self._stacks()
        if not all(stack.get()[-1:] == (self,) for stack in stacks):
            raise ContextError(f"{self} was left in another order than entered")
        for stack in stacks:
            stack.set(stack.get()[:-1])

    def __call__(self, func: Function) -> Function:
        """Decorate a function, so that this one is current inside it."""

        @wraps(func)
        def inside(*arguments: Any, **keywords: Any) -> Any:
            with self:
                return func(*arguments, **keywords)

        return inside  # type: ignore[return-value]


class DefaultManaged(Managed):
    """A `Managed` that is never missing: outside any block there is one made with no arguments.

    It is made when it is first required, and kept: each thread has its own, and so has each asyncio
    task. Caffe2: context.DefaultManaged.
    """

    @classmethod
    def _outside(cls: type[Self]) -> Self:
        made = cls()
        cls._stack.set((made,))
        return made
