"""Which parameters get an optimizer or a regularizer of their own: those made in a `with` block.

with UseOptimizer({"WEIGHT": AdamOptimizer(0.01), "BIAS": SgdOptimizer(0.1)}):
brew.fc(model, "x", "y", 4, 2)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

from procession import ContextError

DEFAULT_OPTIM = DEFAULT_MODIFIER = "DEFAULT"
"""The name of what is for all that nothing else is for."""

_Names = tuple[Mapping[str, Any], ...]


class ModifierContext:
    """What is in force, by name: a tag of parameters, or any other. Those inside go before.

    Caffe2: modifier_context.ModifierContext.
    """

    _stack: ClassVar[ContextVar[_Names]]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._stack = ContextVar(f"procession {cls.__name__}", default=())

    @classmethod
    def current(cls) -> ModifierContext:
        """What is in force here; each thread, and each asyncio task, has its own."""
        return cls()

    def _find(self, name: str) -> Any:
        return next((each[name] for each in reversed(self._stack.get()) if name in each), None)

    def _has_modifier(self, name: str) -> bool:
        return any(name in each for each in self._stack.get())

    def _get_modifier(self, name: str) -> Any:
        if not self._has_modifier(name):
            raise ContextError(f"{type(self).__name__} has nothing called {name!r} here")
        return self._find(name)

    def push_modifiers(self, modifiers: Mapping[str, Any]) -> None:
        """Have these in force, until `pop_modifiers`."""
        self._stack.set((*self._stack.get(), dict(modifiers)))

    def pop_modifiers(self) -> None:
        """Undo the last `push_modifiers` that was not undone.

        Raises:
            ContextError: There is none.
        """
        if not self._stack.get():
            raise ContextError(f"nothing was put into {type(self).__name__} here")
        self._stack.set(self._stack.get()[:-1])

    def chosen(self, tags: Iterable[str]) -> Any:
        """What is for a parameter of these tags, else what is for all; None if there is neither.

        Raises:
            ContextError: Two of the tags have something.
        """
        found = [tag for tag in tags if self._has_modifier(tag)]
        if len(found) > 1:
            raise ContextError(f"{type(self).__name__} has something for each of the tags {found}")
        return self._find(found[0] if found else DEFAULT_MODIFIER)


class OptimizerContext(ModifierContext):
    """The optimizers in force. Caffe2: optimizer_context.OptimizerContext."""

    def has_optimizer(self, name: str) -> bool:
        """Whether there is one of that name."""
        return self._has_modifier(name)

    def get_optimizer(self, name: str) -> Any:
        """The one of that name.

        Raises:
            ContextError: There is none.
        """
        return self._get_modifier(name)


class RegularizerContext(ModifierContext):
    """The regularizers in force. Caffe2: regularizer_context.RegularizerContext."""

    def has_regularizer(self, name: str) -> bool:
        """Whether there is one of that name."""
        return self._has_modifier(name)

    def get_regularizer(self, name: str) -> Any:
        """The one of that name.

        Raises:
            ContextError: There is none.
        """
        return self._get_modifier(name)


class UseModifierBase:
    """What parameters get that are made in its `with` block.

    Args:
        modifier_or_dict: By tag or name; or one for all.

    Caffe2: modifier_context.UseModifierBase.
    """

    _context: ClassVar[type[ModifierContext]]

    def __init__(self, modifier_or_dict: Any) -> None:
        given = modifier_or_dict
        self._modifiers = given if isinstance(given, dict) else {DEFAULT_MODIFIER: given}

    def _context_class(self) -> type[ModifierContext]:
        return self._context

    def __enter__(self) -> UseModifierBase:
        self._context_class().current().push_modifiers(self._modifiers)
        return self

    def __exit__(self, *exception: object) -> None:
        self._context_class().current().pop_modifiers()


class UseOptimizer(UseModifierBase):
    """Gives parameters an optimizer of their own. Caffe2: optimizer_context.UseOptimizer."""

    _context = OptimizerContext


class UseRegularizer(UseModifierBase):
    """Gives parameters a regularizer. Caffe2: regularizer_context.UseRegularizer."""

    _context = RegularizerContext
