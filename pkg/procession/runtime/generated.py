"""A list of items as one Python function.

The text for `Add(a, b) -> c` of float32 and an `If(d)` that runs `Scale(c) -> c`, in a process
without a board:

    def run(turns, workspace, task, stop):
        for _ in turns:
            if broken or stop: return 0
            u0(w0, w1, w2)
            if broken or stop: return 1
            if v3.item():
                if broken or stop: return 2
                (r := k2(v2, out=w2, scale=c2_scale)) is w2 or p2(workspace, r)
        return -1

`w2` and `v2` are the cells of blob c (see `procession.blobs.blob`): its array, and the read-only
view of it that kernels get. A blob that moves takes its cells along. `broken` is a cell, too, set
when the text is not right any more. The function then returns the number of the item that
comes next. A kernel that takes `outs` is called by

    r = k3(v1, outs=(w4, w5, )); r[0] is w4 or o3(workspace, 0, r[0]); r[1] is w5 or ...

with None for an array that it cannot be given. Where there is a function for tensors of just these
shapes and types, it is called in the kernel's place, as in `f3(w1, w4, w5)`. Each item has two
lines of its own, so that the line of an error tells which it was. The same text serves in every
workspace: only the cells differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType
from typing import Any

POLL = 16
"""After how many short operations, at the latest, a worker looks whether it was called off."""
_HEAD = 2
"""Lines before the first item's."""

ARGUMENTS = "turns, workspace, task, stop"
WITH_BOARD = f"{ARGUMENTS}, note, called, this"


@dataclass
class Line:
    """What the text says for an item."""

    text: str
    """What to do, or, for one that jumps, the expression that decides."""
    number: int
    """The operation's number, for the board; 0 if it is none."""
    polled: bool
    """Whether to look before if the run was called off."""
    kind: str = "do"
    """What comes of it:

    - "do": nothing else;
    - "wait": the function then returns the number of the next item;
    - "leave": the loop is left if `text` holds;
    - "pass": the next `skip` items are passed over unless it holds;
    - "else": they are passed over, and the last "pass" leads to what comes behind.
    """
    skip: int = 0


def text_of(lines: Sequence[Line], board: bool) -> str:
    """The function's text.

    Args:
        lines: One for each item.
        board: Whether there is one, to note the operations' numbers down on.
    """
    text = [f"def run({WITH_BOARD if board else ARGUMENTS}):", " for _ in turns:"]
    ends: list[int] = []
    for index, line in enumerate(lines):
        while ends and ends[-1] <= index:
            ends.pop()
        indent = "  " + " " * len(ends)
        if line.kind == "else":
            ends.pop()
            text += (f"{indent}pass", f"{indent[1:]}else:")
            ends.append(index + 1 + line.skip)
            continue
        look = " or called[0] == this" if board and line.polled else ""
        text.append(f"{indent}if broken or stop{look}: return {index}")
        if line.kind == "leave":
            text.append(f"{indent}if {line.text}: return -1")
        elif line.kind == "pass" and line.skip:
            text.append(f"{indent}if {line.text}:")
            ends.append(index + 1 + line.skip)
        else:
            note = f"note[0] = {line.number}; " if board and line.number else ""
            back = f"; return {index + 1}" if line.kind == "wait" else ""
            text.append(f"{indent}{note}{line.text}{back}")
    if not lines:
        text.append(f"  if stop{' or called[0] == this' if board else ''}: return 0")
    text.append(" return -1")
    return "\n".join(text)


def compile_text(text: str, cells: Sequence[str], name: str) -> CodeType:
    """The code of the function in which the names in `cells` are cells."""
    head = "".join(f" {cell} = None\n" for cell in cells)
    body = "\n".join(f" {line}" for line in text.split("\n"))
    module = compile(f"def make():\n{head}{body}\n return run", name, "exec", dont_inherit=True)
    make = next(each for each in module.co_consts if isinstance(each, CodeType))
    return next(each for each in make.co_consts if isinstance(each, CodeType))


def function_of(
    code: CodeType, names: dict[str, Any], cells: dict[str, CellType]
) -> Callable[..., int]:
    """The function: `names` are its globals."""
    closure = tuple(cells[name] for name in code.co_freevars)
    return FunctionType(code, names, code.co_name, None, closure)


def item_at(code: CodeType, error: BaseException) -> int:
    """Which item an error that came out of the function was raised in."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    assert traceback is not None
    return max(0, (traceback.tb_lineno - code.co_firstlineno - _HEAD) // 2)
