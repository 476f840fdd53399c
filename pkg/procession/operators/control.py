"""Control flow inside a net: operators that run nets, which they have as arguments.

If and While run their nets in the operator's own workspace. Do runs its net in a *scope*, a
workspace that sees nothing but the blobs that are handed in, by names of their own; so a body's
names are its own affair. The scopes are on a stack, which a blob holds: a Do in the body of a While
pushes one for each time around, with the values that the gradient needs, and the gradient's Do, in
a While of its own, takes them off again, the last one first.

Inputs and outputs of these operators are all blobs that their nets read and write; a net
writes them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.handles import expect
from procession.operators.registry import REQUIRED, STOPS, WRITTEN, Context, operator


@dataclass(frozen=True)
class Branch:
    """One net runs or the other, as a bool says."""

    condition: str
    """The blob that it is in."""
    then_net: Any
    else_net: Any
    """None: nothing runs."""


@dataclass(frozen=True)
class Loop:
    """A net runs as long as a bool is true, which another net may compute each time."""

    condition: str
    """The blob that it is in."""
    before: Any
    """Runs before the bool is looked at; None: nothing does."""
    body: Any


def truth(value: Any, operator: str, name: str) -> bool:
    """What the condition of an operator says.

    Raises:
        TypeError: It is no bool.
        ValueError: It is several, or none.
    """
    if not isinstance(value, np.ndarray) or value.dtype != np.bool_:
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{operator}: the condition {name!r} must be a bool, not {kind}")
    if value.size != 1:
        raise ValueError(
            f"{operator}: the condition {name!r} must be a single bool, not of shape {value.shape}"
        )
    return bool(value.item())


@operator("If", outputs=(0, None), flow=True)
def if_(condition: Any, *blobs: Any, then_net: Any = REQUIRED, else_net: Any = None) -> Branch:
    """Run one net if the condition is true, another one, if there is one, if not. Caffe2: If.

    Args:
        then_net: What to run if it is true.
        else_net: What to run if it is false.

    Raises:
        TypeError: The condition is no bool.
        ValueError: It is several, or none.
    """
    return Branch(condition, then_net, else_net)


@operator("While", outputs=(0, None), flow=True)
def while_(condition: Any, *blobs: Any, loop_net: Any = REQUIRED, cond_net: Any = None) -> Loop:
    """Run a net again and again, as long as the condition is true. Caffe2: While.

    Args:
        loop_net: What to run.
        cond_net: Run before the condition is looked at, each time, to compute it. Without it
            `loop_net` has to.

    Raises:
        TypeError: The condition is no bool.
        ValueError: It is several, or none.
    """
    return Loop(condition, cond_net, loop_net)


class WorkspaceStack:
    """The scopes that Do operators have made and not yet undone. A copy of it is empty.

    Those that were undone are kept, with what is in them, and used again.
    """

    __slots__ = ("__weakref__", "_scopes", "_used")

    def __init__(self) -> None:
        self._scopes: list[Any] = []
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def clear(self) -> None:
        """Begin anew."""
        self._used = 0

    def push(self, parent: Any, forward: dict[str, str]) -> Any:
        """One scope more."""
        if self._used < len(self._scopes) and not self._scopes[self._used].is_of(parent, forward):
            self._drop(self._used)
        if self._used == len(self._scopes):
            self._scopes.append(parent.scope(forward))
        scope = self._scopes[self._used]
        self._used += 1
        scope.begin()
        return scope

    def last(self, parent: Any, forward: dict[str, str]) -> Any:
        """The same scope as the last time, or a first one."""
        if not self._used:
            return self.push(parent, forward)
        scope = self._scopes[self._used - 1]
        if not scope.is_of(parent, forward):
            self._used -= 1
            return self.push(parent, forward)
        return scope

    def pop(self, forward: dict[str, str]) -> Any:
        """The last scope, which is then off the stack."""
        if not self._used:
            raise ValueError(
                "Do: the stack of scopes is empty: a gradient runs once for each time that the "
                "operator itself has run"
            )
        self._used -= 1
        scope = self._scopes[self._used]
        scope.forward(forward)
        return scope

    def _drop(self, first: int) -> None:
        scopes, self._scopes[first:] = self._scopes[first:], []
        for scope in scopes:
            scope.close()

    def __del__(self) -> None:
        self._drop(0)

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkspaceStack, ()

    def __repr__(self) -> str:
        return f"WorkspaceStack({self._used})"


def _bindings(context: Context, inner: Sequence[str], outer: Sequence[int]) -> dict[str, str]:
    """Name inside -> name outside."""
    if len(inner) != len(outer):
        raise ValueError(f"Do: {len(inner)} inner_blobs, but {len(outer)} outer_blobs_idx")
    if context.inputs[-1:] != context.outputs[-1:] or not context.inputs:
        raise ValueError(
            "Do: the last input and the last output must be the same blob, which CreateScope made"
        )
    names = (*context.inputs[:-1], *context.outputs[:-1])
    bindings: dict[str, str] = {}
    for name, index in zip(inner, outer, strict=True):
        if not 0 <= index < len(names):
            raise ValueError(f"Do: there is no input or output {index} to be {name!r}")
        if name in bindings or names[index] in bindings.values():
            twice = name if name in bindings else names[index]
            raise ValueError(f"Do: {twice!r} is in inner_blobs or outer_blobs_idx twice")
        bindings[name] = names[index]
    left = sorted(set(names) - set(bindings.values()))
    if left:
        raise ValueError(f"Do: no inner blob is {', '.join(map(repr, left))}")
    return bindings


@operator("Do", outputs=(1, None))
def do(
    *blobs: Any,
    net: Any = REQUIRED,
    inner_blobs: Sequence[str] = (),
    outer_blobs_idx: Sequence[int] = (),
    reuse_workspace: bool = False,
    copy_external_blobs: bool = False,
    saved_fwd_blobs: Sequence[str] = (),
    is_gradient_op: bool = False,
    context: Context,
) -> Any:
    """Run a net in a scope of its own. Caffe2: Do.

    The last input and the last output are the blob with the stack of scopes (see CreateScope). All
    others are seen from inside, by the names in `inner_blobs`.

    Args:
        net: What to run.
        inner_blobs: The names that the inputs and outputs have inside.
        outer_blobs_idx: For each of them, which one it is; outputs are counted on from the inputs.
            A blob that is both has one inner name, and either number.
        reuse_workspace: Run in the last scope of the stack, with what is in it, instead of a new
            one.
        copy_external_blobs: Keep copies of the outer blobs in the scope, as they are afterwards,
            for the gradient.
        saved_fwd_blobs: What the gradient finds in the scope, of the blobs that are the net's own.
        is_gradient_op: This is the gradient of a Do: run in its scope, and take that off the stack.

    Raises:
        ValueError: The names and numbers do not fit, or no scope is left for a gradient, or the
            scope lacks what the gradient needs.
        TypeError: The last input is no stack of scopes.
    """
    if reuse_workspace and (copy_external_blobs or is_gradient_op):
        other = "copy_external_blobs" if copy_external_blobs else "a gradient"
        raise ValueError(f"Do: reuse_workspace and {other}: a gradient needs a scope of its own")
    forward = context.state.get("forward")
    if forward is None:
        forward = _bindings(context, inner_blobs, outer_blobs_idx)
        context.state["forward"] = forward
    stack = expect(blobs[-1], WorkspaceStack, "CreateScope")
    if is_gradient_op:
        scope = stack.pop(forward)
        lost = [blob for blob in saved_fwd_blobs if scope.find(str(blob)) is None]
        if lost:
            raise ValueError(f"Do: the scope of the forward Do has no {', '.join(map(repr, lost))}")
    elif reuse_workspace:
        scope = stack.last(context.workspace, forward)
    else:
        scope = stack.push(context.workspace, forward)
    context.run(net, scope)
    if copy_external_blobs and not is_gradient_op:
        scope.keep_copies(forward)
    return WRITTEN


@operator("CreateScope", gradient=STOPS)
def create_scope(*, context: Context) -> Any:
    """An empty stack of scopes, for Do. Caffe2: CreateScope.

    If the output is one already, that is emptied; its scopes are used again, with what is in them.
    """
    blob = context.workspace.find(context.outputs[0])
    if blob is not None and isinstance(blob.value, WorkspaceStack):
        blob.value.clear()
        return WRITTEN
    return WorkspaceStack()


@operator("HasScope", gradient=STOPS)
def has_scope(stack: Any) -> Array:
    """Whether there is a scope left on the stack, of shape (1,). Caffe2: HasScope.

    Raises:
        TypeError: The input is no stack of scopes.
    """
    return np.array([len(expect(stack, WorkspaceStack, "CreateScope")) > 0])
