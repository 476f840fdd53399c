"""`caffe2.python.dyndep`: libraries of operators, which there are none of."""

from __future__ import annotations

from procession.errors import WorkspaceError


def InitOpsLibrary(name: str, trigger_lazy: bool = True) -> None:
    """Refused: a library of Caffe2's operators cannot be loaded.

    Raises:
        WorkspaceError: Always.
    """
    raise WorkspaceError(
        f"Procession cannot load {name!r}, a library of operators for Caffe2: its operators are "
        f"Python functions, see docs/adding_an_operator.md"
    )


def GetImportedOpsLibraries() -> set[str]:
    """No library was loaded."""
    return set()
