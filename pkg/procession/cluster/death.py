"""How a worker died, and what it was doing: the text and the details of a `NodeDiedError`."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from procession.cluster.board import RUN, task_word
from procession.runtime.program import NodeProgram

Doing = tuple[str | None, str | None, str]
"""(the task, the type of its operator, lines that say so)."""


def in_program(program: NodeProgram, run: int, words: memoryview) -> Doing:
    """What a run of a program was doing, by the words of the board."""
    if words[RUN] != run:
        return None, None, " before the run began"
    found = []
    for index, task in enumerate(program.all_tasks):
        operation = program.operation(words[task_word(index)])
        if operation is not None:
            found.append((task.name, operation))
    if not found:
        return None, None, ", between operators"
    text = ""
    for name, operation in found:
        text += f"\n  in task {name!r}, operator {operation} of net {operation.net!r}"
        if operation.source:
            text += f"\n  added at {operation.source}"
    return found[0][0], found[0][1].type, text


def describe(
    node: str,
    pid: int,
    code: int | None,
    how: str | None,
    doing: Doing,
    printed: Sequence[str],
    ready: bool,
) -> tuple[str, dict[str, Any]]:
    """The text and the details of the error.

    Args:
        node: Its name.
        pid: Its process.
        code: As in `subprocess`.
        how: What became of it, if that is known better than its exit code tells.
        doing: What it was doing.
        printed: What it printed last.
        ready: Whether it had started.
    """
    name = signal_name(code)
    task, operator, lines = doing
    likely = "" if how is not None else "\n  " + likely_cause(name, ready)
    if how is None:
        how = f"ended with exit code {code}" if name is None else f"was killed by {name}"
    text = f"node {node!r} (process {pid}) {how}{lines}{likely}"
    if printed:
        text += "\n  it printed last:" + "".join(f"\n    {line}" for line in printed)
    return text, {
        "node": node,
        "pid": pid,
        "exitcode": code,
        "signal": name,
        "task": task,
        "operator": operator,
        "printed": tuple(printed),
    }


def signal_name(code: int | None) -> str | None:
    """The name of the signal that an exit code stands for."""
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def likely_cause(name: str | None, ready: bool) -> str:
    """What people should look for first."""
    if name == "SIGKILL":
        return "likely: somebody killed it, or the kernel did because memory ran out"
    if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        return "likely: a crash in native code that it called"
    if name is not None:
        return "likely: somebody sent it that signal"
    if not ready:
        return "likely: it could not import what it needs; its standard error has more"
    return "likely: something that it called ended the process"
