"""Which line of the user's script is building the graph: for messages only."""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
# The tests in it build graphs as users do.
_TESTING = _PACKAGE + "testing" + os.sep


def _ours(file: str) -> bool:
    return file.startswith(_PACKAGE) and not file.startswith(_TESTING)


Source = tuple[str, int, str]
"""(file, line, function)."""


def user_line() -> Source | None:
    """Where the innermost caller outside this package is, None if there is none."""
    frame = sys._getframe(1)
    while _ours(frame.f_code.co_filename):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def describe(line: Source | None) -> str:
    """`train.py:12: net.Relu(x)`, as far as the file can still be read."""
    if line is None:
        return ""
    file, number, _ = line
    text = linecache.getline(file, number).strip()
    return f"{file}:{number}" + (f": {text}" if text else "")
