"""Parameters that several parts of a model share: name scopes that stand for others.

with ParameterSharing({"right": "left"}):
for side in ("left", "right"):
with NameScope(side):
brew.fc(model, x, "fc", 4, 2)     # one pair of parameters: left/fc_w, left/fc_b
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from procession import GraphError
from procession.core import CurrentNameScope

_Overrides = tuple[Mapping[str, str], ...]

_in_force: ContextVar[_Overrides] = ContextVar("procession parameter sharing", default=())


def _scope(name: str) -> str:
    return f"{name}/" if name and not name.endswith("/") else name


class ParameterSharingContext:
    """Which name scopes stand for which others, here and now.

    Each thread, and each asyncio task, has its own idea of that. Caffe2:
    parameter_sharing.ParameterSharingContext.
    """

    def get_parameter_name(self, name: str) -> str:
        """The full name of a parameter that is made in the name scope in force."""
        return self._resolved(CurrentNameScope()) + name

    def _resolved(self, scope: str) -> str:
        overrides = {key: value for each in _in_force.get() for key, value in each.items()}
        seen, rest = [scope], ""
        while True:
            # The longest scope around that stands for another one; what is inside it stays.
            ends = [end for end, letter in enumerate(scope, 1) if letter == "/"]
            outer = next((scope[:end] for end in reversed(ends) if scope[:end] in overrides), None)
            if outer is None or overrides[outer] == outer:
                return scope + rest
            scope, rest = overrides[outer], scope[len(outer) :] + rest
            if scope in seen:
                raise GraphError(f"name scopes stand for one another in a circle: {seen}")
            seen.append(scope)

    def add_scope_overrides(self, shared_scopes: Mapping[str, str]) -> None:
        """Let full scopes, each ending in a slash, stand for others, until `pop`."""
        _in_force.set((*_in_force.get(), dict(shared_scopes)))

    def pop(self) -> None:
        """Undo the last `add_scope_overrides` that was not undone.

        Raises:
            GraphError: There is none.
        """
        if not _in_force.get():
            raise GraphError("no name scope stands for another here: there is nothing to undo")
        _in_force.set(_in_force.get()[:-1])


parameter_sharing_context = ParameterSharingContext()
"""The only one there is to be. Caffe2: the same."""


@contextmanager
def ParameterSharing(shared_scopes: Mapping[str, str]) -> Iterator[None]:
    """Inside, parameters that are made in one name scope are those of another.

    Args:
        shared_scopes: Scope -> the scope whose parameters are used in it; both within the name
            scope in force. What a scope stands for may itself stand for another.

    Raises:
        GraphError: A scope is to stand for one inside it, or scopes for one another.
        TypeError: It is no mapping.

    Caffe2: parameter_sharing.ParameterSharing.
    """
    if not isinstance(shared_scopes, Mapping):
        raise TypeError(f"ParameterSharing takes a dict of name scopes, not {shared_scopes!r}")
    around = CurrentNameScope()
    for scope, other in shared_scopes.items():
        if other.startswith(scope):
            raise GraphError(f"name scope {scope!r} cannot stand for {other!r}, which begins so")
    parameter_sharing_context.add_scope_overrides(
        {_scope(around + key): _scope(around + value) for key, value in shared_scopes.items()}
    )
    try:
        yield
    finally:
        parameter_sharing_context.pop()
