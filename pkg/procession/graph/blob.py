"""BlobReference: the name of a value, and the net that it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from procession.errors import GraphError, UnknownOperatorError
from procession.graph.scope import CurrentNameScope
from procession.operators import REGISTRY


class _NoNetError(GraphError, AttributeError):
    """An operator is asked of a reference that came from no net."""


class BlobReference:
    """The name of a blob. Equal to its name as a string, and hashed like it.

    Operators are methods: `x.Relu()` is `x.Net().Relu([x])`. Caffe2: core.BlobReference.
    """

    __slots__ = ("__weakref__", "_meta", "_name", "_net")

    _meta: dict[Any, Any]

    def __init__(self, name: str | BlobReference, net: Any = None) -> None:
        if not isinstance(name, (str, BlobReference)):
            raise TypeError(f"a blob's name is a string, not {name!r}")
        self._name = str(name)
        self._net = net

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f'BlobReference("{self._name}")'

    def __hash__(self) -> int:
        return hash(self._name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (str, BlobReference)):
            return self._name == str(other)
        return NotImplemented

    def __add__(self, suffix: str) -> BlobReference:
        if not isinstance(suffix, str):
            return NotImplemented
        return BlobReference(self._name + suffix, self._net)

    def __radd__(self, prefix: str) -> BlobReference:
        if not isinstance(prefix, str):
            return NotImplemented
        return BlobReference(prefix + self._name, self._net)

    def Net(self) -> Any:
        """The net that made this reference, if any."""
        return self._net

    @property
    def meta(self) -> dict[Any, Any]:
        """What a script notes about this very reference; other references do not have it."""
        try:
            found: dict[Any, Any] = object.__getattribute__(self, "_meta")
        except AttributeError:
            found = self._meta = {}
        return found

    @meta.setter
    def meta(self, noted: dict[Any, Any]) -> None:
        self._meta = noted

    def GetNameScope(self) -> str:
        """The part of the name up to and with the last slash."""
        return self._name[: self._name.rfind("/") + 1]

    def GetUnscopedName(self) -> str:
        """The part of the name after the last slash."""
        return self._name[self._name.rfind("/") + 1 :]

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        if operator.startswith("__"):
            raise AttributeError(operator)
        if operator not in REGISTRY:
            try:
                REGISTRY[operator]
            except UnknownOperatorError as error:
                error.message = f"a BlobReference has no {operator!r}: {error.message}"
                raise
        if self._net is None:
            raise _NoNetError(f"blob {self._name!r} belongs to no net: call net.{operator}(...)")
        add = getattr(self._net, operator)

        def call(inputs: Any = (), *arguments: Any, **keywords: Any) -> Any:
            more = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            return add([self, *more], *arguments, **keywords)

        return call

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *REGISTRY]

    def __getstate__(self) -> Any:
        # A net may hold functions that cannot be pickled; the name is what matters elsewhere.
        return self._name

    def __setstate__(self, state: Any) -> None:
        self._name, self._net = state, None


def ScopedName(name: str) -> str:
    """`name` with the scope in force before it. Caffe2: the same."""
    return CurrentNameScope() + name


def ScopedBlobReference(name: str, net: Any = None) -> BlobReference:
    """A reference to `name` in the scope in force. Caffe2: the same."""
    return BlobReference(ScopedName(name), net)
