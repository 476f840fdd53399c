"""A net's operations as one Python function, straight-line code.

The text for two operations, `Add(a, b) -> c` of float32 and `Scale(c) -> c`, in a process
without a board:

    def run(turns, workspace, task, stop):
        for _ in turns:
            if broken or stop: return 0
            u0(w0, w1, w2)
            if broken or stop: return 1
            k1(v2, out=w2, scale=c1_scale) is w2 or s1(...)
        return -1

`w2` and `v2` are the cells of blob c (see `procession.blobs.blob`): its array, and the read-only
view of it that kernels get. A blob that moves takes its cells along. `broken` is a cell, too, set
when the text is not right any more. The function then returns the number of the operation that
comes next. Each operation has two lines of its own, so that the line of an error tells which it
was. The same text serves in every workspace: only the cells differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CellType, CodeType, FunctionType
from typing import Any

POLL = 16
"""After how many short operations, at the latest, a worker looks whether it was called off."""
_HEAD = 2
"""Lines before the first operation's."""

ARGUMENTS = "turns, workspace, task, stop"
WITH_BOARD = f"{ARGUMENTS}, note, called, this"


def text_of(calls: Sequence[str], numbers: Sequence[int], polled: Sequence[bool] | None) -> str:
    """The function's text.

    Args:
        calls: A line for each operation.
        numbers: The operations' numbers, for the board.
        polled: Before which of them to look whether the run was called off; None without a board.
    """
    lines = [f"def run({ARGUMENTS if polled is None else WITH_BOARD}):", " for _ in turns:"]
    for index, call in enumerate(calls):
        if polled is None:
            lines += (f"  if broken or stop: return {index}", f"  {call}")
        else:
            look = " or called[0] == this" if polled[index] else ""
            lines.append(f"  if broken or stop{look}: return {index}")
            lines.append(f"  note[0] = {numbers[index]}; {call}")
    if not calls:
        lines.append("  if stop: return 0")
    lines.append(" return -1")
    return "\n".join(lines)


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


def operation_at(code: CodeType, error: BaseException) -> int:
    """Which operation an error that came out of the function was raised in."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    assert traceback is not None
    return max(0, (traceback.tb_lineno - code.co_firstlineno - _HEAD) // 2)
